//! Kernel interfaces that a process can call by, and the names of their calls.

use std::sync::LazyLock;

use oci_spec::runtime::Arch;

/// Bit in the numbers of x32's calls (`__X32_SYSCALL_BIT`).
pub(super) const X32_BIT: u32 = 1 << 30;

/// A set of system calls with numbers of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Abi {
    /// 64-bit x86.
    X86_64,
    /// 32-bit x86.
    X86,
    /// 32-bit pointers in 64-bit x86: the kernel tells it from the latter by a bit of the number.
    X32,
    /// 64-bit ARM.
    Aarch64,
    /// 32-bit ARM (EABI).
    Arm,
}

impl Abi {
    /// What this program is built for.
    #[cfg(target_arch = "x86_64")]
    pub(super) const NATIVE: Self = Self::X86_64;
    /// What this program is built for.
    #[cfg(target_arch = "aarch64")]
    pub(super) const NATIVE: Self = Self::Aarch64;

    /// Those that a kernel of the architecture `self` can run, itself first.
    pub(super) fn family(self) -> &'static [Self] {
        match self {
            Self::X86_64 | Self::X86 | Self::X32 => &[Self::X86_64, Self::X32, Self::X86],
            Self::Aarch64 | Self::Arm => &[Self::Aarch64, Self::Arm],
        }
    }

    /// Its name in a profile.
    pub(super) fn name(self) -> Arch {
        match self {
            Self::X86_64 => Arch::ScmpArchX86_64,
            Self::X86 => Arch::ScmpArchX86,
            Self::X32 => Arch::ScmpArchX32,
            Self::Aarch64 => Arch::ScmpArchAarch64,
            Self::Arm => Arch::ScmpArchArm,
        }
    }

    /// What the kernel tells a filter (`AUDIT_ARCH_*`).
    pub(super) fn audit(self) -> u32 {
        match self {
            Self::X86_64 | Self::X32 => 0xc000_003e,
            Self::X86 => 0x4000_0003,
            Self::Aarch64 => 0xc000_00b7,
            Self::Arm => 0x4000_0028,
        }
    }

    /// First of the numbers that are its own.
    pub(super) fn first(self) -> u32 {
        if self == Self::X32 { X32_BIT } else { 0 }
    }

    /// Whether an argument has 64 bits. Those of x32 come in 64-bit registers, and the kernel looks
    /// at all of them.
    pub(super) fn is_wide(self) -> bool {
        matches!(self, Self::X86_64 | Self::X32 | Self::Aarch64)
    }

    /// First of the calls whose numbers do not tell how new they are: private ones of 32-bit ARM,
    /// and those that x32 does not share with the 64-bit interface.
    pub(super) fn timeless(self) -> u32 {
        match self {
            Self::Arm => 0xf_0000,
            Self::X32 => X32_BIT | 512,
            _ => u32::MAX,
        }
    }

    /// The number of a call, with what [`Abi::first`] adds.
    pub(super) fn number(self, name: &str) -> Option<u32> {
        let index = TABLE.binary_search_by_key(&name, |(name, _)| name).ok()?;
        TABLE[index].1[self as usize].map(|number| number + self.first())
    }
}

/// The calls in the order of their names, with their numbers in the order of [`Abi`].
type Table = Vec<(&'static str, [Option<u32>; 5])>;

static TABLE: LazyLock<Table> = LazyLock::new(|| {
    let lines = include_str!("syscalls.tsv").lines().filter(|line| !line.starts_with('#'));
    lines.map(row).collect()
});

fn row(line: &'static str) -> (&'static str, [Option<u32>; 5]) {
    let mut cells = line.split('\t');
    let name = cells.next().unwrap_or_default();
    let mut numbers = [None; 5];
    for (number, cell) in numbers.iter_mut().zip(cells) {
        *number = cell.parse().ok();
    }
    (name, numbers)
}

#[cfg(test)]
pub(super) fn names() -> impl Iterator<Item = &'static str> {
    TABLE.iter().map(|(name, _)| *name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn the_table_is_sorted_and_says_each_thing_once() {
        assert!(TABLE.len() > 480);
        assert!(TABLE.is_sorted_by(|a, b| a.0 < b.0));
        for abi in [Abi::X86_64, Abi::X86, Abi::X32, Abi::Aarch64, Abi::Arm] {
            let mut numbers = HashSet::new();
            let aliases = ["arm_sync_file_range", "sync_file_range2"];
            for name in names().filter(|name| *name != aliases[0]) {
                assert!(abi.number(name).is_none_or(|number| numbers.insert(number)), "{name}");
            }
            assert!(numbers.len() > 300, "{abi:?} has {}", numbers.len());
        }
    }

    #[test]
    fn numbers_are_those_of_the_kernels_headers() {
        let native = |name| Abi::NATIVE.number(name).map(libc::c_long::from);
        for (name, number) in [
            ("read", libc::SYS_read),
            ("clone3", libc::SYS_clone3),
            ("execve", libc::SYS_execve),
            ("seccomp", libc::SYS_seccomp),
            ("socket", libc::SYS_socket),
            ("mseal", libc::SYS_mseal),
            ("keyctl", libc::SYS_keyctl),
        ] {
            assert_eq!(native(name), Some(number), "{name}");
        }
        let numbers = |name| {
            [Abi::X86_64, Abi::X86, Abi::X32, Abi::Aarch64, Abi::Arm].map(|abi| abi.number(name))
        };
        let same = |number| {
            [Some(number), Some(number), Some(number | X32_BIT), Some(number), Some(number)]
        };
        for (name, number) in [
            ("map_shadow_stack", 453),
            ("futex_wake", 454),
            ("statmount", 457),
            ("listmount", 458),
            ("setxattrat", 463),
            ("open_tree_attr", 467),
            ("file_getattr", 468),
            ("listns", 470),
        ] {
            assert_eq!(numbers(name), same(number), "{name}");
        }
        assert_eq!(Abi::X32.number("ioctl"), Some(514 | X32_BIT));
        assert_eq!((Abi::X86.number("mkdir"), Abi::Aarch64.number("mkdir")), (Some(39), None));
        assert_eq!(Abi::X86_64.number("no_such_call"), None);
    }
}
