//! Users of images whose `/etc` is not as simple as it should be.

use berth_imageservice::{Error, Images, Limits};
use tar::EntryType;

use crate::layers::stack;
use crate::support::tarball::Meta;
use crate::support::{Place, Tarball};

const PASSWD: &str = "root:x:0:0::/root:\napp:x:1000:1000::/home/app:\n";
const GROUP: &str = "wheel:x:10:app\n";

fn uid(images: &Images, user: &str) -> Result<u32, Error> {
    images.find("test:latest").unwrap().unwrap().resolve_user(user).map(|identity| identity.uid)
}

#[tokio::test]
async fn users_come_from_the_image_and_survive_a_restart() {
    let place = Place::new();
    let images = place.open().await;
    let layer = Tarball::new().dir("etc").file("etc/passwd", PASSWD).file("etc/group", GROUP);
    stack(&images, vec![layer]).await;
    images.shutdown().await;
    drop(images);
    let images = place.open().await;
    let image = images.find("test:latest").unwrap().unwrap();
    let identity = image.resolve_user("app").unwrap();
    assert_eq!(
        (identity.uid, identity.gid, identity.additional_gids),
        (1000, 1000, vec![1000, 10])
    );
    assert_eq!((identity.home.as_str(), identity.name.as_deref()), ("/home/app", Some("app")));
    match image.resolve_user("nobody") {
        Err(Error::BadUser { user, image: id, reason }) => {
            assert_eq!((user.as_str(), id), ("nobody", image.id().to_string()));
            assert!(reason.contains("/etc/passwd"), "{reason}");
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn symlinks_are_followed_inside_the_image_only() {
    let place = Place::new();
    std::fs::write(place.path().join("passwd"), "app:x:666:0::/:\n").unwrap();
    let outside = place.path().join("passwd");
    let climbing = format!("../../../../../../../../{}", outside.display());
    for target in [outside.to_str().unwrap(), &climbing, "/proc/self/root/etc/passwd"] {
        let images = place.open().await;
        let layer = Tarball::new().dir("etc").symlink("etc/passwd", target);
        stack(&images, vec![layer]).await;
        assert!(matches!(uid(&images, "app"), Err(Error::BadUser { .. })), "{target}");
        assert_eq!(uid(&images, "7").unwrap(), 7);
        images.shutdown().await;
        std::fs::remove_dir_all(place.root()).unwrap();
    }
    let images = place.open().await;
    let layer = Tarball::new()
        .dir("usr")
        .file("usr/passwd", PASSWD)
        .symlink("etc", "/usr/../usr/./")
        .symlink("usr/group", "../../usr/passwd");
    stack(&images, vec![layer]).await;
    assert_eq!(uid(&images, "app").unwrap(), 1000);
}

#[tokio::test]
async fn files_that_cannot_be_read_make_names_useless_and_nothing_else() {
    let meta = Meta::default();
    for (case, layer) in [
        ("a pipe", Tarball::new().with(EntryType::Fifo, "etc/passwd", &meta)),
        ("a directory", Tarball::new().dir("etc/passwd")),
        ("a loop", Tarball::new().symlink("etc/passwd", "passwd")),
        ("too large", Tarball::new().file("etc/passwd", &PASSWD.repeat(100))),
    ] {
        let mut place = Place::new();
        place.config.limits = Limits { accounts: 1000, ..Limits::default() };
        let images = place.open().await;
        stack(&images, vec![Tarball::new().dir("etc"), layer]).await;
        let error = uid(&images, "app").unwrap_err().to_string();
        assert!(error.contains("because of /etc/passwd"), "{case}: {error}");
        assert_eq!(uid(&images, "1000").unwrap(), 1000, "{case}");
    }
}
