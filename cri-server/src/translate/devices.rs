//! Devices of a container, and which ones it may use.

use std::path::Path;

use berth_runtime::host;
use oci_spec::runtime::{LinuxDevice, LinuxDeviceCgroup};
use tonic::Status;

use crate::api::runtime::Device;
use crate::status;

use super::invalid;

/// Collects device nodes and rules. A privileged container has all devices of the host.
pub(super) fn of(
    devices: &[Device],
    privileged: bool,
) -> Result<(Vec<LinuxDevice>, Vec<LinuxDeviceCgroup>), Status> {
    let mut all = LinuxDeviceCgroup::default();
    all.set_allow(privileged).set_access(Some("rwm".to_owned()));
    let (mut nodes, mut rules) = (Vec::new(), vec![all]);
    if privileged {
        nodes = host::all_devices();
    }
    for (index, device) in devices.iter().enumerate() {
        let field = |name: &str| format!("config.devices[{index}].{name}");
        for (name, path) in
            [("host_path", &device.host_path), ("container_path", &device.container_path)]
        {
            if !Path::new(path).is_absolute() {
                return Err(invalid(&field(name), format!("{path:?} is not absolute")));
            }
        }
        let access = if device.permissions.is_empty() { "rwm" } else { &device.permissions };
        let (host_path, path) = (Path::new(&device.host_path), Path::new(&device.container_path));
        for (node, rule) in host::devices(host_path, path, access).map_err(status::of)? {
            nodes.retain(|known: &LinuxDevice| known.path() != node.path());
            nodes.push(node);
            rules.push(rule);
        }
    }
    Ok((nodes, rules))
}
