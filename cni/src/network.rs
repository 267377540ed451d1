//! A network: the configuration of a chain of plugins, parsed and checked.
//!
//! Two forms are read (specification 1.1, section 1): the list of plugins of a
//! `.conflist` file, and the single plugin of a `.conf` or `.json` file, which
//! becomes a list of one. Fields that we do not know are kept and handed to
//! the plugin. Plugins are not gathered from folders beside the file: a list
//! must name its plugins inline.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::name;
use crate::version::SpecVersion;

/// A network that containers can be attached to.
#[derive(Debug, Clone, PartialEq)]
pub struct Network {
    pub(crate) name: String,
    pub(crate) version: SpecVersion,
    pub(crate) plugins: Vec<Plugin>,
    /// The list form as JSON: what the record of an attachment keeps, so that
    /// its DEL needs no other file.
    pub(crate) list: Vec<u8>,
    pub(crate) file: Option<PathBuf>,
}

/// One link of the chain.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Plugin {
    /// Name of the executable: one path component.
    pub(crate) kind: String,
    /// Capability arguments that the plugin wants to have.
    pub(crate) capabilities: BTreeSet<String>,
    /// Everything that stands in the configuration, `type` included.
    pub(crate) conf: Map<String, Value>,
}

/// Why a text is no network configuration.
#[derive(Debug, thiserror::Error)]
pub enum Malformed {
    /// It is not the JSON that it should be; the message ends in line and column.
    #[error(transparent)]
    Json(#[from] serde_json::Error),
    /// A plugin of the list lacks a field or has one of a wrong type.
    #[error("plugins[{index}]: {source}")]
    Plugin {
        /// Position in the list.
        index: usize,
        /// Which field.
        source: serde_json::Error,
    },
    /// A value breaks a rule.
    #[error("{field} {value:?} {why}")]
    Value {
        /// Where in the document, for example `plugins[0].type`.
        field: String,
        /// What stands there.
        value: String,
        /// The rule that it breaks.
        why: &'static str,
    },
    /// A list without plugins, or a list where a single plugin should be.
    #[error("{0}")]
    Form(&'static str),
}

/// What both forms say of the network as a whole.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Head {
    name: String,
    cni_version: Option<String>,
    cni_versions: Option<Vec<String>>,
}

#[derive(Deserialize)]
struct List {
    plugins: Vec<Map<String, Value>>,
}

/// The fields of a plugin that we read.
#[derive(Deserialize)]
struct Declared {
    #[serde(rename = "type")]
    kind: String,
    capabilities: Option<BTreeMap<String, bool>>,
    ipam: Option<Ipam>,
}

#[derive(Deserialize)]
struct Ipam {
    #[serde(rename = "type")]
    kind: Option<String>,
}

impl Network {
    /// The network's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The version of the specification in which its plugins are spoken to.
    pub fn version(&self) -> SpecVersion {
        self.version
    }

    /// The file that it was read from; `None` for one read back from the
    /// record of an attachment.
    pub fn file(&self) -> Option<&Path> {
        self.file.as_deref()
    }

    /// The types of its plugins, in the order of an ADD.
    pub fn plugins(&self) -> impl Iterator<Item = &str> {
        self.plugins.iter().map(|plugin| plugin.kind.as_str())
    }

    /// Reads the list form.
    pub(crate) fn parse_list(text: &[u8]) -> Result<Self, Malformed> {
        object(text)?;
        let head = serde_json::from_slice(text)?;
        let List { plugins } = serde_json::from_slice(text)?;
        Self::build(head, plugins, text.to_owned())
    }

    /// Reads the form of a single plugin and makes a list of it.
    pub(crate) fn parse_single(text: &[u8]) -> Result<Self, Malformed> {
        let conf = object(text)?;
        let head = serde_json::from_slice(text)?;
        if conf.contains_key("plugins") {
            return Err(Malformed::Form("a list of 'plugins' must be in a .conflist file"));
        }
        let mut list = json!({ "plugins": [&conf] });
        for field in ["name", "cniVersion", "cniVersions"] {
            if let Some(value) = conf.get(field) {
                list[field] = value.clone();
            }
        }
        Self::build(head, vec![conf], serde_json::to_vec(&list)?)
    }

