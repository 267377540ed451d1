//! Commands in a running container: their output, their end, their limits, and that they are in
//! the same place as what runs there.

use std::time::{Duration, Instant};

use anyhow::Result;
use berth_e2e::client::cri::{Capability, ExecSyncRequest};
use berth_e2e::client::{Code, Container, Output, Pod, assert_refused, container, pod};
use berth_e2e::daemon::{Engine, Setup};
use berth_e2e::node::Node;
use berth_e2e::place::{self, Place};
use berth_e2e::{network, process, wait};

async fn node(place: &Place) -> Result<Node> {
    Node::start(place, Engine::from_env(Engine::Berthd)?).await
}

/// A container that sleeps.
async fn sleeper(node: &Node) -> Result<(Pod, Container)> {
    let pod = node.client.run_pod(pod("p")).await?;
    let app = pod.run(container("app").image(&node.image).cmd(["sleep", "inf"])).await?;
    Ok((pod, app))
}

async fn none_runs(what: &str) -> Result<()> {
    let gone = async || Ok(process::find(&[what]).is_empty().then_some(()));
    wait::until(&format!("{what} is gone"), Duration::from_secs(10), gone).await
}

#[test]
fn output_comes_by_stream_and_the_end_as_a_code() {
    place::native(async |place| {
        let node = node(&place).await?;
        let audit = node.audit()?;
        let (pod, app) = sleeper(&node).await?;
        for (script, stdout, stderr, code) in [
            ("true", "", "", 0),
            ("echo out; echo err >&2; exit 3", "out\n", "err\n", 3),
            ("printf 'no end'; exit 255", "no end", "", 255),
            ("kill -KILL $$", "", "", 137),
            ("kill -TERM $$", "", "", 143),
            ("cat", "", "", 0),
            ("test -t 1 || echo no terminal", "no terminal\n", "", 0),
        ] {
            let output = app.exec(["sh", "-c", script]).await?;
            let expected = Output { code, stdout: stdout.into(), stderr: stderr.into() };
            assert_eq!(output, expected, "{script}");
        }
        pod.delete().await?;
        audit.assert_clean().await
    });
}

async fn raw(node: &Node, app: &Container, script: &str) -> Result<(Vec<u8>, Vec<u8>)> {
    let cmd = ["sh", "-c", script].map(str::to_owned).into();
    let request = ExecSyncRequest { container_id: app.id.clone(), cmd, timeout: 60 };
    let answer = node.client.runtime().exec_sync(request).await?.into_inner();
    assert_eq!(answer.exit_code, 0, "{script}");
    Ok((answer.stdout, answer.stderr))
}

/// What does not fit into an answer, as large as a kubelet takes it, is dropped: the command goes
/// on, and the daemon stays small (CVE-2022-31030).
#[test]
fn output_is_given_byte_for_byte_and_up_to_a_limit() {
    place::native(async |place| {
        let node = Node::start(&place, Engine::Berthd).await?;
        let audit = node.audit()?;
        let (pod, app) = sleeper(&node).await?;
        let (bytes, _) = raw(&node, &app, r"printf '\000\377\r\n\001'").await?;
        assert_eq!(bytes, b"\x00\xff\r\n\x01");
        let both = "head -c 3000000 /dev/zero; head -c 5000000 /dev/zero >&2";
        let (stdout, stderr) = raw(&node, &app, both).await?;
        assert_eq!((stdout.len(), stderr.len()), (3_000_000, 5_000_000));
        for script in ["head -c 40000000 /dev/zero", "head -c 40000000 /dev/zero | tee /dev/stderr"]
        {
            let (stdout, stderr) = raw(&node, &app, script).await?;
            let all = stdout.len() + stderr.len();
            assert!((16_000_000..16 << 20).contains(&all), "{script}: {all}");
        }
        pod.delete().await?;
        audit.assert_clean().await
    });
}

#[test]
fn a_command_that_is_out_of_time_is_killed_with_all_that_it_started() {
    place::native(async |place| {
        let node = node(&place).await?;
        let audit = node.audit()?;
        let (pod, app) = sleeper(&node).await?;
        let begun = Instant::now();
        let script = "trap '' TERM INT; sleep 7654 & setsid sleep 7654 & echo said; sleep 7654";
        let late = app.exec_for(1, ["sh", "-c", script]).await;
        assert_refused(late, Code::DeadlineExceeded, &["1.0 s"]);
        let took = begun.elapsed();
        assert!((Duration::from_secs(1)..Duration::from_secs(3)).contains(&took), "{took:?}");
        none_runs("sleep 7654").await?;
        assert_eq!(app.exec(["true"]).await?.code, 0, "the container goes on");
        pod.delete().await?;
        audit.assert_clean().await
    });
}

/// A daemon that is started by a command stays; who asked is not kept waiting by its streams.
#[test]
fn a_child_that_holds_the_output_does_not_hold_the_answer() {
    place::native(async |place| {
        let network = network::bridge(1).masquerade().install(&place)?;
        let setup = Setup::new(Engine::Berthd).network(&network);
        let setup = setup.config("version = 1\n[timeouts]\nexec_drain = \"300ms\"\n");
        let node = Node::start_with(&place, setup).await?;
        let audit = node.audit()?;
        let (pod, app) = sleeper(&node).await?;
        let begun = Instant::now();
        let output = app.exec(["sh", "-c", "echo before; sleep 7653 & exit 4"]).await?;
        assert_eq!((output.code, output.stdout.as_str()), (4, "before\n"));
        assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
        assert_eq!(process::find(&["sleep 7653"]).len(), 1, "it was not killed");
        let quick = Instant::now();
        app.exec(["sh", "-c", "sleep 7653 >/dev/null 2>&1 &"]).await?;
        assert!(quick.elapsed() < Duration::from_millis(300), "nothing to wait for");
        app.remove().await?;
        none_runs("sleep 7653").await?;
        pod.delete().await?;
        audit.assert_clean().await
    });
}

