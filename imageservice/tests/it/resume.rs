//! Downloads that break, stall, or come slowly by each connection, and go on where they were.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use berth_imageservice::{Error, PullOutcome, Stall};
use tar::EntryType;

use crate::pull::request;
use crate::support::image::{Packing, TestLayer};
use crate::support::place::assert_clean;
use crate::support::tarball::Meta;
use crate::support::{Place, Quirk, Reply, Request, Server, Tarball, TestImage};

/// An image with one layer of so many bytes, which no compression makes smaller.
pub(crate) fn image(length: usize) -> TestImage {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let bytes: Vec<u8> = std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    })
    .take(length / 8)
    .flatten()
    .collect();
    let tar = Tarball::new().entry(EntryType::Regular, "f", "", &bytes, &Meta::default()).build();
    TestImage::of_layers(vec![TestLayer::new(&tar, Packing::Plain)])
}

/// A server of which each request for the layer is answered by `script`, which is told how many
/// came before.
pub(crate) async fn server(
    image: &TestImage,
    script: impl Fn(&Request, usize, &[u8]) -> Reply + Send + Sync + 'static,
) -> (Server, String) {
    let (digest, packed) = (image.layers[0].digest(), image.layers[0].packed.clone());
    let asked = AtomicUsize::new(0);
    let server = Server::scripted(move |request| {
        let is_layer = request.path.contains(digest.as_str());
        is_layer.then(|| script(request, asked.fetch_add(1, Ordering::Relaxed), &packed))
    });
    let server = server.await;
    let reference = server.add("app", "v1", image);
    (server, reference)
}

async fn pull(place: &Place, reference: &str) -> Result<PullOutcome, Error> {
    let images = place.open().await;
    let outcome = images.pull(request(reference)).await;
    assert_clean(&images).await;
    images.shutdown().await;
    outcome
}

/// The ranges of the layer that a server was asked for.
pub(crate) fn ranges(server: &Server, image: &TestImage) -> Vec<Option<(usize, usize)>> {
    let (digest, length) = (image.layers[0].digest(), image.layers[0].packed.len());
    let log = server.log();
    let asked = log.iter().filter(|request| request.path.contains(digest.as_str()));
    asked.map(|request| request.range(length)).collect()
}

#[tokio::test]
async fn a_download_goes_on_where_it_broke_at_any_byte() {
    let image = image(200_000);
    let length = image.layers[0].packed.len();
    for position in 0..20 {
        let cut = length * position / 19;
        let script = move |request: &Request, number: usize, blob: &[u8]| {
            let reply = Reply::part(request, blob);
            if number == 0 { reply.quirk(Quirk::CutAt(cut)) } else { reply }
        };
        let (server, reference) = server(&image, script).await;
        let outcome = pull(&Place::new(), &reference).await.unwrap();
        let ranges = ranges(&server, &image);
        // What was under way when the connection broke need not have been read.
        let bytes = outcome.bytes_fetched;
        assert_eq!(bytes, length as u64, "cut at {cut}: {ranges:?}");
        match (cut, &ranges[..]) {
            (cut, [None]) => assert_eq!(cut, length),
            (0, [None, None]) => {}
            (_, [None, Some((from, to))]) => assert!(*from <= cut && *to == length),
            _ => panic!("cut at {cut}: {ranges:?}"),
        }
    }
}

#[tokio::test]
async fn a_download_survives_many_breaks_that_are_far_enough_apart() {
    let image = image(6 << 20);
    let script = |request: &Request, _: usize, blob: &[u8]| {
        Reply::part(request, blob).quirk(Quirk::CutAt(512 << 10))
    };
    let (server, reference) = server(&image, script).await;
    pull(&Place::new(), &reference).await.unwrap();
    assert!(ranges(&server, &image).len() > 10);
}

#[tokio::test]
async fn hosts_without_ranges_are_heard_again_from_the_start() {
    let image = image(200_000);
    for (case, quirk) in [("broken", Quirk::CutAt(90_000)), ("stalled", Quirk::StallAt(90_000))] {
        let script = move |_: &Request, number: usize, blob: &[u8]| {
            if number == 0 { Reply::ok(blob).quirk(quirk) } else { Reply::ok(blob) }
        };
        let (server, reference) = server(&image, script).await;
        let mut place = Place::new();
        place.config.stall = Stall { window: Duration::from_millis(300), floor: 1000 };
        let outcome = pull(&place, &reference).await.unwrap();
        assert!(outcome.bytes_fetched > image.layers[0].packed.len() as u64, "{case}");
        assert_eq!(ranges(&server, &image).len(), 2, "{case}");
    }
}

