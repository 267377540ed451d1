//! The stream of an import, inflated into a file.

use std::fs::File;
use std::io::{self, BufReader, Read, Write};
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::sync::mpsc;

use super::archive::Archive;
use crate::assemble::Assembler;
use crate::blocking::blocking;
use crate::error::{Error, Result};
use crate::layer::inflate;
use crate::operation::Operation;

const CHUNK: usize = 256 << 10;
const CHUNKS_IN_FLIGHT: usize = 4;

/// Reads the stream to its end and indexes what came.
pub(super) async fn spool(
    assembler: &Assembler,
    mut reader: impl AsyncRead + Unpin,
    operation: &Operation,
) -> Result<Archive> {
    let (sender, receiver) = mpsc::channel(CHUNKS_IN_FLIGHT);
    let (store, limit) = (Arc::clone(&assembler.store), assembler.config.limits.archive);
    let writing = blocking(&assembler.tasks, move || {
        let ingest = store.begin()?;
        let path = ingest.path().join("archive");
        write(receiver, &path, limit)?;
        Archive::open(&path, ingest)
    });
    let reading = async move {
        loop {
            let mut chunk = Vec::with_capacity(CHUNK);
            let (read, is_last) = match reader.read_buf(&mut chunk).await {
                Ok(0) => return Ok(()),
                Ok(_) => (Ok(Bytes::from(chunk)), false),
                Err(error) => (Err(error), true),
            };
            if sender.send(read).await.is_err() || is_last {
                // The writing side says why.
                return Ok(());
            }
        }
    };
    let reading = operation.unless_stopped(reading);
    let (archive, read) = tokio::join!(writing, reading);
    read.and(archive)
}

fn write(mut receiver: mpsc::Receiver<io::Result<Bytes>>, path: &Path, limit: u64) -> Result<()> {
    let storage = |step| move |e| Error::storage(step, path, e);
    let mut file = File::create_new(path).map_err(storage("create"))?;
    let unreadable = |e: io::Error| Error::InvalidArchive { reason: e.to_string() };
    let incoming =
        BufReader::with_capacity(CHUNK, Incoming { receiver: &mut receiver, chunk: Bytes::new() });
    let mut inflated = inflate(incoming).map_err(unreadable)?;
    let mut buffer = vec![0; CHUNK];
    let mut total: u64 = 0;
    loop {
        let read = inflated.read(&mut buffer).map_err(unreadable)?;
        if read == 0 {
            return Ok(());
        }
        total += read as u64;
        if total > limit {
            let limit = format!("at most {limit} bytes uncompressed");
            return Err(Error::TooLarge { what: "archive".to_owned(), limit });
        }
        file.write_all(&buffer[..read]).map_err(storage("write"))?;
    }
}

/// The receiving end as a blocking reader.
struct Incoming<'a> {
    receiver: &'a mut mpsc::Receiver<io::Result<Bytes>>,
    chunk: Bytes,
}

impl Read for Incoming<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if self.chunk.is_empty() {
            self.chunk = self.receiver.blocking_recv().transpose()?.unwrap_or_default();
        }
        let length = self.chunk.len().min(out.len());
        out[..length].copy_from_slice(&self.chunk.split_to(length));
        Ok(length)
    }
}
