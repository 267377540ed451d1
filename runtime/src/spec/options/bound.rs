//! What the options of a bind mount say of its attributes.
//!
//! Its source has some already. If the options name none, it is as its source is. If they name any,
//! it has those and no others, as with the runtimes of the field; only the times of access stay
//! unless one of them is asked for.
//!
//! With a user namespace what the source forbids stays forbidden: the kernel locks these attributes
//! for a mount namespace with fewer privileges, and so the others have it. But for `nosymfollow`,
//! which it does not lock.

use libc::{
    MOUNT_ATTR__ATIME, MOUNT_ATTR_NOATIME, MOUNT_ATTR_NODEV, MOUNT_ATTR_NODIRATIME,
    MOUNT_ATTR_NOEXEC, MOUNT_ATTR_NOSUID, MOUNT_ATTR_NOSYMFOLLOW, MOUNT_ATTR_RDONLY,
    MOUNT_ATTR_STRICTATIME, MS_NOATIME, MS_NODIRATIME, MS_RELATIME, MS_STRICTATIME,
};

use super::{Change, Options};

/// All attributes but the times.
const PLAIN: u64 = MOUNT_ATTR_RDONLY
    | MOUNT_ATTR_NOSUID
    | MOUNT_ATTR_NODEV
    | MOUNT_ATTR_NOEXEC
    | MOUNT_ATTR_NOSYMFOLLOW;

/// Options about times by the flag of `mount(2)` that they set or clear: there each is one of its
/// own, and only what is set counts.
const TIMES: [(&str, u64, bool); 8] = [
    ("noatime", MS_NOATIME, true),
    ("atime", MS_NOATIME, false),
    ("relatime", MS_RELATIME, true),
    ("norelatime", MS_RELATIME, false),
    ("strictatime", MS_STRICTATIME, true),
    ("nostrictatime", MS_STRICTATIME, false),
    ("nodiratime", MS_NODIRATIME, true),
    ("diratime", MS_NODIRATIME, false),
];

/// The times that are asked for (`MS_*`), after one more option.
pub(super) fn take_time(times: u64, option: &str) -> u64 {
    match TIMES.iter().find(|(name, ..)| *name == option) {
        Some((_, flag, true)) => times | flag,
        Some((_, flag, false)) => times & !flag,
        None => times,
    }
}

impl Options {
    /// What changes of the attributes that the source has. With `locked` no more than what is said.
    pub(in crate::spec) fn of_bind(&self, locked: bool) -> Change {
        if self.own == Change::default() {
            return Change::default();
        }
        let said = self.own.clear & PLAIN;
        let implied = if locked { MOUNT_ATTR_NOSYMFOLLOW } else { PLAIN };
        let mut change = Change { set: self.own.set & PLAIN, clear: said | implied };
        if self.times != 0 {
            change.clear |= MOUNT_ATTR__ATIME | MOUNT_ATTR_NODIRATIME;
            change.set |= self.chosen_times();
        }
        change
    }

    /// As `mount(2)` chooses among contradicting ones: `relatime` unless another is asked for.
    fn chosen_times(&self) -> u64 {
        let asked = |flag| self.times & flag != 0;
        let time = match (asked(MS_STRICTATIME), asked(MS_NOATIME)) {
            (true, _) => MOUNT_ATTR_STRICTATIME,
            (false, true) => MOUNT_ATTR_NOATIME,
            (false, false) => 0,
        };
        time | if asked(MS_NODIRATIME) { MOUNT_ATTR_NODIRATIME } else { 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bound(options: &[&str], locked: bool) -> Change {
        Options::of(options.iter().copied()).of_bind(locked)
    }

    #[test]
    fn without_attributes_all_of_the_source_stays() {
        for locked in [false, true] {
            assert_eq!(bound(&["rbind", "rprivate", "rro"], locked), Change::default());
        }
    }

    #[test]
    fn with_attributes_those_of_the_source_go() {
        let change = |set, clear| Change { set, clear };
        let (ro, nosuid) = (MOUNT_ATTR_RDONLY, MOUNT_ATTR_NOSUID);
        for (options, own, locked) in [
            (&["ro"][..], change(ro, PLAIN), change(ro, ro | MOUNT_ATTR_NOSYMFOLLOW)),
            (&["dev"], change(0, PLAIN), change(0, MOUNT_ATTR_NODEV | MOUNT_ATTR_NOSYMFOLLOW)),
            (
                &["ro", "nosuid", "rw"],
                change(nosuid, PLAIN),
                change(nosuid, ro | nosuid | MOUNT_ATTR_NOSYMFOLLOW),
            ),
            (&["norelatime"], change(0, PLAIN), change(0, MOUNT_ATTR_NOSYMFOLLOW)),
        ] {
            assert_eq!((bound(options, false), bound(options, true)), (own, locked), "{options:?}");
        }
    }

    #[test]
    fn times_stay_unless_one_is_asked_for() {
        const ALL: u64 = MOUNT_ATTR__ATIME | MOUNT_ATTR_NODIRATIME;
        let times = |options: &[&str]| {
            let Change { set, clear } = bound(options, false);
            (clear & ALL != 0).then_some((set & ALL, clear & ALL))
        };
        for options in [&["ro"][..], &["atime"], &["diratime"], &["norelatime"], &["nostrictatime"]]
        {
            assert_eq!(times(options), None, "{options:?}");
        }
        for (options, set) in [
            (&["relatime"][..], 0),
            (&["noatime"], MOUNT_ATTR_NOATIME),
            (&["strictatime"], MOUNT_ATTR_STRICTATIME),
            (&["nodiratime"], MOUNT_ATTR_NODIRATIME),
            (&["nodiratime", "norelatime"], MOUNT_ATTR_NODIRATIME),
            (&["nodiratime", "strictatime"], MOUNT_ATTR_NODIRATIME | MOUNT_ATTR_STRICTATIME),
            (&["noatime", "relatime"], MOUNT_ATTR_NOATIME),
        ] {
            assert_eq!(times(options), Some((set, ALL)), "{options:?}");
        }
        assert_eq!(times(&["noatime", "atime"]), None);
    }
}
