//! gRPC on a unix socket: what is served there, and within which limits.

use std::sync::Arc;
use std::time::Duration;

use tokio::net::UnixListener;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;
use tonic::transport::Server;

use crate::api::admin::admin_server::AdminServer;
use crate::api::runtime::image_service_server::ImageServiceServer;
use crate::api::runtime::runtime_service_server::RuntimeServiceServer;
use crate::error::Error;
use crate::node::Node;

use super::accept;

/// Requests that one connection may have open. The kubelet sends everything
/// through one, with an ExecSync open for each probe that runs.
const MAX_STREAMS: u32 = 1024;

/// Clients send a path, a deadline and trace ids.
const MAX_HEADERS: u32 = 16 << 10;

/// Resets that are queued before the connection is closed (CVE-2023-44487).
const MAX_PENDING_RESETS: usize = 32;

/// A client that hangs without closing its socket is found after both.
const KEEPALIVE: Duration = Duration::from_secs(60);
const KEEPALIVE_ANSWER: Duration = Duration::from_secs(20);

/// The two services of the Container Runtime Interface.
pub(super) fn cri(node: &Arc<Node>) -> Routes {
    let limit = node.loaded.config.grpc.max_message_size.bytes();
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let runtime = RuntimeServiceServer::from_arc(Arc::clone(node))
        .max_decoding_message_size(limit)
        .max_encoding_message_size(limit);
    let images = ImageServiceServer::from_arc(Arc::clone(node))
        .max_decoding_message_size(limit)
        .max_encoding_message_size(limit);
    Routes::new(runtime).add_service(images)
}

/// The service of `berth`, the command line. Its messages are small or come
/// in pieces.
pub(super) fn admin(node: &Arc<Node>) -> Routes {
    Routes::new(AdminServer::from_arc(Arc::clone(node)))
}

/// Serves until `stop`, then until the requests that are open are answered.
pub(super) async fn serve(
    listener: UnixListener,
    routes: Routes,
    stop: CancellationToken,
) -> Result<(), Error> {
    Server::builder()
        .max_concurrent_streams(MAX_STREAMS)
        .http2_max_header_list_size(MAX_HEADERS)
        .http2_max_pending_accept_reset_streams(Some(MAX_PENDING_RESETS))
        .http2_keepalive_interval(Some(KEEPALIVE))
        .http2_keepalive_timeout(Some(KEEPALIVE_ANSWER))
        .add_routes(routes)
        .serve_with_incoming_shutdown(accept::connections(listener), stop.cancelled_owned())
        .await
        .map_err(|source| Error::Serve { address: "a unix socket".into(), source: source.into() })
}
