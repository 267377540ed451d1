//! The root of a specification.

use std::path::Path;

use oci_spec::runtime::{Linux, LinuxNamespaceType, Spec};

use crate::error::Error;
use crate::plan::{Mount, Overlay, Plan, Root, RootOwners, RootSource};

use super::options::propagation;
use super::{Rootfs, Surroundings, has, refuse, text};

/// The root file system.
pub(super) fn root(spec: &Spec, linux: &Linux, around: &Surroundings<'_>) -> Result<Root, Error> {
    // Layers are ours and shared by containers of all mappings. A directory is the caller's, who
    // may have mapped it already.
    let owners = match around.rootfs {
        Rootfs::Overlay { .. } => RootOwners::Mapped,
        Rootfs::Directory(_) => RootOwners::MappedIfForeign,
    };
    let owners = if has(linux, LinuxNamespaceType::User) { owners } else { RootOwners::AsFound };
    let propagation = root_propagation(linux)?;
    if around.no_pivot && propagation & libc::MS_PRIVATE != 0 {
        let why = "private mounts are not safe without pivot_root";
        return Err(refuse(format!("linux.rootfsPropagation: {why}")));
    }
    Ok(Root {
        attach: text(around.attach)?,
        read_only: spec.root().as_ref().and_then(|root| root.readonly()).unwrap_or(false),
        propagation,
        owners: owners.into(),
        no_pivot: around.no_pivot,
        apart: !has(linux, LinuxNamespaceType::Mount),
        source: Some(source(around.rootfs)?),
    })
}

/// Mounts of a root that no mount namespace has are tied to no others.
pub(super) fn refuse_ties(plan: &Plan) -> Result<(), Error> {
    const TIES: u64 = libc::MS_SHARED | libc::MS_SLAVE | libc::MS_UNBINDABLE;
    if !plan.root.as_ref().is_some_and(|root| root.apart) {
        return Ok(());
    }
    let tied = |mount: &Mount| mount.propagation.iter().any(|bits| bits & TIES != 0);
    match plan.mounts.iter().position(tied) {
        None => Ok(()),
        Some(index) => {
            let why = "propagation needs a mount namespace in linux.namespaces";
            Err(refuse(format!("mounts[{index}].options: {why}")))
        }
    }
}

/// Where a root file system comes from.
pub(crate) fn source(rootfs: &Rootfs) -> Result<RootSource, Error> {
    Ok(match rootfs {
        Rootfs::Overlay { lowers, upper, work } => {
            let mut layers = stack(lowers.iter().map(|path| path.as_path()))?;
            (layers.upper, layers.work) = (text(upper)?, text(work)?);
            RootSource::Overlay(Overlay { volatile: true, ..layers })
        }
        Rootfs::Directory(path) => RootSource::Directory(text(path)?),
    })
}

/// `linux.rootfsPropagation` as bits; 0 if it is not said.
pub(super) fn root_propagation(linux: &Linux) -> Result<u64, Error> {
    match linux.rootfs_propagation().as_deref() {
        None | Some("") => Ok(0),
        Some(name) => propagation(name)
            .ok_or_else(|| refuse(format!("linux.rootfsPropagation: {name:?} is unknown"))),
    }
}

/// Read-only layers, the topmost first, by their names relative to the directory that all of them
/// are below.
pub(super) fn stack<'p>(lowers: impl Iterator<Item = &'p Path> + Clone) -> Result<Overlay, Error> {
    let first = lowers.clone().next().ok_or_else(|| refuse("an overlay without layers"))?;
    let base = first
        .ancestors()
        .skip(1)
        .find(|base| lowers.clone().all(|lower| lower.starts_with(base)))
        .unwrap_or(Path::new("/"));
    let names = lowers.map(|lower| text(lower.strip_prefix(base).unwrap_or(lower)));
    Ok(Overlay {
        base: text(base)?,
        lowers: names.collect::<Result<_, _>>()?,
        ..Overlay::default()
    })
}

#[cfg(test)]
mod tests {
    use super::super::tests::{json, planned};
    use super::*;

    #[test]
    fn propagation_of_the_root_is_carried_over() {
        for (name, bits) in [
            ("rshared", libc::MS_SHARED | libc::MS_REC),
            ("slave", libc::MS_SLAVE),
            ("runbindable", libc::MS_UNBINDABLE | libc::MS_REC),
            ("", 0),
        ] {
            let text = json(&format!(r#", "rootfsPropagation": "{name}""#), "");
            assert_eq!(planned(&text, &[]).unwrap().plan.root.unwrap().propagation, bits);
        }
        let error = planned(&json(r#", "rootfsPropagation": "rr""#, ""), &[]).unwrap_err();
        assert!(error.to_string().contains("linux.rootfsPropagation: \"rr\""), "{error}");
    }

    #[test]
    fn without_a_mount_namespace_no_mount_is_tied_to_others() {
        let mounts = |option: &str| {
            let mount = r#"{"destination": "/a", "type": "bind", "source": "/b", "options": ["bind", "OPTION"]}"#;
            let mounts = format!(r#", "mounts": [{}]"#, mount.replace("OPTION", option));
            json("", &mounts).replace(r#"{"type": "mount"}"#, r#"{"type": "ipc"}"#)
        };
        assert!(planned(&mounts("rprivate"), &[]).is_ok());
        for option in ["rshared", "slave", "unbindable"] {
            let error = planned(&mounts(option), &[]).unwrap_err().to_string();
            assert!(error.contains("mounts[0].options: propagation needs"), "{error}");
        }
    }

    #[test]
    fn layers_are_named_from_where_they_meet() {
        let paths = ["/var/x/layers/12/fs", "/var/x/layers/3/fs"].map(Path::new);
        let overlay = stack(paths.into_iter()).unwrap();
        assert_eq!(overlay.base, "/var/x/layers");
        assert_eq!(overlay.lowers, ["12/fs", "3/fs"]);
    }

    #[test]
    fn one_layer_has_a_name_as_well() {
        let overlay = stack([Path::new("/l/1/fs")].into_iter()).unwrap();
        assert_eq!((overlay.base.as_str(), &overlay.lowers[..]), ("/l/1", &["fs".to_owned()][..]));
    }
}
