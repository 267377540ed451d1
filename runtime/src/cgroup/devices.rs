//! Which devices the processes of a cgroup may use, as an eBPF program.
//!
//! The kernel runs the program on every open and mknod of a device by a process of the cgroup
//! (`BPF_PROG_TYPE_CGROUP_DEVICE`); 1 allows, 0 refuses. The last rule that speaks of the
//! access decides, so the program tries the rules from the last to the first and refuses when
//! none fits.
//!
//! A cgroup has one program of ours. A new one takes its place in one step, so that there is no
//! moment at which nothing is refused; programs of others, such as systemd's, are left alone.

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::sync::{Mutex, PoisonError};

use oci_spec::runtime::{LinuxDeviceCgroup, LinuxDeviceType};

use crate::error::Error;
use crate::sys::bpf::{
    Instruction, attach_device_program, detach_device_program, load_device_program,
    our_device_programs, program_id,
};

/// A rule with everything decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Rule {
    allow: bool,
    /// `BPF_DEVCG_DEV_BLOCK` (1), `BPF_DEVCG_DEV_CHAR` (2), or any kind.
    kind: Option<i32>,
    major: Option<i32>,
    /// `BPF_DEVCG_ACC_MKNOD` (1), `_READ` (2), `_WRITE` (4).
    access: i32,
    /// Last, so that sorted rules that differ in nothing else come together, and "any" first.
    minor: Option<i32>,
}

/// Takes the rules of a specification, from the last that covers everything on.
///
/// # Errors
/// [`Error::Spec`] for a rule that is none. What cannot be read must not be taken for "any".
pub(super) fn parse(rules: &[LinuxDeviceCgroup]) -> Result<Vec<Rule>, Error> {
    let rules = rules.iter().enumerate().map(|(index, rule)| {
        Rule::of(rule).map_err(|why| Error::Spec(format!("linux.resources.devices[{index}].{why}")))
    });
    let rules: Vec<_> = rules.collect::<Result<_, _>>()?;
    let start = rules.iter().rposition(|rule| rule.is_total()).unwrap_or(0);
    Ok(rules[start..].to_vec())
}

impl Rule {
    fn of(rule: &LinuxDeviceCgroup) -> Result<Self, String> {
        let access = rule.access().as_deref().unwrap_or("rwm");
        // "a" as in the files of cgroup version 1, but never to allow more than is named.
        let letters = if rule.allow() { "rwm" } else { "rwma" };
        if !access.chars().all(|letter| letters.contains(letter)) {
            return Err(format!("access: {access:?} is not of \"rwm\""));
        }
        let bit = |letter, bit| if access.contains([letter, 'a']) { bit } else { 0 };
        Ok(Self {
            allow: rule.allow(),
            kind: match rule.typ() {
                Some(LinuxDeviceType::B) => Some(1),
                Some(LinuxDeviceType::C | LinuxDeviceType::U) => Some(2),
                Some(LinuxDeviceType::A) | None => None,
                Some(LinuxDeviceType::P) => return Err("type: a FIFO is no device".to_owned()),
            },
            major: number("major", rule.major())?,
            minor: number("minor", rule.minor())?,
            access: bit('m', 1) | bit('r', 2) | bit('w', 4),
        })
    }

    /// What it has in common with rules for other minor numbers.
    fn family(self) -> Self {
        Self { minor: None, ..self }
    }

    /// Whether it covers everything, so that rules before it do not matter.
    fn is_total(self) -> bool {
        self.kind.is_none() && self.major.is_none() && self.minor.is_none() && self.access == 7
    }
}

/// A number of a device; absent and -1 are any.
fn number(field: &str, number: Option<i64>) -> Result<Option<i32>, String> {
    match number.filter(|number| *number != -1) {
        None => Ok(None),
        Some(number) => match i32::try_from(number) {
            Ok(small) if small >= 0 => Ok(Some(small)),
            _ => Err(format!("{field}: {number} is no number of a device")),
        },
    }
}

/// Loaded programs by their rules: most containers have the same.
#[derive(Debug, Default)]
pub(crate) struct Filters {
    loaded: Mutex<HashMap<Vec<Rule>, OwnedFd>>,
}

