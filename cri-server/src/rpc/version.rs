//! Version: which CRI this is, and which berth.

use tonic::Status;

use super::Call;
use crate::about;
use crate::api::runtime::{VersionRequest, VersionResponse};
use crate::node::Node;

/// Version of the kubelet's side of the contract. It has never changed; the
/// kubelet compares it and refuses any other.
const KUBELET_API_VERSION: &str = "0.1.0";

/// Version of the CRI, as it is in the package name.
const CRI_VERSION: &str = "v1";

pub(super) async fn version(
    _: &Node,
    _: Call,
    _: VersionRequest,
) -> Result<VersionResponse, Status> {
    Ok(VersionResponse {
        version: KUBELET_API_VERSION.to_owned(),
        runtime_name: "berth".to_owned(),
        runtime_version: about::VERSION.to_owned(),
        runtime_api_version: CRI_VERSION.to_owned(),
    })
}
