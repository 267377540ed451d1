//! The pause program: holds the namespaces of a pod and does nothing.
//!
//! It is executed with `SIGCHLD` ignored, which makes the kernel reap its children: all that it
//! takes to be PID 1 of a shared PID namespace. As PID 1 no signal but `SIGKILL` from outside
//! ends it. Built by the build script as a static program of a few hundred bytes, without the
//! standard library, and carried inside of the shim.

#![no_std]
#![no_main]

use core::arch::global_asm;

#[cfg(target_arch = "x86_64")]
global_asm!(
    ".globl _start",
    "_start:",
    "mov eax, 34", // pause(2)
    "syscall",
    "jmp _start",
);

#[cfg(target_arch = "aarch64")]
global_asm!(
    ".globl _start",
    "_start:",
    "mov x0, #0",
    "mov x1, #0",
    "mov x2, #0",
    "mov x3, #0",
    "mov x8, #73", // ppoll(2) of nothing, for ever: there is no pause(2)
    "svc #0",
    "b _start",
);

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}
