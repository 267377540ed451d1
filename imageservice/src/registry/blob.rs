//! A blob, or a piece of one, as bytes in order, whatever happens on the way.
//!
//! ```text
//!            ┌───────────── broken, stalled, busy: pause, next endpoint ◄┐
//! ask from `offset` on ─► 206: the rest │ 200: all of it, left out up to `offset` ─► deliver
//! ```
//!
//! What has been delivered stays delivered: after a failure only the rest is asked for, so that a
//! layer goes on being unpacked where it was. A host that does not know ranges is heard from its
//! first byte on, and what was delivered before is left out.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::{Buf, Bytes};

use super::Registry;
use super::body::Body;
use super::endpoint::Ask;
use super::failure::Failure;
use super::hosts::Capability;
use super::partial::Claim;
use super::range::{self, Part};
use super::retry::Attempts;
use crate::digest::Digest;
use crate::error::{Error, Result};

/// Bytes that make a failure the first one again.
const PROGRESS: u64 = 256 << 10;

/// A blob of a repository.
#[derive(Debug)]
pub(crate) struct Blob {
    /// How messages call it.
    pub(super) what: String,
    pub(super) digest: Digest,
    pub(super) size: u64,
    /// Places of the endpoints that brought any of it.
    sources: Mutex<BTreeSet<usize>>,
    /// Bytes that came over the network, those left out included.
    came: AtomicU64,
    /// What an earlier pull has left of it.
    claim: Option<Arc<Claim>>,
}

/// Reads a blob from one offset to another.
#[derive(Debug)]
pub(super) struct Reader {
    registry: Arc<Registry>,
    blob: Arc<Blob>,
    /// The next byte to deliver.
    offset: u64,
    /// One past the last byte.
    end: u64,
    /// Where the first answer should end, so that its connection can be left there.
    first_part: Option<u64>,
    /// Whether an answer with all of the blob is of use.
    takes_whole: bool,
    attempts: Attempts,
    /// Bytes since the last failure.
    progress: u64,
    answer: Option<Answer>,
}

#[derive(Debug)]
struct Answer {
    body: Body,
    part: Part,
    delivered: u64,
}

impl Blob {
    pub(super) fn new(what: &str, digest: &Digest, size: u64, claim: Option<Arc<Claim>>) -> Self {
        Self {
            what: what.to_owned(),
            digest: digest.clone(),
            size,
            sources: Mutex::default(),
            came: AtomicU64::new(0),
            claim,
        }
    }

    /// Which endpoints have brought any of it, by their places.
    pub(crate) fn sources(&self) -> BTreeSet<usize> {
        self.locked().clone()
    }

    /// What an earlier pull has left of it, and what this one leaves.
    pub(crate) fn claim(&self) -> Option<&Arc<Claim>> {
        self.claim.as_ref()
    }

    /// How many of its bytes need not come over the network.
    pub(super) fn kept(&self) -> u64 {
        self.claim.as_ref().map_or(0, |claim| claim.length())
    }

    /// How many bytes came over the network until now.
    pub(crate) fn came(&self) -> u64 {
        self.came.load(Ordering::Relaxed)
    }

