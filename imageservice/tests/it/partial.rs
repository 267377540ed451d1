//! Pulls that end in the middle of a large layer, and those that come after them.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use berth_imageservice::{Error, Images, Stall};

use crate::pull::request;
use crate::resume::{image, ranges, server};
use crate::support::place::assert_clean;
use crate::support::{Place, Quirk, Reply, Request, Server, TestImage};

const LENGTH: usize = 20 << 20;
const MIB: usize = 1 << 20;

/// A place in which whatever takes longer than a moment is kept.
fn place() -> Place {
    let mut place = Place::new();
    place.config.keep_partial = Duration::from_secs(1);
    place.config.stall = Stall { window: Duration::from_millis(300), floor: 1000 };
    place
}

fn parts(place: &Place) -> Vec<(PathBuf, u64)> {
    let entries = std::fs::read_dir(place.root().join("partial")).unwrap().map(Result::unwrap);
    entries.map(|entry| (entry.path(), entry.metadata().unwrap().len())).collect()
}

/// A registry that is slow, and of which nothing more comes after the first 10 MiB of the layer, as
/// long as it is broken.
async fn breaking(image: &TestImage) -> (Server, String, Arc<AtomicBool>) {
    let is_broken = Arc::new(AtomicBool::new(true));
    let broken = Arc::clone(&is_broken);
    let script = move |request: &Request, _: usize, blob: &[u8]| {
        let (from, to) = request.range(blob.len()).unwrap_or((0, blob.len()));
        let reply = Reply::part(request, blob);
        if !broken.load(Ordering::Relaxed) {
            return reply;
        }
        match (10 * MIB).checked_sub(from) {
            None | Some(0) => reply.quirk(Quirk::StallAt(0)),
            Some(left) if left < to - from => reply.quirk(Quirk::StallAt(left)),
            Some(_) => reply.quirk(Quirk::Rate(8 * MIB)),
        }
    };
    let (server, reference) = server(image, script).await;
    (server, reference, is_broken)
}

/// A pull that fails after 10 MiB.
async fn fail(images: &Images, place: &Place, reference: &str) -> u64 {
    let error = images.pull(request(reference)).await.unwrap_err();
    assert!(matches!(error, Error::Timeout { .. }), "{error}");
    assert_clean(images).await;
    let parts = parts(place);
    assert!(matches!(parts[..], [(_, length)] if length > 4 << 20), "{parts:?}");
    parts[0].1
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pull_goes_on_where_the_last_one_ended_also_after_a_restart() {
    let (image, place) = (image(LENGTH), place());
    let length = image.layers[0].packed.len();
    for is_restart in [false, true] {
        let (server, reference, is_broken) = breaking(&image).await;
        let mut images = place.open().await;
        let kept = fail(&images, &place, &reference).await;
        if is_restart {
            images.shutdown().await;
            drop(images);
            images = place.open().await;
        }
        is_broken.store(false, Ordering::Relaxed);
        let before = ranges(&server, &image).len();
        let outcome = images.pull(request(&reference)).await.unwrap();
        assert_eq!(outcome.bytes_fetched, length as u64 - kept);
        let asked = ranges(&server, &image).split_off(before);
        assert_eq!(asked, [Some((usize::try_from(kept).unwrap(), length))]);
        assert_eq!(parts(&place), [], "nothing is kept of what is whole");
        images.remove(&reference).await.unwrap();
        assert_clean(&images).await;
        images.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_left_is_no_way_around_the_registry() {
    let (image, place) = (image(LENGTH), place());
    let (_server, reference, _) = breaking(&image).await;
    let images = place.open().await;
    fail(&images, &place, &reference).await;
    let (path, _) = parts(&place).remove(0);
    let (_stricter, stricter) = server(&image, |_, _, _| Reply::status(403)).await;
    // Even if all of it is here.
    for content in [None, Some(image.layers[0].packed.clone()), Some(vec![0; 2 * LENGTH])] {
        if let Some(content) = content {
            std::fs::write(&path, content).unwrap();
        }
        let error = images.pull(request(&stricter)).await.unwrap_err();
        assert!(matches!(error, Error::Forbidden { .. }), "{error}");
        assert!(images.list().is_empty());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_spoiled_is_fetched_again() {
    let (image, place) = (image(LENGTH), place());
    let honest = |request: &Request, _: usize, blob: &[u8]| Reply::part(request, blob);
    let (server, reference) = server(&image, honest).await;
    let path = place.root().join("partial");
    let path = path.join(image.layers[0].digest().to_string().replace(':', "-"));
    let good = &image.layers[0].packed;
    let mut torn = good[..8 * MIB].to_vec();
    torn[5 * MIB..6 * MIB].fill(0);
    let images = place.open().await;
    for (case, content) in
        [("torn", torn), ("garbage", b"garbage".repeat(MIB)), ("too long", vec![1; 2 * LENGTH])]
    {
        std::fs::write(&path, content).unwrap();
        let before = ranges(&server, &image).len();
        images.pull(request(&reference)).await.unwrap_or_else(|e| panic!("{case}: {e}"));
        let asked = ranges(&server, &image).split_off(before);
        assert!(matches!(asked[0], Some((1.., _))), "{case}: {asked:?}");
        assert!(matches!(asked[1], Some((0, _))), "{case}: {asked:?}");
        assert_eq!(parts(&place), [], "{case}");
        images.remove(&reference).await.unwrap();
    }

    // What is right is not.
    std::fs::write(&path, &good[..8 * MIB]).unwrap();
    let outcome = images.pull(request(&reference)).await.unwrap();
    assert_eq!(outcome.bytes_fetched, (good.len() - 8 * MIB) as u64);
    assert_clean(&images).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_fast_or_small_is_not_kept() {
    let place = place();
    for (length, end) in [(LENGTH, 10 * MIB), (8 * MIB, 7 * MIB)] {
        let image = image(length);
        let script = move |request: &Request, _: usize, blob: &[u8]| {
            let (from, to) = request.range(blob.len()).unwrap_or((0, blob.len()));
            let left = end.saturating_sub(from);
            let quirk = if left < to - from { Quirk::StallAt(left) } else { Quirk::None };
            Reply::part(request, blob).quirk(quirk)
        };
        let (_server, reference) = server(&image, script).await;
        let images = place.open().await;
        images.pull(request(&reference)).await.unwrap_err();
        assert_eq!(parts(&place), []);
        images.shutdown().await;
    }
}

#[tokio::test]
async fn what_is_old_or_too_much_goes_at_the_next_start() {
    let place = place();
    place.open().await.shutdown().await;
    let directory = place.root().join("partial");
    for number in 0..12_u64 {
        let file = std::fs::File::create(directory.join(format!("sha256-{number}"))).unwrap();
        let hours = Duration::from_secs(number * 4 * 60 * 60);
        file.set_modified(std::time::SystemTime::now() - hours).unwrap();
    }
    let images = place.open().await;
    let mut left: Vec<_> = parts(&place).into_iter().map(|(path, _)| path).collect();
    left.sort();
    let newest: Vec<_> = (0..6).map(|number| directory.join(format!("sha256-{number}"))).collect();
    assert_eq!(left, newest, "those of the last 24 hours");
    assert_clean(&images).await;
}
