//! Export: images as an archive.

use berth_imageservice::{ArchiveFormat, Export, ExportRequest as Request};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;
use tonic::codegen::BoxStream;

use crate::api::admin::export_request::Format;
use crate::api::admin::{ExportRequest, ExportResponse};
use crate::node::Node;
use crate::rpc::Call;
use crate::status;

/// Chunks on their way to the client.
const IN_FLIGHT: usize = 2;

pub(super) async fn export(
    node: &Node,
    _: Call,
    request: ExportRequest,
) -> Result<BoxStream<ExportResponse>, Status> {
    if request.images.is_empty() {
        return Err(Status::invalid_argument("no image to export"));
    }
    let format = match request.format() {
        Format::Oci => ArchiveFormat::Oci,
        Format::Docker => ArchiveFormat::Docker,
    };
    let request = Request { images: request.images, format };
    let export = node.images.export(request).await.map_err(status::of)?;
    let (sender, receiver) = mpsc::channel(IN_FLIGHT);
    node.tell(send(export, sender));
    Ok(Box::pin(ReceiverStream::new(receiver)))
}

/// Passes the archive on until its end, or until the client has left.
async fn send(mut export: Export, client: mpsc::Sender<Result<ExportResponse, Status>>) {
    let mut size = export.size;
    while let Some(chunk) = export.chunk().await.transpose() {
        let chunk = chunk
            .map_err(status::of)
            .map(|chunk| ExportResponse { size: std::mem::take(&mut size), chunk: chunk.to_vec() });
        let is_last = chunk.is_err();
        if client.send(chunk).await.is_err() || is_last {
            return;
        }
    }
}
