//! Which files are read, and in which order.

use std::path::{Path, PathBuf};
use std::{fs, io};

use super::document::Reader;
use super::finding::{Finding, Findings, Source};
use super::{Config, Origins};
use crate::error::Error;

/// Read when no other file is named; need not exist.
pub const DEFAULT_FILE: &str = "/etc/berth/config.toml";

/// Directory of drop-ins beside the configuration file.
const DROP_INS: &str = "config.d";

/// What the command line says about files.
#[derive(Debug, Clone, Default)]
pub struct Sources {
    /// `--config`: must exist. Without it, [`DEFAULT_FILE`] if that exists.
    pub file: Option<PathBuf>,
    /// `--config-dir`: must exist. Without it, `config.d` beside the file.
    pub drop_ins: Option<PathBuf>,
}

/// A configuration, and where it came from.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// The settings.
    pub config: Config,
    /// What set them.
    pub origins: Origins,
    /// What was ignored.
    pub warnings: Vec<Finding>,
    /// What was read, in this order.
    pub files: Vec<PathBuf>,
}

impl Sources {
    /// Reads the file and its drop-ins.
    ///
    /// # Errors
    /// [`Error::ReadConfig`] when a file that must exist cannot be read,
    /// [`Error::InvalidConfig`] with every mistake in every file.
    pub fn load(&self) -> Result<Loaded, Error> {
        let mut reader = Reader::default();
        let mut files = Vec::new();
        for (path, text) in self.texts()? {
            reader.apply(Source { file: &path, text: &text });
            files.push(path);
        }
        let Reader { mut config, origins, mut errors, warnings } = reader;
        errors.extend(config.check_runtimes(&origins));
        if !errors.is_empty() {
            return Err(Error::InvalidConfig(Findings(errors)));
        }
        config.follow_state(&origins);
        Ok(Loaded { config, origins, warnings, files })
    }

    fn texts(&self) -> Result<Vec<(PathBuf, String)>, Error> {
        let file = self.file.clone().unwrap_or_else(|| DEFAULT_FILE.into());
        let beside = file.with_file_name(DROP_INS);
        let drop_ins = self.drop_ins.as_ref().unwrap_or(&beside);

        let main = optional(self.file.is_some(), &file, fs::read_to_string(&file))?;
        let names = optional(self.drop_ins.is_some(), drop_ins, list(drop_ins))?;

        let mut texts: Vec<_> = main.map(|text| (file, text)).into_iter().collect();
        for path in names.unwrap_or_default() {
            let text = fs::read_to_string(&path).map_err(|e| Error::read_config(&path, e))?;
            texts.push((path, text));
        }
        Ok(texts)
    }
}

/// `None` for what is missing and need not be there.
fn optional<T>(required: bool, path: &Path, read: io::Result<T>) -> Result<Option<T>, Error> {
    match read {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.kind() == io::ErrorKind::NotFound && !required => Ok(None),
        Err(error) => Err(Error::read_config(path, error)),
    }
}

/// The drop-ins of a directory by name. Hidden files are what editors and
/// package managers leave behind.
fn list(directory: &Path) -> io::Result<Vec<PathBuf>> {
    let mut paths = Vec::new();
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let hidden = entry.file_name().as_encoded_bytes().starts_with(b".");
        let path = entry.path();
        if !hidden && path.extension().is_some_and(|extension| extension == "toml") {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}