impl Filters {
    /// Has the kernel apply `rules` to a cgroup, in place of earlier ones.
    pub(super) fn apply(&self, cgroup: BorrowedFd<'_>, rules: &[Rule]) -> io::Result<()> {
        let mut loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        if !loaded.contains_key(rules) {
            // Programs are cached, not collected: a node sees a handful of device lists.
            loaded.insert(rules.to_vec(), load_device_program(&compile(rules))?);
        }
        loaded.get(rules).map_or(Ok(()), |program| put(cgroup, program.as_fd()))
    }
}

/// Makes `program` the only one of ours on a cgroup.
fn put(cgroup: BorrowedFd<'_>, program: BorrowedFd<'_>) -> io::Result<()> {
    let id = program_id(program)?;
    let attached = our_device_programs(cgroup)?;
    let mut others = attached.iter().filter(|(other, _)| *other != id).map(|(_, fd)| fd.as_fd());
    if attached.iter().all(|(other, _)| *other != id) {
        attach_device_program(cgroup, program, others.next())?;
    }
    others.try_for_each(|other| detach_device_program(cgroup, other))
}

// Registers: r1 is the context, r2 the kind, r3 the access, r4 and r5 the numbers.
const LOAD_WORD: u8 = 0x61; // BPF_LDX | BPF_MEM | BPF_W
const MOVE_REGISTER: u8 = 0xbc; // BPF_ALU | BPF_MOV | BPF_X
const MOVE: u8 = 0xb4; // BPF_ALU | BPF_MOV | BPF_K
const AND: u8 = 0x54; // BPF_ALU | BPF_AND | BPF_K
const SHIFT_RIGHT: u8 = 0x74; // BPF_ALU | BPF_RSH | BPF_K
const JUMP_IF_NOT_EQUAL: u8 = 0x55; // BPF_JMP | BPF_JNE | BPF_K
const JUMP_IF_EQUAL: u8 = 0x15; // BPF_JMP | BPF_JEQ | BPF_K
const EXIT: u8 = 0x95; // BPF_JMP | BPF_EXIT

fn instruction(code: u8, to: u8, from: u8, offset: i16, immediate: i32) -> Instruction {
    Instruction { code, registers: from << 4 | to, offset, immediate }
}

/// As few tests as there can be: the kernel's verifier follows every one of them both ways, and
/// that takes longer than all else that a cgroup needs.
fn compile(rules: &[Rule]) -> Vec<Instruction> {
    // struct bpf_cgroup_dev_ctx { u32 access << 16 | kind; u32 major; u32 minor; }
    let mut program = vec![
        instruction(LOAD_WORD, 2, 1, 0, 0),
        instruction(MOVE_REGISTER, 3, 2, 0, 0),
        instruction(AND, 2, 0, 0, 0xffff),
        instruction(SHIFT_RIGHT, 3, 0, 0, 16),
        instruction(LOAD_WORD, 4, 1, 4, 0),
        instruction(LOAD_WORD, 5, 1, 8, 0),
    ];
    for run in rules.chunk_by(|a, b| a.allow == b.allow).rev() {
        // Among rules of one verdict it does not matter which of them fits.
        let mut run = match run.iter().find(|rule| rule.is_total()) {
            Some(total) => vec![*total],
            None => run.to_vec(),
        };
        run.sort_unstable();
        run.chunk_by(|a, b| a.family() == b.family()).for_each(|it| program.extend(block(it)));
    }
    // The kernel takes no instruction that cannot be reached.
    if !rules.first().is_some_and(|rule| rule.is_total()) {
        program.extend(verdict(false));
    }
    program
}

