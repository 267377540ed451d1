//! Login: whether a registry takes credentials.

use tonic::Status;

use super::pull;
use crate::api::admin::{LoginRequest, LoginResponse};
use crate::node::Node;
use crate::rpc::{Call, pull_image};
use crate::status;

pub(super) async fn login(
    node: &Node,
    _: Call,
    request: LoginRequest,
) -> Result<LoginResponse, Status> {
    let auth = pull::auth(request.credentials.unwrap_or_default());
    let credentials = pull_image::credentials(&auth)?
        .ok_or_else(|| Status::invalid_argument("no credentials to log in with"))?;
    let server = node.images.check_login(&request.server, credentials).await.map_err(status::of)?;
    Ok(LoginResponse { server })
}
