//! Reads the configuration directories: which networks are there, and what is
//! wrong with each file that is none.
//!
//! The directories are searched in the order in which they are given, the
//! files of each in the order of their names; the first valid one is the
//! default network. A broken file is passed over and reported.

use std::ffi::OsStr;
use std::fs;
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::OFlags;

use crate::error::{Error, NotReadyReason, Result};
use crate::network::{Malformed, Network};

/// More than any configuration holds; keeps a link to an endless file from
/// filling the memory.
const LARGEST_FILE: u64 = 1 << 20;

/// What the configuration directories hold at one moment.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Inventory {
    dirs: Vec<PathBuf>,
    /// Valid networks; the first is the default.
    pub(crate) networks: Vec<Arc<Network>>,
    pub(crate) broken: Vec<Broken>,
}

/// A file, or a whole directory, that could not be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Broken {
    pub(crate) path: PathBuf,
    /// What is wrong and where, as text so that two looks can be compared.
    pub(crate) cause: String,
}

/// Whether pods can be attached to a network, from the files as they stand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NetworkStatus {
    /// They can, to this one.
    Ready {
        /// The network's name.
        network: String,
        /// The file that configures it.
        file: PathBuf,
    },
    /// They cannot.
    NotReady {
        /// Whether configurations are missing or malformed.
        reason: NotReadyReason,
        /// Which directories were searched, and what is wrong with each file.
        message: String,
    },
}

#[derive(Debug, thiserror::Error)]
enum Unusable {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error(transparent)]
    Malformed(#[from] Malformed),
    #[error("{0}")]
    File(&'static str),
}

impl Inventory {
    /// Looks at the directories now. Blocks for the time of reading them.
    pub(crate) fn take(dirs: &[PathBuf]) -> Self {
        let mut inventory = Self { dirs: dirs.to_vec(), ..Self::default() };
        for dir in dirs {
            let files = match configuration_files(dir) {
                Ok(files) => files,
                Err(e) => {
                    inventory.report(dir, &e.into());
                    continue;
                }
            };
            for file in files {
                match load(&file) {
                    Ok(network) => inventory.networks.push(Arc::new(network)),
                    Err(e) => inventory.report(&file, &e),
                }
            }
        }
        inventory
    }

    /// The network that a pod gets when it names none.
    pub(crate) fn default_network(&self) -> Option<&Arc<Network>> {
        self.networks.first()
    }

    pub(crate) fn status(&self) -> NetworkStatus {
        if let Some(network) = self.default_network() {
            let file = network.file.clone().unwrap_or_default();
            return NetworkStatus::Ready { network: network.name.clone(), file };
        }
        let (reason, message) = self.lack();
        NetworkStatus::NotReady { reason, message }
    }

    /// The default network, or the reason why there is none.
    pub(crate) fn require(&self) -> Result<Arc<Network>> {
        self.default_network().cloned().ok_or_else(|| {
            let (reason, message) = self.lack();
            Error::NotReady { reason, message }
        })
    }

    /// Why there is no network, given that there is none.
    fn lack(&self) -> (NotReadyReason, String) {
        let dirs: Vec<_> = self.dirs.iter().map(|dir| dir.display().to_string()).collect();
        let dirs = dirs.join(", ");
        if self.broken.is_empty() {
            let message = format!("no .conflist, .conf or .json file in {dirs}");
            return (NotReadyReason::NoNetworkConfig, message);
        }
        let causes: Vec<_> = self.broken.iter().map(Broken::to_string).collect();
        let message = format!("no valid network configuration in {dirs}: {}", causes.join("; "));
        (NotReadyReason::MalformedNetworkConfig, message)
    }

    fn report(&mut self, path: &Path, cause: &Unusable) {
        self.broken.push(Broken { path: path.to_owned(), cause: cause.to_string() });
    }
}

impl std::fmt::Display for Broken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.path.display(), self.cause)
    }
}

