//! Containers in user namespaces, and mounts whose owners are mapped.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::Path;

use anyhow::{Context, Result};
use berth_e2e::oci::{Bundle, Oci};
use berth_e2e::place;
use rustix::mount::{MountFlags, UnmountFlags, mount, mount_bind, mount_remount, unmount};
use serde_json::{Value, json};

fn maps(inside: u32, host: u32, size: u32) -> Value {
    json!([{"containerID": inside, "hostID": host, "size": size}])
}

/// A bundle with a user namespace: users from 100000 on, groups from 200000 on.
fn in_users(bundle: Bundle) -> Bundle {
    bundle
        .set("/linux/namespaces/-", json!({"type": "user"}))
        .set("/linux/uidMappings", maps(0, 100_000, 65_536))
        .set("/linux/gidMappings", maps(0, 200_000, 65_536))
}

/// Adds a mount with owners mapped.
fn mapped(bundle: Bundle, source: &str, options: &[&str], uids: Value, gids: Value) -> Bundle {
    let bundle = bundle.mount("/v", "bind", source, options);
    let last = bundle.spec["mounts"].as_array().map_or(0, Vec::len) - 1;
    bundle
        .set(&format!("/mounts/{last}/uidMappings"), uids)
        .set(&format!("/mounts/{last}/gidMappings"), gids)
}

fn owned(dir: &Path, name: &str, uid: u32, gid: u32) -> Result<()> {
    fs::create_dir_all(dir)?;
    fs::write(dir.join(name), "")?;
    Ok(chown(dir.join(name), Some(uid), Some(gid))?)
}

#[test]
fn root_inside_is_nobody_outside_and_owns_its_root() {
    place::native(async |place| {
        let oci = Oci::begin(&place)?;
        let bundle = in_users(oci.bundle("a")?);
        let script = "id -u; cat /proc/self/uid_map /proc/self/gid_map; stat -c '%u %g' / /bin /dev/null; \
            touch /made; echo x > /dev/null; mkdir /dev/shm; hostname; cat /proc/sys/net/ipv4/ip_forward; \
            ls /proc/1/exe";
        let rootfs = bundle.rootfs();
        let bundle = bundle.set("/linux/sysctl", json!({"net.ipv4.ip_forward": "1"}));
        let told = oci.script(bundle, script).await?;
        let words: Vec<_> = told.split_whitespace().collect();
        assert_eq!(words[..7], ["0", "0", "100000", "65536", "0", "200000", "65536"], "{told}");
        assert_eq!(words[7..15], ["0", "0", "0", "0", "0", "0", "bundle", "1"], "{told}");
        // What it makes in a root that was the host's stays the host's root's.
        let made = fs::metadata(rootfs.join("made"))?;
        assert_eq!((made.uid(), made.gid()), (0, 0));
        oci.assert_clean().await
    });
}

/// Engines of the field map the owners of a bundle's root themselves.
#[test]
fn a_root_that_was_given_to_the_container_is_left_as_it_is() {
    place::native(async |place| {
        let oci = Oci::begin(&place)?;
        let bundle = in_users(oci.bundle("a")?);
        let rootfs = bundle.rootfs();
        for path in ["", "tmp", "dev", "proc", "sys"] {
            fs::create_dir_all(rootfs.join(path))?;
            chown(rootfs.join(path), Some(100_000), Some(200_000))?;
        }
        let told = oci.script(bundle, "stat -c '%u %g' / /bin; touch /tmp/made").await?;
        assert_eq!(told, "0 0\n65534 65534\n");
        let made = fs::metadata(rootfs.join("tmp/made"))?;
        assert_eq!((made.uid(), made.gid()), (100_000, 200_000));
        oci.assert_clean().await
    });
}

#[test]
fn the_containers_namespaces_belong_to_its_users() {
    place::native(async |place| {
        let oci = Oci::begin(&place)?;
        let capabilities = json!(["CAP_SYS_ADMIN", "CAP_NET_ADMIN"]);
        let mut bundle = in_users(oci.bundle("a")?);
        for set in ["bounding", "effective", "permitted"] {
            bundle = bundle.set(&format!("/process/capabilities/{set}"), capabilities.clone());
        }
        let script = "mkdir /m && mount -t tmpfs none /m && hostname other && hostname && \
            ip link set lo up && mount -t mqueue none /m && echo all";
        assert_eq!(oci.script(bundle, script).await?, "other\nall\n");
        oci.assert_clean().await
    });
}

