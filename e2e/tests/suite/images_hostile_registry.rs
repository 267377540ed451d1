//! Registries of which every answer is a trap (T-PULL-1): each pull ends as the table says, in
//! time, in little memory, and leaves nothing; the next honest one succeeds.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use berth_e2e::audit::{Audit, Scope};
use berth_e2e::client::{Client, Code};
use berth_e2e::daemon::{Daemon, Engine, Setup};
use berth_e2e::image::{Entry, Image, Layer};
use berth_e2e::place::{self, Place};
use berth_e2e::process;
use berth_e2e::registry::scripted::{Act, Scripted};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

/// How long one case may take: five attempts with their pauses, or three stalls.
const PATIENCE: Duration = Duration::from_secs(20);
/// Memory beyond that of an honest pull, in KiB.
const MEMORY: u64 = 64 << 10;
/// Short stalls, and layers that fit into a place that lies in memory.
const CONFIG: &str = "version = 1\n[image]\nstall_timeout = \"1s\"\nmax_layer_size = \"96MiB\"\n";

/// How a pull is to end.
#[derive(Debug, Clone, Copy)]
pub(crate) enum End {
    Pulled,
    /// With this code, and these words in the message.
    Refused(Code, &'static str),
}

use Code::{
    DataLoss, DeadlineExceeded, FailedPrecondition, NotFound, ResourceExhausted, Unauthenticated,
    Unavailable,
};
use End::{Pulled, Refused};

/// A trap: what it is, how it is laid, and how it ends. It answers the reference to pull.
pub(crate) struct Case {
    name: &'static str,
    lay: Lay,
    end: End,
}

type Lay = Box<dyn Fn(&Trap) -> Result<String>>;

/// Where a trap is laid.
pub(crate) struct Trap {
    pub(crate) registry: Scripted,
    pub(crate) other: Scripted,
    /// Host and port of who speaks, and no TLS.
    plain: String,
    _tasks: JoinSet<()>,
    pub(crate) image: Image,
    pub(crate) reference: String,
}

impl Trap {
    async fn new() -> Result<Self> {
        let (registry, other) = (Scripted::start().await?, Scripted::start().await?);
        let image = usual()?;
        let reference = registry.add("trap/usual:1", &image)?;
        other.add("trap/usual:1", &image)?;
        let mut tasks = JoinSet::new();
        let plain = plain_host(&mut tasks).await?;
        Ok(Self { registry, other, plain, _tasks: tasks, image, reference })
    }

    /// Takes all traps away, and pulls.
    async fn honest_pull(&self, client: &Client) -> Result<()> {
        self.registry.be_honest();
        self.registry.add("trap/usual:1", &self.image)?;
        client.pull(&self.reference).await?;
        Ok(client.remove_image(&self.reference).await?)
    }

    /// An act for a part of the usual image.
    pub(crate) fn on(&self, path: &str, act: Act) -> Result<String> {
        let path = match path {
            "layer" => &self.image.layers[0].digest,
            "config" => &self.image.config.digest,
            path => path,
        };
        self.registry.on(path, act);
        Ok(self.reference.clone())
    }
}

/// A host that greets in plain words and hears everybody out, as mail servers do.
async fn plain_host(tasks: &mut JoinSet<()>) -> Result<String> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let host = listener.local_addr()?.to_string();
    tasks.spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            // Who hangs up has heard enough.
            drop(stream.write_all(b"220 ready\r\n").await);
            drop(tokio::io::copy(&mut stream, &mut tokio::io::sink()).await);
        }
    });
    Ok(host)
}

pub(crate) fn case(
    name: &'static str,
    end: End,
    lay: impl Fn(&Trap) -> Result<String> + 'static,
) -> Case {
    Case { name, lay: Box::new(lay), end }
}

/// An act for the tag, for the config or for the layer.
pub(crate) fn act(name: &'static str, path: &'static str, end: End, act: Act) -> Case {
    case(name, end, move |trap| trap.on(path, act.clone()))
}

pub(crate) fn fields(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect()
}

pub(crate) fn usual() -> Result<Image> {
    let bytes: Vec<u8> = (0..40_000_u32).flat_map(|n| n.wrapping_mul(n).to_le_bytes()).collect();
    Image::from_scratch().layer(Layer::new().with(Entry::file("story", bytes))).build()
}

pub(crate) async fn spring(place: &Place, cases: Vec<Case>) -> Result<()> {
    let trap = Trap::new().await?;
    let mut daemon = Setup::new(Engine::Berthd).config(CONFIG).start(place).await?;
    let (client, audit) = (daemon.client().await?, Audit::begin(Scope::of(&daemon))?);
    trap.honest_pull(&client).await?;
    let before = peak(&mut daemon)?;
    for Case { name, lay, end } in cases {
        let reference = lay(&trap).context(name)?;
        let begun = Instant::now();
        let pulled = client.pull(&reference).await;
        let took = begun.elapsed();
        match (end, pulled) {
            (Pulled, Ok(_)) => client.remove_image(&reference).await?,
            (Refused(code, words), Err(status)) => {
                let message = status.message();
                assert_eq!(status.code(), code, "{name}: {message}");
                assert!(message.contains(words) && message.len() < 4_000, "{name}: {message}");
            }
            (_, ended) => panic!("{name}: it should be {end:?}, and is {ended:?}"),
        }
        assert!(took < PATIENCE, "{name}: {took:?}");
        assert!(client.list_images().await?.is_empty(), "{name}");
        let grown = peak(&mut daemon)?.saturating_sub(before);
        assert!(grown < MEMORY, "{name}: {grown} KiB more than before");
        trap.honest_pull(&client).await.context(name)?;
        audit.assert_clean().await.context(name)?;
    }
    Ok(())
}

