//! Filters of system calls in bundles: all that a specification can say of one.

use std::io::IoSliceMut;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use berth_e2e::image::{Layer, probe};
use berth_e2e::oci::{Bundle, Oci};
use berth_e2e::place;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use serde_json::{Value, json};
use tokio::net::UnixListener;

fn bundle(oci: &Oci, id: &str, seccomp: Value) -> Result<Bundle> {
    Ok(oci.bundle(id)?.set("/linux/seccomp", seccomp))
}

/// Refuses some calls and allows all others.
fn refusing(names: &[&str], action: &str, rest: Value) -> Value {
    let mut rule = json!({"names": names, "action": action});
    if let (Some(rule), Value::Object(rest)) = (rule.as_object_mut(), rest) {
        rule.extend(rest);
    }
    json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule]})
}

#[test]
fn each_action_is_carried_out_with_and_without_new_privileges() {
    place::native(async |place| {
        let oci = Oci::begin(&place)?;
        let calls = ["mkdir", "mkdirat"];
        let no_core = json!([{"type": "RLIMIT_CORE", "soft": 0, "hard": 0}]);
        for (number, (action, rest, code, said)) in [
            ("SCMP_ACT_ERRNO", json!({}), 1, "Operation not permitted"),
            ("SCMP_ACT_ERRNO", json!({"errnoRet": 100}), 1, "Network is down"),
            ("SCMP_ACT_TRACE", json!({}), 1, "Function not implemented"),
            ("SCMP_ACT_LOG", json!({}), 0, ""),
            ("SCMP_ACT_TRAP", json!({}), 159, ""),
            ("SCMP_ACT_KILL", json!({}), 159, ""),
            ("SCMP_ACT_KILL_THREAD", json!({}), 159, ""),
            ("SCMP_ACT_KILL_PROCESS", json!({}), 159, ""),
        ]
        .into_iter()
        .enumerate()
        {
            for no_new_privileges in [false, true] {
                let id = format!("a{number}-{no_new_privileges}");
                let bundle = bundle(&oci, &id, refusing(&calls, action, rest.clone()))?
                    .set("/process/noNewPrivileges", json!(no_new_privileges))
                    .set("/process/rlimits", no_core.clone())
                    .args(&["/bin/mkdir", "/tmp/x"]);
                let output = oci.run(&bundle).await?;
                assert_eq!(output.code, code, "{id} {action}: {output:?}");
                assert!(output.stderr.contains(said), "{id} {action}: {output:?}");
            }
        }
        oci.assert_clean().await
    });
}

/// A user without privileges, whose profile allows hardly anything: what the runtime itself does
/// after the filter is loaded is `capset` and `execve`.
#[test]
fn a_profile_need_not_know_the_runtime() {
    place::native(async |place| {
        let oci = Oci::begin(&place)?;
        for (no_new_privileges, names) in [
            (true, json!(["execve", "exit_group"])),
            (false, json!(["capset", "execve", "exit_group"])),
        ] {
            let root = Layer::busybox()?.with(probe("bin/leave", 231, &[7]));
            let bundle = oci.bundle_of(&format!("strict-{no_new_privileges}"), &root)?;
            let profile = json!({
                "defaultAction": "SCMP_ACT_KILL_PROCESS",
                "syscalls": [{"names": names, "action": "SCMP_ACT_ALLOW"}],
            });
            let bundle = bundle
                .set("/linux/seccomp", profile)
                .set("/process/noNewPrivileges", json!(no_new_privileges))
                .set("/process/user", json!({"uid": 1000, "gid": 1000}))
                .args(&["/bin/leave"]);
            assert_eq!(oci.run(&bundle).await?.code, 7, "{no_new_privileges}");
        }
        oci.assert_clean().await
    });
}

