//! The root, the mounts and the devices of a specification.

use std::path::{Component, Path};

use oci_spec::runtime::{Linux, LinuxDeviceCgroup, LinuxDeviceType, Mount as OciMount, Spec};

use crate::error::Error;
use crate::plan::{
    Bind, Device, FileSystem, Handle, Link, Mount, MountSource, Overlay, Root, RootSource, Shared,
};

use super::options::{Options, propagation};
use super::{Member, Rootfs, Surroundings, member_of, refuse};

/// Nodes that every container has (OCI runtime specification, `config-linux.md`).
const DEFAULT_DEVICES: [(&str, u32, u32); 6] = [
    ("/dev/null", 1, 3),
    ("/dev/zero", 1, 5),
    ("/dev/full", 1, 7),
    ("/dev/random", 1, 8),
    ("/dev/urandom", 1, 9),
    ("/dev/tty", 5, 0),
];

/// Links that every container has.
const DEFAULT_LINKS: [(&str, &str); 5] = [
    ("/dev/fd", "/proc/self/fd"),
    ("/dev/stdin", "/proc/self/fd/0"),
    ("/dev/stdout", "/proc/self/fd/1"),
    ("/dev/stderr", "/proc/self/fd/2"),
    ("/dev/ptmx", "pts/ptmx"),
];

/// The root file system.
pub(super) fn root(spec: &Spec, linux: &Linux, around: &Surroundings<'_>) -> Result<Root, Error> {
    let source = source(around.rootfs)?;
    let read_only = spec.root().as_ref().and_then(|root| root.readonly()).unwrap_or(false);
    let propagation = match linux.rootfs_propagation().as_deref() {
        None | Some("") => 0,
        Some(name) => propagation(name.trim_start_matches('r'))
            .ok_or_else(|| refuse(format!("rootfsPropagation {name:?} is unknown")))?,
    };
    let attach = text(around.attach)?;
    Ok(Root { attach, read_only, propagation, source: Some(source) })
}

/// Where a root file system comes from.
pub(crate) fn source(rootfs: &Rootfs) -> Result<RootSource, Error> {
    Ok(match rootfs {
        Rootfs::Overlay { lowers, upper, work } => {
            RootSource::Overlay(overlay(lowers.iter().map(|path| path.as_path()), upper, work)?)
        }
        Rootfs::Directory(path) => RootSource::Directory(text(path)?),
    })
}

/// Names layers relative to the directory that all of them are below.
fn overlay<'p>(
    lowers: impl Iterator<Item = &'p Path> + Clone,
    upper: &Path,
    work: &Path,
) -> Result<Overlay, Error> {
    let first = lowers.clone().next().ok_or_else(|| refuse("an overlay without layers"))?;
    let base = first
        .ancestors()
        .skip(1)
        .find(|base| lowers.clone().all(|lower| lower.starts_with(base)))
        .unwrap_or(Path::new("/"));
    let names = lowers.map(|lower| text(lower.strip_prefix(base).unwrap_or(lower)));
    Ok(Overlay {
        base: text(base)?,
        lowers: names.collect::<Result<_, _>>()?,
        upper: text(upper)?,
        work: text(work)?,
        volatile: true,
    })
}

/// All mounts, in the order of the specification.
pub(super) fn mounts(spec: &Spec, members: &[Member]) -> Result<Vec<Mount>, Error> {
    spec.mounts().iter().flatten().map(|mount| one_mount(mount, members)).collect()
}

fn one_mount(mount: &OciMount, members: &[Member]) -> Result<Mount, Error> {
    let destination = clean(mount.destination())?;
    if mount.uid_mappings().is_some() || mount.gid_mappings().is_some() {
        let text = format!("mount {destination}: id mappings are not supported by this version");
        return Err(refuse(text));
    }
    let mut options = Options::default();
    for option in mount.options().iter().flatten() {
        options.take(option);
    }
    if let Some(option) = &options.unsupported {
        let text =
            format!("mount {destination}: option {option:?} is not supported by this version");
        return Err(refuse(text));
    }
    let kind = mount.typ().as_deref().unwrap_or("none");
    let kind = if kind == "cgroup" { "cgroup2" } else { kind };
    let bound = options.bind || kind == "bind";
    let source = if bound {
        bind(mount, &options, members, &destination)?
    } else {
        let source = mount.source().as_deref().map(text).transpose()?.unwrap_or_default();
        let options = std::mem::take(&mut options.data);
        MountSource::New(FileSystem { kind: kind.to_owned(), source, options })
    };
    Ok(Mount {
        destination,
        set: options.set,
        clear: if bound { options.clear } else { 0 },
        propagation: options.propagation,
        recursive: options.recursive_attributes,
        // Security features are found through these: an image must not be able to move them.
        no_links: matches!(kind, "proc" | "sysfs"),
        source: Some(source),
    })
}

