//! Creations: the same request gets the same object, for as long as it exists.

use std::sync::Mutex;

use futures_util::future::BoxFuture;
use tonic::Code;

use super::*;

/// A scene in which each RunPodSandbox brings an id, made of its configuration
/// and a number, and removed ids are written down.
struct Pods {
    scene: Scene,
    asked: AtomicUsize,
    removed: Arc<Mutex<Vec<String>>>,
}

impl Pods {
    fn new() -> Self {
        Self { scene: Scene::new(), asked: AtomicUsize::new(0), removed: Arc::default() }
    }

    /// RunPodSandbox that waits at the gate.
    fn run(&self, config: &str) -> BoxFuture<'static, Result<String, Status>> {
        let gate = self.scene.gated();
        self.run_with(config, async move |handle| gate(handle).await.map(|_| ()))
    }

    fn run_with<F>(
        &self,
        config: &str,
        work: impl FnOnce(Handle) -> F + Send + 'static,
    ) -> BoxFuture<'static, Result<String, Status>>
    where
        F: Future<Output = Result<(), Status>> + Send + 'static,
    {
        let number = self.asked.fetch_add(1, Ordering::SeqCst) + 1;
        let (ops, removed) = (self.scene.ops.clone(), Arc::clone(&self.removed));
        let (operation, id) = (run_pod(config), format!("{config}-{number}"));
        let remove = move |id| {
            removed.lock().unwrap().push(id);
            std::future::ready(Ok(()))
        };
        Box::pin(async move { ops.create(operation, id, work, remove).await })
    }

    /// RunPodSandbox by a client that leaves before the pod is made.
    async fn run_and_leave(&self, config: &str) {
        let client = self.scene.clients.spawn(self.run(config));
        self.scene.settle().await;
        client.abort();
        self.scene.settle().await;
    }

    /// RunPodSandbox with the gate open.
    async fn run_now(&self, config: &str) -> Result<String, Status> {
        self.scene.gate.notify_one();
        self.run(config).await
    }

    fn removed(&self) -> Vec<String> {
        self.removed.lock().unwrap().clone()
    }
}

