//! From the text of a configuration to a specification that makes sense in itself.
//!
//! Everything that can be refused without looking at the machine is refused here, before
//! anything is made, and by the name of the field, as in `linux.namespaces[0].type`. What a
//! plan needs in other terms is checked where it is put into them; this calls all of that.

#[cfg(test)]
mod tests;

use std::path::{Component, Path};

use oci_spec::runtime::{Linux, LinuxDeviceType, Process, Spec};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::error::Error;
use crate::plan::Plan;

use super::{at, hooks, json as text, label, names, net_devices, process, rdt, sysctl};

/// Reads a `config.json`.
///
/// # Errors
/// [`Error::Spec`] by the name of the field that is missing, of the wrong type, or senseless.
pub fn parse(json: &[u8]) -> Result<Spec, Error> {
    let spec: Spec = typed(text::read(json)?)?;
    check(&spec)?;
    Ok(spec)
}

/// Reads a process that is to be added to a container, as `process` in a configuration.
///
/// # Errors
/// As [`parse`].
pub fn parse_process(json: &[u8]) -> Result<Process, Error> {
    let process: Value =
        serde_json::from_slice(json).map_err(|error| at("not a JSON document", error))?;
    // In the smallest configuration that there is, so that the fields have their usual names.
    let around = json!({
        "ociVersion": "1.0.0", "root": {"path": "/"}, "linux": {}, "process": process,
    });
    let spec: Spec = typed(text::read(&serde_json::to_vec(&around).unwrap_or_default())?)?;
    check_process(&spec)?;
    spec.process().clone().ok_or_else(|| at("process", "is missing"))
}

fn typed<T: DeserializeOwned>(value: Value) -> Result<T, Error> {
    // To keep account of where it is costs as much as the rest; only who fails is asked for it.
    T::deserialize(&value).or_else(|_| {
        serde_path_to_error::deserialize(value).map_err(|error| at(error.path(), error.inner()))
    })
}

fn check(spec: &Spec) -> Result<(), Error> {
    check_version(spec.version())?;
    if spec.root().as_ref().is_none_or(|root| root.path().as_os_str().is_empty()) {
        return Err(at("root.path", "is empty"));
    }
    check_process(spec)?;
    for (i, mount) in spec.mounts().iter().flatten().enumerate() {
        if mount.destination().as_os_str().is_empty() {
            return Err(at(format!("mounts[{i}].destination"), "is empty"));
        }
    }
    if spec.annotations().iter().flatten().any(|(key, _)| key.is_empty()) {
        return Err(at("annotations", "has an empty key"));
    }
    hooks::hooks(spec)?;
    net_devices(spec)?;
    rdt(spec, "")?;
    spec.linux().as_ref().map_or(Ok(()), |linux| check_linux(spec, linux))
}

/// Any 1.x: what a later one adds is unknown to us, and is to be passed over.
fn check_version(version: &str) -> Result<(), Error> {
    let field = "ociVersion";
    let core = version.split(['-', '+']).next().unwrap_or_default();
    let numbers: Vec<_> = core.split('.').map(str::parse::<u32>).collect();
    match numbers.as_slice() {
        [Ok(1), Ok(_), Ok(_)] => Ok(()),
        [Ok(_), Ok(_), Ok(_)] => Err(at(field, format!("{version:?} is not supported; 1.x is"))),
        _ => Err(at(field, format!("{version:?} is no version of the form 1.2.3"))),
    }
}

fn check_process(spec: &Spec) -> Result<(), Error> {
    let process = process::check(spec)?;
    let env = spec.process().iter().filter_map(|process| process.env().as_ref()).flatten();
    for (i, variable) in env.enumerate() {
        if variable.find('=').is_none_or(|index| index == 0) {
            let text = format!("{variable:?} is not of the form NAME=value");
            return Err(at(format!("process.env[{i}]"), text));
        }
    }
    match process.args.first().map(String::as_str) {
        None => Err(at("process.args", "is empty: there is no command")),
        Some("") => Err(at("process.args[0]", "is empty: there is no command")),
        Some(_) => Ok(()),
    }
}

fn check_linux(spec: &Spec, linux: &Linux) -> Result<(), Error> {
    check_namespaces(linux)?;
    names(&mut Plan::default(), spec, linux)?;
    sysctl::plan(spec, linux)?;
    label::dress(&mut crate::plan::Plan::default(), linux)?;
    check_devices(linux)?;
    if let Some(path) = linux.cgroups_path() {
        check_cgroup(path)?;
    }
    for (field, paths) in
        [("maskedPaths", linux.masked_paths()), ("readonlyPaths", linux.readonly_paths())]
    {
        let mut paths = paths.iter().flatten().enumerate();
        if let Some((i, path)) = paths.find(|(_, path)| !path.starts_with('/')) {
            return Err(at(format!("linux.{field}[{i}]"), format!("{path:?} is not absolute")));
        }
    }
    Ok(())
}

fn check_namespaces(linux: &Linux) -> Result<(), Error> {
    let mut seen = Vec::new();
    for (i, namespace) in linux.namespaces().iter().flatten().enumerate() {
        let kind = namespace.typ();
        if seen.contains(&kind) {
            return Err(at(
                format!("linux.namespaces[{i}].type"),
                format!("{kind} is there twice"),
            ));
        }
        seen.push(kind);
        if let Some(path) = namespace.path()
            && !path.is_absolute()
        {
            return Err(at(
                format!("linux.namespaces[{i}].path"),
                format!("{path:?} is not absolute"),
            ));
        }
    }
    Ok(())
}

fn check_devices(linux: &Linux) -> Result<(), Error> {
    for (i, device) in linux.devices().iter().flatten().enumerate() {
        let field = |name| format!("linux.devices[{i}].{name}");
        if !device.path().is_absolute() {
            return Err(at(field("path"), format!("{:?} is not absolute", device.path())));
        }
        if device.typ() == LinuxDeviceType::A {
            return Err(at(field("type"), "\"a\" is for rules; a node is of one type"));
        }
        for (name, number) in [("major", device.major()), ("minor", device.minor())] {
            if u32::try_from(number).is_err() && device.typ() != LinuxDeviceType::P {
                return Err(at(field(name), format!("{number} is no device number")));
            }
        }
    }
    Ok(())
}

fn check_cgroup(path: &Path) -> Result<(), Error> {
    if path.components().any(|component| component == Component::ParentDir) {
        let text = format!("{path:?} has \"..\" in it, and could lead out of its place");
        return Err(at("linux.cgroupsPath", text));
    }
    Ok(())
}
