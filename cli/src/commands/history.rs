//! `berth history`: how an image was made, layer by layer.

use std::process::ExitCode;

use clap::Args;
use serde::{Deserialize, Serialize};

use crate::api::admin::InspectResponse;
use crate::node::Node;
use crate::output::{Format, Output, print, print_json};
use crate::table::Table;
use crate::units::size;

/// Characters of a step in a table.
const SHORT: usize = 60;

const JSON: &str = "\
JSON: a list of objects, last step first, with
  created     time, as the image has it
  createdBy   the command of the step
  comment     what its maker said
  diffId      digest of its layer; null if it made none
  size        bytes of its layer on the node";

/// Show how an image was made, last step first
#[derive(Debug, Args)]
#[command(after_long_help = JSON)]
pub(crate) struct History {
    /// The image: a name, an id, or the beginning of one
    image: String,

    /// Print whole commands
    #[arg(long)]
    no_trunc: bool,

    /// Print nothing but the digests of the layers
    #[arg(short, long, conflicts_with = "format")]
    quiet: bool,

    #[command(flatten)]
    output: Output,
}

/// What history needs of an image's configuration.
#[derive(Debug, Default, Deserialize)]
struct Config {
    history: Option<Vec<Made>>,
}

#[derive(Debug, Default, Deserialize)]
struct Made {
    created: Option<String>,
    created_by: Option<String>,
    comment: Option<String>,
    #[serde(default)]
    empty_layer: bool,
}

#[derive(Debug, Serialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
struct Step {
    created: Option<String>,
    created_by: Option<String>,
    comment: Option<String>,
    diff_id: Option<String>,
    size: u64,
}

/// Prints the steps.
pub(crate) async fn execute(node: &Node, options: History) -> anyhow::Result<ExitCode> {
    let image = node.admin().await?.inspect(&options.image).await?;
    let steps = steps(image);
    match options.output.format {
        _ if options.quiet => {
            let ids = steps.iter().filter_map(|step| step.diff_id.as_ref());
            print(ids.map(|id| format!("{id}\n")).collect::<String>())?;
        }
        Format::Table => print(table(&steps, options.no_trunc).to_string())?,
        Format::Json => print_json(&steps)?,
    }
    Ok(ExitCode::SUCCESS)
}

/// The steps, last first. Layers that no step claims are steps without a story: a history is
/// optional, and some builders write half of one.
fn steps(image: InspectResponse) -> Vec<Step> {
    let config: Config = serde_json::from_str(&image.config).unwrap_or_default();
    let mut layers = image.layers.into_iter();
    let mut steps = Vec::new();
    for made in config.history.unwrap_or_default() {
        let layer = if made.empty_layer { None } else { layers.next() };
        let size = layer.as_ref().map_or(0, |layer| layer.size);
        let diff_id = layer.map(|layer| layer.diff_id);
        let Made { created, created_by, comment, .. } = made;
        steps.push(Step { created, created_by, comment, diff_id, size });
    }
    steps.extend(layers.map(|layer| Step {
        created: None,
        created_by: None,
        comment: None,
        diff_id: Some(layer.diff_id),
        size: layer.size,
    }));
    steps.reverse();
    steps
}

fn table(steps: &[Step], whole: bool) -> Table<4> {
    let mut table = Table::new(["CREATED", "SIZE", "CREATED BY", "COMMENT"]);
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    for step in steps {
        table.row([
            text(&step.created),
            size::show(step.size),
            cut(&text(&step.created_by), whole),
            text(&step.comment),
        ]);
    }
    table
}

fn cut(text: &str, whole: bool) -> String {
    if whole || text.chars().count() <= SHORT {
        return text.to_owned();
    }
    text.chars().take(SHORT - 1).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::api::admin::ImageLayer;

    fn image(history: serde_json::Value) -> InspectResponse {
        let layer = |id: &str, size| ImageLayer { diff_id: id.to_owned(), size };
        InspectResponse {
            config: json!({ "history": history }).to_string(),
            layers: vec![layer("sha256:aa", 7), layer("sha256:bb", 9)],
            ..Default::default()
        }
    }

    #[test]
    fn steps_have_the_layers_that_they_made_last_first() {
        let steps = steps(image(json!([
            { "created_by": "ADD base /" },
            { "created_by": "ENV a=b", "empty_layer": true },
            { "created_by": "RUN make", "created": "2024-01-02T03:04:05Z" },
        ])));
        let told: Vec<_> = steps
            .iter()
            .map(|step| (step.created_by.as_deref().unwrap(), step.diff_id.as_deref(), step.size))
            .collect();
        let expected = [
            ("RUN make", Some("sha256:bb"), 9),
            ("ENV a=b", None, 0),
            ("ADD base /", Some("sha256:aa"), 7),
        ];
        assert_eq!(told, expected);
        assert_eq!(table(&steps, false).lines().len(), 4);
    }

    #[test]
    fn layers_without_a_history_are_told_all_the_same() {
        for history in [json!(null), json!([]), json!("nonsense"), json!([{}])] {
            let steps = steps(image(history));
            assert_eq!(steps.len(), 2);
            assert_eq!(steps[0].diff_id.as_deref(), Some("sha256:bb"));
        }
        assert!(cut(&"x".repeat(100), false).chars().count() == SHORT);
    }
}
