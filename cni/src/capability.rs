//! Capability arguments: what a runtime wants of a network for one attachment,
//! by the conventions of the CNI project (CONVENTIONS.md, "Well-known
//! Capabilities"). Which plugin gets which of them is decided by
//! `capabilities` in the network configuration, see [`crate::Network`].

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::cidr::Cidr;

/// What one attachment asks of its network. Empty lists ask for nothing and
/// are left out.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Capabilities(Map<String, Value>);

/// A transport protocol whose ports can be mapped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
}

/// A port of the host that leads to a port of the pod.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PortMapping {
    /// Port on the host, 1 to 65535.
    pub host_port: u16,
    /// Port in the pod, 1 to 65535.
    pub container_port: u16,
    /// Transport protocol.
    pub protocol: Protocol,
    /// Address of the host to listen on; `None` is all of them.
    #[serde(rename = "hostIP", skip_serializing_if = "Option::is_none")]
    pub host_ip: Option<IpAddr>,
}

/// Limits on the rate of an attachment, seen from the pod. Zero is no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Bandwidth {
    /// Into the pod, bits per second.
    pub ingress_rate: u64,
    /// Burst into the pod, bits.
    pub ingress_burst: u64,
    /// Out of the pod, bits per second.
    pub egress_rate: u64,
    /// Burst out of the pod, bits.
    pub egress_burst: u64,
}

/// DNS settings of the pod, for plugins that act on them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Resolver {
    /// Addresses of name servers, in order.
    pub servers: Vec<String>,
    /// Search domains, in order.
    pub searches: Vec<String>,
    /// Resolver options, as in `resolv.conf`.
    pub options: Vec<String>,
}

/// A range of addresses to allocate from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct IpRange {
    /// The subnet.
    pub subnet: Cidr,
    /// First address, inclusive; `None` is the subnet's first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub range_start: Option<IpAddr>,
    /// Last address, inclusive; `None` is the subnet's last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub range_end: Option<IpAddr>,
    /// Gateway; `None` leaves the choice to the plugin.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gateway: Option<IpAddr>,
}

impl Capabilities {
    /// Ports of the host that lead into the pod.
    #[must_use]
    pub fn port_mappings(self, mappings: &[PortMapping]) -> Self {
        self.list("portMappings", mappings)
    }

    /// Limits on the rate of traffic.
    #[must_use]
    pub fn bandwidth(self, limits: Bandwidth) -> Self {
        self.set("bandwidth", json!(limits))
    }

    /// DNS settings of the pod.
    #[must_use]
    pub fn dns(self, resolver: &Resolver) -> Self {
        self.set("dns", json!(resolver))
    }

    /// Ranges to allocate from: one address out of each inner list.
    #[must_use]
    pub fn ip_ranges(self, ranges: &[Vec<IpRange>]) -> Self {
        self.list("ipRanges", ranges)
    }

    /// Addresses wanted for the pod, each with or without a prefix length.
    #[must_use]
    pub fn ips(self, addresses: &[String]) -> Self {
        self.list("ips", addresses)
    }

    /// Hardware address wanted for the pod, such as `c2:11:22:33:44:55`.
    #[must_use]
    pub fn mac(self, address: &str) -> Self {
        self.set("mac", json!(address))
    }

    /// Names by which other containers on the network may call this one.
    #[must_use]
    pub fn aliases(self, names: &[String]) -> Self {
        self.list("aliases", names)
    }

    /// The pod's cgroup, as a path below the cgroup root.
    #[must_use]
    pub fn cgroup_path(self, path: &str) -> Self {
        self.set("cgroupPath", json!(path))
    }

    /// Annotations of the pod. They are data from outside: the caller passes
    /// only those that an operator allows plugins to see.
    #[must_use]
    pub fn pod_annotations(self, annotations: &BTreeMap<String, String>) -> Self {
        if annotations.is_empty() {
            return self;
        }
        self.set("io.kubernetes.cri.pod-annotations", json!(annotations))
    }

    /// The `runtimeConfig` of a plugin that declares these capabilities.
    pub(crate) fn for_plugin(&self, declared: &BTreeSet<String>) -> Map<String, Value> {
        self.0
            .iter()
            .filter(|(name, _)| declared.contains(*name))
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect()
    }

    /// The names of what is asked for here.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn list<T: Serialize>(self, name: &str, items: &[T]) -> Self {
        if items.is_empty() {
            return self;
        }
        self.set(name, json!(items))
    }

    fn set(mut self, name: &str, value: Value) -> Self {
        self.0.insert(name.to_owned(), value);
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_the_conventional_json() {
        let asked = Capabilities::default()
            .port_mappings(&[PortMapping {
                host_port: 8080,
                container_port: 80,
                protocol: Protocol::Tcp,
                host_ip: None,
            }])
            .bandwidth(Bandwidth {
                ingress_rate: 1,
                ingress_burst: 2,
                egress_rate: 3,
                egress_burst: 4,
            })
            .dns(&Resolver {
                servers: vec!["10.0.0.10".into()],
                searches: vec!["svc".into()],
                options: vec![],
            })
            .ip_ranges(&[vec![IpRange {
                subnet: "10.1.2.0/24".parse().unwrap(),
                range_start: Some("10.1.2.3".parse().unwrap()),
                range_end: None,
                gateway: None,
            }]])
            .ips(&["10.1.2.9/24".into()])
            .mac("c2:11:22:33:44:55")
            .aliases(&["db".into()])
            .cgroup_path("/pod1")
            .pod_annotations(&BTreeMap::from([("team".into(), "net".into())]));
        assert_eq!(
            json!(asked),
            json!({
                "portMappings": [{"hostPort": 8080, "containerPort": 80, "protocol": "tcp"}],
                "bandwidth": {"ingressRate": 1, "ingressBurst": 2, "egressRate": 3, "egressBurst": 4},
                "dns": {"servers": ["10.0.0.10"], "searches": ["svc"], "options": []},
                "ipRanges": [[{"subnet": "10.1.2.0/24", "rangeStart": "10.1.2.3"}]],
                "ips": ["10.1.2.9/24"],
                "mac": "c2:11:22:33:44:55",
                "aliases": ["db"],
                "cgroupPath": "/pod1",
                "io.kubernetes.cri.pod-annotations": {"team": "net"},
            })
        );
    }

    #[test]
    fn a_plugin_gets_only_what_it_declares() {
        let asked = Capabilities::default().mac("c2:11:22:33:44:55").cgroup_path("/pod1");
        let declared = BTreeSet::from(["mac".to_owned(), "ips".to_owned()]);
        assert_eq!(json!(asked.for_plugin(&declared)), json!({"mac": "c2:11:22:33:44:55"}));
        assert!(asked.for_plugin(&BTreeSet::new()).is_empty());
    }

    #[test]
    fn an_empty_list_asks_for_nothing() {
        let asked = Capabilities::default().port_mappings(&[]).ips(&[]).aliases(&[]);
        assert!(asked.is_empty());
    }
}
