//! A name that means nothing, or more than one thing.

use std::error::Error;
use std::fmt;

use super::Kind;

/// Candidates that a message lists.
const LISTED: usize = 8;

/// Why a name could not be followed, with what it could have meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum NameError {
    /// Nothing has the name.
    Unknown(String),
    /// Several things have it.
    Ambiguous(String),
}

impl NameError {
    pub(super) fn unknown(
        kind: Kind,
        text: &str,
        candidates: impl ExactSizeIterator<Item = String>,
    ) -> Self {
        let (singular, plural) = match kind {
            Kind::Pod => ("pod", "pods"),
            Kind::Container => ("container", "containers"),
            Kind::Any => ("pod or container", "pods or containers"),
        };
        Self::Unknown(match candidates.len() {
            0 => format!("no {singular} is called {text:?}: there are no {plural}"),
            _ => format!("no {singular} is called {text:?}; there are: {}", list(candidates)),
        })
    }

    pub(super) fn ambiguous(text: &str, candidates: impl ExactSizeIterator<Item = String>) -> Self {
        Self::Ambiguous(format!("{text:?} is ambiguous, it could be: {}", list(candidates)))
    }
}

fn list(candidates: impl ExactSizeIterator<Item = String>) -> String {
    let more = candidates.len().saturating_sub(LISTED);
    let listed: Vec<_> = candidates.take(LISTED).collect();
    let listed = listed.join(", ");
    if more == 0 { listed } else { format!("{listed} and {more} more") }
}

impl fmt::Display for NameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Self::Unknown(message) | Self::Ambiguous(message)) = self;
        f.write_str(message)
    }
}

impl Error for NameError {}
