//! What a pod wants of its network, as capability arguments for plugins.

use std::collections::BTreeMap;
use std::net::IpAddr;

use berth_sandbox::network::{Bandwidth, Capabilities, PortMapping, Protocol, Resolver};
use tonic::Status;

use crate::api::runtime::{
    DnsConfig, PodSandboxConfig, PortMapping as CriPortMapping, Protocol as CriProtocol,
};

use super::invalid;

/// Annotations that limit the bandwidth of a pod, in bits per second.
const INGRESS: &str = "kubernetes.io/ingress-bandwidth";
const EGRESS: &str = "kubernetes.io/egress-bandwidth";

/// What is sent at once when a limit is kept: as much as possible, so that the limit alone
/// counts (the value that the field's runtimes pass, 2^31 - 1 bits).
const BURST: u64 = (1 << 31) - 1;

/// Collects the capability arguments of a pod.
pub(super) fn capabilities(
    config: &PodSandboxConfig,
    cgroup_parent: &str,
) -> Result<Capabilities, Status> {
    let mut capabilities = Capabilities::default().pod_annotations(&config.annotations);
    let mappings = port_mappings(&config.port_mappings)?;
    if !mappings.is_empty() {
        capabilities = capabilities.port_mappings(&mappings);
    }
    if let Some(limits) = bandwidth(&config.annotations)? {
        capabilities = capabilities.bandwidth(limits);
    }
    if let Some(DnsConfig { servers, searches, options }) = config.dns_config.clone() {
        capabilities = capabilities.dns(&Resolver { servers, searches, options });
    }
    if !cgroup_parent.is_empty() {
        capabilities = capabilities.cgroup_path(cgroup_parent);
    }
    Ok(capabilities)
}

/// A mapping without a port on the host asks for nothing.
fn port_mappings(mappings: &[CriPortMapping]) -> Result<Vec<PortMapping>, Status> {
    let asked = mappings.iter().enumerate().filter(|(_, mapping)| mapping.host_port != 0);
    asked.map(|(index, mapping)| port_mapping(index, mapping)).collect()
}

fn port_mapping(index: usize, mapping: &CriPortMapping) -> Result<PortMapping, Status> {
    let field = |name: &str| format!("config.port_mappings[{index}].{name}");
    let port = |name: &str, port: i32| {
        let good = u16::try_from(port).ok().filter(|port| *port != 0);
        good.ok_or_else(|| invalid(&field(name), format!("{port} is no port")))
    };
    let protocol = match CriProtocol::try_from(mapping.protocol) {
        Ok(CriProtocol::Tcp) => Protocol::Tcp,
        Ok(CriProtocol::Udp) => Protocol::Udp,
        Ok(CriProtocol::Sctp) => Protocol::Sctp,
        Err(_) => {
            let why = format!("{} is unknown", mapping.protocol);
            return Err(invalid(&field("protocol"), why));
        }
    };
    let host_ip = match mapping.host_ip.as_str() {
        "" => None,
        text => {
            let bad = |_| invalid(&field("host_ip"), format!("{text:?} is no IP address"));
            Some(text.parse::<IpAddr>().map_err(bad)?)
        }
    };
    Ok(PortMapping {
        host_port: port("host_port", mapping.host_port)?,
        container_port: port("container_port", mapping.container_port)?,
        protocol,
        host_ip,
    })
}

fn bandwidth(annotations: &BTreeMap<String, String>) -> Result<Option<Bandwidth>, Status> {
    let rate = |name: &str| match annotations.get(name) {
        None => Ok(0),
        Some(text) => quantity(text)
            .filter(|rate| (1_000..=1_000_000_000_000_000).contains(rate))
            .ok_or_else(|| {
                let why = format!("{text:?} is no rate between 1k and 1P bits per second");
                invalid(&format!("config.annotations[{name:?}]"), why)
            }),
    };
    let (ingress_rate, egress_rate) = (rate(INGRESS)?, rate(EGRESS)?);
    if ingress_rate == 0 && egress_rate == 0 {
        return Ok(None);
    }
    let burst = |rate| if rate == 0 { 0 } else { BURST };
    Ok(Some(Bandwidth {
        ingress_rate,
        ingress_burst: burst(ingress_rate),
        egress_rate,
        egress_burst: burst(egress_rate),
    }))
}

