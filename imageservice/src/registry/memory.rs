//! What all pulls of a node have together: tokens, dead mirrors, what credential providers let be
//! remembered, room for buffers, what is partial.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Semaphore;
use url::Url;

use super::partial::Partials;
use super::token::TokenCache;
use crate::keyring::Keyring;

/// How long a dead mirror is left alone.
const COOLDOWN: Duration = Duration::from_secs(60);
/// Pieces of layers that all pulls together hold in memory, of [`super::ring::PIECE`] bytes each.
const PIECES: usize = 6;

/// Cheap to share; but for what is on disk, empty after a restart.
#[derive(Debug)]
pub(crate) struct Memory {
    pub(super) tokens: TokenCache,
    pub(super) mirrors: Mirrors,
    pub(super) keyring: Keyring,
    /// A permit for each piece that is held in memory.
    pub(super) pieces: Arc<Semaphore>,
    pub(super) partials: Arc<Partials>,
}

impl Memory {
    /// Of a node that keeps what is partial here.
    pub(crate) fn new(partials: Arc<Partials>) -> Self {
        let pieces = Arc::new(Semaphore::new(PIECES));
        let (tokens, mirrors, keyring) = Default::default();
        Self { tokens, mirrors, keyring, pieces, partials }
    }
}

/// Mirrors that could not be reached or stalled, by origin, and until when nobody asks them. One
/// request finds out whether they live again, so that a dead one costs a timeout a minute and not
/// one in every pull.
#[derive(Debug, Default)]
pub(super) struct Mirrors(Mutex<HashMap<String, Instant>>);

impl Mirrors {
    /// Whether the mirror may be asked now. After its time out, the first who asks this is the one
    /// to find out; the others are told when that is known, or in a minute.
    pub(super) fn admits(&self, mirror: &Url) -> bool {
        self.admits_at(mirror, Instant::now())
    }

    fn admits_at(&self, mirror: &Url, now: Instant) -> bool {
        match self.locked().get_mut(&key(mirror)) {
            Some(until) if *until > now => false,
            Some(until) => {
                *until = now + COOLDOWN;
                true
            }
            None => true,
        }
    }

    /// It could not be reached, or stalled.
    pub(super) fn is_dead(&self, mirror: &Url) {
        self.locked().insert(key(mirror), Instant::now() + COOLDOWN);
    }

    /// It has answered.
    pub(super) fn lives(&self, mirror: &Url) {
        self.locked().remove(&key(mirror));
    }

    fn locked(&self) -> MutexGuard<'_, HashMap<String, Instant>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn key(mirror: &Url) -> String {
    mirror.origin().ascii_serialization()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_of_many_finds_out_whether_a_mirror_lives_again() {
        let url = |text: &str| Url::parse(text).unwrap();
        let (mirrors, dead) = (Mirrors::default(), url("https://mirror.test/v2/"));
        assert!(mirrors.admits(&dead) && mirrors.admits(&dead));
        mirrors.is_dead(&dead);
        assert!(!mirrors.admits(&dead) && !mirrors.admits(&url("https://mirror.test:443/other/")));
        assert!(mirrors.admits(&url("https://mirror.test:5000/")), "another origin");
        let later = Instant::now() + COOLDOWN;
        let asked: Vec<bool> = (0..32).map(|_| mirrors.admits_at(&dead, later)).collect();
        assert_eq!(asked.iter().filter(|admitted| **admitted).count(), 1);
        assert!(mirrors.admits_at(&dead, later + COOLDOWN), "whoever was asked said nothing");
        mirrors.lives(&dead);
        assert!(mirrors.admits(&dead) && mirrors.admits(&dead));
    }
}
