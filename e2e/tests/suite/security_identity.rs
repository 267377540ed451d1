//! T-ID: who a process is. The same for the first process, for a command, and for both after the
//! daemon was killed; never root because of a number that does not fit or a name of digits.

use std::collections::BTreeMap;
use std::fs;

use anyhow::{Context, Result};
use berth_e2e::client::cri::Int64Value;
use berth_e2e::client::{Code, Container, ContainerSpec, assert_refused, container, pod};
use berth_e2e::daemon::Engine;
use berth_e2e::image::{Compression, Entry, Image, Layer};
use berth_e2e::node::Node;
use berth_e2e::oci::Oci;
use berth_e2e::place;
use serde_json::json;

/// Rows that a careless reader would find root in.
const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\n\
    nobody:x:65534:65534:nobody:/:/bin/false\n\
    9999999999:x:0:0::/:/bin/sh\n\
    4294967296:x:0:0::/:/bin/sh\n\
    0x0:x:77:78::/hex:/bin/sh\n\
    -1:x:0:0::/:/bin/sh\n";

/// A user of an image, and the uid and the gid that it is; nothing if it is refused.
const TABLE: [(&str, Option<(u32, u32)>); 20] = [
    ("0", Some((0, 0))),
    ("00", Some((0, 0))),
    ("root", Some((0, 0))),
    ("1", Some((1, 0))),
    ("007", Some((7, 0))),
    ("65535", Some((65535, 0))),
    ("65536", Some((65536, 0))),
    ("2147483647", Some((2_147_483_647, 0))),
    ("2147483648", Some((2_147_483_648, 0))),
    ("4294967294", Some((4_294_967_294, 0))),
    ("nobody", Some((65534, 65534))),
    ("nobody:7", Some((65534, 7))),
    ("0x0", Some((77, 78))),
    ("4294967295", None),
    ("4294967296", None),
    ("9999999999", None),
    ("18446744073709551616", None),
    ("1e0", None),
    ("nobody:4294967296", None),
    ("nobody:-1", None),
];

const STATUS: &str = "grep -E '^(Uid|Gid|Groups|Cap[A-Z][a-z]+):' /proc/$P/status";

/// What a container's first process is, and what a command in it is.
async fn identities(app: &Container) -> Result<[String; 2]> {
    let first = app.shell(&format!("P=1; {STATUS}")).await?;
    Ok([first, app.shell(&format!("P=self; {STATUS}")).await?])
}

fn field(status: &str, name: &str) -> Vec<String> {
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(":\t"));
    line.unwrap_or_default().split_whitespace().map(str::to_owned).collect()
}

/// T-ID-1, and T-ID-3 for every user: nothing is inheritable, nothing is ambient.
#[test]
fn a_user_is_one_number_for_ever() {
    place::native(async |place| {
        let mut node = Node::start(&place, Engine::Berthd).await?;
        let mut images = Vec::new();
        for (number, (user, expected)) in TABLE.iter().enumerate() {
            let passwd = Layer::new().with(Entry::file("etc/passwd", PASSWD));
            let image = Image::busybox()?.compression(Compression::None).layer(passwd).user(user);
            let image = node.registry.push(&format!("u{number}:1"), &image.build()?).await?;
            node.client.pull(&image).await?;
            images.push((*user, image, *expected));
        }
        let audit = node.audit()?;
        let pod = node.client.run_pod(pod("p")).await?;
        let spec = |name: &str, image: &str| container(name).image(image).cmd(["sleep", "inf"]);
        let mut running = Vec::new();
        for (number, (user, image, expected)) in images.iter().enumerate() {
            let created = pod.run(spec(&format!("c{number}"), image)).await;
            let Some((uid, gid)) = expected else {
                assert_refused(created, Code::InvalidArgument, &[user]);
                continue;
            };
            let app = created.context(*user)?;
            let told = identities(&app).await?;
            for status in &told {
                assert_eq!(field(status, "Uid"), vec![uid.to_string(); 4], "{user}");
                assert_eq!(field(status, "Gid"), vec![gid.to_string(); 4], "{user}");
                assert!(field(status, "Groups").contains(&gid.to_string()), "{user}: {status}");
                for set in ["CapInh", "CapAmb"] {
                    assert_eq!(field(status, set), ["0".repeat(16)], "{user}");
                }
                let none = field(status, "CapEff") == ["0".repeat(16)];
                assert_eq!(none, *uid != 0, "{user}: {status}");
            }
            running.push((*user, image.clone(), app.id, told));
        }
        node.kill_and_restart().await?;
        let mut adopted = node.client.pod(&pod.id);
        adopted.config = pod.config;
        for (number, (user, image, id, told)) in running.iter().enumerate() {
            let app = node.client.container(id);
            assert_eq!(identities(&app).await?, *told, "{user}, with another daemon");
            let again = adopted.run(spec(&format!("again{number}"), image)).await?;
            assert_eq!(identities(&again).await?, *told, "{user}, made by another daemon");
        }
        adopted.delete().await?;
        audit.assert_clean().await
    });
}

