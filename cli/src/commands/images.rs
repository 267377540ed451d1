//! `berth images`: the images of the node.

mod filter;

use std::process::ExitCode;

use clap::Args;
use serde::Serialize;

use self::filter::Filter;
use crate::api::runtime::Image;
use crate::node::Node;
use crate::output::Listing;
use crate::table::{self, Table};
use crate::units::size;

const NONE: &str = "<none>";

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
    /// Only images of this repository, or with this name; * stands for any run of characters
    #[arg(value_name = "NAME")]
    name: Option<String>,

    /// Only images of which this is true: dangling=BOOL (no tag), pinned=BOOL, reference=NAME,
    /// id=BEGINNING; with several, all must be
    #[arg(short, long, value_name = "KEY=VALUE")]
    filter: Vec<Filter>,

    /// Show digests
    #[arg(long)]
    digests: bool,

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
    let mut filters = options.filter;
    filters.extend(options.name.map(Filter::Reference));
    let mut views: Vec<_> = images.into_iter().map(view).collect();
    views.retain(|view| filters.iter().all(|filter| filter.takes(view)));
    views.sort_by(|one, other| (&one.tags, &one.digests).cmp(&(&other.tags, &other.digests)));
    match options.digests {
        true => options.listing.tell(&views, |view| &view.id, digests_table),
        false => options.listing.tell(&views, |view| &view.id, table),
    }
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

/// A row for each name, with the digest that it has; docker's `--digests`.
fn digests_table(views: &[View], whole_ids: bool) -> Table<5> {
    let mut table = Table::new(["IMAGE", "TAG", "DIGEST", "IMAGE ID", "SIZE"]);
    for view in views {
        let mut rows: Vec<_> = view
            .tags
            .iter()
            .map(|name| {
                let (repository, tag) = split(name, ':');
                let of_it = |name: &&String| split(name, '@').0 == repository;
                let digest = view.digests.iter().find(of_it).map(|name| split(name, '@').1);
                (repository, tag, digest.unwrap_or(NONE))
            })
            .collect();
        let has_tag =
            |repository: &str| view.tags.iter().any(|tag| split(tag, ':').0 == repository);
        let untagged = view.digests.iter().map(|name| split(name, '@'));
        let untagged = untagged.filter(|(repository, _)| !has_tag(repository));
        rows.extend(untagged.map(|(repository, digest)| (repository, NONE, digest)));
        if rows.is_empty() {
            rows.push((NONE, NONE, NONE));
        }
        for (repository, tag, digest) in rows {
            table.row([
                repository.to_owned(),
                tag.to_owned(),
                digest.to_owned(),
                table::id(&view.id, whole_ids),
                size::show(view.size),
            ]);
        }
    }
    table
}

/// A row for each tag, so that each name can be looked for; an image without tags has one row.
fn table(views: &[View], whole_ids: bool) -> Table<4> {
    let mut table = Table::new(["IMAGE", "TAG", "IMAGE ID", "SIZE"]);
    for view in views {
        let untagged = view.digests.first().map_or(NONE, |name| split(name, '@').0);
        let mut names: Vec<_> = view.tags.iter().map(|name| split(name, ':')).collect();
        if names.is_empty() {
            names.push((untagged, NONE));
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
        _ => (name, NONE),
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
    fn each_name_has_its_digest() {
        let untagged = Image { repo_tags: vec![], ..example() };
        let nameless = Image { repo_digests: vec![], ..untagged.clone() };
        let lines =
            digests_table(&[view(example()), view(untagged), view(nameless)], false).lines();
        let expected = [
            "IMAGE                   TAG      DIGEST      IMAGE ID        SIZE",
            "docker.io/library/app   1        sha256:00   0123456789abc   1.5 MiB",
            "localhost:5000/app      latest   <none>      0123456789abc   1.5 MiB",
            "docker.io/library/app   <none>   sha256:00   0123456789abc   1.5 MiB",
            "<none>                  <none>   <none>      0123456789abc   1.5 MiB",
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
