//! A layer on its way through an unpacker: fed to it as it comes, and judged at its end.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::ExitStatus;

use rustix::fs::{Mode, OFlags};

use super::apply::{Applied, Debts};
use super::seal;
use super::unpacker::report::Report;
use super::unpacker::{Order, Unpacker, describe};
use super::verify::{Chunks, Verified};
use crate::config::Config;
use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::operation::Operation;
use crate::progress::LayerMeter;

/// What a layer must turn out to be.
#[derive(Debug, Clone)]
pub(crate) struct Expected {
    /// How messages call it: `layer DIGEST of REFERENCE`.
    pub(crate) what: String,
    /// Digest of the compressed bytes.
    pub(crate) digest: Digest,
    /// Number of the compressed bytes.
    pub(crate) size: u64,
    /// Digest of the uncompressed bytes, if it is known.
    pub(crate) diff_id: Option<Digest>,
}

/// Where a layer is unpacked: two empty directories, whose content is to be thrown away if that
/// fails.
#[derive(Debug)]
pub(crate) struct Workspace {
    pub(crate) root: OwnedFd,
    /// For what later entries displace.
    pub(crate) attic: OwnedFd,
    /// An empty file, for what of the archive is in no file.
    pub(crate) spine: File,
}

/// Unpacks and verifies a layer in `directory`, which holds the empty directories `fs` and
/// `attic`. Blocks, while a process of its own does the work.
///
/// # Errors
/// `DigestMismatch`, `SizeMismatch`, `HostileLayer`, `CorruptLayer`, `TooLarge`, `Unsupported`,
/// `NoSpace`, `Storage`, and whatever `chunks` fails with. When the bytes are not the promised
/// ones, that is the error, whatever else they made go wrong.
pub(crate) fn unpack(
    expected: &Expected,
    chunks: Chunks,
    meter: LayerMeter,
    directory: &Path,
    config: &Config,
    operation: &Operation,
) -> Result<Debts> {
    let Expected { what, digest, size, diff_id } = expected;
    let mut verified = Verified::new(chunks, what, digest, *size, meter);
    let ended = run(&mut verified, expected, directory, config, operation)?;
    let outcome = judge(ended, what, operation);
    if outcome.as_ref().err().is_none_or(is_perhaps_the_bytes_fault) {
        // Whether these are the bytes that were promised explains more than how they are broken.
        verified.finish()?;
    }
    let (got, applied) = outcome?;
    if let Some(diff_id) = diff_id.as_ref().filter(|diff_id| got != **diff_id) {
        let (what, expected) = (format!("diff id of {what}"), diff_id.clone());
        return Err(Error::DigestMismatch { what, expected, got });
    }
    seal::check(directory)
        .and_then(|()| seal::seal(&open_tree(directory)?, &applied.seals))
        .map_err(|error| Error::storage("seal", what, error))?;
    Ok(applied.debts)
}

/// How an unpacker ended: what it wrote, and its status.
type Ended = io::Result<(Vec<u8>, ExitStatus)>;

/// Feeds an unpacker until the end, or until it does not want more.
fn run(
    verified: &mut Verified<'_>,
    expected: &Expected,
    directory: &Path,
    config: &Config,
    operation: &Operation,
) -> Result<Ended> {
    let what = expected.what.clone();
    let storage = |step| move |error| Error::storage(step, &expected.what, error);
    let order = Order {
        what,
        algorithm: expected.diff_id.as_ref().unwrap_or(&expected.digest).algorithm(),
        limits: config.limits,
    };
    let is_stopped = || operation.stop.is_cancelled();
    let mut unpacker = Unpacker::start(&config.unpacker, directory, &order)
        .map_err(storage("start an unpacker for"))?;
    while let Some(chunk) = verified.chunk()? {
        if !unpacker.feed(&chunk, &is_stopped).map_err(storage("feed the unpacker of"))? {
            break;
        }
    }
    Ok(unpacker.finish(&is_stopped))
}

/// What an unpacker's end means.
fn judge(ended: Ended, what: &str, operation: &Operation) -> Result<(Digest, Applied)> {
    if operation.stop.is_cancelled() {
        return Err(operation.cancelled());
    }
    let (report, status) = ended.map_err(|error| Error::storage("unpack", what, error))?;
    match Report::read(&report, what) {
        Some(Report::Done { diff_id, applied }) if status.success() => Ok((diff_id, applied)),
        Some(Report::Failed(error)) if status.success() => Err(error),
        _ => Err(Error::storage("unpack", what, io::Error::other(describe(status)))),
    }
}

/// A crash says nothing about its cause.
fn is_perhaps_the_bytes_fault(error: &Error) -> bool {
    let is_crash = matches!(error, Error::Storage { source, .. }
        if source.downcast_ref::<io::Error>().is_some_and(|e| e.raw_os_error().is_none()));
    error.blames_content() || is_crash
}

fn open_tree(directory: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(rustix::fs::open(directory.join("fs"), flags, Mode::empty())?)
}

/// An error of reading: ours, if it was passed through a reader, else that of a decoder or parser.
pub(super) fn unreadable(what: &str, error: io::Error) -> Error {
    if let Some(ours) = error.get_ref().and_then(|e| e.downcast_ref::<Error>()) {
        return ours.clone();
    }
    if error.kind() == io::ErrorKind::Unsupported {
        let reason = format!("compression {error} is not supported");
        return Error::Unsupported { what: what.to_owned(), reason };
    }
    corrupt(what, &error.to_string())
}

pub(super) fn corrupt(what: &str, reason: &str) -> Error {
    Error::CorruptLayer { layer: what.to_owned(), reason: reason.to_owned() }
}
