//! Hooks: when they run, where, with what, and what becomes of a container when one fails.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use berth_e2e::oci::{Bundle, Oci};
use berth_e2e::place;
use serde_json::{Value, json};

const KINDS: [&str; 6] =
    ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"];

/// A hook that runs a script of the shell. It has no environment but a search path.
fn hook(script: &str) -> Value {
    json!({
        "path": "/bin/sh", "args": ["sh", "-c", script],
        "env": ["PATH=/usr/bin:/bin"],
    })
}

/// Where all hooks can write to: the hooks of the host are in the bundle, those of the container
/// in its root.
fn log(kind: &str) -> &'static str {
    match kind {
        "createContainer" => "log",
        "startContainer" => "/log",
        _ => "rootfs/log",
    }
}

/// Has every kind of hook run `script` and append its output to the log, as one line each.
fn logging(bundle: Bundle, script: &str) -> Bundle {
    KINDS.into_iter().fold(bundle, |bundle, kind| {
        let line = format!("echo {kind} $({script}) >> {}", log(kind));
        bundle.set(&format!("/hooks/{kind}"), json!([hook(&line)]))
    })
}

/// What the hooks have written, by kind, in their order.
fn written(bundle: &Bundle) -> Result<Vec<(String, String)>> {
    let text = bundle.read("rootfs/log")?;
    let split = |line: &str| {
        let (kind, rest) = line.split_once(' ').unwrap_or((line, ""));
        (kind.to_owned(), rest.to_owned())
    };
    Ok(text.lines().map(split).collect())
}

#[test]
fn all_kinds_run_once_in_order_and_are_told_the_state() {
    place::native(async |place| {
        let oci = Oci::begin(&place)?;
        let bundle = logging(oci.bundle("a")?, "cat").set("/annotations", json!({"a.b": "c"}));
        oci.start(&bundle.clone().args(&["/bin/sleep", "1000"])).await?;
        let pid = oci.state("a").await?["pid"].clone();
        oci.delete("a").await?;
        let written = written(&bundle)?;
        let kinds: Vec<_> = written.iter().map(|(kind, _)| kind.as_str()).collect();
        assert_eq!(kinds, KINDS);
        for (kind, state) in &written {
            let state: Value = serde_json::from_str(state).with_context(|| state.clone())?;
            let (status, pid) = match kind.as_str() {
                "prestart" | "createRuntime" => ("creating", pid.clone()),
                "createContainer" => ("creating", json!(1)),
                "startContainer" => ("created", json!(1)),
                "poststart" => ("running", pid.clone()),
                _ => ("stopped", Value::Null),
            };
            assert_eq!((&state["status"], &state["pid"]), (&json!(status), &pid), "{kind}");
            assert_eq!((&state["id"], &state["ociVersion"]), (&json!("a"), &json!("1.0.2")));
            assert_eq!(state["bundle"], bundle.path(), "{kind}");
            assert_eq!(state["annotations"], json!({"a.b": "c"}), "{kind}");
        }
        oci.assert_clean().await
    });
}

#[test]
fn they_run_where_they_should() {
    place::native(async |place| {
        let oci = Oci::begin(&place)?;
        let bundle = logging(oci.bundle("a")?, "readlink /proc/self/ns/mnt; pwd");
        let inside = oci.script(bundle.clone(), "readlink /proc/self/ns/mnt").await?;
        let outside = std::fs::read_link("/proc/self/ns/mnt")?;
        for (kind, text) in written(&bundle)? {
            let (namespace, directory) = text.split_once(' ').context("two words")?;
            let own = matches!(kind.as_str(), "createContainer" | "startContainer");
            let expected = if own { inside.trim() } else { outside.to_str().unwrap_or_default() };
            assert_eq!(namespace, expected, "{kind}");
            let rootfs = bundle.rootfs();
            let expected = match kind.as_str() {
                "createContainer" => rootfs.to_str().context("a path")?,
                "startContainer" => "/",
                _ => bundle.path(),
            };
            assert_eq!(directory, expected, "{kind}");
        }
        oci.assert_clean().await
    });
}

#[test]
fn before_the_pivot_the_containers_mounts_are_below_its_root() {
    place::native(async |place| {
        let oci = Oci::begin(&place)?;
        let bundle = oci.bundle("a")?;
        let script = "mount -t tmpfs made run && echo by-hook > run/made && \
            test -d proc/1 && test -c dev/null && test -e ../config.json";
        let bundle = bundle.set("/hooks/createContainer", json!([hook(script)]));
        let output = oci.script(bundle.clone(), "cat /run/made").await?;
        assert_eq!(output, "by-hook\n");
        assert!(!bundle.rootfs().join("run/made").exists(), "the mount is the container's");
        oci.assert_clean().await
    });
}

