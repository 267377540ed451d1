//! A repository to push to: OCI distribution specification, "Push".
//!
//! Only the registry itself is written to, never a mirror of it. Small blobs go in one request,
//! large ones in chunks, of which each is asked for again after a failure: what the registry has of
//! it then need not be sent twice.

use std::time::Duration;

use bytes::Bytes;
use reqwest::header::{CONTENT_RANGE, CONTENT_TYPE, HeaderName, HeaderValue, RANGE};
use reqwest::{Method, StatusCode};
use url::Url;

use super::Registry;
use super::endpoint::{Call, Endpoint};
use super::failure::Failure;
use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::reference::{Reference, Target};

/// Bytes of one request: memory against requests.
pub(crate) const CHUNK: usize = 8 << 20;
const ATTEMPTS: u32 = 5;
const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
const BINARY: HeaderValue = HeaderValue::from_static("application/octet-stream");

/// A repository that is written to.
#[derive(Debug)]
pub(crate) struct Upload {
    reference: Reference,
    endpoint: Endpoint,
}

/// A blob of which a part has been sent.
#[derive(Debug)]
pub(crate) struct Session {
    url: Url,
    sent: u64,
    what: String,
}

impl Upload {
    /// Opens the registry itself, which is the last of its hosts.
    pub(crate) fn of(registry: Registry) -> Result<Self> {
        let Registry { reference, mut endpoints, .. } = registry;
        let endpoint = endpoints.pop().ok_or_else(|| Error::Unavailable {
            what: format!("push {reference}"),
            registry: reference.domain().to_owned(),
            reason: "no host is configured".to_owned(),
        })?;
        Ok(Self { reference, endpoint })
    }

    /// Asks for nothing, which shows whether the credentials are good.
    pub(crate) async fn greet(&self) -> Result<()> {
        let what = format!("log in to {}", self.reference.domain());
        self.retried(&call(Method::GET, self.endpoint.root(), &what)).await.map(drop)
    }

