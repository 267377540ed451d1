//! OCI runtimes side by side: `run` of a bundle whose program does nothing, and what a created
//! container costs in memory.

use std::fs::File;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::{Table, Unit};
use crate::daemon::binaries;
use crate::oci::{Bundle, Oci};
use crate::place::Place;
use crate::process;

/// Debian's default profile of seccomp (package `golang-github-containers-common`).
const PROFILE: &str = "/usr/share/containers/seccomp.json";

/// How often bundles are run.
#[derive(Debug, Clone)]
pub struct BundlePlan {
    /// The runtimes, as names of Debian's or `berth-oci`, ours first.
    pub runtimes: Vec<String>,
    /// Runs that count.
    pub rounds: usize,
    /// Runs before them.
    pub warm_ups: usize,
}

/// One runtime, with a root directory of its own.
struct Contender {
    program: PathBuf,
    root: PathBuf,
}

/// Measures, and answers the table.
pub fn run_bundles(place: &Place, plan: &BundlePlan) -> Result<Table> {
    let mut contenders = Vec::new();
    for name in &plan.runtimes {
        let program = match name.as_str() {
            "berth-oci" => binaries::find(name)?,
            other => crate::place::needs::program(other)?,
        };
        contenders.push(Contender { program, root: place.dir(&format!("root-{name}"))? });
    }
    let oci = Oci::begin(place)?;
    let plain = oci.bundle("plain")?.args(&["/bin/true"]);
    let filtered = oci.bundle("filtered")?.args(&["/bin/true"]).set("/linux/seccomp", profile()?);
    let mut table = Table::new(plan.runtimes.iter().map(String::as_str));
    for round in 0..plan.warm_ups + plan.rounds {
        for (engine, contender) in contenders.iter().enumerate() {
            for (row, bundle) in [("run true", &plain), ("run true, seccomp", &filtered)] {
                let time = contender.run(bundle)?;
                if round >= plan.warm_ups {
                    table.push(row, Unit::Milliseconds, engine, time);
                }
            }
        }
    }
    for (engine, contender) in contenders.iter().enumerate() {
        let peak = contender.peak_of_created(&plain)?;
        table.push("peak memory of a created container's process", Unit::Kibibytes, engine, peak);
    }
    Ok(table)
}

impl Contender {
    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command.arg("--root").arg(&self.root).args(words).stdin(Stdio::null());
        command
    }

    /// Milliseconds from the start of the runtime to its end.
    fn run(&self, bundle: &Bundle) -> Result<f64> {
        bundle.write()?;
        let mut command = self.command(&["run", "--bundle", bundle.path(), &bundle.id]);
        command.stdout(Stdio::null()).stderr(Stdio::piped());
        let begun = Instant::now();
        let output = command.output().context("run a bundle")?;
        let time = begun.elapsed();
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{}: {said}", self.program.display());
        Ok(time.as_secs_f64() * 1000.0)
    }

    /// The most resident memory that the process of a created container has had.
    fn peak_of_created(&self, bundle: &Bundle) -> Result<f64> {
        bundle.write()?;
        let pid_file = bundle.dir.join("pid");
        let pid_file = pid_file.to_str().context("a path")?;
        let words = ["create", "--bundle", bundle.path(), "--pid-file", pid_file, &bundle.id];
        let mut create = self.command(&words);
        let errors = File::create(bundle.dir.join("err"))?;
        let created = create.stdout(Stdio::null()).stderr(errors).status()?;
        ensure!(created.success(), "create: {}", bundle.read("err")?);
        let pid = bundle.read("pid")?.trim().parse()?;
        let peak = process::peak_memory(pid)?;
        let deleted = self.command(&["delete", "--force", &bundle.id]).status()?;
        ensure!(deleted.success(), "delete");
        Ok(peak as f64)
    }
}

/// The profile for a container without privileges on this architecture, as a bundle has it.
fn profile() -> Result<Value> {
    let text = std::fs::read(PROFILE).with_context(|| {
        format!("read {PROFILE}; run:\n    apt-get install golang-github-containers-common")
    })?;
    let reference: Value = serde_json::from_slice(&text)?;
    let groups = reference["syscalls"].as_array().context("rules of the profile")?;
    let for_all = |group: &&Value| {
        let list = |key: &str| group["includes"][key].as_array().cloned().unwrap_or_default();
        let arches = list("arches");
        let ours = arches.iter().any(|arch| arch == crate::image::architecture());
        list("caps").is_empty() && (arches.is_empty() || ours)
    };
    let mut rules = Vec::new();
    for group in groups.iter().filter(for_all) {
        let mut rule = json!({"names": group["names"], "action": group["action"]});
        if let Some(args) = group["args"].as_array().filter(|args| !args.is_empty()) {
            rule["args"] = json!(args);
        }
        if group["errnoRet"].is_u64() {
            rule["errnoRet"] = group["errnoRet"].clone();
        }
        rules.push(rule);
    }
    Ok(json!({
        "defaultAction": reference["defaultAction"],
        "defaultErrnoRet": reference["defaultErrnoRet"],
        "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"],
        "syscalls": rules,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reference_becomes_a_profile() {
        let profile = profile().unwrap();
        assert_eq!(profile["defaultAction"], "SCMP_ACT_ERRNO");
        assert!(profile["syscalls"].as_array().unwrap().len() > 3);
    }
}
