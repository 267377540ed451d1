//! The user namespace of a pod (`hostUsers: false`), and mappings of the owners of its volumes.
//!
//! The kubelet gives a pod one range of the host's ids, which are the ids from 0 on inside. What
//! it does not send is refused: a mapping that leaves out the inside's root or its nobody would
//! be found out by a process that is neither.

use berth_sandbox::{HostIds, PodUsers};
use oci_spec::runtime::{LinuxIdMapping, LinuxIdMappingBuilder};
use tonic::Status;

use crate::api::runtime::{IdMapping, Mount, NamespaceMode, UserNamespace};

use super::invalid;

/// Where it is in the request of a pod and of a container alike.
pub(super) const FIELD: &str = "config.linux.security_context.namespace_options.userns_options";

/// Fewest ids that a pod can do with: up to the last of those that are nobody's by convention.
const LEAST: u32 = 65_536;

/// The ids of a pod or a container; none if they are the host's.
pub(super) fn of(options: Option<&UserNamespace>) -> Result<Option<PodUsers>, Status> {
    let Some(options) = options else { return Ok(None) };
    let mode = NamespaceMode::try_from(options.mode);
    let field = format!("{FIELD}.mode");
    match mode.map_err(|_| invalid(&field, format!("{} is unknown", options.mode)))? {
        NamespaceMode::Pod => Ok(Some(PodUsers {
            users: range("uids", &options.uids)?,
            groups: range("gids", &options.gids)?,
        })),
        NamespaceMode::Node => {
            let lists = [("uids", &options.uids), ("gids", &options.gids)];
            match lists.iter().find(|(_, list)| !list.is_empty()) {
                Some((name, _)) => {
                    Err(invalid(&format!("{FIELD}.{name}"), "are mapped, and mode is NODE"))
                }
                None => Ok(None),
            }
        }
        other => Err(invalid(&field, format!("cannot be {}", other.as_str_name()))),
    }
}

fn range(name: &str, list: &[IdMapping]) -> Result<HostIds, Status> {
    let [mapping] = list else {
        let why = format!("has {} mappings, and a pod has one", list.len());
        return Err(invalid(&format!("{FIELD}.{name}"), why));
    };
    let field = |part: &str| format!("{FIELD}.{name}[0].{part}");
    let IdMapping { host_id, container_id, length } = *mapping;
    if container_id != 0 {
        let why = format!("is {container_id}: the pod's id 0 is not mapped");
        return Err(invalid(&field("container_id"), why));
    }
    if length < LEAST {
        return Err(invalid(&field("length"), format!("is {length}, less than {LEAST}")));
    }
    // The last id of all stands for none.
    if host_id.checked_add(length).is_none() {
        let why = format!("is {length}: there are not so many ids from {host_id} on");
        return Err(invalid(&field("length"), why));
    }
    Ok(HostIds { first: host_id, count: length })
}

/// Refuses an id that is nobody inside; `field` has it.
pub(super) fn check_id(field: &str, id: u32, ids: HostIds) -> Result<(), Status> {
    if id < ids.count {
        return Ok(());
    }
    let why = format!("is {id}, which is not mapped: the pod has the ids below {}", ids.count);
    Err(invalid(field, why))
}

/// How the owners of a volume are mapped.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Owners {
    /// Not at all.
    AsFound,
    /// As those of everything in the pod are.
    OfPod,
    /// By mappings of their own.
    Mapped(Vec<LinuxIdMapping>, Vec<LinuxIdMapping>),
}

/// Reads the mappings of a mount, of this index.
pub(super) fn owners(index: usize, mount: &Mount, pod: Option<PodUsers>) -> Result<Owners, Status> {
    let list = |mappings: &[IdMapping]| mappings.iter().map(oci).collect::<Result<Vec<_>, _>>();
    let (users, groups) = (list(&mount.uid_mappings)?, list(&mount.gid_mappings)?);
    let section = format!("config.mounts[{index}]");
    let maps = berth_runtime::spec::id_maps(&section, Some(&users), Some(&groups));
    let maps = maps.map_err(|error| match error {
        berth_runtime::Error::Spec(why) => Status::invalid_argument(why),
        other => Status::internal(other.to_string()),
    })?;
    Ok(match maps {
        None => Owners::AsFound,
        Some(maps) if Some(&maps) == pod.map(PodUsers::maps).as_ref() => Owners::OfPod,
        Some(_) => Owners::Mapped(users, groups),
    })
}

