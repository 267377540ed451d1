//! Operations on one object run in the order in which they came.

use std::sync::Mutex;

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, join_all};
use tonic::Code;

use super::*;

/// Work that writes down when it begins and when it ends.
#[derive(Clone, Default)]
struct Journal(Arc<Mutex<Vec<String>>>);

impl Journal {
    fn work(
        &self,
        name: &str,
        length: Duration,
    ) -> impl FnOnce(Handle) -> BoxFuture<'static, Result<(), Status>> + Send + 'static {
        let (journal, name) = (self.clone(), name.to_owned());
        move |_| {
            async move {
                journal.note(format!("{name} begins"));
                tokio::time::sleep(length).await;
                journal.note(format!("{name} ends"));
                Ok(())
            }
            .boxed()
        }
    }

    fn note(&self, entry: String) {
        self.0.lock().unwrap().push(entry);
    }

    fn entries(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }
}

#[tokio::test(start_paused = true)]
async fn start_stop_and_remove_of_one_container_run_one_after_the_other() {
    let (scene, journal) = (Scene::new(), Journal::default());
    let second = Duration::from_secs(1);

    let clients = [
        scene.client(start("c1"), journal.work("start", second * 3)),
        scene.client(stop("c1"), journal.work("stop", second)),
        scene.client(remove("c1"), journal.work("remove", second)),
    ];

    join_all(clients).await.into_iter().for_each(|result| result.unwrap().unwrap());
    let expected =
        ["start begins", "start ends", "stop begins", "stop ends", "remove begins", "remove ends"];
    assert_eq!(journal.entries(), expected);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_order_holds_on_many_threads() {
    let (scene, journal) = (Scene::new(), Journal::default());
    let mut clients = Vec::new();
    let mut expected = Vec::new();
    for n in 0..200 {
        let operation = Operation::new(Key::new("Step", n.to_string()), MINUTE).on("c1");
        expected.extend([format!("{n} begins"), format!("{n} ends")]);
        let mut client =
            Box::pin(scene.ops.run(operation, journal.work(&n.to_string(), Duration::ZERO)));
        // Asked for in this order; waited for in any.
        assert!(client.as_mut().now_or_never().is_none_or(|result| result.is_ok()));
        clients.push(client);
    }

    scene.idle().await;

    assert_eq!(journal.entries(), expected);
}

#[tokio::test(start_paused = true)]
async fn different_objects_do_not_wait_for_each_other() {
    let scene = Scene::new();
    let _stuck = scene.client(start("c1"), scene.gated());
    scene.settle().await;

    let quick = scene.ops.run(start("c2"), async |_| Ok("c2")).await;

    assert_eq!(quick.unwrap(), "c2");
}

#[tokio::test(start_paused = true)]
async fn one_that_gives_up_in_the_queue_lets_nobody_overtake() {
    let (scene, journal) = (Scene::new(), Journal::default());
    let short = Duration::from_secs(5);
    let impatient = Operation::new(Key::new("StopContainer", "c1"), short).on("c1");

    let first = scene.client(start("c1"), journal.work("start", MINUTE / 2));
    scene.settle().await;
    let second = scene.client(impatient, journal.work("stop", short));
    scene.settle().await;
    let third = scene.client(remove("c1"), journal.work("remove", short));

    let status = second.await.unwrap().unwrap_err();
    assert_eq!(status.code(), Code::DeadlineExceeded);
    assert!(status.message().contains("in stage `queue` after 5s"), "{status}");
    assert!(status.message().contains("waiting for StartContainer c1"), "{status}");
    first.await.unwrap().unwrap();
    third.await.unwrap().unwrap();
    let expected = ["start begins", "start ends", "remove begins", "remove ends"];
    assert_eq!(journal.entries(), expected);
}
