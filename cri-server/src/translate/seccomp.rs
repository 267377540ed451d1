//! Which system calls a container may make: the default profile's, those of a file on the node,
//! or all.

use std::fs;
use std::path::Path;

use berth_runtime::seccomp::Filter;
use oci_spec::runtime::LinuxSeccomp;
use tonic::Status;

use crate::api::runtime::LinuxContainerSecurityContext;
use crate::api::runtime::security_profile::ProfileType;

use super::invalid;
use super::security::{FIELD, profile};

/// Prefix of a path in the deprecated field.
const LOCALHOST: &str = "localhost/";

/// Longest file that is read; real ones have some ten KiB.
const LONGEST: u64 = 1 << 20;

/// What is asked for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Seccomp {
    /// No filter.
    Unconfined,
    /// The built-in profile.
    Default,
    /// The profile of a file, as it is now.
    Profile(Box<LinuxSeccomp>),
}

/// What a container asks for. A privileged one has no filter; `default` is a file that takes the
/// place of the built-in profile.
#[expect(deprecated, reason = "older clients send the old field")]
pub(super) fn of(
    security: &LinuxContainerSecurityContext,
    default: Option<&Path>,
) -> Result<Seccomp, Status> {
    if security.privileged {
        return Ok(Seccomp::Unconfined);
    }
    let deprecated = &security.seccomp_profile_path;
    match profile("seccomp", security.seccomp.as_ref(), deprecated)? {
        ProfileType::Unconfined => Ok(Seccomp::Unconfined),
        ProfileType::RuntimeDefault => match default {
            None => Ok(Seccomp::Default),
            Some(path) => read(path).map_err(|why| {
                Status::failed_precondition(format!("runtime.seccomp_profile {path:?} {why}"))
            }),
        },
        ProfileType::Localhost => {
            let (field, path) = match &security.seccomp {
                Some(seccomp) => ("seccomp.localhost_ref", seccomp.localhost_ref.as_str()),
                None => ("seccomp_profile_path", path_of(deprecated)?),
            };
            let field = format!("{FIELD}.{field} {path:?}");
            let path = Path::new(path);
            if !path.is_absolute() {
                return Err(invalid(&field, "is not an absolute path"));
            }
            read(path).map_err(|why| invalid(&field, why))
        }
    }
}

fn path_of(deprecated: &str) -> Result<&str, Status> {
    let field = format!("{FIELD}.seccomp_profile_path {deprecated:?}");
    let unknown = "is neither runtime/default, docker/default, unconfined nor localhost/PATH";
    deprecated.strip_prefix(LOCALHOST).ok_or_else(|| invalid(&field, unknown))
}

/// Reads a profile, and sees to it that a filter can be made of it.
fn read(path: &Path) -> Result<Seccomp, String> {
    let metadata = fs::metadata(path).map_err(|error| format!("cannot be read: {error}"))?;
    if !metadata.is_file() {
        return Err("is not a file".to_owned());
    }
    if metadata.len() > LONGEST {
        return Err(format!("has {} bytes, more than {LONGEST}", metadata.len()));
    }
    let text = fs::read(path).map_err(|error| format!("cannot be read: {error}"))?;
    let profile: LinuxSeccomp =
        serde_json::from_slice(&text).map_err(|error| format!("is no seccomp profile: {error}"))?;
    Filter::compile(&profile).map_err(|error| format!("is no seccomp profile: {error}"))?;
    Ok(Seccomp::Profile(Box::new(profile)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::runtime::SecurityProfile;

    fn new(kind: ProfileType, path: &str) -> LinuxContainerSecurityContext {
        LinuxContainerSecurityContext {
            seccomp: Some(SecurityProfile {
                profile_type: kind.into(),
                localhost_ref: path.to_owned(),
            }),
            ..Default::default()
        }
    }

    #[expect(deprecated, reason = "older clients send the old field")]
    fn old(profile: &str) -> LinuxContainerSecurityContext {
        LinuxContainerSecurityContext {
            seccomp_profile_path: profile.to_owned(),
            ..Default::default()
        }
    }

    #[test]
    fn the_new_field_wins_and_neither_is_unconfined() {
        let both = LinuxContainerSecurityContext {
            seccomp: new(ProfileType::RuntimeDefault, "").seccomp,
            ..old("unconfined")
        };
        let privileged =
            LinuxContainerSecurityContext { privileged: true, ..old("runtime/default") };
        for (security, expected) in [
            (old(""), Seccomp::Unconfined),
            (old("unconfined"), Seccomp::Unconfined),
            (old("runtime/default"), Seccomp::Default),
            (old("docker/default"), Seccomp::Default),
            (new(ProfileType::RuntimeDefault, ""), Seccomp::Default),
            (new(ProfileType::Unconfined, "x"), Seccomp::Unconfined),
            (both, Seccomp::Default),
            (privileged, Seccomp::Unconfined),
        ] {
            assert_eq!(of(&security, None).unwrap(), expected, "{security:?}");
        }
    }

    #[test]
    fn a_profile_of_the_node_is_read_and_what_is_none_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str| {
            let path = directory.path().join(name);
            fs::write(&path, text).unwrap();
            path.to_str().unwrap().to_owned()
        };
        let good = file("good.json", r#"{"defaultAction": "SCMP_ACT_LOG"}"#);
        for security in [new(ProfileType::Localhost, &good), old(&format!("localhost/{good}"))] {
            assert!(matches!(of(&security, None).unwrap(), Seccomp::Profile(_)));
        }
        let default = of(&old("runtime/default"), Some(Path::new(&good))).unwrap();
        assert!(matches!(default, Seccomp::Profile(_)));

        let half = file("half.json", r#"{"defaultAction": "#);
        let odd = file("odd.json", r#"{"defaultAction": "SCMP_ACT_FLY"}"#);
        let notify = file("notify.json", r#"{"defaultAction": "SCMP_ACT_NOTIFY"}"#);
        let gone = format!("{good}.gone");
        for (path, words) in [
            ("", "\"\" is not an absolute path"),
            ("profile.json", "is not an absolute path"),
            (gone.as_str(), "cannot be read: No such file"),
            ("/", "is not a file"),
            (&half, "EOF"),
            (&odd, "SCMP_ACT_FLY"),
            (&notify, "linux.seccomp.defaultAction"),
        ] {
            let status = of(&new(ProfileType::Localhost, path), None).unwrap_err();
            assert_eq!(status.code(), tonic::Code::InvalidArgument);
            let message = status.message();
            assert!(message.contains(words) && message.contains(path), "{message}");
        }
        let status = of(&old("nonsense"), None).unwrap_err();
        assert!(status.message().contains("\"nonsense\" is neither"), "{}", status.message());
        let status = of(&old("runtime/default"), Some(Path::new(&half))).unwrap_err();
        assert!(status.message().starts_with("runtime.seccomp_profile"), "{}", status.message());
    }
}
