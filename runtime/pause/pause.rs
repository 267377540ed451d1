//! The pause program: holds the namespaces of a pod and does nothing.
//!
//! It is executed with `SIGCHLD` ignored, which makes the kernel reap its children: all that it
//! takes to be PID 1 of a shared PID namespace. As PID 1 no signal but `SIGKILL` from outside
//! ends it. Built by the build script as a static program of a few hundred bytes, without the
//! standard library, and carried inside of the shim.
//!
//! First it gives up all system calls but the one that it waits in, by a filter of its own: one
//! that is loaded before it is executed would have to allow that as well. It has `no_new_privs`,
//! so that a kernel can only refuse the filter if it knows no filters.

#![no_std]
#![no_main]

use core::arch::global_asm;

#[cfg(target_arch = "x86_64")]
global_asm!(
    ".globl _start",
    "_start:",
    "mov eax, 157", // prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program)
    "mov edi, 22",
    "mov esi, 2",
    "mov rdx, offset program",
    "syscall",
    "wait:",
    "mov eax, 34", // pause(2)
    "syscall",
    "jmp wait",
    ".set ARCH, 0xc000003e", // AUDIT_ARCH_X86_64
    ".set CALL, 34",
);

#[cfg(target_arch = "aarch64")]
global_asm!(
    ".globl _start",
    "_start:",
    "mov x0, #22", // prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program)
    "mov x1, #2",
    "adr x2, program",
    "mov x8, #167",
    "svc #0",
    "wait:",
    "mov x0, #0",
    "mov x1, #0",
    "mov x2, #0",
    "mov x3, #0",
    "mov x8, #73", // ppoll(2) of nothing, for ever: there is no pause(2)
    "svc #0",
    "b wait",
    ".set ARCH, 0xc00000b7", // AUDIT_ARCH_AARCH64
    ".set CALL, 73",
);

// `struct sock_fprog`, and the instructions: code, jumps if it holds and if not, value.
global_asm!(
    ".balign 8",
    "program:",
    ".short 6, 0, 0, 0",
    ".quad filter",
    "filter:",
    ".short 0x20; .byte 0, 0; .long 4",          // load the architecture
    ".short 0x15; .byte 0, 3; .long ARCH",       // another one: kill
    ".short 0x20; .byte 0, 0; .long 0",          // load the number of the call
    ".short 0x15; .byte 0, 1; .long CALL",       // another one: kill
    ".short 0x06; .byte 0, 0; .long 0x7fff0000", // SECCOMP_RET_ALLOW
    ".short 0x06; .byte 0, 0; .long 0x80000000", // SECCOMP_RET_KILL_PROCESS
);

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}
