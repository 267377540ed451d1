//! The bundle of a container that a foreign runtime runs, and the errands that it is run by.
//!
//! ```text
//! BUNDLES/ID/          0700
//!   config.json        the specification, as the runtime gets it
//!   rootfs/  shm/      where the errand attaches the root and the pod's shared memory
//!   ns/KIND            where it binds the namespaces of the pod
//!   log  pid  tty      what the runtime says, the PID of what it has made, its terminal
//!   exec-N.json …      the same of an exec
//! ```
//!
//! The runtime only joins the container's cgroup, which is ours with all its limits: so they are
//! the same whichever runtime there is, and an update needs no runtime. Only the devices are said
//! twice, because a runtime allows few of its own accord.

use std::fs;
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use oci_spec::runtime::{Linux, LinuxResources, Process, Spec};

use crate::cgroup::CgroupPath;
use crate::error::{Error, Storing as _};
use crate::plan::{Handle, Root, Shared};
use crate::record::make_private_directory;
use crate::spec::{self, Member, Rootfs};

use super::Runtime;
use super::command::text;
use super::errand::{Errand, Pin, Share};

/// What a bundle is made from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Order<'a> {
    /// The container's id.
    pub(crate) id: &'a str,
    /// What runs, and in what.
    pub(crate) oci: &'a Spec,
    /// The environment, in place of the specification's.
    pub(crate) env: &'a [Vec<u8>],
    /// The root file system.
    pub(crate) rootfs: &'a Rootfs,
    /// The cgroup, which exists.
    pub(crate) cgroup: &'a CgroupPath,
    /// Processes of the pod, in the order of their handles.
    pub(crate) members: &'a [Member],
    /// The lowest `oom_score_adj` that the host can give; any if absent.
    pub(crate) lowest_oom_score: Option<i32>,
}

/// A bundle, by its directory.
#[derive(Clone, Debug)]
pub(crate) struct Bundle {
    directory: PathBuf,
}

/// What is in a bundle, decided and not yet made.
#[derive(Debug)]
pub(crate) struct Contents {
    config: Spec,
    errand: Errand,
}

impl Bundle {
    /// The bundle of container `id`.
    pub(crate) fn of(bundles: &Path, id: &str) -> Self {
        Self { directory: bundles.join(id) }
    }

    /// What the runtime says of calls for the container itself.
    pub(crate) fn log(&self) -> PathBuf {
        self.directory.join("log")
    }

    /// Decides what a container's bundle holds and how the container is started.
    ///
    /// # Errors
    /// [`Error::Spec`] for what cannot be said to a foreign runtime.
    pub(crate) fn contents(&self, order: &Order<'_>, runtime: &Runtime) -> Result<Contents, Error> {
        let mut errand = Errand {
            root: Some(Root {
                attach: self.file("rootfs")?,
                source: Some(spec::root_source(order.rootfs)?),
                ..Root::default()
            }),
            pid_file: self.file("pid")?,
            ..Errand::default()
        };
        let config = self.config(order, &runtime.oci_version, &mut errand)?;
        let (directory, log) = (text(&self.directory)?, self.file("log")?);
        let mut create = vec!["create", "--bundle", &directory, "--pid-file", &errand.pid_file];
        if config.process().as_ref().and_then(Process::terminal).unwrap_or(false) {
            errand.console = self.file("tty")?;
            create.extend(["--console-socket", &errand.console]);
        }
        create.push(order.id);
        errand.create = runtime.words(&log, &create)?;
        errand.start = runtime.words(&log, &["start", order.id])?;
        Ok(Contents { config, errand })
    }

    /// Makes the bundle.
    pub(crate) fn make(&self, contents: &Contents) -> Result<(), Error> {
        make_private_directory(&self.directory)?;
        for name in ["rootfs", "shm", "ns"] {
            make_private_directory(&self.directory.join(name))?;
        }
        for pin in &contents.errand.pins {
            write(Path::new(&pin.at), b"")?;
        }
        self.write_json("config.json", &contents.config)
    }

