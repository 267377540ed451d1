//! One file: its tables as values, its mistakes with their lines.

use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::{Alias, Broken, Entry, Location, Mode, RegistriesConf, Registry, Serves};
use crate::error::Error;

const VERSION_1: &str = "this is the format of version 1; write [[registry]] tables";

/// A line of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) path: PathBuf,
    line: usize,
}

impl Place {
    pub(super) fn error(&self, reason: &str) -> Error {
        let reason = format!("line {}: {reason}", self.line);
        Error::InvalidHosts { path: self.path.clone(), reason }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.path.display(), self.line)
    }
}

type Value<'a, 'i> = &'a Spanned<DeValue<'i>>;
/// Where it is, and what it is.
type Mistake = (Range<usize>, String);

impl RegistriesConf {
    /// Adds what a file says to what those before it said.
    pub(super) fn apply(&mut self, path: &Path, text: &str) {
        let place = |span: Range<usize>| {
            let before = text.get(..span.start).unwrap_or_default();
            Place { path: path.to_owned(), line: 1 + before.matches('\n').count() }
        };
        let outcome = match DeTable::parse(text) {
            Ok(document) => self.tables(document.get_ref(), &place),
            Err(error) => Err((error.span().unwrap_or_default(), error.message().to_owned())),
        };
        if let Err((span, reason)) = outcome {
            let reason = format!("line {}: {reason}", place(span).line);
            tracing::warn!(file = %path.display(), %reason, "it cannot be used");
            self.broken.push(Broken { text: text.to_owned(), path: path.to_owned(), reason });
        }
    }

    fn tables(
        &mut self,
        document: &DeTable<'_>,
        place: &dyn Fn(Range<usize>) -> Place,
    ) -> Result<(), Mistake> {
        for (key, value) in document.iter() {
            match key.get_ref().as_ref() {
                "registry" => {
                    for table in array(value)? {
                        self.registry(table, place)?;
                    }
                }
                "aliases" => {
                    for (name, value) in table(value)?.iter() {
                        let alias = Alias { place: place(name.span()), value: text(value)? };
                        self.aliases.insert(name.get_ref().to_string(), alias);
                    }
                }
                "unqualified-search-registries" => {
                    let names = array(value)?.map(text).collect::<Result<_, _>>()?;
                    self.search = Some((names, place(key.span())));
                }
                "short-name-mode" => self.mode = mode(value)?.or(self.mode),
                "registries" => return Err((key.span(), VERSION_1.to_owned())),
                other => {
                    tracing::warn!(at = %place(key.span()), "unknown key {other}, ignoring it")
                }
            }
        }
        Ok(())
    }

    fn registry(
        &mut self,
        value: Value<'_, '_>,
        place: &dyn Fn(Range<usize>) -> Place,
    ) -> Result<(), Mistake> {
        let keys = table(value)?;
        let word = |key| keys.get(key).map(text).transpose();
        let (prefix, location) = (word("prefix")?, word("location")?);
        let name = prefix.as_ref().filter(|it| !it.is_empty()).or(location.as_ref());
        let name = name.map(|name| name.trim_end_matches('/')).filter(|name| !name.is_empty());
        let Some(name) = name.map(str::to_owned) else {
            return Err((value.span(), "a registry has a prefix or a location".to_owned()));
        };
        let (content, at) = match registry(keys, &name, place) {
            Ok(registry) => (Ok(registry), value.span()),
            Err((span, reason)) => {
                tracing::warn!(at = %place(span.clone()), %reason, "a registry cannot be used");
                (Err(reason), span)
            }
        };
        self.entries.insert(name, Entry { place: place(at), content });
        Ok(())
    }
}

