//! The mounts of a specification.

use std::path::PathBuf;

use oci_spec::runtime::{Linux, LinuxNamespaceType, Mount as OciMount, Spec};

use crate::error::Error;
use crate::plan::{Again, Bind, FileSystem, Handle, Mount, MountSource, Owners, Shared};

use super::options::Options;
use super::root::root_propagation;
use super::{In as _, Rootfs, Surroundings, clean, has, idmaps, member_of, refuse, text};

/// File systems that have no device to protect: read-only is the mount, not the file system, which
/// others may share.
const WITHOUT_DEVICE: [&str; 14] = [
    "proc",
    "sysfs",
    "cgroup2",
    "tmpfs",
    "ramfs",
    "devpts",
    "mqueue",
    "devtmpfs",
    "securityfs",
    "debugfs",
    "tracefs",
    "bpf",
    "configfs",
    "hugetlbfs",
];

/// What may be mounted below `/proc`: files that something else is known to emulate.
const BELOW_PROC: [&str; 10] = [
    "/proc/cpuinfo",
    "/proc/diskstats",
    "/proc/loadavg",
    "/proc/meminfo",
    "/proc/slabinfo",
    "/proc/stat",
    "/proc/swaps",
    "/proc/sys/crypto/fips_enabled",
    "/proc/sys/kernel/ns_last_pid",
    "/proc/uptime",
];

/// All mounts, in the order of the specification.
pub(super) fn mounts(
    spec: &Spec,
    linux: &Linux,
    around: &Surroundings<'_>,
) -> Result<Vec<Mount>, Error> {
    let shares = root_propagation(linux)? & libc::MS_SHARED != 0;
    let has_users = has(linux, LinuxNamespaceType::User);
    let mounts = spec.mounts().iter().flatten().enumerate();
    mounts
        .map(|(index, mount)| {
            let reader = Reader { index, mount, around, shares, has_users };
            reader.read()
        })
        .collect()
}

/// Whether the container has a `/dev` of the host, in which nothing is made.
pub(super) fn brings_devices(mounts: &[Mount]) -> bool {
    mounts.iter().any(|mount| {
        mount.destination == "/dev"
            && matches!(mount.source, Some(MountSource::Bind(_) | MountSource::Shared(_)))
    })
}

/// Reads one mount of a specification.
struct Reader<'a> {
    index: usize,
    mount: &'a OciMount,
    around: &'a Surroundings<'a>,
    /// Whether what is mounted in the container may reach the host.
    shares: bool,
    /// Whether there is a user namespace whose mappings a mount can have.
    has_users: bool,
}

