//! The power goes in the middle of pulls, at hundreds of moments: whatever the disk has then, the
//! daemon starts on it, every image that it lists is whole, and a pull makes good what is missing.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use berth_e2e::client::Client;
use berth_e2e::daemon::{Engine, Setup};
use berth_e2e::fault::power::{RecordedDisk, Recording};
use berth_e2e::image::{Compression, Entry, Image, Layer};
use berth_e2e::place::{self, Place};
use berth_e2e::registry::scripted::Scripted;

/// At how many moments the power goes, unless `E2E_CUTS` says another number.
const CUTS: usize = 220;
const IMAGES: usize = 6;
const DISK: u64 = 24 << 20;

/// Images that share a layer, and the content of each of their files, whose names are unique.
struct Stock {
    registry: Scripted,
    files: BTreeMap<String, Vec<u8>>,
    /// By reference, the files that the image has.
    images: BTreeMap<String, BTreeSet<String>>,
}

impl Stock {
    async fn new() -> Result<Self> {
        let registry = Scripted::start().await?;
        let mut stock = Self { registry, files: BTreeMap::new(), images: BTreeMap::new() };
        for number in 0..IMAGES {
            let mut names = BTreeSet::new();
            let base = stock.layer("base", &mut names);
            let own = stock.layer(&format!("own{number}"), &mut names);
            let top = Layer::new().with(Entry::file(&format!("deep/{number}/in"), []));
            let image = Image::from_scratch().layer(base).layer(own).layer(top);
            let image = image.compression(Compression::Gzip).build()?;
            let reference = stock.registry.add(&format!("image{number}:1"), &image)?;
            stock.images.insert(reference, names);
        }
        Ok(stock)
    }

    /// A dozen files, the larger ones of several blocks, none like the other.
    fn layer(&mut self, name: &str, names: &mut BTreeSet<String>) -> Layer {
        (0..12_usize).fold(Layer::new().with(Entry::dir(name)), |layer, file| {
            let name = format!("{name}-{file}");
            let line = format!("{name} is whole\n");
            let content = line.repeat(1 + file * file * 8).into_bytes();
            let path = format!("{}/{name}", name.rsplit_once('-').map_or("", |(dir, _)| dir));
            let layer = layer.with(Entry::file(&path, content.clone()));
            self.files.insert(name.clone(), content);
            names.insert(name);
            layer
        })
    }

    /// Every file in a layer is whole, and every image that is listed has all of its own.
    fn check(&self, root: &Path, listed: &[String]) -> Result<()> {
        let mut seen = BTreeSet::new();
        for layer in fs::read_dir(root.join("images/layers"))? {
            self.walk(&layer?.path().join("fs"), &mut seen)?;
        }
        for reference in listed {
            let files = self.images.get(reference).with_context(|| format!("{reference}?"))?;
            let missing: Vec<_> = files.difference(&seen).collect();
            ensure!(missing.is_empty(), "{reference} is listed and lacks {missing:?}");
        }
        Ok(())
    }

    fn walk(&self, dir: &Path, seen: &mut BTreeSet<String>) -> Result<()> {
        // What nobody uses may just be going.
        let Ok(entries) = fs::read_dir(dir) else { return Ok(()) };
        for entry in entries {
            let path = entry?.path();
            if path.is_dir() {
                self.walk(&path, seen)?;
                continue;
            }
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let (Some(expected), Ok(found)) = (self.files.get(&name), fs::read(&path)) else {
                continue;
            };
            ensure!(found == *expected, "{} is {} bytes", path.display(), found.len());
            seen.insert(name);
        }
        Ok(())
    }
}

async fn listed(client: &Client) -> Result<Vec<String>> {
    let images = client.list_images().await?;
    Ok(images.into_iter().flat_map(|image| image.repo_tags).collect())
}

/// Pulls everything, some of it twice, while the disk is recorded.
async fn record(place: &Place, stock: &Stock) -> Result<Recording> {
    let disk = RecordedDisk::ext4(place, DISK)?;
    let setup = Setup::new(Engine::Berthd).name("recorder").root(&disk.dir());
    let mut daemon = setup.start(place).await?;
    let client = daemon.client().await?;
    disk.mark("pulls")?;
    for round in ["first", "again"] {
        for (number, reference) in stock.images.keys().enumerate() {
            disk.mark(&format!("{round}-pull-of-{number}"))?;
            client.pull(reference).await?;
        }
        if round == "first" {
            for (number, reference) in stock.images.keys().enumerate() {
                disk.mark(&format!("removal-of-{number}"))?;
                client.remove_image(reference).await?;
            }
        }
    }
    daemon.kill().await?;
    disk.recording()
}

/// Starts on what is left after a cut, and looks at it.
async fn after_a_cut(place: &Place, stock: &Stock, number: usize, disk: &Path) -> Result<usize> {
    let mounted = place.dir("cut")?;
    run(Command::new("mount").args(["-o", "loop"]).arg(disk).arg(&mounted))?;
    let mut daemon =
        Setup::new(Engine::Berthd).name("cut-daemon").root(&mounted).start(place).await?;
    let client = daemon.client().await?;
    let found = listed(&client).await?;
    stock.check(&mounted, &found)?;
    let set_aside = fs::read_dir(mounted.join("images/quarantine"))?.count();
    ensure!(set_aside == 0, "{set_aside} objects were set aside");
    // Each in its turn, and now and then all of them.
    for (index, reference) in stock.images.keys().enumerate() {
        if number.is_multiple_of(20) || index == number % IMAGES {
            client.pull(reference).await.with_context(|| format!("pull {reference}"))?;
        }
    }
    stock.check(&mounted, &listed(&client).await?)?;
    daemon.kill().await?;
    run(Command::new("umount").arg(&mounted))?;
    Ok(found.len())
}

#[test]
fn a_power_cut_at_any_moment_of_a_pull_leaves_whole_images() {
    place::full_machine_within(Duration::from_secs(25 * 60), async |place| {
        let stock = Stock::new().await?;
        let recording = record(&place, &stock).await?;
        let first = recording.marked("pulls").context("the first mark")?;
        let moments = recording.len() - first;
        let cuts = std::env::var("E2E_CUTS").map_or(Ok(CUTS), |number| number.parse())?;
        assert!(moments >= cuts, "{moments} writes are too few");
        let disk = place.scratch().join("cut.img");
        let mut counts = BTreeSet::new();
        for number in 0..cuts {
            let moment = first + 1 + number * (moments - 1) / cuts;
            fs::write(&disk, recording.cut(moment))?;
            let images = after_a_cut(&place, &stock, number, &disk).await.with_context(|| {
                let during = recording.mark_before(moment);
                format!(
                    "cut {number}, after write {moment} of {}, in the {during}",
                    recording.len()
                )
            })?;
            counts.insert(images);
        }
        println!("{cuts} cuts among {moments} writes; images then: {counts:?}");
        // Or all of this has shown nothing.
        assert!(counts.contains(&0) && counts.contains(&IMAGES), "{counts:?}");
        Ok(())
    });
}

fn run(command: &mut Command) -> Result<()> {
    let output = command.output().with_context(|| format!("start {command:?}"))?;
    ensure!(output.status.success(), "{command:?}: {output:?}");
    Ok(())
}
