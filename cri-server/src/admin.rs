//! The admin service, for `berth`: which RPC is served by which function.

mod audit;
mod export;
mod import;
mod info;
mod inspect;
mod login;
mod logs;
mod operations;
mod prune;
mod pull;
mod pulls;
mod push;
mod remove;
mod scrub;
mod tag;
mod telling;
mod verify;
mod wait;

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use berth_imageservice::Image;
use tonic::{Status, Streaming};

use crate::api::admin::admin_server::Admin;
use crate::api::admin::*;
use crate::node::{ContainerOrigin, Node};
use crate::rpc::table::service;
use crate::status;

service! {
    Admin;
    unary {
        Info info(InfoRequest) -> InfoResponse;
        Operations operations(OperationsRequest) -> OperationsResponse;
        Pulls pulls(PullsRequest) -> PullsResponse;
        Inspect inspect(InspectRequest) -> InspectResponse;
        Tag tag(TagRequest) -> TagResponse;
        Remove remove(RemoveRequest) -> RemoveResponse;
        Login login(LoginRequest) -> LoginResponse;
        Verify verify(VerifyRequest) -> VerifyResponse;
        Prune prune(PruneRequest) -> PruneResponse;
        Scrub scrub(ScrubRequest) -> ScrubResponse;
        Import import(Streaming<ImportRequest>) -> ImportResponse;
        Wait wait(WaitRequest) -> WaitResponse;
    }
    streams {
        Audit audit(AuditRequest) -> AuditResponse as AuditStream;
        Pull pull(PullRequest) -> PullResponse as PullStream;
        Push push(PushRequest) -> PushResponse as PushStream;
        Export export(ExportRequest) -> ExportResponse as ExportStream;
        Logs logs(LogsRequest) -> LogsResponse as LogsStream;
    }
    later {}
    streams_later {}
}

/// Nanoseconds since the Unix epoch, as all times are in this service.
fn timestamp(time: SystemTime) -> i64 {
    nanoseconds(time.duration_since(UNIX_EPOCH).unwrap_or_default())
}

/// The image that a client means; NOT_FOUND if it is not here.
fn image(node: &Node, text: &str) -> Result<Arc<Image>, Status> {
    if text.is_empty() {
        return Err(Status::invalid_argument("the image is missing"));
    }
    let found = node.images.find(text).map_err(status::of)?;
    found.ok_or_else(|| Status::not_found(format!("no image {text:?} is on this node")))
}

/// Ids of the containers that were made from each image, or have it as a volume, by image id.
fn users(node: &Node) -> HashMap<String, Vec<String>> {
    let mut users: HashMap<String, Vec<String>> = HashMap::new();
    for container in node.containers.list() {
        let (config, image) = ContainerOrigin::config(&container.spec.origin);
        let volumes = config.mounts.iter().filter_map(|mount| mount.image.as_ref());
        let found = volumes.filter_map(|volume| node.images.find(&volume.image).ok().flatten());
        let volumes = found.map(|image| image.id().to_string());
        for image in BTreeSet::from_iter(volumes.chain([image])) {
            users.entry(image).or_default().push(container.spec.id.clone());
        }
    }
    users
}

fn nanoseconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX)
}
