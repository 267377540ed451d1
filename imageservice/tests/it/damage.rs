//! What decays is found, taken out of use, and comes again with the next pull.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use berth_imageservice::{Error, Finding, Images, ImportRequest, PullRequest};

use crate::support::place::{assert_clean, key};
use crate::support::{Place, Server, TestImage};

async fn import(images: &Images) {
    let archive = std::io::Cursor::new(TestImage::small("x").docker_archive(&["app"]));
    images.import(archive, ImportRequest::default()).await.unwrap();
}

/// The one layer beside the empty one.
fn layer(place: &Place) -> PathBuf {
    let layers = std::fs::read_dir(place.root().join("layers")).unwrap();
    let mut layers = layers.map(|entry| entry.unwrap().path());
    layers.find(|path| !path.ends_with("0")).unwrap()
}

fn only(directory: PathBuf) -> PathBuf {
    std::fs::read_dir(directory).unwrap().next().unwrap().unwrap().path()
}

/// Changes a file, and nothing that a listing shows.
fn rot(file: &Path) {
    let about = file.metadata().unwrap();
    std::fs::write(file, vec![b'?'; usize::try_from(about.size()).unwrap()]).unwrap();
    let file = std::fs::File::options().write(true).open(file).unwrap();
    file.set_modified(about.modified().unwrap()).unwrap();
}

/// What happens to a root directory, what a scrub says of it, and whether the image can stay.
type Decay = (&'static str, fn(&Place), &'static str, bool);

#[tokio::test]
async fn a_scrub_finds_what_is_not_as_it_was() {
    let decays: [Decay; 8] = [
        ("content", |place| rot(&layer(place).join("fs/etc/content")), "other content", false),
        (
            "a missing file",
            |place| std::fs::remove_file(layer(place).join("fs/etc/content")).unwrap(),
            "entries",
            false,
        ),
        (
            "a mode",
            |place| {
                let mode = std::os::unix::fs::PermissionsExt::from_mode(0o4755);
                std::fs::set_permissions(layer(place).join("fs/etc/content"), mode).unwrap();
            },
            "other content",
            false,
        ),
        (
            "a missing tree",
            |place| std::fs::remove_dir_all(layer(place).join("fs")).unwrap(),
            "cannot be read",
            false,
        ),
        (
            "a layer's record",
            |place| std::fs::write(layer(place).join("layer.json"), "{").unwrap(),
            "cannot be read",
            true,
        ),
        (
            "an image's record",
            |place| std::fs::write(only(place.root().join("records/images")), "").unwrap(),
            "cannot be read",
            true,
        ),
        (
            "another pin",
            |place| {
                let path = only(place.root().join("records/images"));
                let text = std::fs::read_to_string(&path).unwrap();
                std::fs::write(path, text.replace("\"pinned\":false", "\"pinned\":true")).unwrap();
            },
            "something else",
            true,
        ),
        (
            "a name",
            |place| std::fs::remove_file(only(place.root().join("records/names"))).unwrap(),
            "cannot be read",
            true,
        ),
    ];
    for (case, decay, words, stays) in decays {
        let place = Place::new();
        let images = place.open().await;
        import(&images).await;
        assert_eq!(images.scrub(false).await.unwrap(), [], "{case}");
        decay(&place);
        for repair in [false, true] {
            let [finding] = &images.scrub(repair).await.unwrap()[..] else { panic!("{case}") };
            assert!(finding.problem.contains(words), "{case}: {finding:?}");
            assert_eq!(finding.is_repaired, repair, "{case}");
            let is_here = images.find("app").unwrap().is_some();
            assert_eq!(is_here, stays || !repair, "{case}");
        }
        assert_eq!(images.scrub(false).await.unwrap(), [], "{case}");
        assert_clean(&images).await;
        import(&images).await;
        let image = images.find("app").unwrap().unwrap();
        let rootfs = images.prepare(image.id(), &key("c1")).await.unwrap();
        assert_eq!(std::fs::read(rootfs.lowers[0].join("etc/content")).unwrap(), b"x", "{case}");
        images.release(&key("c1")).await.unwrap();
        images.shutdown().await;
        drop(images);
        let images = place.open().await;
        assert!(images.find("app").unwrap().is_some(), "{case}: what is repaired is on disk");
        assert_clean(&images).await;
    }
}