/// Rules that differ in their minor numbers only: a test of what they share that fails jumps
/// behind the verdict, as the last test of a number does; one before it that succeeds, to it.
fn block(family: &[Rule]) -> Vec<Instruction> {
    let Some(rule) = family.first() else { return Vec::new() };
    let mut block: Vec<Instruction> = Vec::new();
    for (register, wanted) in [(2, rule.kind), (4, rule.major)] {
        if let Some(wanted) = wanted {
            block.push(instruction(JUMP_IF_NOT_EQUAL, register, 0, 0, wanted));
        }
    }
    if rule.access != 7 {
        block.push(instruction(MOVE_REGISTER, 0, 3, 0, 0));
        // An allowance must cover all of the access, a refusal any of it.
        if rule.allow {
            block.push(instruction(AND, 0, 0, 0, 7 & !rule.access));
            block.push(instruction(JUMP_IF_NOT_EQUAL, 0, 0, 0, 0));
        } else {
            block.push(instruction(AND, 0, 0, 0, rule.access));
            block.push(instruction(JUMP_IF_EQUAL, 0, 0, 0, 0));
        }
    }
    let shared = block.len();
    // One for any number comes first.
    if let Some(numbers) = family.iter().map(|rule| rule.minor).collect::<Option<Vec<_>>>()
        && let Some((last, others)) = numbers.split_last()
    {
        block.extend(others.iter().map(|number| instruction(JUMP_IF_EQUAL, 5, 0, 0, *number)));
        block.push(instruction(JUMP_IF_NOT_EQUAL, 5, 0, 0, *last));
    }
    let verdicts = block.len();
    block.extend(verdict(rule.allow));
    for (index, test) in block.iter_mut().enumerate() {
        let to = match test.code {
            JUMP_IF_EQUAL if index >= shared => verdicts,
            JUMP_IF_EQUAL | JUMP_IF_NOT_EQUAL => verdicts + 2,
            _ => continue,
        };
        test.offset = i16::try_from(to - index - 1).unwrap_or(i16::MAX);
    }
    block
}

fn verdict(allow: bool) -> [Instruction; 2] {
    [instruction(MOVE, 0, 0, 0, i32::from(allow)), instruction(EXIT, 0, 0, 0, 0)]
}

#[cfg(test)]
mod tests {
    use super::*;

    const BLOCK: i32 = 1;
    const CHAR: i32 = 2;
    const MKNOD: i32 = 1;
    const READ: i32 = 2;
    const WRITE: i32 = 4;

    /// Interprets a program as the kernel would.
    fn allows(program: &[Instruction], kind: i32, major: i32, minor: i32, access: i32) -> bool {
        let context = [access << 16 | kind, major, minor];
        let (mut registers, mut at) = ([0_i32; 10], 0);
        for _ in 0..1000 {
            let Instruction { code, registers: names, offset, immediate } = program[at];
            let (to, from) = (usize::from(names & 15), usize::from(names >> 4));
            at += 1;
            let jump = match code {
                LOAD_WORD => {
                    registers[to] = context[usize::try_from(offset).unwrap() / 4];
                    false
                }
                MOVE_REGISTER => {
                    registers[to] = registers[from];
                    false
                }
                MOVE => {
                    registers[to] = immediate;
                    false
                }
                AND => {
                    registers[to] &= immediate;
                    false
                }
                SHIFT_RIGHT => {
                    registers[to] >>= immediate;
                    false
                }
                JUMP_IF_NOT_EQUAL => registers[to] != immediate,
                JUMP_IF_EQUAL => registers[to] == immediate,
                EXIT => return registers[0] != 0,
                other => panic!("unknown instruction {other:#x}"),
            };
            if jump {
                at += usize::try_from(offset).unwrap();
            }
        }
        panic!("the program does not end");
    }

    fn rules(json: &str) -> Vec<Instruction> {
        let rules: Vec<LinuxDeviceCgroup> = serde_json::from_str(json).unwrap();
        compile(&parse(&rules).unwrap())
    }

