//! What is mounted into a container.

mod image;

use std::path::{Component, Path, PathBuf};

use berth_runtime::host::{Mounts as HostMounts, Sharing, bind_source};
use berth_sandbox::{Files, PodUsers};
use oci_spec::runtime::Mount as OciMount;
use tonic::Status;

use crate::api::runtime::{Mount, MountPropagation};
use crate::status;

use super::users::{self, Owners};
use super::{invalid, unsupported};

pub use image::ImageVolume;
pub(super) use image::fill;
use image::{image_mount, image_of};

/// Mounts, and the propagation that the root needs for them.
#[derive(Debug)]
pub(super) struct Mounts {
    pub(super) list: Vec<OciMount>,
    pub(super) root_propagation: Option<String>,
    pub(super) volumes: Vec<ImageVolume>,
}

/// What mounts depend on besides the request.
#[derive(Clone, Copy, Debug)]
pub(super) struct Context<'a> {
    pub(super) files: &'a Files,
    /// Where the pod's shared memory is found; the host's if absent.
    pub(super) shm: Option<&'a Path>,
    /// Whom the host's owners of a volume can be mapped to.
    pub(super) users: Option<PodUsers>,
    pub(super) privileged: bool,
    pub(super) read_only_root: bool,
}

/// Collects all mounts: kernel file systems, the pod's files, then what the client asks for,
/// from the shortest path to the longest, so that none hides another.
pub(super) fn of(mounts: &[Mount], context: &Context<'_>) -> Result<Mounts, Status> {
    let mut list = kernel_mounts(context);
    let asked_for = |path: &str| mounts.iter().any(|mount| clean(&mount.container_path) == path);
    list.extend(
        pod_mounts(context)
            .into_iter()
            .filter(|(path, _)| !asked_for(path))
            .map(|(_, mount)| mount),
    );
    let mut root_propagation = None;
    let mut volumes = Vec::new();
    let mut asked: Vec<_> = mounts.iter().enumerate().collect();
    // All of them before the first source is made.
    for (index, mount) in &asked {
        check(*index, mount)?;
        users::owners(*index, mount, context.users)?;
    }
    asked.sort_by_key(|(_, mount)| Path::new(&mount.container_path).components().count());
    for (index, mount) in asked {
        list.retain(|known| known.destination() != Path::new(&clean(&mount.container_path)));
        if let Some(image) = image_of(mount) {
            let of_image = image_mount(index, mount, context.users)?;
            let (image, sub_path) = (image.to_owned(), mount.image_sub_path.clone());
            volumes.push(ImageVolume {
                image,
                sub_path,
                destination: of_image.destination().clone(),
            });
            list.push(of_image);
            continue;
        }
        list.push(client_mount(index, mount, context.users, &mut root_propagation)?);
    }
    Ok(Mounts { list, root_propagation, volumes })
}

