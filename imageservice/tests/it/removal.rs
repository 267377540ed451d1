//! Removing names and images, and what that frees.

use berth_imageservice::{Images, ImportRequest, Removal};

use crate::support::place::{assert_clean, key};
use crate::support::{Place, Tarball, TestImage};

async fn import(images: &Images, image: &TestImage, tags: &[&str]) {
    let archive = std::io::Cursor::new(image.docker_archive(tags));
    images.import(archive, ImportRequest::default()).await.unwrap();
}

fn layers(place: &Place) -> usize {
    std::fs::read_dir(place.root().join("layers")).unwrap().count() - 1
}

#[tokio::test]
async fn an_id_takes_all_names_with_it() {
    let image = TestImage::small("x");
    let place = Place::new();
    let images = place.open().await;
    import(&images, &image, &["a:1", "b.test/a:2"]).await;
    let size = images.find("a:1").unwrap().unwrap().size();
    let removal = images.remove(&image.id()).await.unwrap();
    assert_eq!(removal.names, ["b.test/a:2", "docker.io/library/a:1"]);
    assert_eq!(removal.image.unwrap().to_string(), image.id());
    assert_eq!(removal.freed, size);
    assert!(images.list().is_empty() && images.find("a:1").unwrap().is_none());
    images.settled().await;
    assert_eq!(layers(&place), 0);
    assert_eq!(images.remove(&image.id()).await.unwrap(), Removal::default());
    assert_eq!(images.remove("a:1").await.unwrap(), Removal::default());
    assert_clean(&images).await;
}

#[tokio::test]
async fn a_name_goes_alone_until_the_last() {
    let image = TestImage::small("x");
    let place = Place::new();
    let images = place.open().await;
    import(&images, &image, &["a:1", "a:2"]).await;
    let removal = images.remove("a:1").await.unwrap();
    assert_eq!((removal.names.len(), removal.image, removal.freed), (1, None, 0));
    assert_eq!(images.find("a:2").unwrap().unwrap().repo_tags(), ["docker.io/library/a:2"]);
    let removal = images.remove("a:2").await.unwrap();
    assert!(removal.image.is_some() && removal.freed > 0);
    assert_clean(&images).await;
}

#[tokio::test]
async fn only_layers_that_nobody_else_uses_are_deleted() {
    let base = Tarball::new().file("base", &"b".repeat(100_000)).build();
    let one = TestImage::of([base.clone(), Tarball::new().file("one", "1").build()]);
    let two = TestImage::of([base, Tarball::new().file("two", "2").build()]);
    let place = Place::new();
    let images = place.open().await;
    import(&images, &one, &["one"]).await;
    import(&images, &two, &["two"]).await;
    assert_eq!(layers(&place), 3);
    let before = images.usage();
    let removal = images.remove("one").await.unwrap();
    images.settled().await;
    assert_eq!(layers(&place), 2);
    assert_eq!(images.usage().bytes, before.bytes - removal.freed);
    assert!(removal.freed < 100_000, "the shared layer stays");
    images.remove("two").await.unwrap();
    images.settled().await;
    assert_eq!((layers(&place), images.usage().inodes), (0, 0));
}

#[tokio::test]
async fn layers_of_a_snapshot_stay_until_it_goes() {
    let image = TestImage::small("x");
    let place = Place::new();
    let images = place.open().await;
    import(&images, &image, &["a"]).await;
    let id = images.find("a").unwrap().unwrap().id().clone();
    let rootfs = images.prepare(&id, &key("one")).await.unwrap();
    images.prepare(&id, &key("two")).await.unwrap();
    let removal = images.remove("a").await.unwrap();
    assert_eq!(removal.freed, 0);
    for key_ in ["one", "two"] {
        images.settled().await;
        assert!(rootfs.lowers[0].join("etc/content").exists(), "before {key_} is released");
        images.release(&key(key_)).await.unwrap();
    }
    images.settled().await;
    assert_eq!(layers(&place), 0);
    assert_clean(&images).await;
}

#[tokio::test]
async fn an_image_can_come_back_while_its_old_layers_are_used() {
    let image = TestImage::small("x");
    let place = Place::new();
    let images = place.open().await;
    import(&images, &image, &["a"]).await;
    let id = images.find("a").unwrap().unwrap().id().clone();
    let before = images.prepare(&id, &key("old")).await.unwrap();
    images.remove("a").await.unwrap();
    import(&images, &image, &["a"]).await;
    let after = images.prepare(&id, &key("new")).await.unwrap();
    assert_eq!(before.lowers, after.lowers, "the layer was still here");
    images.release(&key("old")).await.unwrap();
    images.settled().await;
    assert!(after.lowers[0].join("etc/content").exists());
    assert_clean(&images).await;
}

#[tokio::test]
async fn usage_is_what_the_disk_says() {
    let image = TestImage::of([
        Tarball::new().dir("d").file("d/f", &"x".repeat(12_345)).hardlink("d/g", "d/f").build(),
        Tarball::new().symlink("s", "d").file("h", "").build(),
    ]);
    let place = Place::new();
    let images = place.open().await;
    import(&images, &image, &["a"]).await;
    // Two roots, d, f, s, h, and two spines; a hard link is not another file.
    assert_eq!(images.usage().inodes, 8);
    let trees = std::fs::read_dir(place.root().join("layers")).unwrap();
    let trees = trees.map(|entry| entry.unwrap().path()).filter(|path| !path.ends_with("0"));
    let du = std::process::Command::new("du")
        .args(["-s", "-B1"])
        .args(trees.flat_map(|path| [path.join("fs"), path.join("spine")]))
        .output()
        .unwrap();
    let lines = String::from_utf8(du.stdout).unwrap();
    let on_disk =
        lines.lines().map(|line| line.split('\t').next().unwrap().parse::<u64>().unwrap());
    let on_disk: u64 = on_disk.sum();
    assert_eq!(images.usage().bytes, on_disk);
    assert_eq!(images.find("a").unwrap().unwrap().size(), on_disk);
}