/// The user of a request is a number as well, from wherever it comes.
#[test]
fn a_user_of_a_request_is_that_number_or_refused() {
    place::native(async |place| {
        let node = Node::start(&place, Engine::Berthd).await?;
        let audit = node.audit()?;
        let pod = node.client.run_pod(pod("p")).await?;
        for value in [-1, -2_147_483_648, 4_294_967_295, 4_294_967_296, i64::MAX, i64::MIN] {
            let spec = container("bad").image(&node.image).cmd(["id"]);
            let spec = spec.security(|s| s.run_as_user = Some(Int64Value { value }));
            assert_refused(pod.create(spec).await, Code::InvalidArgument, &["run_as_user"]);
        }
        for name in ["4294967296", "9999999999", "-1", "0x0", "1e0", "root:0", "", "a\nb", "0\0"] {
            let spec = container("bad").image(&node.image).cmd(["id"]);
            let spec = spec.security(|s| {
                s.run_as_username = name.to_owned();
                s.run_as_group = Some(Int64Value { value: 0 });
            });
            assert_refused(pod.create(spec).await, Code::InvalidArgument, &[]);
        }
        pod.delete().await?;
        audit.assert_clean().await
    });
}

/// T-ID-3, for privileged containers, whose sets are full.
#[test]
fn no_capability_is_inherited_by_a_privileged_program_either() {
    place::native(async |place| {
        let node = Node::start(&place, Engine::Berthd).await?;
        let audit = node.audit()?;
        let pod = node.client.run_pod(pod("p").privileged()).await?;
        let spec = |name: &str| container(name).image(&node.image).cmd(["sleep", "inf"]);
        let user = |spec: ContainerSpec, value| {
            spec.security(|s| s.run_as_user = Some(Int64Value { value }))
        };
        for spec in [spec("root").privileged(), user(spec("user").privileged(), 1000)] {
            for status in identities(&pod.run(spec).await?).await? {
                for set in ["CapInh", "CapAmb"] {
                    assert_eq!(field(&status, set), ["0".repeat(16)], "{status}");
                }
            }
        }
        pod.delete().await?;
        audit.assert_clean().await
    });
}

/// T-ID-2: the groups of a bundle are those and no others; negative permissions of a group hold
/// (CVE-2022-36109).
#[test]
fn groups_are_the_ones_of_the_configuration() {
    place::native(async |place| {
        let oci = Oci::begin(&place)?;
        let bundle = oci.bundle("a")?;
        fs::write(bundle.rootfs().join("denied"), "secret")?;
        let script = "grep ^Groups: /proc/self/status; chmod 604 /denied; cat /denied";
        for (gids, expected) in [
            (json!([]), "Groups:\t "),
            (json!([10]), "Groups:\t10 "),
            (json!([4_294_967_294_u32, 1, 1]), "Groups:\t1 1 4294967294 "),
        ] {
            let bundle = bundle.clone().set("/process/user/additionalGids", gids);
            let output = oci.run(&bundle.script(script)).await?;
            assert_eq!(output.stdout.lines().next(), Some(expected), "{output:?}");
        }
        let out = bundle
            .clone()
            .set("/process/user", json!({"uid": 1000, "gid": 50, "additionalGids": [60]}));
        std::os::unix::fs::chown(bundle.rootfs().join("denied"), Some(0), Some(60))?;
        fs::set_permissions(
            bundle.rootfs().join("denied"),
            std::os::unix::fs::PermissionsExt::from_mode(0o604),
        )?;
        let output = oci.run(&out.script("cat /denied")).await?;
        assert!(output.code != 0 && output.stderr.contains("denied"), "{output:?}");
        for bad in [json!([-1]), json!([4_294_967_296_u64]), json!(["root"])] {
            let bundle = bundle.clone().set("/process/user/additionalGids", bad);
            assert!(oci.run(&bundle.script("echo ran")).await?.stdout.is_empty());
        }
        oci.assert_clean().await
    });
}

