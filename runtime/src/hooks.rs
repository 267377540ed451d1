//! Runs the hooks of a container: programs of others at fixed points of its life.
//!
//! A hook gets the container's state as JSON on its standard input, in a sealed memory file: it
//! may read it or not, and nobody waits for it to. Its environment is what its specification
//! says and no more, because variables of an image would be instructions to a program that
//! has our privileges (CVE-2025-23266). It leads a process group, which is killed as a whole when
//! its time is up.
//!
//! ```text
//! who runs it     kind             namespaces, directory         the container is
//! parent          prestart         ours, the bundle              creating
//! parent          createRuntime    ours, the bundle              creating
//! the container   createContainer  its own, its root as seen     creating
//!                                  from the host's
//! the container   startContainer   its own, its working one      created
//! parent          poststart        ours, the bundle              running
//! parent          poststop         ours, the bundle              stopped
//! ```
//!
//! Nothing here needs an async runtime or a second thread.

mod run;

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::path::Path;
use std::process::Command;

use serde::Serialize;

use crate::error::Error;
use crate::plan::{About, Hook};

/// A point of a container's life at which hooks run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// The old name of `createRuntime`.
    Prestart,
    /// The namespaces exist.
    CreateRuntime,
    /// All is mounted, the root is not yet changed.
    CreateContainer,
    /// The program is about to be executed.
    StartContainer,
    /// The program runs.
    Poststart,
    /// The container is gone.
    Poststop,
}

impl Kind {
    /// All of them, in the order in which they come.
    pub const ALL: [Self; 6] = [
        Self::Prestart,
        Self::CreateRuntime,
        Self::CreateContainer,
        Self::StartContainer,
        Self::Poststart,
        Self::Poststop,
    ];

    /// What the container's state is called at that point.
    pub fn status(self) -> &'static str {
        match self {
            Self::Prestart | Self::CreateRuntime | Self::CreateContainer => "creating",
            Self::StartContainer => "created",
            Self::Poststart => "running",
            Self::Poststop => "stopped",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Prestart => "prestart",
            Self::CreateRuntime => "createRuntime",
            Self::CreateContainer => "createContainer",
            Self::StartContainer => "startContainer",
            Self::Poststart => "poststart",
            Self::Poststop => "poststop",
        })
    }
}

/// A container's state, in the words of the OCI specification (`runtime.md`, State).
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct StateJson {
    /// Version of the specification that the bundle complies with.
    pub oci_version: String,
    /// The container's id.
    pub id: String,
    /// `creating`, `created`, `running` or `stopped`.
    pub status: String,
    /// PID of its first process, as the hook sees it; left out if there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pid: Option<i32>,
    /// Absolute path of its bundle.
    pub bundle: String,
    /// Its annotations.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

impl StateJson {
    /// The state of a container at the point of `kind`.
    pub fn new(about: &About, kind: Kind, pid: Option<i32>) -> Self {
        Self {
            oci_version: about.oci_version.clone(),
            id: about.id.clone(),
            status: kind.status().to_owned(),
            pid,
            bundle: about.bundle.clone(),
            annotations: about.annotations.clone(),
        }
    }
}

/// A hook that failed.
#[derive(Debug)]
pub(crate) struct Fault {
    /// Which.
    pub(crate) index: usize,
    /// Its program, and how it failed.
    pub(crate) cause: io::Error,
}

/// Runs `hooks` one after the other, in the bundle.
///
/// The first failure ends it, but not with [`Kind::Poststop`]: there every hook has its turn,
/// since the container is gone in any case.
///
/// # Errors
/// [`Error::Hook`] with the first hook that failed.
pub fn run_all(kind: Kind, hooks: &[Hook], state: &StateJson) -> Result<(), Error> {
    let directory = Some(Path::new(&state.bundle)).filter(|path| path.is_absolute());
    run_each(kind, hooks, state, directory, &|_| Ok(())).map_err(|fault| Error::Hook {
        kind,
        index: fault.index,
        cause: fault.cause.to_string(),
    })
}

/// As [`run_all`], in `directory` or, without one, where this process is. `confine` has a say in
/// how each is started.
pub(crate) fn run_each(
    kind: Kind,
    hooks: &[Hook],
    state: &StateJson,
    directory: Option<&Path>,
    confine: &dyn Fn(&mut Command) -> io::Result<()>,
) -> Result<(), Fault> {
    if hooks.is_empty() {
        return Ok(());
    }
    let state = serde_json::to_vec(state).unwrap_or_default();
    let mut first = Ok(());
    for (index, hook) in hooks.iter().enumerate() {
        let ran = run::run(hook, &state, directory, confine);
        first = first.and(ran.map_err(|cause| Fault { index, cause }));
        if first.is_err() && kind != Kind::Poststop {
            break;
        }
    }
    first
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Hook {
        let args = ["sh", "-c", script].map(str::to_owned).to_vec();
        Hook { path: "/bin/sh".to_owned(), args, ..Hook::default() }
    }

    fn state(bundle: &Path) -> StateJson {
        let about = About {
            oci_version: "1.3.0".to_owned(),
            id: "c1".to_owned(),
            bundle: bundle.to_str().unwrap().to_owned(),
            annotations: [("a.b".to_owned(), "c".to_owned())].into(),
        };
        StateJson::new(&about, Kind::CreateRuntime, Some(42))
    }

    #[test]
    fn a_hook_reads_the_state_in_the_bundle() {
        let bundle = tempfile::tempdir().unwrap();
        run_all(Kind::CreateRuntime, &[shell("/bin/cat > told")], &state(bundle.path())).unwrap();
        let told = std::fs::read(bundle.path().join("told")).unwrap();
        let told: serde_json::Value = serde_json::from_slice(&told).unwrap();
        let expected = serde_json::json!({
            "ociVersion": "1.3.0", "id": "c1", "status": "creating", "pid": 42,
            "bundle": bundle.path(), "annotations": {"a.b": "c"},
        });
        assert_eq!(told, expected);
    }

    #[test]
    fn the_first_failure_ends_it() {
        let bundle = tempfile::tempdir().unwrap();
        let hooks = [shell("exit 0"), shell("echo no >&2; exit 3"), shell("echo > ran")];
        let error = run_all(Kind::Prestart, &hooks, &state(bundle.path())).unwrap_err();
        let text = error.to_string();
        assert!(text.starts_with("error running prestart hook #1: /bin/sh: "), "{text}");
        assert!(text.ends_with("exit status 3, stderr: no"), "{text}");
        assert!(!bundle.path().join("ran").exists());
    }

    #[test]
    fn after_the_end_every_hook_has_its_turn() {
        let bundle = tempfile::tempdir().unwrap();
        let hooks = [shell("exit 1"), shell("echo > ran"), shell("exit 2")];
        let error = run_all(Kind::Poststop, &hooks, &state(bundle.path())).unwrap_err();
        assert!(error.to_string().contains("hook #0"), "{error}");
        assert!(bundle.path().join("ran").exists());
    }
}