#[test]
fn what_belongs_to_namespaces_of_the_host_is_mounted_for_the_container() {
    place::native(async |place| {
        let oci = Oci::begin(&place)?;
        let list = json!([{"type": "mount"}, {"type": "user"}]);
        let bundle = in_users(oci.bundle("a")?)
            .set("/linux/namespaces", list)
            .unset("/hostname")
            .mount("/dev/mqueue", "mqueue", "mqueue", &["nosuid"])
            .mount("/sys/fs/cgroup", "cgroup", "cgroup", &["ro"]);
        let script = "awk '$3 ~ \"proc|sysfs|mqueue|cgroup2\" {print $2, $3}' /proc/mounts; ls /sys/class/net";
        let told = oci.script(bundle, script).await?;
        for mount in ["/proc proc", "/sys sysfs", "/dev/mqueue mqueue", "/sys/fs/cgroup cgroup2"] {
            assert!(told.contains(mount), "{told}");
        }
        assert!(told.ends_with("lo\n"), "{told}");
        oci.assert_clean().await
    });
}

#[test]
fn sources_that_only_the_host_may_enter_are_bound() {
    place::native(async |place| {
        let oci = Oci::begin(&place)?;
        let secret = place.dir("secret")?;
        fs::write(secret.join("file"), "content\n")?;
        fs::set_permissions(&secret, fs::Permissions::from_mode(0o700))?;
        let source = secret.join("file");
        let bundle = in_users(oci.bundle("a")?);
        let bundle = bundle.mount("/file", "bind", &source.to_string_lossy(), &["bind"]);
        let bundle = bundle.args(&["sleep", "inf"]);
        oci.start(&bundle).await?;
        assert_eq!(
            oci.exec("a", "cat /file; id -u; cat /proc/self/uid_map | wc -l").await?,
            "content\n0\n1\n"
        );
        oci.delete("a").await?;
        oci.assert_clean().await
    });
}

/// As the kernel has it for a mount namespace with fewer privileges.
#[test]
fn what_a_volume_forbids_a_user_namespace_does_not_allow() {
    place::native(async |place| {
        let oci = Oci::begin(&place)?;
        let volume = place.dir("volume")?;
        let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
        mount("tmpfs", &volume, "tmpfs", flags, None)?;
        mount_remount(&volume, MountFlags::BIND | MountFlags::RDONLY | flags, c"")?;
        let source = volume.to_string_lossy().into_owned();
        let bound = |options: &[&str]| {
            Ok::<_, anyhow::Error>(in_users(oci.bundle("a")?).mount("/v", "bind", &source, options))
        };
        for options in [&["bind"][..], &["bind", "nosuid", "rprivate"]] {
            let script = "awk '$5 == \"/v\" {print $6}' /proc/self/mountinfo";
            let told = oci.script(bound(options)?, script).await?;
            assert_eq!(told, "ro,nosuid,nodev,noexec,relatime\n", "{options:?}");
        }
        for (option, words) in
            [("rw", "ro of the source"), ("exec", "noexec of"), ("noatime", "time of access")]
        {
            let output = oci.run(&bound(&["bind", option])?).await?;
            assert_ne!(output.code, 0, "{option}");
            for words in ["mounts[4].options", "operation not permitted", words] {
                assert!(output.stderr.contains(words), "{words}: {output:?}");
            }
        }
        unmount(&volume, UnmountFlags::DETACH)?;
        oci.assert_clean().await
    });
}

#[test]
fn a_user_namespace_can_be_anothers() {
    place::native(async |place| {
        let oci = Oci::begin(&place)?;
        let first = in_users(oci.bundle("first")?).args(&["sleep", "inf"]);
        oci.start(&first).await?;
        let pid = oci.state("first").await?["pid"].as_i64().context("a pid")?;
        let pinned = place.scratch().join("users");
        fs::write(&pinned, "")?;
        mount_bind(format!("/proc/{pid}/ns/user"), &pinned)?;
        let volume = place.dir("volume")?;
        owned(&volume, "file", 7, 8)?;
        for path in [format!("/proc/{pid}/ns/user"), pinned.to_string_lossy().into_owned()] {
            let bundle = oci.bundle("second")?;
            let bundle = bundle.set("/linux/namespaces/-", json!({"type": "user", "path": path}));
            let source = volume.to_string_lossy();
            let bundle = bundle.mount("/v", "bind", &source, &["bind", "idmap"]);
            let script =
                "readlink /proc/self/ns/user; stat -c '%u %g' / /v/file; echo x > /dev/null";
            let told = oci.script(bundle, script).await?;
            let users = oci.exec("first", "readlink /proc/self/ns/user").await?;
            assert_eq!(told, format!("{users}0 0\n7 8\n"), "{path}");
        }
        unmount(&pinned, UnmountFlags::DETACH)?;
        oci.delete("first").await?;
        oci.assert_clean().await
    });
}

