//! The wire: what `proto/` generates, and the Debug of messages with secrets.
//!
//! The messages are the CRI's; their documentation is in `proto/api.proto`.

mod redact;

/// `runtime.v1`: the Container Runtime Interface.
pub mod runtime {
    #![allow(missing_docs, reason = "generated; documented in proto/api.proto")]
    #![allow(clippy::all, clippy::too_many_lines, reason = "generated")]
    tonic::include_proto!("runtime.v1");
}

/// `berth.admin.v1`: what `berth`, the command line, asks.
pub mod admin {
    #![allow(missing_docs, reason = "generated; documented in proto/admin.proto")]
    #![allow(clippy::all, clippy::too_many_lines, reason = "generated")]
    tonic::include_proto!("berth.admin.v1");
}
