//! `berth audit`: what stands on the node without a record is named, kind by kind, and a node in
//! full use is clean.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, ensure};
use berth_e2e::berth::Berth;
use berth_e2e::client::{container, pod};
use berth_e2e::daemon::{Engine, Setup};
use berth_e2e::node::Node;
use berth_e2e::{network, place};
use rustix::fs::XattrFlags;
use rustix::mount::{UnmountFlags, mount_bind, unmount};
use serde_json::Value;

const CGROUPS: &str = "/sys/fs/cgroup";
/// A container that never was.
const NOBODY: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

async fn audited(berth: &Berth) -> Result<(i32, Value)> {
    let output = berth.run(&["audit", "-o", "json"]).await?;
    Ok((output.code, serde_json::from_str(&output.stdout)?))
}

/// The cgroup of a removed container, of which somebody has lost track: it carries berthd's mark.
fn stray_cgroup(path: &Path, owner: &Path) -> Result<()> {
    std::fs::create_dir(path)?;
    let owner = owner.as_os_str().as_encoded_bytes();
    Ok(rustix::fs::setxattr(path, "trusted.berth", owner, XattrFlags::empty())?)
}

fn run(command: &str) -> Result<()> {
    let status = Command::new("sh").args(["-c", command]).status()?;
    ensure!(status.success(), "`{command}` ended with {status}");
    Ok(())
}

#[test]
fn each_kind_of_stray_is_named_beside_a_pod_that_is_none() {
    place::native(async |place| {
        // Without masquerading: bridge cannot undo that once the namespace is gone.
        let network = network::bridge(1).install(&place)?;
        let node = Node::start_with(&place, Setup::new(Engine::Berthd).network(&network)).await?;
        let (audit, berth) = (node.audit()?, Berth::of(&node.daemon)?);
        let pod = node.client.run_pod(pod("p")).await?;
        let app = pod.run(container("app").image(&node.image).cmd(["sleep", "inf"])).await?;
        let created = pod.create(container("created").image(&node.image).cmd(["true"])).await?;
        let (code, told) = audited(&berth).await?;
        assert_eq!((code, &told["strays"]), (0, &Value::Array(Vec::new())), "a pod is no stray");
        assert!(told["checked"]["cgroup"].as_u64() > Some(0), "{told}");

        let dirs = node.daemon.dirs();
        let sandboxes = dirs.state.join("sandboxes");
        let stray = sandboxes.join(NOBODY);
        let netns = stray.join("netns");
        std::fs::create_dir(&stray)?;
        std::fs::write(&netns, "")?;
        mount_bind("/proc/self/ns/net", &netns)?;
        let cgroup_of_app = app.info().await?["cgroup"].as_str().unwrap_or_default().to_owned();
        let beside = Path::new(&cgroup_of_app).with_file_name(NOBODY);
        let cgroup = PathBuf::from(format!("{CGROUPS}{}", beside.display()));
        stray_cgroup(&cgroup, &dirs.state)?;
        let address = "/var/lib/cni/networks/e2e1/10.88.1.99";
        std::fs::write(address, format!("{NOBODY}\r\neth0"))?;
        run("ip link add lost0 type veth peer name lost1 && ip link set lost0 master e2e1")?;
        let ingest = dirs.root.join("images/stray");
        std::fs::create_dir(&ingest)?;

        let (code, told) = audited(&berth).await?;
        assert_eq!(code, 1);
        let strays = told["strays"].as_array().cloned().unwrap_or_default();
        let named = |class: &str, object: &str| {
            let is_it = |stray: &&Value| {
                let text = stray["object"].as_str().unwrap_or_default();
                stray["class"] == class && text.contains(object)
            };
            strays.iter().filter(is_it).count()
        };
        let text = |path: &Path| path.to_string_lossy().into_owned();
        for (class, object) in [
            ("file", NOBODY),
            ("mount", &text(&netns)),
            ("cgroup", &text(&beside)),
            ("ipam", address),
            ("link", "lost0"),
            ("file", &text(&ingest)),
        ] {
            assert_eq!(named(class, object), 1, "{class} {object}: {told:#}");
        }
        assert_eq!(strays.len(), 6, "{told:#}");
        // What is on record and was taken away is told as well.
        let pin = PathBuf::from(pod.info().await?["netns"].as_str().unwrap_or_default());
        unmount(&pin, UnmountFlags::DETACH)?;
        let home = created.info().await?["cgroup"].as_str().unwrap_or_default().to_owned();
        std::fs::remove_dir(format!("{CGROUPS}{home}"))?;
        let (_, told) = audited(&berth).await?;
        let strays = told["strays"].as_array().cloned().unwrap_or_default();
        for (class, object) in [("netns", text(&pin)), ("cgroup", home)] {
            let lost = |stray: &Value| stray["class"] == class && stray["object"] == object;
            assert!(strays.iter().any(lost), "{class} {object}: {told:#}");
        }

        let table = berth.run(&["audit"]).await?;
        assert_eq!((table.code, table.stdout.contains("lost0")), (1, true), "{table:?}");

        unmount(&netns, UnmountFlags::DETACH)?;
        std::fs::remove_dir_all(&stray)?;
        std::fs::remove_dir(&cgroup)?;
        std::fs::remove_file(address)?;
        std::fs::remove_dir(&ingest)?;
        run("ip link delete lost0")?;
        pod.delete().await?;
        audit.assert_clean().await
    });
}