    /// Reads the configuration that the record of an attachment keeps. libcni
    /// has written either form there.
    pub(crate) fn parse_recorded(text: &[u8]) -> Result<Self, Malformed> {
        let conf: Map<String, Value> = serde_json::from_slice(text)?;
        if conf.contains_key("plugins") { Self::parse_list(text) } else { Self::parse_single(text) }
    }

    fn build(
        head: Head,
        plugins: Vec<Map<String, Value>>,
        list: Vec<u8>,
    ) -> Result<Self, Malformed> {
        if plugins.is_empty() {
            return Err(Malformed::Form("'plugins' is empty"));
        }
        name::check_identifier(&head.name).map_err(|why| bad("name", &head.name, why))?;
        let more = head.cni_versions.unwrap_or_default();
        let offered = head.cni_version.iter().chain(&more).map(String::as_str);
        let version = SpecVersion::choose(offered).ok_or_else(|| {
            let value = head.cni_version.as_deref().unwrap_or_default();
            bad("cniVersion", value, "is not one of 0.3.0, 0.3.1, 0.4.0, 1.0.0, 1.1.0")
        })?;
        let plugins = plugins.into_iter().enumerate().map(|(i, conf)| Plugin::parse(i, conf));
        let plugins = plugins.collect::<Result<_, _>>()?;
        Ok(Self { name: head.name, version, plugins, list, file: None })
    }

    /// The capability arguments that at least one plugin of the chain takes.
    pub(crate) fn capabilities(&self) -> BTreeSet<&str> {
        self.plugins.iter().flat_map(|plugin| &plugin.capabilities).map(String::as_str).collect()
    }
}

impl Plugin {
    fn parse(index: usize, conf: Map<String, Value>) -> Result<Self, Malformed> {
        let declared =
            Declared::deserialize(&conf).map_err(|source| Malformed::Plugin { index, source })?;
        let kind = declared.kind;
        let field = |name: &str| format!("plugins[{index}].{name}");
        name::check_plugin_type(&kind).map_err(|why| bad(field("type"), &kind, why))?;
        // The plugin runs this one itself, and not every plugin checks the name.
        if let Some(ipam) = declared.ipam.and_then(|ipam| ipam.kind).filter(|kind| !kind.is_empty())
        {
            name::check_plugin_type(&ipam).map_err(|why| bad(field("ipam.type"), &ipam, why))?;
        }
        let capabilities = declared.capabilities.unwrap_or_default();
        let capabilities = capabilities.into_iter().filter(|(_, wanted)| *wanted);
        let capabilities = capabilities.map(|(name, _)| name).collect();
        Ok(Self { kind, capabilities, conf })
    }
}

/// Serde would take an array for a struct, so this comes first.
fn object(text: &[u8]) -> Result<Map<String, Value>, serde_json::Error> {
    serde_json::from_slice(text)
}

fn bad(field: impl Into<String>, value: &str, why: &'static str) -> Malformed {
    Malformed::Value { field: field.into(), value: value.to_owned(), why }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn list(plugins: &Value) -> Vec<u8> {
        json!({"cniVersion": "1.0.0", "name": "pods", "plugins": plugins}).to_string().into_bytes()
    }

    #[test]
    fn a_list_keeps_its_plugins_in_order_with_all_their_fields() {
        let text = list(&json!([
            {"type": "bridge", "keyA": ["more", 1.5], "ipam": {"type": "host-local"}},
            {"type": "portmap", "capabilities": {"portMappings": true, "mac": false}},
        ]));
        let network = Network::parse_list(&text).unwrap();
        assert_eq!((network.name(), network.version()), ("pods", SpecVersion::V1_0_0));
        assert_eq!(network.plugins().collect::<Vec<_>>(), ["bridge", "portmap"]);
        assert_eq!(network.plugins[0].conf["keyA"], json!(["more", 1.5]));
        assert_eq!(network.capabilities(), BTreeSet::from(["portMappings"]));
        assert_eq!(network.list, text);
    }

    #[test]
    fn a_single_plugin_becomes_a_list_of_one() {
        let text = br#"{"cniVersion": "0.3.1", "name": "one", "type": "ptp", "mtu": 9000}"#;
        let network = Network::parse_single(text).unwrap();
        assert_eq!(network.plugins().collect::<Vec<_>>(), ["ptp"]);
        let recorded = Network::parse_recorded(&network.list).unwrap();
        assert_eq!(recorded, network);
        assert_eq!(Network::parse_recorded(text).unwrap(), network);
    }

    #[test]
    fn the_highest_offered_version_is_spoken() {
        let text = br#"{"cniVersion": "0.4.0", "cniVersions": ["1.0.0", "1.1.0", "9.0.0"],
                        "name": "pods", "plugins": [{"type": "bridge"}]}"#;
        assert_eq!(Network::parse_list(text).unwrap().version(), SpecVersion::V1_1_0);
    }

