//! From verdicts to a program.
//!
//! ```text
//! load the architecture ─► known? ─► load the number ─► binary search among the ranges
//!                             └─► kill                    └─► conditions ─► action
//! ```
//!
//! Since Linux 5.11 the kernel tries a new filter on each number once and remembers which are
//! allowed whatever their arguments: what counts is that the longest path is short.

use crate::error::Error;

use super::assembler::{
    AND, Assembler, Instruction, JUMP_IF_EQUAL, JUMP_IF_GREATER, JUMP_IF_NOT_LESS, LOAD, Label,
};
use super::profile::{Action, Condition, Section, Test, Verdict};

// Offsets in `struct seccomp_data`.
const NUMBER: u32 = 0;
const ARCHITECTURE: u32 = 4;
const ARGUMENTS: u32 = 16;

/// The program that gives each call its verdict. One by an architecture without a section kills.
///
/// # Errors
/// [`Error::Spec`] if it is longer than the kernel takes.
pub(super) fn compile(sections: &[Section]) -> Result<Vec<Instruction>, Error> {
    let mut code = Assembler::default();
    let mut entry = code.give(Action::KILL_THREAD.0);
    // The first section, which is the native one, is tested first: it is written last.
    for section in sections.iter().rev() {
        let search = search(&mut code, &section.ranges);
        let numbers = code.step(LOAD, NUMBER, search);
        entry = code.branch(JUMP_IF_EQUAL, section.audit, numbers, entry);
    }
    let entry = code.step(LOAD, ARCHITECTURE, entry);
    code.finish(entry)
}

fn search(code: &mut Assembler, ranges: &[(u32, Verdict)]) -> Label {
    let [.., _, _] = ranges else {
        let verdict = ranges.first().map(|(_, verdict)| verdict.clone());
        return decide(code, &verdict.unwrap_or(Action::KILL_THREAD.into()));
    };
    let (low, high) = ranges.split_at(ranges.len() / 2);
    let then = search(code, high);
    let otherwise = search(code, low);
    code.branch(JUMP_IF_NOT_LESS, high[0].0, then, otherwise)
}

fn decide(code: &mut Assembler, verdict: &Verdict) -> Label {
    let mut next = code.give(verdict.otherwise.0);
    for branch in verdict.branches.iter().rev() {
        let mut entry = code.give(branch.action.0);
        for condition in branch.conditions.iter().rev() {
            entry = test(code, *condition, entry, next);
        }
        next = entry;
    }
    next
}

/// Goes on at `yes` if the condition holds, else at `no`.
fn test(code: &mut Assembler, condition: Condition, yes: Label, no: Label) -> Label {
    let Condition { value, .. } = condition;
    match condition.test {
        Test::Equal => masked(code, condition, u64::MAX, yes, no),
        Test::NotEqual => masked(code, condition, u64::MAX, no, yes),
        Test::Masked(mask) => masked(code, condition, mask, yes, no),
        Test::Greater => ordered(code, condition, JUMP_IF_GREATER, value, yes, no),
        Test::GreaterOrEqual => ordered(code, condition, JUMP_IF_NOT_LESS, value, yes, no),
        Test::LessOrEqual => ordered(code, condition, JUMP_IF_GREATER, value, no, yes),
        Test::Less => ordered(code, condition, JUMP_IF_NOT_LESS, value, no, yes),
    }
}

/// Whether the bits of `mask` are those of the value, half by half.
fn masked(code: &mut Assembler, condition: Condition, mask: u64, yes: Label, no: Label) -> Label {
    let (low, high) = arguments(condition.index);
    let ((mask_low, mask_high), (value_low, value_high)) = (halves(mask), halves(condition.value));
    let mut next = masked_half(code, low, mask_low, value_low, yes, no);
    if condition.wide {
        next = masked_half(code, high, mask_high, value_high, next, no);
    }
    next
}

fn masked_half(
    code: &mut Assembler,
    offset: u32,
    mask: u32,
    value: u32,
    yes: Label,
    no: Label,
) -> Label {
    if mask == 0 {
        return yes;
    }
    let compared = code.branch(JUMP_IF_EQUAL, value, yes, no);
    let masked = if mask == u32::MAX { compared } else { code.step(AND, mask, compared) };
    code.step(LOAD, offset, masked)
}

/// Whether the argument is greater than `value`, or not less, by the jump `low_half`.
fn ordered(
    code: &mut Assembler,
    condition: Condition,
    low_half: u16,
    value: u64,
    yes: Label,
    no: Label,
) -> Label {
    let (low, high) = arguments(condition.index);
    let (value_low, value_high) = halves(value);
    let compared = code.branch(low_half, value_low, yes, no);
    let mut entry = code.step(LOAD, low, compared);
    if condition.wide {
        let equal = code.branch(JUMP_IF_EQUAL, value_high, entry, no);
        let greater = code.branch(JUMP_IF_GREATER, value_high, yes, equal);
        entry = code.step(LOAD, high, greater);
    }
    entry
}

/// Where the lower and the upper half of an argument are; all our architectures are
/// little-endian.
fn arguments(index: usize) -> (u32, u32) {
    let offset = ARGUMENTS + 8 * u32::try_from(index).unwrap_or(0);
    (offset, offset + 4)
}

#[expect(clippy::cast_possible_truncation, reason = "halves are meant")]
fn halves(value: u64) -> (u32, u32) {
    (value as u32, (value >> 32) as u32)
}
