//! T-PULL-4: many pulls at one time, of images that share layers, half of whose clients go away.

use std::time::Duration;

use anyhow::Result;
use berth_e2e::audit::{Audit, Scope};
use berth_e2e::client::Client;
use berth_e2e::daemon::{Engine, Setup};
use berth_e2e::image::{Entry, Image, Layer};
use berth_e2e::registry::scripted::{Act, Scripted};
use berth_e2e::{place, wait};
use tokio_util::task::TaskTracker;

/// Images, each pulled by four clients under two tags.
const IMAGES: usize = 8;

/// Two layers that all have, and one of its own.
fn images() -> Result<Vec<Image>> {
    let noise = |seed: u32| -> Vec<u8> {
        let words = (0..60_000_u32).map(|n| n.wrapping_mul(n ^ seed).wrapping_mul(2_654_435_761));
        words.flat_map(u32::to_le_bytes).collect()
    };
    let base = Layer::new().with(Entry::file("base", noise(1)));
    let middle = Layer::new().with(Entry::dir("etc")).with(Entry::file("etc/middle", noise(2)));
    let image = |number: usize| {
        let own = Layer::new().with(Entry::file("own", format!("image {number}")));
        let image = Image::from_scratch().layer(base.clone()).layer(middle.clone()).layer(own);
        image.env("NUMBER", &number.to_string()).build()
    };
    (0..IMAGES).map(image).collect()
}

/// One client of many; one that is impatient leaves after a while.
async fn pull(client: Client, reference: String, patience: Option<Duration>) -> Option<String> {
    let pull = client.pull(&reference);
    match patience {
        None => Some(pull.await.expect("an honest registry")),
        Some(patience) => tokio::time::timeout(patience, pull).await.ok()?.ok(),
    }
}

#[test]
fn many_clients_pull_what_others_pull_and_half_of_them_leave() {
    place::native(async |place| {
        let registry = Scripted::start().await?;
        let daemon = Setup::new(Engine::Berthd).start(&place).await?;
        let (client, audit) = (daemon.client().await?, Audit::begin(Scope::of(&daemon))?);
        let images = images()?;
        for round in 0..3_u64 {
            // What all wait for comes slowly, and breaks once.
            let shared = &images[0].layers[0].digest;
            let before = registry.gets(shared);
            registry.on_next(1, shared, Act::Reset(50_000));
            registry.on_next(1, &images[0].layers[1].digest, Act::Slow(400_000));
            let tasks = TaskTracker::new();
            let mut clients = Vec::new();
            for number in 0..IMAGES * 4 {
                let image = &images[number % IMAGES];
                let name = format!("app{}:{}", number % IMAGES, number / IMAGES % 2);
                let reference = registry.add(&name, image)?;
                let patience = Duration::from_millis(10 * (number as u64 + round));
                let patience = (number % 2 == 1).then_some(patience);
                let pulled = tasks.spawn(pull(client.clone(), reference, patience));
                clients.push((image.config.digest.clone(), pulled));
            }
            for (digest, pulled) in clients {
                if let Some(id) = pulled.await? {
                    assert_eq!(id, digest);
                }
            }
            // Pulls do not end with their clients.
            wait::until("all images are there", Duration::from_secs(20), async || {
                let listed = client.list_images().await?;
                let tags: usize = listed.iter().map(|image| image.repo_tags.len()).sum();
                Ok((listed.len() == IMAGES && tags == IMAGES * 2).then_some(()))
            })
            .await?;
            assert_eq!(
                registry.gets(shared),
                before + 2,
                "what all share comes once, in two parts"
            );
            for image in &images {
                client.remove_image(&image.config.digest).await?;
            }
            registry.be_honest();
            audit.assert_clean().await?;
        }
        Ok(())
    });
}
