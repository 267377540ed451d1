//! The machine itself: that what the suite relies on works here, and is not merely switched on.

use std::fs;
use std::process::{Command, Output};

use anyhow::{Context, Result, ensure};
use berth_e2e::place;

/// `.ci/machine` asks this test whether it needs to boot a machine.
#[test]
fn this_is_a_whole_machine() {
    place::full_machine(async |place| {
        for name in ["cpu", "cpuset", "hugetlb", "io", "memory", "pids"] {
            assert!(place.has_controller(name), "no {name}");
        }
        Ok(())
    });
}

#[test]
fn criu_finds_all_that_it_needs() {
    place::full_machine(async |_| {
        let said = run(Command::new("criu").arg("check"))?;
        assert!(String::from_utf8_lossy(&said.stdout).contains("Looks good"), "{said:?}");
        Ok(())
    });
}

/// A profile is loaded from here, and the kernel enforces it.
#[test]
fn apparmor_confines() {
    place::full_machine(async |place| {
        let profile = place.scratch().join("profile");
        let text = "profile e2e-confines { file, deny /etc/hostname r, }\n";
        fs::write(&profile, text)?;
        run(Command::new("apparmor_parser").arg("--replace").arg(&profile))?;
        let told = Command::new("aa-exec")
            .args(["-p", "e2e-confines", "--", "cat", "/etc/hostname"])
            .output()
            .context("run aa-exec")?;
        run(Command::new("apparmor_parser").arg("--remove").arg(&profile))?;
        assert!(!told.status.success());
        assert!(String::from_utf8_lossy(&told.stderr).contains("Permission denied"), "{told:?}");
        Ok(())
    });
}

#[test]
fn systemd_answers() {
    place::beside_systemd(async |_| {
        run(Command::new("systemctl").args(["show", "--property", "Version"]))?;
        run(Command::new("busctl").args(["status", "org.freedesktop.systemd1"]))?;
        Ok(())
    });
}

fn run(command: &mut Command) -> Result<Output> {
    let output = command.output().with_context(|| format!("start {command:?}"))?;
    ensure!(output.status.success(), "{command:?}: {output:?}");
    Ok(output)
}
