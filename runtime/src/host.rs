//! What a container may ask for of the host: devices, and the sources of bind mounts.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::os::fd::AsFd as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use oci_spec::runtime::{LinuxDevice, LinuxDeviceCgroup, LinuxDeviceType};

use crate::error::{Error, Storing as _};

/// Deepest directory below `/dev` that is looked into.
const DEPTH: usize = 8;

/// The device behind `host`, or all devices below it if it is a directory, as nodes at
/// `container` and as rules that allow `access` (of `rwm`).
///
/// # Errors
/// If nothing is there, or something that is no device.
pub fn devices(
    host: &Path,
    container: &Path,
    access: &str,
) -> Result<Vec<(LinuxDevice, LinuxDeviceCgroup)>, Error> {
    if access.is_empty() || !access.chars().all(|letter| "rwm".contains(letter)) {
        let text = format!("device {}: access {access:?} is not of \"rwm\"", host.display());
        return Err(Error::Spec(text));
    }
    let mut found = Vec::new();
    let real = fs::canonicalize(host).map_err(|error| unusable("find device", host, error))?;
    if real.is_dir() {
        collect(&real, container, access, DEPTH, &mut found);
    } else {
        let device = device(&real, container).storing("look at device", host)?;
        let device =
            device.ok_or_else(|| Error::Spec(format!("{} is not a device", host.display())))?;
        found.push((device.clone(), rule(&device, access)));
    }
    Ok(found)
}

/// All devices of the host, as a privileged container has them, at their own places.
///
/// Pseudo terminals and shared memory are left out: a container has its own.
pub fn all_devices() -> Vec<LinuxDevice> {
    let mut found = Vec::new();
    collect(Path::new("/dev"), Path::new("/dev"), "rwm", DEPTH, &mut found);
    found.into_iter().map(|(device, _)| device).collect()
}

fn collect(
    host: &Path,
    container: &Path,
    access: &str,
    depth: usize,
    found: &mut Vec<(LinuxDevice, LinuxDeviceCgroup)>,
) {
    const OWN: [&str; 6] = ["pts", "shm", "fd", "mqueue", "console", ".udev"];
    let entries = fs::read_dir(host).into_iter().flatten().flatten();
    for entry in entries.filter(|entry| !OWN.iter().any(|own| entry.file_name() == *own)) {
        let (host, container) = (entry.path(), container.join(entry.file_name()));
        let Ok(kind) = entry.file_type() else { continue };
        if kind.is_dir() && depth > 0 {
            collect(&host, &container, access, depth - 1, found);
        } else if let Ok(Some(device)) = device(&host, &container) {
            found.push((device.clone(), rule(&device, access)));
        }
    }
}

fn device(host: &Path, container: &Path) -> io::Result<Option<LinuxDevice>> {
    let metadata = fs::symlink_metadata(host)?;
    let kind = match metadata.file_type() {
        kind if kind.is_char_device() => LinuxDeviceType::C,
        kind if kind.is_block_device() => LinuxDeviceType::B,
        _ => return Ok(None),
    };
    let number = metadata.rdev();
    let mut device = LinuxDevice::default();
    device
        .set_path(container.to_owned())
        .set_typ(kind)
        .set_major(i64::from(rustix::fs::major(number)))
        .set_minor(i64::from(rustix::fs::minor(number)))
        .set_file_mode(Some(metadata.mode() & 0o7777))
        .set_uid(Some(metadata.uid()))
        .set_gid(Some(metadata.gid()));
    Ok(Some(device))
}

fn rule(device: &LinuxDevice, access: &str) -> LinuxDeviceCgroup {
    let mut rule = LinuxDeviceCgroup::default();
    rule.set_allow(true)
        .set_typ(Some(device.typ()))
        .set_major(Some(device.major()))
        .set_minor(Some(device.minor()))
        .set_access(Some(access.to_owned()));
    rule
}

/// The real path of a bind mount's source; a missing one is made as a directory, as users of
/// the field's runtimes expect.
///
/// # Errors
/// If it can be neither found nor made.
pub fn bind_source(path: &Path) -> Result<PathBuf, Error> {
    match fs::canonicalize(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            fs::create_dir_all(path).map_err(|error| unusable("make mount source", path, error))?;
            fs::canonicalize(path).storing("find mount source", path)
        }
        found => found.map_err(|error| unusable("find mount source", path, error)),
    }
}

/// A path that cannot be is the fault of who named it; all else is the host's.
fn unusable(attempt: &'static str, path: &Path, error: io::Error) -> Error {
    use io::ErrorKind::{InvalidFilename, NotADirectory, NotFound};
    match error.kind() {
        NotFound | NotADirectory | InvalidFilename => {
            Error::Spec(format!("{attempt} {}: {error}", path.display()))
        }
        _ => Error::Storage { attempt, path: path.to_owned(), source: error },
    }
}

