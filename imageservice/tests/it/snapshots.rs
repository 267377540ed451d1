//! Writable layers of containers.

use berth_imageservice::{Error, ImageId, Images, ImportRequest, SnapshotKey, StrayKind};

use crate::support::place::{assert_clean, key};
use crate::support::{Place, TestImage};

async fn with_image(place: &Place) -> (Images, ImageId) {
    let images = place.open().await;
    let archive = std::io::Cursor::new(TestImage::small("x").docker_archive(&["app"]));
    let ids = images.import(archive, ImportRequest::default()).await.unwrap();
    (images, ids[0].clone())
}

#[tokio::test]
async fn a_snapshot_is_directories_until_it_is_released() {
    let place = Place::new();
    let (images, id) = with_image(&place).await;
    let rootfs = images.prepare(&id, &key("c1")).await.unwrap();
    assert!(rootfs.upper.is_dir() && rootfs.work.is_dir() && rootfs.lowers[0].is_dir());
    let mode = std::os::unix::fs::MetadataExt::mode(&rootfs.upper.metadata().unwrap());
    assert_eq!(mode & 0o7777, 0o755);
    std::fs::write(rootfs.upper.join("written"), vec![1; 50_000]).unwrap();
    let usage = images.snapshot_usage(&key("c1")).await.unwrap().unwrap();
    assert!(usage.inodes == 2 && usage.bytes >= 50_000, "{usage:?}");
    let snapshots = images.snapshots();
    assert_eq!((snapshots.len(), snapshots[0].key.as_str(), &snapshots[0].image), (1, "c1", &id));
    images.release(&key("c1")).await.unwrap();
    images.release(&key("c1")).await.unwrap();
    assert!(images.snapshots().is_empty() && !rootfs.upper.exists());
    assert_eq!(images.snapshot_usage(&key("c1")).await.unwrap(), None);
    assert_clean(&images).await;
}

#[tokio::test]
async fn preparing_again_finds_the_same_and_another_image_is_refused() {
    let place = Place::new();
    let (images, id) = with_image(&place).await;
    let first = images.prepare(&id, &key("c1")).await.unwrap();
    std::fs::write(first.upper.join("written"), "x").unwrap();
    let (one, two) = (key("c1"), key("c1"));
    let (again, once_more) = tokio::join!(images.prepare(&id, &one), images.prepare(&id, &two));
    assert_eq!((again.unwrap(), once_more.unwrap()), (first.clone(), first.clone()));
    assert!(first.upper.join("written").exists());
    let other = TestImage::small("other");
    let archive = std::io::Cursor::new(other.docker_archive(&["other"]));
    let ids = images.import(archive, ImportRequest::default()).await.unwrap();
    let error = images.prepare(&ids[0], &key("c1")).await.unwrap_err();
    assert!(matches!(error, Error::InUse { .. }), "{error}");
    images.release(&key("c1")).await.unwrap();
    let fresh = images.prepare(&ids[0], &key("c1")).await.unwrap();
    assert!(!fresh.upper.join("written").exists());
}

#[tokio::test]
async fn an_image_that_is_not_here_has_no_snapshots() {
    let place = Place::new();
    let images = place.open().await;
    let id: ImageId = TestImage::small("absent").id().parse().unwrap();
    let error = images.prepare(&id, &key("c1")).await.unwrap_err();
    assert!(matches!(&error, Error::ImageNotFound { name } if *name == id.to_string()), "{error}");
    assert_clean(&images).await;
}

#[test]
fn keys_are_words() {
    for good in ["a", "0123abc", "a.b-c_D", &"k".repeat(128)] {
        assert!(good.parse::<SnapshotKey>().is_ok(), "{good}");
    }
    for bad in ["", ".", "..", ".hidden", "a/b", "../x", "a b", "a\0", "ü", &"k".repeat(129)] {
        assert!(matches!(bad.parse::<SnapshotKey>(), Err(Error::InvalidKey { .. })), "{bad:?}");
    }
}

#[tokio::test]
async fn the_audit_finds_every_kind_of_stray() {
    let place = Place::new();
    let (images, id) = with_image(&place).await;
    images.prepare(&id, &key("orphan")).await.unwrap();
    images.prepare(&id, &key("lost")).await.unwrap();
    let root = place.root();
    for directory in [
        "unknown",
        "layers/99",
        "layers/x",
        "ingest/98",
        "snapshots/nobody",
        "quarantine/q",
        "trash/t",
    ] {
        std::fs::create_dir(root.join(directory)).unwrap();
    }
    for file in ["records/images/x.json", "records/names/y.json", "records/stranger"] {
        std::fs::write(root.join(file), "").unwrap();
    }
    std::fs::remove_dir_all(root.join("layers/1/fs")).ok();
    std::fs::remove_dir_all(root.join("layers/2/fs")).ok();
    std::fs::remove_file(root.join("records/snapshots/lost.json")).unwrap();
    let live = [key("lost")].into();
    let strays = images.audit(live).await.unwrap();
    let found = |kind| strays.iter().filter(|stray| stray.kind == kind).count();
    assert_eq!(found(StrayKind::Unknown), 3, "{strays:#?}");
    assert_eq!(found(StrayKind::Layer), 2);
    assert_eq!(found(StrayKind::MissingLayer), 1);
    assert_eq!(found(StrayKind::Ingest), 1);
    assert_eq!(found(StrayKind::Record), 2);
    assert_eq!(found(StrayKind::MissingRecord), 1);
    assert_eq!(found(StrayKind::SnapshotDirectory), 1);
    assert_eq!(found(StrayKind::Snapshot), 1);
    assert_eq!(found(StrayKind::Quarantined), 1);
}
