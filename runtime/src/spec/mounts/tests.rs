//! Tables of what mounts become.

use super::super::Member;
use super::super::tests::{around, json, planned, planned_around};
use super::*;

const DIRECTORY: &str = "/bundle/rootfs";

fn plan_of(mount: &str, linux: &str) -> Result<Mount, Error> {
    let member = Member { key: "pause".to_owned(), pid: 42 };
    let text = json(linux, &format!(r#", "mounts": [{mount}]"#));
    planned(&text, &[member]).map(|blueprint| blueprint.plan.mounts[0].clone())
}

fn mounted(mount: &str) -> Result<Mount, Error> {
    plan_of(mount, "")
}

fn in_directory(mount: &str) -> Result<Mount, Error> {
    let rootfs = Rootfs::Directory(DIRECTORY.into());
    let text = json("", &format!(r#", "mounts": [{mount}]"#));
    let blueprint = planned_around(&text, &around(&rootfs, &[]));
    blueprint.map(|blueprint| blueprint.plan.mounts[0].clone())
}

#[test]
fn a_new_file_system_keeps_its_own_options() {
    let mount = mounted(
        r#"{"destination": "/dev", "type": "tmpfs", "source": "tmpfs",
            "options": ["nosuid", "strictatime", "mode=755,uid=1", "size=65536k", "sync"]}"#,
    )
    .unwrap();
    let options = ["sync", "mode=755", "uid=1", "size=65536k"].map(str::to_owned).to_vec();
    let fs = FileSystem {
        kind: "tmpfs".to_owned(),
        source: "tmpfs".to_owned(),
        options,
        label: String::new(),
    };
    assert_eq!(mount.source, Some(MountSource::New(fs)));
    assert_eq!(mount.set, libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_STRICTATIME);
    assert_eq!((mount.clear, mount.propagation), (0, vec![]));
}

#[test]
fn what_something_is_made_in_is_made_read_only_later() {
    let ro = libc::MOUNT_ATTR_RDONLY;
    for (destination, kind, set, later, flags) in [
        ("/a", "tmpfs", 0, true, &[][..]),
        ("/dev", "devtmpfs", 0, true, &[]),
        ("/sys", "sysfs", ro, false, &[]),
        ("/disk", "ext4", ro, false, &["ro".to_owned()]),
    ] {
        let text =
            format!(r#"{{"destination": "{destination}", "type": "{kind}", "options": ["ro"]}}"#);
        let mount = mounted(&text).unwrap();
        let Some(MountSource::New(fs)) = &mount.source else { panic!("not new") };
        assert_eq!((mount.set, mount.read_only_later, &fs.options[..]), (set, later, flags));
    }
}

#[test]
fn proc_must_not_be_behind_a_link_nor_covered() {
    let mount = mounted(r#"{"destination": "/proc", "type": "proc", "source": "proc"}"#);
    assert!(mount.unwrap().no_links);
    for (destination, kind) in [("/proc", "tmpfs"), ("/proc/sys", "tmpfs"), ("/proc/1", "proc")] {
        let text = format!(r#"{{"destination": "{destination}", "type": "{kind}"}}"#);
        let error = mounted(&text).unwrap_err().to_string();
        assert!(error.contains("mounts[0].destination: /proc"), "{error}");
    }
    assert!(mounted(r#"{"destination": "/proc/uptime", "type": "tmpfs"}"#).is_ok());
}

#[test]
fn a_bind_has_attributes_and_propagation() {
    let mount = mounted(
        r#"{"destination": "data/", "source": "/src",
            "options": ["rbind", "rslave", "ro", "rw", "rro", "silent", "sync"]}"#,
    )
    .unwrap();
    let bind = Bind { path: "/src".to_owned(), recursive: true };
    let ro = libc::MOUNT_ATTR_RDONLY;
    assert_eq!(mount.source, Some(MountSource::Bind(bind)));
    assert_eq!(mount.destination, "/data");
    assert_eq!((mount.set, mount.deep_set, mount.deep_clear), (0, ro, ro));
    assert!(mount.clear & ro != 0 && mount.clear & libc::MOUNT_ATTR_NOSUID != 0, "and no others");
    assert_eq!(mount.propagation, [libc::MS_SLAVE | libc::MS_REC]);
}

#[test]
fn with_a_user_namespace_what_the_source_forbids_stays() {
    let bind = r#"{"destination": "/d", "source": "/s", "options": ["bind", "exec"]}"#;
    let linux = r#", "uidMappings": [{"containerID": 0, "hostID": 100000, "size": 9}],
        "gidMappings": [{"containerID": 0, "hostID": 100000, "size": 9}]"#;
    let text = json(linux, &format!(r#", "mounts": [{bind}]"#))
        .replace(r#"{"type": "mount"}"#, r#"{"type": "mount"}, {"type": "user"}"#);
    let mount = &planned(&text, &[]).unwrap().plan.mounts[0];
    assert!(mount.locked);
    assert_eq!(mount.clear, libc::MOUNT_ATTR_NOEXEC | libc::MOUNT_ATTR_NOSYMFOLLOW);
    assert!(!mounted(bind).unwrap().locked);
}

#[test]
fn only_a_sharing_root_lets_a_mount_take_part_in_the_hosts() {
    let (rec, slave, shared) = (libc::MS_REC, libc::MS_SLAVE, libc::MS_SHARED);
    let private = libc::MS_PRIVATE;
    for (root, option, expected) in [
        ("", "rshared", vec![slave | rec, shared | rec]),
        ("rshared", "rshared", vec![shared | rec]),
        ("rslave", "shared", vec![slave | rec, shared]),
        ("", "private", vec![slave | rec, private]),
        ("", "rprivate", vec![private | rec]),
        ("", "rbind", vec![]),
    ] {
        let text =
            format!(r#"{{"destination": "/d", "source": "/s", "options": ["bind", "{option}"]}}"#);
        let linux = format!(r#", "rootfsPropagation": "{root}""#);
        assert_eq!(plan_of(&text, &linux).unwrap().propagation, expected, "{root} {option}");
    }
}

#[test]
fn relative_sources_are_the_bundles() {
    for (source, path) in [(".", "/bundle"), ("a/./b", "/bundle/a/b"), ("/x", "/x")] {
        let text = format!(r#"{{"destination": "/d", "source": "{source}", "options": ["bind"]}}"#);
        let bind = Bind { path: path.to_owned(), recursive: false };
        assert_eq!(mounted(&text).unwrap().source, Some(MountSource::Bind(bind)));
    }
}

#[test]
fn sources_in_the_root_are_taken_from_there() {
    let text = format!(
        r#"{{"destination": "{DIRECTORY}/b", "source": "{DIRECTORY}/a", "options": ["rbind"]}}"#
    );
    let mount = in_directory(&text).unwrap();
    let inside = Bind { path: "/a".to_owned(), recursive: true };
    assert_eq!(mount.source, Some(MountSource::Inside(inside)));
    assert_eq!(mount.destination, "/b");
}

#[test]
fn a_remount_changes_what_is_there() {
    let again = |options: &str| {
        let text = format!(r#"{{"destination": "/d", "source": "/s", "options": [{options}]}}"#);
        mounted(&text).unwrap()
    };
    let bound = again(r#""bind", "remount", "ro""#);
    assert_eq!(bound.source, Some(MountSource::Again(Again { options: vec![] })));
    assert_eq!((bound.set, bound.read_only_later), (libc::MOUNT_ATTR_RDONLY, false));
    let whole = again(r#""remount", "size=1m", "nosuid", "exec""#);
    let options = vec!["size=1m".to_owned()];
    assert_eq!(whole.source, Some(MountSource::Again(Again { options })));
    assert_eq!(whole.clear, libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NOEXEC);
}

#[test]
fn owners_can_be_mapped() {
    let maps = r#""uidMappings": [{"containerID": 1, "hostID": 2, "size": 3}],
        "gidMappings": [{"containerID": 4, "hostID": 5, "size": 6}]"#;
    let text = |rest: &str, options: &str| {
        format!(r#"{{"destination": "/d", "source": "/s", "options": ["rbind"{options}]{rest}}}"#)
    };
    let owners = mounted(&text(&format!(", {maps}"), "")).unwrap().owners.unwrap();
    assert_eq!((owners.maps.unwrap().groups[0].host, owners.recursive), (5, false));
    let owners = mounted(&text(&format!(", {maps}"), r#", "ridmap""#)).unwrap().owners.unwrap();
    assert!(owners.recursive);
    assert_eq!(mounted(&text("", "")).unwrap().owners, None);
    let error = mounted(&text("", r#", "idmap""#)).unwrap_err().to_string();
    assert!(error.contains("mounts[0].uidMappings: missing"), "{error}");
    let new = format!(r#"{{"destination": "/d", "type": "tmpfs", {maps}}}"#);
    let error = mounted(&new).unwrap_err().to_string();
    assert!(error.contains("only bind mounts"), "{error}");
}

#[test]
fn a_mount_of_a_member_is_taken_from_its_namespace() {
    let text = r#"{"destination": "/dev/shm", "source": "/proc/42/root/shm",
        "options": ["bind"]}"#;
    let shared = Shared { of: 0, path: "/shm".to_owned() };
    assert_eq!(mounted(text).unwrap().source, Some(MountSource::Shared(shared)));
}

#[test]
fn what_cannot_be_mounted_is_refused_by_its_field() {
    for (mount, words) in [
        (r#"{"destination": "/", "type": "tmpfs"}"#, "mounts[0].destination"),
        (r#"{"destination": "/a/../b", "type": "tmpfs"}"#, "mounts[0].destination"),
        (r#"{"destination": "..", "type": "tmpfs"}"#, "mounts[0].destination"),
        (r#"{"destination": "/a\u0000b", "type": "tmpfs"}"#, "mounts[0].destination"),
        (r#"{"destination": "/d", "options": ["bind"]}"#, "mounts[0].source: missing"),
        (r#"{"destination": "/d", "type": "bind"}"#, "mounts[0].source: missing"),
    ] {
        let error = mounted(mount).unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
    }
}

#[test]
fn without_a_bundle_sources_are_absolute() {
    let rootfs = Rootfs::Directory(DIRECTORY.into());
    let around = Surroundings { bundle: None, ..around(&rootfs, &[]) };
    let mount = r#"{"destination": "/d", "source": "rel", "options": ["bind"]}"#;
    let text = json("", &format!(r#", "mounts": [{mount}]"#));
    let error = planned_around(&text, &around).unwrap_err().to_string();
    assert!(error.contains("mounts[0].source: \"rel\" is not absolute"), "{error}");
}

#[test]
fn separated_options_stay_whole_where_they_are_quoted() {
    assert_eq!(separate("a=1,b,,c").collect::<Vec<_>>(), ["a=1", "b", "c"]);
    let label = r#"context="u:r:t:s0:c1,c2""#;
    assert_eq!(separate(label).collect::<Vec<_>>(), [label]);
}
