//! Mount options, as `mount(8)` and the OCI runtime specification name them.

mod bound;

use libc::{
    MOUNT_ATTR_NOATIME, MOUNT_ATTR_NODEV, MOUNT_ATTR_NODIRATIME, MOUNT_ATTR_NOEXEC,
    MOUNT_ATTR_NOSUID, MOUNT_ATTR_NOSYMFOLLOW, MOUNT_ATTR_RDONLY, MOUNT_ATTR_STRICTATIME,
};

/// `MOUNT_ATTR_*` to set and to clear.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Change {
    /// Bits to set.
    pub(super) set: u64,
    /// Bits to clear.
    pub(super) clear: u64,
}

/// Mount options, sorted by what they are for.
#[derive(Debug, Default)]
pub(super) struct Options {
    /// Attributes of the mount alone.
    pub(super) own: Change,
    /// What is said of its times of access (`MS_*`), for a bind mount.
    times: u64,
    /// Attributes of the mount and of all below it.
    pub(super) deep: Change,
    /// `MS_PRIVATE` and the like, with `MS_REC` if it reaches the mounts below, in order.
    pub(super) propagation: Vec<u64>,
    /// Whether it is a bind mount.
    pub(super) bind: bool,
    /// Whether the mounts below come along.
    pub(super) recursive_bind: bool,
    /// Whether what is mounted there already changes.
    pub(super) remount: bool,
    /// Whether a tmpfs starts with a copy of what it covers.
    pub(super) copy_up: bool,
    /// Whether owners are mapped, and if so, whether below as well.
    pub(super) map_owners: Option<bool>,
    /// What every file system knows, by its `fsconfig(2)` name; a bind mount cannot change it, and
    /// the kernel ignores it there.
    pub(super) generic: Vec<String>,
    /// What is left for the file system.
    pub(super) data: Vec<String>,
}

/// Options that have another name without them, and what they are to a new file system.
///
/// `silent` and `iversion` are left out: the first is about the kernel's log, the second every
/// file system that can do it does by itself, and `fsconfig(2)` knows neither.
const GENERIC: [(&str, &str); 4] =
    [("sync", "async"), ("dirsync", ""), ("lazytime", "nolazytime"), ("mand", "nomand")];

impl Options {
    /// Sorts all options of a mount; of contradicting ones the last counts.
    pub(super) fn of<'o>(options: impl IntoIterator<Item = &'o str>) -> Self {
        let mut sorted = Self::default();
        options.into_iter().for_each(|option| sorted.take(option));
        sorted
    }

    fn take(&mut self, option: &str) {
        if let Some((attribute, set)) = attribute(option) {
            self.times = bound::take_time(self.times, option);
            return self.own.take(attribute, set);
        }
        if let Some((attribute, set)) = option.strip_prefix('r').and_then(attribute) {
            return self.deep.take(attribute, set);
        }
        if let Some(bits) = propagation(option) {
            return self.propagation.push(bits);
        }
        if let Some((on, off)) = GENERIC.iter().find(|(on, off)| option == *on || option == *off) {
            self.generic.retain(|other| other != on);
            if option != *off {
                self.generic.push(option.to_owned());
            }
            return;
        }
        match option {
            "bind" => self.bind = true,
            "rbind" => (self.bind, self.recursive_bind) = (true, true),
            "remount" => self.remount = true,
            "tmpcopyup" => self.copy_up = true,
            "idmap" => self.map_owners = Some(false),
            "ridmap" => self.map_owners = Some(true),
            "defaults" | "" | "silent" | "loud" | "iversion" | "noiversion" => {}
            data => self.data.push(data.to_owned()),
        }
    }
}

impl Change {
    /// Times are a field of several bits, which is cleared as a whole: what is no longer said
    /// falls back to `relatime`, whose value is none of them.
    fn take(&mut self, attribute: u64, set: bool) {
        let times = libc::MOUNT_ATTR__ATIME;
        let mask = if attribute & !times == 0 { times } else { attribute };
        self.set &= !mask;
        self.clear |= mask;
        if set {
            self.set |= attribute;
        }
    }
}

/// `MOUNT_ATTR_RELATIME`: no bit of the times is set.
const RELATIME: u64 = 0;

/// Mount attributes by name, and whether the option sets or clears it. With an `r` in front they
/// reach the mounts below.
const ATTRIBUTES: [(&str, u64, bool); 18] = [
    ("ro", MOUNT_ATTR_RDONLY, true),
    ("rw", MOUNT_ATTR_RDONLY, false),
    ("nosuid", MOUNT_ATTR_NOSUID, true),
    ("suid", MOUNT_ATTR_NOSUID, false),
    ("nodev", MOUNT_ATTR_NODEV, true),
    ("dev", MOUNT_ATTR_NODEV, false),
    ("noexec", MOUNT_ATTR_NOEXEC, true),
    ("exec", MOUNT_ATTR_NOEXEC, false),
    ("noatime", MOUNT_ATTR_NOATIME, true),
    ("strictatime", MOUNT_ATTR_STRICTATIME, true),
    ("relatime", RELATIME, true),
    ("atime", RELATIME, true),
    ("norelatime", RELATIME, true),
    ("nostrictatime", RELATIME, true),
    ("nodiratime", MOUNT_ATTR_NODIRATIME, true),
    ("diratime", MOUNT_ATTR_NODIRATIME, false),
    ("nosymfollow", MOUNT_ATTR_NOSYMFOLLOW, true),
    ("symfollow", MOUNT_ATTR_NOSYMFOLLOW, false),
];

