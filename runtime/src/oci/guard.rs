//! This program, where no container can write to it.
//!
//! An entry point or an interpreter that is `/proc/self/exe` has a new process run this program
//! again inside of the container. Others there then find it behind `/proc/PID/exe`, and write to
//! it as soon as nobody runs it any more (CVE-2019-5736). So whoever is going to clone a process
//! first runs itself again, from a read-only mount of nothing but its own file. That mount is in
//! no namespace: nobody can find it, or make it writable. It needs no memory, as a copy would.

use std::convert::Infallible;
use std::ffi::{CString, OsString};
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::ffi::OsStringExt as _;

use rustix::fs::{CWD, Mode, OFlags, SealFlags, StatVfsMountFlags};
use rustix::fs::{fcntl_get_seals, fstatvfs, open, readlink};
use rustix::mount::{OpenTreeFlags, open_tree};

use crate::error::{Error, Storing as _};
use crate::sys::exec::fexecve;
use crate::sys::image::Image;
use crate::sys::mount::{Attributes, set_attributes};

/// Commands that clone a process.
pub(crate) const CLONING: [&str; 3] = ["create", "run", "exec"];

const OWN: &str = "/proc/self/exe";

/// Returns once this program runs from where it cannot be written to, if one of its arguments is a
/// command that clones. That takes an `execve` of itself with the same arguments, which has been
/// done already if all is well (`sys::entry`). To be called before anything else is done.
///
/// # Errors
/// If there is no procfs, or the kernel lets us have neither a mount nor a copy in memory.
pub fn guard_program() -> Result<(), Error> {
    // Options are not understood yet; a guard too many does no harm.
    if !std::env::args_os().skip(1).any(|word| CLONING.iter().any(|command| word == *command)) {
        return Ok(());
    }
    let guarded = is_guarded().storing("look at", OWN)?;
    if guarded {
        // The kernel has named this process after a descriptor.
        return rustix::thread::set_name(c"berth-oci")
            .map_err(io::Error::from)
            .storing("name", OWN);
    }
    match run_again() {
        Ok(never) => match never {},
        Err(error) => Err(error).storing("run from a read-only mount", OWN),
    }
}

fn is_guarded() -> io::Result<bool> {
    let file = open(OWN, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
    let sealed = fcntl_get_seals(&file).is_ok_and(|seals| seals.contains(SealFlags::WRITE));
    // A file with a mount to itself is the root of its mount. One that merely lies on a read-only
    // file system does not count: that may be made writable, for an update.
    let alone = readlink(OWN, Vec::new())?.as_bytes() == b"/";
    Ok(sealed || alone && fstatvfs(&file)?.f_flag.contains(StatVfsMountFlags::RDONLY))
}

fn run_again() -> io::Result<Infallible> {
    let text = |text: OsString| CString::new(text.into_vec());
    let args: Result<Vec<_>, _> = std::env::args_os().map(text).collect();
    let env: Result<Vec<_>, _> = std::env::vars_os()
        .map(|(mut name, value)| {
            name.push("=");
            name.push(value);
            text(name)
        })
        .collect();
    let (args, env) = (args?, env?);
    match read_only() {
        Ok(program) => Err(fexecve(program.as_fd(), &args, &env)),
        // Who may not mount may still copy.
        Err(_) => Err(fexecve(copy()?.as_fd(), &args, &env)),
    }
}

fn read_only() -> io::Result<OwnedFd> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let mount = open_tree(CWD, OWN, flags)?;
    let read_only = Attributes { set: libc::MOUNT_ATTR_RDONLY, ..Attributes::default() };
    set_attributes(mount.as_fd(), read_only, false)?;
    Ok(mount)
}

fn copy() -> io::Result<Image> {
    Image::new("berth-oci", &std::fs::read(OWN)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ordinary_program_is_not_guarded() {
        assert!(!is_guarded().unwrap());
    }
}
