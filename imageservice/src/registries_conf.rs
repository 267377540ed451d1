//! `registries.conf` and its drop-ins (containers-registries.conf(5), version 2): where images are
//! fetched whose names say otherwise, who is blocked, and what short names mean.
//!
//! ```text
//! registries.conf, then registries.conf.d/*.conf by name; a later [[registry]] takes the place of
//! an earlier one of the same prefix, and a later alias that of an earlier one
//!       name ──► the entry of the longest prefix ──► blocked
//!                                                └─► mirrors in their order, then the location
//! ```
//!
//! Read anew whenever it is asked, so that no restart is needed. What is wrong in a file is an
//! error, with file and line, for the registries that it is about, and for no other: of an entry
//! that is wrong, those of its prefix; of a file that is no TOML, those whose host it mentions,
//! because it may be what blocks them. Mirrors of `hosts.toml` are none of its business.

mod file;
mod short_names;

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use self::file::Place;
pub(crate) use self::short_names::expand;
use crate::error::{Error, Result};
use crate::reference::{Reference, Target};

/// What all files say together.
#[derive(Debug, Default)]
pub(crate) struct RegistriesConf {
    entries: BTreeMap<String, Entry>,
    aliases: BTreeMap<String, Alias>,
    search: Option<(Vec<String>, Place)>,
    mode: Option<Mode>,
    broken: Vec<Broken>,
}

/// A `[[registry]]`.
#[derive(Debug)]
struct Entry {
    place: Place,
    content: Result<Registry, String>,
}

/// What a `[[registry]]` says, when it makes sense.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Registry {
    blocked: bool,
    /// In the order of asking, the registry itself last.
    sources: Vec<Location>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Location {
    /// In place of the prefix; `None`: as the image is called.
    location: Option<String>,
    insecure: bool,
    serves: Serves,
}

/// Which references a mirror is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Serves {
    All,
    Digests,
    Tags,
}

/// What a short name stands for; empty takes an earlier alias back.
#[derive(Debug)]
struct Alias {
    place: Place,
    value: String,
}

/// `short-name-mode`. Nobody can be asked here, so the other two are the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Enforcing,
    Permissive,
}

/// A file of which nothing is known but its text.
#[derive(Debug)]
struct Broken {
    text: String,
    path: PathBuf,
    reason: String,
}

/// Where an image is fetched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PullSource {
    /// Its name there.
    pub(crate) reference: Reference,
    /// TLS need not be verified, nor be there.
    pub(crate) insecure: bool,
}

impl RegistriesConf {
    /// Reads the file and the `*.conf` of the directory of its name with `.d`. What does not exist
    /// says nothing. Blocks.
    ///
    /// # Errors
    /// [`Error::InvalidHosts`] if one cannot be read. One that is wrong is no error yet.
    pub(crate) fn load(path: &Path) -> Result<Self> {
        let mut conf = Self::default();
        let mut drop_ins = path.as_os_str().to_owned();
        drop_ins.push(".d");
        for path in [path.to_owned()].into_iter().chain(list(Path::new(&drop_ins))?) {
            match std::fs::read_to_string(&path) {
                Ok(text) => conf.apply(&path, &text),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(unreadable(&path, &error)),
            }
        }
        Ok(conf)
    }

    /// Where an image is fetched, in the order of asking; `None` if nothing is said of it.
    ///
    /// # Errors
    /// [`Error::Blocked`], and [`Error::InvalidHosts`] if what is said of it is wrong.
    pub(crate) fn sources(&self, reference: &Reference) -> Result<Option<Vec<PullSource>>> {
        let mentions = |broken: &&Broken| mentions(&broken.text, reference.domain());
        if let Some(broken) = self.broken.iter().find(mentions) {
            return Err(broken.error());
        }
        let name = reference.to_string();
        let fitting = self.entries.iter().filter_map(|(prefix, entry)| {
            matching(&name, prefix).map(|matched| (prefix.len(), entry, &name[matched..]))
        });
        let Some((_, entry, rest)) = fitting.max_by_key(|(length, ..)| *length) else {
            return Ok(None);
        };
        let registry = entry.content.as_ref().map_err(|reason| entry.place.error(reason))?;
        if registry.blocked {
            return Err(Error::Blocked { name, by: entry.place.to_string() });
        }
        let wanted = registry.sources.iter().filter(|source| source.serves.includes(reference));
        let sources = wanted.map(|source| {
            let reference = match &source.location {
                None => reference.clone(),
                Some(location) => {
                    let text = format!("{location}{rest}");
                    text.parse().map_err(|e: Error| entry.place.error(&e.to_string()))?
                }
            };
            Ok(PullSource { reference, insecure: source.insecure })
        });
        sources.collect::<Result<_>>().map(Some)
    }
}

impl Serves {
    fn includes(self, reference: &Reference) -> bool {
        match self {
            Self::All => true,
            Self::Digests => matches!(reference.target(), Target::Digest(_)),
            Self::Tags => matches!(reference.target(), Target::Tag(_)),
        }
    }
}

impl Broken {
    fn error(&self) -> Error {
        Error::InvalidHosts { path: self.path.clone(), reason: self.reason.clone() }
    }
}

/// How much of a name a prefix is, up to a separator. `*.example.com` is any host below that.
pub(crate) fn matching(name: &str, prefix: &str) -> Option<usize> {
    let end = match prefix.strip_prefix('*') {
        Some(suffix) => {
            let start = name.find(suffix).filter(|start| !name[..*start].contains('/'))?;
            start + suffix.len()
        }
        None => name.starts_with(prefix).then_some(prefix.len())?,
    };
    matches!(name.as_bytes().get(end), None | Some(b':' | b'/' | b'@')).then_some(end)
}

/// Whether a text that cannot be understood may be about a host: by its name, or by that of a
/// domain around it behind `*.`.
fn mentions(text: &str, domain: &str) -> bool {
    let around = domain.match_indices('.').map(|(dot, _)| format!("*{}", &domain[dot..]));
    let host = domain.rsplit_once(':').map(|(host, _)| host.to_owned());
    around.chain(host).any(|name| text.contains(&name)) || text.contains(domain)
}

fn list(directory: &Path) -> Result<Vec<PathBuf>> {
    let entries = match std::fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(|error| unreadable(directory, &error))?,
    };
    let paths =
        entries.map(|entry| entry.map(|entry| entry.path())).collect::<io::Result<Vec<_>>>();
    let mut paths = paths.map_err(|error| unreadable(directory, &error))?;
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "conf"));
    paths.sort();
    Ok(paths)
}

fn unreadable(path: &Path, error: &io::Error) -> Error {
    Error::InvalidHosts { path: path.to_owned(), reason: error.to_string() }
}

#[cfg(test)]
mod tests;
