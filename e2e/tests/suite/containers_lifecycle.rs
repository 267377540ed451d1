//! The life of a container as a client sees it: created, started, stopped, removed; its exit, its
//! times, its status, lists of containers.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Result;
use berth_e2e::client::cri::{ContainerFilter, ContainerState, ContainerStateValue};
use berth_e2e::client::{Client, Code, Container, Pod, assert_refused, container, now, pod};
use berth_e2e::daemon::Engine;
use berth_e2e::image::Image;
use berth_e2e::node::Node;
use berth_e2e::place::{self, Place};
use berth_e2e::{process, wait};
use rustix::process::Signal;

async fn node(place: &Place) -> Result<Node> {
    Node::start(place, Engine::from_env(Engine::Berthd)?).await
}

#[test]
fn a_container_is_created_started_ended_and_removed() {
    place::native(async |place| {
        let node = Node::start(&place, Engine::Berthd).await?;
        let audit = node.audit()?;
        let pod = node.client.run_pod(pod("p")).await?;

        let mut marks = vec![now()];
        let app = container("app").image(&node.image).script("read line; sleep 0.3; exit 7");
        let app = pod.create(app.with(|config| config.stdin = true)).await?;
        let created = app.status().await?;
        assert_eq!(created.state(), ContainerState::ContainerCreated);
        assert_eq!((created.started_at, created.finished_at, created.exit_code), (0, 0, 0));
        assert_eq!(created.reason, "");
        marks.extend([created.created_at, now()]);

        app.start().await?;
        let running = app.status().await?;
        assert_eq!(running.state(), ContainerState::ContainerRunning);
        assert_eq!((running.created_at, running.finished_at), (created.created_at, 0));
        marks.extend([running.started_at, now()]);
        app.start().await?;
        assert_eq!(app.status().await?.started_at, running.started_at, "it ran already");

        // It sleeps for long enough to let the command end.
        app.shell("echo > /proc/1/fd/0").await?;
        marks.push(now());
        let exited = app.wait_for_exit().await?;
        assert_eq!((exited.exit_code, exited.reason.as_str()), (7, "Error"));
        assert_eq!(
            (exited.created_at, exited.started_at),
            (running.created_at, running.started_at)
        );
        marks.extend([exited.finished_at, now()]);
        assert!(marks.is_sorted(), "{marks:?}");
        assert!(exited.finished_at - exited.started_at >= 300_000_000, "it slept: {marks:?}");
        assert_refused(app.start().await, Code::FailedPrecondition, &[&app.id, "exited"]);

        app.remove().await?;
        assert_refused(app.status().await, Code::NotFound, &[&app.id]);
        pod.delete().await?;
        audit.assert_clean().await
    });
}

/// Whoever watches may be late; when a container ended is nevertheless exact.
#[test]
fn an_end_has_its_own_time_and_not_that_of_the_first_look() {
    place::native(async |place| {
        let mut node = Node::start(&place, Engine::Berthd).await?;
        let audit = node.audit()?;
        let pod = node.client.run_pod(pod("p")).await?;
        let spec = |name: &str| container(name).image(&node.image).cmd(["sleep", "inf"]);
        let (first, second) = (pod.run(spec("first")).await?, pod.run(spec("second")).await?);
        let pids = [first.pid().await?, second.pid().await?];
        let before = now();
        node.daemon.process()?.signal(Signal::STOP)?;
        for pid in pids {
            process::kill(pid)?;
            process::gone(pid, Duration::from_secs(5)).await?;
        }
        // The shim turned to the second when it was done with the first.
        let after = now();
        node.daemon.process()?.signal(Signal::CONT)?;
        let status = first.wait_for_exit().await?;
        assert!((before..after).contains(&status.finished_at), "{before} {status:?} {after}");
        pod.delete().await?;
        audit.assert_clean().await
    });
}

#[test]
fn an_exit_has_a_code_and_a_reason() {
    place::native(async |place| {
        let node = node(&place).await?;
        let audit = node.audit()?;
        // A first process of a PID namespace could not signal itself.
        let pod = node.client.run_pod(pod("p").shared_pid()).await?;
        for (script, code, reason) in [
            ("exit 0", 0, "Completed"),
            ("exit 1", 1, "Error"),
            ("exit 255", 255, "Error"),
            ("kill -TERM $$", 143, "Error"),
            ("kill -KILL $$", 137, "Error"),
            ("kill -SEGV $$", 139, "Error"),
            ("kill -USR2 $$", 140, "Error"),
        ] {
            let brief = pod.run(container(script).image(&node.image).script(script)).await?;
            let status = brief.wait_for_exit().await?;
            assert_eq!((status.exit_code, status.reason.as_str()), (code, reason), "{script}");
            assert_eq!(status.message, "", "{script}");
        }
        pod.delete().await?;
        audit.assert_clean().await
    });
}