    #[test]
    fn what_no_rule_allows_is_refused() {
        let program = rules(
            r#"[{"allow": false, "access": "rwm"},
                {"allow": true, "type": "c", "major": 1, "minor": 3, "access": "rw"},
                {"allow": true, "type": "c", "major": 136, "access": "rwm"},
                {"allow": true, "type": "b", "access": "m"}]"#,
        );
        assert!(allows(&program, CHAR, 1, 3, READ));
        assert!(allows(&program, CHAR, 1, 3, READ | WRITE));
        assert!(!allows(&program, CHAR, 1, 3, READ | MKNOD));
        assert!(!allows(&program, CHAR, 1, 5, READ));
        assert!(!allows(&program, BLOCK, 1, 3, READ));
        assert!(allows(&program, CHAR, 136, 9, READ | WRITE | MKNOD));
        assert!(allows(&program, BLOCK, 8, 0, MKNOD));
        assert!(!allows(&program, BLOCK, 8, 0, READ));
    }

    #[test]
    fn the_last_rule_that_fits_decides() {
        let program = rules(
            r#"[{"allow": true, "access": "rwm"},
                {"allow": false, "type": "c", "major": 10, "minor": 200, "access": "w"}]"#,
        );
        assert!(allows(&program, CHAR, 10, 200, READ));
        assert!(!allows(&program, CHAR, 10, 200, READ | WRITE));
        assert!(allows(&program, BLOCK, 8, 0, READ | WRITE | MKNOD));
        let all = |letters: &str| {
            format!(
                r#"[{{"allow": true}}, {{"allow": false, "type": "c", "access": "{letters}"}}]"#
            )
        };
        assert_eq!(rules(&all("ra")), rules(&all("rwm")), "all of it is refused");
    }

    #[test]
    fn rules_for_several_numbers_share_their_tests() {
        let program = rules(
            r#"[{"allow": true, "type": "c", "major": 1, "minor": 3, "access": "rwm"},
                {"allow": true, "type": "c", "major": 5, "minor": 0, "access": "rwm"},
                {"allow": true, "type": "c", "major": 1, "minor": 5, "access": "rwm"},
                {"allow": true, "type": "c", "major": 1, "minor": 3, "access": "r"},
                {"allow": false, "type": "c", "major": 1, "minor": 7, "access": "rwm"},
                {"allow": true, "type": "c", "major": 5, "access": "rwm"}]"#,
        );
        for (major, minor, allowed) in
            [(1, 3, true), (1, 5, true), (1, 7, false), (1, 4, false), (5, 0, true), (5, 9, true)]
        {
            let all = READ | WRITE | MKNOD;
            assert_eq!(allows(&program, CHAR, major, minor, all), allowed, "{major}:{minor}");
            assert!(!allows(&program, BLOCK, major, minor, all), "{major}:{minor}");
        }
        let apart =
            |minor| format!(r#"{{"allow": true, "type": "c", "major": 1, "minor": {minor}}}"#);
        let one = rules(&format!("[{}]", apart(3))).len();
        assert_eq!(rules(&format!("[{}, {}]", apart(3), apart(5))).len(), one + 1);
    }

    #[test]
    fn no_rules_refuse_everything() {
        assert!(!allows(&rules("[]"), CHAR, 1, 3, READ));
    }

    #[test]
    fn rules_before_a_total_one_do_not_count() {
        let json = r#"[{"allow": true, "type": "c", "access": "rwm"},
            {"allow": false, "access": "rwm"}]"#;
        assert_eq!(rules(json).len(), rules(r#"[{"allow": false}]"#).len());
        let json = r#"[{"allow": true, "access": "rwm"},
            {"allow": true, "type": "c", "major": 1, "minor": 3, "access": "rwm"}]"#;
        assert_eq!(rules(json).len(), rules(r#"[{"allow": true}]"#).len());
    }

    #[test]
    fn a_rule_that_cannot_be_read_is_not_taken_for_any() {
        for (rule, words) in [
            (r#"{"allow": true, "type": "c", "major": 4294967296}"#, "[0].major: 4294967296"),
            (r#"{"allow": true, "type": "c", "minor": -2}"#, "[0].minor: -2"),
            (r#"{"allow": true, "type": "p"}"#, "[0].type"),
            (r#"{"allow": true, "access": "rx"}"#, "[0].access: \"rx\""),
            (r#"{"allow": true, "access": "ra"}"#, "[0].access: \"ra\""),
        ] {
            let rules: Vec<LinuxDeviceCgroup> = serde_json::from_str(&format!("[{rule}]")).unwrap();
            let error = parse(&rules).unwrap_err().to_string();
            assert!(error.contains(&format!("linux.resources.devices{words}")), "{error}");
        }
        let any = rules(r#"[{"allow": true, "type": "c", "major": -1, "minor": -1}]"#);
        assert!(allows(&any, CHAR, 9, 9, READ));
    }
}
