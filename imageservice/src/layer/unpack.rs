//! The two threads that turn a compressed stream into a directory.

use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::sync::mpsc::SyncSender;

use super::apply::{Applier, Debts};
use super::compression;
use super::pipe::{BUFFER, PipeReader, pipe};
use super::tar::TarReader;
use super::verify::{Chunks, Verified};
use crate::config::Limits;
use crate::digest::Digest;
use crate::error::{Error, Result};
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
    /// Digest of the uncompressed bytes.
    pub(crate) diff_id: Digest,
}

/// Where a layer is unpacked: two empty directories, whose content is to be thrown away if that
/// fails.
#[derive(Debug)]
pub(crate) struct Workspace {
    pub(crate) root: OwnedFd,
    /// For what later entries displace.
    pub(crate) attic: OwnedFd,
}

/// Unpacks and verifies a layer. Blocks, with a second thread beside this one: two from one pool
/// could wait for each other for ever when the pool is used up.
///
/// # Errors
/// `DigestMismatch`, `SizeMismatch`, `HostileLayer`, `CorruptLayer`, `TooLarge`, `Unsupported`,
/// `NoSpace`, `Storage`, and whatever `chunks` fails with. When the bytes are not the promised
/// ones, that is the error, whatever else they made go wrong.
pub(crate) fn unpack(
    expected: &Expected,
    chunks: Chunks,
    meter: LayerMeter,
    workspace: Workspace,
    limits: &Limits,
) -> Result<Debts> {
    let (sender, reader) = pipe(&expected.diff_id);
    std::thread::scope(|scope| {
        let applying = std::thread::Builder::new()
            .name("apply-layer".to_owned())
            .spawn_scoped(scope, move || apply(workspace, reader, expected, limits))
            .map_err(|e| Error::storage("start a thread for", &expected.what, e))?;
        inflate(chunks, &sender, expected, meter, limits)?;
        drop(sender);
        applying.join().unwrap_or_else(|_| Err(corrupt(&expected.what, "the unpacker crashed")))
    })
}

/// Reads, verifies and inflates everything. Succeeds if the other thread does not want more: then
/// that one knows what is wrong.
fn inflate(
    chunks: Chunks,
    out: &SyncSender<Vec<u8>>,
    expected: &Expected,
    meter: LayerMeter,
    limits: &Limits,
) -> Result<()> {
    let Expected { what, digest, size, .. } = expected;
    let mut verified = Verified::new(chunks, what, digest, *size, meter);
    match pump(&mut verified, out, what, limits) {
        Ok(true) => verified.finish(),
        Ok(false) => Ok(()),
        // Whether these are the bytes that were promised explains more than how they are broken.
        Err(error @ (Error::CorruptLayer { .. } | Error::Unsupported { .. })) => {
            verified.finish().and(Err(error))
        }
        Err(error) => Err(error),
    }
}

/// Inflates to the end; `false` if nobody wants more.
fn pump(
    verified: &mut Verified<'_>,
    out: &SyncSender<Vec<u8>>,
    what: &str,
    limits: &Limits,
) -> Result<bool> {
    let seen = verified.seen();
    let mut total: u64 = 0;
    let mut decoder = compression::inflate(&mut *verified).map_err(|e| unreadable(what, e))?;
    loop {
        let mut buffer = vec![0; BUFFER];
        let filled = fill(&mut *decoder, &mut buffer).map_err(|e| unreadable(what, e))?;
        total += filled as u64;
        check_size(total, seen.get(), what, limits)?;
        let is_end = filled < BUFFER;
        buffer.truncate(filled);
        if filled > 0 && out.send(buffer).is_err() {
            return Ok(false);
        }
        if is_end {
            return Ok(true);
        }
    }
}

fn check_size(total: u64, compressed: u64, what: &str, limits: &Limits) -> Result<()> {
    let limit = if total > limits.layer {
        format!("at most {} bytes uncompressed", limits.layer)
    } else if total > limits.ratio_grace.saturating_add(compressed.saturating_mul(limits.ratio)) {
        format!("at most {} bytes uncompressed for each compressed one", limits.ratio)
    } else {
        return Ok(());
    };
    Err(Error::TooLarge { what: what.to_owned(), limit })
}

fn fill(reader: &mut dyn Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match reader.read(&mut buffer[filled..])? {
            0 => break,
            n => filled += n,
        }
    }
    Ok(filled)
}

/// Applies all entries and compares the digest of all that came. After a fault of the content it
/// lets the other thread come to its own verdict; after a fault of the disk it stops that one.
fn apply(
    workspace: Workspace,
    reader: PipeReader,
    expected: &Expected,
    limits: &Limits,
) -> Result<Debts> {
    let applier = Applier::new(workspace, &expected.what, limits);
    let mut tar = TarReader::new(reader);
    let applied = applier.run(&mut tar);
    if applied.as_ref().is_err_and(|error| !error.blames_content()) {
        return applied;
    }
    let got = tar.into_inner().finish();
    let unpacked = applied?;
    if got != expected.diff_id {
        return Err(Error::DigestMismatch {
            what: format!("diff id of {}", expected.what),
            expected: expected.diff_id.clone(),
            got,
        });
    }
    Ok(unpacked)
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

fn corrupt(what: &str, reason: &str) -> Error {
    Error::CorruptLayer { layer: what.to_owned(), reason: reason.to_owned() }
}