    /// Whether the registry has a blob in this repository.
    pub(crate) async fn has(&self, digest: &Digest) -> Result<bool> {
        let what = format!("push blob {digest} of {}", self.reference);
        let url = self.endpoint.url_of(&format!("blobs/{digest}"), &what)?;
        let call = call(Method::HEAD, url, &what);
        match self.retried(&call).await {
            Ok(_) => Ok(true),
            Err(Error::NotInRegistry { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Has the registry take a blob over from another of its repositories, if it will.
    pub(crate) async fn mount(&self, digest: &Digest, from: &str) -> Result<bool> {
        let what = format!("push blob {digest} of {}", self.reference);
        let mut url = self.endpoint.url_of("blobs/uploads/", &what)?;
        url.query_pairs_mut().append_pair("mount", digest.as_str()).append_pair("from", from);
        let call = call(Method::POST, url, &what);
        match self.retried(&call).await {
            Ok(response) if response.status() == StatusCode::CREATED => Ok(true),
            Ok(response) => {
                // It has begun an upload instead, which nobody needs.
                let url = self.endpoint.location(&call.url, &response, &what)?;
                let _ = self.endpoint.exchange(&self::call(Method::DELETE, url, &what)).await;
                Ok(false)
            }
            // Not allowed to read there, or no such thing there: then it is sent.
            Err(
                Error::Unauthorized { .. }
                | Error::Forbidden { .. }
                | Error::NotInRegistry { .. }
                | Error::BadAnswer { .. },
            ) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Begins to send a blob.
    pub(crate) async fn begin(&self, what: &str) -> Result<Session> {
        let url = self.endpoint.url_of("blobs/uploads/", what)?;
        let call = call(Method::POST, url, what);
        let response = self.retried(&call).await?;
        let url = self.endpoint.location(&call.url, &response, what)?;
        Ok(Session { url, sent: 0, what: what.to_owned() })
    }

    /// Sends a part of a blob.
    pub(crate) async fn send(&self, session: &mut Session, chunk: Bytes) -> Result<()> {
        let what = session.what.clone();
        let end = session.sent + chunk.len() as u64;
        let range = format!("{}-{}", session.sent, end - 1);
        let range = HeaderValue::try_from(range).map_err(|e| self.nonsense(&what, e))?;
        let headers = vec![(CONTENT_TYPE, BINARY), (CONTENT_RANGE, range)];
        let mut attempt = 1;
        loop {
            let call = Call {
                method: Method::PATCH,
                url: session.url.clone(),
                headers: headers.clone(),
                body: chunk.clone(),
                what: &what,
            };
            match self.endpoint.exchange(&call).await {
                Ok(response) => {
                    session.url = self.endpoint.location(&call.url, &response, &what)?;
                    session.sent = end;
                    return Ok(());
                }
                Err(failure) => pause(attempt, failure).await?,
            }
            attempt += 1;
            let there = self.resume(session).await?;
            if there == end {
                session.sent = end;
                return Ok(());
            }
            if there != session.sent {
                let reason =
                    format!("it has {there} bytes of the blob, {} were sent", session.sent);
                return Err(self.nonsense(&what, reason));
            }
        }
    }

    /// Asks how much of a blob is there, and where it goes on.
    async fn resume(&self, session: &mut Session) -> Result<u64> {
        let what = session.what.clone();
        let call = call(Method::GET, session.url.clone(), &what);
        let response = self.retried(&call).await?;
        let range = response.headers().get(RANGE).and_then(|value| value.to_str().ok());
        let last = range.and_then(|range| range.rsplit_once('-')?.1.parse::<u64>().ok());
        session.url = self.endpoint.location(&call.url, &response, &what)?;
        // A registry that has nothing says 0-0, as one does that has a single byte.
        Ok(last.map_or(0, |last| if last == 0 { 0 } else { last + 1 }))
    }

    /// Ends a blob, with the bytes that are left of it.
    pub(crate) async fn finish(
        &self,
        session: Session,
        rest: Bytes,
        digest: &Digest,
    ) -> Result<()> {
        let Session { mut url, sent, what } = session;
        url.query_pairs_mut().append_pair("digest", digest.as_str());
        let mut headers = vec![(CONTENT_TYPE, BINARY)];
        if sent > 0 && !rest.is_empty() {
            let range = format!("{sent}-{}", sent + rest.len() as u64 - 1);
            let range = HeaderValue::try_from(range).map_err(|e| self.nonsense(&what, e))?;
            headers.push((CONTENT_RANGE, range));
        }
        let call = Call { method: Method::PUT, url, headers, body: rest, what: &what };
        match self.retried(&call).await {
            // The answer to an earlier attempt was lost.
            Err(Error::NotInRegistry { .. }) if self.has(digest).await? => Ok(()),
            other => other.map(drop),
        }
    }

    /// Sends a blob that is in memory.
    pub(crate) async fn put(&self, digest: &Digest, bytes: Bytes, what: &str) -> Result<()> {
        let session = self.begin(what).await?;
        self.finish(session, bytes, digest).await
    }

    /// Gives a manifest its name, and checks that the registry has understood the same bytes.
    pub(crate) async fn put_manifest(&self, media_type: &str, bytes: Bytes) -> Result<()> {
        let what = format!("push manifest {}", self.reference);
        let target = match self.reference.target() {
            Target::Tag(tag) => tag.clone(),
            Target::Digest(digest) => digest.to_string(),
        };
        let url = self.endpoint.url_of(&format!("manifests/{target}"), &what)?;
        let media_type = HeaderValue::try_from(media_type).map_err(|e| self.nonsense(&what, e))?;
        let expected = Digest::sha256(&bytes);
        let headers: Vec<(HeaderName, HeaderValue)> = vec![(CONTENT_TYPE, media_type)];
        let call = Call { method: Method::PUT, url, headers, body: bytes, what: &what };
        let response = self.retried(&call).await?;
        let got = response.headers().get("docker-content-digest");
        let got = got.and_then(|value| value.to_str().ok()?.parse::<Digest>().ok());
        match got {
            Some(got) if got != expected => Err(Error::DigestMismatch { what, expected, got }),
            _ => Ok(()),
        }
    }

    /// Sends a request until it is answered, which is right for requests that mean the same twice.
    async fn retried(&self, call: &Call<'_>) -> Result<reqwest::Response> {
        let mut attempt = 1;
        loop {
            match self.endpoint.exchange(call).await {
                Ok(response) => return Ok(response),
                Err(failure) => pause(attempt, failure).await?,
            }
            attempt += 1;
        }
    }

    fn nonsense(&self, what: &str, reason: impl ToString) -> Error {
        Error::BadAnswer {
            what: what.to_owned(),
            registry: self.endpoint.host().to_owned(),
            reason: reason.to_string(),
        }
    }
}

fn call<'a>(method: Method, url: Url, what: &'a str) -> Call<'a> {
    Call { method, url, headers: Vec::new(), body: Bytes::new(), what }
}

/// Waits before the next attempt.
///
/// # Errors
/// The failure itself, if it will not change or was the last one.
async fn pause(attempt: u32, failure: Failure) -> Result<()> {
    let Failure { error, retry_after } = failure;
    if attempt >= ATTEMPTS || !error.is_transient() {
        return Err(error);
    }
    let pause = retry_after.unwrap_or(FIRST_PAUSE * 2u32.pow(attempt - 1));
    if pause > LONGEST_PAUSE {
        return Err(error);
    }
    // Time is the only thing to wait for here: a busy registry sends no event.
    tokio::time::sleep(pause).await;
    Ok(())
}
