//! `[runtimes.NAME]`: tables whose names are the operator's.

use berth_runtime::foreign;
use toml::de::{DeTable, DeValue};

use super::document::Reader;
use super::finding::{Finding, Source};
use super::section::full_name;
use super::value::found;
use super::{Config, Loaded, Origin, Origins};

/// Name of the table that holds the others.
pub(super) const TABLE: &str = "runtimes";

/// The handler that is berthd's own runtime.
pub const OWN_RUNTIME: &str = "berth";

/// Full name of the table of a runtime.
pub(super) fn table(name: &str) -> String {
    full_name(TABLE, name)
}

impl Reader {
    /// Applies the tables in `[runtimes]`.
    pub(super) fn runtimes(&mut self, source: Source<'_>, tables: &DeTable<'_>) {
        for (key, value) in tables.iter() {
            let name = key.get_ref().as_ref();
            let table = table(name);
            if let Err(why) = check_name(name) {
                self.errors.push(source.finding(key.span(), &table, why));
                continue;
            }
            let DeValue::Table(keys) = value.get_ref() else {
                let message =
                    format!("expected a table [{table}], found {}", found(value.get_ref()));
                self.errors.push(source.finding(value.span(), &table, message));
                continue;
            };
            self.runtime(source, name, key.span(), keys);
        }
    }

    fn runtime(
        &mut self,
        source: Source<'_>,
        name: &str,
        span: std::ops::Range<usize>,
        keys: &DeTable<'_>,
    ) {
        let table = table(name);
        let (line, _) = source.position(span.start);
        let origin = Origin { file: source.file.to_owned(), line };
        self.origins.entry(table.clone()).or_insert(origin);
        self.config.runtimes.entry(name.to_owned()).or_default();
        for entry in keys.iter() {
            self.key(source, &table, entry);
        }
    }
}

/// A handler's name is a label of DNS, as in Kubernetes' RuntimeClass; it names a directory too.
fn check_name(name: &str) -> Result<(), String> {
    let good = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    if name == OWN_RUNTIME {
        return Err(format!("{name:?} is berthd's own runtime"));
    }
    let edges = name.starts_with('-') || name.ends_with('-');
    if name.is_empty() || name.len() > 63 || !name.bytes().all(good) || edges {
        return Err("a handler is called by lower case letters, digits and \"-\"".to_owned());
    }
    Ok(())
}

impl Config {
    /// What several files can say wrong together: runtimes without a program, and a default
    /// handler that there is not.
    pub(super) fn check_runtimes(&self, origins: &Origins) -> Vec<Finding> {
        let without = self.runtimes.iter().filter(|(_, runtime)| runtime.path.is_none());
        let missing = without.filter_map(|(name, _)| {
            let message = "the path of its program is missing".to_owned();
            Some(remark(origins.get(&table(name))?, &full_name(&table(name), "path"), message))
        });
        missing.chain(self.check_default_handler(origins)).collect()
    }

    fn check_default_handler(&self, origins: &Origins) -> Option<Finding> {
        const KEY: &str = "runtime.default_handler";
        let name = &self.runtime.default_handler;
        if name == OWN_RUNTIME || self.runtimes.contains_key(name) {
            return None;
        }
        let known: Vec<_> =
            [OWN_RUNTIME].into_iter().chain(self.runtimes.keys().map(String::as_str)).collect();
        let message = format!("{name:?} is no runtime, only {}", known.join(", "));
        Some(remark(origins.get(KEY)?, KEY, message))
    }
}

/// A remark about a key, of which the line is known.
fn remark(origin: &Origin, key: &str, message: String) -> Finding {
    let Origin { file, line } = origin.clone();
    Finding { file, line, column: 1, key: key.to_owned(), message }
}

impl Loaded {
    /// What is configured and cannot be used as this machine is: programs that are not there.
    /// Pods that ask for them are refused.
    pub fn unusable(&self) -> Vec<Finding> {
        let runtimes = self.config.runtimes.iter();
        let unusable = runtimes.filter_map(|(name, runtime)| {
            let path = runtime.path.as_deref()?;
            let error = foreign::usable(path).err()?;
            let key = full_name(&table(name), "path");
            let message = format!("{} cannot be executed: {error}", path.display());
            Some(remark(self.origins.get(&key)?, &key, message))
        });
        unusable.collect()
    }
}
