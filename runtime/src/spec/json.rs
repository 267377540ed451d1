//! A configuration as it is written, before it has types.
//!
//! The types of `oci-spec` forgive much: a field that is missing has a default, a name that they
//! do not know is an error even where the specification says to go on. So the text is looked at
//! first. As with the runtimes that are written in Go, which set the custom, `null` is the same
//! as nothing.

use oci_spec::runtime::{Capability, MemoryPolicyFlagType, MemoryPolicyModeType};
use serde::Deserialize as _;
use serde_json::{Map, Value};

use crate::error::Error;

use super::at;

/// What has to be there if the object that it belongs to is.
const REQUIRED: [&str; 27] = [
    "ociVersion",
    "root",
    "root.path",
    "process",
    "process.cwd",
    "process.args",
    "process.rlimits[].type",
    "process.rlimits[].soft",
    "process.rlimits[].hard",
    "process.scheduler.policy",
    "process.ioPriority.class",
    "mounts[].destination",
    "hooks.*[].path",
    "linux",
    "linux.namespaces[].type",
    "linux.devices[].type",
    "linux.devices[].path",
    "linux.uidMappings[].containerID",
    "linux.uidMappings[].hostID",
    "linux.uidMappings[].size",
    "linux.gidMappings[].containerID",
    "linux.gidMappings[].hostID",
    "linux.gidMappings[].size",
    "linux.personality.domain",
    "linux.seccomp.defaultAction",
    "linux.seccomp.syscalls[].names",
    "linux.seccomp.syscalls[].action",
];

/// Paths, which the kernel takes up to a length.
const PATHS: [&str; 10] = [
    "root.path",
    "process.cwd",
    "mounts[].destination",
    "mounts[].source",
    "hooks.*[].path",
    "linux.namespaces[].path",
    "linux.devices[].path",
    "linux.cgroupsPath",
    "linux.maskedPaths[]",
    "linux.readonlyPaths[]",
];

/// Longest path that the kernel takes, its final NUL not counted.
const PATH_MAX: usize = 4095;

/// Longest name in a path.
const NAME_MAX: usize = 255;

/// Flags that the types know under names of their own.
const SCHEDULER_FLAGS: [(&str, &str); 2] = [
    ("SCHED_FLAG_RESET_ON_FORK", "SCHED_RESET_ON_FORK"),
    ("SCHED_FLAG_DL_OVERRUN", "SCHED_FLAG_D_L_OVERRUN"),
];

/// Reads a configuration and makes it one that the types take.
///
/// # Errors
/// [`Error::Spec`] by the name of the field.
pub(super) fn read(json: &[u8]) -> Result<Value, Error> {
    let mut value: Value =
        serde_json::from_slice(json).map_err(|error| at("not a JSON document", error))?;
    if !value.is_object() {
        return Err(at("not a configuration", "the document is no JSON object"));
    }
    drop_nulls(&mut value);
    check(&value)?;
    if let Some(process) = value.get_mut("process").and_then(Value::as_object_mut) {
        adapt(process);
    }
    if let Some(resources) = value.pointer_mut("/linux/resources") {
        drop_unsaid(resources);
    }
    for namespace in
        value.pointer_mut("/linux/namespaces").and_then(Value::as_array_mut).into_iter().flatten()
    {
        drop_empty(namespace, "path");
    }
    Ok(value)
}

fn check(value: &Value) -> Result<(), Error> {
    for pattern in REQUIRED {
        let (parent, field) = pattern.rsplit_once('.').unwrap_or(("", pattern));
        each(value, parent, String::new(), &mut |path, parent| match parent.get(field) {
            None if parent.is_object() => Err(at(join(path, field), "is missing")),
            // The types would take one for the fields in their order.
            None if parent.is_array() => Err(at(path, "is a list; an object is wanted")),
            _ => Ok(()),
        })?;
    }
    each(value, "linux.devices[]", String::new(), &mut |path, device| {
        let fifo = device.get("type").is_some_and(|kind| kind == "p");
        let missing = ["major", "minor"].into_iter().find(|field| device.get(field).is_none());
        match missing.filter(|_| !fifo && device.is_object()) {
            Some(field) => Err(at(join(path, field), "is missing")),
            None => Ok(()),
        }
    })?;
    check_memory_policy(value)?;
    no_nul(value, String::new())?;
    PATHS.iter().try_for_each(|pattern| {
        each(value, pattern, String::new(), &mut |path, value| {
            check_length(path, value.as_str().unwrap_or_default())
        })
    })
}

/// The words of a memory policy. The types would tell of all the words that they know.
fn check_memory_policy(value: &Value) -> Result<(), Error> {
    let Some(policy) = value.pointer("/linux/memoryPolicy").and_then(Value::as_object) else {
        return Ok(());
    };
    let field = "linux.memoryPolicy";
    let mode = policy.get("mode").unwrap_or(&Value::Null);
    if MemoryPolicyModeType::deserialize(mode).is_err() {
        return Err(at(format!("{field}.mode"), format!("invalid memory policy mode {mode}")));
    }
    let flags = policy.get("flags").and_then(Value::as_array).into_iter().flatten();
    for (i, flag) in flags.enumerate() {
        if MemoryPolicyFlagType::deserialize(flag).is_err() {
            let why = format!("invalid memory policy flag {flag}");
            return Err(at(format!("{field}.flags[{i}]"), why));
        }
    }
    Ok(())
}