impl Reader<'_> {
    fn read(&self) -> Result<Mount, Error> {
        let list = self.mount.options().iter().flatten();
        let mut options = Options::of(list.map(String::as_str));
        let kind = self.mount.typ().as_deref().unwrap_or("none");
        let kind = if kind == "cgroup" { "cgroup2" } else { kind };
        if kind.contains('\0') {
            return Err(refuse(format!("{}: a NUL", self.field("type"))));
        }
        let destination = self.destination()?;
        let bound = options.bind || kind == "bind";
        if !bound && !options.remount {
            self.check_below_proc(&destination, kind)?;
        }
        let read_only = options.own.set & libc::MOUNT_ATTR_RDONLY != 0;
        let later = !bound && read_only && (kind == "tmpfs" || destination == "/dev");
        if later {
            options.own.set &= !libc::MOUNT_ATTR_RDONLY;
        }
        let source = self.source(kind, bound, &mut options)?;
        let owners = self.owners(bound, options.map_owners)?;
        // Attributes of a new mount are only those that are set; what exists already has some.
        let exists = bound || options.remount;
        let clear = |change: u64| if exists { change } else { 0 };
        Ok(Mount {
            destination,
            set: options.own.set,
            clear: clear(options.own.clear),
            deep_set: options.deep.set,
            deep_clear: options.deep.clear,
            propagation: self.propagation(bound, &options.propagation),
            // Security features are found through these: an image must not be able to move them.
            no_links: !exists && matches!(kind, "proc" | "sysfs"),
            read_only_later: later,
            copy_up: options.copy_up && kind == "tmpfs" && !exists,
            owners,
            source: Some(source),
        })
    }

    fn field(&self, name: &str) -> String {
        format!("mounts[{}].{name}", self.index)
    }

    /// Where it goes. Some callers name it as it is on the host.
    fn destination(&self) -> Result<String, Error> {
        let path = self.mount.destination();
        let path = match self.around.rootfs {
            Rootfs::Directory(root) => path.strip_prefix(root).unwrap_or(path),
            Rootfs::Overlay { .. } => path,
        };
        clean(path).in_field(|| self.field("destination"))
    }

    /// Nothing may take the place of what runtimes and libraries trust, `/proc` and what is in
    /// it, but the real one. Binds are looked at when their source is open.
    fn check_below_proc(&self, destination: &str, kind: &str) -> Result<(), Error> {
        let why = match destination {
            "/proc" if kind != "proc" => "it must be of type proc",
            path if path.starts_with("/proc/") && !may_be_below_proc(path) => "it is inside /proc",
            _ => return Ok(()),
        };
        Err(refuse(format!(
            "{}: {destination} cannot be mounted: {why}",
            self.field("destination")
        )))
    }

    fn source(&self, kind: &str, bound: bool, options: &mut Options) -> Result<MountSource, Error> {
        if bound && let Some(option) = options.data.first() {
            // The kernel would ignore it.
            let why = "a bind mount has no options of a file system";
            return Err(refuse(format!("{}: {option:?}: {why}", self.field("options"))));
        }
        let mut list = std::mem::take(&mut options.generic);
        list.extend(options.data.iter().flat_map(|data| separate(data)).map(str::to_owned));
        if options.remount {
            return Ok(MountSource::Again(Again {
                options: if bound { Vec::new() } else { list },
            }));
        }
        if bound {
            return self.bind(options.recursive_bind);
        }
        if options.own.set & libc::MOUNT_ATTR_RDONLY != 0 && !WITHOUT_DEVICE.contains(&kind) {
            list.push("ro".to_owned());
        }
        let source = self.mount.source().as_deref().map(text).transpose();
        let source = source.in_field(|| self.field("source"))?.unwrap_or_default();
        Ok(MountSource::New(FileSystem { kind: kind.to_owned(), source, options: list }))
    }

    fn bind(&self, recursive: bool) -> Result<MountSource, Error> {
        let source = self.bind_source()?;
        if let Some((index, rest)) = member_of(&source, "root", self.around.members) {
            let of = Handle::try_from(index).unwrap_or(Handle::MAX);
            return Ok(MountSource::Shared(Shared { of, path: format!("/{}", text(rest)?) }));
        }
        // What is in the root is taken from there, with what has been mounted in it by then.
        if let Rootfs::Directory(root) = self.around.rootfs
            && let Ok(inside) = source.strip_prefix(root)
        {
            let path = format!("/{}", text(inside)?);
            return Ok(MountSource::Inside(Bind { path, recursive }));
        }
        Ok(MountSource::Bind(Bind { path: text(&source)?, recursive }))
    }

    fn bind_source(&self) -> Result<PathBuf, Error> {
        let field = || self.field("source");
        let source = self.mount.source().as_deref().filter(|path| !path.as_os_str().is_empty());
        let source = source.ok_or_else(|| refuse(format!("{}: missing for a bind", field())))?;
        if source.as_os_str().as_encoded_bytes().contains(&0) {
            return Err(refuse(format!("{}: a NUL", field())));
        }
        match self.around.bundle {
            _ if source.is_absolute() => Ok(source.to_owned()),
            Some(bundle) => Ok(bundle.join(source).components().collect()),
            None => Err(refuse(format!("{}: {source:?} is not absolute", field()))),
        }
    }

    fn owners(&self, bound: bool, recursive: Option<bool>) -> Result<Option<Owners>, Error> {
        let section = format!("mounts[{}]", self.index);
        let lists = (self.mount.uid_mappings().as_deref(), self.mount.gid_mappings().as_deref());
        let maps = idmaps::parse(&section, lists.0, lists.1)?;
        if maps.is_none() && recursive.is_none() {
            return Ok(None);
        }
        if !bound {
            let why = "only bind mounts can be id-mapped";
            return Err(refuse(format!("{}: {why}", self.field("uidMappings"))));
        }
        if maps.is_none() && !self.has_users {
            let why = "missing for an id-mapped mount without a user namespace";
            return Err(refuse(format!("{}: {why}", self.field("uidMappings"))));
        }
        Ok(Some(Owners { maps, recursive: recursive.unwrap_or(false) }))
    }

    /// A clone of a mount of the host takes part in what is mounted there. Unless the root is to
    /// share it, it only listens, also where what is asked for does not reach.
    fn propagation(&self, bound: bool, asked: &[u64]) -> Vec<u64> {
        let decided = asked
            .first()
            .is_none_or(|first| first & libc::MS_REC != 0 && first & libc::MS_SHARED == 0);
        let listen = bound && !decided && !self.shares;
        let first = listen.then_some(libc::MS_SLAVE | libc::MS_REC);
        first.into_iter().chain(asked.iter().copied()).collect()
    }
}

