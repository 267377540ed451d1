//! Attaches a network namespace to the node's network by hand, detaches it,
//! or does both many times and tells how long it takes.
//!
//! ```text
//! ip netns add pod1
//! attach add pod1 --netns /run/netns/pod1 --publish 8080:80
//! attach del pod1 --netns /run/netns/pod1
//! attach time pod1 --netns /run/netns/pod1 --rounds 50
//! attach owed
//! attach audit
//! ```

use std::collections::{BTreeMap, HashSet};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use berth_cni::{Attached, Attachment, Capabilities, Cni, PortMapping, Protocol, Settings};
use clap::{Args, Parser, Subcommand};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

#[derive(Parser)]
#[command(about = "Attaches a network namespace to the node's CNI network")]
struct Options {
    /// Directory of network configurations; may be repeated
    #[arg(long, global = true, default_value = "/etc/cni/net.d")]
    conf_dir: Vec<PathBuf>,
    /// Directory of plugins; may be repeated
    #[arg(long, global = true, default_value = "/usr/lib/cni")]
    bin_dir: Vec<PathBuf>,
    /// Where attachments are recorded
    #[arg(long, global = true, default_value = "/var/lib/cni")]
    cache_dir: PathBuf,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Attach a container and print the result
    Add(Container),
    /// Detach a container
    Del(Container),
    /// Attach and detach a container many times and print medians
    Time {
        #[command(flatten)]
        container: Container,
        /// How many times
        #[arg(long, default_value_t = 20)]
        rounds: usize,
    },
    /// Print the attachments on record
    Owed,
    /// Print what no living container owns
    Audit {
        /// Ids of the containers that live
        live: Vec<String>,
    },
}

#[derive(Args)]
struct Container {
    /// Container id
    id: String,
    /// Path of the network namespace
    #[arg(long)]
    netns: Option<PathBuf>,
    /// Interface in the container
    #[arg(long, default_value = "eth0")]
    ifname: String,
    /// TCP port of the host and of the container, as HOST:CONTAINER; may be repeated
    #[arg(long)]
    publish: Vec<String>,
}

impl Container {
    fn attachment(&self) -> Result<Attachment> {
        let ports = self.publish.iter().map(|ports| port_mapping(ports));
        let ports = ports.collect::<Result<Vec<_>>>()?;
        let attachment = Attachment::new(&self.id, &self.ifname)?
            .pod("default", &self.id, &self.id)?
            .capabilities(Capabilities::default().port_mappings(&ports));
        Ok(match &self.netns {
            Some(netns) => attachment.netns(netns)?,
            None => attachment,
        })
    }
}

fn port_mapping(ports: &str) -> Result<PortMapping> {
    let (host, container) = ports.split_once(':').context("a port mapping is HOST:CONTAINER")?;
    Ok(PortMapping {
        host_port: host.parse()?,
        container_port: container.parse()?,
        protocol: Protocol::Tcp,
        host_ip: None,
    })
}

#[tokio::main]
async fn main() -> Result<()> {
    let options = Options::parse();
    let settings = Settings {
        conf_dirs: options.conf_dir,
        bin_dirs: options.bin_dir,
        cache_dir: options.cache_dir,
        ..Settings::default()
    };
    let cni = Cni::new(settings, TaskTracker::new(), CancellationToken::new())?;
    match options.verb {
        Verb::Add(container) => println!("{}", add(&cni, &container).await?.raw),
        Verb::Del(container) => cni.del(&container.attachment()?).await?,
        Verb::Time { container, rounds } => time(&cni, &container, rounds).await?,
        Verb::Owed => {
            for owed in cni.owed().await? {
                println!("{owed:?}");
            }
        }
        Verb::Audit { live } => {
            for stray in cni.audit(HashSet::from_iter(live)).await? {
                println!("{stray}");
            }
        }
    }
    Ok(())
}

async fn add(cni: &Cni, container: &Container) -> Result<Attached> {
    let network = cni.network(Duration::from_secs(2)).await?;
    Ok(cni.add(&network, &container.attachment()?).await?)
}

async fn time(cni: &Cni, container: &Container, rounds: usize) -> Result<()> {
    let mut times: BTreeMap<String, Vec<Duration>> = BTreeMap::new();
    for _ in 0..rounds {
        let started = Instant::now();
        let attached = add(cni, container).await?;
        let took = started.elapsed();
        let plugins = attached.runs.iter().map(|run| run.took).sum();
        times.entry("add".into()).or_default().push(took);
        times.entry("add: our own share".into()).or_default().push(took.saturating_sub(plugins));
        for run in attached.runs {
            times.entry(format!("add: {}", run.plugin)).or_default().push(run.took);
        }
        let started = Instant::now();
        cni.del(&container.attachment()?).await?;
        times.entry("del".into()).or_default().push(started.elapsed());
    }
    for (what, mut times) in times {
        times.sort();
        let (least, median) = (times[0], times[times.len() / 2]);
        println!("{what:24} median {median:>10.3?}  least {least:>10.3?}");
    }
    Ok(())
}