fn peak(daemon: &mut Daemon) -> Result<u64> {
    let pid = daemon.process()?.pid().map_or(0, |pid| pid.as_raw_nonzero().get());
    process::peak_memory(pid)
}

#[test]
fn bytes_that_are_not_the_promised_ones() {
    place::native(async |place| {
        let layer = usual()?.layers[0].bytes.to_vec();
        let half = layer[..layer.len() / 2].to_vec();
        let longer = [layer.clone(), vec![0; 1 << 20]].concat();
        let say = |bytes: &[u8]| Act::Say(200, Vec::new(), bytes.to_vec());
        let chunked = |bytes: &[u8]| Act::SayChunked(200, Vec::new(), bytes.to_vec());
        let huge = |bytes: &[u8]| {
            Act::Say(200, fields(&[("Content-Length", "1152921504606846976")]), bytes.to_vec())
        };
        let part = |range: &str| Act::Say(206, fields(&[("Content-Range", range)]), layer.clone());
        spring(
            &place,
            vec![
                act("shorter than promised", "layer", Refused(DataLoss, "bytes, got"), say(&half)),
                act("shorter, in chunks", "layer", Refused(DataLoss, "bytes, got"), chunked(&half)),
                act("longer than promised", "layer", Refused(DataLoss, "bytes, got"), say(&longer)),
                act(
                    "longer, in chunks",
                    "layer",
                    Refused(DataLoss, "bytes, got"),
                    chunked(&longer),
                ),
                act("nothing", "layer", Refused(DataLoss, "got 0"), say(b"")),
                act("an exbibyte", "layer", Refused(DataLoss, "1152921504606846976"), huge(&layer)),
                act(
                    "a manifest of an exbibyte",
                    "/manifests/1",
                    Refused(ResourceExhausted, "4194304"),
                    huge(b"{"),
                ),
                act("in chunks, honest", "/v2/", Pulled, Act::Chunked),
                act(
                    "a flipped bit of a layer",
                    "layer",
                    Refused(DataLoss, "expected digest"),
                    Act::WrongContent,
                ),
                act(
                    "a flipped bit of a config",
                    "config",
                    Refused(DataLoss, "expected digest"),
                    Act::WrongContent,
                ),
                act(
                    "a flipped bit of a manifest",
                    "/manifests/1",
                    Refused(DataLoss, "expected digest"),
                    Act::WrongContent,
                ),
                act("a config for a layer", "layer", Refused(DataLoss, "bytes, got"), say(b"{}")),
                act(
                    "a part of it that was not asked for",
                    "layer",
                    Refused(DataLoss, "part"),
                    part("bytes 7-9/*"),
                ),
                act("a part without saying which", "layer", Refused(DataLoss, "part"), part("")),
                act(
                    "no content, and proud of it",
                    "layer",
                    Refused(DataLoss, "204"),
                    Act::Status(204, Vec::new()),
                ),
            ],
        )
        .await
    });
}

