//! Pushing, as far as a registry is needed that does as it is told.

use berth_imageservice::{Error, ImportRequest, PushRequest};

use crate::support::{Place, TestImage};

#[tokio::test]
async fn a_registry_that_is_not_there_is_unavailable() {
    let place = Place::new();
    let images = place.open().await;
    let image = TestImage::small("x");
    let archive = std::io::Cursor::new(image.docker_archive(&["app:1"]));
    images.import(archive, ImportRequest::default()).await.unwrap();
    let target = "127.0.0.1:1/app:1".parse().unwrap();
    let request = PushRequest { image: image.id(), target, credentials: None };
    let (_, pushing) = images.push(request);
    let size = std::mem::size_of_val(&pushing);
    assert!(size < 1 << 10, "a future of {size} bytes");
    let refused = pushing.await.unwrap_err();
    assert!(matches!(refused, Error::Unavailable { .. }), "{refused}");
    assert!(refused.to_string().starts_with("push "), "{refused}");
}