/// File systems that the kernel makes up. Privileged containers may write to them.
fn kernel_mounts(context: &Context<'_>) -> Vec<OciMount> {
    let access = if context.privileged { "rw" } else { "ro" };
    let strict = ["nosuid", "noexec", "nodev"];
    let with = |more: &[&'static str]| [&strict[..], more].concat();
    let mut list = vec![
        mount("/proc", "proc", "proc", &strict),
        mount("/dev", "tmpfs", "tmpfs", &["nosuid", "strictatime", "mode=755", "size=65536k"]),
        mount(
            "/dev/pts",
            "devpts",
            "devpts",
            &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"],
        ),
        mount("/dev/mqueue", "mqueue", "mqueue", &strict),
        mount("/sys", "sysfs", "sysfs", &with(&[access])),
        mount("/sys/fs/cgroup", "cgroup", "cgroup", &with(&["relatime", access])),
    ];
    let shm = context.shm.unwrap_or(Path::new("/dev/shm"));
    list.push(bind("/dev/shm", shm, &["bind", "nosuid", "nodev", "noexec"]));
    list
}

/// The files that all containers of the pod see.
fn pod_mounts(context: &Context<'_>) -> Vec<(&'static str, OciMount)> {
    let files = context.files;
    let access = if context.read_only_root { "ro" } else { "rw" };
    let file = |path, source: &PathBuf| (path, bind(path, source, &["bind", "rprivate", access]));
    vec![
        file("/etc/hosts", &files.hosts),
        file("/etc/hostname", &files.hostname),
        file("/etc/resolv.conf", &files.resolv_conf),
    ]
}

/// Refuses a mount that makes no sense, before anything of it exists.
fn check(index: usize, mount: &Mount) -> Result<(), Status> {
    let field = |name: &str| format!("config.mounts[{index}].{name}");
    refuse_unsupported(index, mount)?;
    let host_path = match (image_of(mount), mount.host_path.as_str()) {
        (None, path) => Some(("host_path", path)),
        (Some(_), "") => None,
        (Some(_), _) => return Err(invalid(&field("host_path"), "is set beside an image")),
    };
    for (name, path) in [("container_path", &*mount.container_path)].into_iter().chain(host_path) {
        if !Path::new(path).is_absolute() {
            return Err(invalid(&field(name), format!("{path:?} is not absolute")));
        }
        if Path::new(path).components().any(|part| part == Component::ParentDir) {
            return Err(invalid(&field(name), format!("{path:?} has \"..\" in it")));
        }
        if path.contains('\0') {
            return Err(invalid(&field(name), format!("{path:?} has a NUL in it")));
        }
    }
    let propagation = propagation(index, mount)?;
    if image_of(mount).is_none() && !mount.image_sub_path.is_empty() {
        return Err(invalid(&field("image_sub_path"), "is set without an image"));
    }
    if image_of(mount).is_some() && propagation != MountPropagation::PropagationPrivate {
        let why = "of an image is private: nothing is ever mounted in it";
        return Err(invalid(&field("propagation"), why));
    }
    if mount.recursive_read_only
        && !(mount.readonly && propagation == MountPropagation::PropagationPrivate)
    {
        let why = "needs a read-only mount with private propagation";
        return Err(invalid(&field("recursive_read_only"), why));
    }
    Ok(())
}

fn propagation(index: usize, mount: &Mount) -> Result<MountPropagation, Status> {
    let field = format!("config.mounts[{index}].propagation");
    let propagation = MountPropagation::try_from(mount.propagation);
    propagation.map_err(|_| invalid(&field, format!("{} is unknown", mount.propagation)))
}

fn client_mount(
    index: usize,
    mount: &Mount,
    users: Option<PodUsers>,
    root_propagation: &mut Option<String>,
) -> Result<OciMount, Status> {
    let propagation = propagation(index, mount)?;
    let owners = users::owners(index, mount, users)?;
    let source = bind_source(Path::new(&mount.host_path)).map_err(status::of)?;
    let field = format!("config.mounts[{index}].propagation");
    let propagation = propagate(&field, propagation, &source, root_propagation)?;
    let access = match (mount.readonly, mount.recursive_read_only) {
        (_, true) => "rro",
        (true, false) => "ro",
        (false, false) => "rw",
    };
    let mut options = vec!["rbind", propagation, access];
    // As in the field, what is mounted below the source is not mapped: not all of it may be.
    if owners != Owners::AsFound {
        options.push("idmap");
    }
    let mut bind = bind(&clean(&mount.container_path), &source, &options);
    if let Owners::Mapped(users, groups) = owners {
        bind.set_uid_mappings(Some(users)).set_gid_mappings(Some(groups));
    }
    Ok(bind)
}

/// What is mounted below the source on the host can only be seen, or passed on, if the host's
/// mount takes part in it.
fn propagate(
    field: &str,
    propagation: MountPropagation,
    source: &Path,
    root: &mut Option<String>,
) -> Result<&'static str, Status> {
    let sharing = match propagation {
        MountPropagation::PropagationPrivate => return Ok("rprivate"),
        _ => HostMounts::read().map_err(status::of)?.sharing_of(source),
    };
    let refused = |needed: &str| {
        let source = source.display();
        Err(invalid(field, format!("needs {source} to be on a {needed} mount, and it is not")))
    };
    match (propagation, sharing) {
        (MountPropagation::PropagationBidirectional, Sharing::Shared) => {
            *root = Some("rshared".to_owned());
            Ok("rshared")
        }
        (MountPropagation::PropagationBidirectional, _) => refused("shared"),
        (_, Sharing::Private) => refused("shared or slave"),
        _ => {
            root.get_or_insert_with(|| "rslave".to_owned());
            Ok("rslave")
        }
    }
}

fn refuse_unsupported(index: usize, mount: &Mount) -> Result<(), Status> {
    let unsupported_parts = [
        ("mount_options", !mount.mount_options.is_empty() && image_of(mount).is_none()),
        ("selinux_relabel", mount.selinux_relabel && super::security::selinux_is_on()),
    ];
    match unsupported_parts.iter().find(|(_, present)| *present) {
        Some((what, _)) => Err(unsupported(format!("{what} in config.mounts[{index}]"))),
        None => Ok(()),
    }
}

