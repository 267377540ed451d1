//! `berth inspect`: everything about one object.

mod container;
mod image;
mod pod;

use std::collections::BTreeMap;
use std::process::ExitCode;

use anyhow::bail;
use clap::Args;
use serde_json::Value;

use crate::names::{NameError, Names, Object, find_image};
use crate::node::Node;
use crate::output::print_json;

const JSON: &str = "\
JSON: an object with
  kind        pod, container or image
  id, annotations
  info        what else the daemon tells; its shape is the daemon's
and for a pod
  labels, namespace, name, uid, attempt, state, createdAt, runtimeHandler, ips
  namespaces  object: network, pid, ipc, each pod, container, node or target
  containers  list of objects: id, name, attempt, state
for a container
  name, attempt, podId, state, exitCode, reason, message
  createdAt, startedAt, finishedAt
  image, imageId, logPath
  mounts      list of objects: source, destination, readOnly
  resources   object: memory, memoryAndSwap (bytes), cpuQuota, cpuPeriod (microseconds),
              cpuShares, cpusetCpus, cpusetMems, oomScoreAdj; null where there is no limit
  user        object: uid, gid, groups; null if the daemon does not tell
for an image
  tags, digests, size, user, pinned";

/// Print everything about a pod, a container or an image, as JSON
#[derive(Debug, Args)]
#[command(after_long_help = JSON)]
pub(crate) struct Inspect {
    /// The object: its id, the beginning of it, or its name; pods and containers come before images
    #[arg(value_name = "POD|CONTAINER|IMAGE")]
    object: String,
}

/// Prints the object.
pub(crate) async fn execute(node: &Node, options: Inspect) -> anyhow::Result<ExitCode> {
    let cri = node.cri().await?;
    let names = Names::read(&cri).await?;
    match names.object(&options.object) {
        Ok(Object::Pod(pod)) => print_json(&pod::inspect(&cri, &names, &pod.id).await?)?,
        Ok(Object::Container(container)) => {
            print_json(&container::inspect(&cri, container).await?)?;
        }
        Err(NameError::Unknown(message)) => {
            let Some(image) = find_image(&cri, &options.object).await? else {
                bail!("no image is called {:?}, and {message}", options.object);
            };
            print_json(&image::inspect(&cri, &image.id).await?)?;
        }
        Err(ambiguous) => return Err(ambiguous.into()),
    }
    Ok(ExitCode::SUCCESS)
}

/// What a daemon tells besides: texts, of which most are JSON themselves.
fn info(info: BTreeMap<String, String>) -> BTreeMap<String, Value> {
    let parsed = |text: String| serde_json::from_str(&text).unwrap_or(Value::String(text));
    info.into_iter().map(|(key, text)| (key, parsed(text))).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_json_in_the_info_is_shown_as_such() {
        let texts = [("config", r#"{"a": [1]}"#), ("note", "not json {")];
        let texts = texts.map(|(key, text)| (key.to_owned(), text.to_owned()));
        let expected = json!({ "config": { "a": [1] }, "note": "not json {" });
        assert_eq!(serde_json::to_value(info(texts.into())).unwrap(), expected);
    }
}
