//! A few words of rtnetlink, spoken synchronously.

use std::fs::File;
use std::io;
use std::net::IpAddr;
use std::os::fd::{AsRawFd as _, BorrowedFd, OwnedFd};

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage,
    NetlinkPayload,
};
use netlink_packet_route::address::{
    AddressAttribute, AddressHeaderFlags, AddressMessage, AddressScope,
};
use netlink_packet_route::link::{LinkAttribute, LinkFlags, LinkMessage};
use netlink_packet_route::{AddressFamily as Family, RouteNetlinkMessage};
use nix::sched::{CloneFlags, setns};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};

/// The kernel sends the parts of a dump in messages of at most this many bytes.
const LARGEST_MESSAGE: usize = 32 << 10;

/// A netlink socket: it belongs to the network namespace that it was made in.
#[derive(Debug)]
pub(super) struct Socket(OwnedFd);

/// An address of an interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Address {
    /// The address.
    pub(super) ip: IpAddr,
    /// Bits of its network.
    pub(super) prefix: u8,
    /// Whether it has no end.
    pub(super) permanent: bool,
    /// Whether it is good beyond the link and the host.
    pub(super) global: bool,
}

impl Socket {
    /// Makes one in the namespace of the calling thread.
    pub(super) fn here() -> io::Result<Self> {
        let (family, kind) = (AddressFamily::NETLINK, SocketType::RAW);
        // NETLINK_ROUTE is number zero, which `rustix` calls no protocol.
        Ok(Self(rustix::net::socket_with(family, kind, SocketFlags::CLOEXEC, None)?))
    }

    /// Makes one in another namespace; the calling thread comes back from there.
    pub(super) fn inside(namespace: BorrowedFd<'_>) -> io::Result<Self> {
        let own = File::open("/proc/thread-self/ns/net")?;
        setns(namespace, CloneFlags::CLONE_NEWNET)?;
        let socket = Self::here();
        setns(&own, CloneFlags::CLONE_NEWNET)?;
        socket
    }

    /// The index of an interface.
    pub(super) fn index_of(&self, name: &str) -> io::Result<u32> {
        let mut link = LinkMessage::default();
        link.attributes.push(LinkAttribute::IfName(name.to_owned()));
        Ok(self.link(link)?.header.index)
    }

    fn link(&self, link: LinkMessage) -> io::Result<LinkMessage> {
        let answers = self.ask(RouteNetlinkMessage::GetLink(link), NLM_F_ACK)?;
        let found = answers.into_iter().find_map(|answer| match answer {
            RouteNetlinkMessage::NewLink(link) => Some(link),
            _ => None,
        });
        found.ok_or_else(|| io::Error::other("the kernel tells of no interface"))
    }

    /// All addresses of an interface.
    pub(super) fn addresses(&self, index: u32) -> io::Result<Vec<Address>> {
        let all = RouteNetlinkMessage::GetAddress(AddressMessage::default());
        let answers = self.ask(all, NLM_F_DUMP)?;
        Ok(answers.into_iter().filter_map(|answer| address_of(index, answer)).collect())
    }

    /// Gives an interface an address.
    pub(super) fn add_address(&self, index: u32, address: &Address) -> io::Result<()> {
        let mut message = AddressMessage::default();
        message.header.family = match address.ip {
            IpAddr::V4(_) => Family::Inet,
            IpAddr::V6(_) => Family::Inet6,
        };
        message.header.index = index;
        message.header.prefix_len = address.prefix;
        message.attributes.push(AddressAttribute::Local(address.ip));
        message.attributes.push(AddressAttribute::Address(address.ip));
        let flags = NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL;
        self.ask(RouteNetlinkMessage::NewAddress(message), flags).map(drop)
    }

    /// Brings an interface up or down.
    pub(super) fn set_up(&self, index: u32, up: bool) -> io::Result<()> {
        let mut link = LinkMessage::default();
        link.header.index = index;
        link.header.flags = if up { LinkFlags::Up } else { LinkFlags::empty() };
        link.header.change_mask = LinkFlags::Up;
        self.ask(RouteNetlinkMessage::SetLink(link), NLM_F_ACK).map(drop)
    }

