//! Who a container runs as.

use berth_imageservice::{Identity, Image};
use tonic::Status;

use crate::api::runtime::{LinuxContainerSecurityContext, SupplementalGroupsPolicy};
use crate::status;

use super::invalid;

const FIELD: &str = "config.linux.security_context";

/// Computes the identity of a container's processes, once and for all of them.
pub(super) fn of(
    security: &LinuxContainerSecurityContext,
    image: &Image,
) -> Result<Identity, Status> {
    let user = user(security, image)?;
    let mut identity = image.resolve_user(&user).map_err(status::of)?;
    let policy = security.supplemental_groups_policy;
    let field = || format!("{FIELD}.supplemental_groups_policy");
    match SupplementalGroupsPolicy::try_from(policy) {
        Ok(SupplementalGroupsPolicy::Merge) => {}
        Ok(SupplementalGroupsPolicy::Strict) => identity.additional_gids.clear(),
        Err(_) => return Err(invalid(&field(), format!("{policy} is unknown"))),
    }
    for group in &security.supplemental_groups {
        identity.additional_gids.push(id("supplemental_groups", *group)?);
    }
    // Without the primary group among them, a process could shake off a group that files deny
    // access to (CVE-2022-36109).
    identity.additional_gids.push(identity.gid);
    identity.additional_gids.sort_unstable();
    identity.additional_gids.dedup();
    Ok(identity)
}

/// The user as a string that the image is asked about: `user[:group]`.
fn user(security: &LinuxContainerSecurityContext, image: &Image) -> Result<String, Status> {
    let uid = security.run_as_user.map(|uid| id("run_as_user", uid.value)).transpose()?;
    let gid = security.run_as_group.map(|gid| id("run_as_group", gid.value)).transpose()?;
    let name = &security.run_as_username;
    let user = match (uid, name.is_empty()) {
        (Some(_), false) => {
            return Err(invalid(FIELD, "has both run_as_user and run_as_username"));
        }
        (Some(uid), true) => uid.to_string(),
        (None, false) => name.clone(),
        (None, true) if gid.is_some() => {
            return Err(invalid(FIELD, "has run_as_group without a user"));
        }
        (None, true) => {
            let config = image.config().config().as_ref();
            return Ok(config.and_then(|config| config.user().clone()).unwrap_or_default());
        }
    };
    if user.contains(':') {
        return Err(invalid(&format!("{FIELD}.run_as_username"), "has a colon in it"));
    }
    Ok(match gid {
        Some(gid) => format!("{user}:{gid}"),
        None => user,
    })
}

/// A user's or a group's number. The largest one stands for "no change" in system calls.
fn id(field: &str, value: i64) -> Result<u32, Status> {
    let id = u32::try_from(value).ok().filter(|id| *id != u32::MAX);
    id.ok_or_else(|| invalid(&format!("{FIELD}.{field}"), format!("{value} is no id")))
}
