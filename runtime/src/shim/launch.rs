//! Making processes: the clone, and what the child reports.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt as _;

use prost::Message;

use crate::cgroup::oom::Reached;
use crate::init::Inheritance;
use crate::newborn::{self, Nest, failure};
use crate::plan::Handle;
use crate::protocol::{Failure, PidNamespace, Start, Step, Streams};
use crate::socket;
use crate::sys::clone::Child;

use super::line::Stream;
use super::output::{self, Log, Source};
use super::process::{Process, State};
use super::wiring::{Wiring, wire};
use super::{Shim, Token};

impl Shim {
    /// Clones the child of a [`Start`]; its answer follows when the child has reported.
    pub(super) fn launch(
        &mut self,
        connection: u32,
        number: u64,
        start: &Start,
        descriptors: Vec<OwnedFd>,
    ) -> Result<(), Failure> {
        let failed =
            |error: io::Error| failure(Step::Clone, &format!("start {}", start.key), &error);
        if let Some(slot) = self.processes.slot_of_key(&start.key) {
            if self.processes.get_mut(slot).is_some_and(|process| !process.has_ended()) {
                return Err(failed(io::ErrorKind::AlreadyExists.into()));
            }
            self.processes.remove(slot);
        }
        let handles = self.handles(start, descriptors).map_err(failed)?;
        let cgroup = at(&handles, start.cgroup).and_then(|fd| fd.try_clone_to_owned());
        let cgroup = cgroup.map_err(failed)?;
        let mut wiring = wire(start, &handles).map_err(failed)?;
        let (report, childs_report) = socket::pair().map_err(failed)?;
        let child = self.clone_child(start, &handles, &wiring, &childs_report).map_err(failed)?;
        let slot = self.processes.next_slot();
        let process = Process {
            key: start.key.clone(),
            pid: child.pid,
            pidfd: child.pidfd,
            reached: reached(start, cgroup.as_fd()),
            cgroup,
            state: State::Preparing {
                report,
                connection,
                number,
                foreign: start.foreign,
                reborn: false,
                executing: false,
            },
            log: Log::new(wiring.log.take()),
            max_line: wiring.max_line,
            output: None,
            errors: None,
            stdin: wiring.stdin.take(),
            forgotten: false,
        };
        self.processes.insert(slot, process);
        self.watch(slot, wiring).map_err(failed)
    }

    /// What the handles of a request stand for: its members, then what came with it.
    fn handles(&self, start: &Start, descriptors: Vec<OwnedFd>) -> io::Result<Vec<OwnedFd>> {
        let mut handles = Vec::with_capacity(start.members.len() + descriptors.len());
        for key in &start.members {
            let member = self.processes.find(key).filter(|process| !process.has_ended());
            let member = member.ok_or_else(|| io::Error::other(format!("{key} does not run")))?;
            handles.push(member.pidfd.try_clone()?);
        }
        handles.extend(descriptors);
        Ok(handles)
    }

    fn clone_child(
        &self,
        start: &Start,
        handles: &[OwnedFd],
        wiring: &Wiring,
        report: &OwnedFd,
    ) -> io::Result<Child> {
        let file = at(handles, start.plan)?;
        let nest = match start.pid_namespace {
            Some(PidNamespace::New(true)) => Nest::New,
            Some(PidNamespace::Of(handle)) => Nest::Of(at(handles, handle)?),
            _ => Nest::Own,
        };
        let given = Inheritance {
            handles: handles.iter().map(AsFd::as_fd).collect(),
            streams: wiring.child.each_ref().map(|stream| stream.as_ref().map(AsFd::as_fd)),
            null: Some(self.null.stream()),
            report: report.as_fd(),
            nest,
            proof: &self.proof,
        };
        if start.foreign {
            return newborn::clone_errand(&given, || read(file));
        }
        let cgroup = Some(at(handles, start.cgroup)?);
        newborn::clone_child(cgroup, &given, || read::<crate::plan::Plan>(file))
    }

    /// Waits for the child's report and its output. The child's ends of the pipes close here.
    fn watch(&mut self, slot: u32, wiring: Wiring) -> io::Result<()> {
        let Some(process) = self.processes.get_mut(slot) else {
            return Ok(());
        };
        let limit = wiring.max_line;
        let source = |fd, stream| Source::new(fd, stream, limit, false);
        process.output = wiring.output.map(|fd| source(fd, Stream::Stdout));
        process.errors = wiring.errors.map(|fd| source(fd, Stream::Stderr));
        if let State::Preparing { report, .. } = &process.state {
            output::set_nonblocking(report.as_fd())?;
            self.poll.add(report.as_fd(), Token::Report(slot))?;
        }
        if let Some(source) = &process.output {
            self.poll.add(source.as_fd(), Token::Output(slot))?;
        }
        if let Some(source) = &process.errors {
            self.poll.add(source.as_fd(), Token::Errors(slot))?;
        }
        Ok(())
    }
}

/// Decoded by the child, so that the shim never grows with it.
fn read<M: Message + Default>(file: BorrowedFd<'_>) -> io::Result<M> {
    let file = File::from(file.try_clone_to_owned()?);
    let size = usize::try_from(file.metadata()?.len()).map_err(io::Error::other)?;
    let mut bytes = vec![0; size];
    file.read_exact_at(&mut bytes, 0)?;
    M::decode(bytes.as_slice()).map_err(io::Error::other)
}

pub(super) fn at(handles: &[OwnedFd], index: Handle) -> io::Result<BorrowedFd<'_>> {
    let found = handles.get(index as usize).map(AsFd::as_fd);
    found.ok_or_else(|| io::Error::other(format!("no descriptor {index}")))
}

/// What is compared with at the end of a container. Others are not asked how they ended.
fn reached(start: &Start, cgroup: BorrowedFd<'_>) -> Reached {
    match start.streams {
        Some(Streams::Log(_)) => Reached::now(cgroup),
        _ => Reached::default(),
    }
}