#[test]
fn calls_newer_than_the_profile_do_not_exist() {
    place::native(async |place| {
        let oci = Oci::begin(&place)?;
        let number = |name: &str, number: u64| probe(&format!("bin/{name}"), number, &[]);
        let root = Layer::busybox()?.with_all([number("newer", 1000), number("older", 250)]);
        let busybox = "access arch_prctl brk close dup2 execve exit_group fcntl fork fstat getcwd \
            getdents64 geteuid getpid getppid getuid ioctl lseek lstat mmap mprotect munmap \
            newfstatat open openat prctl prlimit64 read readlink rseq rt_sigaction rt_sigprocmask \
            rt_sigreturn set_robust_list set_tid_address setgid setuid stat uname vfork wait4 \
            write clone getrandom capset futex poll";
        let names: Vec<_> = busybox.split_whitespace().collect();
        let profile = json!({
            "defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 6,
            "syscalls": [{"names": names, "action": "SCMP_ACT_ALLOW"}],
        });
        let bundle = oci.bundle_of("age", &root)?.set("/linux/seccomp", profile);
        let said = oci.script(bundle, "older; echo $?; newer; echo $?").await?;
        assert_eq!(said, "6\n38\n");
        oci.assert_clean().await
    });
}

#[test]
fn commands_get_the_filter_of_their_container() {
    place::native(async |place| {
        let oci = Oci::begin(&place)?;
        let profile = refusing(&["mkdir"], "SCMP_ACT_ERRNO", json!({"errnoRet": 100}));
        let bundle = bundle(&oci, "app", profile)?.args(&["/bin/sleep", "inf"]);
        oci.start(&bundle).await?;
        let script = "mkdir /tmp/x 2>&1; grep Seccomp: /proc/self/status";
        let said = oci.exec("app", script).await?;
        assert!(said.contains("Network is down") && said.contains("Seccomp:\t2"), "{said}");
        oci.delete("app").await?;
        oci.assert_clean().await
    });
}

#[test]
fn what_makes_no_sense_is_refused_with_its_field_and_leaves_nothing() {
    place::native(async |place| {
        let oci = Oci::begin(&place)?;
        let notify = |names: &[&str]| refusing(names, "SCMP_ACT_NOTIFY", json!({}));
        let with = |mut profile: Value, name: &str, value: Value| {
            profile[name] = value;
            profile
        };
        let agent = |profile| with(profile, "listenerPath", json!("/run/nobody.sock"));
        let arg = json!({"args": [{"index": 6, "value": 1, "op": "SCMP_CMP_EQ"}]});
        for (number, (profile, words)) in [
            (json!({"defaultAction": "SCMP_ACT_NOTIFY"}), "linux.seccomp.defaultAction"),
            (refusing(&["read"], "SCMP_ACT_ERRNO", arg), "linux.seccomp.syscalls[0].args[0].index"),
            (
                refusing(&["read"], "SCMP_ACT_ERRNO", json!({"errnoRet": 5000})),
                "linux.seccomp.syscalls[0].errnoRet",
            ),
            (notify(&["mkdir"]), "linux.seccomp.listenerPath"),
            (agent(notify(&["write"])), "SCMP_ACT_NOTIFY cannot be used for the write syscall"),
            (
                agent(notify(&["mkdir"])),
                "connect with seccomp agent at linux.seccomp.listenerPath /run/nobody.sock",
            ),
        ]
        .into_iter()
        .enumerate()
        {
            let output = oci.run(&bundle(&oci, &format!("odd{number}"), profile)?).await?;
            assert_ne!(output.code, 0, "{words}");
            assert!(output.stderr.contains(words), "{words:?} in {output:?}");
        }
        oci.assert_clean().await
    });
}

/// What an agent is sent: whose calls they are, and a descriptor.
async fn notified(listener: &UnixListener) -> Result<(Value, OwnedFd)> {
    let (stream, _) = listener.accept().await?;
    stream.readable().await?;
    let stream = stream.into_std()?;
    stream.set_nonblocking(false)?;
    let mut bytes = vec![0; 16 << 10];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(4))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let flags = RecvFlags::CMSG_CLOEXEC;
    let got = recvmsg(&stream, &mut [IoSliceMut::new(&mut bytes)], &mut ancillary, flags)?;
    let fds = ancillary.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
        _ => None,
    });
    let state = serde_json::from_slice(&bytes[..got.bytes]).context("parse a state")?;
    Ok((state, fds.context("a message without a descriptor")?))
}

