//! What a container sees of its image: what the layers say, one on top of the other, and no write
//! that is not its own.

use anyhow::{Context as _, Result};
use berth_e2e::client::{Container, container, pod};
use berth_e2e::daemon::Engine;
use berth_e2e::image::{Entry, Image, Layer};
use berth_e2e::node::Node;
use berth_e2e::{place, process};

/// Runs a script in each layered image's container, and compares what it prints with what it is
/// to see: `(script, expected)`, a line for each.
fn is_seen(layers: impl Fn() -> Vec<Layer>, table: &[(&str, &str)]) {
    is_seen_by(|| Engine::from_env(Engine::Berthd), layers, table);
}

fn is_seen_by(
    engine: impl Fn() -> Result<Engine>,
    layers: impl Fn() -> Vec<Layer>,
    table: &[(&str, &str)],
) {
    place::native(async |place| {
        let node = Node::start(&place, engine()?).await?;
        let audit = node.audit()?;
        let (pod, inside) = inside(&node, layers()).await?;
        for (script, expected) in table {
            let output = inside.exec(["/bin/sh", "-c", script]).await?;
            let seen = format!("{}{}", output.stdout, output.stderr);
            assert_eq!(seen.trim_end(), *expected, "{script}");
        }
        pod.delete().await?;
        node.client.remove_image(&node.registry.reference("layered:1")).await?;
        audit.assert_clean().await
    });
}

/// A container that sleeps on these layers, above busybox.
async fn inside(node: &Node, layers: Vec<Layer>) -> Result<(berth_e2e::client::Pod, Container)> {
    let image = layers.into_iter().fold(Image::busybox()?, |image, layer| image.layer(layer));
    let reference = node.registry.push("layered:1", &image.build()?).await?;
    node.client.pull(&reference).await?;
    let pod = node.client.run_pod(pod("looker").host_network()).await?;
    let sleeper = container("inside").image(&reference).cmd(["sleep", "86399"]);
    let inside = pod.run(sleeper).await?;
    Ok((pod, inside))
}

#[test]
fn what_an_upper_layer_whites_out_is_gone() {
    let layers = || {
        let below = Layer::new()
            .with_all(["d", "d/sub", "gone", "gone/deep", "opaque", "opaque/sub"].map(Entry::dir))
            .with_all(["d/kept", "d/removed", "gone/deep/file"].map(|path| Entry::file(path, "1")))
            .with_all(["opaque/old", "opaque/sub/old"].map(|path| Entry::file(path, "1")));
        let above = Layer::new()
            .with(Entry::whiteout("d/removed"))
            .with(Entry::whiteout("gone"))
            .with(Entry::whiteout("never-was"))
            // The mark hides what is below, and not what its own layer has, before or after it.
            .with(Entry::dir("opaque"))
            .with(Entry::file("opaque/before", "2"))
            .with(Entry::opaque("opaque"))
            .with(Entry::file("opaque/after", "2"));
        let again = Layer::new().with(Entry::dir("gone")).with(Entry::file("gone/new", "3"));
        vec![below, above, again]
    };
    is_seen(
        layers,
        &[
            ("ls -A /d", "kept\nsub"),
            ("ls -A /gone", "new"),
            ("ls -A /opaque", "after\nbefore"),
            ("cat /opaque/sub/old", "cat: can't open '/opaque/sub/old': No such file or directory"),
            ("find / -xdev -name '.wh.*'", ""),
            ("ls /never-was", "ls: /never-was: No such file or directory"),
        ],
    );
}

#[test]
fn an_upper_layer_replaces_a_thing_by_one_of_another_kind() {
    let layers = || {
        let below = Layer::new()
            .with_all(["dir", "linked", "linked-to"].map(Entry::dir))
            .with_all(["dir/inner", "linked/inner", "file", "to-link"].map(|p| Entry::file(p, "1")))
            .with(Entry::symlink("link", "linked-to"))
            .with(Entry::file("same", "1").mode(0o600));
        let above = Layer::new()
            .with(Entry::file("dir", "a file now"))
            .with(Entry::dir("file"))
            .with(Entry::file("file/inner", "2"))
            .with(Entry::symlink("linked", "linked-to"))
            .with(Entry::symlink("to-link", "/same"))
            .with(Entry::dir("link"))
            .with(Entry::file("link/inner", "2"))
            .with(Entry::file("same", "two").mode(0o640).owner(7, 8));
        vec![below, above]
    };
    is_seen(
        layers,
        &[
            ("cat /dir", "a file now"),
            ("cat /file/inner", "2"),
            ("readlink /linked; ls -A /linked", "linked-to"),
            ("cat /to-link", "two"),
            ("stat -c %F /link; ls -A /link; ls -A /linked-to", "directory\ninner"),
            ("stat -c '%a %u:%g %s' /same", "640 7:8 3"),
        ],
    );
}

