//! `berth image scrub`: whether everything of images is as it was when it came.

use std::process::ExitCode;

use clap::Args;
use serde::Serialize;

use crate::api::admin::Finding;
use crate::node::Node;
use crate::output::{Format, Output, one_line, print, print_json};

const JSON: &str = "\
JSON: a list of objects with
  object    what it is: a layer by its digest, or a record
  path      where it is
  problem   what is wrong with it
  images    ids of the images that need it
  repaired  whether it was made good";

/// Read all layers and records of images, and print what is not as it was
///
/// With --repair, records are written anew; a damaged layer goes with the images that need it, and
/// comes again with the next pull, while containers that run on it keep it. The exit code is 1 if
/// there is anything that was not repaired.
#[derive(Debug, Args)]
#[command(after_long_help = JSON)]
pub(crate) struct Scrub {
    /// Make good what is found
    #[arg(long)]
    repair: bool,

    #[command(flatten)]
    output: Output,
}

#[derive(Debug, Serialize)]
struct View {
    object: String,
    path: String,
    problem: String,
    images: Vec<String>,
    repaired: bool,
}

/// Prints what was found.
pub(super) async fn execute(node: &Node, options: Scrub) -> anyhow::Result<ExitCode> {
    let findings = node.admin().await?.scrub(options.repair).await?;
    let views: Vec<View> = findings.into_iter().map(view).collect();
    match options.output.format {
        Format::Table => print(text(&views))?,
        Format::Json => print_json(&views)?,
    }
    let is_good = views.iter().all(|view| view.repaired);
    Ok(if is_good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn view(finding: Finding) -> View {
    let Finding { object, path, problem, images, repaired } = finding;
    View { object, path, problem, images, repaired }
}

fn text(views: &[View]) -> String {
    let mut text = String::new();
    for View { object, path, problem, images, repaired } in views {
        let of =
            if images.is_empty() { String::new() } else { format!(" of {}", images.join(", ")) };
        let end = if *repaired { " (repaired)" } else { "" };
        text += &format!("{}\n", one_line(&format!("{object}{of}: {problem}: {path}{end}")));
    }
    text + match views.len() {
        0 => "all is as it was\n",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_finding_has_a_line() {
        let mut finding = View {
            object: "layer sha256:aa".into(),
            path: "/l/3".into(),
            problem: "its tree has 2 entries, and had 3".into(),
            images: vec!["sha256:bb".into()],
            repaired: false,
        };
        let line = "layer sha256:aa of sha256:bb: its tree has 2 entries, and had 3: /l/3";
        assert_eq!(text(&[]), "all is as it was\n");
        assert_eq!(text(std::slice::from_ref(&finding)), format!("{line}\n"));
        finding.repaired = true;
        assert_eq!(text(&[finding]), format!("{line} (repaired)\n"));
    }
}