#[tokio::test]
async fn odd_answers_to_a_range_do_no_harm() {
    let image = image(200_000);
    let part = |from: usize, to: usize, said: &str, blob: &[u8]| {
        Reply::ok(&blob[from..to]).status_of(206).header("content-range", said)
    };
    type Odd = Box<dyn Fn(usize, &[u8]) -> Reply + Send + Sync>;
    let odd: Vec<(&str, Odd)> = vec![
        ("refused", Box::new(|_, _| Reply::status(416))),
        ("bad request", Box::new(|_, _| Reply::status(400))),
        ("unsaid", Box::new(|from, blob| Reply::ok(&blob[from..]).status_of(206))),
        (
            "from the start",
            Box::new(move |_, blob| {
                part(0, blob.len(), &format!("bytes 0-{}/{}", blob.len() - 1, blob.len()), blob)
            }),
        ),
        (
            "a little",
            Box::new(move |from, blob| {
                let to = blob.len().min(from + 30_000);
                part(from, to, &format!("bytes {from}-{}/*", to - 1), blob)
            }),
        ),
        ("elsewhere", Box::new(move |_, blob| part(9, 20, "bytes 9-19/*", blob))),
        (
            "no end",
            Box::new(move |from, blob| {
                part(from, blob.len(), &format!("bytes {from}-18446744073709551615/*"), blob)
            }),
        ),
    ];
    for (case, odd) in odd {
        let script =
            move |request: &Request, number: usize, blob: &[u8]| match request.range(blob.len()) {
                _ if number == 0 => Reply::ok(blob).quirk(Quirk::CutAt(90_000)),
                Some((from, _)) => odd(from, blob),
                None => Reply::ok(blob),
            };
        let (_server, reference) = server(&image, script).await;
        pull(&Place::new(), &reference).await.unwrap_or_else(|e| panic!("{case}: {e}"));
    }
}

#[tokio::test]
async fn a_part_of_something_else_is_found_out() {
    let image = image(200_000);
    for (case, reply) in [
        (
            "other bytes",
            Reply::ok([7; 50_000]).header("content-range", "bytes 150000-199999/200000"),
        ),
        ("another size", Reply::ok("x").header("content-range", "bytes 90000-90000/90001")),
    ] {
        let script = move |request: &Request, number: usize, blob: &[u8]| {
            let Some((from, to)) = request.range(blob.len()) else {
                return Reply::ok(blob).quirk(Quirk::CutAt(if number == 0 { 90_000 } else { 0 }));
            };
            if case == "another size" {
                return reply.clone().status_of(206);
            }
            let range = format!("bytes {from}-{}/{}", to - 1, blob.len());
            Reply::ok(vec![7; to - from]).status_of(206).header("content-range", range)
        };
        let (_server, reference) = server(&image, script).await;
        let error = pull(&Place::new(), &reference).await.expect_err(case);
        let is_told = matches!(error, Error::DigestMismatch { .. } | Error::SizeMismatch { .. });
        assert!(is_told, "{case}: {error}");
    }
}

#[tokio::test]
async fn an_answer_that_only_its_connection_ends_may_be_a_broken_one() {
    let image = image(200_000);
    let script = |request: &Request, number: usize, blob: &[u8]| match number {
        0 => Reply::ok(blob).quirk(Quirk::Unframed(90_000)),
        _ => Reply::part(request, blob),
    };
    let (server, reference) = server(&image, script).await;
    pull(&Place::new(), &reference).await.unwrap();
    let ranges = ranges(&server, &image);
    assert_eq!(ranges[1], Some((90_000, image.layers[0].packed.len())), "{ranges:?}");
}

/// Two hosts, each with a script for the layer; the second is the registry.
async fn mirrored(
    image: &TestImage,
    mirror: impl Fn(&Request, usize, &[u8]) -> Reply + Send + Sync + 'static,
    registry: impl Fn(&Request, usize, &[u8]) -> Reply + Send + Sync + 'static,
) -> (Place, Server, Server) {
    let ((mirror, _), (registry, _)) = (server(image, mirror).await, server(image, registry).await);
    let mut place = Place::new();
    place.config.stall = Stall { window: Duration::from_millis(500), floor: 10_000 };
    let file =
        format!("server = \"http://{}\"\n[host.\"http://{}\"]\n", registry.address, mirror.address);
    place.hosts("upstream.invalid/hosts.toml", &file);
    (place, mirror, registry)
}

const MIRRORED: &str = "upstream.invalid/app:v1";

#[tokio::test]
async fn the_registry_goes_on_where_a_mirror_was_too_slow() {
    let image = image(200_000);
    let length = image.layers[0].packed.len();
    for quirk in [Quirk::StallAt(90_000), Quirk::Rate(4_000), Quirk::CutAt(90_000)] {
        let slow =
            move |request: &Request, _: usize, blob: &[u8]| Reply::part(request, blob).quirk(quirk);
        let honest = |request: &Request, _: usize, blob: &[u8]| Reply::part(request, blob);
        let (place, mirror, registry) = mirrored(&image, slow, honest).await;
        let images = place.open().await;
        let outcome = images.pull(request(MIRRORED)).await.unwrap();
        assert_eq!(outcome.bytes_fetched, length as u64, "{quirk:?}");
        let from_registry = ranges(&registry, &image);
        assert!(matches!(from_registry[..], [Some((1.., _))]), "{quirk:?}: {from_registry:?}");

        // In the next minute nobody asks a mirror that was slow.
        let before = mirror.log().len();
        images.remove(MIRRORED).await.unwrap();
        images.pull(request(MIRRORED)).await.unwrap();
        let is_left_alone = mirror.log().len() == before;
        assert_eq!(is_left_alone, !matches!(quirk, Quirk::CutAt(_)), "{quirk:?}");
        assert_clean(&images).await;
    }
}

