//! The namespaces of a specification: which are new, which are entered, and how.
//!
//! A PID namespace is made by the clone of the child, unless it is to belong to a user namespace:
//! then, and for a new time namespace, the child clones a second one ([`Plan::rebirth`]).

use std::collections::HashSet;
use std::path::Path;

use oci_spec::runtime::{Linux, LinuxNamespace, LinuxNamespaceType as Kind};

use crate::error::Error;
use crate::plan::{Enter, Handle, IdMaps, Plan, TimeOffset, UserNamespace, Users};
use crate::protocol::PidNamespace;

use super::{Blueprint, Member, idmaps, member_of, refuse};

/// What the kernel does with a namespace file that is none of the expected kind is `EINVAL`.
pub(super) fn plan(linux: &Linux, members: &[Member]) -> Result<Blueprint, Error> {
    let mut blueprint = Blueprint {
        plan: Plan::default(),
        pid_namespace: PidNamespace::Host(true),
        open: Vec::new(),
    };
    let namespaces = Namespaces::of(linux)?;
    for namespace in namespaces.0 {
        place(namespace, members, &mut blueprint);
    }
    let maps =
        idmaps::parse("linux", linux.uid_mappings().as_deref(), linux.gid_mappings().as_deref())?;
    plan_users(&namespaces, maps, members, &mut blueprint)?;
    plan_times(linux, &namespaces, &mut blueprint.plan)?;
    plan_rebirth(&mut blueprint);
    plan_mounts(linux, &namespaces, &mut blueprint)?;
    Ok(blueprint)
}

/// The list of a specification, each kind once.
struct Namespaces<'s>(&'s [LinuxNamespace]);

impl<'s> Namespaces<'s> {
    fn of(linux: &'s Linux) -> Result<Self, Error> {
        let list = linux.namespaces().as_deref().unwrap_or_default();
        let mut seen = HashSet::new();
        for (index, namespace) in list.iter().enumerate() {
            let kind = namespace.typ();
            if !seen.insert(kind as u64) {
                return Err(refuse(format!(
                    "linux.namespaces[{index}]: a second {kind} namespace"
                )));
            }
            if path(namespace).is_some_and(|path| !path.is_absolute()) {
                return Err(refuse(format!("linux.namespaces[{index}].path: not absolute")));
            }
        }
        Ok(Self(list))
    }

    fn find(&self, kind: Kind) -> Option<&'s LinuxNamespace> {
        self.0.iter().find(|namespace| namespace.typ() == kind)
    }
}

/// Where an existing namespace is; an empty path is none.
fn path(namespace: &LinuxNamespace) -> Option<&Path> {
    namespace.path().as_deref().filter(|path| !path.as_os_str().is_empty())
}

/// Every kind but those of users and time, which have rules of their own.
fn place(namespace: &LinuxNamespace, members: &[Member], blueprint: &mut Blueprint) {
    let kind = namespace.typ();
    match (kind, path(namespace)) {
        (Kind::User, _) => {}
        (Kind::Pid, None) => blueprint.pid_namespace = PidNamespace::New(true),
        (Kind::Pid, Some(path)) => {
            blueprint.pid_namespace = PidNamespace::Of(handle_of(path, members, blueprint));
        }
        (_, None) => blueprint.plan.unshare |= kind as u64,
        (_, Some(path)) => {
            let of = handle_of(path, members, blueprint);
            enter(&mut blueprint.plan.enter, of, kind as u64);
        }
    }
}