fn mount(destination: &str, kind: &str, source: &str, options: &[&str]) -> OciMount {
    let mut mount = bind(destination, Path::new(source), options);
    mount.set_typ(Some(kind.to_owned()));
    mount
}

fn bind(destination: &str, source: &Path, options: &[&str]) -> OciMount {
    let mut mount = OciMount::default();
    mount
        .set_destination(destination.into())
        .set_typ(Some("bind".to_owned()))
        .set_source(Some(source.to_owned()))
        .set_options(Some(options.iter().map(|option| (*option).to_owned()).collect()));
    mount
}

/// A path without double and trailing slashes, to be compared with others.
fn clean(path: &str) -> String {
    Path::new(path).components().collect::<PathBuf>().to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn translated(mounts: &[Mount]) -> Result<Mounts, Status> {
        let directory = Path::new("/run/berth/sandboxes/s1");
        let files = Files {
            hosts: directory.join("hosts"),
            hostname: directory.join("hostname"),
            resolv_conf: directory.join("resolv.conf"),
        };
        let shm = Some(Path::new("/proc/7/root/shm"));
        let context =
            Context { files: &files, shm, users: None, privileged: false, read_only_root: false };
        of(mounts, &context)
    }

    fn asked(container: &str, host: &str) -> Mount {
        Mount { container_path: container.into(), host_path: host.into(), ..Default::default() }
    }

    fn image(container: &str, sub_path: &str) -> Mount {
        let spec = crate::api::runtime::ImageSpec { image: "i".into(), ..Default::default() };
        Mount { image: Some(spec), image_sub_path: sub_path.into(), ..asked(container, "") }
    }

    fn destinations(mounts: &Mounts) -> Vec<&Path> {
        mounts.list.iter().map(|mount| mount.destination().as_path()).collect()
    }

    #[test]
    fn a_container_has_kernel_file_systems_and_the_files_of_its_pod() {
        let mounts = translated(&[]).unwrap();
        let expected = [
            "/proc",
            "/dev",
            "/dev/pts",
            "/dev/mqueue",
            "/sys",
            "/sys/fs/cgroup",
            "/dev/shm",
            "/etc/hosts",
            "/etc/hostname",
            "/etc/resolv.conf",
        ];
        assert_eq!(destinations(&mounts), expected.map(Path::new));
        assert_eq!(mounts.root_propagation, None);
    }

    #[test]
    fn a_mount_of_the_client_takes_the_place_of_ours() {
        let mounts =
            translated(&[asked("/etc/hosts/", "/etc/hostname"), asked("/dev/shm", "/tmp")]);
        let mounts = mounts.unwrap();
        let hosts: Vec<_> = mounts
            .list
            .iter()
            .filter(|mount| mount.destination() == Path::new("/etc/hosts"))
            .map(|mount| mount.source().clone().unwrap())
            .collect();
        assert_eq!(hosts, [Path::new("/etc/hostname")]);
        let shm =
            destinations(&mounts).iter().filter(|path| **path == Path::new("/dev/shm")).count();
        assert_eq!(shm, 1);
    }

    #[test]
    fn what_is_mounted_deeper_is_mounted_later() {
        let mounts =
            translated(&[asked("/a/b/c", "/tmp"), asked("/a", "/tmp"), asked("/a/b", "/tmp")]);
        let mounts = mounts.unwrap();
        let last = &destinations(&mounts)[10..];
        assert_eq!(last, ["/a", "/a/b", "/a/b/c"].map(Path::new));
    }

    #[test]
    fn what_makes_no_sense_is_named() {
        let rro = Mount { recursive_read_only: true, ..asked("/a", "/tmp") };
        let twice = Mount { host_path: "/tmp".into(), ..image("/a", "") };
        let without = Mount { image_sub_path: "x".into(), ..asked("/a", "/tmp") };
        let shared = Mount { propagation: 2, ..image("/a", "") };
        let writable = Mount { mount_options: vec!["rw".into()], ..image("/a", "") };
        for (mount, words) in [
            (asked("a", "/tmp"), "config.mounts[0].container_path \"a\" is not absolute"),
            (asked("/a", "tmp"), "config.mounts[0].host_path \"tmp\" is not absolute"),
            (rro, "config.mounts[0].recursive_read_only needs a read-only mount"),
            (twice, "config.mounts[0].host_path is set beside an image"),
            (without, "config.mounts[0].image_sub_path is set without an image"),
            (shared, "config.mounts[0].propagation of an image is private"),
            (writable, "config.mounts[0].mount_options \"rw\" is no option of an image"),
        ] {
            let status = translated(&[mount]).unwrap_err();
            assert!(status.message().starts_with(words), "{}", status.message());
        }
    }
}
