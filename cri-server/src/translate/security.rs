//! Capabilities, and the profiles of security modules.

use std::collections::HashSet;
use std::path::Path;

use oci_spec::runtime::{Capability, LinuxCapabilities};
use tonic::Status;

use crate::api::runtime::security_profile::ProfileType;
use crate::api::runtime::{LinuxContainerSecurityContext, PodSandboxConfig, SecurityProfile};

use super::{invalid, unsupported};

pub(super) const FIELD: &str = "config.linux.security_context";

/// Prefix of a profile's name.
const LOCALHOST: &str = "localhost/";

/// Whether SELinux is part of the running kernel.
pub fn selinux_is_on() -> bool {
    Path::new("/sys/fs/selinux/enforce").exists()
}

/// The AppArmor profile that a container asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AppArmor {
    /// There is no AppArmor to ask.
    Off,
    /// None.
    Unconfined,
    /// The default one; by name, or by saying nothing.
    Default {
        /// Whether it has to be there.
        asked: bool,
    },
    /// One of the node's, with the field that names it.
    Profile {
        /// The field.
        field: String,
        /// The name.
        name: String,
    },
}

/// What a container asks of AppArmor, which the host may not have: a profile that would have been
/// given by default is nothing there.
///
/// A privileged container has no profile by default, but the one that it names.
///
/// # Errors
/// `INVALID_ARGUMENT` with the field.
#[expect(deprecated, reason = "older clients send the old field")]
pub fn apparmor(security: &LinuxContainerSecurityContext, is_on: bool) -> Result<AppArmor, Status> {
    let (new, deprecated) = (security.apparmor.as_ref(), &security.apparmor_profile);
    let silent = new.is_none() && deprecated.is_empty();
    let kind = match silent {
        true => ProfileType::RuntimeDefault,
        false => profile("apparmor", new, deprecated)?,
    };
    let (field, name) = match new {
        Some(new) => ("apparmor.localhost_ref", &new.localhost_ref),
        None => ("apparmor_profile", deprecated),
    };
    match kind {
        ProfileType::Localhost if !is_on => Err(invalid(
            &format!("{FIELD}.apparmor"),
            format!("asks for the profile {name:?}, but this host has no AppArmor"),
        )),
        _ if !is_on => Ok(AppArmor::Off),
        ProfileType::Localhost => {
            let field = format!("{FIELD}.{field} {name:?}");
            let bare = name.strip_prefix(LOCALHOST);
            // Anything may be a profile's name, but the old field says that this is one.
            let name = if new.is_some() { bare.or(Some(name)) } else { bare };
            let unknown = "is neither runtime/default, unconfined nor localhost/PROFILE";
            let name = name.ok_or_else(|| invalid(&field, unknown))?.to_owned();
            Ok(AppArmor::Profile { field, name })
        }
        ProfileType::RuntimeDefault if !security.privileged => {
            Ok(AppArmor::Default { asked: !silent })
        }
        _ => Ok(AppArmor::Unconfined),
    }
}

/// Refuses a label where SELinux would apply it: this version cannot.
pub(super) fn check_label(security: &LinuxContainerSecurityContext) -> Result<(), Status> {
    if !security.privileged && selinux_is_on() && security.selinux_options.is_some() {
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

    #[expect(deprecated, reason = "older clients send the old field")]
    fn asked(profile: Option<(ProfileType, &str)>, old: &str, privileged: bool) -> AppArmor {
        let profile = profile.map(|(kind, name)| SecurityProfile {
            profile_type: kind.into(),
            localhost_ref: name.to_owned(),
        });
        let security = LinuxContainerSecurityContext {
            apparmor: profile,
            apparmor_profile: old.to_owned(),
            privileged,
            ..Default::default()
        };
        apparmor(&security, true).unwrap()
    }

    #[test]
    fn a_profile_is_the_default_unless_something_else_is_said() {
        use ProfileType::{Localhost, RuntimeDefault, Unconfined};
        let default = |asked| AppArmor::Default { asked };
        assert_eq!(asked(None, "", false), default(false));
        assert_eq!(asked(None, "runtime/default", false), default(true));
        assert_eq!(asked(Some((RuntimeDefault, "")), "unconfined", false), default(true));
        assert_eq!(asked(None, "unconfined", false), AppArmor::Unconfined);
        assert_eq!(asked(Some((Unconfined, "")), "", false), AppArmor::Unconfined);
        for kind in [None, Some((RuntimeDefault, ""))] {
            assert_eq!(asked(kind, "", true), AppArmor::Unconfined, "privileged");
        }
        for (new, old) in [
            (Some((Localhost, "p")), ""),
            (Some((Localhost, "localhost/p")), ""),
            (None, "localhost/p"),
        ] {
            let AppArmor::Profile { name, field } = asked(new, old, true) else { panic!("{old}") };
            assert_eq!(name, "p");
            assert!(field.starts_with("config.linux.security_context.apparmor"), "{field}");
        }
    }

    #[test]
    fn a_host_without_apparmor_refuses_only_what_names_a_profile() {
        let of = |kind: Option<ProfileType>| {
            let apparmor = kind.map(|kind| SecurityProfile {
                profile_type: kind.into(),
                localhost_ref: "p".to_owned(),
            });
            apparmor_of(LinuxContainerSecurityContext { apparmor, ..Default::default() })
        };
        assert_eq!(of(None).unwrap(), AppArmor::Off);
        assert_eq!(of(Some(ProfileType::RuntimeDefault)).unwrap(), AppArmor::Off);
        assert_eq!(of(Some(ProfileType::Unconfined)).unwrap(), AppArmor::Off);
        let refused = of(Some(ProfileType::Localhost)).unwrap_err();
        assert!(refused.message().contains("\"p\", but this host has no AppArmor"), "{refused}");
    }

    fn apparmor_of(security: LinuxContainerSecurityContext) -> Result<AppArmor, Status> {
        apparmor(&security, false)
    }

    #[test]
    fn an_unknown_capability_is_named() {
        let status = sets(&["CAP_FLY"], &[], false).unwrap_err();
        assert!(status.message().contains("\"CAP_FLY\" is unknown"), "{}", status.message());
    }
}