/// Runs a script, and waits until it has made /ready.
async fn ready(pod: &Pod, image: &str, name: &str, script: &str) -> Result<Container> {
    let app = pod.run(container(name).image(image).script(script)).await?;
    made(&app, "/ready").await?;
    Ok(app)
}

async fn made(app: &Container, path: &str) -> Result<()> {
    wait::until(&format!("{path} is there"), Duration::from_secs(5), async || {
        Ok((app.exec(["test", "-e", path]).await?.code == 0).then_some(()))
    })
    .await
}

#[test]
fn a_stop_asks_before_it_kills() {
    place::native(async |place| {
        let node = node(&place).await?;
        let usr1 = Image::busybox()?.stop_signal("SIGUSR1").build()?;
        let usr1 = node.registry.push("usr1:1", &usr1).await?;
        node.client.pull(&usr1).await?;
        let audit = node.audit()?;
        let pod = node.client.run_pod(pod("p")).await?;
        let trap = "trap 'exit 3' TERM; trap 'exit 4' USR1; touch /ready; sleep inf & wait";
        let deaf = "trap '' TERM; touch /ready; while :; do sleep 0.1; done";
        for (name, image, script, grace, code, within) in [
            ("polite", &node.image, trap, 60, 3, 0..2000),
            ("image", &usr1, trap, 60, 4, 0..2000),
            ("no-grace", &node.image, trap, 0, 137, 0..2000),
            ("less-than-none", &node.image, trap, -5, 137, 0..2000),
            ("deaf", &node.image, deaf, 1, 137, 1000..3000),
        ] {
            let app = ready(&pod, image, name, script).await?;
            let begun = Instant::now();
            app.stop(grace).await?;
            let took = begun.elapsed().as_millis();
            let status = app.status().await?;
            assert_eq!((status.state(), status.exit_code), (ContainerState::ContainerExited, code));
            assert!(within.contains(&took), "{name} took {took} ms");
        }
        pod.delete().await?;
        audit.assert_clean().await
    });
}

/// The kubelet shortens the grace of a pod that is being stopped when a user asks to.
#[test]
fn an_impatient_stop_overtakes_a_patient_one() {
    place::native(async |place| {
        let node = Node::start(&place, Engine::Berthd).await?;
        let audit = node.audit()?;
        let pod = node.client.run_pod(pod("p")).await?;
        let deaf = "trap 'touch /asked' TERM; touch /ready; while :; do sleep 0.1; done";
        let app = ready(&pod, &node.image, "deaf", deaf).await?;
        let begun = Instant::now();
        let impatient = async {
            made(&app, "/asked").await?;
            anyhow::Ok(app.stop(0).await?)
        };
        let (patient, impatient) = tokio::join!(app.stop(100), impatient);
        patient?;
        impatient?;
        assert!(begun.elapsed() < Duration::from_secs(20));
        assert_eq!(app.status().await?.exit_code, 137);
        pod.delete().await?;
        audit.assert_clean().await
    });
}

#[test]
fn a_stop_and_a_remove_can_be_repeated_at_any_time() {
    place::native(async |place| {
        let node = node(&place).await?;
        let audit = node.audit()?;
        let pod = node.client.run_pod(pod("p")).await?;
        let app = |name: &str| container(name).image(&node.image).cmd(["sleep", "inf"]);

        let created = pod.create(app("created")).await?;
        created.stop(0).await?;
        assert_eq!(created.state().await?, ContainerState::ContainerCreated);
        let stopped = pod.run(app("stopped")).await?;
        for _ in 0..3 {
            stopped.stop(0).await?;
            assert_eq!(stopped.status().await?.exit_code, 137);
        }
        let running = pod.run(app("running")).await?;
        for container in [&created, &stopped, &running] {
            for _ in 0..3 {
                container.remove().await?;
                assert_refused(container.status().await, Code::NotFound, &[&container.id]);
            }
        }
        assert!(node.client.containers().await?.is_empty());
        pod.delete().await?;
        audit.assert_clean().await
    });
}

/// What a container's first process leaves running in a PID namespace that it shares.
#[test]
fn nothing_of_a_container_outlives_it() {
    place::native(async |place| {
        let node = node(&place).await?;
        let audit = node.audit()?;
        let pod = node.client.run_pod(pod("p").shared_pid()).await?;
        let script = "setsid sleep 4321 </dev/null >/dev/null 2>&1 & exit 0";
        let app = pod.run(container("app").image(&node.image).script(script)).await?;
        app.wait_for_exit().await?;
        let gone = async || Ok(process::find(&["sleep 4321"]).is_empty().then_some(()));
        wait::until("the child is gone", Duration::from_secs(5), gone).await?;
        pod.delete().await?;
        audit.assert_clean().await
    });
}