/// Whether a mount can be made read-only with all mounts below it (`mount_setattr(2)`).
pub fn recursive_read_only() -> bool {
    let flags = rustix::fs::OFlags::PATH | rustix::fs::OFlags::CLOEXEC;
    let root = rustix::fs::open("/", flags, rustix::fs::Mode::empty());
    // Nothing is asked for, and so nothing changes where the call is known.
    let nothing = crate::sys::mount::Attributes::default();
    root.is_ok_and(|root| crate::sys::mount::set_attributes(root.as_fd(), nothing, true).is_ok())
}

/// How a mount of the host passes on what is mounted below it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sharing {
    /// Not at all.
    Private,
    /// From its master to itself.
    Slave,
    /// Between all of its peers.
    Shared,
}

/// The mounts of the host: where they are, and how they are shared.
#[derive(Debug)]
pub struct Mounts(HashMap<PathBuf, Sharing>);

impl Mounts {
    /// Reads `/proc/self/mountinfo`.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn read() -> Result<Self, Error> {
        let path = "/proc/self/mountinfo";
        Ok(Self::parse(&fs::read_to_string(path).storing("read", path)?))
    }

    fn parse(text: &str) -> Self {
        let mounts = text.lines().filter_map(|line| {
            let mut fields = line.split(' ');
            let point = unescape(fields.nth(4)?);
            let tags: Vec<_> = fields.skip(1).take_while(|field| *field != "-").collect();
            let has = |name: &str| tags.iter().any(|tag| tag.starts_with(name));
            let sharing = match (has("shared:"), has("master:")) {
                (true, _) => Sharing::Shared,
                (false, true) => Sharing::Slave,
                (false, false) => Sharing::Private,
            };
            Some((PathBuf::from(point), sharing))
        });
        Self(mounts.collect())
    }

    /// The paths that something is mounted on.
    pub fn points(&self) -> impl Iterator<Item = &Path> {
        self.0.keys().map(PathBuf::as_path)
    }

    /// Whether something is mounted on `path`, a real path.
    pub fn has(&self, path: &Path) -> bool {
        self.0.contains_key(path)
    }

    /// Where the mount that `path`, a real path, is on is mounted.
    pub fn point_of(&self, path: &Path) -> PathBuf {
        let point = path.ancestors().find(|path| self.has(path));
        point.unwrap_or(Path::new("/")).to_owned()
    }

    /// How the mount that `path`, a real path, is on is shared.
    pub fn sharing_of(&self, path: &Path) -> Sharing {
        path.ancestors().find_map(|path| self.0.get(path).copied()).unwrap_or(Sharing::Private)
    }
}

/// Spaces and the like are written as `\040`, three octal digits (`proc(5)`).
pub(crate) fn unescape(field: &str) -> String {
    let mut text = String::with_capacity(field.len());
    let mut rest = field;
    while let Some((before, after)) = rest.split_once('\\') {
        text.push_str(before);
        let code = after.get(..3).and_then(|digits| u8::from_str_radix(digits, 8).ok());
        match code {
            Some(code) => {
                text.push(char::from(code));
                rest = &after[3..];
            }
            None => {
                text.push('\\');
                rest = after;
            }
        }
    }
    text.push_str(rest);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_is_found_with_its_numbers() {
        let found = devices(Path::new("/dev/null"), Path::new("/dev/x"), "rw").unwrap();
        let (device, rule) = &found[0];
        assert_eq!((device.major(), device.minor()), (1, 3));
        assert_eq!(device.path(), Path::new("/dev/x"));
        assert_eq!(rule.access().as_deref(), Some("rw"));
    }

    #[test]
    fn what_is_no_device_is_refused() {
        for (path, access) in [("/etc/passwd", "rwm"), ("/dev/no-such", "rwm"), ("/dev/null", "x")]
        {
            let error = devices(Path::new(path), Path::new("/dev/x"), access).unwrap_err();
            assert!(matches!(error, Error::Spec(_)), "{path}: {error}");
        }
    }

    #[test]
    fn a_path_is_shared_as_the_mount_that_it_is_on() {
        let mounts = Mounts::parse(
            "1 0 8:1 / / rw shared:1 - ext4 /dev/a rw\n\
             2 1 0:5 / /a\\040b rw,relatime - tmpfs tmpfs rw\n\
             3 1 0:6 / /c rw master:7 - tmpfs tmpfs rw\n",
        );
        assert_eq!(mounts.sharing_of(Path::new("/x/y")), Sharing::Shared);
        assert_eq!(mounts.sharing_of(Path::new("/a b/y")), Sharing::Private);
        assert_eq!(mounts.sharing_of(Path::new("/c")), Sharing::Slave);
        assert_eq!(mounts.point_of(Path::new("/a b/y")), Path::new("/a b"));
        assert_eq!(mounts.point_of(Path::new("/x/y")), Path::new("/"));
    }

    #[test]
    fn a_missing_mount_source_is_made() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a/b");
        assert!(bind_source(&path).unwrap().ends_with("a/b"));
        assert!(path.is_dir());
    }
}