    /// Removes the bundle; one that is gone is fine.
    pub(crate) fn remove(&self) -> Result<(), Error> {
        match fs::remove_dir_all(&self.directory) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(error).storing("remove bundle", &self.directory)
            }
            _ => Ok(()),
        }
    }

    /// Decides how a command is added to the container, and writes the file that it needs.
    ///
    /// # Errors
    /// [`Error::Spec`] for what cannot be said to a foreign runtime.
    pub(crate) fn exec(
        &self,
        order: &Order<'_>,
        runtime: &Runtime,
        name: &str,
        args: Vec<String>,
    ) -> Result<Exec, Error> {
        let mut process = process(order)?;
        process.set_args(Some(args)).set_terminal(Some(false));
        let [file, pid_file, log] = ["json", "pid", "log"].map(|kind| format!("{name}.{kind}"));
        self.write_json(&file, &process)?;
        let errand = Errand { pid_file: self.file(&pid_file)?, ..Errand::default() };
        let file = self.file(&file)?;
        let mut verb = vec!["exec", "--detach", "--process", &file];
        verb.extend(["--pid-file", &errand.pid_file]);
        if runtime.exec_cgroup {
            verb.extend(["--cgroup", name]);
        }
        verb.push(order.id);
        let log = self.directory.join(log);
        let create = runtime.words(&text(&log)?, &verb)?;
        let files = [&file, &errand.pid_file].map(PathBuf::from);
        Ok(Exec { errand: Errand { create, ..errand }, log, files })
    }

    fn config(&self, order: &Order<'_>, version: &str, errand: &mut Errand) -> Result<Spec, Error> {
        let mut config = order.oci.clone();
        let mut root = config.root().clone().unwrap_or_default();
        root.set_path(PathBuf::from("rootfs"));
        config
            .set_version(version.to_owned())
            .set_root(Some(root))
            .set_process(Some(process(order)?));
        let missing = || Error::Spec("it has no \"linux\" section".to_owned());
        let mut linux = config.linux().clone().ok_or_else(missing)?;
        self.pin_namespaces(&mut linux, order.members, errand)?;
        let mut devices = LinuxResources::default();
        devices.set_devices(spec::resources(order.oci).devices().clone());
        linux.set_cgroups_path(Some(order.cgroup.as_str().into())).set_resources(Some(devices));
        config.set_linux(Some(linux));
        self.share_mounts(&mut config, order.members, errand)?;
        Ok(config)
    }

    /// A namespace of a member gets a path in the bundle: its own would name another process's
    /// if the member ended now and its PID were given away.
    fn pin_namespaces(
        &self,
        linux: &mut Linux,
        members: &[Member],
        errand: &mut Errand,
    ) -> Result<(), Error> {
        let mut namespaces = linux.namespaces().clone().unwrap_or_default();
        for namespace in &mut namespaces {
            let Some(path) = namespace.path() else { continue };
            let Some((of, name)) = spec::member_of(path, "ns", members) else { continue };
            let (of, name) = (handle(of), text(name)?);
            let at = self.file(&format!("ns/{name}"))?;
            namespace.set_path(Some(PathBuf::from(&at)));
            errand.pins.push(Pin { of, name, at });
        }
        linux.set_namespaces(Some(namespaces));
        Ok(())
    }

    /// A mount of a member (the pod's shared memory) is in another mount namespace, from which a
    /// runtime could not bind it.
    fn share_mounts(
        &self,
        config: &mut Spec,
        members: &[Member],
        errand: &mut Errand,
    ) -> Result<(), Error> {
        let mut mounts = config.mounts().clone().unwrap_or_default();
        for mount in &mut mounts {
            let Some(source) = mount.source() else { continue };
            let Some((of, rest)) = spec::member_of(source, "root", members) else { continue };
            if !errand.shares.is_empty() {
                let why = "a second mount of the pod's is more than a bundle holds".to_owned();
                return Err(Error::Spec(why));
            }
            let (what, at) =
                (Shared { of: handle(of), path: format!("/{}", text(rest)?) }, self.file("shm")?);
            mount.set_source(Some(PathBuf::from(&at)));
            errand.shares.push(Share { what: Some(what), at });
        }
        config.set_mounts(Some(mounts));
        Ok(())
    }

    fn file(&self, name: &str) -> Result<String, Error> {
        text(&self.directory.join(name))
    }

    fn write_json(&self, name: &str, value: &impl serde::Serialize) -> Result<(), Error> {
        let path = self.directory.join(name);
        let bytes = serde_json::to_vec(value).map_err(io::Error::from).storing("encode", &path)?;
        write(&path, &bytes)
    }
}

impl Contents {
    /// How the container is started, in a bundle that is on the mount at `cut_off`.
    pub(crate) fn errand(self, cut_off: &Path) -> Result<Errand, Error> {
        Ok(Errand { cut_off: text(cut_off)?, ..self.errand })
    }
}

/// How a command is added to a container.
#[derive(Debug)]
pub(crate) struct Exec {
    /// What the shim's clone does.
    pub(crate) errand: Errand,
    /// What the runtime says of it.
    pub(crate) log: PathBuf,
    files: [PathBuf; 2],
}

impl Exec {
    /// Removes its files. What stays goes with the bundle.
    pub(crate) fn clean(&self) {
        for file in self.files.iter().chain([&self.log]) {
            let _ = fs::remove_file(file);
        }
    }
}

/// The process, with its whole environment.
fn process(order: &Order<'_>) -> Result<Process, Error> {
    let missing = || Error::Spec("it has no \"process\" section".to_owned());
    let mut process = order.oci.process().clone().ok_or_else(missing)?;
    let env = order.env.iter().enumerate().map(|(index, variable)| {
        String::from_utf8(variable.clone()).map_err(|_| {
            let why = "is not UTF-8, and the runtime takes nothing else";
            Error::Spec(format!("process.env[{index}]: {why}"))
        })
    });
    process.set_env(Some(env.collect::<Result<_, _>>()?));
    if let (Some(asked), Some(lowest)) = (process.oom_score_adj(), order.lowest_oom_score) {
        process.set_oom_score_adj(Some(asked.max(lowest)));
    }
    Ok(process)
}

fn handle(index: usize) -> Handle {
    Handle::try_from(index).unwrap_or(Handle::MAX)
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    let mut options = fs::File::options();
    options.create(true).truncate(true).write(true).mode(0o600);
    let written = options.open(path).and_then(|mut file| io::Write::write_all(&mut file, bytes));
    written.storing("write", path)
}

#[cfg(test)]
mod tests;