/// T-ID-4: CVE-2022-4318, CVE-2026-15809. Nothing of an environment gets into the image's files.
#[test]
fn no_variable_makes_a_line_of_passwd() {
    const EVIL: &str = "/\nroot2::0:0::/:/bin/sh";
    place::native(async |place| {
        let node = Node::start(&place, Engine::Berthd).await?;
        let builder = Image::busybox()?.compression(Compression::None);
        let builder = builder.env("HOME", EVIL).env("HOSTNAME", EVIL).env("USER", "a:b\nc");
        let image = node.registry.push("evil:1", &builder.user("4242").build()?).await?;
        node.client.pull(&image).await?;
        let audit = node.audit()?;
        let pod = node.client.run_pod(pod("p")).await?;
        let sums = "md5sum /etc/passwd /etc/group";
        let plain = pod.run(container("plain").image(&node.image).cmd(["sleep", "inf"])).await?;
        let before = plain.shell(sums).await?;
        let hosts = plain.shell("cat /etc/hosts /etc/hostname").await?;
        let spec = container("evil").image(&image).cmd(["sleep", "inf"]);
        for spec in [
            spec.clone(),
            spec.env("HOME", &format!("{EVIL}\\nroot3::0:0::/:/bin/sh"))
                .env("USER", "root3::0:0")
                .with(|config| config.metadata.get_or_insert_default().name = "worse".into()),
        ] {
            let app = pod.run(spec).await?;
            assert_eq!(app.shell(sums).await?, before);
            assert_eq!(app.shell("cat /etc/hosts /etc/hostname").await?, hosts);
            let id = app.shell("id -u; [ \"$HOME\" != / ] && echo kept").await?;
            assert_eq!(id, "4242\nkept\n", "the variable is what it is, and nothing more");
        }
        for (key, value) in [("A", "x\0y"), ("A\0", "x"), ("A=B", "x"), ("", "x")] {
            let spec = container("nul").image(&node.image).cmd(["true"]).env(key, value);
            assert_refused(pod.create(spec).await, Code::InvalidArgument, &["config.envs[0]"]);
        }
        pod.delete().await?;
        audit.assert_clean().await
    });
}

/// A host name is a line of a file of ours.
#[test]
fn no_host_name_makes_a_line_of_a_file() {
    place::native(async |place| {
        let node = Node::start(&place, Engine::Berthd).await?;
        let audit = node.audit()?;
        for name in ["a\nb", "a\0b", "a b", "a\tb", "a\rb", "a\u{a0}b"] {
            let spec = pod("p").with(|config| config.hostname = name.to_owned());
            assert_refused(node.client.run_pod(spec).await, Code::InvalidArgument, &["hostname"]);
        }
        audit.assert_clean().await
    });
}

/// Each container's records are made of its own request: what one is told, no other has.
#[test]
fn capabilities_of_one_are_not_anothers() {
    place::native(async |place| {
        let oci = Oci::begin(&place)?;
        let sets = json!({"bounding": ["CAP_CHOWN"], "effective": ["CAP_CHOWN"],
            "permitted": ["CAP_CHOWN"]});
        let bundle = oci.bundle("a")?.set("/process/capabilities", sets);
        oci.start(&bundle.args(&["/bin/sleep", "1000"])).await?;
        let status = oci.exec("a", "cat /proc/self/status").await?;
        let own: BTreeMap<_, _> = ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"]
            .map(|set| (set, field(&status, set)))
            .into();
        let one = vec![format!("{:016x}", 1)];
        for (set, value) in &own {
            let empty = ["CapInh", "CapAmb"].contains(set);
            assert_eq!(*value, if empty { vec!["0".repeat(16)] } else { one.clone() }, "{set}");
        }
        // Those of a command are added, and not to what is inherited (CVE-2025-27612).
        let words = ["exec", "--cap", "CAP_KILL", "a", "/bin/cat", "/proc/self/status"];
        let status = oci.ok(&words).await?;
        assert_eq!(field(&status, "CapEff"), [format!("{:016x}", 1 | 1 << 5)]);
        for set in ["CapInh", "CapAmb"] {
            assert_eq!(field(&status, set), ["0".repeat(16)], "{set}");
        }
        oci.delete("a").await?;
        oci.assert_clean().await
    });
}