fn registry(
    keys: &DeTable<'_>,
    prefix: &str,
    place: &dyn Fn(Range<usize>) -> Place,
) -> Result<Registry, Mistake> {
    let is_wildcard = prefix.starts_with("*.");
    if prefix.contains("://")
        || (prefix.contains('*') && (!is_wildcard || prefix[1..].contains('*')))
    {
        let span = keys.get("prefix").or(keys.get("location")).map(Spanned::span);
        return Err((
            span.unwrap_or_default(),
            format!("{prefix:?} is no host, host/path or *.host"),
        ));
    }
    let (mut blocked, mut insecure, mut by_digest) = (false, false, false);
    let (mut own, mut mirrors) = (None, Vec::new());
    for (key, value) in keys.iter() {
        match key.get_ref().as_ref() {
            "prefix" => {}
            "location" => own = location(value, is_wildcard)?,
            "blocked" => blocked = flag(value)?,
            "insecure" => insecure = flag(value)?,
            "mirror-by-digest-only" => by_digest = flag(value)?,
            "mirror" => mirrors = array(value)?.collect(),
            other => tracing::warn!(at = %place(key.span()), "unknown key {other}, ignoring it"),
        }
    }
    let mirrors = mirrors.into_iter().map(|value| mirror(value, by_digest, place));
    let mut sources = mirrors.collect::<Result<Vec<_>, _>>()?;
    sources.push(Location { location: own, insecure, serves: Serves::All });
    Ok(Registry { blocked, sources })
}

fn mirror(
    value: Value<'_, '_>,
    by_digest: bool,
    place: &dyn Fn(Range<usize>) -> Place,
) -> Result<Location, Mistake> {
    let (mut own, mut insecure, mut serves) = (None, false, None);
    for (key, value) in table(value)?.iter() {
        match key.get_ref().as_ref() {
            "location" => own = location(value, false)?,
            "insecure" => insecure = flag(value)?,
            "pull-from-mirror" => {
                serves = match text(value)?.as_str() {
                    "" => None,
                    "all" => Some(Serves::All),
                    "digest-only" => Some(Serves::Digests),
                    "tag-only" => Some(Serves::Tags),
                    _ => {
                        let expected = "pull-from-mirror is all, digest-only or tag-only";
                        return Err((value.span(), expected.to_owned()));
                    }
                };
                if by_digest && serves.is_some() {
                    let reason = "pull-from-mirror and mirror-by-digest-only exclude each other";
                    return Err((value.span(), reason.to_owned()));
                }
            }
            other => tracing::warn!(at = %place(key.span()), "unknown key {other}, ignoring it"),
        }
    }
    if own.is_none() {
        return Err((value.span(), "a mirror has a location".to_owned()));
    }
    let usual = if by_digest { Serves::Digests } else { Serves::All };
    Ok(Location { location: own, insecure, serves: serves.unwrap_or(usual) })
}

/// A host, or a host and a path. Empty is none.
fn location(value: Value<'_, '_>, may_be_wild: bool) -> Result<Option<String>, Mistake> {
    let text = text(value)?;
    let name = text.trim_end_matches('/');
    let is_plain = !name.contains("://") && !name.contains('@');
    if !is_plain || (name.contains('*') && !may_be_wild) {
        return Err((value.span(), "location is a host, or a host and a path".to_owned()));
    }
    // That of a wildcard says nothing if it is the wildcard again.
    Ok((!name.is_empty() && !name.contains('*')).then(|| name.to_owned()))
}

fn mode(value: Value<'_, '_>) -> Result<Option<Mode>, Mistake> {
    match text(value)?.as_str() {
        "" => Ok(None),
        "enforcing" => Ok(Some(Mode::Enforcing)),
        "permissive" | "disabled" => Ok(Some(Mode::Permissive)),
        _ => {
            let expected = "short-name-mode is enforcing, permissive or disabled";
            Err((value.span(), expected.to_owned()))
        }
    }
}

fn array<'a, 'i>(value: Value<'a, 'i>) -> Result<impl Iterator<Item = Value<'a, 'i>>, Mistake> {
    let items = value.get_ref().as_array().ok_or_else(|| expected(value, "a list"))?;
    Ok(items.iter())
}

fn table<'a, 'i>(value: Value<'a, 'i>) -> Result<&'a DeTable<'i>, Mistake> {
    value.get_ref().as_table().ok_or_else(|| expected(value, "a table"))
}

fn text(value: Value<'_, '_>) -> Result<String, Mistake> {
    value.get_ref().as_str().map(str::to_owned).ok_or_else(|| expected(value, "a string"))
}

fn flag(value: Value<'_, '_>) -> Result<bool, Mistake> {
    value.get_ref().as_bool().ok_or_else(|| expected(value, "true or false"))
}

fn expected(value: Value<'_, '_>, what: &str) -> Mistake {
    (value.span(), format!("expected {what}, found {}", value.get_ref().type_str()))
}