fn is_called(fd: &OwnedFd) -> Result<()> {
    let mut fds = [PollFd::new(fd, PollFlags::IN)];
    let soon = Timespec { tv_sec: 20, tv_nsec: 0 };
    ensure!(poll(&mut fds, Some(&soon))? == 1, "no call is notified");
    Ok(())
}

fn listen(path: &Path) -> Result<UnixListener> {
    UnixListener::bind(path).context("listen")
}

/// Also calls that the runtime itself might make. An agent that goes away leaves `ENOSYS`.
#[test]
fn an_agent_is_told_of_calls_and_whose_they_are() {
    place::native(async |place| {
        let oci = Oci::begin(&place)?;
        let path = place.scratch().join("agent.sock");
        let listener = listen(&path)?;
        for no_new_privileges in [false, true] {
            let id = format!("app-{no_new_privileges}");
            let names = ["mkdir", "setuid", "setgroups", "openat2", "close_range", "fcntl"];
            let mut profile = refusing(&names, "SCMP_ACT_NOTIFY", json!({}));
            profile["listenerPath"] = json!(path);
            profile["listenerMetadata"] = json!("about \"it\"");
            profile["flags"] = json!(["SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"]);
            let bundle = bundle(&oci, &id, profile)?
                .set("/annotations", json!({"colour": "blue"}))
                .set("/process/noNewPrivileges", json!(no_new_privileges))
                .args(&["/bin/mkdir", "/tmp/x"]);
            let agent = async {
                let (state, fd) = notified(&listener).await?;
                let pid = state["pid"].as_i64().context("a state without a pid")?;
                let link = std::fs::read_to_string(format!("/proc/{pid}/comm"))?;
                // By its time it is the program, or about to become it.
                ensure!(!link.is_empty(), "the process {pid} is not there");
                tokio::task::spawn_blocking(move || is_called(&fd)).await??;
                Ok::<_, anyhow::Error>(state)
            };
            let (output, state) = tokio::join!(oci.run(&bundle), agent);
            let (output, state) = (output?, state?);
            assert_eq!(output.code, 1, "{output:?}");
            assert!(output.stderr.contains("Function not implemented"), "{output:?}");
            assert_eq!(state["fds"], json!(["seccompFd"]));
            assert_eq!(state["metadata"], "about \"it\"");
            assert_eq!(state["state"]["id"], json!(id));
            assert_eq!(state["state"]["status"], "creating");
            assert_eq!(state["state"]["pid"], state["pid"]);
            assert_eq!(state["state"]["annotations"]["colour"], "blue");
            let of = state["state"]["bundle"].as_str().context("no bundle")?;
            assert_eq!(Path::new(of), std::fs::canonicalize(&bundle.dir)?);
        }
        drop(listener);
        std::fs::remove_file(&path)?;
        oci.assert_clean().await
    });
}

#[test]
fn features_tell_what_is_known() {
    place::native(async |place| {
        let oci = Oci::begin(&place)?;
        let features: Value = serde_json::from_str(&oci.ok(&["features"]).await?)?;
        let seccomp = &features["linux"]["seccomp"];
        assert_eq!(seccomp["enabled"], true);
        for (list, word) in [
            ("actions", "SCMP_ACT_NOTIFY"),
            ("operators", "SCMP_CMP_MASKED_EQ"),
            ("archs", "SCMP_ARCH_X86_64"),
            ("knownFlags", "SECCOMP_FILTER_FLAG_TSYNC"),
            ("supportedFlags", "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"),
        ] {
            let list = seccomp[list].as_array().context("no list")?;
            assert!(list.contains(&json!(word)), "{word} in {list:?}");
        }
        oci.assert_clean().await
    });
}
