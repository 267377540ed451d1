//! CNI networks made of Debian's own plugins, and plugins that fail on purpose.
//!
//! Owns the conflist and the directory of plugins that a daemon is pointed at; both are private
//! to the test, as is the network namespace in which the bridge appears.

mod fault;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::place::{Place, needs};

pub use fault::{Fault, Gate, When};

/// What a network is to be.
#[derive(Debug, Clone)]
pub struct Setup {
    name: String,
    subnet: String,
    masquerade: bool,
    ports: bool,
    faults: Vec<Fault>,
    more: Vec<Value>,
}

/// A bridge `e2e<number>` with addresses from `10.88.<number>.0/24`, by the plugins bridge and
/// host-local. Networks of one place need different numbers.
pub fn bridge(number: u8) -> Setup {
    Setup {
        name: format!("e2e{number}"),
        subnet: format!("10.88.{number}.0/24"),
        masquerade: false,
        ports: false,
        faults: Vec::new(),
        more: Vec::new(),
    }
}

impl Setup {
    /// Lets pods speak to the outside under the node's address (iptables rules by bridge).
    pub fn masquerade(mut self) -> Self {
        self.masquerade = true;
        self
    }

    /// Publishes ports of pods on the node, by the plugin portmap.
    pub fn port_mappings(mut self) -> Self {
        self.ports = true;
        self
    }

    /// Takes addresses from `subnet`, such as `10.88.1.0/29`.
    pub fn subnet(mut self, subnet: &str) -> Self {
        self.subnet = subnet.to_owned();
        self
    }

    /// Puts a fault in front of one of the plugins.
    pub fn fault(mut self, fault: Fault) -> Self {
        self.faults.push(fault);
        self
    }

    /// Chains another plugin's configuration behind.
    pub fn chain(mut self, plugin: Value) -> Self {
        self.more.push(plugin);
        self
    }

    /// Writes the conflist and fills the plugin directory.
    pub fn install(self, place: &Place) -> Result<Network> {
        let network = Network {
            conf_dir: place.dir(&format!("{}/net.d", self.name))?,
            bin_dir: place.dir(&format!("{}/bin", self.name))?,
            bridge: self.name.clone(),
            conflist: self.conflist().to_string(),
        };
        link_plugins(&network.bin_dir)?;
        for fault in &self.faults {
            network.inject(fault)?;
        }
        network.publish()?;
        Ok(network)
    }

    fn conflist(&self) -> Value {
        let mut plugins = vec![json!({
            "type": "bridge",
            "bridge": self.name,
            "isGateway": true,
            "ipMasq": self.masquerade,
            "ipam": {
                "type": "host-local",
                "ranges": [[{ "subnet": self.subnet }]],
                "routes": [{ "dst": "0.0.0.0/0" }],
            },
        })];
        if self.ports {
            plugins.push(json!({ "type": "portmap", "capabilities": { "portMappings": true } }));
        }
        plugins.extend(self.more.iter().cloned());
        json!({ "cniVersion": "1.0.0", "name": self.name, "plugins": plugins })
    }
}

/// A network that daemons can be pointed at.
#[derive(Debug, Clone)]
pub struct Network {
    /// Where the conflist lies.
    pub conf_dir: PathBuf,
    /// Where the plugins lie.
    pub bin_dir: PathBuf,
    /// The name of the bridge and of the network.
    pub bridge: String,
    /// What the conflist says when nothing is wrong with it.
    pub conflist: String,
}

impl Network {
    /// A network without any configuration yet: a node on which no CNI has been installed.
    pub fn none(place: &Place) -> Result<Self> {
        let (conf_dir, bin_dir) = (place.dir("no-cni/net.d")?, place.dir("no-cni/bin")?);
        link_plugins(&bin_dir)?;
        Ok(Self { conf_dir, bin_dir, bridge: String::new(), conflist: String::new() })
    }

    /// Writes the right conflist.
    pub fn publish(&self) -> Result<()> {
        self.write_conf(&self.conflist)
    }

    /// Takes the conflist away.
    pub fn withdraw(&self) -> Result<()> {
        let conf = self.conf();
        std::fs::remove_file(&conf).with_context(|| format!("remove {}", conf.display()))
    }

    /// Replaces the conflist by `text`, whatever it says, in one rename.
    pub fn write_conf(&self, text: &str) -> Result<()> {
        let (new, conf) = (self.conf_dir.join("new"), self.conf());
        std::fs::write(&new, text)
            .and_then(|()| std::fs::rename(&new, &conf))
            .with_context(|| format!("write {}", conf.display()))
    }

    fn conf(&self) -> PathBuf {
        self.conf_dir.join("10-e2e.conflist")
    }

    /// Puts a fault in front of one of the plugins, from the next call on; an earlier fault of
    /// the same plugin is gone then.
    pub fn inject(&self, fault: &Fault) -> Result<()> {
        self.mend(fault.plugin())?;
        fault.install(&self.bin_dir)
    }

    /// Removes a plugin.
    pub fn lose(&self, plugin: &str) -> Result<()> {
        std::fs::remove_file(self.bin_dir.join(plugin)).with_context(|| format!("remove {plugin}"))
    }

    /// Puts a plugin right that is faulty or lost.
    pub fn mend(&self, plugin: &str) -> Result<()> {
        // It may be lost already.
        let _ = self.lose(plugin);
        link_plugins(&self.bin_dir)
    }

    /// The addresses that host-local has given away, each with the id of its container.
    pub fn addresses(&self) -> Result<BTreeMap<String, String>> {
        let dir = Path::new("/var/lib/cni/networks").join(&self.bridge);
        let Ok(entries) = std::fs::read_dir(&dir) else { return Ok(BTreeMap::new()) };
        let mut addresses = BTreeMap::new();
        for entry in entries.flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            if name.parse::<IpAddr>().is_ok() {
                let text = std::fs::read_to_string(entry.path())
                    .with_context(|| format!("read the address {name}"))?;
                addresses.insert(name, text.lines().next().unwrap_or_default().to_owned());
            }
        }
        Ok(addresses)
    }
}

/// Makes every one of Debian's plugins available in `dir`, each by a symlink that a fault may
/// replace.
fn link_plugins(dir: &Path) -> Result<()> {
    // Not "bridge": iproute2 has a program of that name too.
    let plugin = needs::program("host-local")?;
    let plugins = plugin.parent().context("the directory of the plugins")?;
    for plugin in std::fs::read_dir(plugins).context("list the CNI plugins")?.flatten() {
        let link = dir.join(plugin.file_name());
        if !link.exists() {
            symlink(plugin.path(), &link).with_context(|| format!("link {}", link.display()))?;
        }
    }
    Ok(())
}
