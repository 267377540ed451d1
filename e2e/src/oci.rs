//! Bundles run by `berth-oci`, as an engine runs them by any OCI runtime.
//!
//! `E2E_OCI=/usr/bin/crun` (or runc, or youki) runs the same tests by another one: what fails
//! there is our misreading, or a peer's fault worth naming.

use std::fs::File;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tokio::process::Command;

use crate::audit::{Audit, Scope};
use crate::berth::output;
use crate::client::Output;
use crate::daemon::binaries;
use crate::image::Layer;
use crate::place::{Kind, Place};

/// A runtime with a root directory of its own, and an audit of all that it leaves.
#[derive(Debug)]
pub struct Oci {
    program: PathBuf,
    options: Vec<String>,
    root: PathBuf,
    bundles: PathBuf,
    audit: Audit,
}

impl Oci {
    /// Begins with nothing.
    pub fn begin(place: &Place) -> Result<Self> {
        let program = match std::env::var_os("E2E_OCI") {
            Some(path) => path.into(),
            None => binaries::find("berth-oci")?,
        };
        let (root, bundles) = (place.dir("oci")?, place.dir("bundles")?);
        let services = place.kind() == Kind::Systemd;
        let scope = Scope { dirs: vec![root.clone()], services, ..Scope::default() };
        Ok(Self { program, options: Vec::new(), root, bundles, audit: Audit::begin(scope)? })
    }

    /// Runs another copy of the program, for who means to damage it.
    #[must_use]
    pub fn program(mut self, path: PathBuf) -> Self {
        self.program = path;
        self
    }

    /// Gives every command an option, such as `--systemd-cgroup`.
    #[must_use]
    pub fn option(mut self, option: &str) -> Self {
        self.options.push(option.to_owned());
        self
    }

    /// A bundle with busybox as its root file system and a usual configuration.
    pub fn bundle(&self, id: &str) -> Result<Bundle> {
        self.bundle_of(id, &Layer::busybox()?)
    }

    /// A bundle with a root file system of the test's making.
    pub fn bundle_of(&self, id: &str, root: &Layer) -> Result<Bundle> {
        let dir = self.bundles.join(id);
        let rootfs = dir.join("rootfs");
        std::fs::create_dir_all(&rootfs).context("make a bundle")?;
        let tar = root.tar()?;
        let mut archive = tar::Archive::new(tar.as_slice());
        archive.set_preserve_permissions(true);
        archive.set_preserve_ownerships(true);
        archive.unpack(&rootfs).context("unpack a root file system")?;
        Ok(Bundle { id: id.to_owned(), dir, spec: usual(id) })
    }

    /// A command of the runtime that the test starts itself.
    pub fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command.arg("--root").arg(&self.root).args(&self.options);
        command.args(words).stdin(Stdio::null()).kill_on_drop(true);
        command
    }

    /// Runs a command, and answers how it ended. Not for what leaves a process with its streams.
    pub async fn call(&self, words: &[&str]) -> Result<Output> {
        output(self.command(words)).await.with_context(|| words.join(" "))
    }

    /// Runs a command that must end with 0, and answers its standard output.
    pub async fn ok(&self, words: &[&str]) -> Result<String> {
        let output = self.call(words).await?;
        ensure!(output.code == 0, "{}: {output:?}", words.join(" "));
        Ok(output.stdout)
    }

    /// `run`: answers how the container's program ended.
    pub async fn run(&self, bundle: &Bundle) -> Result<Output> {
        bundle.write()?;
        self.call(&["run", "--bundle", bundle.path(), &bundle.id]).await
    }

    /// `run` of a shell script that must end with 0; answers its standard output.
    pub async fn script(&self, bundle: Bundle, script: &str) -> Result<String> {
        let output = self.run(&bundle.script(script)).await?;
        ensure!(output.code == 0, "{script}: {output:?}");
        Ok(output.stdout)
    }

    /// `create`; the container's output goes to the files `out` and `err` of the bundle.
    pub async fn create(&self, bundle: &Bundle) -> Result<()> {
        let created = self.try_create(bundle).await?;
        ensure!(created.code == 0, "create: {created:?}");
        Ok(())
    }

    /// `create` that may fail; its own standard error is the container's.
    pub async fn try_create(&self, bundle: &Bundle) -> Result<Output> {
        bundle.write()?;
        let mut command = self.command(&["create", "--bundle", bundle.path(), &bundle.id]);
        let file = |name: &str| File::create(bundle.dir.join(name)).context("make a file");
        let status = command.stdout(file("out")?).stderr(file("err")?).status().await?;
        let code = status.code().unwrap_or(-1);
        Ok(Output { code, stdout: bundle.read("out")?, stderr: bundle.read("err")? })
    }

    /// `create` and `start`.
    pub async fn start(&self, bundle: &Bundle) -> Result<()> {
        self.create(bundle).await?;
        self.ok(&["start", &bundle.id]).await.map(drop)
    }

    /// `exec` of a shell script that must end with 0; answers its standard output.
    pub async fn exec(&self, id: &str, script: &str) -> Result<String> {
        self.ok(&["exec", id, "/bin/sh", "-c", script]).await
    }

    /// `state`, as JSON.
    pub async fn state(&self, id: &str) -> Result<Value> {
        serde_json::from_str(&self.ok(&["state", id]).await?).context("parse a state")
    }

    /// `delete --force`.
    pub async fn delete(&self, id: &str) -> Result<()> {
        self.ok(&["delete", "--force", id]).await.map(drop)
    }

    /// Fails unless the place is as it was at the beginning.
    pub async fn assert_clean(&self) -> Result<()> {
        self.audit.assert_clean().await
    }
}

