//! One host: requests with authentication and redirects.
//!
//! Redirects are followed here and not by the HTTP library, because a request must lose everything
//! secret when it leaves the host's origin: `Authorization`, the headers of `hosts.toml`, the
//! client certificate. A 401 from another origin is an answer and no challenge (CVE-2020-15157).

mod exchange;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use reqwest::header::{ACCEPT, AUTHORIZATION, HeaderValue, LOCATION, RANGE};
use reqwest::{Client, Response, StatusCode};
use tokio::time::timeout;
use url::Url;

use super::auth::Authorizer;
use super::failure::{self, Failure};
use super::hosts::{Capability, Host};
use super::http;
use super::memory::Memory;
use crate::credentials::Credentials;
use crate::error::{Error, Result};
use crate::reference::Reference;

pub(super) use self::exchange::Call;

const MAX_REDIRECTS: usize = 10;
/// Challenges answered for one request: with a token from the cache, then with a new one.
const MAX_CHALLENGES: usize = 2;
/// From the request to the head of its response.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);

/// A host, for one repository.
#[derive(Debug)]
pub(super) struct Endpoint {
    host: Host,
    name: String,
    repository: Url,
    /// For mirrors that serve several registries: which one is meant.
    namespace: Option<String>,
    own: Result<Client>,
    foreign: OnceLock<Client>,
    authorizer: Authorizer,
    /// Mirrors are out of order for all pulls; the registry itself is asked in any case.
    is_mirror: bool,
    memory: Arc<Memory>,
    given_up: AtomicBool,
}

/// What is asked of a repository.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ask<'a> {
    /// Below the repository.
    pub(super) path: &'a str,
    /// Media types; none for any.
    pub(super) accept: &'a [&'a str],
    /// `bytes=…`; none for all.
    pub(super) range: Option<&'a str>,
    /// How messages call it.
    pub(super) what: &'a str,
}

impl Endpoint {
    /// Makes the client. Blocks: certificates are read.
    pub(super) fn new(
        host: Host,
        reference: &Reference,
        credentials: Option<&Credentials>,
        memory: &Arc<Memory>,
        is_mirror: bool,
    ) -> Result<Self> {
        // A host that cannot be talked to here is no trouble as long as another one serves.
        let own = match http::own_client(&host) {
            Err(error @ Error::InvalidHosts { .. }) => return Err(error),
            own => own,
        };
        let is_registry = Host::upstream(reference.domain(), host.tls.clone()).is_ok_and(|own| {
            own.base.host() == host.base.host()
                && own.base.port_or_known_default() == host.base.port_or_known_default()
        });
        let credentials = credentials
            .filter(|credentials| credentials.belong_to(&host.base, reference.domain()))
            .cloned();
        let path = host.repository.clone().unwrap_or_else(|| reference.path().to_owned());
        let repository = host.base.join(&format!("{path}/"));
        let name = name_of(&host.base);
        Ok(Self {
            repository: repository.map_err(|_| Error::InvalidReference {
                input: reference.to_string(),
                reason: "its path is no path of a URL",
            })?,
            namespace: (!is_registry && host.repository.is_none())
                .then(|| reference.domain().to_owned()),
            authorizer: Authorizer::new(credentials, &path, Arc::clone(memory)),
            is_mirror,
            memory: Arc::clone(memory),
            host,
            name,
            own,
            foreign: OnceLock::new(),
            given_up: AtomicBool::new(false),
        })
    }

    /// Host and port, for messages.
    pub(super) fn host(&self) -> &str {
        &self.name
    }

    pub(super) fn can(&self, need: Capability) -> bool {
        match need {
            Capability::Resolve => self.host.can_resolve,
            Capability::Pull => self.host.can_pull,
        }
    }

    /// Not to be asked again in this pull.
    pub(super) fn give_up(&self) {
        self.given_up.store(true, Ordering::Relaxed);
    }

    /// Whether it is in order, for all that is known. Ask it after that: it may be the one request
    /// that finds out.
    pub(super) fn may_be_asked(&self) -> bool {
        !self.given_up.load(Ordering::Relaxed)
            && (!self.is_mirror || self.memory.mirrors.admits(&self.host.base))
    }

    /// Draws the conclusions of a failure here, when there is another endpoint to go to.
    pub(super) fn failed(&self, error: &Error) {
        if error.is_transient() {
            self.give_up();
        }
        if self.is_mirror && matches!(error, Error::Timeout { .. }) {
            self.memory.mirrors.is_dead(&self.host.base);
        }
    }

