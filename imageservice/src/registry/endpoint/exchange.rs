//! Requests that change something at a host: the pushing half of the distribution API.
//!
//! Each has its whole body in memory, so that it can be sent again after a challenge. Redirects are
//! not followed: what is pushed goes to the registry or to where it says by a `Location`.

use std::time::Duration;

use bytes::Bytes;
use reqwest::header::{AUTHORIZATION, HeaderName, HeaderValue};
use reqwest::{Method, Response, StatusCode};
use tokio::time::timeout;
use url::Url;

use super::{Endpoint, HEAD_TIMEOUT, MAX_CHALLENGES, name_of};
use crate::error::{Error, Result};
use crate::registry::failure::{self, Failure};

/// Bytes per second below which an upload counts as dead.
const FLOOR: u64 = 16 << 10;

/// A request that changes something.
#[derive(Debug, Clone)]
pub(in crate::registry) struct Call<'a> {
    pub(in crate::registry) method: Method,
    pub(in crate::registry) url: Url,
    pub(in crate::registry) headers: Vec<(HeaderName, HeaderValue)>,
    pub(in crate::registry) body: Bytes,
    /// How messages call it.
    pub(in crate::registry) what: &'a str,
}

impl Endpoint {
    /// The URL of something of the repository.
    pub(in crate::registry) fn url_of(&self, path: &str, what: &str) -> Result<Url> {
        self.repository.join(path).map_err(|e| self.bad_answer(what, e))
    }

    /// The root of the host's API.
    pub(in crate::registry) fn root(&self) -> Url {
        self.host.base.clone()
    }

    /// The URL that a response leads to.
    pub(in crate::registry) fn location(
        &self,
        base: &Url,
        response: &Response,
        what: &str,
    ) -> Result<Url> {
        let location = response.headers().get(reqwest::header::LOCATION);
        let location = location.and_then(|value| value.to_str().ok());
        let location = location.and_then(|location| base.join(location).ok());
        let is_safe =
            |url: &Url| matches!((base.scheme(), url.scheme()), ("http", "http") | (_, "https"));
        location
            .filter(is_safe)
            .ok_or_else(|| self.bad_answer(what, "an upload without a safe Location"))
    }

    /// Sends a request, again if it is challenged; the response is a success.
    pub(in crate::registry) async fn exchange(&self, call: &Call<'_>) -> Result<Response, Failure> {
        let mut challenges = 0;
        loop {
            let authorization = self.authorizer.header();
            let response = self.once(call, authorization.as_ref()).await?;
            if response.status().is_success() {
                return Ok(response);
            }
            if response.status() == StatusCode::UNAUTHORIZED
                && self.is_own(&call.url)
                && challenges < MAX_CHALLENGES
            {
                challenges += 1;
                let headers = response.headers().clone();
                self.authorizer.answer(self, &headers, authorization, call.what).await?;
                continue;
            }
            return Err(failure::of_status(response, call.what, &name_of(&call.url)).await);
        }
    }

    async fn once(&self, call: &Call<'_>, authorization: Option<&HeaderValue>) -> Result<Response> {
        let mut request =
            self.client_for(&call.url)?.request(call.method.clone(), call.url.clone());
        for (name, value) in &call.headers {
            request = request.header(name, value);
        }
        if self.is_own(&call.url) {
            request = request.headers(self.host.headers.clone());
            if let Some(authorization) = authorization {
                request = request.header(AUTHORIZATION, authorization.clone());
            }
        }
        if call.method != Method::GET && call.method != Method::HEAD {
            request = request.body(call.body.clone());
        }
        let limit = HEAD_TIMEOUT + Duration::from_secs(call.body.len() as u64 / FLOOR);
        match timeout(limit, request.send()).await {
            Ok(response) => {
                response.map_err(|e| failure::of_transport(e, call.what, &name_of(&call.url)))
            }
            Err(_) => Err(Error::Unavailable {
                what: call.what.to_owned(),
                registry: name_of(&call.url),
                reason: format!("no answer within {limit:?}"),
            }),
        }
    }
}
