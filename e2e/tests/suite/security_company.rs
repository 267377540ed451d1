//! What a process shows of the node to those who live where it is born: the processes of the
//! container, or of the pod, that it joins. With `CAP_SYS_PTRACE` they may look at its root, its
//! working directory and its descriptors from its first moment on.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use berth_e2e::client::cri::Capability;
use berth_e2e::client::{ContainerSpec, container, pod};
use berth_e2e::daemon::Engine;
use berth_e2e::image::{Entry, Image, Layer};
use berth_e2e::node::Node;
use berth_e2e::oci::{Bundle, Oci};
use berth_e2e::place;
use berth_e2e::wait;
use serde_json::json;

const SOON: Duration = Duration::from_secs(20);
const EXECS: usize = 300;
const JOINERS: usize = 60;

/// Looks at every process that it sees, until it is stopped, and tells what is not of its kind. A
/// root of a container has a file `own`; one that has nothing shows nothing. All in the shell:
/// a command for each look would be too slow.
const WATCH: &str = r#"
tell() { [ -d /proc/$2 ] && [ $told -lt 40 ] && told=$((told + 1)) && echo "$1: $2 $3"; }
harmless() { [ "$1" -ef / ] || [ -e "$1/own" ] || [ ! -e "$1/etc" -a ! -e "$1/proc" ]; }
told=0 seen=0 last=0
while read name value rest; do
  case $name in CapBnd:) allowed=$((0x$value));; esac
done < /proc/self/status
echo watching
while [ ! -e /stop ]; do
  for dir in /proc/[0-9]*; do
    pid=${dir#/proc/}
    [ $pid != $$ ] || continue
    for way in root cwd; do
      if [ -d $dir/$way ] && ! harmless $dir/$way && [ -d $dir/$way ]; then
        tell "the node" $pid $way
      fi
    done
    for fd in 3 4 5 6 7 8 9 10 11 12 13 14 15 16; do
      if [ -d $dir/fd/$fd -o -f $dir/fd/$fd ]; then tell "the node" $pid fd/$fd; fi
    done
    [ $pid -le $last ] || { seen=$((seen + 1)) last=$pid; }
    [ -z "$CAPABILITIES" ] || while read name value rest; do
      case $name in CapPrm:|CapEff:)
        [ $((0x$value & ~allowed)) = 0 ] || tell "capabilities" $pid $value;;
      esac
    done < $dir/status
  done 2>/dev/null
done
echo done, seen $seen
"#;

/// What the watcher says at its end: nothing but how many it has seen.
fn assert_nothing_found(said: &str) -> Result<()> {
    let mut lines = said.lines();
    ensure!(lines.next() == Some("watching"), "{said}");
    let seen = lines.next().and_then(|line| line.strip_prefix("done, seen "));
    let seen: usize = seen.with_context(|| said.to_owned())?.parse()?;
    // Not each, but a watcher that sees nobody watches nothing.
    ensure!(seen > 20, "only {seen} were seen");
    Ok(())
}

/// A container that watches, with or without the right to look at everything.
fn watcher(oci: &Oci, traces: bool, capabilities: bool) -> Result<Bundle> {
    let mut bundle = oci.bundle("watcher")?.script(WATCH);
    fs::write(bundle.rootfs().join("own"), "")?;
    if traces {
        for set in ["bounding", "effective", "permitted"] {
            bundle = bundle.set(&format!("/process/capabilities/{set}/-"), json!("CAP_SYS_PTRACE"));
        }
    }
    if capabilities {
        bundle = bundle.set("/process/env/-", json!("CAPABILITIES=1"));
    }
    Ok(bundle)
}

async fn until_said(bundle: &Bundle, words: &str) -> Result<String> {
    wait::until(words, SOON, async || {
        let said = bundle.read("out")?;
        Ok(said.contains(words).then_some(said))
    })
    .await
}

/// Runs many commands in a watcher, and deletes it.
async fn sees_nothing_of_commands(oci: &Oci, bundle: &Bundle) -> Result<()> {
    oci.start(bundle).await?;
    until_said(bundle, "watching").await?;
    for _ in 0..EXECS {
        oci.ok(&["exec", "watcher", "/bin/true"]).await?;
    }
    fs::write(bundle.rootfs().join("stop"), "")?;
    assert_nothing_found(&until_said(bundle, "done").await?)?;
    oci.delete("watcher").await
}