#[test]
fn links_devices_pipes_modes_and_owners_are_as_the_layers_say() {
    let long = || ["long-name"; 25].join("/");
    let layers = || {
        let name = "n".repeat(255);
        let below = Layer::new()
            .with(Entry::file("one", "linked").mode(0o640).owner(1000, 50))
            .with(Entry::hardlink("two", "one").mode(0o640).owner(1000, 50))
            .with(Entry::file("setuid", "").mode(0o4755))
            .with(Entry::file("setgid", "").mode(0o2711).owner(70_000, 80_000))
            .with(Entry::dir("sticky").mode(0o1777))
            .with(Entry::char_device("null", 1, 3).mode(0o666))
            .with(Entry::block_device("disk", 259, 65_537).owner(0, 6))
            .with(Entry::fifo("pipe"))
            .with(Entry::symlink("absolute", "/etc/group"))
            .with(Entry::symlink("relative", "../etc/group"))
            .with(Entry::symlink("dangling", &format!("/nowhere/{}", long())))
            .with(Entry::file(&name, "a name of 255 bytes"))
            .with(Entry::file(&format!("{}/file", long()), "far down"))
            .with(Entry::file("Größe und Maß", "not ASCII"));
        vec![below]
    };
    let (far, dangling) = (format!("cat /{}/file", long()), format!("/nowhere/{}", long()));
    is_seen(
        layers,
        &[
            ("cd /; stat -c '%h %a %u:%g' one two | uniq", "2 640 1000:50"),
            ("cd /; stat -c %i one two | uniq | wc -l; cat two", "1\nlinked"),
            ("stat -c '%a %F' /setuid /sticky", "4755 regular empty file\n1777 directory"),
            ("stat -c '%a %u:%g' /setgid", "2711 70000:80000"),
            ("stat -c '%a %F %t:%T' /null", "666 character special file 1:3"),
            ("stat -c '%a %g %F %t:%T' /disk", "600 6 block special file 103:10001"),
            ("stat -c '%a %F' /pipe", "644 fifo"),
            (
                "readlink /absolute; readlink /relative; cmp /absolute /relative",
                "/etc/group\n../etc/group",
            ),
            ("readlink /dangling", &dangling),
            ("cat /nnnnnnnnnn*", "a name of 255 bytes"),
            (&far, "far down"),
            ("stat -c '%a %u:%g' /long-name", "755 0:0"),
            ("cat '/Größe und Maß'", "not ASCII"),
            ("stat -c %Y /one /etc/passwd | uniq", "1700000000"),
        ],
    );
}

/// A link cannot leave its layer: those to a lower one's file share a copy of it. The peer refuses
/// such an image.
#[test]
fn links_to_a_file_of_a_lower_layer_share_a_copy_of_it() {
    let layers = || {
        let below = Layer::new().with(Entry::file("one", "linked").mode(0o640).owner(1000, 50));
        let above = ["two", "three"].map(|path| Entry::hardlink(path, "one"));
        vec![below, Layer::new().with_all(above)]
    };
    is_seen_by(
        || Ok(Engine::Berthd),
        layers,
        &[
            (
                "cd /; stat -c '%h %a %u:%g' one two three",
                "1 640 1000:50\n2 640 1000:50\n2 640 1000:50",
            ),
            ("cd /; stat -c %i one two three | uniq | wc -l", "2"),
            ("cd /; cat one two three", "linkedlinkedlinked"),
        ],
    );
}

/// `cap_net_bind_service=ep`, as `setcap` writes it (linux/capability.h, `vfs_cap_data`).
const CAPABILITY: [u8; 20] = [1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

#[test]
fn extended_attributes_come_along() {
    place::native(async |place| {
        let node = Node::start(&place, Engine::from_env(Engine::Berthd)?).await?;
        let audit = node.audit()?;
        let layer = Layer::new()
            .with(Entry::dir("noted").xattr("user.note", "of a directory"))
            .with(Entry::file("able", "").mode(0o755).xattr("security.capability", CAPABILITY))
            .with(Entry::file("noted/file", "").xattr("user.bytes", [0, 255, 10]));
        let (pod, _inside) = inside(&node, vec![layer]).await?;
        let pid = *process::find(&["sleep", "86399"]).first().context("the container's process")?;
        for (path, name, expected) in [
            ("noted", "user.note", &b"of a directory"[..]),
            ("able", "security.capability", &CAPABILITY),
            ("noted/file", "user.bytes", &[0, 255, 10]),
        ] {
            let mut value = [0; 64];
            let path = format!("/proc/{pid}/root/{path}");
            let read = rustix::fs::getxattr(&path, name, &mut value)
                .with_context(|| format!("read {name} of {path}"))?;
            assert_eq!(&value[..read], expected, "{name} of {path}");
        }
        pod.delete().await?;
        node.client.remove_image(&node.registry.reference("layered:1")).await?;
        audit.assert_clean().await
    });
}

#[test]
fn what_a_container_writes_is_its_own() {
    place::native(async |place| {
        let node = Node::start(&place, Engine::from_env(Engine::Berthd)?).await?;
        let audit = node.audit()?;
        let pod = node.client.run_pod(pod("writers").host_network()).await?;
        let sleeper = |name: &str| container(name).image(&node.image).cmd(["sleep", "inf"]);
        let (one, two) = (pod.run(sleeper("one")).await?, pod.run(sleeper("two")).await?);
        let root = one.shell("awk '$2 == \"/\" { print $1, $3 }' /proc/mounts").await?;
        assert_eq!(root, "overlay overlay\n");
        one.shell("echo mine > /etc/passwd; rm -r /home; mkdir /new; chmod 700 /tmp").await?;
        assert_eq!(one.shell("cat /etc/passwd; ls -d /home 2>&1 | wc -l").await?, "mine\n1\n");
        let untouched = "head -n 1 /etc/passwd; ls -A /home; ls -d /new 2>/dev/null; \
                         stat -c %a /tmp";
        let expected = "root:x:0:0:root:/root:/bin/sh\nalice\n1777\n";
        assert_eq!(two.shell(untouched).await?, expected);
        one.stop(0).await?;
        one.remove().await?;
        let three = pod.run(sleeper("three")).await?;
        assert_eq!(three.shell(untouched).await?, expected, "the image is as it was");
        pod.delete().await?;
        audit.assert_clean().await
    });
}
