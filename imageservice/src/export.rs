//! Images as an archive: an OCI image layout in a tar stream, or what `docker save` writes.
//!
//! Layers are written uncompressed, each exactly as it came inside its compression, which is proved
//! by its diff id while it is written; so the archive of an image is the same every time, and who
//! loads it gets an image of the same id.

mod docker;
mod layout;
mod plan;
mod write;

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::mpsc;

use self::plan::Plan;
use self::write::Sink;
use crate::assemble::Assembler;
use crate::blocking::blocking;
use crate::error::Result;
use crate::operation::Operation;
use crate::reference::Reference;

/// Chunks that are ready and not yet taken.
const CHUNKS_IN_FLIGHT: usize = 8;

/// Which kind of archive.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ArchiveFormat {
    /// OCI image specification, "Image Layout".
    #[default]
    Oci,
    /// What `docker save` writes, and every `docker load` reads.
    Docker,
}

/// What to export.
#[derive(Debug, Clone, Default)]
pub struct ExportRequest {
    /// Names, ids, or beginnings of ids. An image that is given by a tag has that name in the
    /// archive; several names of one image may be given.
    pub images: Vec<String>,
    /// As what.
    pub format: ArchiveFormat,
}

/// An archive that is being written. Dropped, it is not written any further.
#[derive(Debug)]
pub struct Export {
    /// Bytes of the whole archive.
    pub size: u64,
    chunks: mpsc::Receiver<Result<Bytes>>,
}

impl Export {
    /// The next bytes; `None` at the end, which there is only once all was written.
    ///
    /// # Errors
    /// [`DigestMismatch`](crate::Error::DigestMismatch) if the files of a layer are not what they were,
    /// [`Storage`](crate::Error::Storage).
    pub async fn chunk(&mut self) -> Result<Option<Bytes>> {
        self.chunks.recv().await.transpose()
    }
}

/// Begins an archive. All that can be known before its first byte is checked here.
pub(crate) async fn export(
    assembler: &Assembler,
    request: ExportRequest,
    operation: Operation,
) -> Result<Export> {
    let (store, tasks) = (Arc::clone(&assembler.store), assembler.tasks.clone());
    let plan = blocking(&tasks, move || {
        let selection = plan::select(&store, &request.images)?;
        match request.format {
            ArchiveFormat::Oci => layout::plan(&store, selection),
            ArchiveFormat::Docker => docker::plan(&store, selection),
        }
    })
    .await?;
    let size = plan.size();
    let (sender, chunks) = mpsc::channel(CHUNKS_IN_FLIGHT);
    tasks.spawn_blocking(move || run(plan, &sender, &operation));
    Ok(Export { size, chunks })
}

fn run(plan: Plan, sender: &mpsc::Sender<Result<Bytes>>, operation: &Operation) {
    let mut sink = Sink::new(|chunk| {
        if operation.stop.is_cancelled() || sender.blocking_send(Ok(chunk)).is_err() {
            return Err(operation.cancelled());
        }
        Ok(())
    });
    if let Err(error) = plan.write(&mut sink).and_then(|()| sink.finish()) {
        // Who has left does not hear it.
        let _ = sender.blocking_send(Err(error));
    }
}

/// Whether a text names an image by a tag, and which name that is.
fn tag_of(text: &str, tags: &[String]) -> Option<Reference> {
    let name: Reference = text.parse().ok()?;
    tags.contains(&name.to_string()).then_some(name)
}
