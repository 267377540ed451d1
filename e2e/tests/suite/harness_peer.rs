//! The whole harness at once: a real daemon, a real registry, real plugins, pods. They prove the
//! harness, so the usual engine is the peer, which is known to work; `E2E_PEER=berthd` sends
//! berthd through the same stories.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Result;
use berth_e2e::client::cri::ContainerState;
use berth_e2e::client::{Output, container, pod};
use berth_e2e::daemon::{Engine, Setup};
use berth_e2e::image::{Entry, Image, Layer, archive};
use berth_e2e::node::Node;
use berth_e2e::place::{self, Place};
use berth_e2e::registry::ALICE;
use berth_e2e::registry::scripted::{Act, Scripted};
use berth_e2e::wait;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

fn engine() -> Result<Engine> {
    Engine::from_env(Engine::Containerd)
}

#[test]
fn a_peer_runs_a_pod_from_pull_to_removal() {
    place::native(async |place| from_pull_to_removal(place, engine()?).await);
}

#[test]
fn a_peer_finds_its_pods_after_a_kill() {
    place::native(async |place| pods_after_a_kill(place, engine()?).await);
}

#[test]
fn a_peer_pulls_only_what_is_honest() {
    place::native(async |place| only_what_is_honest(place, engine()?).await);
}

#[test]
fn a_peer_imports_archives() {
    place::native(async |place| imports_archives(place, engine()?).await);
}

/// The outer daemon stands for one that somebody else runs on a machine without places.
#[test]
fn an_endpoint_of_somebody_elses_can_be_tested() {
    place::native(async |place| {
        let node = Node::start(&place, Engine::Containerd).await?;
        // What a daemon makes once, it has made before the audit of the story begins.
        node.client.run_pod(pod("first")).await?.delete().await?;
        let story = std::process::Command::new(std::env::current_exe()?)
            .args([
                "--exact",
                "harness_peer::a_peer_runs_a_pod_from_pull_to_removal",
                "--nocapture",
            ])
            .env("E2E_ENDPOINT", node.daemon.endpoint())
            .env_remove("BERTH_E2E_STEP")
            .output()?;
        let said = [story.stdout, story.stderr].concat();
        assert!(story.status.success(), "{}", String::from_utf8_lossy(&said));
        assert!(node.daemon.log()?.contains("Name:web"), "the story came to this daemon");
        Ok(())
    });
}

#[test]
fn a_peer_enforces_a_memory_limit() {
    place::with_controllers(async |place| enforces_a_memory_limit(place, engine()?).await);
}

async fn from_pull_to_removal(place: Place, engine: Engine) -> Result<()> {
    let node = Node::start(&place, engine).await?;
    let audit = node.audit()?;

    let pod = node.client.run_pod(pod("web").port(8080, 80).label("app", "web")).await?;
    let script = "echo hello > /tmp/index.html; echo started; echo oops >&2; \
                  trap 'exit 7' TERM; httpd -f -h /tmp -p 80 & wait";
    let server = container("server").image(&node.image).script(script).env("COLOUR", "blue");
    let server = pod.run(server).await?;
    server.wait_for_log("started").await?;

    let ip = pod.ip().await?;
    assert!(ip.starts_with("10.88.1."), "{ip}");
    assert_eq!(get(format!("{ip}:80").parse()?).await?, "hello\n");
    assert_eq!(get("127.0.0.1:8080".parse()?).await?, "hello\n");

    let output = server.exec(["sh", "-c", "echo $COLOUR; echo no >&2; exit 3"]).await?;
    let expected = Output { code: 3, stdout: "blue\n".into(), stderr: "no\n".into() };
    assert_eq!(output, expected);
    let log = server.log()?;
    let mut lines: Vec<_> =
        log.iter().map(|line| (line.stream.as_str(), line.text.as_str())).collect();
    // The order between the two streams is nobody's promise.
    lines.sort();
    assert_eq!(lines, [("stderr", "oops"), ("stdout", "started")]);

    server.stop(10).await?;
    let status = server.status().await?;
    assert_eq!((status.state(), status.exit_code), (ContainerState::ContainerExited, 7));
    server.remove().await?;
    pod.delete().await?;
    assert!(node.client.pods().await?.is_empty());
    audit.assert_clean().await
}

/// One HTTP GET of `/index.html`; answers the body. Asks again until something listens.
async fn get(address: SocketAddr) -> Result<String> {
    let mut stream = wait::until("something listens", Duration::from_secs(10), async || {
        Ok(tokio::net::TcpStream::connect(address).await.ok())
    })
    .await?;
    stream.write_all(b"GET /index.html HTTP/1.0\r\n\r\n").await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    Ok(answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned()).unwrap_or_default())
}

