//! The standard streams of a process that is to be made.

use std::io;
use std::os::fd::OwnedFd;

use crate::plan::Handle;
use crate::protocol::{GivenStreams, LogStreams, Start, Streams};

use super::launch::at;
use super::output;

/// The child's ends of its streams, and ours.
#[derive(Debug, Default)]
pub(super) struct Wiring {
    /// Standard input, output and error of the child.
    pub(super) child: [Option<OwnedFd>; 3],
    /// Where output is logged.
    pub(super) log: Option<OwnedFd>,
    /// Bytes after which a log line is cut.
    pub(super) max_line: u32,
    /// Where its output is read.
    pub(super) output: Option<OwnedFd>,
    /// Where its errors are read.
    pub(super) errors: Option<OwnedFd>,
    /// Where its input is written.
    pub(super) stdin: Option<OwnedFd>,
}

/// Makes the pipes that a request asks for.
pub(super) fn wire(start: &Start, handles: &[OwnedFd]) -> io::Result<Wiring> {
    match start.streams {
        Some(Streams::Log(streams)) => wire_log(streams, handles),
        Some(Streams::Given(streams)) => wire_given(streams, handles),
        Some(Streams::Null(_)) | None => Ok(Wiring::default()),
    }
}

fn wire_given(streams: GivenStreams, handles: &[OwnedFd]) -> io::Result<Wiring> {
    let given = |index| owned(handles, index);
    let child = [given(streams.stdin)?, given(streams.stdout)?, given(streams.stderr)?];
    Ok(Wiring { child, ..Wiring::default() })
}

fn wire_log(streams: LogStreams, handles: &[OwnedFd]) -> io::Result<Wiring> {
    let log = owned(handles, streams.file)?;
    let mut wiring = Wiring { log, max_line: streams.max_line, ..Wiring::default() };
    if streams.terminal {
        return Ok(wiring);
    }
    if streams.stdin {
        let (read, write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
        wiring.child[0] = Some(read);
        wiring.stdin = Some(write);
    }
    let (output, childs_output) = output::pipe()?;
    let (errors, childs_errors) = output::pipe()?;
    wiring.child[1] = Some(childs_output);
    wiring.child[2] = Some(childs_errors);
    wiring.output = Some(output);
    wiring.errors = Some(errors);
    Ok(wiring)
}

fn owned(handles: &[OwnedFd], index: Option<Handle>) -> io::Result<Option<OwnedFd>> {
    index.map(|index| at(handles, index)?.try_clone_to_owned()).transpose()
}
