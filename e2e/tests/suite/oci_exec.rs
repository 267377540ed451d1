//! `exec`: what a process that is added to a container has.

use std::os::fd::{AsRawFd as _, OwnedFd};
use std::process::Stdio;

use anyhow::{Context, Result};
use berth_e2e::oci::{Bundle, Oci};
use berth_e2e::place;
use serde_json::json;

fn sleeper(oci: &Oci) -> Result<Bundle> {
    Ok(oci.bundle("a")?.args(&["/bin/sleep", "1000"]))
}

#[test]
fn what_keeps_it_from_running_is_not_its_own_exit_code() {
    place::native(async |place| {
        let oci = Oci::begin(&place)?;
        let bundle = sleeper(&oci)?;
        std::fs::write(bundle.rootfs().join("bin/script"), "#!/no/such/shell\n")?;
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(bundle.rootfs().join("bin/script"), mode)?;
        oci.start(&bundle).await?;
        assert_eq!(oci.call(&["exec", "a", "/bin/false"]).await?.code, 1);
        let missing = oci.call(&["exec", "a", "nowhere"]).await?;
        assert_eq!(missing.code, 255, "{missing:?}");
        let script = oci.call(&["exec", "a", "/bin/script"]).await?;
        assert_eq!(script.stderr, "exec /bin/script: no such file or directory\n");
        let unwritable = ["exec", "--pid-file", "/no/such/directory/pid", "a", "/bin/true"];
        assert_eq!(oci.call(&unwritable).await?.code, 255);
        assert_eq!(oci.call(&["exec", "nobody", "/bin/true"]).await?.code, 255);
        oci.delete("a").await?;
        oci.assert_clean().await
    });
}

#[test]
fn a_home_is_that_of_the_user_in_the_container() {
    place::native(async |place| {
        let oci = Oci::begin(&place)?;
        let bundle = sleeper(&oci)?.set("/process/env", json!(["PATH=/bin"]));
        std::fs::write(bundle.rootfs().join("etc/passwd"), "it:x:2000:2000::/home/it:/bin/sh\n")?;
        oci.start(&bundle).await?;
        for (user, home) in [("2000", "/home/it\n"), ("2001", "/\n"), ("0", "/\n")] {
            let words = ["exec", "--user", user, "a", "/bin/sh", "-c", "echo $HOME"];
            assert_eq!(oci.ok(&words).await?, home, "user {user}");
        }
        let said = ["exec", "--env", "HOME=/else", "a", "/bin/sh", "-c", "echo $HOME"];
        assert_eq!(oci.ok(&said).await?, "/else\n");
        // A database that is something else, or leads somewhere else, is none.
        std::fs::remove_file(bundle.rootfs().join("etc/passwd"))?;
        for target in ["/dev/zero", "/proc/self/fd/0", "/etc"] {
            let passwd = bundle.rootfs().join("etc/passwd");
            std::os::unix::fs::symlink(target, &passwd)?;
            assert_eq!(oci.exec("a", "echo $HOME").await?, "/\n", "{target}");
            std::fs::remove_file(passwd)?;
        }
        oci.delete("a").await?;
        oci.assert_clean().await
    });
}

#[test]
fn streams_belong_to_the_user() {
    place::native(async |place| {
        let oci = Oci::begin(&place)?;
        oci.start(&sleeper(&oci)?).await?;
        let script = "echo again > /proc/self/fd/1; echo no > /proc/self/fd/2";
        let mut words = vec!["exec", "--user", "1000", "a", "/bin/sh", "-c", script];
        let output = oci.call(&words).await?;
        assert_eq!((output.code, output.stdout.as_str()), (0, "again\n"), "{output:?}");
        assert_eq!(output.stderr, "no\n");
        // A file of the host stays its owner's.
        let file = place.scratch().join("out");
        words[6] = "echo once";
        let mut command = oci.command(&words);
        let status = command.stdout(std::fs::File::create(&file)?).status().await?;
        assert!(status.success());
        assert_eq!(std::os::unix::fs::MetadataExt::uid(&file.metadata()?), 0);
        assert_eq!(std::fs::read_to_string(&file)?, "once\n");
        oci.delete("a").await?;
        oci.assert_clean().await
    });
}

#[test]
fn capabilities_are_added_by_name() {
    place::native(async |place| {
        let oci = Oci::begin(&place)?;
        oci.start(&sleeper(&oci)?.set("/process/capabilities", json!({}))).await?;
        let sets = "grep Cap /proc/self/status | tr -d '\\t\\n'";
        let none = oci.exec("a", sets).await?;
        assert_eq!(none.matches("0000000000000000").count(), 5, "{none}");
        let words = ["exec", "--cap", "CAP_KILL", "a", "/bin/sh", "-c", sets];
        let with = oci.ok(&words).await?;
        for set in ["CapPrm:", "CapEff:", "CapBnd:"] {
            assert!(with.contains(&format!("{set}0000000000000020")), "{with}");
        }
        assert!(with.contains("CapInh:0000000000000000"), "{with}");
        let unknown = oci.call(&["exec", "--cap", "CAP_NONE", "a", "/bin/true"]).await?;
        assert!(unknown.stderr.contains("CAP_NONE"), "{unknown:?}");
        oci.delete("a").await?;
        oci.assert_clean().await
    });
}

