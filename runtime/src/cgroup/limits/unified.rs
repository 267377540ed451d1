//! Interface files that the specification names itself.

use oci_spec::runtime::LinuxResources;

use crate::error::Error;

use super::{Write, refuse};

/// Files of the core that are limits or states of this cgroup alone. The others move processes
/// in, or change what cgroups are: those are not a specification's to write.
const CORE: [&str; 4] =
    ["cgroup.freeze", "cgroup.max.depth", "cgroup.max.descendants", "cgroup.pressure"];

/// Adds what is named directly, which has the last word, in order of name, so that it is always
/// the same.
pub(super) fn plan(resources: &LinuxResources, writes: &mut Vec<Write>) -> Result<(), Error> {
    let mut files: Vec<_> = resources.unified().iter().flatten().collect();
    files.sort();
    for (file, value) in files {
        let field = format!("unified[{file:?}]");
        check(&field, file)?;
        // What has lines by device keeps those that were not named.
        if !is_keyed(file) {
            writes.retain(|write| write.file != *file);
        }
        // The kernel takes one line at a time.
        let lines = value.lines().filter(|line| !line.trim().is_empty());
        let mut lines: Vec<_> = lines.map(|line| Write::new(&field, file, line)).collect();
        if lines.is_empty() {
            lines.push(Write::new(&field, file, value));
        }
        writes.extend(lines);
    }
    // An idle cgroup has no weight, and the kernel refuses to be given one.
    let idle = writes.iter().any(|write| write.file == "cpu.idle" && write.value.trim() == "1");
    if idle {
        writes.retain(|write| write.file != "cpu.weight" && write.file != "cpu.weight.nice");
    }
    Ok(())
}

fn check(field: &str, file: &str) -> Result<(), Error> {
    let word = |part: &str| {
        !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
    };
    if !file.contains('.') || !file.split('.').all(word) {
        return refuse(field, "is no cgroup interface file");
    }
    if file.starts_with("cgroup.") && !CORE.contains(&file) {
        return refuse(field, "is not a limit");
    }
    Ok(())
}

/// Whether a file has a line for each device or resource.
pub(in super::super) fn is_keyed(file: &str) -> bool {
    matches!(
        file,
        "io.max" | "io.weight" | "io.bfq.weight" | "io.latency" | "rdma.max" | "misc.max"
    )
}
