//! The SELinux label of what is mounted.

use oci_spec::runtime::Linux;

use crate::error::Error;
use crate::plan::{Mount, MountSource, Plan, RootSource};

use super::at;

/// File systems that SELinux labels by rules of its own.
const UNLABELLED: [&str; 4] = ["proc", "sysfs", "cgroup2", "overlay"];

/// File systems that have a label as files do, and not as an option: the same instance may be
/// mounted already.
const LABELLED_LATER: [&str; 1] = ["mqueue"];

/// Gives every new file system the label that the specification says, the root's overlay among
/// them.
///
/// Bind mounts keep theirs: it is that of the files. So does a root that is a directory.
pub(super) fn dress(plan: &mut Plan, linux: &Linux) -> Result<(), Error> {
    let label = linux.mount_label().clone().unwrap_or_default();
    if label.is_empty() {
        return Ok(());
    }
    if label.contains(['\0', '\n', '"']) {
        return Err(at("linux.mountLabel", format!("{label:?} is no SELinux label")));
    }
    plan.mounts.iter_mut().for_each(|mount| dress_mount(mount, &label));
    if let Some(RootSource::Overlay(overlay)) =
        plan.root.as_mut().and_then(|root| root.source.as_mut())
    {
        overlay.label.clone_from(&label);
    }
    plan.mount_label = label;
    Ok(())
}

fn dress_mount(mount: &mut Mount, label: &str) {
    if let Some(MountSource::Stack(layers)) = &mut mount.source {
        label.clone_into(&mut layers.label);
    }
    let Some(MountSource::New(fs)) = &mut mount.source else { return };
    if LABELLED_LATER.contains(&fs.kind.as_str()) {
        label.clone_into(&mut fs.label);
    } else if !UNLABELLED.contains(&fs.kind.as_str()) {
        fs.options.push(format!("context={label}"));
    }
}

#[cfg(test)]
mod tests {
    use super::super::Rootfs;
    use super::super::tests::{around, json, planned, planned_around};
    use super::*;

    #[test]
    fn new_file_systems_are_labelled() {
        let label = "system_u:object_r:container_file_t:s0:c1,c2";
        let linux = format!(r#", "mountLabel": "{label}""#);
        let mounts = r#", "mounts": [{"destination": "/proc", "type": "proc"},
            {"destination": "/d", "type": "tmpfs", "options": ["mode=755"]},
            {"destination": "/s", "source": "/s", "options": ["bind"]},
            {"destination": "/q", "type": "mqueue", "source": "mqueue"}]"#;
        let plan = planned(&json(&linux, mounts), &[]).unwrap().plan;
        let options = |i: usize| match &plan.mounts[i].source {
            Some(MountSource::New(fs)) => fs.options.clone(),
            _ => Vec::new(),
        };
        assert_eq!(plan.mount_label, label);
        assert!(options(0).is_empty());
        assert_eq!(options(1), ["mode=755".to_owned(), format!("context={label}")]);
        assert!(options(2).is_empty());
        // Not by an option, which would be one of the pod's only instance.
        let Some(MountSource::New(queues)) = &plan.mounts[3].source else { panic!("not new") };
        assert_eq!((queues.options.len(), queues.label.as_str()), (0, label));
    }

    #[test]
    fn the_overlay_of_the_root_is_labelled_and_a_directory_is_not() {
        let label = "system_u:object_r:container_file_t:s0:c1,c2";
        let text = json(&format!(r#", "mountLabel": "{label}""#), "");
        let overlay = |text: &str| match planned(text, &[]).unwrap().plan.root.unwrap().source {
            Some(RootSource::Overlay(overlay)) => overlay.label,
            other => panic!("{other:?}"),
        };
        assert_eq!(overlay(&text), label);
        assert_eq!(overlay(&json("", "")), "");
        let rootfs = Rootfs::Directory("/r".into());
        let plan = planned_around(&text, &around(&rootfs, &[])).unwrap().plan;
        assert_eq!(plan.root.unwrap().source, Some(RootSource::Directory("/r".into())));
    }

    #[test]
    fn a_label_is_one_word() {
        let error = planned(&json(r#", "mountLabel": "a\nb""#, ""), &[]).unwrap_err().to_string();
        assert!(error.contains("linux.mountLabel: "), "{error}");
    }
}
