//! `execve(2)` and its relatives, and leaving without looking back.

use std::convert::Infallible;
use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::os::unix::process::CommandExt as _;
use std::process::Command;
use std::ptr;

/// A null-terminated array of pointers to C strings, as `execve` takes it.
///
/// Borrows the strings: it is valid as long as they are.
#[derive(Debug)]
struct Vector<'a> {
    pointers: Vec<*const libc::c_char>,
    _strings: &'a [CString],
}

impl<'a> Vector<'a> {
    fn new(strings: &'a [CString]) -> Self {
        let mut pointers: Vec<_> = strings.iter().map(|s| s.as_ptr()).collect();
        pointers.push(ptr::null());
        Self { pointers, _strings: strings }
    }
}

/// Replaces the process by the program at `path`; returns only if that fails.
pub(crate) fn execve(path: &CStr, args: &[CString], env: &[CString]) -> io::Error {
    let (args, env) = (Vector::new(args), Vector::new(env));
    // SAFETY: all strings are null-terminated and both arrays end with a null pointer.
    unsafe { libc::execve(path.as_ptr(), args.pointers.as_ptr(), env.pointers.as_ptr()) };
    io::Error::last_os_error()
}

/// Replaces the process by the program that `file` is open on; returns only if that fails.
pub(crate) fn fexecve(file: BorrowedFd<'_>, args: &[CString], env: &[CString]) -> io::Error {
    let (args, env) = (Vector::new(args), Vector::new(env));
    // SAFETY: as in `execve`; the empty path together with AT_EMPTY_PATH names `file` itself.
    unsafe {
        libc::syscall(
            libc::SYS_execveat,
            file.as_raw_fd(),
            c"".as_ptr(),
            args.pointers.as_ptr(),
            env.pointers.as_ptr(),
            libc::AT_EMPTY_PATH,
        )
    };
    io::Error::last_os_error()
}

/// Has `prepare` run in the child of `command`, right before it becomes its program.
pub(crate) fn before_exec(
    command: &mut Command,
    prepare: impl FnMut() -> io::Result<()> + Send + Sync + 'static,
) {
    // SAFETY: the caller has one thread, so that its child may do what it could do itself; the
    // closure owns all that it uses.
    unsafe { command.pre_exec(prepare) };
}

/// Ends the process at once: no destructors, no exit handlers, no flushing.
pub(crate) fn exit_now(code: i32) -> Infallible {
    // SAFETY: `_exit` has no preconditions.
    unsafe { libc::_exit(code) }
}
