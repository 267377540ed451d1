//! Mappings of user and group ids.

use oci_spec::runtime::LinuxIdMapping;

use crate::error::Error;
use crate::plan::{IdMaps, IdRange, Plan, Users};

use super::refuse;

/// Most ranges that the kernel takes (`UID_GID_MAP_MAX_EXTENTS`).
const MAX_RANGES: usize = 340;

/// The kernel takes all ranges in one write of less than a page.
const MAX_BYTES: usize = 4096;

/// The mappings in `uidMappings` and `gidMappings` of `section`; none if there are neither.
///
/// # Errors
/// [`Error::Spec`], with the field, if an id would be mapped twice or is none.
pub fn parse(
    section: &str,
    users: Option<&[LinuxIdMapping]>,
    groups: Option<&[LinuxIdMapping]>,
) -> Result<Option<IdMaps>, Error> {
    let (users_field, groups_field) =
        (format!("{section}.uidMappings"), format!("{section}.gidMappings"));
    let missing = |field: &str, other: &str| refuse(format!("{field}: missing beside {other}"));
    match (users.filter(|list| !list.is_empty()), groups.filter(|list| !list.is_empty())) {
        (None, None) => Ok(None),
        (Some(_), None) => Err(missing(&groups_field, &users_field)),
        (None, Some(_)) => Err(missing(&users_field, &groups_field)),
        (Some(users), Some(groups)) => Ok(Some(IdMaps {
            users: ranges(&users_field, users)?,
            groups: ranges(&groups_field, groups)?,
        })),
    }
}

fn ranges(field: &str, list: &[LinuxIdMapping]) -> Result<Vec<IdRange>, Error> {
    let bad = |index: usize, why: String| Err(refuse(format!("{field}[{index}]: {why}")));
    let mut ranges: Vec<IdRange> = Vec::with_capacity(list.len());
    for (index, mapping) in list.iter().enumerate() {
        let (inside, host, size) = (mapping.container_id(), mapping.host_id(), mapping.size());
        if size == 0 {
            return bad(index, "its size is 0".to_owned());
        }
        // The last id of all stands for none.
        if inside.checked_add(size).is_none() || host.checked_add(size).is_none() {
            return bad(index, format!("{size} ids from {inside} or {host} on are too many"));
        }
        let range = IdRange { inside, host, size };
        if let Some(other) = ranges.iter().position(|other| overlap(*other, range)) {
            return bad(index, format!("it overlaps with {field}[{other}]"));
        }
        ranges.push(range);
    }
    if ranges.len() > MAX_RANGES || text(&ranges).len() >= MAX_BYTES {
        return Err(refuse(format!("{field}: {} ranges are too many", ranges.len())));
    }
    Ok(ranges)
}

/// The kernel wants both sides of a mapping to be unambiguous.
fn overlap(one: IdRange, other: IdRange) -> bool {
    let meet = |a: u32, b: u32| a < b + other.size && b < a + one.size;
    meet(one.inside, other.inside) || meet(one.host, other.host)
}

/// What is written to `/proc/PID/uid_map`.
pub(crate) fn text(ranges: &[IdRange]) -> String {
    let line = |range: &IdRange| format!("{} {} {}\n", range.inside, range.host, range.size);
    ranges.iter().map(line).collect()
}

/// Whether an id of the inside is one of the host's as well.
pub(super) fn maps(ranges: &[IdRange], id: u32) -> bool {
    ranges.iter().any(|range| id >= range.inside && id - range.inside < range.size)
}