fn bind(
    mount: &OciMount,
    options: &Options,
    members: &[Member],
    destination: &str,
) -> Result<MountSource, Error> {
    let source = mount.source().as_deref().filter(|source| source.is_absolute());
    let source = source
        .ok_or_else(|| refuse(format!("mount {destination}: a bind needs an absolute source")))?;
    if let Some((index, rest)) = member_of(source, "root", members) {
        let of = Handle::try_from(index).unwrap_or(Handle::MAX);
        return Ok(MountSource::Shared(Shared { of, path: format!("/{}", text(rest)?) }));
    }
    Ok(MountSource::Bind(Bind { path: text(source)?, recursive: options.recursive_bind }))
}

/// Default devices and those of the specification.
pub(super) fn devices(linux: &Linux) -> Result<Vec<Device>, Error> {
    let default = DEFAULT_DEVICES.iter().map(|(path, major, minor)| Device {
        path: (*path).to_owned(),
        mode: libc::S_IFCHR | 0o666,
        major: *major,
        minor: *minor,
        uid: 0,
        gid: 0,
    });
    let mut devices: Vec<_> = default.collect();
    for device in linux.devices().iter().flatten() {
        let path = clean(device.path())?;
        let number = |number: i64| {
            u32::try_from(number)
                .map_err(|_| refuse(format!("device {path}: {number} is no device number")))
        };
        let kind = match device.typ() {
            LinuxDeviceType::B => libc::S_IFBLK,
            LinuxDeviceType::P => libc::S_IFIFO,
            _ => libc::S_IFCHR,
        };
        devices.push(Device {
            mode: kind | device.file_mode().unwrap_or(0o666) & 0o7777,
            major: number(device.major())?,
            minor: number(device.minor())?,
            uid: device.uid().unwrap_or(0),
            gid: device.gid().unwrap_or(0),
            path,
        });
    }
    Ok(devices)
}

/// Default links.
pub(super) fn links() -> Vec<Link> {
    let link = |(path, target): &(&str, &str)| Link {
        path: (*path).to_owned(),
        target: (*target).to_owned(),
    };
    DEFAULT_LINKS.iter().map(link).collect()
}

/// What every container may do with devices, whatever its specification says: make nodes of
/// any, and use those that it has by default, its console and its pseudo terminals.
pub(super) fn default_device_rules() -> Vec<LinuxDeviceCgroup> {
    let rule = |kind, major: Option<u32>, minor: Option<u32>, access: &str| {
        let mut rule = LinuxDeviceCgroup::default();
        rule.set_allow(true)
            .set_typ(Some(kind))
            .set_major(major.map(i64::from))
            .set_minor(minor.map(i64::from))
            .set_access(Some(access.to_owned()));
        rule
    };
    let mut rules = vec![
        rule(LinuxDeviceType::C, None, None, "m"),
        rule(LinuxDeviceType::B, None, None, "m"),
        rule(LinuxDeviceType::C, Some(5), Some(1), "rwm"),
        rule(LinuxDeviceType::C, Some(5), Some(2), "rwm"),
        rule(LinuxDeviceType::C, Some(136), None, "rwm"),
    ];
    rules.extend(
        DEFAULT_DEVICES
            .iter()
            .map(|(_, major, minor)| rule(LinuxDeviceType::C, Some(*major), Some(*minor), "rwm")),
    );
    rules
}

/// An absolute path without `.` and `..`, which could otherwise be read in two ways.
fn clean(path: &Path) -> Result<String, Error> {
    let mut clean = String::new();
    for component in path.components() {
        match component {
            Component::RootDir => {}
            Component::Normal(name) => {
                clean.push('/');
                clean.push_str(name.to_str().ok_or_else(|| refuse("a path that is not UTF-8"))?);
            }
            _ => return Err(refuse(format!("{path:?} has \"..\" in it"))),
        }
    }
    if clean.is_empty() { Err(refuse(format!("{path:?} is the root"))) } else { Ok(clean) }
}

