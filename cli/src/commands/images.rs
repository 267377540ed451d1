//! `berth images`: the images of the node.

use std::process::ExitCode;

use clap::Args;
use serde::Serialize;

use crate::api::runtime::Image;
use crate::node::Node;
use crate::output::Listing;
use crate::table::{self, Table};
use crate::units::size;

const JSON: &str = "\
JSON: a list of objects with
  id            digest of the image's configuration
  tags          list of names with tags
  digests       list of names with digests
  size          bytes on the node
  user          who its containers run as, if it says so: a number or a name
  pinned        whether it is kept when space is needed";

/// List images by name
#[derive(Debug, Args)]
#[command(after_long_help = JSON)]
pub(crate) struct Images {
    #[command(flatten)]
    listing: Listing,
}

#[derive(Debug, Serialize)]
pub(super) struct View {
    id: String,
    tags: Vec<String>,
    digests: Vec<String>,
    size: u64,
    user: Option<String>,
    pinned: bool,
}

/// Prints the list.
pub(crate) async fn execute(node: &Node, options: Images) -> anyhow::Result<ExitCode> {
    let images = node.cri().await?.list_images().await?;
    let mut views: Vec<_> = images.into_iter().map(view).collect();
    views.sort_by(|one, other| (&one.tags, &one.digests).cmp(&(&other.tags, &other.digests)));
    options.listing.tell(&views, |view| &view.id, table)
}

pub(super) fn view(image: Image) -> View {
    let number = image.uid.map(|uid| uid.value.to_string());
    let name = Some(image.username).filter(|name| !name.is_empty());
    View {
        id: image.id,
        tags: image.repo_tags,
        digests: image.repo_digests,
        size: image.size,
        user: number.or(name),
        pinned: image.pinned,
    }
}

/// A row for each tag, so that each name can be looked for; an image without tags has one row.
fn table(views: &[View], whole_ids: bool) -> Table<4> {
    let mut table = Table::new(["IMAGE", "TAG", "IMAGE ID", "SIZE"]);
    for view in views {
        let untagged = view.digests.first().map_or("<none>", |name| split(name, '@').0);
        let mut names: Vec<_> = view.tags.iter().map(|name| split(name, ':')).collect();
        if names.is_empty() {
            names.push((untagged, "<none>"));
        }
        for (name, tag) in names {
            table.row([
                name.to_owned(),
                tag.to_owned(),
                table::id(&view.id, whole_ids),
                size::show(view.size),
            ]);
        }
    }
    table
}

/// Splits a name from its tag or digest. A colon before a slash belongs to a port.
fn split(name: &str, separator: char) -> (&str, &str) {
    match name.rsplit_once(separator) {
        Some((name, last)) if !last.contains('/') => (name, last),
        _ => (name, "<none>"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::api::runtime::Int64Value;

    fn example() -> Image {
        Image {
            id: "sha256:0123456789abcdef".into(),
            repo_tags: vec!["docker.io/library/app:1".into(), "localhost:5000/app:latest".into()],
            repo_digests: vec!["docker.io/library/app@sha256:00".into()],
            size: 3 << 19,
            uid: Some(Int64Value { value: 7 }),
            ..Default::default()
        }
    }

    #[test]
    fn each_tag_has_a_row() {
        let untagged = Image { repo_tags: vec![], ..example() };
        let lines = table(&[view(example()), view(untagged)], false).lines();
        let expected = [
            "IMAGE                   TAG      IMAGE ID        SIZE",
            "docker.io/library/app   1        0123456789abc   1.5 MiB",
            "localhost:5000/app      latest   0123456789abc   1.5 MiB",
            "docker.io/library/app   <none>   0123456789abc   1.5 MiB",
        ];
        assert_eq!(lines, expected);
    }

    #[test]
    fn the_json_shape_is_stable() {
        let expected = json!({
            "id": "sha256:0123456789abcdef",
            "tags": ["docker.io/library/app:1", "localhost:5000/app:latest"],
            "digests": ["docker.io/library/app@sha256:00"],
            "size": 1_572_864,
            "user": "7",
            "pinned": false,
        });
        assert_eq!(serde_json::to_value(view(example())).unwrap(), expected);
    }
}
