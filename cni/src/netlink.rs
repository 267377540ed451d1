//! A few words of rtnetlink, spoken synchronously in the network namespace of
//! the calling thread. There is no runtime and no other thread in it, so that a
//! thread which has just entered a namespace of its own can call it.

use std::io;
use std::net::IpAddr;
use std::os::fd::OwnedFd;

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload,
};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::address::{AddressAttribute, AddressMessage};
use netlink_packet_route::link::{InfoKind, LinkAttribute, LinkFlags, LinkInfo, LinkMessage};
use rustix::net::{AddressFamily, Protocol, RecvFlags, SendFlags, SocketFlags, SocketType};

use crate::cidr::Cidr;
use crate::error::{Error, Result};

/// The index of `lo` in every network namespace (`LOOPBACK_IFINDEX`,
/// include/net/net_namespace.h).
const LOOPBACK: u32 = 1;

/// The protocol number is zero, which `rustix` spells so.
const NETLINK_ROUTE: Option<Protocol> = None;

/// The kernel sends the parts of a dump in messages of at most this many bytes.
const LARGEST_MESSAGE: usize = 32 << 10;

/// An interface of the calling thread's namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Link {
    pub(crate) index: u32,
    pub(crate) name: String,
    pub(crate) is_veth: bool,
    /// The bridge that it is a port of, by index.
    pub(crate) controller: Option<u32>,
}

/// Brings `lo` up in the network namespace of the calling thread. The kernel
/// then gives it 127.0.0.1 and ::1 itself.
///
/// # Errors
/// [`Error::Netlink`].
pub fn loopback_up() -> Result<()> {
    let mut up = LinkMessage::default();
    up.header.index = LOOPBACK;
    up.header.flags = LinkFlags::Up;
    up.header.change_mask = LinkFlags::Up;
    ask(RouteNetlinkMessage::SetLink(up), NLM_F_ACK)
        .map(drop)
        .map_err(failed("bring up the loopback interface"))
}

/// The addresses of an interface in the network namespace of the calling
/// thread, in the kernel's order; none if there is no such interface.
///
/// # Errors
/// [`Error::Netlink`].
pub fn addresses(ifname: &str) -> Result<Vec<Cidr>> {
    let Some(link) = links()?.into_iter().find(|link| link.name == ifname) else {
        return Ok(Vec::new());
    };
    let all = RouteNetlinkMessage::GetAddress(AddressMessage::default());
    let answers = ask(all, NLM_F_DUMP).map_err(failed("list addresses"))?;
    Ok(answers.into_iter().filter_map(|answer| address_on(link.index, answer)).collect())
}

/// All interfaces of the calling thread's namespace.
pub(crate) fn links() -> Result<Vec<Link>> {
    let all = RouteNetlinkMessage::GetLink(LinkMessage::default());
    let answers = ask(all, NLM_F_DUMP).map_err(failed("list network interfaces"))?;
    Ok(answers.into_iter().filter_map(link).collect())
}

/// Sends one request and collects the answers to it.
fn ask(request: RouteNetlinkMessage, flags: u16) -> io::Result<Vec<RouteNetlinkMessage>> {
    let socket = rustix::net::socket_with(
        AddressFamily::NETLINK,
        SocketType::RAW,
        SocketFlags::CLOEXEC,
        NETLINK_ROUTE,
    )?;
    let mut header = NetlinkHeader::default();
    header.flags = NLM_F_REQUEST | flags;
    let mut message = NetlinkMessage::new(header, NetlinkPayload::from(request));
    message.finalize();
    let mut bytes = vec![0; message.buffer_len()];
    message.serialize(&mut bytes);
    rustix::net::send(&socket, &bytes, SendFlags::empty())?;
    collect(&socket)
}

