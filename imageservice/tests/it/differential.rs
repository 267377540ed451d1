//! Generated layers, unpacked by us and by GNU tar: the trees must be equal, when what the OCI
//! image specification says of whiteouts is done to the one that tar made. Needs root.
//!
//! Every run has the same layers. `BERTH_DIFFERENTIAL=N` has N layers instead of five hundred
//! (`make test-differential` has ten thousand), `BERTH_SEED=N` other ones.

mod generate;
mod listing;

use std::io::Cursor;
use std::path::Path;
use std::process::Command;

use berth_imageservice::ImportRequest;

use self::generate::Generator;
use self::listing::{list_ours, list_theirs};
use crate::support::place::rootfs;
use crate::support::{Place, TestImage, require_root};

/// Layers of one image, and of one run of tar.
const BATCH: usize = 100;

fn from_env(key: &str, default: u64) -> u64 {
    std::env::var(key).map_or(default, |value| value.parse().unwrap())
}

/// Has GNU tar unpack the archives, one after the other.
fn untar(archives: &[Vec<u8>], directory: &Path) {
    let file = directory.with_extension("tar");
    std::fs::create_dir(directory).unwrap();
    std::fs::write(&file, archives.concat()).unwrap();
    // An archive ends in zeros, and here another one follows. Names are all below a directory.
    let mut tar = Command::new("tar");
    tar.args(["--extract", "--ignore-zeros", "--absolute-names", "--same-owner", "--file"]);
    tar.arg(&file).arg("--directory").arg(directory);
    tar.args(["--same-permissions", "--numeric-owner", "--xattrs", "--xattrs-include=*"]);
    let output =
        tar.args(["--warning=no-timestamp", "--delay-directory-restore"]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    std::fs::remove_file(&file).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn generated_layers_are_what_gnu_tar_and_the_rules_of_whiteouts_make() {
    require_root();
    let (layers, seed) = (from_env("BERTH_DIFFERENTIAL", 500), from_env("BERTH_SEED", 1));
    println!("{layers} layers of BERTH_SEED={seed}");
    let mut generator = Generator::new(seed);
    let mut files = 0;
    for first in (0..layers).step_by(BATCH) {
        let numbers: Vec<u64> = (first..layers.min(first + BATCH as u64)).collect();
        let archives: Vec<_> = numbers.iter().map(|number| generator.layer(*number)).collect();
        let place = Place::new();
        let images = place.open().await;
        let archive = TestImage::of(archives.clone()).docker_archive(&["test:latest"]);
        images.import(Cursor::new(archive), ImportRequest::default()).await.unwrap();
        let ours = rootfs(&images, "test:latest").await.lowers;
        let theirs = place.path().join("tar");
        untar(&archives, &theirs);
        for (number, ours) in numbers.iter().zip(ours.iter().rev()) {
            let name = number.to_string();
            let (ours, theirs) = (list_ours(&ours.join(&name)), list_theirs(&theirs.join(&name)));
            files += ours.len();
            let is_new = |line: &&String| !ours.contains(line) || !theirs.contains(line);
            let differences: Vec<_> = ours.iter().chain(&theirs).filter(is_new).collect();
            assert!(
                differences.is_empty(),
                "layer {number} of BERTH_SEED={seed}: {differences:#?}"
            );
        }
        images.shutdown().await;
    }
    assert!(files as u64 > 5 * layers, "only {files} files");
}
