//! Measuring engines side by side: the same operations, in the same place, in the same run,
//! turn by turn, so that whatever else the machine does falls on all alike. Ratios between the
//! engines of one run mean something; absolute figures hold for one machine only.

mod bundles;
mod lifecycle;
mod limits;
mod memory;
mod meter;
mod pull;
mod pulls;
mod samples;
mod steps;
mod table;

use std::time::Duration;

use anyhow::{Context, Result};

use crate::client::Client;
use crate::daemon::{Daemon, Engine, Setup};
use crate::image::Image;
use crate::network;
use crate::place::Place;
use crate::registry::Registry;

pub use bundles::{BundlePlan, run_bundles};
pub use pulls::{PullPlan, PullReport, run_pulls};
pub use samples::Samples;
pub use steps::Steps;
pub use table::{Row, Table, Unit};

/// What is measured, and how often.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The engines, ours first: ratios are against the first.
    pub engines: Vec<Engine>,
    /// Pod lifecycles that count, for each engine and network.
    pub rounds: usize,
    /// Pod lifecycles before them that do not count.
    pub warm_ups: usize,
    /// Pulls of the large image, for each engine; each pull is of another image.
    pub pulls: usize,
    /// Content of the large image, in MB.
    pub image_megabytes: usize,
    /// Pods at the same time when memory is measured.
    pub resident_pods: usize,
    /// Runs pods under the default seccomp profile.
    pub seccomp: bool,
    /// Quiet time between two lifecycles. Real nodes are idle most of the time, and the kernel
    /// is slower at some things when it has been.
    pub gap: Duration,
}

/// Which network a pod is on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Network {
    Host,
    Bridge,
}

/// Where berthd tells its metrics, in the network of the place.
const METRICS: &str = "127.0.0.1:9810";

/// One engine, ready to be measured.
struct Contender {
    daemon: Daemon,
    client: Client,
    image: String,
}

/// Measures, and answers the table, and where berthd's time went if it is among the engines.
pub async fn run(place: &Place, plan: &Plan) -> Result<(Table, Option<Steps>)> {
    let registry = Registry::start(place).await?;
    let image = registry.push("busybox:1", &Image::busybox()?.build()?).await?;
    let mut contenders = Vec::new();
    for (number, engine) in (1..).zip(&plan.engines) {
        contenders.push(Contender::start(place, &registry, engine, number, &image).await?);
    }
    let mut table = Table::new(plan.engines.iter().map(Engine::name));
    for network in [Network::Host, Network::Bridge] {
        lifecycle::measure(plan, &contenders, network, &mut table).await?;
    }
    let mut steps = None;
    if plan.engines.contains(&Engine::Berthd) {
        steps = Some(Steps::read(METRICS).await?);
    }
    memory::measure(plan, &mut contenders, &mut table).await?;
    pull::measure(plan, &contenders, &registry, &mut table).await?;
    Ok((table, steps))
}

impl Contender {
    async fn start(
        place: &Place,
        registry: &Registry,
        engine: &Engine,
        number: u8,
        image: &str,
    ) -> Result<Self> {
        // Images on the machine's disk, as on a node, and not in the memory of the place.
        let name = format!("{}{number}", engine.name());
        let root = place.disk().join(&name);
        let network = network::bridge(number).masquerade().port_mappings().install(place)?;
        let mut setup =
            Setup::new(engine.clone()).name(&name).network(&network).root(&root).quiet();
        if *engine == Engine::Berthd {
            setup = setup.config(&format!("[metrics]\nlisten = \"{METRICS}\"\n"));
        }
        let daemon = setup
            .host(registry.host(), registry.upstream())
            .start(place)
            .await
            .with_context(|| format!("start {}", engine.name()))?;
        let client = daemon.client().await?;
        client.pull(image).await.with_context(|| format!("pull {image}"))?;
        Ok(Self { daemon, client, image: image.to_owned() })
    }
}