#[test]
fn answers_that_are_hardly_http() {
    place::native(async |place| {
        let raw = |bytes: &[u8]| Act::Raw(bytes.to_vec());
        let big = format!("HTTP/1.1 200 OK\r\nX-Big: {}\r\n\r\n", "x".repeat(4 << 20));
        let many = format!("HTTP/1.1 200 OK\r\n{}\r\n", "A: b\r\n".repeat(100_000));
        let tag = "/manifests/1";
        spring(&place, vec![
            act("it hangs up", tag, Refused(Unavailable, "trap/usual:1"), raw(b"")),
            act("another protocol", tag, Refused(Unavailable, "trap/usual:1"), raw(b"SSH-2.0-OpenSSH\r\n")),
            act("zeros", tag, Refused(Unavailable, "trap/usual:1"), raw(&[0; 70_000])),
            act("a header of 4 MiB", tag, Refused(Unavailable, "trap/usual:1"), raw(big.as_bytes())),
            act("100,000 headers", tag, Refused(Unavailable, "trap/usual:1"), raw(many.as_bytes())),
            act("two lengths", tag, Refused(Unavailable, "trap/usual:1"), raw(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nxx")),
            act("a negative length", "layer", Refused(Unavailable, "layer sha256:"), raw(b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n")),
            act("a bad chunk", "layer", Refused(Unavailable, "layer sha256:"), raw(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\n")),
            act("no reason to be asked", tag, Refused(DataLoss, "418"), Act::Status(418, Vec::new())),
        ])
        .await
    });
}

#[test]
fn ways_that_lead_elsewhere_or_nowhere() {
    place::native(async |place| {
        let to = |status: u16, url: &str| Act::status(status, "Location", url);
        let elsewhere = |status: u16| {
            case("elsewhere", Pulled, move |trap| {
                let url = trap.other.upstream().url;
                trap.on("/blobs/", Act::Signed(status, url, "signature=s3cr3t".to_owned()))
            })
        };
        let mut cases: Vec<Case> = [301, 302, 303, 307, 308].into_iter().map(elsewhere).collect();
        cases.extend([
            case("round and round", Refused(DataLoss, "10 redirects"), |trap| {
                trap.on("/manifests/1", Act::Redirect(trap.registry.upstream().url))
            }),
            case(
                "to a host that speaks no TLS",
                Refused(FailedPrecondition, "no secure connection"),
                |trap| trap.on("layer", Act::Redirect(format!("https://{}", trap.plain))),
            ),
            case("to a host that lacks it", Refused(NotFound, "not found"), |trap| {
                trap.on("layer", Act::Redirect(format!("{}/v2/nobody", trap.other.upstream().url)))
            }),
            act("to a file", "layer", Refused(DataLoss, "redirect"), to(302, "file:///etc/shadow")),
            act(
                "to another protocol",
                "layer",
                Refused(DataLoss, "redirect"),
                to(302, "ftp://127.0.0.1/"),
            ),
            act("nowhere", "layer", Refused(DataLoss, "redirect"), Act::Status(302, Vec::new())),
            act("to no URL", "layer", Refused(DataLoss, "redirect"), to(302, "http://[::1")),
            act(
                "to where nobody is",
                "layer",
                Refused(Unavailable, "refused"),
                to(302, "http://127.0.0.1:1/"),
            ),
        ]);
        spring(&place, cases).await
    });
}

#[test]
fn questions_that_have_no_end() {
    place::native(async |place| {
        let ask = |challenge: &str| Act::status(401, "WWW-Authenticate", challenge);
        let wait = |status: u16, time: &str| Act::status(status, "Retry-After", time);
        let twice = |name, act: Act| {
            case(name, Pulled, move |trap| {
                trap.registry.on_next(2, "/v2/", act.clone());
                Ok(trap.reference.clone())
            })
        };
        let tag = "/manifests/1";
        let refused = Refused(Unauthenticated, "refuses the credentials");
        let long = format!("Bearer realm=\"http://127.0.0.1:1/{}\"", "x".repeat(90_000));
        let nobody = "Bearer realm=\"http://127.0.0.1:1/token\"";
        spring(
            &place,
            vec![
                act("401 for ever", tag, Refused(DataLoss, "token for"), Act::Unauthorized),
                act("401 without a question", tag, refused, Act::Status(401, Vec::new())),
                act("401 of an unknown kind", tag, refused, ask("Negotiate abc, Digest realm=x")),
                act("401 of nonsense", tag, refused, ask("=,\"=,,,Bearer")),
                act("401, basic, and nobody to show", tag, refused, ask("Basic realm=\"x\"")),
                act(
                    "a realm that is a file",
                    tag,
                    Refused(DataLoss, "realm"),
                    ask("Bearer realm=\"file:///etc/shadow\""),
                ),
                act(
                    "a realm that is nothing",
                    tag,
                    Refused(DataLoss, "realm"),
                    ask("Bearer realm=\"here\""),
                ),
                act("a realm where nobody is", tag, Refused(Unavailable, "token for"), ask(nobody)),
                act("a realm of 90,000 letters", tag, Refused(Unavailable, ""), ask(&long)),
                twice("429, at once", wait(429, "0")),
                twice("429, in a second", wait(429, "1")),
                twice("429, some time", wait(429, "garbage")),
                twice("429, in the past", wait(429, "Sun, 06 Nov 1994 08:49:37 GMT")),
                twice("503, then well again", Act::Status(503, Vec::new())),
                act("429, in an hour", tag, Refused(Unavailable, "429"), wait(429, "3600")),
                act(
                    "429, in 500 billion years",
                    tag,
                    Refused(Unavailable, "429"),
                    wait(429, "18446744073709551615"),
                ),
                act(
                    "429, some day",
                    tag,
                    Refused(Unavailable, "429"),
                    wait(429, "Fri, 31 Dec 9999 23:59:59 GMT"),
                ),
                act(
                    "500 for ever",
                    "layer",
                    Refused(Unavailable, "500"),
                    Act::Status(500, Vec::new()),
                ),
            ],
        )
        .await
    });
}

#[test]
fn connections_that_stall() {
    place::native(async |place| {
        let late = Refused(DeadlineExceeded, "hardly any data came");
        spring(
            &place,
            vec![
                act("a manifest that never comes", "/manifests/1", late, Act::Stall(10)),
                act("a config that never comes", "config", late, Act::Stall(0)),
                case("a layer that stalls once", Pulled, |trap| {
                    trap.registry.on_next(1, &trap.image.layers[0].digest, Act::Stall(5_000));
                    Ok(trap.reference.clone())
                }),
                act("a layer of which a little comes each time", "layer", late, Act::Stall(100)),
            ],
        )
        .await
    });
}
