//! The working directory and the program.

use std::convert::Infallible;
use std::ffi::{CStr, CString, OsStr};
use std::io;
use std::os::unix::ffi::OsStrExt;

use rustix::fs::{Access, AtFlags, FileType, OFlags};
use rustix::io::Errno;

use crate::plan::{Process, Program};
use crate::protocol::Step;
use crate::sys::{exec, image::Image};

use super::paths::{Kind, RootDirectory};
use super::{Attempt, Fault};

/// Where a program is looked for when its environment does not say.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The pause program, built beside the shim and carried in it.
static PAUSE: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/pause"));

/// A sealed memory file with the pause program.
fn pause_image() -> io::Result<Image> {
    Image::new("berth-pause", PAUSE)
}

/// Makes the working directory if it is missing, as the field's runtimes do.
pub(super) fn make_working_directory(process: &Process) -> Result<(), Fault> {
    if process.cwd.is_empty() || process.cwd == "/" {
        return Ok(());
    }
    let made = RootDirectory::own()
        .and_then(|root| root.open_or_make(&process.cwd, Kind::Directory).map(drop));
    match made {
        // It may be there and out of root's sight (a network file system), or be a file: to
        // enter it tells.
        Err(error) if error.kind() != io::ErrorKind::ReadOnlyFilesystem => Ok(()),
        result => result.attempt(Step::WorkingDirectory, || {
            format!("make working directory {:?}", process.cwd)
        }),
    }
}

/// Enters the working directory, not by way of a descriptor, and makes sure that it is inside of
/// the container (CVE-2024-21626).
pub(super) fn enter_working_directory(process: &Process) -> Result<(), Fault> {
    let cwd = if process.cwd.is_empty() { "/" } else { &process.cwd };
    let attempt = || format!("enter working directory {cwd:?}");
    RootDirectory::own()
        .and_then(|root| root.open_with(cwd, OFlags::PATH | OFlags::DIRECTORY))
        .and_then(|directory| Ok(rustix::process::fchdir(directory)?))
        .attempt(Step::WorkingDirectory, attempt)?;
    let here = rustix::process::getcwd(Vec::new()).attempt(Step::WorkingDirectory, attempt)?;
    if here.to_bytes().starts_with(b"/") {
        return Ok(());
    }
    Err(io::Error::other("it is outside of the container")).attempt(Step::WorkingDirectory, attempt)
}

/// Makes sure that there is a program to execute, for who is told now and starts it later.
pub(super) fn expect(process: &Process) -> Result<(), Fault> {
    let name = process.args.first().map_or("", String::as_str);
    let mut last = Errno::NOENT;
    for candidate in candidates(name, process) {
        match executable(&candidate) {
            Ok(()) => return Ok(()),
            Err(error) if error != Errno::NOENT && error != Errno::NOTDIR => last = error,
            Err(_) => {}
        }
    }
    let error = io::Error::from(last);
    Err(Fault { step: Step::Command, attempt: format!("execute {name:?}"), error })
}

fn executable(path: &CStr) -> rustix::io::Result<()> {
    let file = rustix::fs::stat(path)?;
    if FileType::from_raw_mode(file.st_mode) != FileType::RegularFile {
        return Err(Errno::ACCESS);
    }
    rustix::fs::accessat(rustix::fs::CWD, path, Access::EXEC_OK, AtFlags::EACCESS)
}

/// A program with all that is needed to execute it, so that nothing is allocated any more.
#[derive(Debug)]
pub(super) enum Prepared {
    /// What the plan says.
    Command {
        /// As it is called.
        name: String,
        /// Where it may be, in the order of the search.
        candidates: Vec<CString>,
        args: Vec<CString>,
        env: Vec<CString>,
    },
    /// The built-in one.
    Pause(Image),
}

/// Finds out what will be executed.
pub(super) fn prepare(process: &Process) -> Result<Prepared, Fault> {
    if process.program == Program::Pause as i32 {
        let image = pause_image().attempt(Step::Command, || "execute pause")?;
        return Ok(Prepared::Pause(image));
    }
    let name = process.args.first().cloned().unwrap_or_default();
    let strings = strings(process).attempt(Step::Command, || format!("execute {name:?}"));
    let (args, env) = strings?;
    Ok(Prepared::Command { candidates: candidates(&name, process), name, args, env })
}

impl Prepared {
    /// Becomes the program.
    pub(super) fn execute(&self) -> Result<Infallible, Fault> {
        let (error, name) = match self {
            Self::Command { name, candidates, args, env } => {
                let error = search(candidates, args, env);
                let missing = error.raw_os_error() == Some(libc::ENOENT);
                if missing && candidates.iter().any(|path| executable(path).is_ok()) {
                    // The file is there. What is not is the interpreter that it names.
                    let error = io::Error::from_raw_os_error(libc::ELIBACC);
                    return Err(Fault {
                        step: Step::Command,
                        attempt: format!("exec {name}"),
                        error,
                    });
                }
                (error, name.as_str())
            }
            Self::Pause(image) => {
                let fd = std::os::fd::AsFd::as_fd(image);
                (exec::fexecve(fd, &[c"pause".to_owned()], &[]), "pause")
            }
        };
        Err(Fault { step: Step::Command, attempt: format!("execute {name:?}"), error })
    }
}

fn strings(process: &Process) -> io::Result<(Vec<CString>, Vec<CString>)> {
    let args = process.args.iter().map(|arg| CString::new(arg.as_bytes()));
    let env = process.env.iter().map(|variable| CString::new(variable.as_slice()));
    Ok((args.collect::<Result<_, _>>()?, env.collect::<Result<_, _>>()?))
}

/// The way of `execvp(3)`: a file that may not be executed is remembered, one that is missing is
/// not, and any other error ends the search.
fn search(candidates: &[CString], args: &[CString], env: &[CString]) -> io::Error {
    let mut last = io::Error::from_raw_os_error(libc::ENOENT);
    for candidate in candidates {
        let error = exec::execve(candidate, args, env);
        match error.raw_os_error() {
            Some(libc::ENOENT | libc::ENOTDIR) => {}
            Some(libc::EACCES) => last = error,
            _ => return error,
        }
    }
    last
}

fn candidates(name: &str, process: &Process) -> Vec<CString> {
    if name.is_empty() {
        return Vec::new();
    }
    if name.contains('/') {
        return CString::new(name).into_iter().collect();
    }
    let search = process.env.iter().find_map(|variable| variable.strip_prefix(b"PATH="));
    let search = OsStr::from_bytes(search.unwrap_or(DEFAULT_PATH.as_bytes()));
    std::env::split_paths(search)
        .map(|directory| directory.join(name))
        .filter_map(|path| CString::new(path.into_os_string().as_encoded_bytes()).ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn searched(name: &str, env: &[&str]) -> Vec<String> {
        let env = env.iter().map(|variable| variable.as_bytes().to_vec()).collect();
        let process = Process { env, ..Process::default() };
        candidates(name, &process).into_iter().map(|path| path.into_string().unwrap()).collect()
    }

    #[test]
    fn a_bare_name_is_searched_in_the_containers_path() {
        assert_eq!(searched("ls", &["A=b", "PATH=/x:/y/z"]), ["/x/ls", "/y/z/ls"]);
    }

    #[test]
    fn without_a_path_the_usual_places_are_searched() {
        assert_eq!(searched("ls", &[]).len(), 6);
    }

    #[test]
    fn a_name_with_a_slash_is_taken_as_it_is() {
        assert_eq!(searched("./ls", &["PATH=/x"]), ["./ls"]);
        assert!(searched("", &["PATH=/x"]).is_empty());
    }
}
