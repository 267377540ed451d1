//! Where a container's cgroup is.

use std::fs;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use oci_spec::runtime::Spec;
use rustix::fs::{Mode, OFlags, openat};

use crate::cgroup::systemd::Unit;
use crate::cgroup::{CgroupPath, Hierarchy, MissingControllers};
use crate::error::{Error, Storing as _};

use super::record::Record;

/// What marks the cgroups that are made here.
const OWNER: &str = "berth-oci";

/// Opens the hierarchy of cgroup version 2, wherever it is mounted.
pub(super) fn hierarchy() -> Result<Hierarchy, Error> {
    let unified = Path::new("/sys/fs/cgroup");
    match Hierarchy::open(unified, OWNER, MissingControllers::Refuse) {
        Ok(hierarchy) => Ok(hierarchy),
        Err(error) => match mount_point()? {
            Some(other) => Hierarchy::open(&other, OWNER, MissingControllers::Refuse),
            None => Err(error),
        },
    }
}

fn mount_point() -> Result<Option<PathBuf>, Error> {
    let path = "/proc/self/mountinfo";
    let mounts = fs::read_to_string(path).storing("read", path)?;
    let found = mounts.lines().find_map(|line| {
        let (mount, fs) = line.split_once(" - ")?;
        (fs.split(' ').next()? == "cgroup2").then(|| mount.split(' ').nth(4)).flatten()
    });
    Ok(found.map(PathBuf::from))
}

/// The cgroup of a container: `linux.cgroupsPath`; a relative one, or the id where there is
/// none, lies beside the cgroup of this process, which has processes and so takes no others.
pub(super) fn place(spec: &Spec, id: &str) -> Result<CgroupPath, Error> {
    let asked = asked(spec)?.filter(|path| !path.is_empty()).unwrap_or(id);
    if asked.starts_with('/') {
        return CgroupPath::parse(asked).map_err(|_| bad(Path::new(asked), "is no cgroup's path"));
    }
    let own = fs::read_to_string("/proc/self/cgroup").storing("read", "/proc/self/cgroup")?;
    let own = own_in(&own).ok_or_else(|| {
        let error = io::Error::other("this process is in no cgroup of version 2");
        Error::Cgroup { attempt: "find", cgroup: asked.to_owned(), source: error }
    })?;
    let beside = Path::new(own).parent().unwrap_or(Path::new("/")).join(asked);
    CgroupPath::parse(&beside.to_string_lossy()).map_err(|_| bad(Path::new(asked), "escapes"))
}

/// Refuses a cgroup that somebody uses: whoever ends a container kills what is in its cgroup.
pub(super) fn refuse_used(hierarchy: &Hierarchy, place: &CgroupPath) -> Result<(), Error> {
    let used = hierarchy.processes(place)?.len();
    let why = match (used, hierarchy.is_frozen(place)) {
        (0, false) => return Ok(()),
        (0, true) => "container's cgroup unexpectedly frozen".to_owned(),
        _ => format!("the container's cgroup is not empty: {used} processes are in it"),
    };
    Err(Error::Spec(format!("linux.cgroupsPath {place}: {why}")))
}

/// The scope of a container that systemd makes the cgroup of.
pub(super) fn unit(spec: &Spec, id: &str) -> Result<Unit, Error> {
    Unit::parse(asked(spec)?.unwrap_or_default(), id)
}

/// `linux.cgroupsPath`, if there is one.
fn asked(spec: &Spec) -> Result<Option<&str>, Error> {
    let asked = spec.linux().as_ref().and_then(|linux| linux.cgroups_path().as_deref());
    asked.map(|path| path.to_str().ok_or_else(|| bad(path, "is not UTF-8"))).transpose()
}

fn own_in(cgroups: &str) -> Option<&str> {
    cgroups.lines().find_map(|line| line.strip_prefix("0::"))
}

/// The cgroup that another process of a container is born in: the container's, or that of its
/// first process where the container's is gone or takes no processes, because a container that
/// manages its own cgroups has moved them further down.
pub(super) fn of_process(hierarchy: &Hierarchy, record: &Record) -> Result<CgroupPath, Error> {
    let gone = !hierarchy.exists(&record.cgroup);
    let Some(life) = record.process.filter(|_| gone || is_divided(hierarchy, record)) else {
        return Ok(record.cgroup.clone());
    };
    let file = format!("/proc/{}/cgroup", life.pid);
    let text = fs::read_to_string(&file).storing("read", file)?;
    let found = own_in(&text).and_then(|path| CgroupPath::parse(path).ok());
    // Through a cgroup namespace of our own the kernel tells paths that lead out of it.
    let its = |path: &CgroupPath| hierarchy.exists(path) && (gone || record.cgroup.contains(path));
    Ok(found.filter(its).unwrap_or_else(|| record.cgroup.clone()))
}

/// Whether a container's cgroup hands controllers on, and so may have no processes itself.
fn is_divided(hierarchy: &Hierarchy, record: &Record) -> bool {
    let mut controllers = String::new();
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let read = hierarchy.open_cgroup(&record.cgroup).is_ok_and(|cgroup| {
        openat(&cgroup, "cgroup.subtree_control", flags, Mode::empty())
            .is_ok_and(|file| fs::File::from(file).read_to_string(&mut controllers).is_ok())
    });
    read && !controllers.trim().is_empty()
}

/// A cgroup below a container's.
pub(super) fn below(own: &CgroupPath, relative: &str) -> Result<CgroupPath, Error> {
    match relative.trim_matches('/') {
        "" => Ok(own.clone()),
        inner => CgroupPath::parse(&format!("{own}/{inner}")).map_err(|_| {
            Error::Spec(format!("--cgroup {relative:?}: bad sub cgroup path: it leads out"))
        }),
    }
}

fn bad(path: &Path, why: &str) -> Error {
    Error::Spec(format!("linux.cgroupsPath {path:?} {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn placed(path: &str) -> Result<String, Error> {
        let json = format!(r#"{{"ociVersion": "1.0.2", "linux": {{"cgroupsPath": "{path}"}}}}"#);
        place(&serde_json::from_str(&json).unwrap(), "id").map(String::from)
    }

    #[test]
    fn a_path_from_the_root_is_taken_as_it_is() {
        assert_eq!(placed("/a/b").unwrap(), "/a/b");
    }

    #[test]
    fn a_relative_one_lies_beside_us() {
        assert!(placed("a/b").unwrap().ends_with("/a/b"));
        assert!(placed("").unwrap().ends_with("/id"));
    }

    #[test]
    fn none_escapes() {
        for path in ["/../x", "../x", "/a/../../b", "/", "a/.."] {
            let error = placed(path).unwrap_err().to_string();
            assert!(error.contains("linux.cgroupsPath"), "{path}: {error}");
        }
    }
}
