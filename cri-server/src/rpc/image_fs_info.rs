//! ImageFsInfo: what images take on disk.

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
    let used = node.images.usage();
    let usage = FilesystemUsage {
        timestamp: now(),
        fs_id: Some(FilesystemIdentifier {
            mountpoint: node.loaded.config.dirs.root.join("images").display().to_string(),
        }),
        used_bytes: Some(UInt64Value { value: used.bytes }),
        inodes_used: Some(UInt64Value { value: used.inodes }),
    };
    Ok(ImageFsInfoResponse {
        image_filesystems: vec![usage.clone()],
        container_filesystems: vec![usage],
    })
}
