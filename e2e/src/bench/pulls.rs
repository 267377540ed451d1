//! Pulls of every size, beside a peer: how long, how much of the processor, of memory, of the
//! disk. Behind them what is asked of an engine that has many images.
//!
//! Each round starts the engines on new directories, and nothing is deleted before the end: ext4
//! is several times slower at creating files when many have just been deleted, which would measure
//! the deletion.

use std::fmt;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::limits::Limits;
use super::meter::{Cost, Meter};
use super::{Table, Unit};
use crate::daemon::{Daemon, Engine, Setup};
use crate::image::{Bulk, Compression, Entry, Image, Layer, Prose};
use crate::place::Place;
use crate::registry::Registry;

/// What is measured, and how often.
#[derive(Debug, Clone)]
pub struct PullPlan {
    /// The engines, ours first: ratios are against the first.
    pub engines: Vec<Engine>,
    /// Pulls of each large image, for each engine.
    pub rounds: usize,
    /// Content of the image of many files, in MiB; measured as gzip and as zstd. 0 for none.
    pub distribution: usize,
    /// Content of the image of one layer of large files, in MiB; 0 for none.
    pub model: usize,
    /// Images of five small layers.
    pub small: usize,
    /// Images of which there is a list.
    pub listed: usize,
}

/// All that was measured.
#[derive(Debug)]
pub struct PullReport {
    table: Table,
    limits: Limits,
    notes: Vec<String>,
}

struct Bench<'a> {
    place: &'a Place,
    plan: &'a PullPlan,
    registry: Registry,
    daemons: usize,
    table: Table,
    notes: Vec<String>,
}

/// How often something short is measured.
const REPEATED: usize = 30;
/// A moment for the kernel to write back what is dirty of what it did before.
const SETTLE: Duration = Duration::from_secs(1);

/// Measures all that `plan` asks for.
pub async fn run_pulls(place: &Place, plan: &PullPlan) -> Result<PullReport> {
    let limits = Limits::measure(place.disk())?;
    let registry = Registry::start(place).await?;
    let table = Table::new(plan.engines.iter().map(Engine::name));
    let mut bench = Bench { place, plan, registry, daemons: 0, table, notes: Vec::new() };
    let distribution = Bulk::distribution(plan.distribution << 20);
    if plan.distribution > 0 {
        bench.bulk("gzip", distribution).await?;
        bench.bulk("zstd", distribution.compression(Compression::Zstd)).await?;
    }
    if plan.model > 0 {
        bench.bulk("one layer", Bulk::model(plan.model << 20)).await?;
    }
    if plan.small > 0 {
        bench.small().await?;
    }
    if plan.listed > 0 {
        bench.listed().await?;
    }
    Ok(PullReport { table: bench.table, limits, notes: bench.notes })
}

