//! Full disks. Needs root and `unshare`: each test runs again in a mount namespace of its own, with
//! a small tmpfs as the place for images.

use std::process::Command;

use berth_imageservice::{Error, Images, ImportRequest, Limits};

use crate::support::place::{assert_clean, key};
use crate::support::{Place, Tarball, TestImage, require_root};

const INSIDE: &str = "BERTH_TEST_SMALL_DISK";

/// Runs the named test again on a tmpfs with these options; `true` if this is that run.
fn on_small_disk(test: &str, options: &str) -> bool {
    if std::env::var_os(INSIDE).is_some() {
        return true;
    }
    require_root();
    let directory = tempfile::tempdir().unwrap();
    let script = format!(
        "mount --make-rprivate / && mount -t tmpfs -o {options} none \"$1\" && exec \"$2\" --exact {test} --nocapture"
    );
    let status = Command::new("unshare")
        .args(["-m", "sh", "-c", &script, "sh"])
        .arg(directory.path())
        .arg(std::env::current_exe().unwrap())
        .env(INSIDE, directory.path())
        .status()
        .unwrap();
    assert!(status.success(), "{test} on a small disk: {status}");
    false
}

fn small_place() -> Place {
    let mut place = Place::new();
    place.config.root = std::path::PathBuf::from(std::env::var_os(INSIDE).unwrap()).join("images");
    place
}

/// Bytes and inodes that are free on the small disk.
fn free() -> (u64, u64) {
    let stat = rustix::fs::statvfs(std::env::var_os(INSIDE).unwrap().as_os_str()).unwrap();
    (stat.f_bfree, stat.f_ffree)
}

async fn import(images: &Images, image: &TestImage, tag: &str) -> Result<(), Error> {
    let archive = std::io::Cursor::new(image.docker_archive(&[tag]));
    images.import(archive, ImportRequest::default()).await.map(|_| ())
}

#[tokio::test]
async fn a_full_disk_is_told_and_left_as_it_was() {
    if !on_small_disk("space::a_full_disk_is_told_and_left_as_it_was", "size=1m") {
        return;
    }
    let place = small_place();
    let images = place.open().await;
    import(&images, &TestImage::small("fits"), "fits").await.unwrap();
    images.settled().await;
    let before = free();
    // Compressed it fits, unpacked it does not.
    let zeros = Tarball::new().file("zeros", &"\0".repeat(4 << 20)).build();
    let error = import(&images, &TestImage::of([zeros]), "large").await.unwrap_err();
    assert!(matches!(error, Error::NoSpace { .. }), "{error}");
    images.settled().await;
    assert_eq!(free(), before);
    assert_clean(&images).await;
    images.remove("fits").await.unwrap();
}

#[tokio::test]
async fn a_disk_without_inodes_is_told_and_left_as_it_was() {
    if !on_small_disk(
        "space::a_disk_without_inodes_is_told_and_left_as_it_was",
        "size=4m,nr_inodes=60",
    ) {
        return;
    }
    let place = small_place();
    let images = place.open().await;
    images.settled().await;
    let before = free();
    let many = (0..100).fold(Tarball::new(), |tar, n| tar.file(&format!("f{n}"), "")).build();
    let error = import(&images, &TestImage::of([many]), "many").await.unwrap_err();
    assert!(matches!(error, Error::NoSpace { .. }), "{error}");
    images.settled().await;
    assert_eq!(free(), before);
    assert_clean(&images).await;
}

#[tokio::test]
async fn at_every_page_of_a_filling_disk_an_import_works_or_leaves_nothing() {
    let name = "space::at_every_page_of_a_filling_disk_an_import_works_or_leaves_nothing";
    if !on_small_disk(name, "size=1m") {
        return;
    }
    let place = small_place();
    let images = place.open().await;
    let image = TestImage::of([
        Tarball::new().dir("d").file("d/f", &"x".repeat(20_000)).build(),
        Tarball::new().file("d/g", "debts as well").build(),
    ]);
    let (mut worked, mut failed) = (0, 0);
    for pages in 0..40 {
        let (free_pages, _) = free();
        let ballast = vec![0; usize::try_from(free_pages - pages).unwrap() * 4096];
        let path = place.root().with_file_name("ballast");
        std::fs::write(&path, ballast).unwrap();
        match import(&images, &image, "app").await {
            Ok(()) => {
                worked += 1;
                let id = images.find("app").unwrap().unwrap().id().clone();
                if images.prepare(&id, &key("c1")).await.is_ok() {
                    images.release(&key("c1")).await.unwrap();
                }
                images.remove("app").await.unwrap();
            }
            Err(Error::NoSpace { .. }) => failed += 1,
            Err(error) => panic!("with {pages} pages: {error}"),
        }
        images.settled().await;
        assert!(images.list().is_empty() && images.usage().inodes == 0);
        assert_clean(&images).await;
        std::fs::remove_file(path).unwrap();
        assert_eq!(free().0, free_pages, "with {pages} pages");
    }
    assert!(worked > 3 && failed > 3, "{worked} worked, {failed} failed");
}

#[tokio::test]
async fn an_archive_larger_than_its_cap_is_not_spooled_to_its_end() {
    let mut place = Place::new();
    place.config.limits = Limits { archive: 1 << 20, ..Limits::default() };
    let images = place.open().await;
    let endless = tokio::io::repeat(b'x');
    let error = images.import(endless, ImportRequest::default()).await.unwrap_err();
    assert!(matches!(error, Error::TooLarge { .. }), "{error}");
    assert_clean(&images).await;
}
