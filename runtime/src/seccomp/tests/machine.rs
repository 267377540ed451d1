//! The kernel's machine for classic BPF, as far as filters of system calls use it.

use crate::seccomp::abi::Abi;
use crate::seccomp::assembler::{
    AND, Instruction, JUMP, JUMP_IF_EQUAL, JUMP_IF_GREATER, JUMP_IF_NOT_LESS, LOAD, RETURN,
};

/// `struct seccomp_data`, without the instruction pointer.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    pub(crate) audit: u32,
    pub(crate) number: u32,
    pub(crate) args: [u64; 6],
}

impl Call {
    pub(crate) fn new(abi: Abi, number: u32, first: &[u64]) -> Self {
        let mut args = [0; 6];
        args[..first.len()].copy_from_slice(first);
        Self { audit: abi.audit(), number, args }
    }

    fn word(&self, offset: u32) -> u32 {
        let index = usize::try_from(offset).unwrap();
        assert!(index.is_multiple_of(4) && index < 64, "load at {index}");
        let arg = |shift: u32| {
            u32::try_from(self.args[(index - 16) / 8] >> shift & u64::from(u32::MAX)).unwrap()
        };
        match index {
            0 => self.number,
            4 => self.audit,
            8 | 12 => 0,
            _ if index.is_multiple_of(8) => arg(0),
            _ => arg(32),
        }
    }
}

/// What the program returns.
pub(crate) fn run(program: &[Instruction], call: &Call) -> u32 {
    let (mut accumulator, mut at) = (0, 0);
    // Every jump is forward: there cannot be more steps than instructions.
    for _ in program {
        let Instruction { code, then, otherwise, value } = program[at];
        at += 1;
        let holds = match code {
            LOAD => {
                accumulator = call.word(value);
                continue;
            }
            AND => {
                accumulator &= value;
                continue;
            }
            JUMP => {
                at += usize::try_from(value).unwrap();
                continue;
            }
            RETURN => return value,
            JUMP_IF_EQUAL => accumulator == value,
            JUMP_IF_GREATER => accumulator > value,
            JUMP_IF_NOT_LESS => accumulator >= value,
            other => panic!("unknown instruction {other:#x}"),
        };
        at += usize::from(if holds { then } else { otherwise });
    }
    panic!("the program does not end");
}
