//! Answering challenges: basic authentication, and bearer tokens from a token server.
//!
//! Secrets go to the host that they belong to, and to the token server that this very host names.
//! The header that worked last is sent with every further request of the pull.

use std::sync::{Arc, Mutex, PoisonError};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use reqwest::header::{HeaderMap, HeaderValue, WWW_AUTHENTICATE};

use super::endpoint::Endpoint;
use super::failure::Failure;
use super::memory::Memory;
use super::token::TokenRequest;
use crate::credentials::{Credentials, Secret};
use crate::error::{Error, Result};

/// Knows how to be let into one repository of one host.
#[derive(Debug)]
pub(super) struct Authorizer {
    /// Only if they are for this host.
    credentials: Option<Credentials>,
    scope: String,
    memory: Arc<Memory>,
    header: Mutex<Option<HeaderValue>>,
}

/// What a host asks for.
#[derive(Debug, PartialEq, Eq)]
enum Challenge {
    Basic,
    Bearer { realm: String, service: Option<String>, scope: Option<String> },
}

impl Authorizer {
    pub(super) fn new(
        credentials: Option<Credentials>,
        repository: &str,
        memory: Arc<Memory>,
    ) -> Self {
        let header = match credentials.as_ref().map(|credentials| &credentials.secret) {
            Some(Secret::RegistryToken(token)) => bearer(token),
            _ => None,
        };
        let scope = format!("repository:{repository}:pull");
        Self { credentials, scope, memory, header: Mutex::new(header) }
    }

    /// What to send with a request, if anything is known to be needed.
    pub(super) fn header(&self) -> Option<HeaderValue> {
        self.header.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Finds a better header than `used`, with which the host answered 401.
    pub(super) async fn answer(
        &self,
        endpoint: &Endpoint,
        response: &HeaderMap,
        used: Option<HeaderValue>,
        what: &str,
    ) -> Result<(), Failure> {
        let refused = |detail: &str| Error::Unauthorized {
            what: what.to_owned(),
            registry: endpoint.host().to_owned(),
            detail: detail.to_owned(),
        };
        if self.header() != used {
            // Another layer of this pull has been through this.
            return Ok(());
        }
        let secret = self.credentials.as_ref().map(|credentials| &credentials.secret);
        if matches!(secret, Some(Secret::RegistryToken(_))) {
            return Err(refused("the registry token is not accepted").into());
        }
        let header = match challenge(response) {
            None => return Err(refused("it asks for no known kind of authentication").into()),
            Some(Challenge::Basic) => match secret {
                Some(Secret::Basic { .. }) if used.is_some() => {
                    return Err(refused("user name and password are not accepted").into());
                }
                Some(Secret::Basic { username, password }) => basic(username, password),
                _ => return Err(refused("it wants a user name and password").into()),
            },
            Some(Challenge::Bearer { realm, service, scope }) => {
                let request = TokenRequest {
                    realm,
                    service,
                    scope: scope.unwrap_or_else(|| self.scope.clone()),
                    credentials: self.credentials.as_ref(),
                };
                let token = self.memory.tokens.get(endpoint, &request, used.as_ref(), what).await?;
                Some(token)
            }
        };
        *self.header.lock().unwrap_or_else(PoisonError::into_inner) = header;
        Ok(())
    }
}

/// The challenge to answer: a bearer one rather than a basic one.
fn challenge(headers: &HeaderMap) -> Option<Challenge> {
    let mut basic = None;
    for header in headers.get_all(WWW_AUTHENTICATE) {
        let Ok(text) = header.to_str() else { continue };
        for offered in http_auth::parse_challenges(text).unwrap_or_default() {
            let parameter = |name: &str| {
                let value = offered.params.iter().find(|(key, _)| key.eq_ignore_ascii_case(name));
                value.map(|(_, value)| value.to_unescaped()).filter(|value| !value.is_empty())
            };
            match (offered.scheme.to_ascii_lowercase().as_str(), parameter("realm")) {
                ("basic", _) => basic = Some(Challenge::Basic),
                ("bearer", Some(realm)) => {
                    let (service, scope) = (parameter("service"), parameter("scope"));
                    return Some(Challenge::Bearer { realm, service, scope });
                }
                _ => {}
            }
        }
    }
    basic
}

/// `None` if it cannot be a header, which credentials are checked for when they come.
pub(super) fn bearer(token: &str) -> Option<HeaderValue> {
    sensitive(&format!("Bearer {token}"))
}

pub(super) fn basic(username: &str, password: &str) -> Option<HeaderValue> {
    sensitive(&format!("Basic {}", STANDARD.encode(format!("{username}:{password}"))))
}

fn sensitive(text: &str) -> Option<HeaderValue> {
    let mut header = HeaderValue::try_from(text).ok()?;
    header.set_sensitive(true);
    Some(header)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn challenged(values: &[&'static str]) -> Option<Challenge> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(WWW_AUTHENTICATE, HeaderValue::from_static(value));
        }
        challenge(&headers)
    }

    #[test]
    fn challenges_are_found_in_any_header() {
        let bearer = |realm: &str, service: Option<&str>, scope: Option<&str>| {
            Some(Challenge::Bearer {
                realm: realm.into(),
                service: service.map(Into::into),
                scope: scope.map(Into::into),
            })
        };
        let full =
            r#"Bearer realm="https://a.test/t",service="s",scope="repository:a/b:pull,push""#;
        let expected = bearer("https://a.test/t", Some("s"), Some("repository:a/b:pull,push"));
        assert_eq!(challenged(&[full]), expected);
        assert_eq!(challenged(&["Basic realm=\"x\"", full]), expected);
        assert_eq!(
            challenged(&["bearer REALM=\"https://a.test/t\""]),
            bearer("https://a.test/t", None, None)
        );
        assert_eq!(challenged(&["Basic realm=\"x\""]), Some(Challenge::Basic));
        for nothing in
            [&[][..], &["Digest realm=\"x\", nonce=\"y\""], &["Bearer scope=\"x\""], &["=,="]]
        {
            assert_eq!(challenged(nothing), None, "{nothing:?}");
        }
    }

    #[test]
    fn headers_are_marked_as_secret() {
        assert_eq!(format!("{:?}", basic("user", "password")), "Some(Sensitive)");
        assert!(bearer("a\nb").is_none());
    }
}