/// A directory with a configuration and a root file system.
#[derive(Debug, Clone)]
pub struct Bundle {
    /// Id of the container that is made of it.
    pub id: String,
    /// The directory.
    pub dir: PathBuf,
    /// The configuration.
    pub spec: Value,
}

impl Bundle {
    /// Has it run a shell script.
    pub fn script(self, script: &str) -> Self {
        self.args(&["/bin/sh", "-c", script])
    }

    /// Has it run a command.
    pub fn args(self, args: &[&str]) -> Self {
        self.set("/process/args", json!(args))
    }

    /// Sets what a JSON pointer names; what is missing on the way to it is made.
    #[must_use]
    pub fn set(mut self, pointer: &str, value: Value) -> Self {
        let mut place = &mut self.spec;
        for name in pointer.split('/').skip(1) {
            place = match place {
                Value::Array(list) => {
                    let index = name.parse().unwrap_or(list.len());
                    if index >= list.len() {
                        list.push(Value::Null);
                    }
                    let last = list.len() - 1;
                    &mut list[index.min(last)]
                }
                other => &mut other[name],
            };
        }
        *place = value;
        self
    }

    /// Adds a mount.
    #[must_use]
    pub fn mount(self, destination: &str, kind: &str, source: &str, options: &[&str]) -> Self {
        let mount = json!({
            "destination": destination, "type": kind, "source": source, "options": options,
        });
        self.set("/mounts/-", mount)
    }

    /// Removes what a JSON pointer names.
    #[must_use]
    pub fn unset(mut self, pointer: &str) -> Self {
        let (parent, name) = pointer.rsplit_once('/').unwrap_or(("", pointer));
        match self.spec.pointer_mut(parent) {
            Some(Value::Object(object)) => drop(object.remove(name)),
            Some(Value::Array(list)) => {
                if let Some(index) = name.parse().ok().filter(|index| *index < list.len()) {
                    list.remove(index);
                }
            }
            _ => {}
        }
        self
    }

    /// The root file system.
    pub fn rootfs(&self) -> PathBuf {
        self.dir.join("rootfs")
    }

    /// The directory, as a word of a command line.
    pub fn path(&self) -> &str {
        self.dir.to_str().unwrap_or_default()
    }

    /// Writes the configuration.
    pub fn write(&self) -> Result<()> {
        let text = serde_json::to_vec_pretty(&self.spec)?;
        std::fs::write(self.dir.join("config.json"), text).context("write config.json")
    }

    /// Reads a file of the bundle.
    pub fn read(&self, name: &str) -> Result<String> {
        std::fs::read_to_string(self.dir.join(name)).with_context(|| format!("read {name}"))
    }

    /// Puts a program of the machine, which must be static, into the root file system.
    pub fn install(&self, program: &Path, to: &str) -> Result<()> {
        let target = self.rootfs().join(to.trim_start_matches('/'));
        std::fs::copy(program, &target).context("install a program")?;
        std::fs::set_permissions(target, std::fs::Permissions::from_mode(0o755))
            .context("make it executable")
    }
}

/// What most containers have, written down by somebody who does not know our template.
fn usual(id: &str) -> Value {
    let capabilities = [
        "CAP_CHOWN",
        "CAP_DAC_OVERRIDE",
        "CAP_FOWNER",
        "CAP_KILL",
        "CAP_SETGID",
        "CAP_SETUID",
        "CAP_NET_BIND_SERVICE",
    ];
    let kinds = ["pid", "network", "ipc", "uts", "mount", "cgroup"];
    json!({
        "ociVersion": "1.0.2",
        "process": {
            "user": {"uid": 0, "gid": 0},
            "args": ["/bin/true"],
            "env": ["PATH=/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root"],
            "cwd": "/",
            "capabilities": {
                "bounding": capabilities, "effective": capabilities, "permitted": capabilities,
            },
            "noNewPrivileges": true,
        },
        "root": {"path": "rootfs"},
        "hostname": "bundle",
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc"},
            {"destination": "/dev", "type": "tmpfs", "source": "tmpfs",
             "options": ["nosuid", "strictatime", "mode=755", "size=65536k"]},
            {"destination": "/dev/pts", "type": "devpts", "source": "devpts",
             "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]},
            {"destination": "/sys", "type": "sysfs", "source": "sysfs",
             "options": ["nosuid", "noexec", "nodev", "ro"]},
        ],
        "linux": {
            "cgroupsPath": format!("/e2e/{id}"),
            "namespaces": kinds.map(|kind| json!({"type": kind})),
            "maskedPaths": ["/proc/kcore", "/proc/keys", "/sys/firmware"],
            "readonlyPaths": ["/proc/sys", "/proc/sysrq-trigger"],
        },
    })
}
