//! What an agent is told of a process whose calls it decides on: the "container process state"
//! of the OCI runtime specification.

use oci_spec::runtime::Spec;

use crate::error::Error;
use crate::plan;

use super::{Agent, Context};

impl Agent {
    /// The agent, with the state that goes with the descriptor. The PID is known to the process
    /// itself at last: the text is cut where it belongs.
    pub(super) fn planned(
        &self,
        spec: &Spec,
        context: &Context<'_>,
    ) -> Result<plan::SeccompAgent, Error> {
        let path = self.path.to_str().ok_or_else(|| {
            Error::Spec(format!("linux.seccomp.listenerPath: {:?} is not in UTF-8", self.path))
        })?;
        let version = json(spec.version());
        let metadata =
            self.metadata.as_ref().map(|metadata| format!(r#","metadata":{}"#, json(metadata)));
        let metadata = metadata.unwrap_or_default();
        let status = if context.first.is_some() { "running" } else { "creating" };
        let head = format!(r#"{{"ociVersion":{version},"fds":["seccompFd"],"pid":"#);
        let id = json(context.id);
        let middle = format!(
            r#"{metadata},"state":{{"ociVersion":{version},"id":{id},"status":"{status}","pid":"#
        );
        let bundle = json(&context.bundle.to_string_lossy());
        let annotations = spec.annotations().clone().unwrap_or_default();
        let annotations = serde_json::to_string(&annotations).unwrap_or_default();
        let tail = format!(r#","bundle":{bundle},"annotations":{annotations}}}}}"#);
        let state = match context.first {
            Some(pid) => vec![head, format!("{middle}{pid}{tail}")],
            None => vec![head, middle, tail],
        };
        Ok(plan::SeccompAgent { path: path.to_owned(), state })
    }
}

fn json(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}