fn plan_users(
    namespaces: &Namespaces<'_>,
    maps: Option<IdMaps>,
    members: &[Member],
    blueprint: &mut Blueprint,
) -> Result<(), Error> {
    let users = match (namespaces.find(Kind::User).map(path), maps) {
        (None, None) => return Ok(()),
        (None, Some(_)) => {
            return Err(refuse("linux.uidMappings: without a user namespace in linux.namespaces"));
        }
        (Some(None), None) => {
            return Err(refuse("linux.uidMappings: missing for a new user namespace"));
        }
        (Some(None), Some(maps)) => {
            for (field, ranges) in [("uidMappings", &maps.users), ("gidMappings", &maps.groups)] {
                if !idmaps::maps(ranges, 0) {
                    return Err(refuse(format!(
                        "linux.{field}: the container's id 0 is not mapped"
                    )));
                }
            }
            Users::New(maps)
        }
        // Callers of the field give the mappings of a namespace that they have made as well.
        (Some(Some(path)), _) => Users::Of(handle_of(path, members, blueprint)),
    };
    blueprint.plan.user = Some(UserNamespace { users: Some(users) });
    Ok(())
}

fn plan_times(linux: &Linux, namespaces: &Namespaces<'_>, plan: &mut Plan) -> Result<(), Error> {
    let offsets = linux.time_offsets().as_ref().filter(|offsets| !offsets.is_empty());
    let Some(offsets) = offsets else {
        return Ok(());
    };
    match namespaces.find(Kind::Time).map(path) {
        None => return Err(refuse("linux.timeOffsets: without a new time namespace")),
        Some(Some(_)) => {
            return Err(refuse("linux.timeOffsets: the time namespace is another's already"));
        }
        Some(None) => {}
    }
    for (clock, offset) in offsets {
        let nanoseconds = offset.nanosecs().unwrap_or(0);
        if !matches!(clock.as_str(), "monotonic" | "boottime") {
            return Err(refuse(format!("linux.timeOffsets.{clock}: no such clock")));
        }
        if nanoseconds >= 1_000_000_000 {
            return Err(refuse(format!("linux.timeOffsets.{clock}.nanosecs: a second or more")));
        }
        let seconds = offset.secs().unwrap_or(0);
        plan.time_offsets.push(TimeOffset { clock: clock.clone(), seconds, nanoseconds });
    }
    plan.time_offsets.sort_by(|one, other| one.clock.cmp(&other.clock));
    Ok(())
}

fn plan_rebirth(blueprint: &mut Blueprint) {
    let new_pids = blueprint.pid_namespace == PidNamespace::New(true);
    let new_times = blueprint.plan.unshare & Kind::Time as u64 != 0;
    if new_times || (blueprint.plan.user.is_some() && new_pids) {
        blueprint.plan.rebirth = Some(if new_pids { Kind::Pid as u64 } else { 0 });
        if new_pids {
            blueprint.pid_namespace = PidNamespace::Host(true);
        }
    }
}

/// A container without a mount namespace has a root of its own nevertheless, put together in a
/// namespace that it leaves again: nothing of it is ever mounted in the host's.
fn plan_mounts(
    linux: &Linux,
    namespaces: &Namespaces<'_>,
    blueprint: &mut Blueprint,
) -> Result<(), Error> {
    if namespaces.find(Kind::Mount).is_some() {
        return Ok(());
    }
    let why = "it needs a mount namespace in linux.namespaces";
    if linux.rootfs_propagation().as_ref().is_some_and(|name| !name.is_empty()) {
        return Err(refuse(format!("linux.rootfsPropagation: {why}")));
    }
    if let Some(user) = namespaces.0.iter().position(|one| one.typ() == Kind::User) {
        return Err(refuse(format!("linux.namespaces[{user}]: {why}")));
    }
    blueprint.plan.unshare |= Kind::Mount as u64;
    Ok(())
}

/// Adds to what is entered; several namespaces of one process are entered in one call.
fn enter(list: &mut Vec<Enter>, of: Handle, bit: u64) {
    match list.iter_mut().find(|enter| enter.of == of) {
        Some(enter) => enter.kinds |= bit,
        None => list.push(Enter { of, kinds: bit }),
    }
}

