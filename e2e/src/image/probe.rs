//! Programs of 150 bytes that make one system call and end with its error number, or with 0.
//!
//! No C library comes between the test and the kernel, and none has to know the call.

use super::Entry;

/// Where programs are loaded.
const BASE: u64 = 0x40_0000;

/// Length of the ELF header and of its only program header.
const HEADERS: u64 = 64 + 56;

/// A static program of x86-64 at `path` that makes the call `number` with the first arguments
/// `args`, the others being 0.
///
/// # Panics
/// With more than six arguments.
pub fn probe(path: &str, number: u64, args: &[u64]) -> Entry {
    assert!(args.len() <= 6, "a call has six arguments");
    let code = code(number, args);
    let mut program = elf(code.len() as u64);
    program.extend(code);
    Entry::file(path, program).mode(0o755)
}

fn code(number: u64, args: &[u64]) -> Vec<u8> {
    // mov $imm64 to rdi, rsi, rdx, r10, r8, r9, rax
    let registers: [[u8; 2]; 6] =
        [[0x48, 0xbf], [0x48, 0xbe], [0x48, 0xba], [0x49, 0xba], [0x49, 0xb8], [0x49, 0xb9]];
    let mut code = Vec::new();
    for (index, register) in registers.iter().enumerate() {
        code.extend(register);
        code.extend(args.get(index).copied().unwrap_or(0).to_le_bytes());
    }
    code.extend([0x48, 0xb8]);
    code.extend(number.to_le_bytes());
    code.extend([
        0x0f, 0x05, // syscall
        0x31, 0xff, // xor %edi,%edi
        0x48, 0x85, 0xc0, // test %rax,%rax
        0x79, 0x04, // jns +4
        0x89, 0xc7, // mov %eax,%edi
        0xf7, 0xdf, // neg %edi
        0xb8, 0xe7, 0x00, 0x00, 0x00, // mov $exit_group,%eax
        0x0f, 0x05, // syscall
    ]);
    code
}

fn elf(code: u64) -> Vec<u8> {
    let mut header = vec![0x7f, b'E', b'L', b'F', 2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let half = |header: &mut Vec<u8>, value: u16| header.extend(value.to_le_bytes());
    let word = |header: &mut Vec<u8>, value: u32| header.extend(value.to_le_bytes());
    let long = |header: &mut Vec<u8>, value: u64| header.extend(value.to_le_bytes());
    half(&mut header, 2); // ET_EXEC
    half(&mut header, 62); // EM_X86_64
    word(&mut header, 1);
    [BASE + HEADERS, 64, 0].into_iter().for_each(|value| long(&mut header, value));
    word(&mut header, 0);
    [64, 56, 1, 64, 0, 0].into_iter().for_each(|value| half(&mut header, value));
    word(&mut header, 1); // PT_LOAD
    word(&mut header, 5); // readable, executable
    let size = HEADERS + code;
    [0, BASE, BASE, size, size, 0x1000].into_iter().for_each(|value| long(&mut header, value));
    header
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_probe_ends_with_the_answer_of_the_kernel() {
        let directory = tempfile::tempdir().unwrap();
        for (number, args, answer) in [
            (39, &[][..], 0),     // getpid
            (3, &[99_999], 9),    // close: EBADF
            (1_000, &[], 38),     // none: ENOSYS
            (11, &[1, 4096], 22), // munmap of half a page: EINVAL
        ] {
            let path = directory.path().join(format!("probe-{number}"));
            let mut program = elf(code(number, args).len() as u64);
            program.extend(code(number, args));
            std::fs::write(&path, program).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
            let status = std::process::Command::new(&path).status().unwrap();
            assert_eq!(status.code(), Some(answer), "call {number}");
        }
    }
}