async fn pods_after_a_kill(place: Place, engine: Engine) -> Result<()> {
    let mut node = Node::start(&place, engine).await?;
    let audit = node.audit()?;
    let pod = node.client.run_pod(pod("two")).await?;
    let lasting = pod.run(container("lasting").image(&node.image).cmd(["sleep", "inf"])).await?;
    let script = "while [ ! -e /tmp/end ]; do sleep 0.1; done; exit 5";
    let brief = pod.run(container("brief").image(&node.image).script(script)).await?;
    brief.shell("(sleep 0.5; touch /tmp/end) > /dev/null 2>&1 &").await?;

    node.kill_and_restart().await?;
    assert_eq!(pod.status().await?.id, pod.id);
    assert_eq!(brief.wait_for_exit().await?.exit_code, 5);
    assert_eq!(lasting.exec(["true"]).await?.code, 0);
    pod.delete().await?;
    audit.assert_clean().await
}

async fn only_what_is_honest(place: Place, engine: Engine) -> Result<()> {
    let (registry, elsewhere) = (Scripted::start().await?, Scripted::start().await?);
    registry.require_token(ALICE);
    let setup = Setup::new(engine).host(&registry.host(), &registry.upstream());
    let daemon = setup.start(&place).await?;
    let client = daemon.client().await?;
    // Each lie is told about an image of its own: a daemon may remember half a layer.
    let app = |name: &str| {
        let layer = Layer::new().with(Entry::file("name", name));
        let image = Image::from_scratch().layer(layer).build()?;
        let reference = registry.add(&format!("{name}:1"), &image)?;
        Ok::<_, anyhow::Error>((reference, format!("/blobs/{}", image.layers[0].digest), image))
    };

    let (reference, blob, _) = app("changed")?;
    registry.on(&blob, Act::WrongContent);
    let refused = client.pull_as(&reference, ALICE).await.expect_err("it is not what it says");
    assert!(refused.message().contains("digest"), "{refused}");
    assert!(client.image(&reference).await?.is_none());

    let (reference, blob, _) = app("nowhere")?;
    registry.on(&blob, Act::Redirect("http://127.0.0.1:1".to_owned()));
    client.pull_as(&reference, ALICE).await.expect_err("nobody listens there");

    let (reference, blob, image) = app("moved")?;
    elsewhere.add("moved:1", &image)?;
    registry.on(&blob, Act::Redirect(elsewhere.upstream().url));
    client.pull_as(&reference, ALICE).await?;
    assert_eq!(client.image(&reference).await?.map(|found| found.id), Some(image.config.digest));
    let strangers = elsewhere.seen();
    assert!(!strangers.is_empty());
    assert!(strangers.iter().all(|request| request.header("authorization").is_none()));
    Ok(())
}

async fn imports_archives(place: Place, engine: Engine) -> Result<()> {
    let daemon = Setup::new(engine).start(&place).await?;
    let client = daemon.client().await?;
    let image = Image::busybox()?.build()?;
    daemon.import(&archive::oci("localhost/from-oci:1", &image)?).await?;
    daemon.import(&archive::docker("localhost/from-docker:1", &image)?).await?;
    for name in ["localhost/from-oci:1", "localhost/from-docker:1"] {
        let found =
            wait::until(name, Duration::from_secs(10), async || Ok(client.image(name).await?));
        assert_eq!(found.await?.id, image.config.digest);
    }
    Ok(())
}

async fn enforces_a_memory_limit(place: Place, engine: Engine) -> Result<()> {
    // A peer hears of the kill apart from the exit, and may be late with it.
    let reasons: &[&str] =
        if engine == Engine::Berthd { &["OOMKilled"] } else { &["OOMKilled", "Error"] };
    let node = Node::start(&place, engine).await?;
    let audit = node.audit()?;
    let pod = node.client.run_pod(pod("hungry")).await?;
    let hungry = container("hungry").image(&node.image).memory(16 << 20);
    let hungry = pod.run(hungry.cmd(["tail", "/dev/zero"])).await?;
    let status = hungry.wait_for_exit().await?;
    assert_eq!(status.exit_code, 137);
    assert!(reasons.contains(&status.reason.as_str()), "{}", status.reason);
    hungry.remove().await?;
    pod.delete().await?;
    audit.assert_clean().await
}
