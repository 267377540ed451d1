//! The first instructions of `berth-oci`, before those of the C library.
//!
//! Who is going to clone a process first runs this program again, from where nobody can write to
//! it (see [`guard`](crate::oci::guard_program)). What the C library and Rust set up before `main`
//! would then be set up twice, and that takes longer than the rest of the second start. So the
//! linker makes [`berth_oci_entry`] the entry point of the program; it hands over to the C
//! library's when this is the second start, or none is needed, or it fails: `main` looks again, and
//! tells what is wrong.
//!
//! Nothing is there yet: no thread-local storage, hence no `errno`, and no function of the C
//! library, not even the `memcpy` and `strlen` that a compiler likes to put in. That is why
//! strings are read byte by byte, and volatile. And nothing is relocated: only a program that is
//! linked to fixed addresses, as `make build` does it, begins here (`build.rs`).

use std::arch::{asm, naked_asm};
use std::ffi::c_char;

use crate::oci::CLONING;

unsafe extern "C" {
    /// The C library's entry point.
    fn _start();
}

/// The entry point: the stack pointer is at the number of arguments, and the register that is
/// kept holds what a dynamic linker wants called at the end.
#[cfg(target_arch = "x86_64")]
#[unsafe(naked)]
#[unsafe(no_mangle)]
extern "C" fn berth_oci_entry() {
    naked_asm!(
        "mov rdi, rsp",
        "push rdx",
        "sub rsp, 8",
        "call {run_again}",
        "add rsp, 8",
        "pop rdx",
        "jmp {start}",
        run_again = sym run_again,
        start = sym _start,
    )
}

/// As on the other architecture.
#[cfg(target_arch = "aarch64")]
#[unsafe(naked)]
#[unsafe(no_mangle)]
extern "C" fn berth_oci_entry() {
    naked_asm!(
        "mov x19, x0",
        "mov x0, sp",
        "bl {run_again}",
        "mov x0, x19",
        "b {start}",
        run_again = sym run_again,
        start = sym _start,
    )
}

/// Runs this program from a read-only mount of nothing but itself, with the same arguments, if it
/// is to clone a process and does not run from there yet. Returns otherwise, and if that fails.
///
/// # Safety
/// `stack` must be what the kernel starts a program with: the number of arguments, the arguments,
/// null, the environment, null.
unsafe extern "C" fn run_again(stack: *const *const c_char) {
    const OWN: *const c_char = c"/proc/self/exe".as_ptr();
    // SAFETY: the caller's promise; the system calls are given pointers to what lives until they
    // return, and `execveat` the vectors that this program was started with.
    unsafe {
        let count = stack.read() as usize;
        let (args, env) = (stack.add(1), stack.add(count + 2));
        let mut own = 0_u64;
        if !clones(args, count) || link(OWN, &mut own) == 1 {
            return;
        }
        let flags = libc::OPEN_TREE_CLONE as usize | libc::OPEN_TREE_CLOEXEC as usize;
        let mount = call(libc::SYS_open_tree, HERE, OWN as usize, flags, 0, 0);
        if mount < 0 {
            return;
        }
        let (mount, nothing, empty) = (mount as usize, c"".as_ptr() as usize, EMPTY_PATH);
        let read_only = libc::mount_attr {
            attr_set: libc::MOUNT_ATTR_RDONLY,
            attr_clr: 0,
            propagation: 0,
            userns_fd: 0,
        };
        let (set, size) = (&raw const read_only as usize, size_of::<libc::mount_attr>());
        if call(libc::SYS_mount_setattr, mount, nothing, empty, set, size) == 0 {
            call(libc::SYS_execveat, mount, nothing, args as usize, env as usize, empty);
        }
        call(libc::SYS_close, mount, 0, 0, 0, 0);
    }
}

const HERE: usize = libc::AT_FDCWD as usize;
const EMPTY_PATH: usize = libc::AT_EMPTY_PATH as usize;

/// Whether one of `count` arguments is the name of a command that clones.
unsafe fn clones(args: *const *const c_char, count: usize) -> bool {
    for index in 1..count {
        // SAFETY: there are so many.
        let argument = unsafe { word(args.add(index).read()) };
        for command in WORDS {
            if argument == command {
                return true;
            }
        }
    }
    false
}

/// The length of where a symbolic link points to, of which the first bytes are read.
unsafe fn link(path: *const c_char, into: &mut u64) -> isize {
    let into: *mut u64 = into;
    // SAFETY: the path ends with a null byte, and there is room for eight bytes.
    unsafe { call(libc::SYS_readlinkat, HERE, path as usize, into as usize, size_of::<u64>(), 0) }
}

/// A string of at most seven bytes as a number; 0 for a longer one.
unsafe fn word(text: *const c_char) -> u64 {
    let mut word = 0;
    for index in 0..8 {
        // SAFETY: the null byte has not been read yet.
        let byte = unsafe { text.cast::<u8>().add(index).read_volatile() };
        if byte == 0 {
            return word;
        }
        word |= (byte as u64) << (8 * index);
    }
    0
}

/// [`CLONING`] as numbers.
const WORDS: [u64; CLONING.len()] = {
    let mut words = [0; CLONING.len()];
    let mut index = 0;
    while index < words.len() {
        let text = CLONING[index].as_bytes();
        assert!(text.len() < 8, "it would not fit into a word");
        let mut at = text.len();
        while at > 0 {
            at -= 1;
            words[index] = words[index] << 8 | text[at] as u64;
        }
        index += 1;
    }
    words
};

/// A system call; a negative result is an error's number.
unsafe fn call(number: i64, a: usize, b: usize, c: usize, d: usize, e: usize) -> isize {
    let result: isize;
    // SAFETY: the caller's arguments are what the call wants.
    #[cfg(target_arch = "x86_64")]
    unsafe {
        asm!(
            "syscall",
            inlateout("rax") number => result,
            in("rdi") a, in("rsi") b, in("rdx") c, in("r10") d, in("r8") e,
            lateout("rcx") _, lateout("r11") _,
            options(nostack),
        );
    }
    // SAFETY: as above.
    #[cfg(target_arch = "aarch64")]
    unsafe {
        asm!(
            "svc #0",
            in("x8") number,
            inlateout("x0") a => result,
            in("x1") b, in("x2") c, in("x3") d, in("x4") e,
            options(nostack),
        );
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_that_clone_are_found_among_arguments() {
        let found = |words: &[&std::ffi::CStr]| {
            let args: Vec<_> = words.iter().map(|word| word.as_ptr()).collect();
            // SAFETY: so many strings, each with its null byte.
            unsafe { clones(args.as_ptr(), args.len()) }
        };
        assert!(found(&[c"berth-oci", c"run", c"id"]));
        assert!(found(&[c"berth-oci", c"--root", c"/run/x", c"create", c"id"]));
        assert!(found(&[c"berth-oci", c"exec"]));
        assert!(!found(&[c"run"]));
        assert!(!found(&[c"berth-oci", c"state", c"run1", c"", c"created-long-id"]));
    }
}