    fn locked(&self) -> MutexGuard<'_, BTreeSet<usize>> {
        self.sources.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Reader {
    /// A reader of all from `offset` on, whose first answer ends at `first_part`.
    pub(super) fn rest(
        registry: &Arc<Registry>,
        blob: &Arc<Blob>,
        offset: u64,
        first_part: Option<u64>,
    ) -> Result<Self> {
        let attempts = registry.attempts(Capability::Pull, &blob.what)?;
        Ok(Self {
            registry: Arc::clone(registry),
            blob: Arc::clone(blob),
            offset,
            end: blob.size,
            first_part,
            takes_whole: true,
            attempts,
            progress: 0,
            answer: None,
        })
    }

    /// A reader of one piece, by an endpoint that knows ranges.
    pub(super) fn piece(
        registry: &Arc<Registry>,
        blob: &Arc<Blob>,
        (offset, end): (u64, u64),
        endpoint: usize,
    ) -> Self {
        Self {
            registry: Arc::clone(registry),
            blob: Arc::clone(blob),
            offset,
            end,
            first_part: None,
            takes_whole: false,
            attempts: Attempts::begin_at(endpoint, Capability::Pull),
            progress: 0,
            answer: None,
        }
    }

    /// The next byte to deliver.
    pub(super) fn offset(&self) -> u64 {
        self.offset
    }

    /// Bytes that are still to come.
    pub(super) fn left(&self) -> usize {
        usize::try_from(self.end.saturating_sub(self.offset)).unwrap_or_default()
    }

    /// The endpoint that knows ranges and serves now, if it does.
    pub(super) fn ranging_endpoint(&self) -> Option<usize> {
        self.answer.as_ref().filter(|answer| answer.part.is_range).map(|_| self.attempts.current())
    }

    /// Makes sure that there is an answer to read from.
    pub(super) async fn open(&mut self) -> Result<()> {
        while self.answer.is_none() {
            match self.ask().await {
                Ok(answer) => self.answer = Some(answer),
                Err(failure) => self.failed(failure).await?,
            }
        }
        Ok(())
    }

    /// The next bytes; `None` at the end. Of a whole blob, whatever comes beyond its size is
    /// delivered too, for the one who verifies it.
    ///
    /// # Errors
    /// What the last endpoint answered when nothing is left to try.
    pub(super) async fn chunk(&mut self) -> Result<Option<Bytes>> {
        loop {
            // The answer with the end of a blob may bring more than it should.
            let is_over = self.answer.is_none() && self.blob.size > 0;
            if self.offset >= self.end && (is_over || !self.takes_whole) {
                return Ok(None);
            }
            self.open().await?;
            match self.next().await {
                Ok(Step::Deliver(chunk)) => return Ok(Some(chunk)),
                Ok(Step::End) => return Ok(None),
                Ok(Step::Continue) => self.answer = None,
                // All of it is here; how the connection ends is nobody's business.
                Err(_) if self.offset >= self.end => return Ok(None),
                Err(failure) => {
                    self.answer = None;
                    self.failed(failure).await?;
                }
            }
        }
    }

    async fn failed(&mut self, failure: Failure) -> Result<()> {
        if std::mem::take(&mut self.progress) >= PROGRESS {
            self.attempts.reset();
        }
        self.attempts.failed(&self.registry.endpoints, failure).await
    }

    /// Asks the current endpoint for what is missing; for all of it, if a part cannot be had.
    async fn ask(&self) -> Result<Answer, Failure> {
        let until = match self.first_part {
            Some(part) if self.offset < part => Some(part.min(self.end)),
            _ => Some(self.end).filter(|end| *end < self.blob.size),
        };
        let wanted = range::header(self.offset, until);
        match self.ask_for(wanted.as_deref()).await {
            Err(Failure { error: Error::BadAnswer { .. }, .. })
                if wanted.is_some() && self.takes_whole =>
            {
                self.ask_for(None).await
            }
            answer => answer,
        }
    }

    async fn ask_for(&self, wanted: Option<&str>) -> Result<Answer, Failure> {
        let (registry, blob, what) = (&self.registry, &self.blob, &self.blob.what);
        let endpoint = &registry.endpoints[self.attempts.current()];
        let path = format!("blobs/{}", blob.digest);
        let ask = Ask { path: &path, accept: &[], range: wanted, what };
        let response = endpoint.get(&ask).await?;
        let from = if wanted.is_some() { self.offset } else { 0 };
        let mut part = range::judge(&response, from, blob.size)
            .map_err(|misfit| misfit.into_error(what, endpoint.host(), blob.size))?;
        if !part.is_range {
            part.skip = self.offset;
        }
        if !part.is_range && !self.takes_whole {
            let (what, registry) = (what.clone(), endpoint.host().to_owned());
            let reason = "it no longer knows ranges".to_owned();
            return Err(Error::BadAnswer { what, registry, reason }.into());
        }
        let body = Body::new(response, registry.stall, endpoint.host(), what);
        Ok(Answer { body, part, delivered: 0 })
    }

    async fn next(&mut self) -> Result<Step, Failure> {
        let Some(answer) = &mut self.answer else { return Ok(Step::Continue) };
        loop {
            let Some(mut chunk) = answer.body.chunk().await? else {
                let is_short = self.offset < self.end;
                let may_be_broken = answer.part.ends_with_connection || answer.part.is_range;
                return match (is_short && may_be_broken, answer.delivered) {
                    // The host may give less than was asked for, but not nothing.
                    (true, 1..) => Ok(Step::Continue),
                    (true, 0) => Err(answer.body.broken("nothing came")),
                    (false, _) => Ok(Step::End),
                };
            };
            self.blob.came.fetch_add(chunk.len() as u64, Ordering::Relaxed);
            let skipped = answer.part.skip.min(chunk.len() as u64);
            answer.part.skip -= skipped;
            chunk.advance(usize::try_from(skipped).unwrap_or(chunk.len()));
            if !self.takes_whole {
                // At most what was asked for: the next piece has the rest.
                let room = usize::try_from(self.end - self.offset).unwrap_or(usize::MAX);
                chunk.truncate(room);
            }
            if chunk.is_empty() {
                continue;
            }
            self.blob.locked().insert(self.attempts.current());
            let length = chunk.len() as u64;
            answer.delivered += length;
            self.offset += length;
            self.progress += length;
            return Ok(Step::Deliver(chunk));
        }
    }
}

/// What came of an answer.
enum Step {
    Deliver(Bytes),
    /// The answer is over; the blob goes on.
    Continue,
    End,
}