#[test]
fn a_command_is_where_the_container_is() {
    place::native(async |place| {
        let node = node(&place).await?;
        let audit = node.audit()?;
        let pod = node.client.run_pod(pod("p")).await?;
        let capabilities = Capability {
            add_capabilities: vec!["NET_RAW".into()],
            drop_capabilities: vec!["ALL".into()],
            ..Default::default()
        };
        let spec = container("app").image(&node.image).cmd(["sleep", "inf"]);
        let spec = spec.env("COLOUR", "blue").with(|config| config.working_dir = "/tmp".into());
        let app = pod.run(spec.security(|security| {
            security.run_as_username = "alice".into();
            security.supplemental_groups = vec![77];
            security.capabilities = Some(capabilities);
            security.no_new_privs = true;
        }));
        let app = app.await?;
        let inside = app.shell("echo $COLOUR $HOME $HOSTNAME; pwd; id -u; id -g").await?;
        assert_eq!(inside, "blue /home/alice p\n/tmp\n1000\n1000\n");
        let fields = "'^(Uid|Gid|Groups|CapEff|CapBnd|CapAmb|NoNewPrivs|Seccomp):'";
        for what in [
            format!("grep -E {fields} /proc/PID/status"),
            "cat /proc/PID/oom_score_adj".to_owned(),
            "cut -d' ' -f3- /proc/PID/limits".to_owned(),
            "cat /proc/PID/mountinfo".to_owned(),
            "for kind in cgroup ipc mnt net pid user uts; do readlink /proc/PID/ns/$kind; done"
                .to_owned(),
        ] {
            let of = async |pid| app.shell(&what.replace("PID", pid)).await;
            assert_eq!(of("1").await?, of("self").await?, "{what}");
        }
        let cgroup = app.shell("cat /proc/self/cgroup").await?;
        assert!(cgroup.contains("0::/") && !cgroup.contains(".."), "in the container's: {cgroup}");
        pod.delete().await?;
        audit.assert_clean().await
    });
}

#[test]
fn many_commands_run_at_once() {
    place::native(async |place| {
        let node = node(&place).await?;
        let audit = node.audit()?;
        let (pod, app) = sleeper(&node).await?;
        let mut commands = tokio::task::JoinSet::new();
        for number in 0..50 {
            let app = app.clone();
            commands.spawn(async move {
                let script = format!("echo {number}; echo {number} >&2; exit {number}");
                (number, app.exec(["sh", "-c", &script]).await)
            });
        }
        for (number, output) in commands.join_all().await {
            let said = format!("{number}\n");
            assert_eq!(output?, Output { code: number, stdout: said.clone(), stderr: said });
        }
        // Long ones do not get in the way of a stop, and end with it.
        let runs = async || Ok((!process::find(&["sleep 7652"]).is_empty()).then_some(()));
        let stop = async {
            wait::until("the command runs", Duration::from_secs(10), runs).await?;
            anyhow::Ok(app.stop(0).await?)
        };
        let (long, stopped) = tokio::join!(app.exec(["sleep", "7652"]), stop);
        stopped?;
        assert_eq!(long?.code, 137);
        pod.delete().await?;
        audit.assert_clean().await
    });
}

#[test]
fn a_command_that_cannot_run_says_why() {
    place::native(async |place| {
        let node = Node::start(&place, Engine::Berthd).await?;
        let audit = node.audit()?;
        let (pod, app) = sleeper(&node).await?;
        let not_found = "executable file not found in the container";
        for (command, code, words) in [
            ("nowhere", Code::NotFound, ["\"nowhere\"", not_found]),
            ("/nowhere", Code::NotFound, ["\"/nowhere\"", not_found]),
            ("/etc/passwd/x", Code::NotFound, ["\"/etc/passwd/x\"", not_found]),
            ("/etc/passwd", Code::PermissionDenied, ["\"/etc/passwd\"", "permission denied"]),
            ("/etc", Code::PermissionDenied, ["\"/etc\"", "permission denied"]),
            ("a\0b", Code::PermissionDenied, ["", ""]),
        ] {
            assert_refused(app.exec([command]).await, code, &words);
        }
        assert_refused(app.exec([]).await, Code::InvalidArgument, &["cmd is missing"]);
        assert_refused(app.exec([""]).await, Code::InvalidArgument, &["cmd is missing"]);
        app.shell("true").await?;

        let late = pod.create(container("late").image(&node.image).cmd(["true"])).await?;
        let refused = late.exec(["true"]).await;
        assert_refused(refused, Code::FailedPrecondition, &[&late.id, "created"]);
        app.stop(0).await?;
        let refused = app.exec(["true"]).await;
        assert_refused(refused, Code::FailedPrecondition, &[&app.id, "exited"]);
        pod.delete().await?;
        audit.assert_clean().await
    });
}
