//! A failed request: the error, and when the registry wants to be asked again.

use std::io;
use std::time::{Duration, SystemTime};

use reqwest::StatusCode;
use reqwest::header::RETRY_AFTER;
use serde::Deserialize;
use tokio::time::timeout;

use crate::error::Error;

/// For the explanation of an error, which is good to have and not worth waiting for.
const BODY_TIMEOUT: Duration = Duration::from_secs(5);

/// Why a request failed.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) error: Error,
    /// From `Retry-After`, be it seconds or a date.
    pub(super) retry_after: Option<Duration>,
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self { error, retry_after: None }
    }
}

/// The body of an error (OCI distribution specification, "Error Codes"). Only codes are taken from
/// it: messages are free text that may repeat what was sent.
#[derive(Default, Deserialize)]
struct ErrorBody {
    #[serde(default)]
    errors: Vec<ErrorEntry>,
}

#[derive(Deserialize)]
struct ErrorEntry {
    #[serde(default)]
    code: String,
}

/// The failure that a response's status means; `what` was asked of `registry`.
pub(super) async fn of_status(response: reqwest::Response, what: &str, registry: &str) -> Failure {
    let status = response.status();
    let retry_after = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok());
    let retry_after = retry_after.and_then(|text| wanted_pause(text, SystemTime::now()));
    let codes = timeout(BODY_TIMEOUT, codes(response)).await.unwrap_or_default();
    let detail = format!("{status}{codes}");
    let (what, registry) = (what.to_owned(), registry.to_owned());
    let error = match status {
        StatusCode::UNAUTHORIZED => Error::Unauthorized { what, registry, detail },
        StatusCode::FORBIDDEN => Error::Forbidden { what, registry, detail },
        StatusCode::NOT_FOUND => Error::NotInRegistry { what, registry },
        StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT => {
            Error::Unavailable { what, registry, reason: detail }
        }
        status if status.is_server_error() => Error::Unavailable { what, registry, reason: detail },
        _ => Error::BadAnswer { what, registry, reason: detail },
    };
    Failure { error, retry_after }
}

/// What `Retry-After` says (RFC 9110, section 10.2.3): seconds, or a date. A date that is over is no
/// pause at all; what is neither says nothing.
fn wanted_pause(text: &str, now: SystemTime) -> Option<Duration> {
    let seconds = text.trim().parse().ok().map(Duration::from_secs);
    let until = || httpdate::parse_http_date(text.trim()).ok();
    seconds.or_else(|| Some(until()?.duration_since(now).unwrap_or_default()))
}

/// The failure of a request without response, or of a body that ends early.
pub(super) fn of_transport(error: reqwest::Error, what: &str, registry: &str) -> Error {
    let (what, registry) = (what.to_owned(), registry.to_owned());
    match tls_reason(&error) {
        Some(reason) => {
            let hint = if reason.contains("corrupt message") {
                " (is it a registry over plain HTTP?)"
            } else {
                ""
            };
            Error::Insecure { what, registry, reason: format!("{reason}{hint}") }
        }
        // A URL may hold a signature in its query.
        None => Error::Unavailable { what, registry, reason: chain(&error.without_url()) },
    }
}

/// I/O errors wrap what they carry in a way that `source` does not show.
fn tls_reason(error: &(dyn std::error::Error + 'static)) -> Option<String> {
    if let Some(tls) = error.downcast_ref::<rustls::Error>() {
        return Some(tls.to_string());
    }
    let wrapped = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
    match wrapped {
        Some(wrapped) => tls_reason(wrapped),
        None => tls_reason(error.source()?),
    }
}

/// What the HTTP libraries put around a cause without saying more than our own message does.
const WRAPPERS: [&str; 3] = ["error sending request", "client error (Connect)", "dns error"];

fn chain(error: &dyn std::error::Error) -> String {
    let mut error = error;
    while let Some(source) = error.source()
        && WRAPPERS.contains(&error.to_string().as_str())
    {
        error = source;
    }
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(error) = next {
        let part = error.to_string();
        // Some layers repeat what is below them.
        if !text.contains(&part) {
            text = format!("{text}: {part}");
        }
        next = error.source();
    }
    text
}

async fn codes(mut response: reqwest::Response) -> String {
    const LONGEST_BODY: usize = 16 << 10;
    let mut body = Vec::new();
    while let Ok(Some(chunk)) = response.chunk().await {
        body.extend_from_slice(&chunk);
        if body.len() > LONGEST_BODY {
            return String::new();
        }
    }
    let parsed: ErrorBody = serde_json::from_slice(&body).unwrap_or_default();
    let is_code = |code: &&str| {
        (1..=40).contains(&code.len()) && code.bytes().all(|b| b.is_ascii_uppercase() || b == b'_')
    };
    let codes: Vec<&str> =
        parsed.errors.iter().map(|e| e.code.as_str()).filter(is_code).take(4).collect();
    if codes.is_empty() { String::new() } else { format!(": {}", codes.join(", ")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_is_seconds_or_a_date() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_770);
        for (text, seconds) in [
            ("0", Some(0)),
            (" 120 ", Some(120)),
            ("Sun, 06 Nov 1994 08:49:37 GMT", Some(7)),
            ("Sunday, 06-Nov-94 08:49:37 GMT", Some(7)),
            ("Sun, 06 Nov 1994 08:49:00 GMT", Some(0)),
            ("18446744073709551615", Some(u64::MAX)),
            ("-1", None),
            ("1.5", None),
            ("soon", None),
            ("", None),
        ] {
            assert_eq!(wanted_pause(text, now), seconds.map(Duration::from_secs), "{text:?}");
        }
    }
}
