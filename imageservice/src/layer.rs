//! One layer: from compressed bytes to a directory that overlayfs can stack.
//!
//! ```text
//! chunks ─► hash, count ─► │ inflate ──(bounded pipe)──► hash ─► tar entries ─► directory
//!           └─ berthd ───┘ │ └─ inflate thread ─┘         └────── apply thread ────────┘
//!                          │ └───────────── unpacker, a confined process ──────────────┘
//! ```
//!
//! The bytes are read once and kept nowhere. While they are hashed they are not yet trusted, so
//! they go into a directory that nobody looks into before both digests are known to be right. What
//! this module does not know: registries, images, where the directory will live.

mod adopt;
mod apply;
mod attributes;
mod compression;
mod file;
mod path;
mod pax;
mod pipe;
mod rewrite;
mod seal;
mod sparse;
mod spine;
mod tar;
mod tree;
mod unpack;
mod unpacker;
mod verify;
mod whiteout;

pub(crate) use self::adopt::adopt;
pub(crate) use self::apply::Debts;
pub(crate) use self::compression::inflate;
pub(crate) use self::file::write as write_file;
pub(crate) use self::path::clean;
pub(crate) use self::rewrite::Rewriter;
pub(crate) use self::tar::{Kind, TarReader};
pub(crate) use self::unpack::{Expected, unpack};
pub use self::unpacker::run_as_unpacker;
pub(crate) use self::verify::Chunks;