    /// Gets something of the repository; the response is a success.
    pub(super) async fn get(&self, ask: &Ask<'_>) -> Result<Response, Failure> {
        let what = ask.what;
        let mut url = self.repository.join(ask.path).map_err(|e| self.bad_answer(what, e))?;
        if let Some(namespace) = &self.namespace {
            url.query_pairs_mut().append_pair("ns", namespace);
        }
        let mut challenges = 0;
        loop {
            let authorization = self.authorizer.header();
            let request = Request { ask, authorization: authorization.as_ref() };
            let (response, came_from) = self.follow(url.clone(), &request).await?;
            if response.status().is_success() {
                return Ok(response);
            }
            let is_own = self.is_own(&came_from);
            if response.status() == StatusCode::UNAUTHORIZED
                && is_own
                && challenges < MAX_CHALLENGES
            {
                challenges += 1;
                let headers = response.headers().clone();
                self.authorizer.answer(self, &headers, authorization, what).await?;
                continue;
            }
            return Err(failure::of_status(response, what, &name_of(&came_from)).await);
        }
    }

    /// Sends a request to wherever it leads. Tells the URL of the final response.
    async fn follow(&self, mut url: Url, request: &Request<'_>) -> Result<(Response, Url)> {
        for _ in 0..=MAX_REDIRECTS {
            let response = self.send(&url, request).await?;
            if !matches!(response.status().as_u16(), 301 | 302 | 303 | 307 | 308) {
                return Ok((response, url));
            }
            let location = response.headers().get(LOCATION).and_then(|value| value.to_str().ok());
            let location = location
                .ok_or_else(|| self.bad_answer(request.ask.what, "a redirect to nowhere"))?;
            let next = url
                .join(location)
                .map_err(|_| self.bad_answer(request.ask.what, "a redirect to no URL"))?;
            if !matches!((url.scheme(), next.scheme()), ("http", "http") | (_, "https")) {
                return Err(self.bad_answer(request.ask.what, "a redirect away from https"));
            }
            url = next;
        }
        Err(self.bad_answer(request.ask.what, "more than 10 redirects"))
    }

    async fn send(&self, url: &Url, request: &Request<'_>) -> Result<Response> {
        let mut builder = self.client_for(url)?.get(url.clone());
        if !request.ask.accept.is_empty() {
            builder = builder.header(ACCEPT, request.ask.accept.join(", "));
        }
        if let Some(range) = request.ask.range {
            builder = builder.header(RANGE, range);
        }
        if self.is_own(url) {
            builder = builder.headers(self.host.headers.clone());
            if let Some(authorization) = request.authorization {
                builder = builder.header(AUTHORIZATION, authorization.clone());
            }
        }
        self.response(builder, url, request.ask.what).await
    }

    /// Sends a prepared request, and waits for the head of the response.
    pub(super) async fn response(
        &self,
        request: reqwest::RequestBuilder,
        url: &Url,
        what: &str,
    ) -> Result<Response> {
        let sent = timeout(HEAD_TIMEOUT, request.send()).await;
        if self.is_mirror && self.is_own(url) {
            match &sent {
                Ok(Ok(_)) => self.memory.mirrors.lives(&self.host.base),
                Ok(Err(error)) if !error.is_connect() => {}
                _ => self.memory.mirrors.is_dead(&self.host.base),
            }
        }
        match sent {
            Ok(response) => response.map_err(|e| failure::of_transport(e, what, &name_of(url))),
            Err(_) => Err(Error::Unavailable {
                what: what.to_owned(),
                registry: name_of(url),
                reason: format!("no answer within {HEAD_TIMEOUT:?}"),
            }),
        }
    }

    /// The client that may talk to a URL.
    pub(super) fn client_for(&self, url: &Url) -> Result<&Client> {
        if self.is_own(url) {
            return self.own.as_ref().map_err(Error::clone);
        }
        if let Some(client) = self.foreign.get() {
            return Ok(client);
        }
        let client = http::foreign_client(&self.host)?;
        Ok(self.foreign.get_or_init(|| client))
    }

    pub(super) fn scheme(&self) -> &str {
        self.host.base.scheme()
    }

    /// Scheme, host and port.
    pub(super) fn origin(&self) -> String {
        self.host.base.origin().ascii_serialization()
    }

    fn is_own(&self, url: &Url) -> bool {
        url.origin() == self.host.base.origin()
    }

    fn bad_answer(&self, what: &str, reason: impl ToString) -> Error {
        let (what, registry) = (what.to_owned(), self.name.clone());
        Error::BadAnswer { what, registry, reason: reason.to_string() }
    }
}

/// Host and port of a URL, for messages.
fn name_of(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}

/// What is asked, whoever is asked.
struct Request<'a> {
    ask: &'a Ask<'a>,
    authorization: Option<&'a HeaderValue>,
}