#[test]
fn a_status_tells_what_the_kubelet_shows() {
    place::native(async |place| {
        let node = Node::start(&place, Engine::Berthd).await?;
        let audit = node.audit()?;
        let pod = node.client.run_pod(pod("p")).await?;
        let host = place.dir("data")?.to_string_lossy().into_owned();
        let image = node.client.image(&node.image).await?.unwrap_or_default();
        // The kubelet names the image by what PullImage answered.
        let spec = container("app").image(&image.id).cmd(["sleep", "inf"]).mount(&host, "/d", true);
        let spec = spec.with(|config| {
            config.labels.insert("app".into(), "web".into());
            config.annotations.insert("note".into(), "kept".into());
            config.log_path = "app/3.log".into();
            config.metadata.get_or_insert_default().attempt = 3;
        });
        let app = pod.run(spec.clone()).await?;
        let status = app.status().await?;
        let config = spec.config;
        assert_eq!((status.id, status.metadata), (app.id.clone(), config.metadata));
        assert_eq!((status.labels, status.annotations), (config.labels, config.annotations));
        assert_eq!(status.image.unwrap_or_default().image, image.repo_tags[0]);
        assert_eq!(status.image_ref, image.repo_digests[0]);
        assert_eq!(status.image_id, image.id);
        assert_eq!(status.mounts, config.mounts);
        assert_eq!(Path::new(&status.log_path), pod.log_dir().join("app/3.log"));
        let user = status.user.and_then(|user| user.linux).unwrap_or_default();
        assert_eq!((user.uid, user.gid, user.supplemental_groups), (0, 0, vec![0]));

        let listed = node.client.containers().await?.remove(0);
        assert_eq!((&listed.id, &listed.pod_sandbox_id), (&app.id, &pod.id));
        assert_eq!((&listed.image_id, &listed.image_ref), (&image.id, &image.id));
        pod.delete().await?;
        audit.assert_clean().await
    });
}

#[test]
fn containers_are_listed_by_id_state_pod_and_labels() {
    place::native(async |place| {
        let node = node(&place).await?;
        let audit = node.audit()?;
        let (left, right) =
            (node.client.run_pod(pod("left")).await?, node.client.run_pod(pod("right")).await?);
        let spec = |name: &str, tier: &str| {
            container(name).image(&node.image).cmd(["sleep", "inf"]).with(|config| {
                config.labels.insert("app".into(), "shop".into());
                config.labels.insert("tier".into(), tier.into());
            })
        };
        let created = left.create(spec("created", "front")).await?;
        let running = left.run(spec("running", "back")).await?;
        let exited = right.run(spec("exited", "back")).await?;
        exited.stop(0).await?;
        let client = &node.client;
        let all = || sorted([&created, &running, &exited]);

        assert_eq!(list(client, |_| {}).await?, all());
        assert_eq!(list(client, |f| f.id = created.id.clone()).await?, sorted([&created]));
        assert_eq!(list(client, |f| f.id = created.id[..12].into()).await?, sorted([&created]));
        assert_eq!(list(client, |f| f.id = "0".repeat(64)).await?, sorted([]));
        for (state, expected) in [(0, &created), (1, &running), (2, &exited)] {
            let state = Some(ContainerStateValue { state });
            assert_eq!(list(client, |f| f.state = state).await?, sorted([expected]));
        }
        let of = |pod: &str| pod.to_owned();
        let in_left = list(client, |f| f.pod_sandbox_id = of(&left.id)).await?;
        assert_eq!(in_left, sorted([&created, &running]));
        assert_eq!(list(client, |f| f.pod_sandbox_id = "0".repeat(64)).await?, sorted([]));
        assert_eq!(list(client, |f| select(f, "app", "shop")).await?, all());
        let back = list(client, |f| select(f, "tier", "back")).await?;
        assert_eq!(back, sorted([&running, &exited]));
        let both = |f: &mut ContainerFilter| {
            select(f, "tier", "back");
            f.pod_sandbox_id = of(&left.id);
        };
        assert_eq!(list(client, both).await?, sorted([&running]));
        left.delete().await?;
        right.delete().await?;
        audit.assert_clean().await
    });
}

async fn list(client: &Client, narrow: impl FnOnce(&mut ContainerFilter)) -> Result<Vec<String>> {
    let mut filter = ContainerFilter::default();
    narrow(&mut filter);
    Ok(client.containers_where(filter).await?)
}

fn select(filter: &mut ContainerFilter, label: &str, value: &str) {
    filter.label_selector.insert(label.to_owned(), value.to_owned());
}

fn sorted<const N: usize>(containers: [&Container; N]) -> Vec<String> {
    let mut ids = containers.map(|container| container.id.clone()).to_vec();
    ids.sort();
    ids
}
