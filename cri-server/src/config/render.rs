//! The configuration as text: documented defaults, and what is in force.

use toml::Value;

use super::runtimes::table;
use super::section::{Section, full_name};
use super::{Config, DERIVED, Foreign, Loaded, VERSION};

/// One setting in force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Effective {
    /// Full name, as in `grpc.socket`.
    pub key: String,
    /// Its value as TOML.
    pub value: String,
    /// `default`, or the file and line that set it.
    pub origin: String,
}

/// Every setting, in the order of the default file.
#[must_use]
pub fn effective(loaded: &Loaded) -> Vec<Effective> {
    let mut settings = Vec::new();
    let fixed = loaded.config.sections().map(|section| (section.name().to_owned(), section));
    let runtimes = loaded.config.runtimes.iter();
    let runtimes = runtimes.map(|(name, runtime)| (table(name), runtime as &dyn Section));
    for (table, section) in fixed.into_iter().chain(runtimes) {
        for (key, value) in pairs(section) {
            let key = full_name(&table, key);
            let origin = loaded.origins.get(&key).map(ToString::to_string);
            let origin = origin.unwrap_or_else(|| "default".to_owned());
            settings.push(Effective { key, value: value.to_string(), origin });
        }
    }
    settings
}

/// What is in force, as a file that means the same. With `origins`, each line
/// ends with the place that set it.
#[must_use]
pub fn show(loaded: &Loaded, origins: bool) -> String {
    let mut text = format!("version = {VERSION}\n");
    let mut table = String::new();
    let settings = effective(loaded);
    for Effective { key, value, origin } in &settings {
        let (section, name) = key.rsplit_once('.').unwrap_or(("", key));
        if section != table {
            table = section.to_owned();
            text.push_str(&format!("\n[{table}]\n"));
        }
        let line = format!("{name} = {value}");
        let line = if origins { format!("{line:<50} # {origin}") } else { line };
        text.push_str(&line);
        text.push('\n');
    }
    text
}

/// A file that explains every key and sets it to its default. Keys that follow
/// from another one are commented out: set, they would no longer follow.
#[must_use]
pub fn default_file() -> String {
    let config = Config::default();
    let mut text = String::new();
    for section in config.sections() {
        comment(&mut text, section.doc());
        if section.name().is_empty() {
            text.push_str("# Drop-ins in config.d beside this file are read after it; they win.\n");
            text.push_str(&format!("\nversion = {VERSION}\n"));
        } else {
            text.push_str(&format!("[{}]\n", section.name()));
        }
        for (key, (name, value)) in section.keys().iter().zip(pairs(section)) {
            text.push('\n');
            comment(&mut text, key.doc);
            let derived = DERIVED.contains(&full_name(section.name(), name).as_str());
            text.push_str(if derived { "# " } else { "" });
            text.push_str(&format!("{name} = {value}\n"));
        }
        text.push('\n');
    }
    sample(&mut text);
    text
}

/// A table that is there as often as somebody writes it: a sample, commented out.
fn sample(text: &mut String) {
    let sample = Foreign { path: Some("/usr/bin/crun".into()), ..Foreign::default() };
    comment(text, sample.doc());
    text.push_str("# [runtimes.crun]\n");
    for (key, (name, value)) in sample.keys().iter().zip(pairs(&sample)) {
        text.push_str("#\n");
        comment(text, key.doc);
        text.push_str(&format!("# {name} = {value}\n"));
    }
}

fn pairs(section: &dyn Section) -> impl Iterator<Item = (&'static str, Value)> {
    section.keys().iter().map(|key| key.name).zip(section.values())
}

fn comment(text: &mut String, lines: &[&str]) {
    for line in lines {
        text.push_str(&format!("#{line}\n"));
    }
}
