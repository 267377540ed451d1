//! What the operator decides about images.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::keyring::NodeCredentials;
use crate::platform::Platform;
use crate::trust::TrustConfig;

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

/// Where images live and how they are fetched. [`Config::new`] gives the defaults.
#[derive(Debug, Clone)]
pub struct Config {
    /// Directory of everything that this crate keeps; layers and snapshots share its file system.
    pub root: PathBuf,
    /// Directories of `HOST/hosts.toml`, in order; the first that knows a host wins. Read anew on
    /// every pull.
    pub certs_dirs: Vec<PathBuf>,
    /// `registries.conf`, which need not exist, with its drop-ins in the directory of that name with
    /// `.d`. Counts for registries without a `hosts.toml` of their own. Read anew on every pull.
    pub registries_conf: Option<PathBuf>,
    /// The node's own credentials. Read anew on every pull.
    pub credentials: NodeCredentials,
    /// Which images are accepted. Read anew on every pull, and for every container.
    pub trust: TrustConfig,
    /// How many layers of one pull are fetched and unpacked at a time.
    pub parallel_layers: usize,
    /// When a connection counts as dead although bytes may still trickle.
    pub stall: Stall,
    /// How long it must take to download a layer for its bytes to be kept until it is whole, so that
    /// a later pull goes on where this one ends.
    pub keep_partial: Duration,
    /// The longest time that a whole pull or import may take.
    pub deadline: Duration,
    /// Caps on what a registry or an archive may make us store or hold in memory.
    pub limits: Limits,
    /// Which image of an index is taken.
    pub platform: Platform,
    /// The program that unpacks layers: one that asks [`crate::run_as_unpacker`] first of all.
    pub unpacker: PathBuf,
}

impl Config {
    /// The defaults, for images below `root`.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self {
            root: root.into(),
            certs_dirs: Vec::new(),
            registries_conf: None,
            credentials: NodeCredentials::default(),
            trust: TrustConfig::default(),
            parallel_layers: 3,
            stall: Stall::default(),
            keep_partial: Duration::from_secs(60),
            deadline: Duration::from_secs(60 * 60),
            limits: Limits::default(),
            platform: Platform::host(),
            unpacker: "/proc/self/exe".into(),
        }
    }
}

/// A floor under the throughput of a download, averaged over a window of waiting. Time in which we
/// do not read, because the disk is slow, does not count against the registry.
#[derive(Debug, Clone, Copy)]
pub struct Stall {
    /// How long the average may stay below the floor.
    pub window: Duration,
    /// How many bytes must come in a window.
    pub floor: u64,
}

impl Default for Stall {
    fn default() -> Self {
        Self { window: Duration::from_secs(60), floor: 64 << 10 }
    }
}

/// Caps on untrusted input. What breaks one is refused with [`crate::Error::TooLarge`].
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct Limits {
    /// Bytes of a manifest, an index or an image configuration.
    pub document: u64,
    /// Descriptors in one index or manifest.
    pub descriptors: usize,
    /// Layers of an image; overlayfs takes no more than 500 (`OVL_MAX_STACK`).
    pub layers: usize,
    /// Uncompressed bytes of a layer, holes of sparse files included.
    pub layer: u64,
    /// Uncompressed bytes that come for free before [`Limits::ratio`] counts.
    pub ratio_grace: u64,
    /// Uncompressed bytes for each compressed one.
    pub ratio: u64,
    /// Entries in the archive of a layer.
    pub entries: u64,
    /// Bytes of an archive that is imported, uncompressed.
    pub archive: u64,
    /// Bytes of `/etc/passwd` and of `/etc/group` that are read from an image.
    pub accounts: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            document: 4 * MIB,
            descriptors: 512,
            layers: 500,
            layer: 64 * GIB,
            ratio_grace: 64 * MIB,
            ratio: 1000,
            entries: 5_000_000,
            archive: 128 * GIB,
            accounts: 10 * MIB,
        }
    }
}
