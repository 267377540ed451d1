//! The wire: clients and messages of both sockets, generated from berthd's protos.
//!
//! The messages are documented in `cri-server/proto/`.

mod redact;

/// `runtime.v1`: the Container Runtime Interface.
pub(crate) mod runtime {
    #![allow(clippy::all, clippy::too_many_lines, reason = "generated")]
    #![allow(dead_code, unreachable_pub, reason = "generated; not every message is used")]
    tonic::include_proto!("runtime.v1");
}

/// `berth.admin.v1`: what only berthd answers.
pub(crate) mod admin {
    #![allow(clippy::all, clippy::too_many_lines, reason = "generated")]
    #![allow(dead_code, unreachable_pub, reason = "generated; not every message is used")]
    tonic::include_proto!("berth.admin.v1");
}