/// The handle of the process or the file behind a namespace's path.
fn handle_of(path: &Path, members: &[Member], blueprint: &mut Blueprint) -> Handle {
    let index = member_of(path, "ns", members).map_or_else(
        || {
            blueprint.open.push(path.to_owned());
            members.len() + blueprint.open.len() - 1
        },
        |(index, _)| index,
    );
    Handle::try_from(index).unwrap_or(Handle::MAX)
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::super::tests::{json, planned};
    use super::*;
    use crate::plan::IdRange;

    const MAPS: &str = r#", "uidMappings": [{"containerID": 0, "hostID": 100000, "size": 65536}],
        "gidMappings": [{"containerID": 0, "hostID": 200000, "size": 65536}]"#;

    fn with(list: &str, linux: &str, members: &[Member]) -> Result<Blueprint, Error> {
        planned(&json(linux, "").replace(r#"{"type": "mount"}"#, list), members)
    }

    fn new(kinds: &[Kind]) -> u64 {
        kinds.iter().fold(0, |all, kind| all | *kind as u64)
    }

    #[test]
    fn namespaces_of_a_member_are_entered_by_its_handle_at_once() {
        let pause = Member { key: "pause".to_owned(), pid: 42 };
        let list = r#"{"type": "mount"}, {"type": "ipc", "path": "/proc/42/ns/ipc"},
            {"type": "uts", "path": "/proc/42/ns/uts"}, {"type": "pid", "path": "/proc/42/ns/pid"},
            {"type": "network", "path": "/run/netns/x"}"#;
        let blueprint = with(list, "", &[pause]).unwrap();
        assert_eq!(blueprint.plan.unshare, new(&[Kind::Mount]));
        let of_pause = Enter { of: 0, kinds: new(&[Kind::Ipc, Kind::Uts]) };
        let of_file = Enter { of: 1, kinds: new(&[Kind::Network]) };
        assert_eq!(blueprint.plan.enter, [of_pause, of_file]);
        assert_eq!(blueprint.pid_namespace, PidNamespace::Of(0));
        assert_eq!(blueprint.open, [PathBuf::from("/run/netns/x")]);
    }

    #[test]
    fn a_pid_that_is_no_members_is_a_file_to_open() {
        let list = r#"{"type": "mount"}, {"type": "ipc", "path": "/proc/43/ns/ipc"}"#;
        let blueprint = with(list, "", &[]).unwrap();
        assert_eq!(blueprint.open, [PathBuf::from("/proc/43/ns/ipc")]);
        assert_eq!(blueprint.plan.enter, [Enter { of: 0, kinds: new(&[Kind::Ipc]) }]);
    }

    #[test]
    fn namespaces_without_a_path_are_new() {
        let list = r#"{"type": "mount"}, {"type": "pid"}, {"type": "network", "path": ""}"#;
        let blueprint = with(list, "", &[]).unwrap();
        assert_eq!(blueprint.plan.unshare, new(&[Kind::Mount, Kind::Network]));
        assert_eq!(blueprint.pid_namespace, PidNamespace::New(true));
        assert_eq!(blueprint.plan.rebirth, None);
    }

    #[test]
    fn a_new_user_namespace_owns_the_pid_namespace() {
        let list = r#"{"type": "mount"}, {"type": "pid"}, {"type": "user"}"#;
        let blueprint = with(list, MAPS, &[]).unwrap();
        assert_eq!(blueprint.pid_namespace, PidNamespace::Host(true));
        assert_eq!(blueprint.plan.rebirth, Some(new(&[Kind::Pid])));
        let Some(Users::New(maps)) = blueprint.plan.user.unwrap().users else { panic!("not new") };
        assert_eq!(maps.users, [IdRange { inside: 0, host: 100_000, size: 65_536 }]);
        assert_eq!(maps.groups, [IdRange { inside: 0, host: 200_000, size: 65_536 }]);
    }

    #[test]
    fn an_existing_user_namespace_is_entered_whatever_the_mappings_say() {
        let pause = Member { key: "pause".to_owned(), pid: 42 };
        let list = r#"{"type": "mount"}, {"type": "pid", "path": "/proc/42/ns/pid"},
            {"type": "user", "path": "/proc/42/ns/user"}"#;
        for maps in ["", MAPS] {
            let blueprint = with(list, maps, std::slice::from_ref(&pause)).unwrap();
            assert_eq!(blueprint.plan.user.unwrap().users, Some(Users::Of(0)));
            assert_eq!(
                (blueprint.plan.rebirth, blueprint.plan.unshare),
                (None, new(&[Kind::Mount]))
            );
        }
    }

    #[test]
    fn without_a_mount_namespace_the_root_is_put_together_in_one_and_taken_out() {
        let blueprint = with(r#"{"type": "ipc"}"#, "", &[]).unwrap();
        assert_eq!(blueprint.plan.unshare, new(&[Kind::Ipc, Kind::Mount]));
        assert!(blueprint.plan.root.unwrap().apart);
        let blueprint = with(r#"{"type": "mount"}"#, "", &[]).unwrap();
        assert!(!blueprint.plan.root.unwrap().apart);
    }

    #[test]
    fn a_time_namespace_is_entered_by_birth() {
        let offsets = r#", "timeOffsets": {"monotonic": {"secs": -5, "nanosecs": 7},
            "boottime": {"secs": 9}}"#;
        let blueprint = with(r#"{"type": "mount"}, {"type": "time"}"#, offsets, &[]).unwrap();
        assert_eq!(blueprint.plan.rebirth, Some(0));
        let offset = |clock: &str, seconds, nanoseconds| TimeOffset {
            clock: clock.to_owned(),
            seconds,
            nanoseconds,
        };
        let expected = [offset("boottime", 9, 0), offset("monotonic", -5, 7)];
        assert_eq!(blueprint.plan.time_offsets, expected);
        let joined = r#"{"type": "mount"}, {"type": "time", "path": "/proc/43/ns/time"}"#;
        assert_eq!(with(joined, "", &[]).unwrap().plan.rebirth, None);
    }

    #[test]
    fn what_makes_no_sense_is_refused_by_its_field() {
        const MOUNT: &str = r#"{"type": "mount"}"#;
        let time = |path: &str| format!(r#"{MOUNT}, {{"type": "time"{path}}}"#);
        let user = format!(r#"{MOUNT}, {{"type": "user"}}"#);
        let no_root = MAPS.replacen(r#""containerID": 0"#, r#""containerID": 1"#, 1);
        let offsets = |text: &str| format!(r#", "timeOffsets": {{{text}}}"#);
        for (list, linux, words) in [
            (r#"{"type": "mount"}, {"type": "mount"}"#, "", "linux.namespaces[1]: a second mnt"),
            (r#"{"type": "mount"}, {"type": "ipc", "path": "x"}"#, "", "linux.namespaces[1].path"),
            (MOUNT, MAPS, "linux.uidMappings: without a user namespace"),
            (&user, "", "linux.uidMappings: missing"),
            (&user, &no_root, "linux.uidMappings: the container's id 0"),
            (MOUNT, &offsets(r#""boottime": {"secs": 1}"#), "linux.timeOffsets: without"),
            (&time(r#", "path": "/x""#), &offsets(r#""boottime": {"secs": 1}"#), "another's"),
            (&time(""), &offsets(r#""realtime": {"secs": 1}"#), "linux.timeOffsets.realtime"),
            (&time(""), &offsets(r#""boottime": {"nanosecs": 1000000000}"#), "boottime.nanosecs"),
            (
                r#"{"type": "pid"}"#,
                r#", "rootfsPropagation": "shared""#,
                "linux.rootfsPropagation: it needs a mount namespace",
            ),
            (r#"{"type": "user"}"#, MAPS, "linux.namespaces[0]: it needs a mount namespace"),
        ] {
            let error = with(list, linux, &[]).unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        }
    }
}
