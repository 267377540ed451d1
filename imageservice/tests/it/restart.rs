//! Opening a root directory again, after a clean end, a crash, or somebody's hand in it.

use std::path::Path;
use std::process::Command;

use berth_imageservice::{Error, Images, ImportRequest};

use crate::support::place::{assert_clean, key};
use crate::support::{Place, Tarball, TestImage, show};

async fn import(images: &Images, content: &str, tag: &str) {
    let archive = std::io::Cursor::new(TestImage::small(content).docker_archive(&[tag]));
    images.import(archive, ImportRequest::default()).await.unwrap();
}

async fn close(images: Images) {
    images.shutdown().await;
}

fn quarantined(place: &Place) -> usize {
    std::fs::read_dir(place.root().join("quarantine")).unwrap().count()
}

#[tokio::test]
async fn everything_is_there_again() {
    let place = Place::new();
    let images = place.open().await;
    import(&images, "one", "app:1").await;
    import(&images, "two", "app:2").await;
    let id = images.find("app:1").unwrap().unwrap().id().clone();
    let rootfs = images.prepare(&id, &key("c1")).await.unwrap();
    std::fs::write(rootfs.upper.join("written"), "x").unwrap();
    let before: Vec<_> =
        images.list().iter().map(|i| (i.id().clone(), i.repo_tags().to_vec())).collect();
    let usage = images.usage();
    close(images).await;

    let images = place.open().await;
    let after: Vec<_> =
        images.list().iter().map(|i| (i.id().clone(), i.repo_tags().to_vec())).collect();
    assert_eq!((before, usage), (after, images.usage()));
    assert_eq!(images.prepare(&id, &key("c1")).await.unwrap(), rootfs);
    assert!(rootfs.upper.join("written").exists());
    images.remove(&id.to_string()).await.unwrap();
    images.settled().await;
    assert!(rootfs.lowers[0].exists(), "the snapshot holds its layer");
    close(images).await;

    let images = place.open().await;
    assert!(rootfs.lowers[0].exists(), "even across a restart");
    images.release(&key("c1")).await.unwrap();
    assert_clean(&images).await;
    assert_eq!(quarantined(&place), 0);
}

/// Runs itself again: a lock is one process's.
#[tokio::test]
async fn two_processes_cannot_have_one_root() {
    const ROOT: &str = "BERTH_TEST_ROOT_OF_ANOTHER_PROCESS";
    let mut place = Place::new();
    if let Some(taken) = std::env::var_os(ROOT) {
        place.config.root = taken.into();
        let error = Images::open(place.config.clone()).await.unwrap_err();
        assert!(matches!(&error, Error::RootBusy { root } if root == place.root()), "{error}");
        return;
    }
    let images = place.open().await;
    let mut again = Command::new(std::env::current_exe().unwrap());
    again.args(["--exact", "restart::two_processes_cannot_have_one_root"]).env(ROOT, place.root());
    let again = again.output().unwrap();
    assert!(again.status.success(), "{again:?}");
    assert!(String::from_utf8_lossy(&again.stdout).contains("1 passed"), "{again:?}");
    close(images).await;
    place.open().await;
}

#[tokio::test]
async fn what_was_half_made_is_gone() {
    let place = Place::new();
    close(place.open().await).await;
    let root = place.root();
    for path in ["ingest/7/fs/deep", "trash/3/left", "layers/8/fs"] {
        std::fs::create_dir_all(root.join(path)).unwrap();
    }
    std::fs::write(root.join("ingest/7/fs/deep/file"), "x").unwrap();
    std::fs::write(root.join("records/images/abc.tmp"), "half").unwrap();
    // Published, but the crash came before the record of its image.
    let record = serde_json::json!({
        "version": 1, "key": { "portable": TestImage::small("x").layers[0].diff_id },
        "diff_id": TestImage::small("x").layers[0].diff_id, "space": { "bytes": 1, "inodes": 1 },
    });
    std::fs::write(root.join("layers/8/layer.json"), record.to_string()).unwrap();
    let images = place.open().await;
    assert_clean(&images).await;
    import(&images, "x", "app").await;
    assert!(!root.join("layers/8").exists() && !root.join("ingest/7").exists());
    assert!(root.join("layers/10/fs").exists(), "numbers of the dead are not given again at once");
}

