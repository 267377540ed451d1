//! Finds what stands on the node for containers that are not there any more.
//! Looks only; what to do about a stray is the caller's to decide.

use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::fs;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::cache::{Cache, Entry};
use crate::error::{Error, Result};
use crate::netlink::{self, Link};
use crate::network::{Network, Plugin};
use crate::result::Answer;
use crate::version::SpecVersion;

/// Something that no living container owns.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stray {
    /// The record of an attachment: a DEL is owed.
    Record {
        /// The file.
        path: PathBuf,
        /// The container; `None` if the file is no record.
        container_id: Option<String>,
    },
    /// An address that `host-local` has reserved.
    Address {
        /// The file that reserves it.
        path: PathBuf,
        /// The address.
        address: IpAddr,
        /// The container.
        container_id: String,
    },
    /// A virtual interface on the bridge of a network.
    Link {
        /// The interface.
        name: String,
        /// The bridge.
        bridge: String,
    },
}

impl fmt::Display for Stray {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Record { path, container_id: Some(id) } => {
                write!(f, "attachment record {} of container {id}", path.display())
            }
            Self::Record { path, container_id: None } => {
                write!(f, "{}, which is no attachment record", path.display())
            }
            Self::Address { path, address, container_id } => {
                write!(f, "address {address} of container {container_id} in {}", path.display())
            }
            Self::Link { name, bridge } => write!(f, "interface {name} on bridge {bridge}"),
        }
    }
}

/// All strays, sorted. See [`crate::Cni::audit`].
pub(crate) fn strays(
    cache: &Cache,
    configured: &[Arc<Network>],
    live: &HashSet<String>,
) -> Result<Vec<Stray>> {
    let entries = cache.all()?;
    let networks = known_networks(configured, &entries);
    let mut strays = stray_records(&entries, live);
    for dir in plugins(&networks).filter_map(|(network, plugin)| reservations(network, plugin)) {
        strays.extend(stray_addresses(&dir, live)?);
    }
    let bridges: HashSet<&str> =
        plugins(&networks).filter_map(|(_, plugin)| bridge(plugin)).collect();
    if !bridges.is_empty() {
        strays.extend(stray_links(&netlink::links()?, &bridges, &host_interfaces(&entries, live)));
    }
    strays.sort();
    strays.dedup();
    Ok(strays)
}

/// The networks of today and of the records, each configuration once.
fn known_networks(configured: &[Arc<Network>], entries: &[Entry]) -> Vec<Arc<Network>> {
    let mut known: BTreeMap<Vec<u8>, Arc<Network>> =
        configured.iter().map(|network| (network.list.clone(), network.clone())).collect();
    for record in entries.iter().filter_map(|entry| entry.record.as_ref()) {
        if !known.contains_key(&record.config)
            && let Ok(network) = Network::parse_recorded(&record.config)
        {
            known.insert(record.config.clone(), Arc::new(network));
        }
    }
    known.into_values().collect()
}

fn plugins(networks: &[Arc<Network>]) -> impl Iterator<Item = (&Network, &Plugin)> {
    networks
        .iter()
        .flat_map(|network| network.plugins.iter().map(move |plugin| (&**network, plugin)))
}

fn stray_records(entries: &[Entry], live: &HashSet<String>) -> Vec<Stray> {
    let stray = |entry: &Entry| {
        let container_id = entry.record.as_ref().map(|record| record.container_id.clone());
        let owned = container_id.as_ref().is_some_and(|id| live.contains(id));
        (!owned).then(|| Stray::Record { path: entry.path.clone(), container_id })
    };
    entries.iter().filter_map(stray).collect()
}

/// Where a plugin's `host-local` keeps its reservations: a file for each
/// address, in a directory for each network.
fn reservations(network: &Network, plugin: &Plugin) -> Option<PathBuf> {
    let ipam = plugin.conf.get("ipam")?;
    if ipam.get("type")?.as_str()? != "host-local" {
        return None;
    }
    let data_dir = ipam.get("dataDir").and_then(|dir| dir.as_str()).filter(|dir| !dir.is_empty());
    Some(Path::new(data_dir.unwrap_or("/var/lib/cni/networks")).join(&network.name))
}

fn stray_addresses(dir: &Path, live: &HashSet<String>) -> Result<Vec<Stray>> {
    let failed = |source| {
        let action = "read the address reservations in";
        Error::Cache { action, path: dir.to_owned(), source }
    };
    let files = match fs::read_dir(dir) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        files => files.map_err(failed)?,
    };
    let mut strays = Vec::new();
    for file in files {
        let path = file.map_err(failed)?.path();
        // Beside the addresses stand a lock and the last address of each range.
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let (Ok(address), Ok(text)) = (name.parse(), fs::read_to_string(&path)) else {
            continue;
        };
        // The container, and in a second line its interface.
        let container_id = text.lines().next().unwrap_or_default().trim().to_owned();
        if !live.contains(&container_id) {
            strays.push(Stray::Address { path, address, container_id });
        }
    }
    Ok(strays)
}

/// The bridge of a plugin that has one, by the default of upstream's plugin.
fn bridge(plugin: &Plugin) -> Option<&str> {
    (plugin.kind == "bridge").then(|| {
        let name = plugin.conf.get("bridge").and_then(|name| name.as_str());
        name.filter(|name| !name.is_empty()).unwrap_or("cni0")
    })
}

