//! What an operator may set, and how the settings of several files become one.
//!
//! ```text
//! /etc/berth/config.toml, then /etc/berth/config.d/*.toml in lexical order
//!        │ document: keys with file, line, column
//!        ▼
//! schema: typed tables; a later file wins key by key
//!        │ + origins: which file and line set what
//!        ▼
//! Config (what the daemon reads)   render (`config default`, `config show`)
//! ```
//!
//! A value of the wrong kind stops berthd, with its place in the file. A key
//! that nobody knows does not: a configuration written for a newer berthd must
//! not take a node down. It is reported, and ignored.

mod document;
mod duration;
mod finding;
mod load;
mod quantity;
mod render;
mod runtimes;
mod schema;
mod section;
mod suggest;
#[cfg(test)]
mod tests;
mod value;
mod word;

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

pub use finding::{Finding, Findings};
pub use load::{DEFAULT_FILE, Loaded, Sources};
pub use quantity::{Mode, Size, Timeout};
pub use render::{Effective, default_file, effective, show};
pub use runtimes::OWN_RUNTIME;
pub use schema::{
    Admin, Cni, Credentials, Directories, Foreign, Grpc, Image, Log, Metrics, Runtime, Timeouts,
    Trust,
};
pub use word::{Capability, CgroupDriver, LogFormat, LogLevel, MissingControllers};

use section::Section;

/// The version that each file may name with `version = 1`. A file that names
/// none is read as this one.
pub const VERSION: u32 = 1;

/// The settings of one berthd, complete and of the right types.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Config {
    /// Where things are kept.
    pub dirs: Directories,
    /// `[grpc]`
    pub grpc: Grpc,
    /// `[admin]`
    pub admin: Admin,
    /// `[log]`
    pub log: Log,
    /// `[cni]`
    pub cni: Cni,
    /// `[image]`
    pub image: Image,
    /// `[credentials]`
    pub credentials: Credentials,
    /// `[trust]`
    pub trust: Trust,
    /// `[runtime]`
    pub runtime: Runtime,
    /// `[timeouts]`
    pub timeouts: Timeouts,
    /// `[metrics]`
    pub metrics: Metrics,
    /// `[runtimes.NAME]`, by name
    pub runtimes: BTreeMap<String, Foreign>,
}

/// Where a value was set. What is not in [`Origins`] is a default.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    /// The file.
    pub file: PathBuf,
    /// Its line, from 1.
    pub line: usize,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file.display(), self.line)
    }
}

/// Origin of every key that a file sets, by its full name.
pub type Origins = BTreeMap<String, Origin>;

/// Keys whose default follows from another key; see [`Config::follow_state`].
const DERIVED: [&str; 2] = ["grpc.socket", "admin.socket"];

impl Config {
    fn sections(&self) -> [&dyn Section; 11] {
        [
            &self.dirs,
            &self.grpc,
            &self.admin,
            &self.log,
            &self.cni,
            &self.image,
            &self.credentials,
            &self.trust,
            &self.runtime,
            &self.timeouts,
            &self.metrics,
        ]
    }

    fn sections_mut(&mut self) -> [&mut dyn Section; 11] {
        [
            &mut self.dirs,
            &mut self.grpc,
            &mut self.admin,
            &mut self.log,
            &mut self.cni,
            &mut self.image,
            &mut self.credentials,
            &mut self.trust,
            &mut self.runtime,
            &mut self.timeouts,
            &mut self.metrics,
        ]
    }

    /// The table with this full name.
    fn section_mut(&mut self, table: &str) -> Option<&mut dyn Section> {
        if let Some(name) = table.strip_prefix("runtimes.") {
            return self.runtimes.get_mut(name).map(|runtime| runtime as &mut dyn Section);
        }
        self.sections_mut().into_iter().find(|section| section.name() == table)
    }

    /// Puts the sockets that no file placed below the state directory.
    fn follow_state(&mut self, origins: &Origins) {
        for (key, socket, name) in [
            (DERIVED[0], &mut self.grpc.socket, "berth.sock"),
            (DERIVED[1], &mut self.admin.socket, "admin.sock"),
        ] {
            if !origins.contains_key(key) {
                *socket = self.dirs.state.join(name);
            }
        }
    }
}
