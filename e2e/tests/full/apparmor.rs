//! AppArmor: every process of a container runs under the profile that was asked for, by default
//! under berth's own, and the kernel enforces it.

use std::fs;

use anyhow::{Context, Result, ensure};
use berth_e2e::client::cri::{SecurityProfile, security_profile::ProfileType};
use berth_e2e::client::{Code, Container, ContainerSpec, assert_refused, container, pod};
use berth_e2e::daemon::{Daemon, Engine, Setup};
use berth_e2e::image::{Image, archive};
use berth_e2e::oci::Oci;
use berth_e2e::place::{self, Place};
use serde_json::json;
use tokio::process::Command;

const IMAGE: &str = "localhost/busybox:1";
const DEFAULT: &str = "berth-default (enforce)\n";
const LABEL: &str = "/proc/1/attr/current";

/// A profile of the node's, and what it denies.
const OWN: &str = "profile e2e-own flags=(attach_disconnected) {
    file, network, capability, signal, ptrace,
    deny /etc/secret r,
}\n";

fn asks(kind: ProfileType, name: &str) -> ContainerSpec {
    let profile = SecurityProfile { profile_type: kind.into(), localhost_ref: name.to_owned() };
    idle().security(|security| security.apparmor = Some(profile))
}

#[expect(deprecated, reason = "older kubelets send the old field")]
fn asks_as_of_old(text: &str) -> ContainerSpec {
    idle().security(|security| security.apparmor_profile = text.to_owned())
}

fn idle() -> ContainerSpec {
    container("app").image(IMAGE).cmd(["/bin/sleep", "inf"])
}

#[test]
fn a_container_runs_under_the_profile_that_it_asks_for() {
    place::full_machine(async |place| {
        let _own = Profile::load(&place, "e2e-own", OWN).await?;
        let daemon = berthd(&place).await?;
        let client = daemon.client().await?;
        let pod = client.run_pod(pod("p").host_network().privileged()).await?;
        let privileged = |spec: ContainerSpec| spec.privileged();
        let own = "e2e-own (enforce)\n";
        for (spec, expected) in [
            (idle(), DEFAULT),
            (asks(ProfileType::RuntimeDefault, ""), DEFAULT),
            (asks(ProfileType::Unconfined, ""), "unconfined\n"),
            (asks(ProfileType::Localhost, "e2e-own"), own),
            (asks(ProfileType::Localhost, "localhost/e2e-own"), own),
            (asks_as_of_old("runtime/default"), DEFAULT),
            (asks_as_of_old("unconfined"), "unconfined\n"),
            (asks_as_of_old("localhost/e2e-own"), own),
            (privileged(idle()), "unconfined\n"),
            (privileged(asks(ProfileType::Localhost, "e2e-own")), own),
        ] {
            let app = pod.run(spec.clone()).await?;
            assert_eq!(label_of(app.pid().await?)?, expected, "{:?}", spec.config.linux);
            let of_exec = app.shell("cat /proc/self/attr/current").await?;
            assert_eq!(of_exec, expected, "exec");
            app.remove().await?;
        }
        let unknown = [
            (asks(ProfileType::Localhost, "e2e-none"), "apparmor.localhost_ref \"e2e-none\""),
            (asks_as_of_old("localhost/e2e-none"), "apparmor_profile \"localhost/e2e-none\""),
            (asks_as_of_old("e2e-own"), "apparmor_profile \"e2e-own\""),
        ];
        for (spec, words) in unknown {
            assert_refused(pod.create(spec).await, Code::InvalidArgument, &[words]);
        }
        assert!(client.containers().await?.is_empty());
        pod.delete().await?;
        Ok(())
    });
}

#[test]
fn the_default_profile_denies_what_it_says() {
    place::full_machine(async |place| {
        let daemon = berthd(&place).await?;
        let client = daemon.client().await?;
        let pod = client.run_pod(pod("p").host_network()).await?;
        // All the rights that other walls would keep it from using.
        let open = |spec: ContainerSpec| {
            spec.security(|security| {
                let all = vec!["ALL".to_owned()];
                security.capabilities.get_or_insert_default().add_capabilities = all;
                security.masked_paths = vec!["/proc/keys".to_owned()];
                security.readonly_paths = Vec::new();
            })
        };
        let denied = [
            "mount -t tmpfs none /tmp",
            "mount -o remount,rw /sys",
            "head -c 1 /proc/kcore",
            "echo h > /proc/sysrq-trigger",
            "echo 60 > /proc/sys/vm/swappiness",
            "echo core > /proc/sys/kernel/core_pattern",
            "umount /proc/keys",
        ];
        let free = pod.run(open(asks(ProfileType::Unconfined, ""))).await?;
        free.shell("mount -t tmpfs none /tmp && umount /tmp").await?;
        let free_core = free.exec(["/bin/sh", "-c", "head -c 1 /proc/kcore | wc -c"]).await?;
        assert_eq!(free_core.stdout.trim(), "1", "the profile is all that denies it below");
        free.remove().await?;

        let app = pod.run(open(idle())).await?;
        for script in denied {
            let told = app.exec(["/bin/sh", "-c", script]).await?;
            assert_ne!(told.code, 0, "{script}");
            let why = told.stderr.to_lowercase();
            assert!(why.contains("denied") || why.contains("permitted"), "{script}: {why}");
        }
        // What programs do all day.
        for script in [
            "echo x > /etc/file; cat /etc/file; rm /etc/file",
            "mkdir /d && chmod 700 /d && mv /d /e && rmdir /e",
            "sleep 100 & kill -TERM $!; wait $! || true",
            "kill -0 1",
            "cat /proc/1/status /proc/self/maps /proc/sys/kernel/osrelease > /dev/null",
            "echo 5 > /proc/self/oom_score_adj",
            "ls /sys/fs/cgroup /sys/class/net > /dev/null",
        ] {
            app.shell(script).await?;
        }
        // Ended by a signal of the host's, which the profile must let in.
        app.stop(10).await?;
        pod.delete().await?;
        Ok(())
    });
}

