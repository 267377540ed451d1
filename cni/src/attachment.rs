//! One container on one network, as the caller describes it: validated here
//! once, trusted afterwards.

use std::path::{Path, PathBuf};

use crate::capability::Capabilities;
use crate::error::{Error, Result, excerpt};
use crate::name;

/// A container that is, or is to be, on a network. The specification knows an
/// attachment by its container id and interface name; the network is named by
/// the operation, or found in the record of the ADD.
#[derive(Debug, Clone, PartialEq)]
pub struct Attachment {
    pub(crate) container_id: String,
    pub(crate) ifname: String,
    pub(crate) netns: Option<PathBuf>,
    pub(crate) args: Args,
    pub(crate) capabilities: Capabilities,
}

/// `CNI_ARGS` as ordered pairs.
pub(crate) type Args = Vec<(String, String)>;

impl Attachment {
    /// An attachment of a container by an interface that gets this name.
    ///
    /// # Errors
    /// [`Error::Argument`] if either breaks the rules of the specification.
    pub fn new(container_id: &str, ifname: &str) -> Result<Self> {
        name::check_identifier(container_id).map_err(bad("container id", container_id))?;
        name::check_interface(ifname).map_err(bad("interface name", ifname))?;
        Ok(Self {
            container_id: container_id.to_owned(),
            ifname: ifname.to_owned(),
            netns: None,
            args: vec![("IgnoreUnknown".into(), "1".into())],
            capabilities: Capabilities::default(),
        })
    }

    /// Names the container's network namespace. An ADD needs it; a DEL does
    /// without when it is gone.
    ///
    /// # Errors
    /// [`Error::Argument`] if the path is not absolute.
    pub fn netns(mut self, path: &Path) -> Result<Self> {
        let text = path.to_string_lossy();
        if !path.is_absolute() || text.contains('\0') {
            return Err(bad("network namespace", &text)("must be an absolute path"));
        }
        self.netns = Some(path.to_owned());
        Ok(self)
    }

    /// Names the Kubernetes pod, by the `CNI_ARGS` that its plugins know. They
    /// are a fixed list in a fixed order, and no value can add to it.
    ///
    /// # Errors
    /// [`Error::Argument`] if a value holds `;`, `=` or a control character.
    pub fn pod(mut self, namespace: &str, name: &str, uid: &str) -> Result<Self> {
        name::check_args_value(namespace).map_err(bad("pod namespace", namespace))?;
        name::check_args_value(name).map_err(bad("pod name", name))?;
        name::check_args_value(uid).map_err(bad("pod uid", uid))?;
        let infra = self.container_id.as_str();
        self.args = [
            ("IgnoreUnknown", "1"),
            ("K8S_POD_NAMESPACE", namespace),
            ("K8S_POD_NAME", name),
            ("K8S_POD_INFRA_CONTAINER_ID", infra),
            ("K8S_POD_UID", uid),
        ]
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .to_vec();
        Ok(self)
    }

    /// Says what is wanted of the network.
    #[must_use]
    pub fn capabilities(mut self, capabilities: Capabilities) -> Self {
        self.capabilities = capabilities;
        self
    }

    /// The container.
    pub fn container_id(&self) -> &str {
        &self.container_id
    }

    /// The interface in the container.
    pub fn ifname(&self) -> &str {
        &self.ifname
    }
}

fn bad<'a>(what: &'static str, value: &'a str) -> impl Fn(&'static str) -> Error + use<'a> {
    move |why| Error::Argument { what, value: excerpt(value.as_bytes(), 128), why }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_is_named_by_a_fixed_list_in_order() {
        let attachment = Attachment::new("c1", "eth0").unwrap().pod("ns", "web-0", "u-1").unwrap();
        let keys: Vec<_> = attachment.args.iter().map(|(key, _)| key.as_str()).collect();
        let order = [
            "IgnoreUnknown",
            "K8S_POD_NAMESPACE",
            "K8S_POD_NAME",
            "K8S_POD_INFRA_CONTAINER_ID",
            "K8S_POD_UID",
        ];
        assert_eq!(keys, order);
        assert_eq!(attachment.args[3].1, "c1");
    }

    #[test]
    fn what_is_refused_is_named() {
        let injection = "web;K8S_POD_INFRA_CONTAINER_ID=x";
        let refused = Attachment::new("c1", "eth0").unwrap().pod("ns", injection, "u").unwrap_err();
        assert_eq!(
            refused.to_string(),
            r#"pod name "web;K8S_POD_INFRA_CONTAINER_ID=x" may not hold ';', '=' or control characters"#
        );
        assert!(Attachment::new("../c1", "eth0").is_err());
        assert!(Attachment::new("c1", "eth0/../x").is_err());
        assert!(Attachment::new("c1", "eth0").unwrap().netns(Path::new("run/netns/a")).is_err());
    }
}
