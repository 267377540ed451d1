//! The compiled proto against the contract's table, both ways: what the table
//! names is there, and nothing else is.

#![allow(clippy::unwrap_used, reason = "a test says what went wrong by failing")]

use std::collections::BTreeSet;

use prost::Message;
use prost_types::field_descriptor_proto::{Label, Type};
use prost_types::{DescriptorProto, EnumDescriptorProto, FieldDescriptorProto, FileDescriptorSet};

const TABLE: &str = include_str!("../proto/v1.tsv");
const COMPILED: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
const PACKAGE: &str = "runtime.v1";

/// Rows of the table without notes: `kind parent name number type label`.
type Facts = BTreeSet<String>;

#[test]
fn the_compiled_proto_is_the_contract() {
    let (contract, compiled) = (contract(), compiled());

    let missing: Vec<_> = contract.difference(&compiled).collect();
    let extra: Vec<_> = compiled.difference(&contract).collect();

    assert!(missing.is_empty() && extra.is_empty(), "missing: {missing:#?}\nextra: {extra:#?}");
}

#[test]
fn the_contract_is_whole() {
    let count = |kind: &str| contract().iter().filter(|fact| fact.starts_with(kind)).count();

    assert_eq!((count("rpc "), count("field "), count("enum ")), (43, 478, 95));
}

fn contract() -> Facts {
    let rows = TABLE.lines().filter(|line| !line.starts_with('#'));
    rows.map(|row| {
        let columns: Vec<_> = row.split('\t').take(6).collect();
        columns.join(" ")
    })
    .collect()
}

fn compiled() -> Facts {
    let files = FileDescriptorSet::decode(COMPILED).unwrap();
    let file = files.file.iter().find(|file| file.package() == PACKAGE).unwrap();
    let mut facts = Facts::new();
    for service in &file.service {
        for rpc in &service.method {
            let kind = match (rpc.client_streaming(), rpc.server_streaming()) {
                (false, false) => "unary",
                (false, true) => "server-stream",
                (true, false) => "client-stream",
                (true, true) => "bidi-stream",
            };
            let types = format!("{} -> {}", local(rpc.input_type()), local(rpc.output_type()));
            facts.insert(format!("rpc {} {} - {types} {kind}", service.name(), rpc.name()));
        }
    }
    file.enum_type.iter().for_each(|item| enumeration(item.name(), item, &mut facts));
    file.message_type.iter().for_each(|item| message(item.name(), item, &mut facts));
    facts
}

fn enumeration(name: &str, item: &EnumDescriptorProto, facts: &mut Facts) {
    for value in &item.value {
        facts.insert(format!("enum {name} {} {} - -", value.name(), value.number()));
    }
}

fn message(name: &str, item: &DescriptorProto, facts: &mut Facts) {
    if item.field.is_empty() {
        facts.insert(format!("message {name} (no fields) - - -"));
    }
    for field in &item.field {
        let (kind, label) = match map_entry(item, field) {
            Some(entry) => {
                let (key, value) = (&entry.field[0], &entry.field[1]);
                let (key, value) = (type_name(name, key), type_name(name, value));
                (format!("map<{key}, {value}>"), "map")
            }
            None if field.label() == Label::Repeated => (type_name(name, field), "repeated"),
            None => (type_name(name, field), "singular"),
        };
        facts.insert(format!("field {name} {} {} {kind} {label}", field.name(), field.number()));
    }
    for nested in &item.enum_type {
        enumeration(&format!("{name}.{}", nested.name()), nested, facts);
    }
    for nested in item.nested_type.iter().filter(|nested| !is_map_entry(nested)) {
        message(&format!("{name}.{}", nested.name()), nested, facts);
    }
}

/// The entry message that a map field is compiled to.
fn map_entry<'a>(
    item: &'a DescriptorProto,
    field: &FieldDescriptorProto,
) -> Option<&'a DescriptorProto> {
    let name = field.type_name().rsplit('.').next()?;
    item.nested_type.iter().find(|nested| is_map_entry(nested) && nested.name() == name)
}

fn is_map_entry(item: &DescriptorProto) -> bool {
    item.options.as_ref().is_some_and(|options| options.map_entry())
}

/// The type as the table spells it inside the message `parent`.
fn type_name(parent: &str, field: &FieldDescriptorProto) -> String {
    match field.r#type() {
        Type::Message | Type::Enum => {
            let name = local(field.type_name());
            name.trim_start_matches(&format!("{parent}.")).to_owned()
        }
        scalar => scalar.as_str_name().trim_start_matches("TYPE_").to_lowercase(),
    }
}

fn local(type_name: &str) -> String {
    type_name.trim_start_matches(&format!(".{PACKAGE}.")).to_owned()
}
