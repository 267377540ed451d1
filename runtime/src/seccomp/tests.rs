//! Programs, run by a small machine of our own.

mod against_debian;
mod machine;
mod meaning;
mod properties;
mod refused;

use oci_spec::runtime::LinuxSeccomp;

use super::abi::Abi;
use super::assembler::Instruction;
use super::profile::Profile;
use super::{abis, compile};
use machine::Call;

pub(super) const ALLOW: u32 = 0x7fff_0000;
pub(super) const LOG: u32 = 0x7ffc_0000;
pub(super) const TRACE: u32 = 0x7ff0_0000;
pub(super) const NOTIFY: u32 = 0x7fc0_0000;
pub(super) const ERRNO: u32 = 0x0005_0000;
pub(super) const TRAP: u32 = 0x0003_0000;
pub(super) const KILL: u32 = 0;
pub(super) const KILL_PROCESS: u32 = 0x8000_0000;
pub(super) const EPERM: u32 = ERRNO | 1;
pub(super) const ENOSYS: u32 = ERRNO | 38;

/// A program, for questions.
pub(super) struct Compiled(Vec<Instruction>);

impl Compiled {
    pub(super) fn new(profile: &LinuxSeccomp, native: Abi) -> Self {
        let sections = Profile::parse(profile).unwrap().sections(&abis(profile, native));
        Self(compile::compile(&sections).unwrap())
    }

    pub(super) fn parse(json: &str) -> Self {
        Self::new(&serde_json::from_str(json).unwrap(), Abi::X86_64)
    }

    pub(super) fn answer(&self, call: &Call) -> u32 {
        machine::run(&self.0, call)
    }

    /// What becomes of a call by its name.
    pub(super) fn of(&self, abi: Abi, name: &str, args: &[u64]) -> u32 {
        let number = abi.number(name).unwrap_or_else(|| panic!("{abi:?} has no {name}"));
        self.answer(&Call::new(abi, number, args))
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }
}
