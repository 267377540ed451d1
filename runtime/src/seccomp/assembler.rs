//! Classic BPF, written from the end to the beginning.
//!
//! Jumps go forward only, so that whoever writes backwards knows all targets: a [`Label`] is a
//! place that is written already. Conditional jumps reach 255 instructions far; what lies
//! further is reached by way of a copy or an unconditional jump.

use crate::error::Error;

/// Most instructions that the kernel takes (`BPF_MAXINSNS`).
const MAX: usize = 4096;

/// How far a conditional jump reaches.
const REACH: usize = u8::MAX as usize;

pub(super) const LOAD: u16 = 0x20; // BPF_LD | BPF_W | BPF_ABS
pub(super) const JUMP: u16 = 0x05; // BPF_JMP | BPF_JA
pub(super) const JUMP_IF_EQUAL: u16 = 0x15; // BPF_JMP | BPF_JEQ | BPF_K
pub(super) const JUMP_IF_GREATER: u16 = 0x25; // BPF_JMP | BPF_JGT | BPF_K
pub(super) const JUMP_IF_NOT_LESS: u16 = 0x35; // BPF_JMP | BPF_JGE | BPF_K
pub(super) const AND: u16 = 0x54; // BPF_ALU | BPF_AND | BPF_K
pub(super) const RETURN: u16 = 0x06; // BPF_RET | BPF_K

/// `struct sock_filter`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Instruction {
    pub(super) code: u16,
    /// Instructions to skip if the test holds.
    pub(super) then: u8,
    /// Instructions to skip if it does not.
    pub(super) otherwise: u8,
    pub(super) value: u32,
}

/// An instruction that is written already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Label(usize);

/// A program that grows at its beginning.
#[derive(Debug, Default)]
pub(super) struct Assembler {
    /// The last instruction first.
    reversed: Vec<Instruction>,
    /// The latest return of each value.
    returns: Vec<(u32, Label)>,
}

impl Assembler {
    /// Returns `value`, by an instruction near enough to jump to.
    pub(super) fn give(&mut self, value: u32) -> Label {
        let known = self.returns.iter().find(|(known, _)| *known == value);
        match known {
            // Room for the jumps that are written before this label is used.
            Some((_, label)) if self.distance(*label) < REACH - 16 => *label,
            _ => self.give_here(value),
        }
    }

    fn give_here(&mut self, value: u32) -> Label {
        let label = self.push(RETURN, value, 0, 0);
        self.returns.retain(|(known, _)| *known != value);
        self.returns.push((value, label));
        label
    }

    /// Goes on at `then` if the comparison of the accumulator with `value` holds.
    pub(super) fn branch(&mut self, code: u16, value: u32, then: Label, otherwise: Label) -> Label {
        if then == otherwise {
            return then;
        }
        // Bringing one near moves the other away by one.
        let mut targets = [then, otherwise];
        for turn in [0, 1, 0] {
            targets[turn] = self.near(targets[turn]);
        }
        let [then, otherwise] = targets.map(|label| u8::try_from(self.distance(label)));
        self.push(code, value, then.unwrap_or(u8::MAX), otherwise.unwrap_or(u8::MAX))
    }

    /// Puts `value` and the accumulator into the accumulator, or loads it, and goes on at `next`.
    pub(super) fn step(&mut self, code: u16, value: u32, next: Label) -> Label {
        self.jump_to(next);
        self.push(code, value, 0, 0)
    }

    /// The program, as the kernel takes it.
    ///
    /// # Errors
    /// [`Error::Spec`] if it is longer than the kernel takes.
    pub(super) fn finish(mut self, entry: Label) -> Result<Vec<Instruction>, Error> {
        self.jump_to(entry);
        self.reversed.reverse();
        match self.reversed.len() {
            length if length <= MAX => Ok(self.reversed),
            length => Err(Error::Spec(format!(
                "linux.seccomp: its filter has {length} instructions, the kernel takes {MAX}"
            ))),
        }
    }

    /// A label that a conditional jump reaches, and that is as good as `label`.
    fn near(&mut self, label: Label) -> Label {
        if self.distance(label) < REACH {
            return label;
        }
        let Instruction { code, value, .. } = self.reversed[label.0];
        if code == RETURN { self.give_here(value) } else { self.jump(label) }
    }

    /// Makes `label` what comes next.
    fn jump_to(&mut self, label: Label) {
        if self.distance(label) > 0 {
            self.jump(label);
        }
    }

    fn jump(&mut self, label: Label) -> Label {
        let distance = u32::try_from(self.distance(label)).unwrap_or(u32::MAX);
        self.push(JUMP, distance, 0, 0)
    }

    /// Instructions between the next one to be written and `label`.
    fn distance(&self, label: Label) -> usize {
        self.reversed.len() - label.0 - 1
    }

    fn push(&mut self, code: u16, value: u32, then: u8, otherwise: u8) -> Label {
        self.reversed.push(Instruction { code, then, otherwise, value });
        Label(self.reversed.len() - 1)
    }
}

impl Instruction {
    /// As it lies in memory.
    pub(super) fn bytes(self) -> [u8; 8] {
        let ([a, b], [c, d, e, f]) = (self.code.to_ne_bytes(), self.value.to_ne_bytes());
        [a, b, self.then, self.otherwise, c, d, e, f]
    }
}
