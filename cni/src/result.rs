//! What an ADD answers: read, checked, converted between versions of the
//! specification, and told to the caller.
//!
//! The JSON of a plugin is kept beside what we understand of it, so that the
//! next plugin and the record of the attachment get all of it. Between 0.3.0
//! and 1.1.0 only two things changed: up to 0.4.0 each address names its
//! family in `version`, and from 1.0.0 an interface may tell `mtu`,
//! `socketPath` and `pciID`.

use std::net::IpAddr;
use std::time::Duration;

use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};

use crate::cidr::Cidr;
use crate::version::SpecVersion;

/// What a container got on a network.
#[derive(Debug, Clone)]
pub struct Attached {
    /// The network's name.
    pub network: String,
    /// The interface in the container that was asked for.
    pub ifname: String,
    /// Interfaces that were made, those on the host included.
    pub interfaces: Vec<Interface>,
    /// Addresses in the order of the result.
    pub ips: Vec<Ip>,
    /// Routes in the container.
    pub routes: Vec<Route>,
    /// DNS settings that the network suggests.
    pub dns: Dns,
    /// The final result as JSON, in the network's version of the specification.
    pub raw: String,
    /// How long each plugin ran, in order.
    pub runs: Vec<PluginRun>,
    /// Capability arguments that were asked for and that no plugin of this
    /// network takes, for example `portMappings`.
    pub unserved: Vec<String>,
}

/// An interface that a plugin made.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Interface {
    /// Its name.
    pub name: String,
    /// Its hardware address; may be empty.
    #[serde(default)]
    pub mac: String,
    /// The namespace that it is in; empty for the host's.
    #[serde(default)]
    pub sandbox: String,
}

/// An address that a plugin assigned.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Ip {
    /// The address in its subnet.
    pub address: Cidr,
    /// The subnet's gateway.
    #[serde(default, deserialize_with = "empty_as_none")]
    pub gateway: Option<IpAddr>,
    /// Index into [`Attached::interfaces`] of the interface that has it.
    pub interface: Option<usize>,
}

/// A route that a plugin made.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Route {
    /// Destination.
    #[serde(rename = "dst")]
    pub destination: Cidr,
    /// Next hop; `None` means the gateway of an address.
    #[serde(rename = "gw", default, deserialize_with = "empty_as_none")]
    pub gateway: Option<IpAddr>,
}

/// DNS settings, as the specification has them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Dns {
    /// Addresses of name servers, in order.
    pub nameservers: Vec<String>,
    /// Local domain; may be empty.
    pub domain: String,
    /// Search domains, in order.
    pub search: Vec<String>,
    /// Resolver options.
    pub options: Vec<String>,
}

/// One plugin's share of an ADD.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PluginRun {
    /// The plugin's type.
    pub plugin: String,
    /// From the start of its process to its end.
    pub took: Duration,
}

impl Attached {
    /// The addresses of the interface that was asked for, in the order of the
    /// result: those that name it, and those that name none.
    pub fn pod_ips(&self) -> impl Iterator<Item = IpAddr> {
        let ours = |ip: &&Ip| match ip.interface.and_then(|index| self.interfaces.get(index)) {
            Some(interface) => interface.name == self.ifname && !interface.sandbox.is_empty(),
            None => true,
        };
        self.ips.iter().filter(ours).map(|ip| ip.address.address)
    }
}

/// The answer of one plugin, in the version of its network.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Answer {
    pub(crate) raw: Map<String, Value>,
    pub(crate) parsed: Parsed,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub(crate) struct Parsed {
    pub(crate) interfaces: Vec<Interface>,
    pub(crate) ips: Vec<Ip>,
    pub(crate) routes: Vec<Route>,
    pub(crate) dns: Dns,
}

impl Answer {
    /// Reads what a plugin wrote. A missing version means the network's, and
    /// `null` means nothing, as libcni has it.
    ///
    /// # Errors
    /// What is wrong with the answer, in words.
    pub(crate) fn read(stdout: &[u8], version: SpecVersion) -> Result<Self, String> {
        if stdout.iter().all(u8::is_ascii_whitespace) {
            return Err("nothing was written".into());
        }
        let raw: Option<Map<String, Value>> =
            serde_json::from_slice(stdout).map_err(|e| e.to_string())?;
        Self::of(raw.unwrap_or_default(), version)
    }

