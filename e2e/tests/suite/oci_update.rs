//! `update`: other limits for a container that lives.

use std::io::Write as _;
use std::process::Stdio;

use anyhow::{Context, Result};
use berth_e2e::oci::Oci;
use berth_e2e::place;
use serde_json::json;

fn limit(file: &str) -> Result<String> {
    let path = format!("/sys/fs/cgroup/e2e/a/{file}");
    Ok(std::fs::read_to_string(&path).context(path)?.trim().to_owned())
}

#[test]
fn limits_change_by_flags_and_by_files() {
    place::with_controllers(async |place| {
        let oci = Oci::begin(&place)?;
        let resources = json!({
            "cpu": {"quota": 50_000, "period": 100_000}, "memory": {"limit": 64 << 20},
        });
        let bundle = oci.bundle("a")?.set("/linux/resources", resources);
        oci.start(&bundle.args(&["/bin/sleep", "1000"])).await?;
        oci.ok(&["update", "--memory", "32M", "--pids-limit", "20", "a"]).await?;
        assert_eq!(limit("memory.max")?, (32 << 20).to_string());
        assert_eq!(limit("pids.max")?, "20");
        oci.ok(&["update", "a", "--cpu-period", "200000"]).await?;
        assert_eq!(limit("cpu.max")?, "50000 200000", "the quota is what it was");
        oci.ok(&["update", "--cpu-quota", "-1", "a"]).await?;
        assert_eq!(limit("cpu.max")?, "max 200000", "and the period");
        oci.ok(&["update", "--memory", "-1", "a"]).await?;
        assert_eq!(limit("memory.max")?, "max");

        let mut update = oci.command(&["update", "--resources", "-", "a"]);
        let mut update = update.as_std_mut().stdin(Stdio::piped()).spawn()?;
        let text = br#"{"pids": {"limit": 33}, "cpu": {"shares": 2048}}"#;
        update.stdin.take().context("its input")?.write_all(text)?;
        assert!(update.wait()?.success());
        assert_eq!(limit("pids.max")?, "33");
        assert_eq!(limit("cpu.max")?, "max 200000");

        let refused =
            oci.call(&["update", "--pids-limit", "20", "--cpuset-cpus", "777", "a"]).await?;
        assert!(refused.code != 0, "there is no such processor");
        assert_eq!(limit("pids.max")?, "33", "all or none");
        oci.delete("a").await?;
        oci.assert_clean().await
    });
}

#[test]
fn what_cannot_be_updated_is_refused() {
    place::native(async |place| {
        let oci = Oci::begin(&place)?;
        assert!(oci.call(&["update", "nobody"]).await?.stderr.contains("not found"));
        oci.start(&oci.bundle("a")?.args(&["/bin/sleep", "1000"])).await?;
        oci.ok(&["update", "a"]).await?;
        let file = place.scratch().join("resources");
        let path = file.to_str().context("a path")?;
        for (bad, word) in [("[]", "object"), (r#"{"cpu": {"quota": "x"}}"#, "cpu.quota")] {
            std::fs::write(&file, bad)?;
            let refused = oci.call(&["update", "--resources", path, "a"]).await?;
            assert!(refused.code != 0 && refused.stderr.contains(word), "{refused:?}");
        }
        let rdt = oci.call(&["update", "--l3-cache-schema", "L3:0=f", "a"]).await?;
        assert!(rdt.stderr.contains("linux.intelRdt"), "{rdt:?}");
        std::fs::remove_file(file)?;
        oci.delete("a").await?;
        oci.assert_clean().await
    });
}
