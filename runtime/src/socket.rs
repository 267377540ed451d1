//! Packets with descriptors over a unix socket: a seqpacket one if it is our own.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{Mode, OFlags};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags, SocketType, bind, connect,
    listen, recvmsg, sendmsg, socket_with, socketpair,
};

use crate::protocol::{MAX_DESCRIPTORS, MAX_PACKET};

/// A packet that has arrived.
#[derive(Debug, Default)]
pub(crate) struct Packet {
    /// Its bytes; empty if the other side has closed the connection.
    pub(crate) bytes: Vec<u8>,
    /// Its descriptors, close-on-exec.
    pub(crate) descriptors: Vec<OwnedFd>,
}

/// Two connected sockets, close-on-exec and blocking.
pub(crate) fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    let flags = SocketFlags::CLOEXEC;
    Ok(socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?)
}

/// Sends one packet.
pub(crate) fn send(
    socket: BorrowedFd<'_>,
    bytes: &[u8],
    descriptors: &[BorrowedFd<'_>],
) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() && !ancillary.push(SendAncillaryMessage::ScmRights(descriptors)) {
        return Err(io::Error::other(format!("{} descriptors in a packet", descriptors.len())));
    }
    let slices = [IoSlice::new(bytes)];
    rustix::io::retry_on_intr(|| sendmsg(socket, &slices, &mut ancillary, SendFlags::NOSIGNAL))?;
    Ok(())
}

/// Receives one packet into `buffer`, which must hold [`MAX_PACKET`] bytes.
pub(crate) fn receive(socket: BorrowedFd<'_>, buffer: &mut [u8]) -> io::Result<Packet> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let flags = RecvFlags::CMSG_CLOEXEC;
    let received = rustix::io::retry_on_intr(|| {
        recvmsg(socket, &mut [IoSliceMut::new(buffer)], &mut ancillary, flags)
    })?;
    let mut descriptors = Vec::new();
    for message in ancillary.drain() {
        if let RecvAncillaryMessage::ScmRights(fds) = message {
            descriptors.extend(fds);
        }
    }
    if received.bytes > MAX_PACKET || received.flags.contains(rustix::net::ReturnFlags::TRUNC) {
        return Err(io::Error::other("a packet that is too long"));
    }
    Ok(Packet { bytes: buffer[..received.bytes].to_vec(), descriptors })
}

/// Listens on `name` in `directory`, for its owner alone; `flags` are those of the socket beside
/// close-on-exec.
pub(crate) fn listen_in(directory: &Path, name: &str, flags: SocketFlags) -> io::Result<OwnedFd> {
    let socket = unconnected(SocketFlags::CLOEXEC | flags)?;
    // What is bound has the mode of what it is bound to, from its first moment on.
    rustix::fs::fchmod(&socket, Mode::from_raw_mode(0o600))?;
    through(directory, name, |address| bind(&socket, address))?;
    listen(&socket, 16)?;
    Ok(socket)
}

/// Connects to what listens on `name` in `directory`.
pub(crate) fn connect_in(directory: &Path, name: &str) -> io::Result<OwnedFd> {
    let socket = unconnected(SocketFlags::CLOEXEC)?;
    through(directory, name, |address| connect(&socket, address))?;
    Ok(socket)
}

/// Sends a descriptor, with `name` as what it is, to who listens at the stream socket `path`.
pub(crate) fn hand_over(path: &Path, name: &str, fd: BorrowedFd<'_>) -> io::Result<()> {
    send(connect_stream(path)?.as_fd(), name.as_bytes(), &[fd])
}

/// Connects to who listens at the stream socket `path`.
pub(crate) fn connect_stream(path: &Path) -> io::Result<OwnedFd> {
    let (directory, file) = (path.parent(), path.file_name().and_then(std::ffi::OsStr::to_str));
    let file = file.ok_or(io::ErrorKind::InvalidInput)?;
    let flags = SocketFlags::CLOEXEC;
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    let directory = directory.filter(|path| !path.as_os_str().is_empty());
    let directory = directory.unwrap_or(Path::new("."));
    through(directory, file, |address| connect(&socket, address))?;
    Ok(socket)
}

fn unconnected(flags: SocketFlags) -> io::Result<OwnedFd> {
    Ok(socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?)
}

/// Names a socket through a descriptor of its directory: a socket's path holds 107 bytes, and
/// directories of pods can be longer.
fn through(
    directory: &Path,
    name: &str,
    call: impl FnOnce(&SocketAddrUnix) -> rustix::io::Result<()>,
) -> io::Result<()> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let directory = rustix::fs::open(directory, flags, Mode::empty())?;
    let number = std::os::fd::AsRawFd::as_raw_fd(&directory.as_fd());
    Ok(call(&SocketAddrUnix::new(format!("/proc/self/fd/{number}/{name}"))?)?)
}
