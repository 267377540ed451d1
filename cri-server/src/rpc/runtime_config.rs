//! RuntimeConfig: which cgroup driver the kubelet has to use.

use tonic::Status;

use super::Call;
use crate::api::runtime::{
    CgroupDriver, LinuxRuntimeConfiguration, RuntimeConfigRequest, RuntimeConfigResponse,
};
use crate::node::Node;

pub(super) async fn runtime_config(
    _: &Node,
    _: Call,
    _: RuntimeConfigRequest,
) -> Result<RuntimeConfigResponse, Status> {
    let cgroup_driver = CgroupDriver::Cgroupfs.into();
    Ok(RuntimeConfigResponse { linux: Some(LinuxRuntimeConfiguration { cgroup_driver }) })
}