impl Bench<'_> {
    /// Pulls one large image in every round.
    async fn bulk(&mut self, what: &str, bulk: Bulk) -> Result<()> {
        let name = format!("{}:1", what.replace(' ', "-"));
        let image = bulk.build()?;
        let packed: usize = image.layers.iter().map(|layer| layer.bytes.len()).sum();
        self.notes.push(format!(
            "{what}: {} layers, {} files, {} MB, packed {} MB",
            image.layers.len(),
            bulk.files(),
            bulk.allocated() / 1_000_000,
            packed / 1_000_000
        ));
        let reference = self.registry.push(&name, &image).await?;
        drop(image);
        for round in 0..self.plan.rounds {
            for engine in self.turns(round) {
                let mut daemon = self.start(engine).await?;
                let client = daemon.client().await?;
                let cost = metered(&mut daemon, async || {
                    client.pull(&reference).await.context("pull a large image").map(drop)
                })
                .await?;
                self.record(what, engine, bulk.allocated(), cost);
                self.repeat(&format!("{what}: pull again"), engine, async || {
                    client.pull(&reference).await.context("pull again").map(drop)
                })
                .await?;
                daemon.terminate().await?;
            }
        }
        Ok(())
    }

    fn record(&mut self, what: &str, engine: usize, bytes: usize, cost: Cost) {
        let mut push = |name: &str, unit, value| {
            self.table.push(&format!("{what}: {name}"), unit, engine, value);
        };
        push("time", Unit::Milliseconds, cost.seconds * 1e3);
        push("processor time", Unit::Milliseconds, cost.cpu_seconds * 1e3);
        push("time for a GB unpacked", Unit::Milliseconds, cost.seconds * 1e12 / bytes as f64);
        push("peak memory", Unit::Kibibytes, cost.peak as f64);
        push("written, of unpacked", Unit::Count, cost.written as f64 / bytes as f64);
    }

    /// Pulls many images of five small layers, of which they share some.
    async fn small(&mut self) -> Result<()> {
        let mut references = Vec::new();
        for number in 0..self.plan.small {
            let image = small(number)?;
            references.push(self.registry.push(&format!("small{number}:1"), &image).await?);
        }
        let what = format!("{} small images", references.len());
        for round in 0..self.plan.rounds {
            for engine in self.turns(round) {
                let mut daemon = self.start(engine).await?;
                let client = daemon.client().await?;
                let cost = metered(&mut daemon, async || {
                    for reference in &references {
                        client.pull(reference).await.context("pull a small image")?;
                    }
                    Ok(())
                })
                .await?;
                let table = &mut self.table;
                table.push(&what, Unit::Milliseconds, engine, cost.seconds * 1e3);
                let cpu = format!("{what}: processor time");
                table.push(&cpu, Unit::Milliseconds, engine, cost.cpu_seconds * 1e3);
                let peak = format!("{what}: peak memory");
                table.push(&peak, Unit::Kibibytes, engine, cost.peak as f64);
                daemon.terminate().await?;
            }
        }
        Ok(())
    }

    /// Lists many images.
    async fn listed(&mut self) -> Result<()> {
        let count = self.plan.listed;
        let mut references = Vec::new();
        for number in 0..count {
            let layer = Layer::new().with(Entry::file("file", "content"));
            let image = Image::from_scratch().layer(layer).label("number", &number.to_string());
            references
                .push(self.registry.push(&format!("listed{number}:1"), &image.build()?).await?);
        }
        for engine in 0..self.plan.engines.len() {
            let mut daemon = self.start(engine).await?;
            let client = daemon.client().await?;
            for reference in &references {
                client.pull(reference).await.context("pull a tiny image")?;
            }
            self.repeat(&format!("ListImages of {count}"), engine, async || {
                let listed = client.list_images().await?.len();
                anyhow::ensure!(listed >= count, "{listed} images instead of {count}");
                Ok(())
            })
            .await?;
            daemon.terminate().await?;
        }
        Ok(())
    }

    async fn repeat<W>(&mut self, name: &str, engine: usize, work: W) -> Result<()>
    where
        W: AsyncFn() -> Result<()>,
    {
        for _ in 0..REPEATED {
            let start = Instant::now();
            work().await?;
            let time = start.elapsed().as_secs_f64() * 1e3;
            self.table.push(name, Unit::Milliseconds, engine, time);
        }
        Ok(())
    }

    /// The engines, another one first in each round.
    fn turns(&self, round: usize) -> impl Iterator<Item = usize> + use<> {
        let count = self.plan.engines.len();
        (0..count).map(move |turn| (round + turn) % count)
    }

    /// Starts an engine on directories that are new, on the machine's disk.
    async fn start(&mut self, engine: usize) -> Result<Daemon> {
        self.daemons += 1;
        let engine = &self.plan.engines[engine];
        let name = format!("{}{}", engine.name(), self.daemons);
        let root = self.place.disk().join(&name);
        let setup = Setup::new(engine.clone()).name(&name).root(&root).quiet();
        let setup = setup.host(self.registry.host(), self.registry.upstream());
        setup.start(self.place).await.with_context(|| format!("start {}", engine.name()))
    }
}

/// Measures `work` of a daemon, when the disk has nothing else to do any more.
async fn metered<W>(daemon: &mut Daemon, work: W) -> Result<Cost>
where
    W: AsyncFnOnce() -> Result<()>,
{
    let pid = daemon.process()?.pid().context("the daemon's process")?.as_raw_nonzero().get();
    // What others have written must not be written back on this one's time.
    rustix::fs::sync();
    tokio::time::sleep(SETTLE).await;
    let meter = Meter::begin(pid)?;
    work().await?;
    meter.end()
}

/// Image `number` of five layers: the lower ones are shared by ever fewer images.
fn small(number: usize) -> Result<Image> {
    let layers = [("base", number % 4), ("tools", number % 10), ("runtime", number % 25)];
    let own = [("libraries", number), ("program", number)];
    let layers = layers.into_iter().chain(own).map(|(name, number)| {
        let mut prose = Prose::new(number as u64);
        let dir = format!("{name}{number}");
        (0..20).fold(Layer::new().with(Entry::dir(&dir)), |layer, file| {
            layer.with(Entry::file(&format!("{dir}/{file}"), prose.content(1_000 + 500 * file)))
        })
    });
    layers.fold(Image::from_scratch(), crate::image::ImageBuilder::layer).usual_level().build()
}

impl fmt::Display for PullReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}\n{}", self.table, self.limits)?;
        self.notes.iter().try_for_each(|note| write!(f, "\n{note}"))
    }
}
