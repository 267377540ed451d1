//! The admin service, for `berth`: which RPC is served by which function.

mod audit;
mod import;
mod info;
mod logs;
mod operations;
mod pull;
mod wait;

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tonic::Streaming;

use crate::api::admin::admin_server::Admin;
use crate::api::admin::*;
use crate::rpc::table::service;

service! {
    Admin;
    unary {
        Info info(InfoRequest) -> InfoResponse;
        Operations operations(OperationsRequest) -> OperationsResponse;
        Import import(Streaming<ImportRequest>) -> ImportResponse;
        Wait wait(WaitRequest) -> WaitResponse;
    }
    streams {
        Audit audit(AuditRequest) -> AuditResponse as AuditStream;
        Pull pull(PullRequest) -> PullResponse as PullStream;
        Logs logs(LogsRequest) -> LogsResponse as LogsStream;
    }
    later {}
    streams_later {}
}

/// Nanoseconds since the Unix epoch, as all times are in this service.
fn timestamp(time: SystemTime) -> i64 {
    nanoseconds(time.duration_since(UNIX_EPOCH).unwrap_or_default())
}

fn nanoseconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX)
}
