//! Requests about containers that make no sense, or ask for what cannot be: each is refused with
//! the right code, and names the object, what was attempted and why. Nothing stays of any.

use anyhow::Result;
use berth_e2e::client::cri::{
    AttachRequest, Capability, ContainerConfig, ContainerState, ContainerStatsRequest,
    CreateContainerRequest, Device, Int64Value, LinuxContainerSecurityContext as Security, Mount,
    UpdateContainerResourcesRequest,
};
use berth_e2e::client::{Code, Container, ContainerSpec, assert_refused, container, pod};
use berth_e2e::daemon::{Engine, Setup};
use berth_e2e::image::{Entry, Image, Layer};
use berth_e2e::node::Node;
use berth_e2e::place;

type Change = fn(&mut ContainerConfig);
type Tighten = fn(&mut Security);
/// What is changed of a request that makes sense, and words of the refusal.
type Row<'a> = (fn(ContainerSpec) -> ContainerSpec, &'a str);

/// Sends each request of a table, and sees to it that nothing comes of any.
fn all_are_refused(code: Code, table: &[Row<'_>]) {
    place::native(async |place| {
        let node = Node::start(&place, Engine::Berthd).await?;
        let pod = node.client.run_pod(pod("p")).await?;
        let audit = node.audit()?;
        for (change, words) in table {
            let spec = container("odd").image(&node.image).cmd(["true"]);
            assert_refused(pod.create(change(spec)).await, code, &[words]);
        }
        assert!(node.client.containers().await?.is_empty());
        audit.assert_clean().await?;
        Ok(pod.delete().await?)
    });
}

/// A row of a table whose change is one of the configuration.
macro_rules! config {
    ($change:expr) => {
        |spec: ContainerSpec| {
            let change: Change = $change;
            spec.with(change)
        }
    };
}

/// A row of a table whose change is one of the security context.
macro_rules! security {
    ($change:expr) => {
        |spec: ContainerSpec| {
            let change: Tighten = $change;
            spec.security(change)
        }
    };
}

#[test]
fn names_and_commands_are_there_and_not_over_long() {
    all_are_refused(
        Code::InvalidArgument,
        &[
            (config!(|c| c.metadata = None), "config.metadata"),
            (
                config!(|c| c.metadata.get_or_insert_default().name.clear()),
                "config.metadata.name is missing",
            ),
            (
                config!(|c| c.metadata.get_or_insert_default().name = "n".repeat(254)),
                "config.metadata.name has 254 bytes",
            ),
            (
                config!(|c| c.metadata.get_or_insert_default().name = "a\nb".into()),
                "config.metadata.name",
            ),
            (config!(|c| c.image = None), "config.image.image is missing"),
            (config!(|c| c.command = vec![String::new()]), "config.command[0] is empty"),
            (config!(|c| c.command.push("a\0b".into())), "argument 1 has a NUL"),
            (|spec| spec.env("", "x"), "config.envs[0].key"),
            (|spec| spec.env("A", "1").env("B=C", "x"), "config.envs[1].key \"B=C\""),
            (|spec| spec.env("A", "x\0"), "config.envs[0].value"),
            (config!(|c| c.working_dir = "relative".into()), "config.working_dir \"relative\""),
        ],
    );
}

#[test]
fn a_log_stays_below_the_directory_of_its_pod() {
    all_are_refused(
        Code::InvalidArgument,
        &[
            (config!(|c| c.log_path = "../x.log".into()), "config.log_path \"../x.log\""),
            (config!(|c| c.log_path = "a/../../x.log".into()), "config.log_path"),
            (config!(|c| c.log_path = "/etc/x.log".into()), "config.log_path \"/etc/x.log\""),
            (config!(|c| c.log_path = "dir/".into()), "config.log_path \"dir/\""),
            (config!(|c| c.log_path = "x".repeat(256)), "config.log_path"),
            (config!(|c| c.log_path = "x/".repeat(3000)), "config.log_path"),
        ],
    );
}

#[test]
fn users_exist_and_are_named_once() {
    all_are_refused(
        Code::InvalidArgument,
        &[
            (security!(|s| s.run_as_username = "mallory".into()), "\"mallory\" in /etc/passwd"),
            (security!(|s| s.run_as_username = "a:b".into()), "run_as_username has a colon"),
            (
                security!(|s| {
                    s.run_as_username = "alice".into();
                    s.run_as_user = Some(Int64Value { value: 1 });
                }),
                "both run_as_user and run_as_username",
            ),
            (
                security!(|s| s.run_as_group = Some(Int64Value { value: 1 })),
                "run_as_group without a user",
            ),
            (security!(|s| s.run_as_user = Some(Int64Value { value: -1 })), "run_as_user -1"),
            (
                security!(|s| s.run_as_user = Some(Int64Value { value: 4_294_967_295 })),
                "run_as_user 4294967295",
            ),
            (security!(|s| s.supplemental_groups = vec![1, -7]), "supplemental_groups -7"),
            (security!(|s| s.supplemental_groups_policy = 9), "supplemental_groups_policy 9"),
        ],
    );
}

fn mounting(spec: ContainerSpec, change: fn(&mut Mount)) -> ContainerSpec {
    let mut spec = spec.mount("/etc", "/data", false);
    change(&mut spec.config.mounts[0]);
    spec
}

#[test]
fn mounts_say_from_where_and_to_where() {
    all_are_refused(
        Code::InvalidArgument,
        &[
            (|s| mounting(s, |m| m.host_path = "etc".into()), "mounts[0].host_path \"etc\""),
            (|s| mounting(s, |m| m.host_path.clear()), "mounts[0].host_path \"\""),
            (|s| mounting(s, |m| m.host_path = "/a/../etc".into()), "mounts[0].host_path"),
            (|s| mounting(s, |m| m.container_path = "data".into()), "mounts[0].container_path"),
            (|s| mounting(s, |m| m.container_path = "/../up".into()), "mounts[0].container_path"),
            (|s| mounting(s, |m| m.container_path = "/a\0b".into()), "mounts[0].container_path"),
            (|s| mounting(s, |m| m.host_path = "/etc/passwd/x".into()), "/etc/passwd/x: Not a dir"),
            (
                |s| mounting(s, |m| m.host_path = format!("/{}", "x".repeat(256))),
                "mount source /xxx",
            ),
            (|s| mounting(s, |m| m.propagation = 7), "mounts[0].propagation 7"),
            (|s| mounting(s, |m| m.recursive_read_only = true), "mounts[0].recursive_read_only"),
        ],
    );
}

#[test]
fn capabilities_devices_and_scores_are_known() {
    fn device(spec: ContainerSpec, host: &str, container: &str, access: &str) -> ContainerSpec {
        let device = Device {
            host_path: host.into(),
            container_path: container.into(),
            permissions: access.into(),
        };
        spec.with(|config| config.devices.push(device))
    }
    all_are_refused(
        Code::InvalidArgument,
        &[
            (ContainerSpec::privileged, "privileged is set, but its pod is not privileged"),
            (
                security!(|s| s.capabilities = Some(Capability {
                    add_capabilities: vec!["FLY".into()],
                    ..Default::default()
                })),
                "capabilities.add_capabilities \"FLY\" is unknown",
            ),
            (
                security!(|s| s.capabilities = Some(Capability {
                    drop_capabilities: vec!["CAP_".into()],
                    ..Default::default()
                })),
                "capabilities.drop_capabilities \"CAP_\" is unknown",
            ),
            (|s| device(s, "/dev/nowhere", "/dev/x", "r"), "find device /dev/nowhere: No such"),
            (|s| device(s, "/etc/passwd", "/dev/x", "r"), "/etc/passwd is not a device"),
            (|s| device(s, "/dev/null", "/dev/x", "rx"), "access \"rx\""),
            (|s| device(s, "null", "/dev/x", "r"), "config.devices[0].host_path \"null\""),
            (|s| device(s, "/dev/null", "x", "r"), "config.devices[0].container_path \"x\""),
            (|s| s.resources(|r| r.oom_score_adj = 1001), "oom_score_adj 1001"),
        ],
    );
}

#[test]
fn an_image_and_a_pod_must_be_there() {
    place::native(async |place| {
        let node = Node::start(&place, Engine::Berthd).await?;
        let audit = node.audit()?;
        let pod = node.client.run_pod(pod("p")).await?;
        let unknown = container("odd").image("localhost/nowhere:1").cmd(["true"]);
        assert_refused(pod.create(unknown).await, Code::NotFound, &["localhost/nowhere:1"]);
        let spec = container("odd").image(&node.image).cmd(["true"]);
        let nobody = node.client.pod(&"0".repeat(64));
        assert_refused(nobody.create(spec.clone()).await, Code::NotFound, &[&nobody.id]);

        let late = pod.create(spec.clone()).await?;
        pod.stop().await?;
        let refused = assert_refused(late.start().await, Code::FailedPrecondition, &[&pod.id]);
        assert!(refused.contains("not ready"), "{refused}");
        let refused = pod.create(container("other").image(&node.image).cmd(["true"])).await;
        assert_refused(refused, Code::FailedPrecondition, &[&pod.id, "not ready"]);
        pod.remove().await?;
        assert!(node.client.containers().await?.is_empty());
        audit.assert_clean().await
    });
}

/// Gone is success for who wants it gone, NOT_FOUND for who asks.
#[test]
fn what_is_unknown_is_named_or_gone() {
    place::native(async |place| {
        let daemon = Setup::new(Engine::Berthd).start(&place).await?;
        let client = daemon.client().await?;
        let nul = "a\0b";
        for id in [&"0".repeat(64), "..", "../../etc/passwd", nul, &"f".repeat(1 << 20)] {
            let nobody = client.container(id);
            let words: &[&str] = if id.len() == 64 { &["container", id] } else { &["not found"] };
            let not_found = |result: Result<(), _>| {
                let message = assert_refused(result, Code::NotFound, words);
                assert!(message.len() < 1024, "{} bytes", message.len());
            };
            not_found(nobody.start().await);
            not_found(nobody.status().await.map(drop));
            not_found(nobody.exec(["true"]).await.map(drop));
            not_found(nobody.reopen_log().await);
            let stats = ContainerStatsRequest { container_id: id.to_owned() };
            not_found(client.runtime().container_stats(stats).await.map(drop));
            nobody.stop(0).await?;
            nobody.remove().await?;
        }
        assert_eq!(client.containers_where(Default::default()).await?, Vec::<String>::new());
        let missing = client.container("");
        let words = ["container_id is missing"];
        assert_refused(missing.start().await, Code::InvalidArgument, &words);
        assert_refused(missing.stop(0).await, Code::InvalidArgument, &words);
        assert_refused(missing.remove().await, Code::InvalidArgument, &words);
        let empty = client.runtime().create_container(CreateContainerRequest::default()).await;
        assert_refused(empty, Code::InvalidArgument, &["pod_sandbox_id is missing"]);
        let update = UpdateContainerResourcesRequest::default();
        let update = client.runtime().update_container_resources(update).await;
        assert_refused(update, Code::InvalidArgument, &words);
        assert_refused(
            client.container("nosuch").update(|_| ()).await,
            Code::NotFound,
            &["nosuch"],
        );
        let attach = client.runtime().attach(AttachRequest::default()).await;
        assert_refused(attach, Code::Unimplemented, &["Attach"]);
        Ok(())
    });
}

fn without_any() -> Capability {
    Capability { drop_capabilities: vec!["ALL".into()], ..Default::default() }
}

async fn did_not_start(app: &Container, code: i32, message: &str) -> Result<()> {
    let status = app.status().await?;
    assert_eq!(status.state(), ContainerState::ContainerExited);
    assert_eq!((status.exit_code, status.reason.as_str()), (code, "StartError"));
    assert_eq!(status.message, message);
    assert_eq!(status.started_at, 0);
    assert!(status.finished_at >= status.created_at, "{status:?}");
    Ok(())
}

/// What only shows when a program is to run. The container stays, for people to look at.
#[test]
fn a_program_that_cannot_run_says_why() {
    place::native(async |place| {
        let node = Node::start(&place, Engine::Berthd).await?;
        let broken = Layer::new()
            .with(Entry::file("bin/text", "no program\n").mode(0o755))
            .with(Entry::file("bin/lost", "#!/no/such/interpreter\n").mode(0o755))
            .with(Entry::file("bin/secret", "#!/bin/sh\n").mode(0o700))
            .with(Entry::file("file", ""));
        let image = Image::busybox()?.layer(broken).build()?;
        let image = node.registry.push("broken:1", &image).await?;
        node.client.pull(&image).await?;
        let audit = node.audit()?;
        let pod = node.client.run_pod(pod("p")).await?;
        let not_found = "executable file not found in the container";
        for (number, (command, workdir, refused, code, why)) in [
            ("nowhere", "/", Code::NotFound, 127, not_found),
            ("/bin/nowhere", "/", Code::NotFound, 127, not_found),
            ("./nowhere", "/", Code::NotFound, 127, not_found),
            ("/file/x", "/", Code::NotFound, 127, not_found),
            ("lost", "/", Code::NotFound, 127, "no such file or directory"),
            ("/file", "/", Code::PermissionDenied, 126, "permission denied"),
            ("/etc", "/", Code::PermissionDenied, 126, "permission denied"),
            ("text", "/", Code::PermissionDenied, 126, "exec format error"),
            ("secret", "/", Code::PermissionDenied, 126, "permission denied"),
            ("true", "/file", Code::FailedPrecondition, 128, "not a directory"),
        ]
        .into_iter()
        .enumerate()
        {
            let spec = container(&format!("c{number}")).image(&image).cmd([command]);
            let spec = spec.with(|config| config.working_dir = workdir.into());
            let spec = spec.security(|security| {
                security.run_as_username = "alice".into();
                security.capabilities = Some(without_any());
            });
            let app = pod.create(spec).await?;
            let about = if workdir == "/" { command } else { workdir };
            let message = assert_refused(app.start().await, refused, &[about, why]);
            did_not_start(&app, code, &message).await?;
            let again = app.start().await;
            assert_refused(again, Code::FailedPrecondition, &[&app.id, "exited"]);
            app.remove().await?;
        }
        pod.delete().await?;
        audit.assert_clean().await
    });
}