/// A Kubernetes quantity without fractions: `10M`, `1Gi`, `500000`.
fn quantity(text: &str) -> Option<u64> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, suffix) = text.split_at(digits);
    let factor: u64 = match suffix {
        "" => 1,
        "k" => 1_000,
        "M" => 1_000_000,
        "G" => 1_000_000_000,
        "T" => 1_000_000_000_000,
        "P" => 1_000_000_000_000_000,
        "Ki" => 1 << 10,
        "Mi" => 1 << 20,
        "Gi" => 1 << 30,
        "Ti" => 1 << 40,
        "Pi" => 1 << 50,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(factor)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mapped(container: i32, host: i32, ip: &str) -> Result<Vec<PortMapping>, Status> {
        port_mappings(&[CriPortMapping {
            protocol: CriProtocol::Udp.into(),
            container_port: container,
            host_port: host,
            host_ip: ip.into(),
        }])
    }

    #[test]
    fn ports_are_mapped_when_there_is_one_on_the_host() {
        let mapping = &mapped(53, 5353, "127.0.0.1").unwrap()[0];
        assert_eq!((mapping.container_port, mapping.host_port), (53, 5353));
        assert_eq!(mapping.host_ip, Some("127.0.0.1".parse().unwrap()));
        assert!(mapped(80, 0, "").unwrap().is_empty());
    }

    #[test]
    fn what_is_no_port_or_address_is_named() {
        for (container, host, ip, field) in [
            (0, 80, "", "container_port"),
            (65_536, 80, "", "container_port"),
            (80, -1, "", "host_port"),
            (80, 80, "localhost", "host_ip"),
        ] {
            let status = mapped(container, host, ip).unwrap_err();
            assert!(status.message().starts_with(&format!("config.port_mappings[0].{field}")));
        }
    }

    #[test]
    fn a_network_is_asked_for_all_that_the_pod_says() {
        let words = |word: &str| vec![word.to_owned()];
        let config = PodSandboxConfig {
            annotations: [(EGRESS.to_owned(), "1M".to_owned())].into(),
            dns_config: Some(DnsConfig {
                servers: words("10.0.0.10"),
                searches: words("svc"),
                options: words("ndots:5"),
            }),
            port_mappings: vec![CriPortMapping {
                container_port: 80,
                host_port: 8080,
                ..Default::default()
            }],
            ..Default::default()
        };
        let asked = capabilities(&config, "/kubepods/pod1").unwrap();
        assert_eq!(
            serde_json::json!(asked),
            serde_json::json!({
                "portMappings": [{"hostPort": 8080, "containerPort": 80, "protocol": "tcp"}],
                "bandwidth": {
                    "ingressRate": 0, "ingressBurst": 0,
                    "egressRate": 1_000_000, "egressBurst": 2_147_483_647,
                },
                "dns": {"servers": ["10.0.0.10"], "searches": ["svc"], "options": ["ndots:5"]},
                "cgroupPath": "/kubepods/pod1",
                "io.kubernetes.cri.pod-annotations": {"kubernetes.io/egress-bandwidth": "1M"},
            })
        );
    }

    #[test]
    fn bandwidth_comes_from_annotations() {
        let limits = |ingress: &str| bandwidth(&[(INGRESS.to_owned(), ingress.to_owned())].into());
        let limit = limits("10M").unwrap().unwrap();
        assert_eq!((limit.ingress_rate, limit.egress_rate), (10_000_000, 0));
        assert_eq!(limits("1Gi").unwrap().unwrap().ingress_rate, 1 << 30);
        for bad in ["", "10", "1e6", "-1M", "2000P", "1.5M"] {
            assert!(limits(bad).is_err(), "{bad:?}");
        }
        assert_eq!(bandwidth(&BTreeMap::new()).unwrap(), None);
    }
}