#[tokio::test]
async fn a_mirror_that_went_wrong_halfway_is_found_out_and_left() {
    let image = image(200_000);
    let lies = |_: &Request, _: usize, blob: &[u8]| {
        let mut wrong = blob.to_vec();
        wrong[10_000] ^= 1;
        Reply::ok(wrong).quirk(Quirk::CutAt(90_000))
    };
    let honest = |request: &Request, _: usize, blob: &[u8]| Reply::part(request, blob);
    let (place, mirror, registry) = mirrored(&image, lies, honest).await;
    pull(&place, MIRRORED).await.unwrap();
    assert_eq!(ranges(&mirror, &image).len(), 1);
    assert!(matches!(ranges(&registry, &image)[..], [Some(_), None]));
}

#[tokio::test]
async fn many_pulls_wait_for_a_dead_mirror_once() {
    // Nobody listens, but the port is ours.
    let dead = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = dead.local_addr().unwrap();
    drop(dead);
    let image = TestImage::small("x");
    let registry = Server::start().await;
    let place = Place::new();
    let file = format!("server = \"http://{}\"\n[host.\"http://{address}\"]\n", registry.address);
    place.hosts("upstream.invalid/hosts.toml", &file);
    registry.add("app", "v1", &image);
    let images = place.open().await;
    images.pull(request(MIRRORED)).await.unwrap();

    // It lives again, but nobody knows until its minute is over.
    let alive = tokio::net::TcpListener::bind(address).await.unwrap();
    images.remove(MIRRORED).await.unwrap();
    let pull = async { images.pull(request(MIRRORED)).await.unwrap() };
    tokio::select! {
        _ = alive.accept() => panic!("the mirror is asked within its minute"),
        _ = pull => {}
    }
}

/// As much as one connection brings in a second.
const RATE: usize = 4 << 20;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_layer_comes_by_several_connections_where_one_is_slow() {
    let image = image(40 << 20);
    let length = image.layers[0].packed.len();
    let slow = |request: &Request, _: usize, blob: &[u8]| {
        Reply::part(request, blob).quirk(Quirk::Rate(RATE))
    };
    let (server, reference) = server(&image, slow).await;
    let start = Instant::now();
    let outcome = pull(&Place::new(), &reference).await.unwrap();
    let alone = Duration::from_secs((length / RATE) as u64);
    assert!(start.elapsed() < alone * 2 / 3, "{:?} of {alone:?}", start.elapsed());
    assert_eq!(outcome.bytes_fetched, length as u64, "each byte once");
    let ranges = ranges(&server, &image);
    assert!(ranges.iter().all(Option::is_some) && ranges.len() > 8, "{ranges:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fast_registry_is_asked_for_a_large_layer_twice() {
    let image = image(40 << 20);
    let honest = |request: &Request, _: usize, blob: &[u8]| Reply::part(request, blob);
    for is_ranging in [true, false] {
        let script = move |request: &Request, number: usize, blob: &[u8]| {
            if is_ranging { honest(request, number, blob) } else { Reply::ok(blob) }
        };
        let (server, reference) = server(&image, script).await;
        let outcome = pull(&Place::new(), &reference).await.unwrap();
        assert_eq!(outcome.bytes_fetched, image.layers[0].packed.len() as u64);
        // Who is slower than whom is up to the machine; without ranges there is no choice.
        let requests = ranges(&server, &image).len();
        assert!(if is_ranging { requests >= 2 } else { requests == 1 }, "{requests}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pieces_that_break_are_fetched_again_or_come_by_one_connection() {
    let image = Arc::new(image(24 << 20));
    type Script = fn(&Request, usize, &[u8]) -> Reply;
    let scripts: [(&str, Script); 4] = [
        ("each third breaks", |request, number, blob| {
            let reply = Reply::part(request, blob).quirk(Quirk::Rate(RATE * 4));
            if number % 3 == 2 { reply.quirk(Quirk::CutAt(1 << 20)) } else { reply }
        }),
        ("ranges are forgotten", |request, number, blob| match number {
            0..3 => Reply::part(request, blob).quirk(Quirk::Rate(RATE * 4)),
            _ => Reply::ok(blob),
        }),
        ("ranges are refused", |request, number, blob| match (number, request.range(1)) {
            (3.., Some(_)) => Reply::status(416),
            (0, _) => Reply::part(request, blob).quirk(Quirk::Rate(RATE * 4)),
            _ => Reply::part(request, blob),
        }),
        ("busy", |request, number, blob| match number {
            2..6 => Reply::status(429).header("retry-after", "0"),
            _ => Reply::part(request, blob).quirk(Quirk::Rate(RATE * 4)),
        }),
    ];
    for (case, script) in scripts {
        let (_server, reference) = server(&image, script).await;
        let pulled = pull(&Place::new(), &reference).await;
        pulled.unwrap_or_else(|error| panic!("{case}: {error}"));
    }
}