#[test]
fn capabilities_that_cannot_be_granted_are_left_out_with_a_warning() {
    place::native(async |place| {
        let oci = Oci::begin(&place)?;
        let sets = json!({
            "bounding": ["CAP_KILL"], "permitted": ["CAP_KILL"], "effective": ["CAP_KILL"],
            "inheritable": ["CAP_KILL"], "ambient": ["CAP_KILL", "CAP_CHOWN"],
        });
        let bundle = oci.bundle("a")?.set("/process/capabilities", sets);
        let output = oci.run(&bundle.script("grep CapAmb /proc/self/status")).await?;
        assert_eq!(output.stdout, "CapAmb:\t0000000000000020\n");
        assert!(output.stderr.contains("level=warning"), "{output:?}");
        assert!(output.stderr.contains("can't raise ambient capability CAP_CHOWN"), "{output:?}");
        oci.assert_clean().await
    });
}

/// The keys of whoever runs the runtime are none of the container's business.
#[test]
fn a_session_keyring_is_the_containers_own() {
    place::native(async |place| {
        let oci = Oci::begin(&place)?;
        oci.start(&sleeper(&oci)?).await?;
        let own = std::fs::read_to_string("/proc/keys")?;
        assert!(own.contains("_ses.a"), "{own}");
        oci.delete("a").await?;
        let bundle = oci.bundle("b")?.args(&["/bin/sleep", "1000"]);
        bundle.write()?;
        let mut create = oci.command(&["run", "--detach", "--no-new-keyring", "--bundle"]);
        let streams = create.args([bundle.path(), "b"]).stdout(Stdio::null()).stderr(Stdio::null());
        assert!(streams.status().await?.success());
        assert!(!std::fs::read_to_string("/proc/keys")?.contains("_ses.b"));
        oci.delete("b").await?;
        oci.assert_clean().await
    });
}

#[test]
fn a_pidfd_goes_to_who_asks_for_it() {
    place::native(async |place| {
        let oci = Oci::begin(&place)?;
        let bundle = sleeper(&oci)?;
        bundle.write()?;
        let path = place.scratch().join("pidfd.sock");
        let listener = std::os::unix::net::UnixListener::bind(&path)?;
        let socket = path.to_str().context("a path")?;
        let words = ["run", "--detach", "--pidfd-socket", socket, "--bundle", bundle.path(), "a"];
        let mut run = oci.command(&words);
        assert!(run.stdout(Stdio::null()).stderr(Stdio::null()).status().await?.success());
        let pidfd = received(&listener)?;
        let info = format!("/proc/self/fdinfo/{}", pidfd.as_raw_fd());
        let pid = oci.state("a").await?["pid"].to_string();
        let info = std::fs::read_to_string(info)?;
        assert!(info.lines().any(|line| line == format!("Pid:\t{pid}")), "{info}");
        oci.delete("a").await?;
        drop((pidfd, listener));
        std::fs::remove_file(path)?;
        oci.assert_clean().await
    });
}

/// The one descriptor that comes over the first connection.
fn received(listener: &std::os::unix::net::UnixListener) -> Result<OwnedFd> {
    use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
    let (connection, _) = listener.accept()?;
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut bytes = [0; 64];
    let mut buffer = [std::io::IoSliceMut::new(&mut bytes)];
    recvmsg(&connection, &mut buffer, &mut control, RecvFlags::empty())?;
    let fds = control.drain().filter_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
        _ => None,
    });
    fds.last().context("a descriptor")
}

#[test]
fn a_cgroup_that_hands_controllers_on_takes_no_process() {
    place::with_controllers(async |place| {
        let oci = Oci::begin(&place)?;
        oci.start(&sleeper(&oci)?).await?;
        let pid = oci.state("a").await?["pid"].to_string();
        let own = std::path::Path::new("/sys/fs/cgroup/e2e/a");
        std::fs::create_dir(own.join("inner"))?;
        std::fs::write(own.join("inner/cgroup.procs"), pid)?;
        std::fs::write(own.join("cgroup.subtree_control"), "+memory")?;
        let inside = oci.exec("a", "cat /proc/self/cgroup").await?;
        assert!(inside.ends_with("/inner\n"), "with the first process: {inside}");
        let refused = oci.call(&["exec", "--cgroup", "/", "a", "/bin/true"]).await?;
        let words = "adding pid of the child to cgroups: device or resource busy";
        assert!(refused.code == 255 && refused.stderr.contains(words), "{refused:?}");
        oci.delete("a").await?;
        oci.assert_clean().await
    });
}

#[test]
fn a_container_that_has_moved_to_another_cgroup_is_followed_there() {
    place::native(async |place| {
        let oci = Oci::begin(&place)?;
        let elsewhere = std::path::Path::new("/sys/fs/cgroup/elsewhere");
        std::fs::create_dir(elsewhere)?;
        oci.start(&sleeper(&oci)?).await?;
        let pid = oci.state("a").await?["pid"].to_string();
        std::fs::write(elsewhere.join("cgroup.procs"), &pid)?;
        let inside = oci.exec("a", "cat /proc/self/cgroup").await?;
        assert!(!inside.contains("elsewhere"), "its own is there: {inside}");
        std::fs::remove_dir("/sys/fs/cgroup/e2e/a")?;
        let moved = oci.exec("a", "cat /proc/self/cgroup").await?;
        assert!(moved.contains("elsewhere"), "{moved}");
        let refused = oci.call(&["exec", "--cgroup", "..", "a", "/bin/true"]).await?;
        assert!(refused.code == 255 && refused.stderr.contains("bad sub cgroup"), "{refused:?}");
        oci.delete("a").await?;
        std::fs::remove_dir(elsewhere)?;
        oci.assert_clean().await
    });
}
