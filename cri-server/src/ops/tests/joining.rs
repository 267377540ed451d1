//! One effect, however often and by whomever it is asked for.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures_util::FutureExt;
use futures_util::future::join_all;
use tonic::Code;

use super::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn sixty_four_duplicates_have_one_effect_and_one_result() {
    let scene = Scene::new();
    let clients: Vec<_> = (0..64).map(|_| scene.client(start("c1"), scene.gated())).collect();
    while scene.ops.list().first().is_none_or(|op| op.clients < 64) {
        tokio::task::yield_now().await;
    }

    scene.gate.notify_one();

    for result in join_all(clients).await {
        assert_eq!(result.unwrap().unwrap(), 1);
    }
    assert_eq!(scene.effects(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_leaves_stops_nothing_and_joins_again_when_it_returns() {
    let scene = Scene::new();
    let client = scene.client(start("c1"), scene.gated());
    scene.settle().await;
    client.abort();
    scene.settle().await;
    assert_eq!(scene.ops.list()[0].clients, 0);

    let again = scene.client(start("c1"), scene.gated());
    scene.settle().await;
    scene.gate.notify_one();

    assert_eq!(again.await.unwrap().unwrap(), 1);
    assert_eq!(scene.effects(), 1);
}

#[tokio::test(start_paused = true)]
async fn work_ends_without_any_client() {
    let scene = Scene::new();
    let done = Arc::new(AtomicUsize::new(0));
    let seen = Arc::clone(&done);
    let work = move |_| {
        async move {
            tokio::time::sleep(MINUTE / 2).await;
            seen.store(1, Ordering::SeqCst);
            Ok(())
        }
        .boxed()
    };
    let client = scene.client(start("c1"), work);
    scene.settle().await;
    client.abort();

    scene.idle().await;

    assert_eq!(done.load(Ordering::SeqCst), 1);
}

#[tokio::test(start_paused = true)]
async fn a_finished_action_runs_again_when_it_is_asked_for_again() {
    let scene = Scene::new();
    for expected in [1, 2] {
        scene.gate.notify_one();
        let result = scene.ops.run(start("c1"), scene.gated()).await;
        assert_eq!(result.unwrap(), expected);
    }
}

#[tokio::test(start_paused = true)]
async fn an_action_with_other_parameters_is_another_action() {
    let scene = Scene::new();
    let small = start("c1").fingerprint(Fingerprint::default());
    let large = start("c1").fingerprint(run_pod("large").fingerprint);

    let clients = [small, large].map(|op| scene.client(op, scene.gated()));
    scene.settle().await;
    assert_eq!(scene.effects(), 1, "the second waits in the queue");
    scene.gate.notify_one();
    scene.settle().await;
    scene.gate.notify_one();

    let results = join_all(clients).await;
    assert_eq!(results.into_iter().map(|r| r.unwrap().unwrap()).collect::<Vec<_>>(), [1, 2]);
}

#[tokio::test(start_paused = true)]
async fn a_panic_is_answered_counted_and_leaves_the_queue_open() {
    let scene = Scene::new();
    let before = scene.metrics.render().unwrap();
    assert!(before.contains("berth_panics_total 0"));

    let result = scene.ops.run(start("c1"), async |_| -> Result<(), Status> { panic!("oops") });
    let status = result.await.unwrap_err();

    assert_eq!(status.code(), Code::Internal);
    assert!(status.message().contains("StartContainer c1"), "{status}");
    assert!(!status.message().contains("oops"), "{status}");
    assert!(scene.metrics.render().unwrap().contains("berth_panics_total 1"));
    scene.gate.notify_one();
    assert_eq!(scene.ops.run(stop("c1"), scene.gated()).await.unwrap(), 1);
    assert!(scene.metrics.render().unwrap().contains("berth_operations_in_flight 0"));
}

#[tokio::test(start_paused = true)]
async fn the_list_tells_where_each_operation_stands() {
    let scene = Scene::new();
    let _running = scene.client(start("c1"), scene.gated());
    let _queued = scene.client(stop("c1"), scene.gated());
    scene.settle().await;
    tokio::time::advance(MINUTE / 4).await;

    let list = scene.ops.list();

    assert_eq!(list.len(), 2);
    let (first, second) = (&list[0], &list[1]);
    assert_eq!((first.key.name, first.clients), ("StartContainer", 1));
    assert_eq!(first.stages[0].name, "gate");
    assert_eq!(first.stages[0].elapsed, MINUTE / 4);
    assert_eq!(first.remaining, MINUTE * 3 / 4);
    assert_eq!(second.stages[0].name, "queue");
    assert_eq!(
        second.stages[0].waits_for.as_deref(),
        Some(format!("StartContainer c1 (operation {})", first.id).as_str())
    );
}
