//! Several pieces of a layer at a time, delivered in their order, in bounded memory.
//!
//! ```text
//!   delivered │ ready │ under way │ under way │ not asked for yet
//!             └──────── at most WINDOW pieces ┘
//! ```
//!
//! The piece that a layer waits for is always allowed; each beside it takes a permit from those that
//! all pulls of the node share. Without any, the layer goes on by one connection.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::stream::{FuturesOrdered, StreamExt};
use tokio::sync::{OwnedSemaphorePermit, mpsc};

use super::Registry;
use super::blob::{Blob, Reader};
use crate::error::Result;

/// Bytes of a piece: many round trips long, and few enough that some fit into memory.
pub(super) const PIECE: u64 = 4 << 20;
/// Pieces of one layer that are under way or ready.
const WINDOW: usize = 4;
/// Bytes that are delivered at a time.
const CHUNK: usize = 128 << 10;

/// A piece that is here, and the room that it takes.
struct Piece {
    bytes: Bytes,
    _room: OwnedSemaphorePermit,
}

/// How far a ring came.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum End {
    /// Up to here. There is no room for more pieces, or there are no more.
    Full(u64),
    /// Up to here. What comes next cannot be had in pieces.
    Broken(u64),
    /// Nobody takes the bytes any more.
    Abandoned,
}

/// Delivers from `offset` on, as long as pieces come from this endpoint.
pub(super) async fn run(
    registry: &Arc<Registry>,
    blob: &Arc<Blob>,
    (mut offset, endpoint): (u64, usize),
    out: &mpsc::Sender<Result<Bytes>>,
) -> End {
    let mut flying = FuturesOrdered::new();
    let mut ready: VecDeque<Piece> = VecDeque::new();
    let (mut next, mut is_broken) = (offset, false);
    loop {
        while flying.len() + ready.len() < WINDOW && next < blob.size {
            let Ok(room) = Arc::clone(&registry.memory.pieces).try_acquire_owned() else { break };
            let end = blob.size.min(next + PIECE);
            let reader = Reader::piece(registry, blob, (next, end), endpoint);
            flying.push_back(fetch(reader, room));
            next = end;
        }
        let Some(mut piece) = ready.pop_front() else {
            match flying.next().await {
                Some(Ok(piece)) => ready.push_back(piece),
                Some(Err(_)) => return End::Broken(offset),
                None if is_broken => return End::Broken(offset),
                None => return End::Full(offset),
            }
            continue;
        };
        while !piece.bytes.is_empty() {
            let chunk = piece.bytes.split_to(CHUNK.min(piece.bytes.len()));
            let length = chunk.len() as u64;
            let send = out.send(Ok(chunk));
            tokio::pin!(send);
            let is_taken = loop {
                tokio::select! {
                    sent = &mut send => break sent.is_ok(),
                    // Those behind it go on while the disk takes its time.
                    Some(landed) = flying.next() => match landed {
                        Ok(piece) => ready.push_back(piece),
                        Err(_) => {
                            // The order is broken there; what is before it is still good.
                            flying.clear();
                            (next, is_broken) = (blob.size, true);
                        }
                    },
                }
            };
            if !is_taken {
                return End::Abandoned;
            }
            offset += length;
        }
    }
}

async fn fetch(mut reader: Reader, room: OwnedSemaphorePermit) -> Result<Piece> {
    let mut bytes = Vec::with_capacity(reader.left());
    while let Some(chunk) = reader.chunk().await? {
        bytes.extend_from_slice(&chunk);
    }
    Ok(Piece { bytes: bytes.into(), _room: room })
}
