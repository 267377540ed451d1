//! Capabilities, and the profiles of security modules.

use std::collections::HashSet;
use std::path::Path;

use oci_spec::runtime::{Capability, LinuxCapabilities};
use tonic::Status;

use crate::api::runtime::security_profile::ProfileType;
use crate::api::runtime::{LinuxContainerSecurityContext, PodSandboxConfig, SecurityProfile};

use super::{invalid, unsupported};

pub(super) const FIELD: &str = "config.linux.security_context";

/// Whether SELinux is part of the running kernel.
pub(super) fn selinux_is_on() -> bool {
    Path::new("/sys/fs/selinux/enforce").exists()
}

/// Whether AppArmor is part of the running kernel.
fn apparmor_is_on() -> bool {
    Path::new("/sys/kernel/security/apparmor").exists()
}

#[expect(deprecated, reason = "older clients send the old fields")]
/// Refuses the profiles that this version cannot apply. A profile that a security module would
/// give by itself is nothing where the kernel does not have that module.
pub(super) fn check_profiles(security: &LinuxContainerSecurityContext) -> Result<(), Status> {
    if security.privileged {
        return Ok(());
    }
    let apparmor = profile("apparmor", security.apparmor.as_ref(), &security.apparmor_profile)?;
    match apparmor {
        ProfileType::Unconfined => {}
        ProfileType::RuntimeDefault if !apparmor_is_on() => {}
        ProfileType::Localhost if !apparmor_is_on() => {
            return Err(invalid(
                &format!("{FIELD}.apparmor"),
                "asks for a profile, but this host has no AppArmor",
            ));
        }
        profile => {
            return Err(unsupported(format!("the AppArmor profile {}", profile.as_str_name())));
        }
    }
    if selinux_is_on() && security.selinux_options.is_some() {
        return Err(unsupported("an SELinux label"));
    }
    Ok(())
}

/// A privileged container is for a pod that was announced as one, so that whoever admitted the pod
/// has seen it coming.
pub(super) fn check_privileged(
    security: &LinuxContainerSecurityContext,
    pod: &PodSandboxConfig,
) -> Result<(), Status> {
    let pod = pod.linux.as_ref().and_then(|linux| linux.security_context.as_ref());
    if security.privileged && !pod.is_some_and(|pod| pod.privileged) {
        return Err(invalid(
            &format!("{FIELD}.privileged"),
            "is set, but its pod is not privileged",
        ));
    }
    Ok(())
}

/// The new field wins over the deprecated string; neither is "unconfined".
pub(super) fn profile(
    name: &str,
    profile: Option<&SecurityProfile>,
    deprecated: &str,
) -> Result<ProfileType, Status> {
    if let Some(profile) = profile {
        let kind = profile.profile_type;
        let unknown = |_| invalid(&format!("{FIELD}.{name}"), format!("{kind} is unknown"));
        return ProfileType::try_from(kind).map_err(unknown);
    }
    Ok(match deprecated {
        "" | "unconfined" => ProfileType::Unconfined,
        "runtime/default" | "docker/default" => ProfileType::RuntimeDefault,
        _ => ProfileType::Localhost,
    })
}

/// The capability sets of a container: the default ones, with what is added and without what is
/// dropped. `ALL` comes first, so that single ones can be taken back from it.
///
/// Inheritable and ambient sets are empty unless ambient capabilities are asked for
/// (CVE-2022-24769).
pub(super) fn capabilities(
    security: &LinuxContainerSecurityContext,
    default: &[Capability],
) -> Result<LinuxCapabilities, Status> {
    let changes = security.capabilities.clone().unwrap_or_default();
    let field = |name: &str| format!("{FIELD}.capabilities.{name}");
    let added = parse(&field("add_capabilities"), &changes.add_capabilities)?;
    let dropped = parse(&field("drop_capabilities"), &changes.drop_capabilities)?;
    let ambient = parse(&field("add_ambient_capabilities"), &changes.add_ambient_capabilities)?;
    let mut bounding: HashSet<Capability> = if security.privileged || added.all {
        every_capability()?
    } else if dropped.all {
        HashSet::new()
    } else {
        default.iter().copied().collect()
    };
    if !security.privileged {
        bounding.extend(&added.named);
        bounding.extend(&ambient.named);
        bounding.retain(|capability| !dropped.named.contains(capability));
    }
    let ambient: HashSet<_> = ambient.named.intersection(&bounding).copied().collect();
    let mut sets = LinuxCapabilities::default();
    sets.set_effective(Some(bounding.clone()))
        .set_permitted(Some(bounding.clone()))
        .set_bounding(Some(bounding))
        .set_inheritable(Some(ambient.clone()))
        .set_ambient(Some(ambient));
    Ok(sets)
}

#[derive(Default)]
struct Named {
    all: bool,
    named: HashSet<Capability>,
}

fn parse(field: &str, names: &[String]) -> Result<Named, Status> {
    let mut found = Named::default();
    for name in names {
        let upper = name.to_ascii_uppercase();
        let bare = upper.strip_prefix("CAP_").unwrap_or(&upper);
        if bare == "ALL" {
            found.all = true;
            continue;
        }
        let capability = bare.parse().map_err(|_| invalid(field, format!("{name:?} is unknown")));
        found.named.insert(capability?);
    }
    Ok(found)
}

/// Every capability that berthd has itself: it can give no other.
fn every_capability() -> Result<HashSet<Capability>, Status> {
    let all = berth_runtime::spec::all_capabilities();
    let all = all.map_err(|error| Status::internal(format!("read own capabilities: {error}")));
    Ok(all?.into_iter().collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::runtime::Capability as CriCapability;

    fn sets(add: &[&str], drop: &[&str], privileged: bool) -> Result<LinuxCapabilities, Status> {
        let list = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        let security = LinuxContainerSecurityContext {
            capabilities: Some(CriCapability {
                add_capabilities: list(add),
                drop_capabilities: list(drop),
                ..Default::default()
            }),
            privileged,
            ..Default::default()
        };
        capabilities(&security, &[Capability::Chown, Capability::Kill])
    }

    fn bounding(add: &[&str], drop: &[&str]) -> HashSet<Capability> {
        sets(add, drop, false).unwrap().bounding().clone().unwrap()
    }

    #[test]
    fn what_is_added_and_dropped_counts() {
        assert_eq!(bounding(&[], &[]), [Capability::Chown, Capability::Kill].into());
        assert_eq!(
            bounding(&["CAP_SYS_TIME"], &["kill"]),
            [Capability::Chown, Capability::SysTime].into()
        );
        assert_eq!(bounding(&["NET_RAW"], &["ALL"]), [Capability::NetRaw].into());
        let all_but_one = bounding(&["ALL"], &["SYS_ADMIN"]);
        assert!(all_but_one.len() > 30 && !all_but_one.contains(&Capability::SysAdmin));
    }

    #[test]
    fn nothing_is_inheritable_or_ambient_by_itself() {
        for privileged in [false, true] {
            let sets = sets(&[], &[], privileged).unwrap();
            assert_eq!(sets.inheritable(), &Some(HashSet::new()));
            assert_eq!(sets.ambient(), &Some(HashSet::new()));
        }
    }

    #[test]
    fn an_unknown_capability_is_named() {
        let status = sets(&["CAP_FLY"], &[], false).unwrap_err();
        assert!(status.message().contains("\"CAP_FLY\" is unknown"), "{}", status.message());
    }
}
