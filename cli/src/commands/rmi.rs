//! `berth rmi`: takes names from images, and removes images.

use std::process::ExitCode;

use clap::Args;

use super::for_each;
use crate::api::admin::Removal;
use crate::node::Node;
use crate::output::print;

/// Remove images: a name, and the image with its last one; by an id, the image with all its names
///
/// Prints a line for each name that was taken away, and for each image that is gone. What a
/// container uses is removed by --force only, and its space is freed when the container is.
#[derive(Debug, Args)]
pub(crate) struct Rmi {
    /// Also if a container uses the image, or if an id stands for names in several repositories
    #[arg(short, long)]
    force: bool,

    /// Names, ids, or beginnings of ids
    #[arg(required = true, value_name = "IMAGE")]
    images: Vec<String>,
}

/// Removes each image, and prints what was removed.
pub(crate) async fn execute(node: &Node, options: Rmi) -> anyhow::Result<ExitCode> {
    let admin = node.admin().await?;
    let remove = async |text: &str| print(lines(&admin.remove(text, options.force).await?));
    for_each(&options.images, remove).await
}

/// What was taken away, in lines.
pub(super) fn lines(removal: &Removal) -> String {
    let mut lines: String =
        removal.names.iter().map(|name| format!("Untagged: {name}\n")).collect();
    if !removal.image_id.is_empty() {
        lines += &format!("Deleted: {}\n", removal.image_id);
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_name_and_each_image_has_a_line() {
        let names = vec!["docker.io/library/app:1".to_owned()];
        let mut removal = Removal { names, image_id: String::new(), freed: 0 };
        assert_eq!(lines(&removal), "Untagged: docker.io/library/app:1\n");
        removal.image_id = "sha256:aa".into();
        assert!(lines(&removal).ends_with(":1\nDeleted: sha256:aa\n"));
    }
}