#[tokio::test(start_paused = true)]
async fn the_identical_request_gets_the_same_id_until_the_object_is_gone() {
    let pods = Pods::new();

    let first = pods.run_now("a").await.unwrap();
    let second = pods.run("a").await.unwrap();
    assert_eq!((first.as_str(), second.as_str()), ("a-1", "a-1"));

    pods.scene.ops.forget(&first);
    assert_eq!(pods.run_now("a").await.unwrap(), "a-3");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn sixty_four_duplicates_make_one_object() {
    let pods = Pods::new();
    let clients: Vec<_> = (0..64).map(|_| pods.scene.clients.spawn(pods.run("a"))).collect();
    pods.scene.gate.notify_one();

    let ids = futures_util::future::join_all(clients).await.into_iter();
    let ids: std::collections::BTreeSet<_> = ids.map(|id| id.unwrap().unwrap()).collect();
    assert_eq!((ids.len(), pods.scene.effects()), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_retry_after_a_lost_client_gets_the_pod_that_was_made_meanwhile() {
    let pods = Pods::new();
    pods.run_and_leave("a").await;
    pods.scene.gate.notify_one();
    pods.scene.idle().await;

    assert_eq!(pods.run("a").await.unwrap(), "a-1");
    assert_eq!(pods.scene.effects(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_object_that_a_client_knows_never_gives_way() {
    let pods = Pods::new();
    let id = pods.run_now("a").await.unwrap();

    let status = pods.run("b").await.unwrap_err();

    assert_eq!(status.code(), Code::AlreadyExists);
    assert!(status.message().contains(&id), "{status}");
    assert!(!status.message().contains("reserved"), "{status}");
    assert!(pods.removed().is_empty());
}

#[tokio::test(start_paused = true)]
async fn an_object_that_no_client_knows_is_removed_for_other_parameters() {
    let pods = Pods::new();
    pods.run_and_leave("a").await;
    pods.scene.gate.notify_one();
    pods.scene.idle().await;

    assert_eq!(pods.run_now("b").await.unwrap(), "b-2");
    assert_eq!(pods.removed(), ["a-1"]);
}

#[tokio::test(start_paused = true)]
async fn when_the_removal_fails_the_object_stays_and_the_next_try_removes_it() {
    let pods = Pods::new();
    pods.run_and_leave("a").await;
    pods.scene.gate.notify_one();
    pods.scene.idle().await;
    let never = async |_| unreachable!();
    let busy = |_| std::future::ready(Err(Status::internal("busy")));

    let failed = pods.scene.ops.create(run_pod("b"), "b-0".into(), never, busy).await;
    assert_eq!(failed.unwrap_err().message(), "busy");

    assert_eq!(pods.run_now("b").await.unwrap(), "b-2");
    assert_eq!(pods.removed(), ["a-1"]);
}

#[tokio::test(start_paused = true)]
async fn other_parameters_stop_a_creation_that_no_client_waits_for() {
    let pods = Pods::new();
    pods.run_and_leave("a").await;

    let second = pods.scene.clients.spawn(pods.run("b"));
    pods.scene.settle().await;
    pods.scene.gate.notify_one();

    assert_eq!(second.await.unwrap().unwrap(), "b-2");
    assert_eq!(pods.removed(), ["a-1"], "it was undone half-made");
}

/// A client that hangs up and asks for something else may be heard in the other order.
#[tokio::test(start_paused = true)]
async fn other_parameters_stop_a_creation_whose_last_client_leaves_later() {
    let pods = Pods::new();
    let first = pods.scene.clients.spawn(pods.run("a"));
    pods.scene.settle().await;
    let second = pods.scene.clients.spawn(pods.run("b"));
    pods.scene.settle().await;

    first.abort();
    pods.scene.settle().await;
    pods.scene.gate.notify_one();

    assert_eq!(second.await.unwrap().unwrap(), "b-2");
    assert_eq!(pods.removed(), ["a-1"], "it was undone half-made");
}

#[tokio::test(start_paused = true)]
async fn a_creation_goes_on_when_the_one_with_other_parameters_has_left_too() {
    let pods = Pods::new();
    let first = pods.scene.clients.spawn(pods.run("a"));
    pods.scene.settle().await;
    pods.run_and_leave("b").await;
    first.abort();
    pods.scene.settle().await;

    pods.scene.gate.notify_one();
    pods.scene.settle().await;

    assert_eq!(pods.run("a").await.unwrap(), "a-1");
    assert!(pods.removed().is_empty());
}

#[tokio::test(start_paused = true)]
async fn other_parameters_wait_for_a_creation_that_a_client_waits_for() {
    let pods = Pods::new();
    let first = pods.scene.clients.spawn(pods.run("a"));
    pods.scene.settle().await;
    let second = pods.scene.clients.spawn(pods.run("b"));
    pods.scene.settle().await;

    pods.scene.gate.notify_one();

    assert_eq!(first.await.unwrap().unwrap(), "a-1");
    assert_eq!(second.await.unwrap().unwrap_err().code(), Code::AlreadyExists);
}

#[tokio::test(start_paused = true)]
async fn a_creation_that_fails_cleans_up_itself_and_is_tried_again() {
    let pods = Pods::new();
    let fail = async |_| Err(Status::not_found("no such image"));

    let failed = pods.run_with("a", fail).await;

    assert_eq!(failed.unwrap_err().code(), Code::NotFound);
    assert!(pods.removed().is_empty());
    assert_eq!(pods.run_now("a").await.unwrap(), "a-2");
}

#[tokio::test(start_paused = true)]
async fn a_creation_past_its_deadline_is_undone_before_the_next_try() {
    let pods = Pods::new();

    let status = pods.run("a").await.unwrap_err();
    assert_eq!(status.code(), Code::DeadlineExceeded);
    assert!(status.message().contains("in stage `gate` after 60s"), "{status}");

    assert_eq!(pods.run_now("a").await.unwrap(), "a-2");
    assert_eq!(pods.removed(), ["a-1"]);
}

#[tokio::test(start_paused = true)]
async fn a_creation_that_panics_is_undone() {
    let pods = Pods::new();

    let status = pods.run_with("a", async |_| panic!("oops")).await.unwrap_err();

    assert_eq!(status.code(), Code::Internal);
    assert_eq!(pods.removed(), ["a-1"]);
    assert!(pods.scene.metrics.render().unwrap().contains("berth_panics_total 1"));
}

#[tokio::test(start_paused = true)]
async fn what_an_earlier_berthd_made_is_given_back_and_never_gives_way() {
    let pods = Pods::new();
    let operation = run_pod("a");
    let stored: Fingerprint = operation.fingerprint.to_string().parse().unwrap();
    pods.scene.ops.adopt(operation.key, stored, "old");

    assert_eq!(pods.run("a").await.unwrap(), "old");
    assert_eq!(pods.run("b").await.unwrap_err().code(), Code::AlreadyExists);
    assert_eq!(pods.scene.effects(), 0);
}
