//! Moves network interfaces of the host into a container.
//!
//! An interface changes its namespace and its name in one request: a name of the host is never in
//! the way, nor one of the container's seen outside. The kernel takes its addresses away with
//! the move; those that somebody has given it for good, and that mean something elsewhere, are
//! given back (as does the specification's `config-linux.md`, "Network Devices").
//!
//! Nothing here needs an async runtime. It is the parent of a container that moves them, because
//! it has the right to on both sides; from a process with one thread, since it enters the
//! container's network namespace for a moment.

mod netlink;

use std::io;
use std::os::fd::BorrowedFd;

use crate::error::Error;

use netlink::{Address, Socket};

/// An interface to move.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct NetDevice {
    /// Its name on the host.
    pub name: String,
    /// Its name in the container.
    pub inside: String,
}

/// Moves `devices` from the network namespace of the calling thread to that behind `namespace`,
/// and brings them up there. If one does not exist, none is moved.
///
/// # Errors
/// [`Error::NetDevice`].
pub fn move_all(devices: &[NetDevice], namespace: BorrowedFd<'_>) -> Result<(), Error> {
    let Some(first) = devices.first() else { return Ok(()) };
    let open = |socket: io::Result<Socket>| socket.map_err(failed(first, "open a netlink socket"));
    let (outside, inside) = (open(Socket::here())?, open(Socket::inside(namespace))?);
    let found: Result<Vec<_>, _> = devices
        .iter()
        .map(|device| outside.index_of(&device.name).map_err(failed(device, "find it")))
        .collect();
    for (device, index) in devices.iter().zip(found?) {
        move_one(device, index, &outside, &inside, namespace)?;
    }
    Ok(())
}

fn move_one(
    device: &NetDevice,
    index: u32,
    outside: &Socket,
    inside: &Socket,
    namespace: BorrowedFd<'_>,
) -> Result<(), Error> {
    // Before it goes down, which costs it its IPv6 addresses.
    let addresses = outside.addresses(index).map_err(failed(device, "list its addresses"))?;
    outside.set_up(index, false).map_err(failed(device, "bring it down"))?;
    outside
        .move_link(index, &device.inside, namespace)
        .map_err(failed(device, "move it to the container"))?;
    let index = inside.index_of(&device.inside).map_err(failed(device, "find it again"))?;
    for address in addresses.iter().filter(|address| address.is_portable()) {
        inside.add_address(index, address).map_err(failed(device, "give it its address back"))?;
    }
    inside.set_up(index, true).map_err(failed(device, "bring it up"))
}

fn failed(device: &NetDevice, attempt: &'static str) -> impl FnOnce(io::Error) -> Error {
    let device = device.name.clone();
    move |source| Error::NetDevice { device, attempt, source }
}

impl Address {
    /// Whether it is one that was given for good and is good everywhere: one that was leased or
    /// made by the kernel belongs to the network that the interface was in.
    fn is_portable(&self) -> bool {
        self.permanent && self.global
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sched::{CloneFlags, setns, unshare};
    use std::fs::File;
    use std::os::fd::AsFd;

    /// A thread's own host, with a network namespace beside it.
    fn with_two(test: impl FnOnce(&Socket, File) + Send + 'static) {
        let run = move || {
            let path = "/proc/thread-self/ns/net";
            unshare(CloneFlags::CLONE_NEWNET).unwrap();
            let container = File::open(path).unwrap();
            unshare(CloneFlags::CLONE_NEWNET).unwrap();
            test(&Socket::here().unwrap(), container);
        };
        std::thread::spawn(run).join().unwrap();
    }

    fn device(name: &str, inside: &str) -> NetDevice {
        NetDevice { name: name.to_owned(), inside: inside.to_owned() }
    }

    fn addresses(socket: &Socket, name: &str) -> Vec<String> {
        let index = socket.index_of(name).unwrap();
        let all = socket.addresses(index).unwrap();
        let all = all.iter().filter(|address| address.is_portable());
        all.map(|address| format!("{}/{}", address.ip, address.prefix)).collect()
    }

    fn give(socket: &Socket, name: &str, ip: &str, prefix: u8) {
        let address = Address { ip: ip.parse().unwrap(), prefix, permanent: true, global: true };
        socket.add_address(socket.index_of(name).unwrap(), &address).unwrap();
    }

    #[test]
    fn an_interface_moves_with_its_addresses_and_comes_up() {
        with_two(|host, container| {
            host.add_pair("eth7", "peer7").unwrap();
            give(host, "eth7", "192.0.2.7", 24);
            give(host, "eth7", "2001:db8::7", 64);
            host.set_up(host.index_of("eth7").unwrap(), true).unwrap();
            host.set_up(host.index_of("peer7").unwrap(), true).unwrap();
            move_all(&[device("eth7", "net0")], container.as_fd()).unwrap();
            assert!(host.index_of("eth7").is_err());
            let inside = Socket::inside(container.as_fd()).unwrap();
            assert_eq!(addresses(&inside, "net0"), ["192.0.2.7/24", "2001:db8::7/64"]);
            assert!(inside.is_up(inside.index_of("net0").unwrap()).unwrap());
        });
    }

    #[test]
    fn a_name_may_be_the_same_on_both_sides_and_taken_outside() {
        with_two(|host, container| {
            host.add_pair("a1", "b1").unwrap();
            let moved = [device("a1", "b1")];
            move_all(&moved, container.as_fd()).unwrap();
            assert!(host.index_of("b1").is_ok(), "the host's own is untouched");
            assert!(Socket::inside(container.as_fd()).unwrap().index_of("b1").is_ok());
        });
    }

    #[test]
    fn if_one_is_missing_none_is_moved() {
        with_two(|host, container| {
            host.add_pair("a1", "b1").unwrap();
            let asked = [device("a1", "a1"), device("zz", "zz")];
            let error = move_all(&asked, container.as_fd()).unwrap_err();
            assert!(error.to_string().starts_with("linux.netDevices.zz: find it"), "{error}");
            assert!(host.index_of("a1").is_ok());
        });
    }

    #[test]
    fn the_thread_is_back_where_it_was() {
        with_two(|host, container| {
            host.add_pair("a1", "b1").unwrap();
            move_all(&[device("a1", "a1")], container.as_fd()).unwrap();
            assert!(Socket::here().unwrap().index_of("b1").is_ok());
            setns(&container, CloneFlags::CLONE_NEWNET).unwrap();
            assert!(Socket::here().unwrap().index_of("a1").is_ok());
        });
    }
}
