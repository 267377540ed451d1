//! Credentials of the node itself: for pulls to which the kubelet sends none, and for mirrors, for
//! which it never does.
//!
//! ```text
//! a host ──► auth files (auth.d/*.json, as of docker login or podman login)
//!        │     the longest key first: credHelpers, then auths; credsStore last
//!        └─► credential providers (the kubelet's exec plugins), in the order of their configuration
//! ```
//!
//! The first that has something for a host counts, and what it has is shown to that host alone.
//! Files are read anew each time. A file or program that fails is named in the log and passed over:
//! another one may have what is wanted, and if none has, the registry refuses the pull by itself.
//! Nothing here says a secret: not in a log, not in an error, not by `Debug`.

mod auth_file;
mod helper;
mod place;
mod provider;
mod provider_config;

use std::collections::HashSet;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio_util::task::TaskTracker;

use self::auth_file::{AuthFile, Source};
pub(crate) use self::place::Place;
use self::provider::Providers;
use crate::blocking::blocking;
use crate::credentials::Credentials;
use crate::error::Result;

/// Where a node's credentials are. Nothing by default.
#[derive(Debug, Clone, Default)]
pub struct NodeCredentials {
    /// Directories of `*.json` in the format of Docker's `config.json` and podman's `auth.json`.
    pub auth_dirs: Vec<PathBuf>,
    /// Directories of `docker-credential-NAME`.
    pub helper_dirs: Vec<PathBuf>,
    /// The kubelet's `CredentialProviderConfig`, YAML or JSON.
    pub provider_config: Option<PathBuf>,
    /// Directories of the programs that it names.
    pub provider_dirs: Vec<PathBuf>,
    /// The longest that a helper or provider may take.
    pub timeout: Duration,
}

/// Finds credentials. Remembers only what providers let it, and whom it has warned of.
#[derive(Debug, Default)]
pub(crate) struct Keyring {
    providers: Providers,
    warned: Mutex<HashSet<PathBuf>>,
}

impl Keyring {
    /// The credentials of this node for a place in a registry, if it has any.
    pub(crate) async fn find(
        &self,
        config: &NodeCredentials,
        place: &Place,
        tasks: &TaskTracker,
    ) -> Option<Credentials> {
        match self.of_files(config, place, tasks).await {
            None => self.providers.find(config, place, tasks).await,
            found => found,
        }
    }

    async fn of_files(
        &self,
        config: &NodeCredentials,
        place: &Place,
        tasks: &TaskTracker,
    ) -> Option<Credentials> {
        let (dirs, wanted) = (config.auth_dirs.clone(), place.clone());
        let read = blocking(tasks, move || Ok(read_all(&dirs, &wanted))).await;
        let (sources, exposed) = read.unwrap_or_default();
        self.warn(exposed);
        for source in sources {
            let found = match source {
                Source::Fields(fields) => {
                    Credentials::from_fields(*fields).map_err(|e| e.to_string())
                }
                Source::Helper { name, server } => helper::ask(config, &name, &server, place).await,
            };
            match found {
                Ok(Some(credentials)) => return Some(credentials),
                Ok(None) => {}
                Err(reason) => {
                    tracing::warn!(host = place.host(), %reason, "no credentials, ignoring")
                }
            }
        }
        None
    }

    /// Says once of each file that others can read it.
    fn warn(&self, exposed: Vec<PathBuf>) {
        let mut warned = self.warned.lock().unwrap_or_else(PoisonError::into_inner);
        for path in exposed {
            if warned.insert(path.clone()) {
                let path = path.display();
                tracing::warn!("credentials in {path} can be read by every user of this node");
            }
        }
    }
}

/// What all files have for a place, the most specific first, and which of them are open to all.
fn read_all(dirs: &[PathBuf], place: &Place) -> (Vec<Source>, Vec<PathBuf>) {
    let (mut found, mut exposed) = (Vec::new(), Vec::new());
    for path in dirs.iter().flat_map(|dir| list(dir)) {
        match read(&path) {
            Ok((file, mode)) => {
                found.extend(file.sources(place));
                if mode & 0o004 != 0 {
                    exposed.push(path);
                }
            }
            Err(reason) => tracing::warn!("credentials in {}: {reason}, ignoring", path.display()),
        }
    }
    // Stable: of equals, the first file by name counts.
    found.sort_by_key(|(length, _)| std::cmp::Reverse(*length));
    (found.into_iter().map(|(_, source)| source).collect(), exposed)
}

fn read(path: &Path) -> Result<(AuthFile, u32), String> {
    let text = std::fs::read(path).map_err(|e| e.to_string())?;
    let mode = path.metadata().map_err(|e| e.to_string())?.permissions().mode();
    Ok((AuthFile::parse(&text)?, mode))
}

/// The `*.json` of a directory, by name. Hidden files are what editors leave behind.
fn list(directory: &Path) -> Vec<PathBuf> {
    let entries = match std::fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) => {
            if error.kind() != std::io::ErrorKind::NotFound {
                tracing::warn!("credentials in {}: {error}, ignoring", directory.display());
            }
            return Vec::new();
        }
    };
    let paths = entries.filter_map(|entry| entry.ok().map(|entry| entry.path()));
    let is_hidden = |path: &PathBuf| {
        path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."))
    };
    let is_json = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "json");
    let mut paths: Vec<_> = paths.filter(|path| is_json(path) && !is_hidden(path)).collect();
    paths.sort();
    paths
}

#[cfg(test)]
mod tests;
