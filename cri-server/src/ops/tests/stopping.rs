//! Deadlines, clients that matter, and the end of the daemon.

use futures_util::FutureExt;
use tokio::time::Instant;
use tonic::Code;

use super::*;

#[tokio::test(start_paused = true)]
async fn a_deadline_names_the_stage_and_what_it_waits_for() {
    let scene = Scene::new();
    let begin = Instant::now();

    let result = scene.ops.run(start("c1"), async |handle: Handle| -> Result<(), Status> {
        handle.stage("cgroup");
        handle.stage("network add");
        handle.waits_for("plugin bridge (pid 77)");
        handle.stopping().cancelled().await;
        Err(Status::aborted("undone"))
    });

    let status = result.await.unwrap_err();
    assert_eq!(status.code(), Code::DeadlineExceeded);
    assert_eq!(
        status.message(),
        "StartContainer c1: deadline exceeded in stage `network add` after 60s, \
         waiting for plugin bridge (pid 77)"
    );
    assert_eq!(begin.elapsed(), MINUTE);
}

#[tokio::test(start_paused = true)]
async fn clients_do_not_wait_for_the_undoing_but_the_next_try_does() {
    let scene = Scene::new();
    let begin = Instant::now();
    let undo = Duration::from_secs(7);
    let work = async move |handle: Handle| {
        handle.stopping().cancelled().await;
        tokio::time::sleep(undo).await;
        Err::<(), _>(Status::aborted("undone"))
    };

    let status = scene.ops.run(start("c1"), work).await.unwrap_err();
    assert_eq!((status.code(), begin.elapsed()), (Code::DeadlineExceeded, MINUTE));

    let again = scene.ops.run(start("c1"), async |_| Ok(Instant::now())).await;
    assert_eq!(again.unwrap() - begin, MINUTE + undo);
}

#[tokio::test(start_paused = true)]
async fn work_that_does_not_stop_is_dropped_when_its_grace_is_over() {
    let scene = Scene::new();
    let begin = Instant::now();
    let stuck = async |_| std::future::pending::<Result<(), Status>>().await;

    scene.ops.run(start("c1"), stuck).await.unwrap_err();

    let next = scene.ops.run(stop("c1"), async |_| Ok(Instant::now())).await;
    assert_eq!(next.unwrap() - begin, MINUTE + GRACE);
}

#[tokio::test(start_paused = true)]
async fn an_attended_operation_stops_when_its_client_leaves() {
    let scene = Scene::new();
    let (told, mut heard) = tokio::sync::oneshot::channel();
    let work = |handle: Handle| {
        async move {
            handle.stopping().cancelled().await;
            told.send(()).unwrap();
            Err::<(), _>(Status::cancelled("killed"))
        }
        .boxed()
    };
    let client = scene.client(Operation::attended(Key::new("ExecSync", "c1"), MINUTE), work);
    scene.settle().await;
    assert!(heard.try_recv().is_err());

    client.abort();

    heard.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn an_attended_operation_is_never_joined() {
    let scene = Scene::new();
    let exec = || Operation::attended(Key::new("ExecSync", "c1"), MINUTE);

    let clients = [scene.client(exec(), scene.gated()), scene.client(exec(), scene.gated())];
    scene.settle().await;

    assert_eq!(scene.effects(), 2);
    scene.gate.notify_waiters();
    for client in clients {
        client.await.unwrap().unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn draining_waits_for_what_runs_and_refuses_what_is_new() {
    let scene = Scene::new();
    let running = scene.client(start("c1"), scene.gated());
    scene.settle().await;
    let ops = scene.ops.clone();
    let drain = scene.clients.spawn(async move { ops.drain(MINUTE / 2).await });
    scene.settle().await;

    let refused = scene.ops.run(stop("c1"), async |_| Ok(())).await.unwrap_err();
    let joined = scene.client(start("c1"), scene.gated());
    scene.settle().await;
    scene.gate.notify_one();

    assert_eq!(refused.code(), Code::Unavailable);
    assert_eq!(refused.message(), "StopContainer c1: berthd is stopping");
    assert!(drain.await.unwrap().is_empty());
    assert_eq!((running.await.unwrap().unwrap(), joined.await.unwrap().unwrap()), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn draining_ends_at_its_limit_and_tells_what_still_runs() {
    let scene = Scene::new();
    let _running = scene.client(start("c1"), scene.gated());
    scene.settle().await;
    let begin = Instant::now();

    let left = scene.ops.drain(Duration::from_secs(8)).await;

    assert_eq!(begin.elapsed(), Duration::from_secs(8));
    assert_eq!(left[0].key.to_string(), "StartContainer c1");
}

#[tokio::test(start_paused = true)]
async fn a_deadline_beyond_any_clock_is_no_deadline() {
    let scene = Scene::new();
    let operation = Operation::new(Key::new("StopContainer", "c1"), Duration::MAX);

    assert_eq!(scene.ops.run(operation, async |_| Ok(5)).await.unwrap(), 5);
}
