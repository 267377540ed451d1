//! The mounts of a specification.

use std::path::PathBuf;

use oci_spec::runtime::{Linux, LinuxNamespaceType, Mount as OciMount, Spec};

use crate::error::Error;
use crate::plan::{Again, Bind, FileSystem, Handle, Mount, MountSource, Owners, Shared};

use super::options::{Change, Options};
use super::root::{root_propagation, stack};
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
        let layers = matches!(source, MountSource::Stack(_));
        let owners = self.owners(bound || layers, options.map_owners)?;
        let exists = bound || options.remount;
        let own = self.own(&source, &options);
        Ok(Mount {
            destination,
            set: own.set,
            clear: own.clear,
            locked: self.is_locked(&source),
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

    /// Attributes of a new mount are only those that are set; what exists already has some.
    fn own(&self, source: &MountSource, options: &Options) -> Change {
        match source {
            MountSource::Bind(_) | MountSource::Inside(_) => options.of_bind(self.has_users),
            MountSource::Again(_) | MountSource::Shared(_) => options.own,
            MountSource::New(_) | MountSource::Stack(_) => Change { clear: 0, ..options.own },
        }
    }

    fn is_locked(&self, source: &MountSource) -> bool {
        self.has_users && matches!(source, MountSource::Bind(_))
    }

    fn source(&self, kind: &str, bound: bool, options: &mut Options) -> Result<MountSource, Error> {
        if bound && let Some(option) = options.data.first() {
            // As the kernel does with them, and so with configurations that are in use.
            let why = "a bind mount has no options of a file system, ignoring";
            tracing::warn!("{}: {option:?}: {why}", self.field("options"));
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
        if let ("overlay", [option]) = (kind, &list[..])
            && let Some(layers) = option.strip_prefix("lowerdir=")
        {
            let layers = layers_of(layers);
            let absolute = layers.iter().all(|layer| layer.is_absolute());
            if absolute {
                return Ok(MountSource::Stack(stack(layers.iter().map(PathBuf::as_path))?));
            }
        }
        if options.own.set & libc::MOUNT_ATTR_RDONLY != 0 && !WITHOUT_DEVICE.contains(&kind) {
            list.push("ro".to_owned());
        }
        let source = self.mount.source().as_deref().map(text).transpose();
        let source = source.in_field(|| self.field("source"))?.unwrap_or_default();
        Ok(MountSource::New(FileSystem {
            kind: kind.to_owned(),
            source,
            options: list,
            label: String::new(),
        }))
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

/// The paths in the value of overlayfs's `lowerdir`: between colons, with backslashes before what is
/// meant as it stands.
fn layers_of(list: &str) -> Vec<PathBuf> {
    let mut layers = vec![String::new()];
    let mut letters = list.chars();
    while let Some(letter) = letters.next() {
        match (letter, layers.last_mut()) {
            (':', _) => layers.push(String::new()),
            ('\\', Some(layer)) => layer.extend(letters.next()),
            (letter, Some(layer)) => layer.push(letter),
            (_, None) => {}
        }
    }
    layers.into_iter().map(PathBuf::from).collect()
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
mod tests;
