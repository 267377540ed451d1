//! Response bodies, with a floor under their speed.

use std::time::Duration;

use bytes::Bytes;
use tokio::time::{Instant, timeout};

use super::failure::{self, Failure};
use crate::config::Stall;
use crate::error::{Error, Result};

/// The body of a response. Only the time in which somebody waits for it counts.
#[derive(Debug)]
pub(super) struct Body {
    response: reqwest::Response,
    stall: Stall,
    waited: Duration,
    came: u64,
    registry: String,
    what: String,
}

impl Body {
    pub(super) fn new(
        response: reqwest::Response,
        stall: Stall,
        registry: &str,
        what: &str,
    ) -> Self {
        let (registry, what) = (registry.to_owned(), what.to_owned());
        Self { response, stall, waited: Duration::ZERO, came: 0, registry, what }
    }

    /// The next bytes; `None` at the end.
    pub(super) async fn chunk(&mut self) -> Result<Option<Bytes>> {
        loop {
            let start = Instant::now();
            let left = self.stall.window.saturating_sub(self.waited);
            let chunk = timeout(left, self.response.chunk()).await;
            self.waited += start.elapsed();
            if let Ok(chunk) = chunk {
                let chunk =
                    chunk.map_err(|e| failure::of_transport(e, &self.what, &self.registry))?;
                self.came += chunk.as_ref().map_or(0, |chunk| chunk.len() as u64);
                return Ok(chunk);
            }
            if self.came < self.stall.floor {
                return Err(Error::Timeout {
                    what: format!("fetch {} from {}", self.what, self.registry),
                    after: self.stall.window,
                    reason: "hardly any data came",
                });
            }
            (self.waited, self.came) = (Duration::ZERO, 0);
        }
    }

    /// An answer that ended where it should not.
    pub(super) fn broken(&self, reason: &str) -> Failure {
        let (what, registry) = (self.what.clone(), self.registry.clone());
        Error::Unavailable { what, registry, reason: reason.to_owned() }.into()
    }

    /// The whole body, if it has at most `limit` bytes.
    pub(super) async fn whole(mut self, limit: u64) -> Result<Bytes> {
        let mut bytes = Vec::new();
        let mut announced = self.response.content_length().unwrap_or_default();
        while announced <= limit {
            let Some(chunk) = self.chunk().await? else { return Ok(bytes.into()) };
            bytes.extend_from_slice(&chunk);
            announced = announced.max(bytes.len() as u64);
        }
        Err(Error::TooLarge { what: self.what, limit: format!("at most {limit} bytes") })
    }
}
