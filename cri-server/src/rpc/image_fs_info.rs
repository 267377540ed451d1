//! ImageFsInfo: what images take on disk, and what containers have written.

use berth_imageservice::Space;
use tonic::Status;

use super::Call;
use crate::api::runtime::{
    FilesystemIdentifier, FilesystemUsage, ImageFsInfoRequest, ImageFsInfoResponse, UInt64Value,
};
use crate::node::{Node, now};

/// Images and writable layers share one file system.
pub(super) async fn image_fs_info(
    node: &Node,
    _: Call,
    _: ImageFsInfoRequest,
) -> Result<ImageFsInfoResponse, Status> {
    Ok(ImageFsInfoResponse {
        image_filesystems: vec![usage(node, node.images.usage(), now())],
        container_filesystems: vec![usage(node, node.images.last_usage_of_all(), now())],
    })
}

/// A part of the file system that images are on.
pub(super) fn usage(node: &Node, used: Space, timestamp: i64) -> FilesystemUsage {
    FilesystemUsage {
        timestamp,
        fs_id: Some(FilesystemIdentifier {
            mountpoint: node.loaded.config.dirs.root.join("images").display().to_string(),
        }),
        used_bytes: Some(UInt64Value { value: used.bytes }),
        inodes_used: Some(UInt64Value { value: used.inodes }),
    }
}
