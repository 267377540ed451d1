//! What an operation is asked for by: its key, its parameters, its limits.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use prost::Message;
use sha2::{Digest, Sha256};

/// Identity of an operation: two requests with one key want the same thing.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Key {
    /// The RPC, as in `RunPodSandbox`.
    pub name: &'static str,
    /// What it is done to, as in `default/web (uid 1-2, attempt 0)`. Shown to
    /// people, and part of the identity.
    pub subject: String,
}

impl Key {
    /// The key of `name` on `subject`.
    pub fn new(name: &'static str, subject: impl Into<String>) -> Self {
        Self { name, subject: subject.into() }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.name, self.subject)
    }
}

/// Digest of the parameters of a request: SHA-256 over its canonical encoding
/// (the generated maps are sorted), so that it can be kept in a record and
/// compared by a later berthd.
///
/// Its text form is hexadecimal. The zero fingerprint, the default, is that of
/// a request without parameters.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Fingerprint([u8; 32]);

impl Fingerprint {
    /// The fingerprint of a message.
    pub fn of(message: &impl Message) -> Self {
        Self(Sha256::digest(message.encode_to_vec()).into())
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Fingerprint {
    type Err = hex::FromHexError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut bytes = [0; 32];
        hex::decode_to_slice(text, &mut bytes)?;
        Ok(Self(bytes))
    }
}

/// Description of an operation, apart from the work itself.
#[derive(Debug, Clone)]
pub struct Operation {
    pub(super) key: Key,
    pub(super) fingerprint: Fingerprint,
    pub(super) object: Option<String>,
    pub(super) deadline: Duration,
    pub(super) attended: bool,
}

impl Operation {
    /// An operation that ends by itself or is told to stop after `deadline`,
    /// which counts from when it is asked for: time in a queue is part of it.
    #[must_use]
    pub fn new(key: Key, deadline: Duration) -> Self {
        Self { key, fingerprint: Fingerprint::default(), object: None, deadline, attended: false }
    }

    /// An operation that has a meaning only for the client that asked for it,
    /// like ExecSync: nobody joins it, and it is told to stop when the client
    /// leaves.
    #[must_use]
    pub fn attended(key: Key, deadline: Duration) -> Self {
        Self { attended: true, ..Self::new(key, deadline) }
    }

    /// Tells apart requests with one key and different parameters.
    #[must_use]
    pub fn fingerprint(self, fingerprint: Fingerprint) -> Self {
        Self { fingerprint, ..self }
    }

    /// Puts the operation into the queue of an object, behind what came before.
    ///
    /// Work must not wait for another operation on its own object. It may wait
    /// for one on a part of it: a sandbox for its containers, never the reverse.
    #[must_use]
    pub fn on(self, object: impl Into<String>) -> Self {
        Self { object: Some(object.into()), ..self }
    }
}
