//! Import: images out of an archive that a client sends.

use berth_imageservice::{ImportRequest as Import, Reference};
use tokio::io::{AsyncWriteExt as _, DuplexStream};
use tonic::{Status, Streaming};

use crate::api::admin::import_request::Part;
use crate::api::admin::{ImportRequest, ImportResponse, ImportStart, ImportedImage};
use crate::node::Node;
use crate::rpc::Call;
use crate::status;

/// Longest chunk.
const CHUNK_MAX: usize = 1 << 20;

/// Bytes on their way from the client to the disk.
const BUFFER: usize = 256 << 10;

pub(super) async fn import(
    node: &Node,
    _: Call,
    mut requests: Streaming<ImportRequest>,
) -> Result<ImportResponse, Status> {
    let start = start(&mut requests).await?;
    let limit = limit(node, &start)?;
    let names = match start.reference.as_str() {
        "" => Vec::new(),
        name => vec![name.parse::<Reference>().map_err(status::of)?],
    };
    let (sender, receiver) = tokio::io::duplex(BUFFER);
    let importing = node.images.import(receiver, Import { names, pinned: false });
    // A client that leaves, or breaks a limit, ends the archive too early, which the import
    // notices by itself: it leaves nothing behind.
    let (imported, fed) = tokio::join!(importing, feed(&mut requests, sender, limit));
    fed?;
    let images = imported.map_err(status::of)?.into_iter().map(|id| {
        let found = node.images.find(&id.to_string()).ok().flatten();
        let references = found.map(|image| image.repo_tags().to_vec()).unwrap_or_default();
        ImportedImage { image_id: id.to_string(), references }
    });
    Ok(ImportResponse { images: images.collect() })
}

async fn start(requests: &mut Streaming<ImportRequest>) -> Result<ImportStart, Status> {
    match requests.message().await?.and_then(|request| request.part) {
        Some(Part::Start(start)) => Ok(start),
        _ => Err(Status::invalid_argument("the first message of an import is its start")),
    }
}

/// How many bytes may come: what the client says, within what the operator allows.
fn limit(node: &Node, start: &ImportStart) -> Result<u64, Status> {
    let allowed = node.loaded.config.image.max_import_size.bytes();
    if start.size > allowed {
        let text = format!("an archive of {} bytes: at most {allowed} are allowed", start.size);
        return Err(Status::resource_exhausted(text));
    }
    Ok(if start.size == 0 { allowed } else { start.size })
}

async fn feed(
    requests: &mut Streaming<ImportRequest>,
    mut archive: DuplexStream,
    limit: u64,
) -> Result<(), Status> {
    let mut come = 0;
    while let Some(request) = requests.message().await? {
        let Some(Part::Chunk(chunk)) = request.part else {
            return Err(Status::invalid_argument("an import has one start, and then chunks"));
        };
        come += chunk.len() as u64;
        if chunk.len() > CHUNK_MAX || come > limit {
            let text = format!("chunks of {CHUNK_MAX} bytes and {limit} bytes in all are allowed");
            return Err(Status::resource_exhausted(text));
        }
        if archive.write_all(&chunk).await.is_err() {
            // The import has ended, well or not, and says so itself.
            return Ok(());
        }
    }
    Ok(())
}