/// Reads answers up to the acknowledgement or the end of the dump.
fn collect(socket: &OwnedFd) -> io::Result<Vec<RouteNetlinkMessage>> {
    let mut answers = Vec::new();
    let mut buffer = vec![0; LARGEST_MESSAGE];
    loop {
        let (received, _) = rustix::net::recv(socket, &mut *buffer, RecvFlags::empty())?;
        let mut rest = &buffer[..received];
        while !rest.is_empty() {
            let message = NetlinkMessage::<RouteNetlinkMessage>::deserialize(rest)
                .map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e))?;
            // Each message begins on a multiple of four bytes (NLMSG_ALIGN).
            let length = message.header.length as usize;
            rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
            match message.payload {
                NetlinkPayload::InnerMessage(answer) => answers.push(answer),
                NetlinkPayload::Error(e) if e.code.is_some() => return Err(e.to_io()),
                NetlinkPayload::Error(_) | NetlinkPayload::Done(_) => return Ok(answers),
                _ => {}
            }
        }
    }
}

fn link(answer: RouteNetlinkMessage) -> Option<Link> {
    let RouteNetlinkMessage::NewLink(message) = answer else {
        return None;
    };
    let mut link =
        Link { index: message.header.index, name: String::new(), is_veth: false, controller: None };
    for attribute in message.attributes {
        match attribute {
            LinkAttribute::IfName(name) => link.name = name,
            LinkAttribute::Controller(index) => link.controller = Some(index),
            LinkAttribute::LinkInfo(info) => {
                link.is_veth = info.contains(&LinkInfo::Kind(InfoKind::Veth));
            }
            _ => {}
        }
    }
    Some(link)
}

fn address_on(index: u32, answer: RouteNetlinkMessage) -> Option<Cidr> {
    let RouteNetlinkMessage::NewAddress(message) = answer else {
        return None;
    };
    if message.header.index != index {
        return None;
    }
    let prefix = message.header.prefix_len;
    // A point-to-point address has its own end in `Local`, else both are equal.
    let find = |wanted: fn(&AddressAttribute) -> Option<IpAddr>| {
        message.attributes.iter().find_map(wanted)
    };
    let local = find(|attribute| match attribute {
        AddressAttribute::Local(address) => Some(*address),
        _ => None,
    });
    let address = local.or_else(|| {
        find(|attribute| match attribute {
            AddressAttribute::Address(address) => Some(*address),
            _ => None,
        })
    })?;
    Some(Cidr { address, prefix })
}

fn failed(action: &'static str) -> impl FnOnce(io::Error) -> Error {
    move |source| Error::Netlink { action, source }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use nix::sched::{CloneFlags, unshare};

    use super::*;

    /// Runs on a thread in a network namespace of its own.
    fn in_new_namespace<T: Send>(test: impl FnOnce() -> T + Send) -> T {
        thread::scope(|scope| {
            let thread = scope.spawn(|| {
                unshare(CloneFlags::CLONE_NEWNET).expect(
                    "this test makes a network namespace: run it as root, \
                     or by `unshare -r cargo nextest run -p berth-cni`",
                );
                test()
            });
            thread.join().unwrap()
        })
    }

    #[test]
    fn loopback_comes_up_in_the_callers_namespace() {
        in_new_namespace(|| {
            assert_eq!(addresses("lo").unwrap(), []);
            loopback_up().unwrap();
            loopback_up().unwrap();
            let addresses: Vec<_> = addresses("lo").unwrap().iter().map(Cidr::to_string).collect();
            assert!(addresses.contains(&"127.0.0.1/8".to_owned()), "{addresses:?}");
        });
    }

    #[test]
    fn a_new_namespace_holds_lo_and_little_else() {
        in_new_namespace(|| {
            let links = links().unwrap();
            let lo = links.iter().find(|link| link.name == "lo").unwrap();
            assert_eq!((lo.index, lo.is_veth, lo.controller), (LOOPBACK, false, None));
            assert_eq!(addresses("none").unwrap(), []);
        });
    }

    #[test]
    fn what_the_kernel_refuses_is_an_error() {
        in_new_namespace(|| {
            let mut nowhere = LinkMessage::default();
            nowhere.header.index = 4711;
            nowhere.header.flags = LinkFlags::Up;
            nowhere.header.change_mask = LinkFlags::Up;
            let refused = ask(RouteNetlinkMessage::SetLink(nowhere), NLM_F_ACK).unwrap_err();
            assert_eq!(refused.raw_os_error(), Some(19), "ENODEV: {refused}");
        });
    }
}
