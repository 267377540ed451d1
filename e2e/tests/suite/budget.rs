//! What a pod may cost. Counts and bytes, so that a test can hold berthd to them on any machine.

use std::time::{Duration, Instant};

use anyhow::Result;
use berth_e2e::client::{Container, Pod, container, pod};
use berth_e2e::daemon::Engine;
use berth_e2e::node::Node;
use berth_e2e::place::{self, Place};
use berth_e2e::process::{self, PRIVATE};
use berth_e2e::trace::Trace;
use berth_e2e::wait;

/// By these a thread becomes another program.
const EXECS: [&str; 2] = ["execve", "execveat"];
const CLONES: [&str; 4] = ["clone", "clone3", "fork", "vfork"];
/// By these a thread waits for a disk.
const SYNCS: &str = "fsync,fdatasync,sync,syncfs,sync_file_range,msync";
/// Beyond anything that a pod start could take by itself.
const HELD: Duration = Duration::from_secs(20);

async fn node(place: &Place) -> Result<Node> {
    Node::start(place, Engine::Berthd).await
}

fn pid(node: &mut Node) -> Result<i32> {
    Ok(node.daemon.process()?.pid().map_or(0, |pid| pid.as_raw_nonzero().get()))
}

/// The pod start of the budget: on the network of the node, one container.
async fn start_pod(node: &Node, name: &str) -> Result<(Pod, Container)> {
    let pod = node.client.run_pod(pod(name).host_network()).await?;
    let app = pod.run(container("app").image(&node.image).cmd(["/bin/sleep", "inf"])).await?;
    Ok((pod, app))
}

#[test]
fn a_pod_start_is_three_execs_and_no_thread_outside_of_the_daemon() {
    place::native(async |place| {
        let mut node = node(&place).await?;
        let audit = node.audit()?;
        let calls = [&EXECS[..], &CLONES[..]].concat().join(",");
        let trace = Trace::begin(&place, pid(&mut node)?, &calls, None).await?;
        let (pod, app) = start_pod(&node, "counted").await?;

        let execs = trace.of(&EXECS)?;
        assert_eq!(execs.len(), 3, "shim, pause and payload: {execs:#?}");
        assert!(execs[2].text.contains("/bin/sleep"), "the payload comes last: {execs:#?}");
        let own = trace.own_threads()?;
        let mut threads = trace.of(&CLONES)?;
        let born = threads.iter().filter(|call| call.text.contains("CLONE_INTO_CGROUP")).count();
        assert_eq!(born, 2, "pause and payload are born in their cgroups: {threads:#?}");
        threads.retain(|call| call.text.contains("CLONE_THREAD") && !own.contains(&call.thread));
        assert_eq!(threads, []);

        // A command is one more, and costs nobody else one.
        assert_eq!(app.exec(["/bin/true"]).await?.code, 0);
        assert_eq!(trace.of(&EXECS)?.len(), 4);
        pod.delete().await?;
        assert_eq!(trace.of(&EXECS)?.len(), 4, "neither a stop nor a removal starts a program");
        trace.end().await?;
        audit.assert_clean().await
    });
}

/// Every wait for a disk is made to take longer than a pod lives here.
#[test]
fn no_answer_waits_for_a_disk() {
    place::native(async |place| {
        let mut node = node(&place).await?;
        let audit = node.audit()?;
        let trace = Trace::begin(&place, pid(&mut node)?, SYNCS, Some((SYNCS, HELD))).await?;
        let begun = Instant::now();
        let (first, _) = start_pod(&node, "first").await?;
        // What is written is synced in the background: there is something to wait for.
        wait::until("a sync has begun", Duration::from_secs(10), async || {
            Ok((!trace.calls()?.is_empty()).then_some(()))
        })
        .await?;
        let (second, app) = start_pod(&node, "second").await?;
        app.exec(["true"]).await?;
        app.stop(0).await?;
        app.remove().await?;
        second.delete().await?;
        first.delete().await?;
        assert!(begun.elapsed() < HELD, "something waited: {:?}", begun.elapsed());
        let syncs = trace.calls()?;
        assert!(syncs.iter().all(|sync| !sync.text.contains(" = ")), "one was not held: {syncs:?}");
        trace.end().await?;
        audit.assert_clean().await
    });
}

#[test]
fn a_pod_keeps_half_a_mebibyte_and_one_thread_for_each_of_two_processes() {
    place::native(async |place| {
        let mut node = node(&place).await?;
        let audit = node.audit()?;
        let idle = process::memory(pid(&mut node)?, &["Pss:"])?;
        assert!((1..=25 << 10).contains(&idle), "berthd keeps {idle} KiB");

        let (pod, app) = start_pod(&node, "small").await?;
        // What an exec or a log line needs for a while is given back.
        app.shell("seq 10000").await?;
        let shim = process::find(&["berth-shim", &pod.id]);
        assert_eq!(shim.len(), 1);
        let mut private = 0;
        for pid in [shim[0], pod.pause().await?] {
            assert_eq!(process::threads(pid)?, 1);
            private += process::memory(pid, &PRIVATE)?;
        }
        assert!((1..=512).contains(&private), "shim and pause keep {private} KiB");
        pod.delete().await?;
        audit.assert_clean().await
    });
}