    /// Takes JSON of any version that we speak into the given one.
    ///
    /// # Errors
    /// What is wrong with it, in words.
    pub(crate) fn of(mut raw: Map<String, Value>, version: SpecVersion) -> Result<Self, String> {
        raw.values_mut().for_each(drop_nulls);
        raw.retain(|_, value| !value.is_null());
        let parsed = Parsed::deserialize(Value::Object(raw.clone())).map_err(|e| e.to_string())?;
        for ip in &parsed.ips {
            if ip.interface.is_some_and(|index| index >= parsed.interfaces.len()) {
                return Err(format!(
                    "address {} is on an interface that is not listed",
                    ip.address
                ));
            }
        }
        let from = match raw.get("cniVersion").and_then(Value::as_str) {
            None | Some("") => version,
            Some(name) => SpecVersion::parse(name)
                .ok_or_else(|| format!("cniVersion {name:?} cannot be converted to {version}"))?,
        };
        convert(&mut raw, &parsed, from, version);
        Ok(Self { raw, parsed })
    }
}

fn convert(raw: &mut Map<String, Value>, parsed: &Parsed, from: SpecVersion, to: SpecVersion) {
    raw.insert("cniVersion".into(), to.as_str().into());
    if from.addresses_name_family() == to.addresses_name_family() {
        return;
    }
    for (ip, parsed) in objects(raw.get_mut("ips")).zip(&parsed.ips) {
        ip.remove("version");
        if to.addresses_name_family() {
            let family = if parsed.address.address.is_ipv4() { "4" } else { "6" };
            ip.insert("version".into(), family.into());
        }
    }
    if to.addresses_name_family() {
        for interface in objects(raw.get_mut("interfaces")) {
            interface.retain(|key, _| !matches!(key.as_str(), "mtu" | "socketPath" | "pciID"));
        }
    }
}

fn objects(array: Option<&mut Value>) -> impl Iterator<Item = &mut Map<String, Value>> {
    array.and_then(Value::as_array_mut).into_iter().flatten().filter_map(Value::as_object_mut)
}

/// Plugins written in Go spell an empty list or address as `null`.
fn drop_nulls(value: &mut Value) {
    match value {
        Value::Object(map) => {
            map.values_mut().for_each(drop_nulls);
            map.retain(|_, value| !value.is_null());
        }
        Value::Array(items) => items.iter_mut().for_each(drop_nulls),
        _ => {}
    }
}

