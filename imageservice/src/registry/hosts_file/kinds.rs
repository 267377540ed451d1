//! What each key of a `hosts.toml` has to be, so that mistakes are told with their lines and keys
//! that nobody knows are named.

use toml::Spanned;
use toml::de::{DeArray, DeString, DeTable, DeValue};

use super::line;

/// Keys that mean nothing here, each with its line, in the order of the file. A file for a newer
/// containerd must not keep a node from pulling, so they are ignored, but not in silence.
pub(in crate::registry) fn unknown_keys(text: &str) -> Vec<String> {
    let Ok(document) = DeTable::parse(text) else { return Vec::new() };
    let unknown = keys(document.get_ref()).into_iter().filter(|(_, _, kind)| kind.is_none());
    unknown
        .map(|(key, ..)| format!("line {}: {}", line(text, key.span().start), key.get_ref()))
        .collect()
}

/// The first value of the wrong kind, which deserialization would tell without its line.
pub(super) fn wrong_kind(text: &str) -> Option<String> {
    let document = DeTable::parse(text).ok()?;
    let mut known = keys(document.get_ref()).into_iter();
    known.find_map(|(key, value, kind)| {
        let (expected, fits) = kind?;
        let reason = || format!("{} is {expected}", key.get_ref());
        (!fits(value)).then(|| format!("line {}: {}", line(text, key.span().start), reason()))
    })
}

type Key<'a, 'i> = &'a Spanned<DeString<'i>>;
/// What a value has to be, in words and as a test.
type Kind = (&'static str, fn(&DeValue<'_>) -> bool);

/// All keys of the registry's own table and of its hosts, in the order of the file, with the kinds
/// of those that are known.
fn keys<'a, 'i>(document: &'a DeTable<'i>) -> Vec<(Key<'a, 'i>, &'a DeValue<'i>, Option<Kind>)> {
    let mut found = Vec::new();
    for (key, value) in document.iter() {
        let kind = match key.get_ref().as_ref() {
            "server" => Some(("a string", is_text as fn(&DeValue<'_>) -> bool)),
            "host" => {
                let hosts = value.get_ref().as_table().into_iter().flat_map(|hosts| hosts.iter());
                let tables = hosts.filter_map(|(_, host)| host.get_ref().as_table());
                let keys = tables.flat_map(|table| table.iter());
                found.extend(keys.map(|(key, value)| (key, value.get_ref(), kind(key.get_ref()))));
                Some(("a table of tables", are_tables as fn(&DeValue<'_>) -> bool))
            }
            name => kind(name),
        };
        found.push((key, value.get_ref(), kind));
    }
    found.sort_by_key(|(key, ..)| key.span().start);
    found
}

/// What a host's table may say. The registry's own table is the top of the file.
fn kind(key: &str) -> Option<Kind> {
    Some(match key {
        "capabilities" => ("a list of strings", are_strings),
        "ca" => ("a file or a list of files", is_one_or_many),
        "client" => ("a file, or a list of files or pairs of files", |value| {
            let is_list =
                |items: &DeArray<'_>| items.iter().all(|item| is_one_or_many(item.get_ref()));
            value.is_str() || value.as_array().is_some_and(is_list)
        }),
        "skip_verify" | "override_path" => ("true or false", |value| value.is_bool()),
        "dial_timeout" => ("a string like \"5s\"", is_text),
        "header" => ("a table of strings or lists of strings", |value| {
            let fits =
                |table: &DeTable<'_>| table.iter().all(|(_, it)| is_one_or_many(it.get_ref()));
            value.as_table().is_some_and(fits)
        }),
        _ => return None,
    })
}

fn is_text(value: &DeValue<'_>) -> bool {
    value.is_str()
}

fn are_strings(value: &DeValue<'_>) -> bool {
    value.as_array().is_some_and(|items| items.iter().all(|item| item.get_ref().is_str()))
}

fn is_one_or_many(value: &DeValue<'_>) -> bool {
    value.is_str() || are_strings(value)
}

fn are_tables(value: &DeValue<'_>) -> bool {
    value.as_table().is_some_and(|table| table.iter().all(|(_, item)| item.get_ref().is_table()))
}
