//! What a bundle says of mounts, its root, and what is hidden in it.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use anyhow::Result;
use berth_e2e::oci::{Bundle, Oci};
use berth_e2e::place;
use rustix::mount::{
    MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_bind_recursive, mount_change,
    mount_remount, unmount,
};
use serde_json::json;

/// Runs a bundle that must be refused, with these words.
async fn assert_refused(oci: &Oci, bundle: &Bundle, words: &str) -> Result<()> {
    let output = oci.run(bundle).await?;
    assert!(output.code != 0 && output.stderr.contains(words), "{words}: {output:?}");
    Ok(())
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

fn tmpfs(at: &Path) -> Result<()> {
    fs::create_dir_all(at)?;
    Ok(mount("tmpfs", at, "tmpfs", MountFlags::empty(), None)?)
}

/// As with runc: `mount(8)` would keep what is not said.
#[test]
fn a_bind_with_attributes_has_those_and_no_others() {
    place::native(async |place| {
        let oci = Oci::begin(&place)?;
        let volume = place.dir("volume")?;
        let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
        mount("tmpfs", &volume, "tmpfs", flags | MountFlags::NOATIME, None)?;
        mount_remount(&volume, MountFlags::BIND | MountFlags::RDONLY | flags, c"")?;
        let source = text(&volume);
        for (options, expected) in [
            (&["bind"][..], "ro,nosuid,nodev,noexec,noatime"),
            (&["bind", "rprivate"], "ro,nosuid,nodev,noexec,noatime"),
            (&["bind", "rw"], "rw,noatime"),
            (&["bind", "ro"], "ro,noatime"),
            (&["bind", "nosuid", "relatime"], "rw,nosuid,relatime"),
            (&["bind", "atime"], "rw,noatime"),
        ] {
            let bundle = oci.bundle("a")?.mount("/v", "bind", &source, options);
            let told = oci.script(bundle, "awk '$5 == \"/v\" {print $6}' /proc/self/mountinfo");
            assert_eq!(told.await?.trim(), expected, "{options:?}");
        }
        unmount(&volume, UnmountFlags::DETACH)?;
        oci.assert_clean().await
    });
}

#[test]
fn attributes_reach_the_mounts_below_only_if_they_say_so() {
    place::native(async |place| {
        let oci = Oci::begin(&place)?;
        let volume = place.dir("volume")?;
        tmpfs(&volume)?;
        tmpfs(&volume.join("sub"))?;
        let source = text(&volume);
        for (option, top, below) in [
            ("ro", "ro,relatime", "rw,relatime"),
            ("rro", "ro,relatime", "ro,relatime"),
            ("rnosuid", "rw,nosuid,relatime", "rw,nosuid,relatime"),
            ("nodev", "rw,nodev,relatime", "rw,relatime"),
            ("rnoatime", "rw,noatime", "rw,noatime"),
            ("rstrictatime", "rw", "rw"),
            ("rnorelatime", "rw,relatime", "rw,relatime"),
            ("rnosymfollow", "rw,relatime,nosymfollow", "rw,relatime,nosymfollow"),
            ("sync", "rw,relatime", "rw,relatime"),
        ] {
            let bundle = oci.bundle("a")?.mount("/v", "bind", &source, &["rbind", option]);
            let script = "awk '$5 ~ \"^/v\" {print $5, $6}' /proc/self/mountinfo";
            let told = oci.script(bundle, script).await?;
            assert_eq!(told, format!("/v {top}\n/v/sub {below}\n"), "{option}");
        }
        unmount(&volume, UnmountFlags::DETACH)?;
        oci.assert_clean().await
    });
}

#[test]
fn new_file_systems_have_all_their_options() {
    place::native(async |place| {
        let oci = Oci::begin(&place)?;
        let bundle = oci.bundle("a")?;
        let modes = bundle.rootfs().join("inherits");
        fs::create_dir(&modes)?;
        fs::set_permissions(&modes, fs::Permissions::from_mode(0o710))?;
        let bundle = bundle
            .mount("/inherits", "tmpfs", "tmpfs", &["nosuid"])
            .mount("/says", "tmpfs", "tmpfs", &["mode=1500", "size=1m,nr_inodes=10", "sync"])
            .mount("/made/for/it", "tmpfs", "tmpfs", &["ro"])
            .mount("/made/for/it/deeper", "tmpfs", "tmpfs", &["dirsync", "silent", "shared"])
            .mount("/says", "tmpfs", "tmpfs", &["remount", "size=2m", "noexec"]);
        let script = "stat -c %a /inherits /says /made/for/it/deeper; touch /made/for/it/x; \
            awk '$5 ~ \"^/(inherits|says|made)\" {print $5, $6, $7, $NF}' /proc/self/mountinfo";
        let told = oci.script(bundle, script).await?;
        let lines: Vec<_> = told.lines().collect();
        assert_eq!(lines[..3], ["710", "1500", "1777"], "{told}");
        assert_eq!(lines[3], "/inherits rw,nosuid,relatime - rw,mode=710", "{told}");
        assert_eq!(
            lines[4],
            "/says rw,noexec,relatime - rw,sync,size=2048k,nr_inodes=10,mode=1500"
        );
        assert_eq!(lines[5], "/made/for/it ro,relatime - rw", "{told}");
        assert!(lines[6].starts_with("/made/for/it/deeper rw,relatime shared:"), "{told}");
        assert!(lines[6].ends_with(" rw,dirsync"), "{told}");
        oci.assert_clean().await
    });
}

#[test]
fn a_tmpfs_can_start_with_what_it_covers() {
    place::native(async |place| {
        let oci = Oci::begin(&place)?;
        let bundle = oci.bundle("a")?;
        let covered = bundle.rootfs().join("up");
        fs::create_dir_all(covered.join("dir"))?;
        fs::set_permissions(covered.join("dir"), fs::Permissions::from_mode(0o1777))?;
        fs::write(covered.join("file"), "content\n")?;
        std::os::unix::fs::chown(covered.join("file"), Some(7), Some(8))?;
        symlink("/etc/passwd", covered.join("link"))?;
        let bundle = bundle.mount("/up", "tmpfs", "tmpfs", &["tmpcopyup"]);
        let script = "cat /up/file; stat -c '%a %u %g' /up/dir /up/file; readlink /up/link; \
            echo changed > /up/file";
        let told = oci.script(bundle, script).await?;
        assert_eq!(told, "content\n1777 0 0\n644 7 8\n/etc/passwd\n");
        assert_eq!(fs::read_to_string(covered.join("file"))?, "content\n");
        oci.assert_clean().await
    });
}

/// Sources below the root see what has been mounted there by then, in order.
#[test]
fn parts_of_the_root_can_be_bound_again() {
    place::native(async |place| {
        let oci = Oci::begin(&place)?;
        for mapped in [false, true] {
            let mut bundle = oci.bundle("a")?;
            for name in ["a/x", "b/y", "c/z"] {
                let dir = bundle.dir.join("src").join(name);
                fs::create_dir_all(&dir)?;
                fs::write(dir.join("file"), name)?;
            }
            for (source, destination) in
                [("a", "/mnt"), ("b", "/mnt/x"), ("c", "/mnt/x/y"), ("a", "/mnt/x/y/z")]
            {
                bundle = bundle.mount(destination, "bind", &format!("src/{source}"), &["bind"]);
            }
            let rootfs = text(&bundle.rootfs());
            for (source, destination) in
                [("/mnt/x", "/mnt/x/y/z/x"), ("/mnt/x/y", "/mnt/x/y/z"), ("/mnt", "/final")]
            {
                let destination = format!("{rootfs}{destination}");
                let source = format!("{rootfs}{source}");
                bundle = bundle.mount(&destination, "bind", &source, &["rbind"]);
                if mapped {
                    let maps = json!([{"containerID": 0, "hostID": 0, "size": 1000}]);
                    let last = bundle.spec["mounts"].as_array().map_or(0, Vec::len) - 1;
                    bundle = bundle
                        .set(&format!("/mounts/{last}/uidMappings"), maps.clone())
                        .set(&format!("/mounts/{last}/gidMappings"), maps);
                }
            }
            let told = oci.script(bundle, "cat /final/x/y/z/z/x/y/z/x/file").await?;
            assert_eq!(told, "a/x", "mapped: {mapped}");
        }
        oci.assert_clean().await
    });
}

#[test]
fn links_of_the_image_lead_mounts_about_inside_of_it() {
    place::native(async |place| {
        let oci = Oci::begin(&place)?;
        let canary = place.dir("canary")?;
        let bundle = oci.bundle("a")?;
        let rootfs = bundle.rootfs();
        let _ = fs::remove_file(rootfs.join("etc/hosts"));
        symlink("/tmp/foo/bar", rootfs.join("jump"))?;
        symlink("/jump/baz/hosts", rootfs.join("etc/hosts"))?;
        symlink(&canary, rootfs.join("out"))?;
        fs::write(bundle.dir.join("file"), "here\n")?;
        let bundle = bundle.mount("/etc/hosts", "bind", "file", &["bind"]).mount(
            "/out/made",
            "tmpfs",
            "tmpfs",
            &[],
        );
        let script = format!("cat /tmp/foo/bar/baz/hosts; ls -d {}/made", canary.display());
        let told = oci.script(bundle, &script).await?;
        assert_eq!(told, format!("here\n{}/made\n", canary.display()));
        assert_eq!(fs::read_dir(&canary)?.count(), 0, "nothing of it is the host's");
        oci.assert_clean().await
    });
}

#[test]
fn nothing_takes_the_place_of_proc_and_sys() {
    place::native(async |place| {
        let oci = Oci::begin(&place)?;
        let ordinary = "must be mounted on ordinary directory";
        for path in ["proc", "sys"] {
            let bundle = oci.bundle("a")?;
            fs::remove_dir_all(bundle.rootfs().join(path))?;
            symlink("/tmp", bundle.rootfs().join(path))?;
            assert_refused(&oci, &bundle, ordinary).await?;
            fs::remove_dir_all(&bundle.dir)?;
        }
        let bind = |bundle: Bundle, to: &str, from: &str| bundle.mount(to, "bind", from, &["bind"]);
        for (bundle, words) in [
            (oci.bundle("a")?.mount("/proc/sys", "tmpfs", "tmpfs", &[]), "mounts[4].destination"),
            (bind(oci.bundle("a")?, "/proc/self", "/tmp"), "it is inside /proc"),
            (bind(oci.bundle("a")?, "/proc", "/tmp"), "only the real /proc"),
            (oci.bundle("a")?.set("/mounts/0/type", json!("tmpfs")), "it must be of type proc"),
        ] {
            assert_refused(&oci, &bundle, words).await?;
        }
        let bundle = oci.bundle("a")?;
        symlink("/proc/sys", bundle.rootfs().join("innocent"))?;
        assert_refused(&oci, &bind(bundle, "/innocent", "/tmp"), "it is inside /proc").await?;
        let allowed = oci.bundle("b")?;
        fs::write(allowed.dir.join("uptime"), "1.00 2.00\n")?;
        let allowed = bind(allowed, "/proc/uptime", "uptime");
        assert_eq!(oci.script(allowed, "cat /proc/uptime").await?, "1.00 2.00\n");
        oci.assert_clean().await
    });
}

#[test]
fn what_cannot_be_mounted_is_named_and_leaves_nothing() {
    place::native(async |place| {
        let oci = Oci::begin(&place)?;
        let bundle = || oci.bundle("a");
        for (bundle, words) in [
            (
                bundle()?.mount("/x", "bind", "/no/such", &["bind"]),
                "mounts[4].source: open /no/such",
            ),
            (bundle()?.mount("/x", "bind", "", &["bind"]), "mounts[4].source: missing"),
            (bundle()?.mount("/x", "nonsense", "", &[]), "mounts[4]: mount nonsense"),
            (bundle()?.mount("/x", "tmpfs", "", &["nonsense"]), "mounts[4]: mount tmpfs on /x"),
            (bundle()?.mount("/x", "tmpfs", "", &["remount"]), "mounts[4]: mount /x again"),
            (bundle()?.mount("/", "tmpfs", "", &[]), "mounts[4].destination"),
            (
                bundle()?.mount("/bin", "bind", "/etc/passwd", &["bind"]),
                "destination is a directory",
            ),
            (bundle()?.mount("/bin/sh", "bind", "/etc", &["bind"]), "the destination is a file"),
            (bundle()?.set("/linux/maskedPaths/0", json!("./x")), "linux.maskedPaths[0]"),
            (bundle()?.set("/linux/rootfsPropagation", json!("x")), "linux.rootfsPropagation"),
        ] {
            assert_refused(&oci, &bundle, words).await?;
        }
        oci.assert_clean().await
    });
}

/// The kernel ignores them, and so do other runtimes: configurations rely on it.
#[test]
fn options_of_a_file_system_are_ignored_for_a_bind_and_named() {
    place::native(async |place| {
        let oci = Oci::begin(&place)?;
        let bundle = oci.bundle("a")?.mount("/x", "bind", "/etc", &["bind", "mode=755"]);
        let output = oci.run(&bundle.script("ls /x/passwd")).await?;
        assert_eq!((output.code, output.stdout.as_str()), (0, "/x/passwd\n"), "{output:?}");
        assert!(output.stderr.contains("mounts[4].options"), "{output:?}");
        oci.assert_clean().await
    });
}

#[test]
fn masked_paths_read_as_empty_and_cannot_be_changed() {
    place::native(async |place| {
        let oci = Oci::begin(&place)?;
        let bundle = oci.bundle("a")?;
        for dir in ["dir", "dir2"] {
            fs::create_dir(bundle.rootfs().join(dir))?;
            fs::write(bundle.rootfs().join(dir).join("secret"), "secret")?;
        }
        fs::write(bundle.rootfs().join("file"), "secret")?;
        symlink("file", bundle.rootfs().join("link"))?;
        let masked = json!(["/dir", "/file", "/dir", "/dir2", "/no/such"]);
        let bundle = bundle.set("/linux/maskedPaths", masked);
        let script = "cat /file /link; ls /dir /dir2; touch /dir/x; umount /dir; \
            stat -c %d /dir /dir2 | uniq | wc -l; grep -c ' /dir ' /proc/mounts";
        let told = oci.script(bundle, script).await?;
        assert_eq!(told, "/dir:\n\n/dir2:\n1\n1\n");
        let looped = oci.bundle("b")?;
        symlink("../looped", looped.rootfs().join("looped"))?;
        let looped = looped.set("/linux/maskedPaths", json!(["/looped"]));
        assert_refused(&oci, &looped, "linux.maskedPaths: mask /looped").await?;
        oci.assert_clean().await
    });
}

#[test]
fn the_roots_propagation_is_what_the_bundle_says() {
    place::native(async |place| {
        let oci = Oci::begin(&place)?;
        let shared = place.dir("shared")?;
        tmpfs(&shared)?;
        mount_change(&shared, MountPropagationFlags::SHARED)?;
        for (propagation, tag) in [
            ("", "-"),
            ("private", "-"),
            ("rslave", "master:"),
            ("shared", "shared:"),
            ("unbindable", "unbindable"),
        ] {
            let bundle = oci.bundle("a")?.set("/linux/rootfsPropagation", json!(propagation));
            let at = shared.join("rootfs");
            fs::create_dir_all(&at)?;
            mount_bind_recursive(bundle.rootfs(), &at)?;
            mount_change(&at, MountPropagationFlags::SHARED)?;
            let bundle = bundle.set("/root/path", json!(text(&at)));
            let before = fs::read_to_string("/proc/self/mountinfo")?;
            let told =
                oci.script(bundle, "awk '$5 == \"/\" {print $7}' /proc/self/mountinfo").await?;
            assert!(told.starts_with(tag), "{propagation}: {told}");
            assert_eq!(fs::read_to_string("/proc/self/mountinfo")?, before, "nothing got out");
            unmount(&at, UnmountFlags::DETACH)?;
        }
        unmount(&shared, UnmountFlags::DETACH)?;
        oci.assert_clean().await
    });
}

#[test]
fn without_pivot_the_hosts_kernel_mounts_are_out_of_reach() {
    place::native(async |place| {
        let oci = Oci::begin(&place)?;
        let bundle = oci.bundle("a")?.script("ls /; grep -c '^proc / ' /proc/mounts; mount");
        bundle.write()?;
        let output = oci.call(&["run", "--no-pivot", "--bundle", bundle.path(), "a"]).await?;
        assert_eq!(output.code, 0, "{output:?}");
        assert!(output.stdout.contains("bin\n"), "{output:?}");
        let capabilities = json!(["CAP_SYS_ADMIN", "CAP_SETUID", "CAP_SETGID", "CAP_SETFCAP"]);
        let mut bundle = oci.bundle("b")?;
        for set in ["bounding", "effective", "permitted"] {
            bundle = bundle.set(&format!("/process/capabilities/{set}"), capabilities.clone());
        }
        let bundle = bundle.script("unshare -Umrpf mount -t proc none /proc");
        bundle.write()?;
        let output = oci.call(&["run", "--no-pivot", "--bundle", bundle.path(), "b"]).await?;
        assert!(output.code != 0 && output.stderr.contains("denied"), "{output:?}");
        oci.assert_clean().await
    });
}

#[test]
fn devices_are_made_where_and_as_the_bundle_says() {
    place::native(async |place| {
        let oci = Oci::begin(&place)?;
        let devices = json!([
            {"path": "/dev/deep/own", "type": "c", "major": 1, "minor": 5, "fileMode": 0o640,
             "uid": 7, "gid": 8},
            {"path": "/dev/pipe", "type": "p"},
            {"path": "/dev/tty", "type": "c", "major": 5, "minor": 0},
            {"path": "/dev/ptmx", "type": "c", "major": 5, "minor": 2},
        ]);
        let bundle = oci.bundle("a")?.set("/linux/devices", devices);
        let script = "stat -c '%n %F %a %u %g %t:%T' /dev/deep/own /dev/pipe /dev/tty; \
            readlink /dev/ptmx; echo x > /dev/null; head -c 1 /dev/zero | wc -c";
        let told = oci.script(bundle, script).await?;
        assert_eq!(
            told,
            "/dev/deep/own character special file 640 7 8 1:5\n/dev/pipe fifo 666 0 0 0:0\n\
             /dev/tty character special file 666 0 0 5:0\npts/ptmx\n1\n"
        );
        // An image's own directory, which a link of it must not lead out of.
        let canary = place.dir("canary")?;
        let hostile = oci.bundle("b")?.unset("/mounts/2").unset("/mounts/1");
        fs::remove_dir_all(hostile.rootfs().join("dev"))?;
        symlink(&canary, hostile.rootfs().join("dev"))?;
        assert!(oci.run(&hostile.script("true")).await.is_ok());
        assert_eq!(fs::read_dir(&canary)?.count(), 0);
        let wrong = oci.bundle("c")?.unset("/mounts/2").unset("/mounts/1");
        fs::create_dir_all(wrong.rootfs().join("dev"))?;
        fs::write(wrong.rootfs().join("dev/null"), "not what it seems")?;
        assert_refused(&oci, &wrong, "make device /dev/null: something else is there").await?;
        oci.assert_clean().await
    });
}