fn check_length(field: &str, path: &str) -> Result<(), Error> {
    if path.len() > PATH_MAX {
        return Err(at(field, format!("is {} bytes long; {PATH_MAX} is the most", path.len())));
    }
    match path.split('/').map(str::len).find(|length| *length > NAME_MAX) {
        Some(length) => {
            Err(at(field, format!("has a name of {length} bytes; {NAME_MAX} is the most")))
        }
        None => Ok(()),
    }
}

/// Calls `with` on every value that `pattern` means: names with dots between, `[]` behind a name
/// for every element of a list, `*` for every name.
fn each(
    value: &Value,
    pattern: &str,
    path: String,
    with: &mut dyn FnMut(&str, &Value) -> Result<(), Error>,
) -> Result<(), Error> {
    if pattern.is_empty() {
        return with(&path, value);
    }
    let (first, rest) = pattern.split_once('.').unwrap_or((pattern, ""));
    let (name, list) = first.strip_suffix("[]").map_or((first, false), |name| (name, true));
    let fields = value.as_object().into_iter().flatten();
    for (key, value) in fields.filter(|(key, _)| name == "*" || *key == name) {
        let path = join(&path, key);
        if !list {
            each(value, rest, path, with)?;
            continue;
        }
        for (i, element) in value.as_array().into_iter().flatten().enumerate() {
            each(element, rest, format!("{path}[{i}]"), with)?;
        }
    }
    Ok(())
}

fn join(path: &str, field: &str) -> String {
    if path.is_empty() { field.to_owned() } else { format!("{path}.{field}") }
}

/// The kernel's strings end where a NUL is: what was checked would not be what is used.
fn no_nul(value: &Value, path: String) -> Result<(), Error> {
    match value {
        Value::String(text) if text.contains('\0') => Err(at(path, "has a NUL in it")),
        Value::Array(list) => {
            let mut list = list.iter().enumerate();
            list.try_for_each(|(i, value)| no_nul(value, format!("{path}[{i}]")))
        }
        Value::Object(fields) => fields.iter().try_for_each(|(key, value)| {
            if key.contains('\0') {
                return Err(at(&path, format!("{key:?} has a NUL in it")));
            }
            no_nul(value, join(&path, key))
        }),
        _ => Ok(()),
    }
}

fn drop_nulls(value: &mut Value) {
    match value {
        Value::Array(list) => list.iter_mut().for_each(drop_nulls),
        Value::Object(fields) => {
            fields.retain(|_, value| !value.is_null());
            fields.values_mut().for_each(drop_nulls);
        }
        _ => {}
    }
}

/// Leaves out what asks for nothing: the types would take a `pids` without a limit for one of 0.
pub(crate) fn drop_unsaid(resources: &mut Value) {
    let unsaid = |pids: &Value| {
        pids.as_object().is_some_and(|pids| pids.get("limit").is_none_or(Value::is_null))
    };
    if let Some(fields) = resources.as_object_mut()
        && fields.get("pids").is_some_and(unsaid)
    {
        fields.remove("pids");
    }
}

fn drop_empty(value: &mut Value, field: &str) {
    if let Some(fields) = value.as_object_mut()
        && fields.get(field).is_some_and(|value| value == "")
    {
        fields.remove(field);
    }
}

/// A process without a user is root's; flags and affinities get the form that the types know.
fn adapt(process: &mut Map<String, Value>) {
    process.entry("user").or_insert_with(|| Value::Object(Map::new()));
    if let Some(sets) = process.get_mut("capabilities").and_then(Value::as_object_mut) {
        sets.iter_mut().for_each(|(name, set)| drop_unknown(name, set));
    }
    let flags = process.get_mut("scheduler").and_then(|scheduler| scheduler.get_mut("flags"));
    for flag in flags.and_then(Value::as_array_mut).into_iter().flatten() {
        if let Some((_, known)) = SCHEDULER_FLAGS.iter().find(|(name, _)| *flag == *name) {
            *flag = Value::from(*known);
        }
    }
    if let Some(affinity) = process.get_mut("execCPUAffinity") {
        drop_empty(affinity, "initial");
        drop_empty(affinity, "final");
    }
}

/// A capability of a newer kernel is none that could be given away here.
fn drop_unknown(name: &str, set: &mut Value) {
    let Some(set) = set.as_array_mut() else { return };
    let mut unknown = Vec::new();
    set.retain(|capability| match capability.as_str() {
        Some(text) if Capability::deserialize(capability).is_err() => {
            unknown.push(text.to_owned());
            false
        }
        _ => true,
    });
    unknown.dedup();
    if !unknown.is_empty() {
        let what = format!("ignoring unknown or unavailable capabilities: [{}]", unknown.join(" "));
        tracing::warn!("process.capabilities.{name}: {what}");
    }
}
