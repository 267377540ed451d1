//! What one call of one plugin is given, computed as data: its environment
//! (specification 1.1, section 2, "Parameters") and its configuration
//! (section 3, "Deriving request configuration from plugin configuration").

use std::ffi::OsString;
use std::path::Path;

use serde_json::{Map, Value};

use crate::attachment::Args;
use crate::capability::Capabilities;
use crate::error::Verb;
use crate::network::{Network, Plugin};

/// What every call of a chain has in common.
#[derive(Debug)]
pub(crate) struct Request<'a> {
    pub(crate) verb: Verb,
    pub(crate) network: &'a Network,
    pub(crate) container_id: &'a str,
    pub(crate) ifname: &'a str,
    /// `None` when the namespace is gone.
    pub(crate) netns: Option<&'a Path>,
    pub(crate) args: &'a Args,
    pub(crate) capabilities: &'a Capabilities,
}

impl Request<'_> {
    /// The whole environment of the plugin. `plugin_path` is where it finds
    /// the plugins that it calls itself, `path` where it finds other programs.
    pub(crate) fn environment(
        &self,
        plugin_path: &OsString,
        path: &OsString,
    ) -> Vec<(&'static str, OsString)> {
        let args: Vec<_> = self.args.iter().map(|(key, value)| format!("{key}={value}")).collect();
        let netns = self.netns.map(|path| path.as_os_str().to_owned()).unwrap_or_default();
        vec![
            ("CNI_COMMAND", self.verb.as_str().into()),
            ("CNI_CONTAINERID", self.container_id.into()),
            ("CNI_NETNS", netns),
            ("CNI_IFNAME", self.ifname.into()),
            ("CNI_ARGS", args.join(";").into()),
            ("CNI_PATH", plugin_path.clone()),
            ("PATH", path.clone()),
        ]
    }

    /// The JSON that the plugin reads from standard input.
    pub(crate) fn stdin(&self, plugin: &Plugin, previous: Option<&Map<String, Value>>) -> Vec<u8> {
        let mut conf = plugin.conf.clone();
        // Reserved for us; what stands there by mistake must not pass for ours.
        conf.retain(|key, _| !key.starts_with("cni.dev/"));
        conf.remove("capabilities");
        conf.remove("prevResult");
        conf.insert("name".into(), self.network.name.as_str().into());
        conf.insert("cniVersion".into(), self.network.version.as_str().into());
        let wanted = self.capabilities.for_plugin(&plugin.capabilities);
        if !wanted.is_empty() {
            conf.insert("runtimeConfig".into(), wanted.into());
        }
        if let Some(previous) = previous {
            conf.insert("prevResult".into(), previous.clone().into());
        }
        Value::Object(conf).to_string().into_bytes()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::attachment::Attachment;

    fn network() -> Network {
        Network::parse_list(
            json!({
                "cniVersion": "1.0.0",
                "name": "pods",
                "plugins": [
                    {"type": "bridge", "bridge": "cni0", "name": "other", "cniVersion": "0.1.0",
                     "prevResult": {"forged": true}, "cni.dev/attachments": [], "x-own": 1},
                    {"type": "portmap", "capabilities": {"portMappings": true, "ips": false}},
                ],
            })
            .to_string()
            .as_bytes(),
        )
        .unwrap()
    }

    fn attachment() -> Attachment {
        Attachment::new("c1", "eth0").unwrap().pod("ns", "web-0", "u-1").unwrap().capabilities(
            Capabilities::default().ips(&["10.0.0.9".into()]).port_mappings(&[
                crate::PortMapping {
                    host_port: 8080,
                    container_port: 80,
                    protocol: crate::Protocol::Udp,
                    host_ip: Some("10.0.0.1".parse().unwrap()),
                },
            ]),
        )
    }

    fn request<'a>(
        verb: Verb,
        network: &'a Network,
        attachment: &'a Attachment,
        netns: Option<&'a str>,
    ) -> Request<'a> {
        Request {
            verb,
            network,
            container_id: &attachment.container_id,
            ifname: &attachment.ifname,
            netns: netns.map(Path::new),
            args: &attachment.args,
            capabilities: &attachment.capabilities,
        }
    }

    fn environment(request: &Request<'_>) -> Vec<String> {
        let environment = request.environment(&"/opt/cni/bin:/usr/lib/cni".into(), &"/bin".into());
        environment
            .iter()
            .map(|(key, value)| format!("{key}={}", value.to_string_lossy()))
            .collect()
    }

    #[test]
    fn the_environment_is_the_specifications_and_nothing_else() {
        let (network, attachment) = (network(), attachment());
        assert_eq!(
            environment(&request(Verb::Add, &network, &attachment, Some("/run/netns/a"))),
            [
                "CNI_COMMAND=ADD",
                "CNI_CONTAINERID=c1",
                "CNI_NETNS=/run/netns/a",
                "CNI_IFNAME=eth0",
                "CNI_ARGS=IgnoreUnknown=1;K8S_POD_NAMESPACE=ns;K8S_POD_NAME=web-0;\
                 K8S_POD_INFRA_CONTAINER_ID=c1;K8S_POD_UID=u-1",
                "CNI_PATH=/opt/cni/bin:/usr/lib/cni",
                "PATH=/bin",
            ]
        );
        let gone = environment(&request(Verb::Del, &network, &attachment, None));
        assert_eq!(gone[0], "CNI_COMMAND=DEL");
        assert_eq!(gone[2], "CNI_NETNS=");
    }

    #[test]
    fn the_first_plugin_gets_its_configuration_and_no_result() {
        let (network, attachment) = (network(), attachment());
        let request = request(Verb::Add, &network, &attachment, Some("/run/netns/a"));
        let stdin: Value =
            serde_json::from_slice(&request.stdin(&network.plugins[0], None)).unwrap();
        assert_eq!(
            stdin,
            json!({"cniVersion": "1.0.0", "name": "pods", "type": "bridge", "bridge": "cni0", "x-own": 1})
        );
    }

    #[test]
    fn the_next_plugin_gets_the_result_and_the_capabilities_that_it_declares() {
        let (network, attachment) = (network(), attachment());
        let request = request(Verb::Add, &network, &attachment, Some("/run/netns/a"));
        let previous = json!({"cniVersion": "1.0.0", "ips": []});
        let stdin = request.stdin(&network.plugins[1], previous.as_object());
        let expected = r#"{"cniVersion":"1.0.0","name":"pods","prevResult":{"cniVersion":"1.0.0","ips":[]},"runtimeConfig":{"portMappings":[{"containerPort":80,"hostIP":"10.0.0.1","hostPort":8080,"protocol":"udp"}]},"type":"portmap"}"#;
        let expected: Value = serde_json::from_str(expected).unwrap();
        assert_eq!(serde_json::from_slice::<Value>(&stdin).unwrap(), expected);
    }
}