/// Whether `path`, below `/proc`, is one of the files that may be covered.
pub(crate) fn may_be_below_proc(path: &str) -> bool {
    BELOW_PROC.contains(&path)
}

/// Several options in one string are usual, unless quotes or backslashes say otherwise.
fn separate(data: &str) -> impl Iterator<Item = &str> {
    let whole = data.contains(['"', '\\']);
    data.split(move |letter| letter == ',' && !whole).filter(|option| !option.is_empty())
}

#[cfg(test)]
mod tests {
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
        let fs = FileSystem { kind: "tmpfs".to_owned(), source: "tmpfs".to_owned(), options };
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
            let text = format!(
                r#"{{"destination": "{destination}", "type": "{kind}", "options": ["ro"]}}"#
            );
            let mount = mounted(&text).unwrap();
            let Some(MountSource::New(fs)) = &mount.source else { panic!("not new") };
            assert_eq!((mount.set, mount.read_only_later, &fs.options[..]), (set, later, flags));
        }
    }

    #[test]
    fn proc_must_not_be_behind_a_link_nor_covered() {
        let mount = mounted(r#"{"destination": "/proc", "type": "proc", "source": "proc"}"#);
        assert!(mount.unwrap().no_links);
        for (destination, kind) in [("/proc", "tmpfs"), ("/proc/sys", "tmpfs"), ("/proc/1", "proc")]
        {
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
        assert_eq!((mount.set, mount.clear, mount.deep_set, mount.deep_clear), (0, ro, ro, ro));
        assert_eq!(mount.propagation, [libc::MS_SLAVE | libc::MS_REC]);
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
            let text = format!(
                r#"{{"destination": "/d", "source": "/s", "options": ["bind", "{option}"]}}"#
            );
            let linux = format!(r#", "rootfsPropagation": "{root}""#);
            assert_eq!(plan_of(&text, &linux).unwrap().propagation, expected, "{root} {option}");
        }
    }

    #[test]
    fn relative_sources_are_the_bundles() {
        for (source, path) in [(".", "/bundle"), ("a/./b", "/bundle/a/b"), ("/x", "/x")] {
            let text =
                format!(r#"{{"destination": "/d", "source": "{source}", "options": ["bind"]}}"#);
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
            let text =
                format!(r#"{{"destination": "/d", "source": "/s", "options": [{options}]}}"#);
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
            format!(
                r#"{{"destination": "/d", "source": "/s", "options": ["rbind"{options}]{rest}}}"#
            )
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
            (
                r#"{"destination": "/d", "source": "/s", "options": ["bind", "size=1"]}"#,
                "mounts[0].options: \"size=1\"",
            ),
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
}
