//! `berth audit`: what exists without a record, and records without their thing.

use std::collections::BTreeMap;
use std::process::ExitCode;

use anyhow::bail;
use clap::Args;
use serde::Serialize;

use crate::api::admin::audit_response::Event;
use crate::api::admin::{AuditCount, AuditSummary, Stray, stray};
use crate::node::{Admin, Node};
use crate::output::{Format, Output, one_line, print, print_json};

const JSON: &str = "\
JSON: an object with
  strays    list of objects
              class      mount, netns, link, ipam, cgroup, process, shim, snapshot, ingest,
                         record or file
              object     path, name or pid
              owner      the pod, container or image that it would belong to, or null
              operation  the operation that made it, or null
              reason     why it is a stray
  checked   object: number of objects that were looked at, by class";

/// Compare berthd's records with the kernel and the disk, and print every stray
///
/// Mounts, network namespaces, links, addresses, cgroups, processes, snapshots and files: what is
/// there without a record, and what is on record and is not there. The exit code is 1 if there
/// is any. What belongs to an operation in flight is no stray.
#[derive(Debug, Args)]
#[command(after_long_help = JSON)]
pub(crate) struct Audit {
    #[command(flatten)]
    output: Output,
}

#[derive(Debug, Serialize)]
struct View {
    strays: Vec<StrayView>,
    checked: BTreeMap<String, u64>,
}

#[derive(Debug, Serialize)]
struct StrayView {
    class: String,
    object: String,
    owner: Option<String>,
    operation: Option<String>,
    reason: String,
}

/// Prints every stray; fails if there is any, or if the audit did not come to its end.
pub(crate) async fn execute(node: &Node, options: Audit) -> anyhow::Result<ExitCode> {
    let view = audit(&node.admin().await?).await?;
    match options.output.format {
        Format::Table => print(text(&view))?,
        Format::Json => print_json(&view)?,
    }
    Ok(if view.strays.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn audit(admin: &Admin) -> anyhow::Result<View> {
    let mut answers = admin.audit().await?;
    let mut strays = Vec::new();
    while let Some(answer) = answers.next().await? {
        match answer.event {
            Some(Event::Stray(stray)) => strays.push(stray_view(stray)),
            Some(Event::Summary(summary)) => return Ok(View { strays, checked: counts(summary) }),
            // What a newer berthd tells besides is nothing to us.
            None => {}
        }
    }
    bail!("the audit ended before its summary: {} strays until then", strays.len())
}

fn stray_view(stray: Stray) -> StrayView {
    let known = |text: String| Some(text).filter(|text| !text.is_empty());
    StrayView {
        class: class(stray.class),
        object: stray.object,
        owner: known(stray.owner),
        operation: known(stray.operation),
        reason: stray.reason,
    }
}

/// `netns`; the number of a class that only a newer berthd knows.
fn class(class: i32) -> String {
    stray::Class::try_from(class)
        .map_or(class.to_string(), |class| class.as_str_name().to_ascii_lowercase())
}

fn counts(summary: AuditSummary) -> BTreeMap<String, u64> {
    let count = |AuditCount { class: of, objects }: AuditCount| (class(of), objects);
    summary.checked.into_iter().map(count).collect()
}

fn text(view: &View) -> String {
    let mut text = String::new();
    for StrayView { class, object, owner, operation, reason } in &view.strays {
        let owner = owner.as_ref().map(|owner| format!(" of {owner}"));
        let operation = operation.as_ref().map(|operation| format!(" (operation {operation})"));
        let (owner, operation) = (owner.unwrap_or_default(), operation.unwrap_or_default());
        let line = one_line(&format!("{class} {object}{owner}: {reason}{operation}"));
        text.push_str(&format!("{line}\n"));
    }
    let strays = match view.strays.len() {
        0 => "no strays".to_owned(),
        1 => "1 stray".to_owned(),
        count => format!("{count} strays"),
    };
    let checked = view.checked.iter().map(|(class, count)| format!("{class} {count}"));
    text.push_str(&format!("{strays}; checked: {}\n", checked.collect::<Vec<_>>().join(", ")));
    text
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn example() -> View {
        let stray = Stray {
            class: stray::Class::Netns.into(),
            object: "/run/berth/netns/a1".into(),
            owner: "a1".into(),
            operation: String::new(),
            reason: "no sandbox has it".into(),
        };
        let checked = vec![AuditCount { class: stray::Class::Mount.into(), objects: 12 }];
        let summary = AuditSummary { strays: 1, checked };
        View { strays: vec![stray_view(stray)], checked: counts(summary) }
    }

    #[test]
    fn each_stray_has_a_line_and_the_sum_comes_last() {
        let expected = "netns /run/berth/netns/a1 of a1: no sandbox has it\n\
                        1 stray; checked: mount 12\n";
        assert_eq!(text(&example()), expected);
        let clean = View { strays: vec![], ..example() };
        assert_eq!(text(&clean), "no strays; checked: mount 12\n");
    }

    #[test]
    fn the_json_shape_is_stable() {
        let expected = json!({
            "strays": [{
                "class": "netns",
                "object": "/run/berth/netns/a1",
                "owner": "a1",
                "operation": null,
                "reason": "no sandbox has it",
            }],
            "checked": { "mount": 12 },
        });
        assert_eq!(serde_json::to_value(example()).unwrap(), expected);
    }

    #[test]
    fn a_class_that_is_not_known_keeps_its_number() {
        assert_eq!(class(99), "99");
    }
}