/// The files of a directory that configure networks, in the order of their
/// names. A directory that does not exist (yet) has none.
pub(crate) fn configuration_files(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(dir) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut files = Vec::new();
    for entry in entries {
        let path = entry?.path();
        if form_of(&path).is_some() && !path.is_dir() {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

type Parse = fn(&[u8]) -> Result<Network, Malformed>;

/// How the text of a file is to be read, told by the end of its name.
fn form_of(file: &Path) -> Option<Parse> {
    match file.extension().and_then(OsStr::to_str)? {
        "conflist" => Some(Network::parse_list),
        "conf" | "json" => Some(Network::parse_single),
        _ => None,
    }
}

fn load(file: &Path) -> Result<Network, Unusable> {
    let parse = form_of(file).ok_or(Unusable::File("is no network configuration"))?;
    let mut network = parse(&read(file)?)?;
    network.file = Some(file.to_owned());
    Ok(network)
}

fn read(file: &Path) -> Result<Vec<u8>, Unusable> {
    // A fifo without a writer must not hold up the open.
    let nonblocking = OFlags::NONBLOCK.bits().cast_signed();
    let open = fs::OpenOptions::new().read(true).custom_flags(nonblocking).open(file)?;
    if !open.metadata()?.is_file() {
        return Err(Unusable::File("is not a regular file"));
    }
    let mut text = Vec::new();
    open.take(LARGEST_FILE + 1).read_to_end(&mut text)?;
    if text.len() as u64 > LARGEST_FILE {
        return Err(Unusable::File("is larger than 1 MiB"));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIST: &str = r#"{"cniVersion":"1.0.0","name":"NAME","plugins":[{"type":"bridge"}]}"#;
    const SINGLE: &str = r#"{"cniVersion":"1.0.0","name":"NAME","type":"bridge"}"#;

    fn directory(files: &[(&str, &str)]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let stem = name.split('.').next().unwrap_or_default();
            fs::write(dir.path().join(name), text.replace("NAME", stem)).unwrap();
        }
        dir
    }

    fn names(inventory: &Inventory) -> Vec<&str> {
        inventory.networks.iter().map(|network| network.name()).collect()
    }

    #[test]
    fn the_first_valid_file_by_name_is_the_default() {
        let dir = directory(&[
            ("20b.conf", SINGLE),
            ("10a.conflist", LIST),
            ("30c.json", SINGLE),
            ("00note.txt", "not ours"),
        ]);
        let inventory = Inventory::take(&[dir.path().to_owned()]);
        assert_eq!(names(&inventory), ["10a", "20b", "30c"]);
        assert_eq!(
            inventory.status(),
            NetworkStatus::Ready { network: "10a".into(), file: dir.path().join("10a.conflist") }
        );
    }

    #[test]
    fn directories_go_before_file_names() {
        let (first, second) =
            (directory(&[("90z.conf", SINGLE)]), directory(&[("10a.conf", SINGLE)]));
        let inventory = Inventory::take(&[first.path().to_owned(), second.path().to_owned()]);
        assert_eq!(names(&inventory), ["90z", "10a"]);
    }

    #[test]
    fn a_broken_file_is_passed_over() {
        let dir = directory(&[("10a.conflist", "{\n  \"name\": \"a\",\n}"), ("20b.conf", SINGLE)]);
        let inventory = Inventory::take(&[dir.path().to_owned()]);
        assert_eq!(names(&inventory), ["20b"]);
        assert_eq!(inventory.broken[0].path, dir.path().join("10a.conflist"));
        assert!(inventory.broken[0].cause.contains("at line 3 column 1"), "{:?}", inventory.broken);
    }

    #[test]
    fn when_nothing_is_valid_each_cause_is_told() {
        let dir = directory(&[("10a.conflist", "{"), ("20b.conf", LIST)]);
        fs::create_dir(dir.path().join("30c.conf")).unwrap();
        std::os::unix::fs::symlink("/dev/zero", dir.path().join("40d.conf")).unwrap();
        let NetworkStatus::NotReady { reason, message } =
            Inventory::take(&[dir.path().to_owned()]).status()
        else {
            panic!("ready without a valid file");
        };
        assert_eq!(reason, NotReadyReason::MalformedNetworkConfig);
        for part in
            ["10a.conflist: EOF", "20b.conf: a list of 'plugins'", "40d.conf: is not a regular"]
        {
            assert!(message.contains(part), "{message}");
        }
        assert!(!message.contains("30c"), "{message}");
    }

    #[test]
    fn a_missing_directory_is_no_network() {
        let dir = directory(&[]);
        let missing = dir.path().join("not/there");
        let status = Inventory::take(std::slice::from_ref(&missing)).status();
        let message = format!("no .conflist, .conf or .json file in {}", missing.display());
        let reason = NotReadyReason::NoNetworkConfig;
        assert_eq!(status, NetworkStatus::NotReady { reason, message });
    }
}
