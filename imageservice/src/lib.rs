//! Makes an image reference available as a root file system.
//!
//! ```text
//! reference ─► registry ─► manifest ─► layers, each in one streaming pass ─► published image
//!                                                          published image ─► Rootfs (values)
//! ```
//!
//! [`Images`] is the whole face of this crate. It knows registries, digests, tar and the layout of
//! overlayfs. It does not know containers or CRI, and it never mounts: a root file system is
//! answered as directories, and whoever runs the container mounts them.

mod accounts;
mod artifact;
mod assemble;
mod blocking;
mod config;
mod credentials;
mod digest;
mod error;
mod export;
mod flights;
mod image;
mod images;
mod import;
mod keyring;
mod layer;
mod manifest;
mod operation;
mod overlay;
mod platform;
mod program;
mod progress;
mod pull;
mod push;
mod reference;
mod registries_conf;
mod registry;
mod scan;
mod seal;
mod source;
mod stack;
mod store;
mod trust;
mod volume;

pub use self::accounts::Identity;
pub use self::config::{Config, Limits, Stall};
pub use self::credentials::{AuthFields, Credentials};
pub use self::digest::Digest;
pub use self::error::{Cause, Error, Result};
pub use self::export::{ArchiveFormat, Export, ExportRequest};
pub use self::image::{Image, ImageId};
pub use self::images::{ImageLayer, Images, Pull, PullInFlight};
pub use self::import::ImportRequest;
pub use self::keyring::NodeCredentials;
pub use self::layer::run_as_unpacker;
pub use self::platform::Platform;
pub use self::progress::{LayerPhase, LayerProgress, Phase, Progress, ProgressReport};
pub use self::pull::{PullOutcome, PullRequest};
pub use self::push::{PushOutcome, PushRequest};
pub use self::reference::{Reference, Target};
pub use self::scan::Space;
pub use self::store::{
    Finding, Measurement, Prepared, Removal, Rootfs, Snapshot, SnapshotKey, Stray, StrayKind,
    Volume, VolumeRequest,
};
pub use self::trust::{TrustConfig, Verifiers};