#[test]
fn owners_of_volumes_are_mapped_with_and_without_a_user_namespace() {
    place::native(async |place| {
        let oci = Oci::begin(&place)?;
        let volume = place.dir("volume")?;
        owned(&volume, "file", 100, 211)?;
        let below = volume.join("below");
        owned(&place.dir("other")?, "file", 100, 211)?;
        fs::create_dir(&below)?;
        mount_bind(place.dir("other")?, &below)?;
        let source = volume.to_string_lossy();
        let script = "stat -c '%u %g' /v/file /v/below/file";
        for (users, option, expected) in [
            (true, "bind", "1000 2011\n"),
            (false, "bind", "101000 202011\n"),
            (true, "idmap", "1000 2011\n65534 65534\n"),
            (false, "idmap", "101000 202011\n100 211\n"),
            (true, "ridmap", "1000 2011\n1000 2011\n"),
        ] {
            let bundle = oci.bundle("a")?;
            let bundle = if users { in_users(bundle) } else { bundle };
            let options = if option == "bind" { vec!["bind"] } else { vec!["rbind", option] };
            let (uids, gids) = (maps(100, 101_000, 100), maps(200, 202_000, 100));
            let bundle = mapped(bundle, &source, &options, uids, gids);
            let output = oci.run(&bundle.script(script)).await?;
            assert_eq!(output.stdout, expected, "{users} {option}: {output:?}");
        }
        // Those of the container, if none are said.
        let bundle = in_users(oci.bundle("a")?).mount("/v", "bind", &source, &["rbind", "ridmap"]);
        assert_eq!(oci.script(bundle, script).await?, "100 211\n100 211\n");
        unmount(&below, UnmountFlags::DETACH)?;
        oci.assert_clean().await
    });
}

#[test]
fn a_part_of_the_root_is_bound_with_other_owners() {
    place::native(async |place| {
        let oci = Oci::begin(&place)?;
        let bundle = in_users(oci.bundle("a")?);
        let source = bundle.rootfs().join("src");
        fs::create_dir(&source)?;
        chown(bundle.rootfs(), Some(100_000), Some(200_000))?;
        for path in ["dev", "proc", "sys"] {
            fs::create_dir_all(bundle.rootfs().join(path))?;
        }
        owned(&source, "file", 5, 6)?;
        let (uids, gids) = (maps(5, 100_050, 1), maps(6, 200_060, 1));
        let bundle = mapped(bundle, &source.to_string_lossy(), &["rbind"], uids, gids);
        assert_eq!(oci.script(bundle, "stat -c '%u %g' /v/file").await?, "50 60\n");
        oci.assert_clean().await
    });
}

#[test]
fn limits_above_the_hosts_are_given_before_the_privileges_go() {
    place::native(async |place| {
        let oci = Oci::begin(&place)?;
        let limits = json!([{"type": "RLIMIT_NOFILE", "soft": 20, "hard": 20}]);
        let volume = place.dir("volume")?;
        owned(&volume, "file", 0, 0)?;
        let mut bundle = in_users(oci.bundle("a")?).set("/process/rlimits", limits);
        for number in 0..20 {
            let source = volume.to_string_lossy();
            bundle = bundle.mount(&format!("/v{number}"), "bind", &source, &["bind", "idmap"]);
        }
        let told = oci.script(bundle, "ulimit -n; stat -c %u /v19/file").await?;
        assert_eq!(told, "20\n0\n");
        oci.assert_clean().await
    });
}

#[test]
fn mappings_that_make_no_sense_are_refused_by_their_field() {
    place::native(async |place| {
        let oci = Oci::begin(&place)?;
        let bundle = || Ok::<_, anyhow::Error>(in_users(oci.bundle("a")?));
        let uids = |value| Ok::<_, anyhow::Error>(bundle()?.set("/linux/uidMappings", value));
        let two = json!([{"containerID": 0, "hostID": 1, "size": 5},
            {"containerID": 4, "hostID": 100, "size": 5}]);
        for (bundle, words) in [
            (uids(maps(0, 1, 0))?, "linux.uidMappings[0]: its size is 0"),
            (uids(maps(0, u32::MAX, 2))?, "linux.uidMappings[0]"),
            (uids(two)?, "linux.uidMappings[1]: it overlaps"),
            (uids(maps(1, 1, 1))?, "the container's id 0 is not mapped"),
            (bundle()?.unset("/linux/gidMappings"), "linux.gidMappings: missing"),
            (bundle()?.set("/process/user/uid", json!(70_000)), "process.user.uid: 70000"),
            (
                mapped(bundle()?, "/", &["bind"], maps(0, 1, 0), maps(0, 1, 1)),
                "mounts[4].uidMappings[0]",
            ),
            (
                bundle()?.mount("/proc/uptime", "bind", "/proc/uptime", &["bind", "idmap"]),
                "its file system (proc) cannot map owners",
            ),
        ] {
            let output = oci.run(&bundle).await?;
            assert!(output.code != 0 && output.stderr.contains(words), "{words}: {output:?}");
        }
        oci.assert_clean().await
    });
}