    /// Moves an interface to another namespace, under a name there.
    pub(super) fn move_link(
        &self,
        index: u32,
        name: &str,
        namespace: BorrowedFd<'_>,
    ) -> io::Result<()> {
        let mut link = LinkMessage::default();
        link.header.index = index;
        link.attributes.push(LinkAttribute::NetNsFd(namespace.as_raw_fd()));
        link.attributes.push(LinkAttribute::IfName(name.to_owned()));
        self.ask(RouteNetlinkMessage::SetLink(link), NLM_F_ACK).map(drop)
    }

    /// Sends one request and collects the answers to it.
    fn ask(
        &self,
        request: RouteNetlinkMessage,
        flags: u16,
    ) -> io::Result<Vec<RouteNetlinkMessage>> {
        let mut header = NetlinkHeader::default();
        header.flags = NLM_F_REQUEST | flags;
        let mut message = NetlinkMessage::new(header, NetlinkPayload::from(request));
        message.finalize();
        let mut bytes = vec![0; message.buffer_len()];
        message.serialize(&mut bytes);
        rustix::net::send(&self.0, &bytes, SendFlags::empty())?;
        self.collect()
    }

    /// Reads answers up to the acknowledgement or the end of the dump.
    fn collect(&self) -> io::Result<Vec<RouteNetlinkMessage>> {
        let mut answers = Vec::new();
        let mut buffer = vec![0; LARGEST_MESSAGE];
        loop {
            let (received, _) = rustix::io::retry_on_intr(|| {
                rustix::net::recv(&self.0, &mut *buffer, RecvFlags::empty())
            })?;
            let mut rest = &buffer[..received];
            while !rest.is_empty() {
                let message = NetlinkMessage::<RouteNetlinkMessage>::deserialize(rest)
                    .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
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
}

fn address_of(index: u32, answer: RouteNetlinkMessage) -> Option<Address> {
    let RouteNetlinkMessage::NewAddress(AddressMessage { header, attributes, .. }) = answer else {
        return None;
    };
    if header.index != index {
        return None;
    }
    // With a peer, the interface's own address is the local one.
    let local = attributes.iter().find_map(|attribute| match attribute {
        AddressAttribute::Local(ip) => Some(*ip),
        _ => None,
    });
    let ip = local.or_else(|| {
        attributes.iter().find_map(|attribute| match attribute {
            AddressAttribute::Address(ip) => Some(*ip),
            _ => None,
        })
    })?;
    Some(Address {
        ip,
        prefix: header.prefix_len,
        permanent: header.flags.contains(AddressHeaderFlags::Permanent),
        global: header.scope == AddressScope::Universe,
    })
}

#[cfg(test)]
impl Socket {
    /// Makes two connected interfaces.
    pub(super) fn add_pair(&self, name: &str, peer: &str) -> io::Result<()> {
        use netlink_packet_route::link::{InfoData, InfoKind, InfoVeth, LinkInfo};
        let mut other = LinkMessage::default();
        other.attributes.push(LinkAttribute::IfName(peer.to_owned()));
        let mut link = LinkMessage::default();
        link.attributes.push(LinkAttribute::IfName(name.to_owned()));
        link.attributes.push(LinkAttribute::LinkInfo(vec![
            LinkInfo::Kind(InfoKind::Veth),
            LinkInfo::Data(InfoData::Veth(InfoVeth::Peer(other))),
        ]));
        let flags = NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL;
        self.ask(RouteNetlinkMessage::NewLink(link), flags).map(drop)
    }

    /// Whether an interface is up.
    pub(super) fn is_up(&self, index: u32) -> io::Result<bool> {
        let mut link = LinkMessage::default();
        link.header.index = index;
        Ok(self.link(link)?.header.flags.contains(LinkFlags::Up))
    }
}