#[tokio::test]
async fn a_damaged_layer_goes_with_the_last_container_on_it() {
    let place = Place::new();
    let images = place.open().await;
    import(&images).await;
    let id = images.find("app").unwrap().unwrap().id().clone();
    let rootfs = images.prepare(&id, &key("running")).await.unwrap();
    rot(&rootfs.lowers[0].join("etc/content"));
    let findings: Vec<Finding> = images.scrub(true).await.unwrap();
    assert_eq!(findings[0].images, [id.to_string()]);
    images.settled().await;
    assert!(rootfs.lowers[0].join("etc/content").exists());
    // Whole again, beside the other.
    import(&images).await;
    let other = images.prepare(&id, &key("new")).await.unwrap();
    assert_ne!(other.lowers, rootfs.lowers);
    images.release(&key("running")).await.unwrap();
    images.settled().await;
    assert!(!rootfs.lowers[0].exists() && other.lowers[0].exists());
    assert_clean(&images).await;
}

/// Behind the back of who has the store open.
#[tokio::test]
async fn a_layer_that_is_gone_is_missed_by_who_needs_it() {
    let (place, server) = (Place::new(), Server::start().await);
    let images = place.open().await;
    let reference = server.add("app", "1", &TestImage::small("x"));
    let request = PullRequest::new(reference.parse().unwrap());
    images.pull(request.clone()).await.unwrap();

    // By a pull of what is thought to be here.
    std::fs::remove_dir_all(layer(&place)).unwrap();
    assert_eq!(images.pull(request.clone()).await.unwrap().layers_fetched, 1);
    assert!(layer(&place).join("fs/etc/content").exists());

    // By a container.
    std::fs::remove_dir_all(layer(&place).join("fs/etc")).unwrap();
    let id = images.find(&reference).unwrap().unwrap().id().clone();
    let error = images.prepare(&id, &key("c1")).await.unwrap_err();
    assert!(matches!(error, Error::ImageDamaged { .. }), "{error}");
    assert!(images.find(&reference).unwrap().is_none() && images.snapshots().is_empty());
    images.pull(request.clone()).await.unwrap();
    images.prepare(&id, &key("c1")).await.unwrap();

    // By the pull of another image that shares it.
    let mut other = TestImage::small("x");
    other.config["config"]["Cmd"] = serde_json::json!(["/other"]);
    let other = server.add("other", "1", &other);
    std::fs::remove_dir_all(layer(&place).join("fs")).unwrap();
    let outcome = images.pull(PullRequest::new(other.parse().unwrap())).await.unwrap();
    assert_eq!(outcome.layers_fetched, 1);
    assert!(images.find(&reference).unwrap().is_none() && images.find(&other).unwrap().is_some());
    images.release(&key("c1")).await.unwrap();
    assert_clean(&images).await;
}

/// A seal is made when the layer is, and made up for if it was lost.
#[tokio::test]
async fn a_lost_seal_is_made_anew() {
    let place = Place::new();
    let images = place.open().await;
    import(&images).await;
    let seal = layer(&place).join("seal.json");
    let before = std::fs::read(&seal).unwrap();
    for lost in [None, Some("")] {
        match lost {
            None => std::fs::remove_file(&seal).unwrap(),
            Some(text) => std::fs::write(&seal, text).unwrap(),
        }
        assert_eq!(images.scrub(false).await.unwrap(), []);
        assert_eq!(std::fs::read(&seal).unwrap(), before);
    }
}
