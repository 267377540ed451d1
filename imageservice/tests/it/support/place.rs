//! A root directory of images for one test.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use berth_imageservice::{Config, Images, Rootfs, SnapshotKey, Stall};
use tempfile::TempDir;

/// A directory with everything in it, gone when the test is over.
pub(crate) struct Place {
    directory: TempDir,
    pub(crate) config: Config,
}

impl Place {
    pub(crate) fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mut config = Config::new(directory.path().join("images"));
        config.unpacker = env!("CARGO_BIN_EXE_unpack-layer").into();
        config.certs_dirs = vec![directory.path().join("certs.d")];
        config.stall = Stall { window: Duration::from_secs(10), floor: 1 };
        Self { directory, config }
    }

    pub(crate) async fn open(&self) -> Images {
        Images::open(self.config.clone()).await.unwrap()
    }

    pub(crate) fn path(&self) -> &Path {
        self.directory.path()
    }

    pub(crate) fn root(&self) -> &Path {
        &self.config.root
    }

    /// Writes a file below `certs.d`.
    pub(crate) fn hosts(&self, path: &str, content: &str) -> PathBuf {
        let path = self.config.certs_dirs[0].join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, content).unwrap();
        path
    }
}

pub(crate) fn key(text: &str) -> SnapshotKey {
    text.parse().unwrap()
}

/// The directories of an image that was found by a text.
pub(crate) async fn rootfs(images: &Images, query: &str) -> Rootfs {
    let image = images.find(query).unwrap().expect("the image is here");
    images.prepare(image.id(), &key("rootfs")).await.unwrap()
}

/// Asserts that nothing is on disk that no record owns.
pub(crate) async fn assert_clean(images: &Images) {
    let live: HashSet<_> = images.snapshots().into_iter().map(|snapshot| snapshot.key).collect();
    let strays = images.audit(live).await.unwrap();
    assert!(strays.is_empty(), "{strays:#?}");
}
