//! Bearer tokens of registries' token servers (distribution, "Token Authentication" and "OAuth2").
//!
//! Tokens are kept by server, service, scope and whose credentials they were given for, until
//! shortly before they expire, so that pulls of one node do not each ask for their own, and no
//! tenant gets the token of another.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use reqwest::StatusCode;
use reqwest::header::{AUTHORIZATION, HeaderValue};
use serde::Deserialize;
use url::Url;

use super::auth;
use super::body::Body;
use super::endpoint::Endpoint;
use super::failure::{self, Failure};
use crate::config::Stall;
use crate::credentials::{Credentials, Fingerprint, Secret};
use crate::error::{Error, Result};

const CLIENT_ID: &str = "berth";
/// How long a token is good for if the server does not say (distribution's default).
const DEFAULT_LIFETIME: u64 = 60;
/// A token that is about to expire might do so on the way.
const MARGIN: Duration = Duration::from_secs(10);
const MAX_ANSWER: u64 = 1 << 20;

/// Tokens that work. Cheap to share; empty after a restart.
#[derive(Debug, Default)]
pub(crate) struct TokenCache(Mutex<HashMap<TokenKey, Token>>);

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct TokenKey {
    /// Whose challenge it was: no host gets a token by naming another one's server.
    host: String,
    realm: String,
    service: Option<String>,
    scope: String,
    credentials: Option<Fingerprint>,
}

#[derive(Debug)]
struct Token {
    header: HeaderValue,
    expires: Instant,
}

/// What a token is wanted for.
#[derive(Debug)]
pub(super) struct TokenRequest<'a> {
    pub(super) realm: String,
    pub(super) service: Option<String>,
    pub(super) scope: String,
    pub(super) credentials: Option<&'a Credentials>,
}

/// Both generations of the protocol in one.
#[derive(Deserialize)]
struct Answer {
    token: Option<String>,
    access_token: Option<String>,
    expires_in: Option<u64>,
}

impl TokenCache {
    /// A header with a token, other than `refused`; from the cache, or fresh from the server.
    pub(super) async fn get(
        &self,
        endpoint: &Endpoint,
        request: &TokenRequest<'_>,
        refused: Option<&HeaderValue>,
        what: &str,
    ) -> Result<HeaderValue, Failure> {
        let key = request.key(endpoint);
        if let Some(header) = self.cached(&key, refused) {
            return Ok(header);
        }
        let token = request.fetch(endpoint, what).await?;
        let header = token.header.clone();
        self.locked().insert(key, token);
        Ok(header)
    }

    fn cached(&self, key: &TokenKey, refused: Option<&HeaderValue>) -> Option<HeaderValue> {
        let now = Instant::now();
        let mut tokens = self.locked();
        tokens.retain(|_, token| token.expires > now);
        tokens.get(key).map(|token| token.header.clone()).filter(|header| Some(header) != refused)
    }

    fn locked(&self) -> MutexGuard<'_, HashMap<TokenKey, Token>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl TokenRequest<'_> {
    fn key(&self, endpoint: &Endpoint) -> TokenKey {
        TokenKey {
            host: endpoint.origin(),
            realm: self.realm.clone(),
            service: self.service.clone(),
            scope: self.scope.clone(),
            credentials: self.credentials.map(Credentials::fingerprint),
        }
    }

    async fn fetch(&self, endpoint: &Endpoint, what: &str) -> Result<Token, Failure> {
        let url = self.realm_url(endpoint, what)?;
        let host = url.host_str().unwrap_or_default().to_owned();
        let what = format!("token for {what}");
        let mut response = endpoint.response(self.build(endpoint, &url)?, &url, &what).await?;
        if is_unknown(response.status())
            && let Some(other) = self.build_other(endpoint, &url)?
        {
            response = endpoint.response(other, &url, &what).await?;
        }
        if is_unknown(response.status()) {
            // No image is missing; do not say so.
            return Err(bad_answer(what, host, "its token server knows no such request").into());
        }
        if !response.status().is_success() {
            return Err(failure::of_status(response, &what, &host).await);
        }
        let body = Body::new(response, Stall::default(), &host, &what).whole(MAX_ANSWER).await?;
        let answer: Option<Answer> = serde_json::from_slice(&body).ok();
        let lifetime =
            answer.as_ref().and_then(|answer| answer.expires_in).unwrap_or(DEFAULT_LIFETIME);
        let token = answer.and_then(|answer| answer.token.or(answer.access_token));
        let header = token.filter(|token| !token.is_empty()).and_then(|token| auth::bearer(&token));
        let lifetime = Duration::from_secs(lifetime.clamp(DEFAULT_LIFETIME, 24 * 60 * 60));
        match header {
            Some(header) => Ok(Token { header, expires: Instant::now() + lifetime - MARGIN }),
            None => Err(bad_answer(what, host, "no token in it").into()),
        }
    }

    /// A token server over plain HTTP is only for a registry over plain HTTP.
    fn realm_url(&self, endpoint: &Endpoint, what: &str) -> Result<Url> {
        let url = Url::parse(&self.realm).ok();
        let is_safe = |url: &Url| {
            url.scheme() == "https" || (url.scheme() == "http" && endpoint.scheme() == "http")
        };
        url.filter(|url| is_safe(url) && url.host().is_some()).ok_or_else(|| {
            bad_answer(
                what.to_owned(),
                endpoint.host().to_owned(),
                "the realm of its challenge is no safe URL",
            )
        })
    }

    /// Identity tokens are exchanged by the OAuth2 form; all others are basic authentication or
    /// none. Redirects are not followed: the request may hold a secret.
    fn build(&self, endpoint: &Endpoint, url: &Url) -> Result<reqwest::RequestBuilder> {
        let client = endpoint.client_for(url)?;
        let mut fields = self.fields();
        Ok(match self.secret() {
            Some(Secret::IdentityToken(token)) => {
                fields.extend([("grant_type", "refresh_token"), ("client_id", CLIENT_ID)]);
                fields.push(("refresh_token", token));
                client.post(url.clone()).form(&fields)
            }
            Some(Secret::Basic { username, password }) => {
                fields.push(("account", username));
                let request = client.get(url.clone()).query(&fields);
                match auth::basic(username, password) {
                    Some(header) => request.header(AUTHORIZATION, header),
                    None => request,
                }
            }
            Some(Secret::RegistryToken(_)) | None => client.get(url.clone()).query(&fields),
        })
    }

    /// The same question by the OAuth2 form, for servers that know no other.
    fn build_other(
        &self,
        endpoint: &Endpoint,
        url: &Url,
    ) -> Result<Option<reqwest::RequestBuilder>> {
        let Some(Secret::Basic { username, password }) = self.secret() else { return Ok(None) };
        let mut fields = self.fields();
        fields.extend([("grant_type", "password"), ("client_id", CLIENT_ID)]);
        fields.extend([("username", username.as_str()), ("password", password)]);
        Ok(Some(endpoint.client_for(url)?.post(url.clone()).form(&fields)))
    }

    /// What both generations of the protocol ask for.
    fn fields(&self) -> Vec<(&str, &str)> {
        let service = self.service.as_deref().map(|service| ("service", service));
        [("scope", self.scope.as_str())].into_iter().chain(service).collect()
    }

    fn secret(&self) -> Option<&Secret> {
        self.credentials.map(|credentials| &credentials.secret)
    }
}

fn is_unknown(status: StatusCode) -> bool {
    matches!(status, StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED)
}

fn bad_answer(what: String, registry: String, reason: &str) -> Error {
    Error::BadAnswer { what, registry, reason: reason.to_owned() }
}