/// They also spell a missing address as an empty string.
fn empty_as_none<'de, D: Deserializer<'de>>(from: D) -> Result<Option<IpAddr>, D::Error> {
    let text = String::deserialize(from)?;
    if text.is_empty() {
        return Ok(None);
    }
    text.parse().map(Some).map_err(|_| serde::de::Error::custom(format!("{text:?} is no address")))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use SpecVersion::{V0_3_1, V0_4_0, V1_0_0, V1_1_0};

    fn read(answer: &Value, version: SpecVersion) -> Result<Answer, String> {
        Answer::read(answer.to_string().as_bytes(), version)
    }

    fn old() -> Value {
        json!({
            "cniVersion": "0.4.0",
            "interfaces": [{"name": "cni0"}, {"name": "eth0", "sandbox": "/run/netns/a"}],
            "ips": [
                {"version": "4", "address": "10.1.0.5/16", "gateway": "10.1.0.1", "interface": 1},
                {"version": "6", "address": "fd00::5/64", "interface": 1},
            ],
            "routes": [{"dst": "0.0.0.0/0", "mtu": 1400}],
        })
    }

    fn new() -> Value {
        let mut new = old();
        new["cniVersion"] = json!("1.0.0");
        for ip in new["ips"].as_array_mut().unwrap() {
            ip.as_object_mut().unwrap().remove("version");
        }
        new
    }

    fn labelled(mut result: Value, version: &str) -> Value {
        result["cniVersion"] = json!(version);
        result
    }

    #[test]
    fn results_are_converted_to_the_version_of_the_network() {
        let table = [
            (old(), V0_4_0, old()),
            (old(), V0_3_1, labelled(old(), "0.3.1")),
            (old(), V1_0_0, new()),
            (old(), V1_1_0, labelled(new(), "1.1.0")),
            (new(), V1_0_0, new()),
            (new(), V1_1_0, labelled(new(), "1.1.0")),
            (new(), V0_4_0, old()),
        ];
        for (answer, version, expected) in table {
            assert_eq!(Value::Object(read(&answer, version).unwrap().raw), expected, "{version}");
        }
    }

    #[test]
    fn an_old_network_sees_no_new_fields_and_unknown_ones_stay() {
        let answer = json!({
            "cniVersion": "1.1.0",
            "interfaces": [{"name": "eth0", "mtu": 1500, "pciID": "x", "socketPath": "/s", "own": 1}],
            "vendor": {"a": 1},
        });
        let expected = json!({
            "cniVersion": "0.4.0",
            "interfaces": [{"name": "eth0", "own": 1}],
            "vendor": {"a": 1},
        });
        assert_eq!(Value::Object(read(&answer, V0_4_0).unwrap().raw), expected);
    }

    #[test]
    fn what_plugins_leave_out_or_spell_as_null_is_empty() {
        for answer in [
            json!(null),
            json!({}),
            json!({"cniVersion": ""}),
            json!({"interfaces": null, "ips": null, "routes": null, "dns": {"nameservers": null}}),
        ] {
            let read = read(&answer, V1_0_0).unwrap();
            assert_eq!(read.parsed, Parsed::default(), "{answer}");
            assert_eq!(read.raw["cniVersion"], "1.0.0");
        }
        let answer = json!({"ips": [{"address": "10.0.0.2/24", "gateway": "", "interface": null}]});
        assert_eq!(read(&answer, V1_0_0).unwrap().parsed.ips[0].gateway, None);
    }

    #[test]
    fn nonsense_is_refused_in_words() {
        let table: &[(&str, &str)] = &[
            ("", "nothing was written"),
            (" \n", "nothing was written"),
            ("hello", "expected value at line 1 column 1"),
            ("[]", "expected a map"),
            ("{} trailing", "trailing characters"),
            (r#"{"cniVersion": "0.2.0"}"#, "\"0.2.0\" cannot be converted to 1.0.0"),
            (r#"{"cniVersion": "9.9.9"}"#, "\"9.9.9\" cannot be converted"),
            (r#"{"ips": [{"address": "10.0.0.2"}]}"#, "is no address in CIDR notation"),
            (r#"{"ips": [{"address": "10.0.0.2/8", "gateway": "x"}]}"#, "\"x\" is no address"),
            (r#"{"ips": [{"address": "10.0.0.2/8", "interface": 0}]}"#, "that is not listed"),
            (r#"{"interfaces": [{}]}"#, "missing field `name`"),
            (r#"{"routes": 3}"#, "expected a sequence"),
        ];
        for (answer, expected) in table {
            let message = Answer::read(answer.as_bytes(), V1_0_0).unwrap_err();
            assert!(message.contains(expected), "{message}\nlacks {expected}");
        }
    }

    #[test]
    fn the_pods_addresses_are_those_of_its_interface() {
        let answer = json!({
            "interfaces": [
                {"name": "veth1"},
                {"name": "eth0", "sandbox": "/run/netns/a"},
                {"name": "net1", "sandbox": "/run/netns/a"},
            ],
            "ips": [
                {"address": "10.0.0.9/24", "interface": 0},
                {"address": "fd00::2/64", "interface": 1},
                {"address": "10.0.0.2/24", "interface": 1},
                {"address": "10.9.0.2/24", "interface": 2},
                {"address": "10.0.0.3/24"},
            ],
        });
        let Answer { parsed, .. } = read(&answer, V1_0_0).unwrap();
        let attached = Attached {
            network: "pods".into(),
            ifname: "eth0".into(),
            interfaces: parsed.interfaces,
            ips: parsed.ips,
            routes: parsed.routes,
            dns: parsed.dns,
            raw: String::new(),
            runs: vec![],
            unserved: vec![],
        };
        let ips: Vec<_> = attached.pod_ips().map(|ip| ip.to_string()).collect();
        assert_eq!(ips, ["fd00::2", "10.0.0.2", "10.0.0.3"]);
    }
}
