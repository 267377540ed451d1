//! Images and artifacts as volumes (KEP-4639).

use std::path::PathBuf;

use berth_sandbox::PodUsers;
use oci_spec::runtime::Mount as OciMount;
use tonic::Status;

use crate::api::runtime::Mount;

use super::super::invalid;
use super::super::users::{self, Owners};

/// An image that is mounted. What there is at its destination is known once the image is prepared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageVolume {
    /// How the client calls the image.
    pub image: String,
    /// A path in it.
    pub sub_path: String,
    /// Where it is mounted.
    pub(in crate::translate) destination: PathBuf,
}

/// The image that is mounted, if it is one.
pub(super) fn image_of(mount: &Mount) -> Option<&str> {
    mount.image.as_ref().map(|image| image.image.as_str()).filter(|image| !image.is_empty())
}

/// What an image is mounted with. Programs in it can be executed, as in the field, whatever the
/// documentation of Kubernetes says; nobody gains rights by them, and it has no devices.
const OF_IMAGE: [&str; 3] = ["ro", "nosuid", "nodev"];

/// What a client may add or take back: restrictions of the mount.
const ASKED_OF_IMAGE: [&str; 11] = [
    "ro",
    "nosuid",
    "suid",
    "nodev",
    "noexec",
    "exec",
    "noatime",
    "relatime",
    "nodiratime",
    "nosymfollow",
    "private",
];

/// An overlay whose layers are still to come. In a pod with users of its own they are these
/// users', whatever else is said: nothing else could be meant by files that everybody shares.
pub(super) fn image_mount(
    index: usize,
    mount: &Mount,
    users: Option<PodUsers>,
) -> Result<OciMount, Status> {
    let field = format!("config.mounts[{index}]");
    let asked = mount.mount_options.iter().map(String::as_str);
    if let Some(bad) = asked.clone().find(|option| !ASKED_OF_IMAGE.contains(option)) {
        let why = format!("{bad:?} is no option of an image");
        return Err(invalid(&format!("{field}.mount_options"), why));
    }
    if let Owners::Mapped(..) = users::owners(index, mount, users)? {
        let why = "of an image are not those of the pod";
        return Err(invalid(&format!("{field}.uidMappings"), why));
    }
    let mut options: Vec<_> = OF_IMAGE.into_iter().chain(asked).collect();
    if users.is_some() {
        options.push("idmap");
    }
    Ok(super::mount(&super::clean(&mount.container_path), "overlay", "overlay", &options))
}

/// Gives an image's mount its directories, top first.
pub(in crate::translate) fn fill(mount: &mut OciMount, lowers: &[PathBuf]) {
    // Colons are between directories, commas between options.
    let escaped = |lower: &PathBuf| {
        let special = |letter: char| matches!(letter, '\\' | ':' | ',');
        let letters = lower.to_string_lossy().into_owned();
        letters.chars().fold(String::new(), |mut text, letter| {
            text.extend(special(letter).then_some('\\'));
            text.push(letter);
            text
        })
    };
    let list: Vec<_> = lowers.iter().map(escaped).collect();
    let mut options = mount.options().clone().unwrap_or_default();
    options.push(format!("lowerdir={}", list.join(":")));
    mount.set_options(Some(options));
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::api::runtime::ImageSpec;

    #[test]
    fn an_image_is_an_overlay_of_directories_that_are_found_later() {
        let image = Some(ImageSpec { image: "i".into(), ..Default::default() });
        let mount_options = vec!["noexec".to_owned()];
        let asked =
            Mount { container_path: "/m/".into(), image, mount_options, ..Default::default() };
        let mut mount = image_mount(0, &asked, None).unwrap();
        assert_eq!(mount.destination(), Path::new("/m"));
        assert_eq!(mount.typ().as_deref(), Some("overlay"));
        fill(&mut mount, &["/l/2/fs/a:b".into(), r"/l/1/fs/c,\".into()]);
        let lowers = r"lowerdir=/l/2/fs/a\:b:/l/1/fs/c\,\\";
        let expected = ["ro", "nosuid", "nodev", "noexec", lowers];
        assert_eq!(mount.options().clone().unwrap(), expected);
    }
}
