//! One file: its keys applied to the configuration, its mistakes collected.

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::finding::{Finding, Source};
use super::section::{Refused, full_name};
use super::value::{found, integer};
use super::{Config, Origin, Origins, VERSION, runtimes, suggest};

pub(super) type Entry<'a, 'i> = (&'a Spanned<toml::de::DeString<'i>>, &'a Spanned<DeValue<'i>>);

/// Applies files to a configuration, one after the other.
#[derive(Default)]
pub(super) struct Reader {
    pub(super) config: Config,
    pub(super) origins: Origins,
    /// What stops berthd.
    pub(super) errors: Vec<Finding>,
    /// What is ignored.
    pub(super) warnings: Vec<Finding>,
}

impl Reader {
    /// Applies one file. After an error the file is still read to its end, so
    /// that one look shows all of them, from top to bottom.
    pub(super) fn apply(&mut self, source: Source<'_>) {
        let (errors, warnings) = (self.errors.len(), self.warnings.len());
        self.read(source);
        // Tables come sorted by name.
        for findings in [&mut self.errors[errors..], &mut self.warnings[warnings..]] {
            findings.sort_by_key(|finding| (finding.line, finding.column));
        }
    }

    fn read(&mut self, source: Source<'_>) {
        let document = match DeTable::parse(source.text) {
            Ok(document) => document.into_inner(),
            Err(error) => {
                let span = error.span().unwrap_or_default();
                let message = format!("this is no TOML: {}", error.message());
                return self.errors.push(source.finding(span, "", message));
            }
        };
        if let Err(finding) = check_version(source, &document) {
            // The other keys may mean something else in that version.
            return self.errors.push(finding);
        }
        for entry in document.iter().filter(|(key, _)| key.get_ref() != "version") {
            self.top_level(source, entry);
        }
    }

    fn top_level(&mut self, source: Source<'_>, (key, value): Entry<'_, '_>) {
        let name = key.get_ref();
        if let (runtimes::TABLE, DeValue::Table(tables)) = (name.as_ref(), value.get_ref()) {
            return self.runtimes(source, tables);
        }
        let known = self.config.sections().iter().any(|s| s.name() == name && !name.is_empty());
        match (known, value.get_ref()) {
            (true, DeValue::Table(table)) => {
                for entry in table.iter() {
                    self.key(source, name, entry);
                }
            }
            (true, other) => {
                let message = format!("expected a table [{name}], found {}", found(other));
                self.errors.push(source.finding(value.span(), name, message));
            }
            (false, DeValue::Table(_)) => {
                let meant = suggest::table(&self.config.sections(), name)
                    .map(|table| format!("; did you mean [{table}]?"));
                let message = format!("unknown table, ignoring it{}", meant.unwrap_or_default());
                self.warnings.push(source.finding(key.span(), name, message));
            }
            (false, _) => self.key(source, "", (key, value)),
        }
    }

    pub(super) fn key(&mut self, source: Source<'_>, table: &str, (key, value): Entry<'_, '_>) {
        let name = full_name(table, key.get_ref());
        let section = self.config.section_mut(table);
        let outcome =
            section.map_or(Err(Refused::UnknownKey), |s| s.set(key.get_ref(), value.get_ref()));
        match outcome {
            Ok(()) => {
                let (line, _) = source.position(key.span().start);
                self.origins.insert(name, Origin { file: source.file.to_owned(), line });
            }
            Err(Refused::UnknownKey) => {
                let meant = suggest::key(&self.config.sections(), table, key.get_ref())
                    .map(|key| format!("; did you mean {key}?"));
                let message = format!("unknown key, ignoring it{}", meant.unwrap_or_default());
                self.warnings.push(source.finding(key.span(), &name, message));
            }
            Err(Refused::Expected(expected)) => {
                let message = format!("expected {expected}, found {}", found(value.get_ref()));
                self.errors.push(source.finding(value.span(), &name, message));
            }
        }
    }
}

fn check_version(source: Source<'_>, document: &DeTable<'_>) -> Result<(), Finding> {
    let Some(value) = document.get("version") else { return Ok(()) };
    match integer(value.get_ref()) {
        Some(version) if version == i64::from(VERSION) => Ok(()),
        _ => {
            let found = found(value.get_ref());
            let message = format!("unsupported version {found}; this berthd reads {VERSION}");
            Err(source.finding(value.span(), "version", message))
        }
    }
}