/// A process can only be somebody whom its user namespace knows.
pub(super) fn refuse_unmapped(plan: &Plan) -> Result<(), Error> {
    let users = plan.user.as_ref().and_then(|user| user.users.as_ref());
    let (Some(Users::New(known)), Some(process)) = (users, &plan.process) else {
        return Ok(());
    };
    let groups = (0..).zip(&process.groups);
    let groups = groups.map(|(index, id): (usize, _)| (format!("additionalGids[{index}]"), *id));
    let ids = [("uid".to_owned(), process.uid, &known.users)];
    let ids = ids.into_iter().chain([("gid".to_owned(), process.gid, &known.groups)]);
    let ids = ids.chain(groups.map(|(field, id)| (field, id, &known.groups)));
    for (field, id, ranges) in ids {
        if !maps(ranges, id) {
            return Err(refuse(format!("process.user.{field}: {id} is not mapped")));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn list(ranges: &[(u32, u32, u32)]) -> Vec<LinuxIdMapping> {
        let mapping = |&(inside, host, size): &(u32, u32, u32)| {
            let text = format!(r#"{{"containerID": {inside}, "hostID": {host}, "size": {size}}}"#);
            serde_json::from_str(&text).unwrap()
        };
        ranges.iter().map(mapping).collect()
    }

    fn parsed(ranges: &[(u32, u32, u32)]) -> Result<Option<IdMaps>, Error> {
        parse("linux", Some(&list(ranges)), Some(&list(&[(0, 0, 1)])))
    }

    #[test]
    fn good_mappings_are_taken_as_they_are() {
        let maps = parsed(&[(0, 100_000, 65_536), (70_000, 5, 1), (1 << 31, 1 << 31, 1)]);
        let text = text(&maps.unwrap().unwrap().users);
        assert_eq!(text, "0 100000 65536\n70000 5 1\n2147483648 2147483648 1\n");
        assert!(parsed(&[(0, 0, u32::MAX)]).is_ok());
        assert!(parse("linux", None, Some(&[])).unwrap().is_none());
    }

    #[test]
    fn bad_mappings_are_named() {
        let many: Vec<_> = (0..341).map(|n| (n, n, 1)).collect();
        let long: Vec<_> = (0..200).map(|n| (1 << 31 | n, 1 << 31 | n, 1)).collect();
        for (ranges, words) in [
            (&[(0, 0, 0)][..], "linux.uidMappings[0]: its size is 0"),
            (&[(1, 0, u32::MAX)], "linux.uidMappings[0]: 4294967295 ids"),
            (&[(0, u32::MAX, 1)], "too many"),
            (
                &[(0, 0, 10), (9, 100, 1)],
                "linux.uidMappings[1]: it overlaps with linux.uidMappings[0]",
            ),
            (&[(0, 0, 10), (10, 9, 1)], "linux.uidMappings[1]: it overlaps"),
            (&many, "linux.uidMappings: 341 ranges"),
            (&long, "linux.uidMappings: 200 ranges"),
        ] {
            let error = parsed(ranges).unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        }
        for (users, groups, words) in [
            (Some(list(&[(0, 0, 1)])), None, "mounts[2].gidMappings: missing"),
            (None, Some(list(&[(0, 0, 1)])), "mounts[2].uidMappings: missing"),
        ] {
            let error = parse("mounts[2]", users.as_deref(), groups.as_deref()).unwrap_err();
            assert!(error.to_string().contains(words), "{error}");
        }
    }

    proptest! {
        /// What is accepted maps no id twice, in neither direction.
        #[test]
        fn accepted_mappings_are_unambiguous(
            ranges in proptest::collection::vec((any::<u32>(), any::<u32>(), any::<u32>()), 1..8),
            small in proptest::collection::vec((0..40_u32, 0..40_u32, 0..6_u32), 1..8),
        ) {
            for ranges in [ranges, small] {
                let Ok(Some(parsed)) = parsed(&ranges) else { continue };
                for (index, one) in parsed.users.iter().enumerate() {
                    prop_assert!(one.size > 0);
                    prop_assert!(u64::from(one.inside) + u64::from(one.size) <= u64::from(u32::MAX));
                    prop_assert!(maps(&parsed.users, one.inside + (one.size - 1)));
                    for other in &parsed.users[..index] {
                        let apart = |a: u32, b: u32| {
                            u64::from(a) >= u64::from(b) + u64::from(other.size)
                                || u64::from(b) >= u64::from(a) + u64::from(one.size)
                        };
                        prop_assert!(apart(one.inside, other.inside));
                        prop_assert!(apart(one.host, other.host));
                    }
                }
            }
        }
    }
}