/// Propagations by name. With an `r` in front they reach the mounts below.
const PROPAGATIONS: [(&str, u64); 4] = [
    ("private", libc::MS_PRIVATE),
    ("slave", libc::MS_SLAVE),
    ("shared", libc::MS_SHARED),
    ("unbindable", libc::MS_UNBINDABLE),
];

/// Options that are known by name alone.
const OTHERS: [&str; 11] = [
    "bind",
    "defaults",
    "idmap",
    "iversion",
    "loud",
    "noiversion",
    "rbind",
    "remount",
    "ridmap",
    "silent",
    "tmpcopyup",
];

/// Names of all options that are not left for the file system, in order.
pub fn mount_options() -> Vec<String> {
    let names = ATTRIBUTES.iter().map(|(name, ..)| *name);
    let deep = names.chain(PROPAGATIONS.iter().map(|(name, _)| *name));
    let deep = deep.flat_map(|name| [name.to_owned(), format!("r{name}")]);
    let generic = GENERIC.iter().flat_map(|(on, off)| [*on, *off]).filter(|name| !name.is_empty());
    let mut names: Vec<_> = deep.chain(generic.chain(OTHERS).map(str::to_owned)).collect();
    names.sort();
    names
}

fn attribute(option: &str) -> Option<(u64, bool)> {
    let found = ATTRIBUTES.iter().find(|(name, ..)| *name == option);
    found.map(|(_, attribute, set)| (*attribute, *set))
}

/// The flag of a propagation's name, with `MS_REC` if it reaches the mounts below.
pub(super) fn propagation(name: &str) -> Option<u64> {
    let flag = |name| PROPAGATIONS.iter().find(|(known, _)| *known == name).map(|(_, flag)| *flag);
    flag(name).or_else(|| Some(flag(name.strip_prefix('r')?)? | libc::MS_REC))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(options: &[&str]) -> Options {
        Options::of(options.iter().copied())
    }

    #[test]
    fn attributes_reach_as_far_as_they_say() {
        const TIMES: u64 = libc::MOUNT_ATTR__ATIME;
        let ro = MOUNT_ATTR_RDONLY;
        let none = Change::default();
        let change = |set, clear| Change { set, clear };
        for (options, own, deep) in [
            (&["ro"][..], change(ro, ro), none),
            (&["rro"], none, change(ro, ro)),
            (&["ro", "rro"], change(ro, ro), change(ro, ro)),
            (&["rro", "rrw"], none, change(0, ro)),
            (&["ro", "rw"], change(0, ro), none),
            (&["noatime"], change(MOUNT_ATTR_NOATIME, TIMES), none),
            (&["noatime", "relatime"], change(0, TIMES), none),
            (&["noatime", "strictatime"], change(MOUNT_ATTR_STRICTATIME, TIMES), none),
            (&["rnoatime"], none, change(MOUNT_ATTR_NOATIME, TIMES)),
            (&["rrelatime"], none, change(0, TIMES)),
            (&["ratime"], none, change(0, TIMES)),
            (&["rnostrictatime"], none, change(0, TIMES)),
            (&["rnorelatime"], none, change(0, TIMES)),
            (&["nodiratime"], change(MOUNT_ATTR_NODIRATIME, MOUNT_ATTR_NODIRATIME), none),
            (
                &["rnosuid", "nosymfollow"],
                change(MOUNT_ATTR_NOSYMFOLLOW, MOUNT_ATTR_NOSYMFOLLOW),
                change(MOUNT_ATTR_NOSUID, MOUNT_ATTR_NOSUID),
            ),
        ] {
            let sorted = of(options);
            assert_eq!((sorted.own, sorted.deep), (own, deep), "{options:?}");
            assert!(sorted.data.is_empty(), "{options:?}");
        }
    }

    #[test]
    fn what_every_file_system_knows_is_told_from_its_own() {
        let sorted = of(&["sync", "mand", "lazytime", "async", "size=1", "dirsync", "silent"]);
        assert_eq!(sorted.generic, ["mand", "lazytime", "dirsync"]);
        assert_eq!(sorted.data, ["size=1"]);
    }

    #[test]
    fn propagations_are_kept_in_order() {
        let sorted = of(&["rslave", "shared", "rubbish"]);
        assert_eq!(sorted.propagation, [libc::MS_SLAVE | libc::MS_REC, libc::MS_SHARED]);
        assert_eq!(sorted.data, ["rubbish"]);
        assert_eq!(propagation("runbindable"), Some(libc::MS_UNBINDABLE | libc::MS_REC));
        assert_eq!((propagation("rrshared"), propagation("r")), (None, None));
    }

    /// All that runc 1.5 says that it knows: none may end up with the file system.
    #[test]
    fn every_known_option_is_known() {
        const KNOWN: &str = "async atime bind defaults dev diratime dirsync exec idmap iversion \
            lazytime loud mand noatime nodev nodiratime noexec noiversion nolazytime nomand \
            norelatime nostrictatime nosuid nosymfollow private ratime rbind rdev rdiratime \
            relatime remount rexec ridmap rnoatime rnodev rnodiratime rnoexec rnorelatime \
            rnostrictatime rnosuid rnosymfollow ro rprivate rrelatime rro rrw rshared rslave \
            rstrictatime rsuid rsymfollow runbindable rw shared silent slave strictatime suid \
            symfollow sync tmpcopyup unbindable";
        let mut known: Vec<_> = KNOWN.split_whitespace().collect();
        known.sort_unstable();
        assert_eq!(mount_options(), known);
        for option in known {
            assert!(of(&[option]).data.is_empty(), "{option}");
        }
    }
}
