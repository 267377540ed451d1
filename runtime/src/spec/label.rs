//! The SELinux label of what is mounted.

use oci_spec::runtime::Linux;

use crate::error::Error;
use crate::plan::{Mount, MountSource};

use super::at;

/// File systems that SELinux labels by rules of its own.
const UNLABELLED: [&str; 5] = ["proc", "sysfs", "cgroup2", "mqueue", "overlay"];

/// Gives every new file system the label that the specification says, and answers that label.
///
/// Bind mounts keep theirs: it is that of the files.
pub(super) fn dress(mounts: &mut [Mount], linux: &Linux) -> Result<String, Error> {
    let label = linux.mount_label().clone().unwrap_or_default();
    if label.is_empty() {
        return Ok(label);
    }
    if label.contains(['\0', '\n', '"']) {
        return Err(at("linux.mountLabel", format!("{label:?} is no SELinux label")));
    }
    for mount in mounts {
        if let Some(MountSource::New(fs)) = &mut mount.source
            && !UNLABELLED.contains(&fs.kind.as_str())
        {
            fs.options.push(format!("context={label}"));
        }
    }
    Ok(label)
}

#[cfg(test)]
mod tests {
    use super::super::tests::{json, planned};
    use super::*;

    #[test]
    fn new_file_systems_are_labelled() {
        let label = "system_u:object_r:container_file_t:s0:c1,c2";
        let linux = format!(r#", "mountLabel": "{label}""#);
        let mounts = r#", "mounts": [{"destination": "/proc", "type": "proc"},
            {"destination": "/d", "type": "tmpfs", "options": ["mode=755"]},
            {"destination": "/s", "source": "/s", "options": ["bind"]}]"#;
        let plan = planned(&json(&linux, mounts), &[]).unwrap().plan;
        let options = |i: usize| match &plan.mounts[i].source {
            Some(MountSource::New(fs)) => fs.options.clone(),
            _ => Vec::new(),
        };
        assert_eq!(plan.mount_label, label);
        assert!(options(0).is_empty());
        assert_eq!(options(1), ["mode=755".to_owned(), format!("context={label}")]);
        assert!(options(2).is_empty());
    }

    #[test]
    fn a_label_is_one_word() {
        let error = planned(&json(r#", "mountLabel": "a\nb""#, ""), &[]).unwrap_err().to_string();
        assert!(error.contains("linux.mountLabel: "), "{error}");
    }
}
