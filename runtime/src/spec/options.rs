//! Mount options, as `mount(8)` and the OCI runtime specification name them.

/// Mount options, sorted by what they are for.
#[derive(Debug, Default)]
pub(super) struct Options {
    /// `MOUNT_ATTR_*` to set.
    pub(super) set: u64,
    /// `MOUNT_ATTR_*` to clear.
    pub(super) clear: u64,
    /// `MS_PRIVATE` and the like, or 0.
    pub(super) propagation: u64,
    /// Whether it is a bind mount.
    pub(super) bind: bool,
    /// Whether the mounts below come along.
    pub(super) recursive_bind: bool,
    /// Whether attributes reach the mounts below.
    pub(super) recursive_attributes: bool,
    /// What is left for the file system.
    pub(super) data: Vec<String>,
    /// An option that this version cannot do.
    pub(super) unsupported: Option<String>,
}

impl Options {
    /// Sorts one option.
    pub(super) fn take(&mut self, option: &str) {
        if let Some((attribute, set)) = attribute(option) {
            self.change(attribute, set);
        } else if let Some((attribute, set)) = option.strip_prefix('r').and_then(attribute)
            && option != "ro"
        {
            self.change(attribute, set);
            self.recursive_attributes = true;
        } else if let Some(bits) = propagation(option.strip_prefix('r').unwrap_or(option)) {
            self.propagation = bits;
        } else {
            match option {
                "bind" => self.bind = true,
                "rbind" => (self.bind, self.recursive_bind) = (true, true),
                "defaults" | "async" | "relatime" | "" => {}
                "tmpcopyup" | "idmap" | "ridmap" => self.unsupported = Some(option.to_owned()),
                data => self.data.push(data.to_owned()),
            }
        }
    }

    /// The last word counts. Times are a field of several bits, which is cleared as a whole.
    fn change(&mut self, attribute: u64, set: bool) {
        let mask = if attribute & libc::MOUNT_ATTR__ATIME != 0 {
            libc::MOUNT_ATTR__ATIME
        } else {
            attribute
        };
        self.set &= !mask;
        self.clear |= mask;
        if set {
            self.set |= attribute;
        }
    }
}

/// Mount attributes by name, and whether the option sets or clears it.
const ATTRIBUTES: &[(&str, u64, bool)] = &[
    ("ro", libc::MOUNT_ATTR_RDONLY, true),
    ("rw", libc::MOUNT_ATTR_RDONLY, false),
    ("nosuid", libc::MOUNT_ATTR_NOSUID, true),
    ("suid", libc::MOUNT_ATTR_NOSUID, false),
    ("nodev", libc::MOUNT_ATTR_NODEV, true),
    ("dev", libc::MOUNT_ATTR_NODEV, false),
    ("noexec", libc::MOUNT_ATTR_NOEXEC, true),
    ("exec", libc::MOUNT_ATTR_NOEXEC, false),
    ("noatime", libc::MOUNT_ATTR_NOATIME, true),
    ("strictatime", libc::MOUNT_ATTR_STRICTATIME, true),
    ("atime", libc::MOUNT_ATTR_NOATIME, false),
    ("nodiratime", libc::MOUNT_ATTR_NODIRATIME, true),
    ("diratime", libc::MOUNT_ATTR_NODIRATIME, false),
    ("nosymfollow", libc::MOUNT_ATTR_NOSYMFOLLOW, true),
];

/// Propagations by name.
const PROPAGATIONS: &[(&str, u64)] = &[
    ("private", libc::MS_PRIVATE),
    ("slave", libc::MS_SLAVE),
    ("shared", libc::MS_SHARED),
    ("unbindable", libc::MS_UNBINDABLE),
];

/// A mount attribute, and whether the option sets or clears it.
fn attribute(option: &str) -> Option<(u64, bool)> {
    let found = ATTRIBUTES.iter().find(|(name, _, _)| *name == option);
    found.map(|(_, attribute, set)| (*attribute, *set))
}

/// Names of all options that are not left for the file system, in order.
pub fn mount_options() -> Vec<String> {
    let mut names: Vec<_> = ["bind", "defaults", "rbind", "relatime"].map(str::to_owned).into();
    for (name, _, _) in ATTRIBUTES {
        names.push((*name).to_owned());
        names.push(format!("r{name}"));
    }
    for (name, _) in PROPAGATIONS {
        names.push((*name).to_owned());
        names.push(format!("r{name}"));
    }
    names.sort();
    names
}

/// The flag of a propagation's name.
pub(super) fn propagation(name: &str) -> Option<u64> {
    PROPAGATIONS.iter().find(|(known, _)| *known == name).map(|(_, flag)| *flag)
}