    #[test]
    fn a_malformed_list_is_told_by_place_and_cause() {
        let table: &[(&[u8], &str)] = &[
            (b"{\n \"name\": }", "expected value at line 2 column 10"),
            (b"", "EOF while parsing a value at line 1 column 0"),
            (b"[]", "invalid type: sequence, expected a map at line 1 column 0"),
            (br#"{"name": 7}"#, "invalid type: integer `7`, expected a string at line 1 column 10"),
            (br#"{"name": "a", "plugins": {}}"#, "expected a sequence at line 1 column 25"),
            (br#"{"name": "a", "cniVersion": "1.0.0", "plugins": []}"#, "'plugins' is empty"),
            (
                br#"{"name": "../a", "cniVersion": "1.0.0", "plugins": [{}]}"#,
                "name \"../a\" must begin",
            ),
            (br#"{"name": "a", "plugins": [{}]}"#, "cniVersion \"\" is not one of"),
            (
                br#"{"name": "a", "cniVersion": "0.2.0", "plugins": [{}]}"#,
                "cniVersion \"0.2.0\" is not",
            ),
            (&list(&json!([{}])), "plugins[0]: missing field `type`"),
            (&list(&json!([{"type": "../../bin/sh"}])), "plugins[0].type \"../../bin/sh\" must be"),
            (
                &list(&json!([{"type": "a"}, {"type": "b", "ipam": {"type": "/bin/sh"}}])),
                "plugins[1].ipam.type \"/bin/sh\" must be",
            ),
            (
                &list(&json!([{"type": "a", "capabilities": {"mac": "yes"}}])),
                "plugins[0]: invalid type: string \"yes\", expected a boolean",
            ),
        ];
        for (text, expected) in table {
            let message = Network::parse_list(text).unwrap_err().to_string();
            assert!(message.contains(expected), "{message}\nlacks {expected}");
        }
    }

    #[test]
    fn a_list_in_a_single_file_is_refused_with_advice() {
        let message = Network::parse_single(&list(&json!([]))).unwrap_err().to_string();
        assert_eq!(message, "a list of 'plugins' must be in a .conflist file");
    }

    /// JSON that resembles a configuration closely enough to get past the outermost checks.
    fn near_configuration() -> impl Strategy<Value = String> {
        let scalar = prop_oneof![
            "[a-z./;]{0,8}".prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            Just(Value::Null),
            any::<bool>().prop_map(Value::from)
        ];
        let key = prop_oneof![
            Just("type"),
            Just("name"),
            Just("ipam"),
            Just("capabilities"),
            Just("plugins"),
            Just("cniVersion"),
            Just("cniVersions")
        ];
        let value = scalar.prop_recursive(4, 32, 5, move |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::btree_map(key.clone().prop_map(str::to_owned), inner, 0..5)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        });
        (value, any::<bool>()).prop_map(|(mut value, valid_head)| {
            if let (true, Value::Object(map)) = (valid_head, &mut value) {
                map.insert("name".into(), "pods".into());
                map.insert("cniVersion".into(), "1.0.0".into());
            }
            value.to_string()
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(10_000))]

        #[test]
        fn no_text_makes_the_parser_panic(text in prop_oneof![near_configuration(), ".{0,200}"]) {
            for parse in [Network::parse_list, Network::parse_single, Network::parse_recorded] {
                if let Ok(network) = parse(text.as_bytes()) {
                    prop_assert!(network.plugins().all(|kind| name::check_plugin_type(kind).is_ok()));
                    prop_assert!(name::check_identifier(network.name()).is_ok());
                }
            }
        }
    }
}