#[test]
fn nobody_in_a_container_sees_the_node_by_a_command() {
    place::native(async |place| {
        let oci = Oci::begin(&place)?;
        for traces in [true, false] {
            let bundle = watcher(&oci, traces, true)?;
            sees_nothing_of_commands(&oci, &bundle).await?;
            fs::remove_dir_all(&bundle.dir)?;
        }
        oci.assert_clean().await
    });
}

/// The same of a container that lives in a user namespace: its root has that capability there.
#[test]
fn nobody_in_a_user_namespace_sees_the_node_by_a_command() {
    place::native(async |place| {
        let oci = Oci::begin(&place)?;
        let ids = json!([{"containerID": 0, "hostID": 100_000, "size": 65536}]);
        let bundle = watcher(&oci, true, true)?
            .set("/linux/namespaces/-", json!({"type": "user"}))
            .set("/linux/uidMappings", ids.clone())
            .set("/linux/gidMappings", ids);
        sees_nothing_of_commands(&oci, &bundle).await?;
        oci.assert_clean().await
    });
}

/// Containers that are made in a PID namespace where others live.
#[test]
fn nobody_sees_the_node_by_a_container_that_joins() {
    place::native(async |place| {
        let oci = Oci::begin(&place)?;
        let bundle = watcher(&oci, true, false)?;
        oci.start(&bundle).await?;
        until_said(&bundle, "watching").await?;
        let pid = oci.state("watcher").await?["pid"].as_i64().context("a pid")?;
        // Its procfs is that of the others.
        let script = "[ $$ != 1 ] && [ -d /proc/1 ] && [ /proc/self -ef /proc/$$ ] && echo inside";
        let joiner = oci.bundle("joiner")?.script(script);
        fs::write(joiner.rootfs().join("own"), "")?;
        let joiner = joiner
            .set("/linux/namespaces/0/path", json!(format!("/proc/{pid}/ns/pid")))
            .set("/process/noNewPrivileges", json!(false));
        for _ in 0..JOINERS {
            let ran = oci.run(&joiner).await?;
            assert_eq!((ran.code, ran.stdout.as_str()), (0, "inside\n"), "{ran:?}");
        }
        fs::write(bundle.rootfs().join("stop"), "")?;
        assert_nothing_found(&until_said(&bundle, "done").await?)?;
        oci.delete("watcher").await?;
        oci.assert_clean().await
    });
}

/// A container of a pod that watches.
fn spec(image: &str, traces: bool, capabilities: bool) -> ContainerSpec {
    let capability = |name: &str| Capability {
        add_capabilities: vec![name.to_owned()],
        ..Capability::default()
    };
    let spec = container("watcher").image(image).script(WATCH);
    let spec = if capabilities { spec.env("CAPABILITIES", "1") } else { spec };
    spec.security(|security| {
        security.capabilities = traces.then(|| capability("SYS_PTRACE"));
    })
}

#[test]
fn nobody_in_a_pod_sees_the_node_by_a_command_or_a_container() {
    place::native(async |place| {
        let node = Node::start(&place, Engine::Berthd).await?;
        let image = Image::busybox()?.layer(Layer::new().with(Entry::file("own", ""))).build()?;
        let image = node.registry.push("own:1", &image).await?;
        node.client.pull(&image).await?;
        let audit = node.audit()?;
        for (name, traces) in [("traces", true), ("plain", false)] {
            let pod = node.client.run_pod(pod(name)).await?;
            let watcher = pod.run(spec(&image, traces, true)).await?;
            watcher.wait_for_log("watching").await?;
            for _ in 0..EXECS {
                watcher.exec(["/bin/true"]).await?;
            }
            watcher.shell("touch /stop").await?;
            watcher.wait_for_exit().await?;
            assert_nothing_found(&watcher.log_text()?)?;
            pod.delete().await?;
        }

        let pod = node.client.run_pod(pod("shared").shared_pid()).await?;
        let watcher = pod.run(spec(&image, true, false)).await?;
        watcher.wait_for_log("watching").await?;
        for number in 0..JOINERS {
            let other = container(&format!("other{number}")).image(&image);
            let other = pod.run(other.script("exit 3")).await?;
            assert_eq!(other.wait_for_exit().await?.exit_code, 3);
            other.remove().await?;
            watcher.exec(["/bin/true"]).await?;
        }
        watcher.shell("touch /stop").await?;
        watcher.wait_for_exit().await?;
        assert_nothing_found(&watcher.log_text()?)?;
        pod.delete().await?;
        audit.assert_clean().await
    });
}