fn text(path: &Path) -> Result<String, Error> {
    let text = path.to_str().ok_or_else(|| refuse(format!("{path:?} is not UTF-8")))?;
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::super::tests::{json, planned};
    use super::*;

    fn mounted(mount: &str) -> Result<Mount, Error> {
        let member = Member { key: "pause".to_owned(), pid: 42 };
        let text = json("", &format!(r#", "mounts": [{mount}]"#));
        planned(&text, &[member]).map(|blueprint| blueprint.plan.mounts[0].clone())
    }

    #[test]
    fn a_new_file_system_keeps_its_own_options() {
        let mount = mounted(
            r#"{"destination": "/dev", "type": "tmpfs", "source": "tmpfs",
                "options": ["nosuid", "strictatime", "mode=755", "size=65536k"]}"#,
        )
        .unwrap();
        let options = vec!["mode=755".to_owned(), "size=65536k".to_owned()];
        let fs = FileSystem { kind: "tmpfs".to_owned(), source: "tmpfs".to_owned(), options };
        assert_eq!(mount.source, Some(MountSource::New(fs)));
        assert_eq!(mount.set, libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_STRICTATIME);
        assert_eq!(mount.clear, 0);
    }

    #[test]
    fn proc_must_not_be_behind_a_link() {
        let mount = mounted(r#"{"destination": "/proc", "type": "proc", "source": "proc"}"#);
        assert!(mount.unwrap().no_links);
    }

    #[test]
    fn a_bind_has_attributes_and_propagation() {
        let mount = mounted(
            r#"{"destination": "/data/", "source": "/src", "options": ["rbind", "rslave", "ro", "rw", "rro"]}"#,
        )
        .unwrap();
        let bind = Bind { path: "/src".to_owned(), recursive: true };
        assert_eq!(mount.source, Some(MountSource::Bind(bind)));
        assert_eq!(mount.destination, "/data");
        assert_eq!(mount.set, libc::MOUNT_ATTR_RDONLY);
        assert_eq!(mount.propagation, libc::MS_SLAVE);
        assert!(mount.recursive);
    }

    #[test]
    fn the_last_of_contradicting_options_counts() {
        let options = r#"["bind", "ro", "noatime", "strictatime", "rw"]"#;
        let text = format!(r#"{{"destination": "/d", "source": "/s", "options": {options}}}"#);
        let mount = mounted(&text).unwrap();
        assert_eq!(mount.set, libc::MOUNT_ATTR_STRICTATIME);
        assert_eq!(mount.clear, libc::MOUNT_ATTR_RDONLY | libc::MOUNT_ATTR__ATIME);
    }

    #[test]
    fn a_mount_of_a_member_is_taken_from_its_namespace() {
        let text = r#"{"destination": "/dev/shm", "source": "/proc/42/root/shm",
            "options": ["bind"]}"#;
        let shared = Shared { of: 0, path: "/shm".to_owned() };
        assert_eq!(mounted(text).unwrap().source, Some(MountSource::Shared(shared)));
    }

    #[test]
    fn destinations_are_below_the_root() {
        for destination in ["/", "/a/../b", ".."] {
            let text = format!(r#"{{"destination": "{destination}", "type": "tmpfs"}}"#);
            assert!(mounted(&text).is_err(), "{destination}");
        }
        let relative = r#"{"destination": "/d", "source": "rel", "options": ["bind"]}"#;
        assert!(mounted(relative).is_err());
        let copied = r#"{"destination": "/d", "type": "tmpfs", "options": ["tmpcopyup"]}"#;
        assert!(mounted(copied).unwrap_err().to_string().contains("tmpcopyup"));
    }

    #[test]
    fn layers_are_named_from_where_they_meet() {
        let paths = ["/var/x/layers/12/fs", "/var/x/layers/3/fs"].map(Path::new);
        let overlay = overlay(paths.into_iter(), Path::new("/u"), Path::new("/w")).unwrap();
        assert_eq!(overlay.base, "/var/x/layers");
        assert_eq!(overlay.lowers, ["12/fs", "3/fs"]);
    }

    #[test]
    fn one_layer_has_a_name_as_well() {
        let overlay =
            overlay([Path::new("/l/1/fs")].into_iter(), Path::new("/u"), Path::new("/w")).unwrap();
        assert_eq!((overlay.base.as_str(), &overlay.lowers[..]), ("/l/1", &["fs".to_owned()][..]));
    }
}