/// CVE-2025-23266: a hook with the rights of the host obeyed `LD_PRELOAD` of an image.
#[test]
fn hooks_of_the_host_see_no_variable_of_the_image() {
    place::native(async |place| {
        let oci = Oci::begin(&place)?;
        let env = json!(["PATH=/bin", "LD_PRELOAD=/evil.so", "ONE=two"]);
        let mut bundle = oci.bundle("a")?;
        let host = berth_e2e::place::needs::program("busybox")?;
        for kind in KINDS {
            let inside = kind == "startContainer";
            let busybox = if inside { Path::new("/bin/busybox") } else { host.as_path() };
            let busybox = busybox.display();
            let list = format!("echo {kind} $({busybox} env | {busybox} tr '\\n' ,)");
            // Without a word on its environment.
            let args = json!(["sh", "-c", format!("{list} >> {}", log(kind))]);
            let hook = json!([{"path": "/bin/sh", "args": args}]);
            bundle = bundle.set(&format!("/hooks/{kind}"), hook);
        }
        let output = oci.run(&bundle.clone().set("/process/env", env)).await?;
        assert_eq!(output.code, 0, "{output:?}");
        for (kind, variables) in written(&bundle)? {
            // The shell adds some of its own.
            let inherits = kind == "startContainer";
            for variable in ["LD_PRELOAD=/evil.so", "ONE=two"] {
                assert_eq!(variables.contains(variable), inherits, "{kind}: {variables}");
            }
            // Completed as the program's is; to the others it is a variable of ours.
            assert_eq!(variables.contains("HOME="), inherits, "{kind}: {variables}");
        }
        oci.assert_clean().await
    });
}

#[test]
fn a_hook_that_fails_fails_the_creation_and_the_last_ones_still_run() {
    place::native(async |place| {
        let oci = Oci::begin(&place)?;
        let good = oci.bundle("a")?;
        for kind in ["prestart", "createRuntime", "createContainer"] {
            let log = good.rootfs().join("log");
            let bundle = good
                .clone()
                .set(
                    &format!("/hooks/{kind}"),
                    json!([hook("exit 0"), hook("echo sorry >&2; exit 3")]),
                )
                .set("/hooks/poststop", json!([hook("echo over > rootfs/log")]));
            let output = oci.try_create(&bundle).await?;
            assert!(output.code != 0);
            let expected = format!("error running {kind} hook #1: /bin/sh: exit status 3");
            assert!(output.stderr.contains(&expected), "{output:?}");
            assert!(output.stderr.contains("sorry"), "{output:?}");
            assert_eq!(std::fs::read_to_string(&log)?, "over\n", "{kind}");
            std::fs::remove_file(&log)?;
            oci.assert_clean().await?;
        }
        Ok(())
    });
}

#[test]
fn a_hook_that_fails_at_the_start_keeps_or_ends_the_program() {
    place::native(async |place| {
        let oci = Oci::begin(&place)?;
        let good = oci.bundle("a")?.script("echo ran > /ran; sleep 1000");
        let failing = |kind: &str| {
            let failing = json!([hook("echo sorry >&2; exit 3")]);
            good.clone().set(&format!("/hooks/{kind}"), failing)
        };
        let bundle = failing("startContainer");
        oci.create(&bundle).await?;
        let started = oci.call(&["start", "a"]).await?;
        assert!(started.code != 0, "{started:?}");
        assert!(started.stderr.contains("error running startContainer hook #0: "), "{started:?}");
        oci.delete("a").await?;
        assert!(!bundle.rootfs().join("ran").exists(), "the program ran");
        oci.assert_clean().await?;
        oci.create(&failing("poststart")).await?;
        let started = oci.call(&["start", "a"]).await?;
        assert!(started.code != 0, "{started:?}");
        assert!(started.stderr.contains("error running poststart hook #0: "), "{started:?}");
        oci.delete("a").await?;
        let ran = oci.run(&failing("poststart")).await?;
        assert!(ran.stderr.contains("error running poststart hook #0: "), "{ran:?}");
        oci.assert_clean().await
    });
}

#[test]
fn a_hook_that_hangs_is_ended_with_all_that_it_started() {
    place::native(async |place| {
        let oci = Oci::begin(&place)?;
        let good = oci.bundle("a")?;
        for kind in ["createRuntime", "createContainer", "startContainer"] {
            let mut slow = hook("sleep 1000 & sleep 1000");
            slow["timeout"] = json!(1);
            let begun = Instant::now();
            let output =
                oci.run(&good.clone().set(&format!("/hooks/{kind}"), json!([slow]))).await?;
            assert!(output.code != 0, "{kind}");
            let expected = format!("error running {kind} hook #0: ");
            assert!(output.stderr.contains(&expected), "{output:?}");
            assert!(output.stderr.contains("longer than its timeout of 1 s"), "{output:?}");
            assert!(begun.elapsed() < Duration::from_secs(60), "{kind}");
            oci.assert_clean().await?;
        }
        Ok(())
    });
}