#[tokio::test]
async fn one_bad_object_stops_nothing() {
    let spoil = |path: &Path| std::fs::write(path, "{ \"version\": 1, ").unwrap();
    let empty = |path: &Path| std::fs::write(path, "").unwrap();
    let zeros = |path: &Path| std::fs::write(path, vec![0; 4096]).unwrap();
    let remove = |path: &Path| std::fs::remove_file(path).unwrap();
    let only =
        |directory: &Path| std::fs::read_dir(directory).unwrap().next().unwrap().unwrap().path();
    let damages: [Damage; 10] = [
        ("image record", &|root| spoil(&only(&root.join("records/images")))),
        ("empty image record", &|root| empty(&only(&root.join("records/images")))),
        ("image record of another config", &|root| {
            let path = only(&root.join("records/images"));
            let text = std::fs::read_to_string(&path).unwrap();
            std::fs::write(path, text.replace("/bin/sh", "/bin/id")).unwrap();
        }),
        ("image record in another place", &|root| {
            let path = only(&root.join("records/images"));
            std::fs::rename(&path, path.with_file_name("0.json")).unwrap();
        }),
        ("layer record", &|root| zeros(&only_layer(root).join("layer.json"))),
        ("missing layer record", &|root| remove(&only_layer(root).join("layer.json"))),
        ("missing tree", &|root| std::fs::remove_dir_all(only_layer(root).join("fs")).unwrap()),
        ("tree without an entry", &|root| {
            std::fs::remove_dir_all(only_layer(root).join("fs/etc")).unwrap();
        }),
        ("missing layer", &|root| std::fs::remove_dir_all(only_layer(root)).unwrap()),
        ("name record", &|root| zeros(&only(&root.join("records/names")))),
    ];
    for (case, damage) in damages {
        let place = Place::new();
        let images = place.open().await;
        import(&images, "x", "app").await;
        close(images).await;
        damage(place.root());
        let images = place.open().await;
        assert!(quarantined(&place) > 0, "{case}");
        assert!(images.find("app").unwrap().is_none(), "{case}");
        import(&images, "x", "app").await;
        let image = images.find("app").unwrap().unwrap();
        let rootfs = images.prepare(image.id(), &key("c1")).await.unwrap();
        assert_eq!(show(&rootfs.lowers[0]).len(), 2, "{case}: importing again heals it");
    }
}

/// What happens to a root directory, and how it is called.
type Damage<'a> = (&'a str, &'a dyn Fn(&Path));

/// The one layer beside the empty one.
fn only_layer(root: &Path) -> std::path::PathBuf {
    let mut layers = std::fs::read_dir(root.join("layers")).unwrap().map(|e| e.unwrap().path());
    layers.find(|path| !path.ends_with("0")).unwrap()
}

#[tokio::test]
async fn layers_are_kept_when_a_snapshots_record_is_lost() {
    let place = Place::new();
    let images = place.open().await;
    import(&images, "x", "app").await;
    let id = images.find("app").unwrap().unwrap().id().clone();
    let rootfs = images.prepare(&id, &key("running")).await.unwrap();
    images.remove("app").await.unwrap();
    close(images).await;
    std::fs::write(place.root().join("records/snapshots/running.json"), "").unwrap();
    let images = place.open().await;
    images.settled().await;
    assert!(rootfs.lowers[0].join("etc/content").exists() && rootfs.upper.exists());
}

#[tokio::test]
async fn a_snapshot_without_directories_is_made_whole() {
    let place = Place::new();
    let images = place.open().await;
    import(&images, "x", "app").await;
    let id = images.find("app").unwrap().unwrap().id().clone();
    let rootfs = images.prepare(&id, &key("c1")).await.unwrap();
    close(images).await;
    std::fs::remove_dir_all(&rootfs.work).unwrap();
    let images = place.open().await;
    assert_eq!(images.prepare(&id, &key("c1")).await.unwrap(), rootfs);
    assert!(rootfs.work.is_dir());
    assert_clean(&images).await;
}

#[tokio::test]
async fn layers_made_for_those_below_are_found_again() {
    let top = || Tarball::new().file("implied/file", "x").build();
    let image = TestImage::of([Tarball::new().dir("implied").build(), top()]);
    let place = Place::new();
    let images = place.open().await;
    let archive = || std::io::Cursor::new(image.docker_archive(&["app"]));
    images.import(archive(), ImportRequest::default()).await.unwrap();
    close(images).await;
    let images = place.open().await;
    let mut other = image.clone();
    other.config["config"]["Cmd"] = serde_json::json!(["/other"]);
    let other = std::io::Cursor::new(other.docker_archive(&["other"]));
    images.import(other, ImportRequest::default()).await.unwrap();
    assert_eq!(std::fs::read_dir(place.root().join("layers")).unwrap().count(), 1 + 2);
}
