//! RuntimeConfig: which cgroup driver the kubelet has to use.

use tonic::Status;

use super::Call;
use crate::api::runtime::{
    CgroupDriver, LinuxRuntimeConfiguration, RuntimeConfigRequest, RuntimeConfigResponse,
};
use crate::config;
use crate::node::Node;

pub(super) async fn runtime_config(
    node: &Node,
    _: Call,
    _: RuntimeConfigRequest,
) -> Result<RuntimeConfigResponse, Status> {
    let cgroup_driver = match node.loaded.config.runtime.cgroup_driver {
        config::CgroupDriver::Cgroupfs => CgroupDriver::Cgroupfs,
        config::CgroupDriver::Systemd => CgroupDriver::Systemd,
    };
    let linux = LinuxRuntimeConfiguration { cgroup_driver: cgroup_driver.into() };
    Ok(RuntimeConfigResponse { linux: Some(linux) })
}
