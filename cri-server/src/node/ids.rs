//! Ids: new ones, and those of objects that are being made.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use rustix::rand::{GetRandomFlags, getrandom};
use tonic::Status;

/// A new id: 256 random bits as 64 hexadecimal digits.
///
/// # Errors
/// `INTERNAL` when the kernel gives no random bytes, which it always does once
/// the machine has booted.
pub fn new_id() -> Result<String, Status> {
    let mut bytes = [0; 32];
    // Up to 256 bytes come whole and are not interrupted (getrandom(2)).
    match getrandom(&mut bytes, GetRandomFlags::empty()) {
        Ok(32) => Ok(hex::encode(bytes)),
        other => Err(Status::internal(format!("32 random bytes for an id: got {other:?}"))),
    }
}

/// The time, in nanoseconds since the epoch.
#[must_use]
pub fn now() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(now.as_nanos()).unwrap_or(i64::MAX)
}

/// Ids of objects that are being made.
#[derive(Clone, Debug, Default)]
pub struct Making(Arc<Mutex<HashSet<String>>>);

/// An id stays among those that are being made while this lives.
#[derive(Debug)]
pub struct Made {
    making: Making,
    id: String,
}

impl Making {
    /// Adds an id.
    #[must_use]
    pub fn begin(&self, id: &str) -> Made {
        self.ids().insert(id.to_owned());
        Made { making: self.clone(), id: id.to_owned() }
    }

    /// The ids at this moment.
    #[must_use]
    pub fn snapshot(&self) -> HashSet<String> {
        self.ids().clone()
    }

    fn ids(&self) -> std::sync::MutexGuard<'_, HashSet<String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Made {
    fn drop(&mut self) {
        self.making.ids().remove(&self.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_64_hex_digits_and_differ() {
        let (a, b) = (new_id().unwrap(), new_id().unwrap());
        assert_ne!(a, b);
        assert!(a.len() == 64 && a.bytes().all(|byte| byte.is_ascii_hexdigit()));
    }

    #[test]
    fn an_id_is_in_the_making_until_it_is_made() {
        let making = Making::default();
        let made = making.begin("x");
        assert!(making.snapshot().contains("x"));
        drop(made);
        assert!(making.snapshot().is_empty());
    }
}
