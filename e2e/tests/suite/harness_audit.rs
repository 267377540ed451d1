//! The auditor itself: an idle place is clean, and one stray of each kind is found.

use std::fs;
use std::process::{Command, Stdio};

use anyhow::{Result, ensure};
use berth_e2e::audit::{Audit, Class, Scope};
use berth_e2e::place::{self, Place};
use berth_e2e::wait;

fn run(command: &str) -> Result<()> {
    let status = Command::new("sh").args(["-c", command]).status()?;
    ensure!(status.success(), "`{command}` ended with {status}");
    Ok(())
}

#[test]
fn an_idle_place_is_clean() {
    place::native(async |place| {
        let audit = Audit::begin(scope(&place)?)?;
        audit.assert_clean().await
    });
}

fn scope(place: &Place) -> Result<Scope> {
    let permanent = vec![(Class::Link, "kept0".into())];
    Ok(Scope { dirs: vec![place.dir("state")?], permanent, ..Scope::default() })
}

#[test]
fn one_stray_of_each_kind_is_found() {
    place::native(async |place| {
        // They end with this process; until then they are strays.
        let sleeper = || Command::new("sleep").arg("1000000").stdin(Stdio::null()).spawn();
        sleeper()?;
        let state = place.dir("state")?.join("sandboxes");
        fs::create_dir(&state)?;
        let audit = Audit::begin(scope(&place)?)?;

        for leak in [
            "mount -t tmpfs tmpfs /mnt && mount -t tmpfs tmpfs /mnt",
            "mkdir -p /run/netns && touch /run/netns/cni-1234",
            "ip link add veth0 type veth peer name veth1",
            "ip link add kept0 type bridge",
            "iptables -t nat -A POSTROUTING -s 10.88.1.2 -j ACCEPT \
             -m comment --comment 'name: \"e2e1\" id: \"1234\"'",
            "mkdir -p /sys/fs/cgroup/pods/pod1234",
            "mkdir -p /var/lib/cni/networks/e2e1 && cd /var/lib/cni/networks/e2e1 && \
             touch 10.88.1.2 lock last_reserved_ip.0",
        ] {
            run(leak)?;
        }
        sleeper()?;
        fs::write(state.join("1234"), "")?;
        let _unix = std::os::unix::net::UnixListener::bind(place.scratch().join("shim.sock"))?;
        let _tcp = std::net::TcpListener::bind("127.0.0.1:8080")?;
        // Nobody waits for it: a zombie.
        Command::new("true").spawn()?;
        let zombie = (Class::Process, "zombie true".to_owned());
        wait::until("it is dead", std::time::Duration::from_secs(5), async || {
            let strays = audit.strays()?;
            Ok(strays.iter().any(|s| (s.class, &s.what) == (zombie.0, &zombie.1)).then_some(()))
        })
        .await?;

        let strays = audit.strays()?;
        let rule = "-A POSTROUTING -s 10.88.1.2/32 -m comment \
                    --comment \"name: \\\"e2e1\\\" id: \\\"1234\\\"\" -j ACCEPT";
        let (dir, socket) = (state.display(), place.scratch().display());
        let expected = [
            (Class::Mount, "/mnt (tmpfs /)".to_owned(), 2),
            (Class::Namespace, "/run/netns/cni-1234".to_owned(), 1),
            (Class::Link, "veth0".to_owned(), 1),
            (Class::Link, "veth1".to_owned(), 1),
            (Class::Rule, rule.to_owned(), 1),
            (Class::Cgroup, "/pods".to_owned(), 1),
            (Class::Cgroup, "/pods/pod1234".to_owned(), 1),
            (Class::Process, "sleep 1000000".to_owned(), 1),
            (Class::Process, "zombie true".to_owned(), 1),
            (Class::Cni, "/var/lib/cni/networks/e2e1/10.88.1.2".to_owned(), 1),
            (Class::File, format!("{dir}/1234"), 1),
            (Class::Socket, "tcp 127.0.0.1:8080".to_owned(), 1),
            (Class::Socket, format!("unix {socket}/shim.sock"), 1),
        ];
        let mut found: Vec<_> = strays.into_iter().map(|s| (s.class, s.what, s.more)).collect();
        found.sort();
        assert_eq!(found, expected);
        Ok(())
    });
}

#[test]
fn what_is_gone_is_told_as_well() {
    place::native(async |place| {
        let file = place.dir("state")?.join("record");
        fs::write(&file, "")?;
        let audit = Audit::begin(scope(&place)?)?;
        fs::remove_file(&file)?;
        let strays = audit.strays()?;
        assert_eq!(strays.len(), 1);
        assert_eq!(strays[0].to_string(), format!("File {} (-1)", file.display()));
        Ok(())
    });
}
