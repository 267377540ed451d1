//! The two threads of an unpacker: one inflates, the other hashes what came and makes files of it.

use std::cell::Cell;
use std::fs::File;
use std::io::{self, BufReader, Read, Write};
use std::process::ExitCode;
use std::rc::Rc;
use std::sync::mpsc::{Receiver, sync_channel};

use rustix::fs::{Mode, OFlags};

use super::report::Report;
use super::{Order, confine, filter};
use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::layer::apply::{Applied, Applier};
use crate::layer::compression;
use crate::layer::pipe::{PipeReader, PipeWriter, pipe};
use crate::layer::spine::Recorder;
use crate::layer::tar::TarReader;
use crate::layer::unpack::{Workspace, corrupt, unreadable};

/// Compressed bytes that are read at once.
const INPUT: usize = 64 << 10;

/// Unpacks what comes on standard input, and reports on standard output.
pub(super) fn run(order: &Order) -> ExitCode {
    let report = match unpack(order) {
        Ok((diff_id, applied)) => Report::Done { diff_id, applied },
        Err(error) => Report::Failed(error),
    };
    let mut out = io::BufWriter::new(io::stdout().lock());
    match report.write(&mut out).and_then(|()| out.flush()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

fn unpack(order: &Order) -> Result<(Digest, Applied)> {
    let what = &order.what;
    let storage = |step| move |error| Error::storage(step, what, error);
    confine::confine().map_err(|(step, error)| Error::storage(step, what, error))?;
    let workspace = Workspace {
        root: open("fs").map_err(storage("open the tree of"))?,
        attic: open("attic").map_err(storage("open the attic of"))?,
        spine: File::options().write(true).open("spine").map_err(storage("open the spine of"))?,
    };
    let (writer, reader) = pipe(order.algorithm);
    let (go, gone) = sync_channel(0);
    std::thread::scope(|scope| {
        let inflating = std::thread::Builder::new()
            .spawn_scoped(scope, move || inflate(&gone, writer, order))
            .map_err(storage("start a thread for"))?;
        // From here on there is no way to start anything else.
        filter::apply().map_err(storage("filter the system calls for"))?;
        drop(go);
        let applied = apply(workspace, reader, order);
        // What is wrong with the stream explains what is wrong with its content.
        inflating.join().unwrap_or_else(|_| Err(corrupt(what, "its decoder crashed")))?;
        applied
    })
}

fn open(name: &str) -> io::Result<std::os::fd::OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(rustix::fs::open(name, flags, Mode::empty())?)
}

/// Inflates everything, when all is ready for it. Succeeds if the other thread does not want more:
/// then that one knows what is wrong.
fn inflate(gone: &Receiver<()>, out: PipeWriter, order: &Order) -> Result<()> {
    let _ = gone.recv();
    let seen = Rc::new(Cell::new(0));
    let input = BufReader::with_capacity(INPUT, Counted { seen: Rc::clone(&seen) });
    let fail = |error| unreadable(&order.what, error);
    let mut decoder = compression::inflate(input).map_err(fail)?;
    let mut total: u64 = 0;
    loop {
        let Some(mut buffer) = out.buffer() else { return Ok(()) };
        let filled = fill(&mut *decoder, &mut buffer).map_err(fail)?;
        total += filled as u64;
        check_size(total, seen.get(), order)?;
        let is_end = filled < buffer.len();
        if filled > 0 && !out.send(buffer, filled) || is_end {
            return Ok(());
        }
    }
}

/// Standard input, counted.
struct Counted {
    seen: Rc<Cell<u64>>,
}

impl Read for Counted {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let n = rustix::io::read(rustix::stdio::stdin(), out)?;
        self.seen.set(self.seen.get() + n as u64);
        Ok(n)
    }
}

fn check_size(total: u64, compressed: u64, order: &Order) -> Result<()> {
    let limits = &order.limits;
    let limit = if total > limits.layer {
        format!("at most {} bytes uncompressed", limits.layer)
    } else if total > limits.ratio_grace.saturating_add(compressed.saturating_mul(limits.ratio)) {
        format!("at most {} bytes uncompressed for each compressed one", limits.ratio)
    } else {
        return Ok(());
    };
    Err(Error::TooLarge { what: order.what.clone(), limit })
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

/// Applies all entries, and answers the digest of all that came. After a fault of the content it
/// lets the other thread come to its own verdict; after a fault of the disk it stops that one.
fn apply(workspace: Workspace, reader: PipeReader, order: &Order) -> Result<(Digest, Applied)> {
    let unwritable = |error| Error::storage("write the spine of", &order.what, error);
    let Workspace { root, attic, spine } = workspace;
    let recorder = Recorder::new(reader, spine).map_err(unwritable)?;
    let applier = Applier::new(root, attic, &order.what, &order.limits);
    let mut tar = TarReader::new(recorder);
    let applied = applier.run(&mut tar);
    if applied.as_ref().is_err_and(|error| !error.blames_content()) {
        return applied.map(|applied| (Digest::sha256(b""), applied));
    }
    let (reader, recorded) = tar.into_inner().finish();
    let diff_id = reader.finish();
    let applied = applied?;
    recorded.map_err(unwritable)?;
    Ok((diff_id, applied))
}
