//! `-p`: a port of the pod that is reachable on the node.

use std::net::IpAddr;
use std::str::FromStr;

use crate::api::runtime::{PortMapping, Protocol};

/// `[IP:]HOST:CONTAINER[/tcp|udp|sctp]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Publish {
    address: Option<IpAddr>,
    host: u16,
    container: u16,
    protocol: Protocol,
}

impl Publish {
    /// As the CRI has it.
    pub(crate) fn mapping(&self) -> PortMapping {
        PortMapping {
            protocol: self.protocol.into(),
            container_port: self.container.into(),
            host_port: self.host.into(),
            host_ip: self.address.map(|address| address.to_string()).unwrap_or_default(),
        }
    }
}

impl FromStr for Publish {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (ports, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
        let protocol = match protocol {
            "tcp" => Protocol::Tcp,
            "udp" => Protocol::Udp,
            "sctp" => Protocol::Sctp,
            other => return Err(format!("{other:?} is no protocol: tcp, udp or sctp")),
        };
        let form = || format!("{text:?} is not of the form [IP:]HOST:CONTAINER[/PROTOCOL]");
        let (rest, container) = ports.rsplit_once(':').ok_or_else(form)?;
        // An IPv6 address has colons and stands in brackets.
        let (address, host) = match rest.rsplit_once(':') {
            Some((address, host)) => (Some(parse_address(address)?), host),
            None => (None, rest),
        };
        Ok(Self { address, host: parse_port(host)?, container: parse_port(container)?, protocol })
    }
}

fn parse_port(text: &str) -> Result<u16, String> {
    let port = text.parse().ok().filter(|port| *port != 0);
    port.ok_or_else(|| format!("{text:?} is no port: a number from 1 to 65535"))
}

fn parse_address(text: &str) -> Result<IpAddr, String> {
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']'));
    let bad = |_| format!("{text:?} is no IP address; an IPv6 address stands in brackets");
    bare.unwrap_or(text).parse().map_err(bad)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mapped(text: &str) -> (String, i32, i32, Protocol) {
        let mapping = text.parse::<Publish>().unwrap().mapping();
        let protocol = mapping.protocol();
        (mapping.host_ip, mapping.host_port, mapping.container_port, protocol)
    }

    #[test]
    fn ports_are_parsed_with_address_and_protocol() {
        assert_eq!(mapped("8080:80"), ("".into(), 8080, 80, Protocol::Tcp));
        assert_eq!(mapped("53:5353/udp"), ("".into(), 53, 5353, Protocol::Udp));
        assert_eq!(mapped("127.0.0.1:1:2/sctp"), ("127.0.0.1".into(), 1, 2, Protocol::Sctp));
        assert_eq!(mapped("[::1]:1:2"), ("::1".into(), 1, 2, Protocol::Tcp));
    }

    #[test]
    fn what_is_no_mapping_is_refused() {
        for text in [
            "",
            "80",
            ":80",
            "80:",
            "0:80",
            "80:0",
            "65536:80",
            "a:b",
            "80:80/icmp",
            "x:1:2",
            "1-2:1-2",
            "1:2:3:4",
            "127.0.0.1::80",
        ] {
            assert!(text.parse::<Publish>().is_err(), "{text:?}");
        }
    }
}
