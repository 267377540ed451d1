//! What was built: the facts that `berthd version`, the CRI's Version, the
//! admin service and the metrics tell about this binary.

/// The release.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The commit. Given by the environment of the build, so that the same source
/// builds the same bytes wherever it lies.
pub const REVISION: &str = match option_env!("BERTH_REVISION") {
    Some(revision) => revision,
    None => "unknown",
};

/// The compiler's version.
pub const RUSTC: &str = env!("BERTH_RUSTC");
