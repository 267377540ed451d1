//! Networks that reset, stall and crawl: a pull goes on where it was, and one that cannot go on
//! ends in time.

use std::time::{Duration, Instant};

use anyhow::Result;
use berth_e2e::audit::{Audit, Scope};
use berth_e2e::client::{Client, Code, assert_refused};
use berth_e2e::daemon::{Daemon, Engine, Setup};
use berth_e2e::image::{Entry, Image, Layer};
use berth_e2e::place::{self, Place};
use berth_e2e::registry::scripted::{Act, Scripted};

const HASTY: &str = "version = 1\n[image]\nstall_timeout = \"2s\"\n";

/// An image of one layer with about so many bytes, which no compression makes smaller.
fn image(length: usize) -> Result<Image> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let words = std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    });
    let bytes: Vec<u8> = words.take(length / 8).flatten().collect();
    Image::from_scratch().layer(Layer::new().with(Entry::file("noise", bytes))).build()
}

async fn start(place: &Place) -> Result<(Daemon, Client, Audit)> {
    let daemon = Setup::new(Engine::Berthd).config(HASTY).start(place).await?;
    let (client, audit) = (daemon.client().await?, Audit::begin(Scope::of(&daemon))?);
    Ok((daemon, client, audit))
}

#[test]
fn a_layer_goes_on_after_a_reset_at_any_of_twenty_places() {
    place::native(async |place| {
        let registry = Scripted::start().await?;
        let (_daemon, client, audit) = start(&place).await?;
        let image = image(2 << 20)?;
        let (reference, layer) = (registry.add("app:1", &image)?, &image.layers[0]);
        for place in 0..20 {
            let at = layer.bytes.len() * place / 20;
            registry.on_next(1, &layer.digest, Act::Reset(at));
            let before = registry.seen().len();
            client.pull(&reference).await?;
            let seen = registry.seen().split_off(before);
            let asked: Vec<_> = seen.iter().filter(|it| it.path.contains(&layer.digest)).collect();
            assert_eq!(asked.len(), 2, "at {at}: {asked:?}");
            let range = asked[1].header("range").and_then(|range| range.strip_prefix("bytes="));
            let from = range.and_then(|range| range.strip_suffix('-')?.parse().ok()).unwrap_or(0);
            // A reset may overtake what was sent before it.
            assert!(from <= at, "{from} is not what was there of {at}");
            client.remove_image(&reference).await?;
        }
        audit.assert_clean().await
    });
}

#[test]
fn a_layer_goes_on_after_a_stall_also_where_ranges_are_unknown() {
    place::native(async |place| {
        let registry = Scripted::start().await?;
        let (_daemon, client, audit) = start(&place).await?;
        let image = image(1 << 20)?;
        let (reference, layer) = (registry.add("app:1", &image)?, &image.layers[0].digest);
        for knows_ranges in [true, false] {
            if !knows_ranges {
                registry.on(layer, Act::NoRanges);
            }
            registry.on_next(1, layer, Act::Stall(300_000));
            let begun = Instant::now();
            client.pull(&reference).await?;
            let took = begun.elapsed();
            assert!(took > Duration::from_secs(2) && took < Duration::from_secs(8), "{took:?}");
            client.remove_image(&reference).await?;
        }
        audit.assert_clean().await
    });
}

/// Below the floor, however steadily it drips.
#[test]
fn a_kilobyte_a_second_is_not_waited_for() {
    place::native(async |place| {
        let (slow, registry) = (Scripted::start().await?, Scripted::start().await?);
        let (daemon, client, audit) = start(&place).await?;
        let image = image(1 << 20)?;
        let reference = slow.add("team/app:1", &image)?;
        registry.add("team/app:1", &image)?;
        let layer = &image.layers[0].digest;
        slow.on(layer, Act::Slow(1_000));
        let begun = Instant::now();
        let refused = client.pull(&reference).await;
        assert_refused(refused, Code::DeadlineExceeded, &["layer sha256:", "hardly any data"]);
        assert!(begun.elapsed() < Duration::from_secs(15), "{:?}", begun.elapsed());
        assert_eq!(slow.gets(layer), 3);

        // Where there is another host, it goes on there.
        let text = format!(
            "server = \"{}\"\n[host.\"{}\"]\n",
            registry.upstream().url,
            slow.upstream().url
        );
        daemon.set_hosts("registry.test", &text)?;
        client.pull("registry.test/team/app:1").await?;
        assert_eq!((slow.gets(layer), registry.gets(layer)), (4, 1));
        client.remove_image("registry.test/team/app:1").await?;
        audit.assert_clean().await
    });
}
