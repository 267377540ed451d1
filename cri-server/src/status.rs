//! What a client is told about a failure: the one place where errors of the
//! domain crates become gRPC codes.
//!
//! A domain error keeps its own words. Its [`Classify`] says what kind of
//! failure it is; everything else (message, causes, length) is decided here.
//! The kubelet puts the message into an event of the pod, so the message has
//! the whole chain of causes in it: `start container web: exec /app: No such
//! file or directory`.

mod domain;

use std::error::Error;
use std::sync::Arc;

use tonic::{Code, Status};

/// Longest message. It travels in a header that clients limit.
const MESSAGE_MAX: usize = 4096;

/// An error of a domain crate, as a gRPC code.
///
/// Implemented here for each crate's `Error`, by an exhaustive match: a new
/// variant does not compile until someone has decided what a client sees.
pub trait Classify: Error + Send + Sync + 'static {
    /// The code. The kubelet acts on few: `NotFound` on a status call means
    /// that the object is gone, `DeadlineExceeded` and `Unavailable` are tried
    /// again, `InvalidArgument` is not worth a retry.
    fn code(&self) -> Code;
}

/// The status that tells of `error`. The error stays its source, for the log.
pub fn of<E: Classify>(error: E) -> Status {
    let mut status = Status::new(error.code(), message(&error));
    status.set_source(Arc::new(error));
    status
}

/// The error and its causes in one line, each said once: many errors quote
/// their cause already.
fn message(error: &dyn Error) -> String {
    let mut message = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let text = error.to_string();
        if !message.ends_with(&text) {
            message.push_str(": ");
            message.push_str(&text);
        }
        cause = error.source();
    }
    shorten(message)
}

fn shorten(mut message: String) -> String {
    if message.len() > MESSAGE_MAX {
        let end = (0..=MESSAGE_MAX).rev().find(|end| message.is_char_boundary(*end));
        message.truncate(end.unwrap_or(0));
        message.push_str("...");
    }
    message
}

/// Name of a code as gRPC spells it in text, for metrics and logs.
pub(crate) fn code_name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[derive(Debug, thiserror::Error)]
    enum Domain {
        #[error("start container {id}")]
        Start { id: &'static str, source: io::Error },
        #[error("{0}")]
        Long(String),
    }

    impl Classify for Domain {
        fn code(&self) -> Code {
            match self {
                Self::Start { .. } => Code::NotFound,
                Self::Long(_) => Code::Internal,
            }
        }
    }

    #[test]
    fn the_message_names_the_object_and_its_cause_and_the_source_is_kept() {
        let source = io::Error::from(io::ErrorKind::NotFound);
        let cause = source.to_string();

        let status = of(Domain::Start { id: "web", source });

        assert_eq!(status.code(), Code::NotFound);
        assert_eq!(status.message(), format!("start container web: {cause}"));
        assert!(status.source().is_some());
    }

    #[test]
    fn a_cause_that_is_quoted_already_is_not_repeated() {
        let inner = Domain::Long("disk full".into());
        let outer = io::Error::other(inner);

        assert_eq!(message(&outer), "disk full");
    }

    #[test]
    fn a_message_of_any_length_and_alphabet_is_shortened_to_what_fits_a_header() {
        let status = of(Domain::Long("ü".repeat(10_000)));

        assert!(status.message().len() <= MESSAGE_MAX + 3);
        assert!(status.message().ends_with("ü..."));
    }
}
