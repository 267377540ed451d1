//! What is asked of the shim.

use std::os::fd::{AsFd, BorrowedFd};

use prost::Message as _;

use crate::protocol::{
    Failure, FromShim, Greeting, Request, Signal as SignalRequest, Step, Tidings, ToShim, VERSION,
};
use crate::socket::Packet;
use crate::sys;

use super::Shim;
use super::process::State;

impl Shim {
    /// Acts on a packet; everything but a start is answered at once.
    pub(super) fn handle(&mut self, connection: u32, packet: Packet) {
        let Ok(message) = ToShim::decode(packet.bytes.as_slice()) else {
            return self.answer(connection, 0, refusal("a packet that is no request"));
        };
        let tidings = match message.request {
            Some(Request::Hello(_)) => Tidings::Greeting(self.greeting()),
            Some(Request::Start(start)) => {
                match self.launch(connection, message.number, &start, packet.descriptors) {
                    Ok(()) => return,
                    Err(failure) => Tidings::Failure(failure),
                }
            }
            Some(Request::Attend(key)) => match self.attend(connection, message.number, &key) {
                Ok(()) => return,
                Err(tidings) => tidings,
            },
            Some(Request::Signal(signal)) => self.signal(&signal),
            Some(Request::Reopen(key)) => self.reopen(&key, packet),
            Some(Request::Forget(key)) => self.forget(&key),
            Some(Request::Quit(_)) => self.quit(),
            None => refusal("a request of a newer version"),
        };
        self.answer(connection, message.number, tidings);
    }

    pub(super) fn answer(&mut self, connection: u32, number: u64, tidings: Tidings) {
        self.answer_with(connection, number, tidings, &[]);
    }

    pub(super) fn answer_with(
        &mut self,
        connection: u32,
        number: u64,
        tidings: Tidings,
        descriptors: &[BorrowedFd<'_>],
    ) {
        let message = FromShim { number, tidings: Some(tidings) };
        self.connections.answer(connection, &message, descriptors);
    }

    fn greeting(&self) -> Greeting {
        Greeting {
            version: VERSION,
            pid: rustix::process::getpid().as_raw_nonzero().get(),
            running: self.processes.iter().filter_map(|process| process.started()).collect(),
            starting: self.processes.starting().map(|process| process.key.clone()).collect(),
        }
    }

    /// Has a start answered to somebody else than who asked for it. It may be over by now.
    fn attend(&mut self, by: u32, as_number: u64, key: &str) -> Result<(), Tidings> {
        let process = self.processes.find_mut(key);
        let process = process.ok_or_else(|| refusal("it could not be started"))?;
        if let State::Preparing { connection, number, .. } = &mut process.state {
            (*connection, *number) = (by, as_number);
            return Ok(());
        }
        Err(process.started().map_or_else(|| refusal("it has ended"), Tidings::Started))
    }

    fn signal(&self, request: &SignalRequest) -> Tidings {
        let Some(process) = self.processes.find(&request.key) else {
            return refusal("no such process");
        };
        if process.has_ended() {
            return Tidings::Done(true);
        }
        match sys::signal::send(process.pidfd.as_fd(), request.signal) {
            Err(error) if error.raw_os_error() != Some(libc::ESRCH) => Tidings::Failure(Failure {
                step: Step::Request.into(),
                attempt: format!("send signal {} to {}", request.signal, request.key),
                errno: error.raw_os_error().unwrap_or(0),
            }),
            _ => Tidings::Done(true),
        }
    }

    /// A process that has ended but whose children still write has a log as well.
    fn reopen(&mut self, key: &str, packet: Packet) -> Tidings {
        let Some(file) = packet.descriptors.into_iter().next() else {
            return refusal("no file to go on with");
        };
        let Some(process) = self.processes.find_mut(key) else {
            return refusal("no such process");
        };
        process.log.reopen(file);
        Tidings::Done(true)
    }

    fn forget(&mut self, key: &str) -> Tidings {
        if let Some(slot) = self.processes.slot_of_key(key) {
            if let Some(process) = self.processes.get_mut(slot) {
                if !process.has_ended() {
                    return refusal("it still runs");
                }
                process.forgotten = true;
                for source in [process.output.take(), process.errors.take()].into_iter().flatten() {
                    self.poll.remove(source.as_fd());
                }
            }
            self.processes.forget_if_over(slot);
        }
        let record = self.directory.join(super::EXITS).join(key);
        match std::fs::remove_file(record) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                refusal("its record stays")
            }
            _ => Tidings::Done(true),
        }
    }

    fn quit(&mut self) -> Tidings {
        if self.processes.any_alive() {
            return refusal("processes still run");
        }
        self.quit = true;
        Tidings::Done(true)
    }
}

/// A request that makes no sense.
pub(super) fn refusal(why: &str) -> Tidings {
    Tidings::Failure(Failure { step: Step::Request.into(), attempt: why.to_owned(), errno: 0 })
}
