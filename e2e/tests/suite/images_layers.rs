//! Images of as many layers as overlayfs takes, as roots and as volumes, on kernels that take layers
//! one by one (from 6.5 on) and on those that take all of them in one page.

use anyhow::Result;
use berth_e2e::client::{Code, assert_refused, container, image_mount, pod};
use berth_e2e::daemon::{Engine, Setup};
use berth_e2e::fault::SmallDisk;
use berth_e2e::image::{Compression, Entry, Image, Layer};
use berth_e2e::place::{self, Place};
use berth_e2e::registry::scripted::Scripted;

/// `OVL_MAX_STACK` of the kernel.
const MOST: usize = 500;
const FIRST: u32 = 131_072;

/// Busybox and layers above it, each with a file of its own, and one that all of them replace.
fn tall(layers: usize) -> Result<Image> {
    let mut builder = Image::busybox()?.compression(Compression::None);
    for number in 1..layers {
        let layer = Layer::new().with(Entry::file(&format!("f{number}"), number.to_string()));
        builder = builder.layer(layer.with(Entry::file("last", number.to_string())));
    }
    builder.build()
}

async fn tall_images(place: Place) -> Result<()> {
    let registry = Scripted::start().await?;
    // An old kernel cannot map the owners of files on a tmpfs.
    let disk = SmallDisk::ext4(&place, 256 << 20)?;
    let daemon = Setup::new(Engine::Berthd).root(disk.dir()).start(&place).await?;
    let client = daemon.client().await?;
    let most = registry.add("tall:1", &tall(MOST)?)?;
    let too_many = registry.add("taller:1", &tall(MOST + 1)?)?;
    assert_refused(client.pull(&too_many).await, Code::ResourceExhausted, &["at most 500 layers"]);
    client.pull(&most).await?;
    let script = "cat $1/f1 $1/f499 $1/last; ls $1/ | grep -c ^f";
    for users in [None, Some(FIRST)] {
        let spec = pod(&format!("p{}", users.unwrap_or(0))).host_network();
        let pod = client.run_pod(users.map_or(spec.clone(), |first| spec.users(first))).await?;
        let app = container("app").image(&most).cmd(["sleep", "inf"]);
        let app = pod.run(app.image_mount(image_mount(&most, "/all"))).await?;
        for at in ["", "/all"] {
            let told = app.shell(&script.replace("$1", at)).await?;
            assert_eq!(told, "1499499499\n", "{at:?} for {users:?}");
        }
        app.shell("echo new > /f1; cat /f1").await?;
        pod.delete().await?;
    }
    Ok(client.remove_image(&most).await?)
}

#[test]
fn an_image_has_as_many_layers_as_overlayfs_takes() {
    place::native(tall_images);
}

/// The guest's kernel is a 6.1, unless the machine has controllers of its own.
#[test]
fn an_old_kernel_takes_as_many() {
    place::with_controllers(tall_images);
}
