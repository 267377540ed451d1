//! What a container uses and does not own: criu neither saves nor makes it.

use std::collections::HashSet;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use oci_spec::runtime::{LinuxNamespaceType, Mount, Spec};

use crate::error::{Error, Storing as _};

/// What the standard streams were, beside the images; other runtimes have this file, too.
const STREAMS: &str = "descriptors.json";

/// Mounts: where in the container, and of what of the host.
pub(super) fn mounts(spec: &Spec, rootfs: &Path) -> Vec<(String, String)> {
    let plain = |path: &Path| path.to_string_lossy().trim_end_matches('/').to_owned();
    let binds = spec.mounts().iter().flatten().filter(|mount| is_bind(mount)).map(|mount| {
        (plain(mount.destination()), plain(mount.source().as_deref().unwrap_or(Path::new(""))))
    });
    let linux = spec.linux().as_ref();
    let masked = linux.and_then(|linux| linux.masked_paths().as_ref());
    let masked = masked.into_iter().flatten().filter(|path| !is_directory(path, rootfs));
    binds.chain(masked.map(|path| (path.clone(), "/dev/null".to_owned()))).collect()
}

/// Whether a masked path is a directory: those are masked by a file system of the container's own.
fn is_directory(path: &str, rootfs: &Path) -> bool {
    let of_kernel = path.starts_with("/proc/") || path.starts_with("/sys/");
    let found = if of_kernel { path.into() } else { rootfs.join(path.trim_start_matches('/')) };
    found.is_dir()
}

fn is_bind(mount: &Mount) -> bool {
    let said = |option: &String| option == "bind" || option == "rbind";
    mount.typ().as_deref() == Some("bind") || mount.options().iter().flatten().any(said)
}

/// Namespaces that somebody else has made: their paths, and what criu calls them.
///
/// # Errors
/// [`Error::Spec`] for those that criu cannot leave out.
pub(super) fn namespaces(spec: &Spec) -> Result<Vec<(PathBuf, &'static str)>, Error> {
    let linux = spec.linux().as_ref();
    let namespaces = linux.iter().flat_map(|linux| linux.namespaces().iter().flatten());
    let given =
        namespaces.filter_map(|namespace| Some((namespace.typ(), namespace.path().clone()?)));
    let named = given.map(|(kind, path)| match kind {
        LinuxNamespaceType::Network => Ok((path, "extRootNetNS")),
        LinuxNamespaceType::Pid => Ok((path, "extRootPidNS")),
        other => Err(Error::Spec(format!(
            "linux.namespaces: the {other} namespace {} is somebody else's, \
             and cannot be checkpointed",
            path.display()
        ))),
    });
    named.collect()
}

/// The option by which criu leaves a namespace out: by its inode.
pub(super) fn namespace_word(path: &Path, key: &str) -> Result<String, Error> {
    let kind = if key.contains("Net") { "net" } else { "pid" };
    let inode = fs::metadata(path).storing("look at", path)?.ino();
    Ok(format!("{kind}[{inode}]:{key}"))
}

/// What the standard streams of a process are: pipes, files from outside of its mounts as criu
/// names them, or anything else by its path.
pub(super) fn streams(pid: i32) -> Result<Vec<String>, Error> {
    let process = PathBuf::from(format!("/proc/{pid}"));
    let read = || -> io::Result<Vec<String>> {
        let mounts = fs::read_to_string(process.join("mountinfo"))?;
        let mounts: HashSet<_> = mounts.lines().filter_map(|line| line.split(' ').next()).collect();
        (0..3).map(|number| stream(&process, number, &mounts)).collect()
    };
    read().storing("look at the streams of", &process)
}

fn stream(process: &Path, number: u32, mounts: &HashSet<&str>) -> io::Result<String> {
    let file = process.join(format!("fd/{number}"));
    let Ok(link) = fs::read_link(&file) else { return Ok(String::new()) };
    let link = link.to_string_lossy().into_owned();
    if !link.starts_with('/') {
        return Ok(link);
    }
    let info = fs::read_to_string(process.join(format!("fdinfo/{number}")))?;
    let mount = info.lines().find_map(|line| line.strip_prefix("mnt_id:")).unwrap_or("").trim();
    match mount.parse::<u32>() {
        Ok(id) if !mounts.contains(mount) => {
            Ok(format!("file[{id:x}:{:x}]", fs::metadata(&file)?.ino()))
        }
        _ => Ok(link),
    }
}

/// Whether a stream is one that criu is to take from its caller.
pub(super) fn is_given(stream: &str) -> bool {
    stream.starts_with("pipe:") || stream.starts_with("file[")
}

/// Remembers the streams beside the images.
pub(super) fn save(images: &Path, streams: &[String]) -> Result<(), Error> {
    let path = images.join(STREAMS);
    let json = serde_json::to_vec(streams).map_err(io::Error::from);
    json.and_then(|json| fs::write(&path, json)).storing("write", path)
}

/// Finds them again; images of somebody who has not remembered any have none.
pub(super) fn load(images: &Path) -> Result<Vec<String>, Error> {
    let path = images.join(STREAMS);
    match fs::read(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        read => {
            let parsed = |bytes: Vec<u8>| serde_json::from_slice(&bytes).map_err(io::Error::from);
            read.and_then(parsed).storing("understand", path)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(json: &str) -> Spec {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn binds_and_masks_are_the_hosts() {
        let found = mounts(
            &spec(
                r#"{"ociVersion": "1.0.2", "mounts": [
                {"destination": "/proc", "type": "proc", "source": "proc"},
                {"destination": "/a/", "source": "/srv/a", "options": ["rbind", "ro"]},
                {"destination": "/b", "type": "bind", "source": "/srv/b"}],
              "linux": {"maskedPaths": ["/proc/kcore", "/proc/sys", "/etc"]}}"#,
            ),
            Path::new("/"),
        );
        let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
        let expected =
            [pair("/a", "/srv/a"), pair("/b", "/srv/b"), pair("/proc/kcore", "/dev/null")];
        assert_eq!(found, expected);
    }

    #[test]
    fn a_namespace_of_somebody_else_is_left_out_or_refused() {
        let of = |kind: &str| {
            namespaces(&spec(&format!(
                r#"{{"ociVersion": "1.0.2", "linux": {{"namespaces": [
                    {{"type": "mount"}}, {{"type": "{kind}", "path": "/run/ns"}}]}}}}"#
            )))
        };
        assert_eq!(of("network").unwrap(), [("/run/ns".into(), "extRootNetNS")]);
        assert_eq!(of("pid").unwrap(), [("/run/ns".into(), "extRootPidNS")]);
        assert!(of("ipc").unwrap_err().to_string().contains("linux.namespaces"));
    }

    #[test]
    fn streams_are_found_again() {
        let directory = tempfile::tempdir().unwrap();
        assert!(load(directory.path()).unwrap().is_empty());
        let own = streams(i32::try_from(std::process::id()).unwrap()).unwrap();
        assert_eq!(own.len(), 3);
        save(directory.path(), &own).unwrap();
        assert_eq!(load(directory.path()).unwrap(), own);
        assert!(is_given("pipe:[7]") && is_given("file[1b:3]") && !is_given("/dev/null"));
    }
}