/// The interfaces on the host that belong to living containers.
fn host_interfaces(entries: &[Entry], live: &HashSet<String>) -> HashSet<String> {
    let records = entries.iter().filter_map(|entry| entry.record.as_ref());
    let living = records.filter(|record| live.contains(&record.container_id));
    let answers = living
        .filter_map(|record| record.result.clone())
        .filter_map(|result| Answer::of(result, SpecVersion::V1_1_0).ok());
    let interfaces = answers.flat_map(|answer| answer.parsed.interfaces);
    interfaces
        .filter(|interface| interface.sandbox.is_empty())
        .map(|interface| interface.name)
        .collect()
}

fn stray_links(links: &[Link], bridges: &HashSet<&str>, owned: &HashSet<String>) -> Vec<Stray> {
    let bridges: BTreeMap<u32, &str> = links
        .iter()
        .filter(|link| bridges.contains(link.name.as_str()))
        .map(|link| (link.index, link.name.as_str()))
        .collect();
    let stray = |link: &Link| {
        let bridge = link.controller.and_then(|index| bridges.get(&index))?;
        (link.is_veth && !owned.contains(&link.name))
            .then(|| Stray::Link { name: link.name.clone(), bridge: (*bridge).to_owned() })
    };
    links.iter().filter_map(stray).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::cache::Record;

    fn network(data_dir: &Path) -> Network {
        let list = json!({
            "cniVersion": "1.0.0",
            "name": "pods",
            "plugins": [{"type": "ptp", "ipam": {"type": "host-local", "dataDir": data_dir}}],
        });
        Network::parse_list(list.to_string().as_bytes()).unwrap()
    }

    fn record(container_id: &str, network: &Network) -> Record {
        Record { config: network.list.clone(), ..Record::new(container_id, "pods", "eth0") }
    }

    #[test]
    fn records_and_addresses_of_the_dead_are_strays() {
        let dir = tempfile::tempdir().unwrap();
        let (cache, ipam) = (Cache::new(dir.path()), dir.path().join("networks"));
        let network = network(&ipam);
        fs::create_dir_all(ipam.join("pods")).unwrap();
        for (address, container) in
            [("10.0.0.2", "alive"), ("10.0.0.3", "dead"), ("fd00::3", "dead")]
        {
            fs::write(ipam.join("pods").join(address), format!("{container}\r\neth0")).unwrap();
        }
        fs::write(ipam.join("pods/last_reserved_ip.0"), "10.0.0.3").unwrap();
        fs::write(ipam.join("pods/lock"), "").unwrap();
        cache.create(&record("alive", &network)).unwrap();
        cache.create(&record("dead", &network)).unwrap();
        fs::write(dir.path().join("results/pods-empty-eth0"), "").unwrap();

        let live = HashSet::from(["alive".to_owned()]);
        let found = strays(&cache, &[], &live).unwrap();
        let found: Vec<_> = found.iter().map(Stray::to_string).collect();
        let dir = dir.path().display();
        assert_eq!(
            found,
            [
                format!("attachment record {dir}/results/pods-dead-eth0 of container dead"),
                format!("{dir}/results/pods-empty-eth0, which is no attachment record"),
                format!("address 10.0.0.3 of container dead in {dir}/networks/pods/10.0.0.3"),
                format!("address fd00::3 of container dead in {dir}/networks/pods/fd00::3"),
            ]
        );
    }

    #[test]
    fn nothing_on_the_node_is_nothing_stray() {
        let dir = tempfile::tempdir().unwrap();
        let networks = [Arc::new(network(&dir.path().join("networks")))];
        assert_eq!(strays(&Cache::new(dir.path()), &networks, &HashSet::new()).unwrap(), []);
    }

    #[test]
    fn only_unowned_veths_on_our_bridges_are_strays() {
        let link = |index, name: &str, is_veth, controller| Link {
            index,
            name: name.into(),
            is_veth,
            controller,
        };
        let links = [
            link(2, "cni0", false, None),
            link(3, "br-other", false, None),
            link(4, "veth-owned", true, Some(2)),
            link(5, "veth-stray", true, Some(2)),
            link(6, "eth1", false, Some(2)),
            link(7, "veth-else", true, Some(3)),
            link(8, "veth-free", true, None),
        ];
        let owned = HashSet::from(["veth-owned".to_owned()]);
        assert_eq!(
            stray_links(&links, &HashSet::from(["cni0"]), &owned),
            [Stray::Link { name: "veth-stray".into(), bridge: "cni0".into() }]
        );
    }

    #[test]
    fn the_host_interfaces_of_the_living_are_owned() {
        let result = json!({"cniVersion": "0.4.0", "interfaces": [
            {"name": "cni0"}, {"name": "veth1"}, {"name": "eth0", "sandbox": "/run/netns/a"},
        ]});
        let mut record = Record::new("alive", "pods", "eth0");
        record.result = result.as_object().cloned();
        let entries = [Entry { path: "a".into(), record: Some(record) }];
        let live = HashSet::from(["alive".to_owned()]);
        let owned = HashSet::from(["cni0".to_owned(), "veth1".to_owned()]);
        assert_eq!(host_interfaces(&entries, &live), owned);
        assert!(host_interfaces(&entries, &HashSet::new()).is_empty());
    }
}
