//! Who talks to the shim.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use prost::Message as _;
use rustix::net::SocketFlags;

use crate::protocol::FromShim;
use crate::socket::{self, Packet};

use super::{Shim, Token, complain, output};

/// The open connections, by number.
#[derive(Debug, Default)]
pub(super) struct Connections {
    open: BTreeMap<u32, OwnedFd>,
    next: u32,
}

impl Connections {
    pub(super) fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    /// Sends news to everybody. Who does not read is disconnected: an exit can be read from its
    /// record after connecting again, and the shim must not wait.
    pub(super) fn tell_all(&mut self, message: &FromShim) {
        self.open.retain(|_, connection| tell(connection.as_fd(), message, &[]));
    }

    /// Answers one; `false` if it could not be reached.
    pub(super) fn answer(
        &mut self,
        index: u32,
        message: &FromShim,
        descriptors: &[BorrowedFd<'_>],
    ) -> bool {
        let Some(connection) = self.open.get(&index) else {
            return false;
        };
        let reached = tell(connection.as_fd(), message, descriptors);
        if !reached {
            self.open.remove(&index);
        }
        reached
    }
}

fn tell(connection: BorrowedFd<'_>, message: &FromShim, descriptors: &[BorrowedFd<'_>]) -> bool {
    socket::send(connection, &message.encode_to_vec(), descriptors).is_ok()
}

impl Shim {
    /// Takes over a connected socket.
    pub(super) fn connect(&mut self, connection: OwnedFd) {
        let index = self.connections.next;
        self.connections.next = index.wrapping_add(1);
        let added = output::set_nonblocking(connection.as_fd())
            .and_then(|()| self.poll.add(connection.as_fd(), Token::Connection(index)));
        match added {
            Ok(()) => drop(self.connections.open.insert(index, connection)),
            Err(error) => complain(&format!("watch a connection: {error}")),
        }
    }

    /// Accepts one connection.
    pub(super) fn accept(&mut self) {
        if let Ok(connection) = rustix::net::accept_with(&self.listener, SocketFlags::CLOEXEC) {
            self.connect(connection);
        }
    }

    /// Reads one packet of a connection and acts on it.
    pub(super) fn serve(&mut self, index: u32) {
        let Some(connection) = self.connections.open.get(&index) else {
            return;
        };
        match socket::receive(connection.as_fd(), &mut self.buffers.packet) {
            Ok(Packet { bytes, .. }) if bytes.is_empty() => {
                drop(self.connections.open.remove(&index))
            }
            Ok(packet) => self.handle(index, packet),
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(_) => drop(self.connections.open.remove(&index)),
        }
    }
}