#[test]
fn the_default_profile_is_loaded_again_when_somebody_has_removed_it() {
    place::full_machine(async |place| {
        let mut daemon = berthd(&place).await?;
        let client = daemon.client().await?;
        let pod = client.run_pod(pod("p").host_network()).await?;
        let label = async |app: &Container| app.shell(&format!("cat {LABEL}")).await;
        let app = pod.run(idle()).await?;
        assert_eq!(label(&app).await?, DEFAULT);
        app.remove().await?;
        // As a restart of the service apparmor does to profiles that it does not know.
        fs::write("/sys/kernel/security/apparmor/.remove", "berth-default")?;
        let app = pod.run(idle()).await?;
        assert_eq!(label(&app).await?, DEFAULT);
        daemon.kill().await?;
        daemon.start().await?;
        let client = daemon.client().await?;
        let app = client.container(&app.id);
        assert_eq!(app.shell("cat /proc/self/attr/current").await?, DEFAULT);
        client.pod(&pod.id).delete().await?;
        Ok(())
    });
}

#[test]
fn a_bundle_runs_under_its_profile() {
    place::full_machine(async |place| {
        let _own = Profile::load(&place, "e2e-own", OWN).await?;
        let oci = Oci::begin(&place)?;
        let bundle = |id: &str, profile: &str| {
            Ok::<_, anyhow::Error>(oci.bundle(id)?.set("/process/apparmorProfile", json!(profile)))
        };
        let box1 = bundle("box", "e2e-own")?.args(&["/bin/sleep", "inf"]);
        fs::create_dir_all(box1.rootfs().join("etc"))?;
        fs::write(box1.rootfs().join("etc/secret"), "secret\n")?;
        oci.start(&box1).await?;
        let own = "e2e-own (enforce)\n";
        let pid = oci.state("box").await?["pid"].as_i64().context("a PID")?;
        assert_eq!(label_of(i32::try_from(pid)?)?, own);
        assert_eq!(oci.exec("box", "cat /proc/self/attr/current").await?, own);
        let read = oci.call(&["exec", "box", "cat", "/etc/secret"]).await?;
        assert_ne!(read.code, 0);
        assert!(read.stderr.contains("Permission denied"), "{read:?}");
        let other = ["exec", "--apparmor", "unconfined", "box", "cat", "/etc/secret"];
        assert_eq!(oci.ok(&other).await?, "secret\n");
        oci.delete("box").await?;

        let label = "cat /proc/self/attr/current";
        for name in ["", "unconfined"] {
            assert_eq!(oci.script(bundle("free", name)?, label).await?, "unconfined\n");
        }
        let refused = oci.run(&bundle("none", "e2e-none")?.script("true")).await?;
        assert_ne!(refused.code, 0);
        for words in ["process.apparmorProfile", "e2e-none", "no such profile is loaded"] {
            assert!(refused.stderr.contains(words), "{refused:?}");
        }
        oci.assert_clean().await
    });
}

/// A berthd with an image.
async fn berthd(place: &Place) -> Result<Daemon> {
    let daemon = Setup::new(Engine::Berthd).start(place).await?;
    daemon.import(&archive::oci(IMAGE, &Image::busybox()?.build()?)?).await?;
    Ok(daemon)
}

fn label_of(process: i32) -> Result<String> {
    let path = format!("/proc/{process}/attr/current");
    fs::read_to_string(&path).with_context(|| format!("read {path}"))
}

/// A profile that is loaded until this is dropped.
struct Profile(&'static str);

impl Profile {
    async fn load(place: &Place, name: &'static str, text: &str) -> Result<Self> {
        let file = place.scratch().join(name);
        fs::write(&file, text).context("write a profile")?;
        let mut command = Command::new("apparmor_parser");
        let loaded = command.arg("--replace").arg(&file).output().await?;
        ensure!(loaded.status.success(), "{loaded:?}");
        Ok(Self(name))
    }
}

impl Drop for Profile {
    fn drop(&mut self) {
        // The machine goes with it in any case.
        let _ = fs::write("/sys/kernel/security/apparmor/.remove", self.0);
    }
}
