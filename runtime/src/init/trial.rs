//! Tries whether the owners of image layers can be mapped on this host: by what a container with a
//! user namespace needs of the kernel and of the layers' file system, and where nobody sees it.

use std::os::fd::AsFd as _;
use std::path::Path;

use rustix::fs::{Mode, mkdirat};

use crate::plan::{IdMaps, IdRange, Overlay};
use crate::protocol::Step;

use super::root::Workshop;
use super::{Attempt as _, Fault, users};

/// Any ids of the host, of its root's among them none.
const IDS: IdRange = IdRange { inside: 0, host: 65_536, size: 65_536 };

/// Makes a user namespace, and an overlay of `layers`, a directory, whose owners are mapped by it.
/// `attach` is an existing directory.
pub(crate) fn map_layers(layers: &Path, attach: &Path) -> Result<(), Fault> {
    let maps = IdMaps { users: vec![IDS], groups: vec![IDS] };
    let users = users::make(&maps).attempt(Step::Namespaces, || "make a user namespace")?;
    let (base, attach) = (layers.to_string_lossy(), attach.to_string_lossy());
    let workshop = Workshop::open(&attach)?;
    for name in ["upper", "work"] {
        mkdirat(workshop.directory(), name, Mode::from_raw_mode(0o700))
            .attempt(Step::Root, || format!("make a directory in {attach}"))?;
    }
    let overlay = Overlay {
        base: base.into_owned(),
        lowers: vec![".".to_owned()],
        upper: format!("{attach}/upper"),
        work: format!("{attach}/work"),
        volatile: false,
        label: String::new(),
    };
    workshop.overlay(&overlay, Some((users.as_fd(), (IDS.host, IDS.host)))).map(drop)
}