fn oci(mapping: &IdMapping) -> Result<LinuxIdMapping, Status> {
    let oci = LinuxIdMappingBuilder::default()
        .container_id(mapping.container_id)
        .host_id(mapping.host_id)
        .size(mapping.length);
    oci.build().map_err(|error| Status::internal(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(container_id: u32, host_id: u32, length: u32) -> IdMapping {
        IdMapping { host_id, container_id, length }
    }

    fn pod(uids: &[IdMapping], gids: &[IdMapping]) -> UserNamespace {
        let mode = NamespaceMode::Pod.into();
        UserNamespace { mode, uids: uids.to_vec(), gids: gids.to_vec() }
    }

    #[test]
    fn a_pod_has_one_range_of_ids() {
        let good = [ids(0, 131_072, 65_536)];
        let groups = [ids(0, 1000, 100_000)];
        let users = of(Some(&pod(&good, &groups))).unwrap().unwrap();
        assert_eq!(users.users, HostIds { first: 131_072, count: 65_536 });
        assert_eq!(users.groups, HostIds { first: 1000, count: 100_000 });
        let host = UserNamespace { mode: NamespaceMode::Node.into(), ..Default::default() };
        assert_eq!((of(None).unwrap(), of(Some(&host)).unwrap()), (None, None));
        assert!(of(Some(&pod(&[ids(0, u32::MAX - 65_536, 65_536)], &good))).is_ok());
    }

    #[test]
    fn what_makes_no_sense_is_named() {
        let good = ids(0, 131_072, 65_536);
        let mode = |mode: i32| UserNamespace { mode, ..Default::default() };
        let on_host = UserNamespace { mode: NamespaceMode::Node.into(), ..pod(&[good], &[]) };
        for (options, words) in [
            (mode(NamespaceMode::Container.into()), ".mode cannot be CONTAINER"),
            (mode(NamespaceMode::Target.into()), ".mode cannot be TARGET"),
            (mode(9), ".mode 9 is unknown"),
            (on_host, ".uids are mapped, and mode is NODE"),
            (pod(&[], &[good]), ".uids has 0 mappings"),
            (pod(&[good], &[]), ".gids has 0 mappings"),
            (pod(&[good, ids(65_536, 5, 1)], &[good]), ".uids has 2 mappings"),
            (pod(&[good], &[good, good]), ".gids has 2 mappings"),
            (pod(&[ids(1, 1000, 65_536)], &[good]), ".uids[0].container_id is 1"),
            (pod(&[good], &[ids(0, 1000, 0)]), ".gids[0].length is 0"),
            (pod(&[ids(0, 1000, 65_535)], &[good]), ".uids[0].length is 65535, less than 65536"),
            (pod(&[ids(0, u32::MAX - 65_535, 65_536)], &[good]), ".uids[0].length is 65536: there"),
        ] {
            let status = of(Some(&options)).unwrap_err();
            assert_eq!(status.code(), tonic::Code::InvalidArgument);
            let message = status.message();
            assert!(message.starts_with(FIELD) && message.contains(words), "{message}");
        }
    }

    #[test]
    fn owners_of_a_volume_are_mapped_as_it_says() {
        let range = |first| HostIds { first, count: 65_536 };
        let users = PodUsers { users: range(131_072), groups: range(131_072) };
        let mount = |uids: &[IdMapping], gids: &[IdMapping]| Mount {
            uid_mappings: uids.to_vec(),
            gid_mappings: gids.to_vec(),
            ..Default::default()
        };
        let (own, other) = (ids(0, 131_072, 65_536), ids(0, 7, 65_536));
        assert_eq!(owners(0, &mount(&[], &[]), Some(users)).unwrap(), Owners::AsFound);
        assert_eq!(owners(0, &mount(&[own], &[own]), Some(users)).unwrap(), Owners::OfPod);
        for (mount, pod) in [(mount(&[own], &[other]), Some(users)), (mount(&[own], &[own]), None)]
        {
            assert!(matches!(owners(0, &mount, pod).unwrap(), Owners::Mapped(..)));
        }
        for (mount, words) in [
            (mount(&[own], &[]), "config.mounts[3].gidMappings: missing"),
            (mount(&[own], &[ids(0, 1, 0)]), "config.mounts[3].gidMappings[0]: its size is 0"),
            (mount(&[own, own], &[own]), "config.mounts[3].uidMappings[1]: it overlaps"),
            (mount(&[ids(0, 5, u32::MAX)], &[own]), "config.mounts[3].uidMappings[0]"),
        ] {
            let status = owners(3, &mount, Some(users)).unwrap_err();
            assert_eq!(status.code(), tonic::Code::InvalidArgument);
            assert!(status.message().starts_with(words), "{}", status.message());
        }
    }
}
