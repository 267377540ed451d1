//! What a program takes for granted: one value for each variable, the home directory of its
//! user, and standard streams that are that user's own.
//!
//! None of it is in the specification. Every runtime of the field does both, and images rely on it.

use std::collections::HashSet;
use std::fs::File;
use std::io::{self, Read as _};

use rustix::fs::{CWD, FileType, Mode, OFlags, ResolveFlags, fchown, fstat, openat2};
use rustix::io::Errno;
use rustix::process::Uid;

use crate::plan::{Process, Program};
use crate::protocol::Step;

use super::{Attempt, Fault};

/// How much of a user database is read; an image may hold one of any size.
const LONGEST: u64 = 4 << 20;

/// Leaves the last of the values that a variable has, and adds `HOME` as the container's `/etc/passwd` has it, unless the environment says it; `/` for
/// a user who is not there. The root must be the container's already.
pub(super) fn complete(process: &mut Process) {
    let said = |variable: &Vec<u8>| variable.strip_prefix(b"HOME=").is_some_and(|v| !v.is_empty());
    if process.program != Program::Command as i32 {
        return;
    }
    leave_last(&mut process.env);
    if process.env.iter().any(said) {
        return;
    }
    process.env.retain(|variable| !variable.starts_with(b"HOME="));
    // Without a database, as in an image with one static program, nobody is there.
    let users = read_users().unwrap_or_default();
    let home = home_in(&users, process.uid).unwrap_or(b"/");
    process.env.push([b"HOME=", home].concat());
}

fn leave_last(env: &mut Vec<Vec<u8>>) {
    let name = |variable: &[u8]| variable.split(|byte| *byte == b'=').next().map(<[u8]>::to_vec);
    let mut seen = HashSet::new();
    let mut last: Vec<_> = env.drain(..).rev().filter(|entry| seen.insert(name(entry))).collect();
    last.reverse();
    *env = last;
}

fn read_users() -> io::Result<Vec<u8>> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    // No magic links: they lead to descriptors that are not the container's.
    let resolve = ResolveFlags::NO_MAGICLINKS;
    let file = openat2(CWD, "/etc/passwd", flags, Mode::empty(), resolve)?;
    if FileType::from_raw_mode(fstat(&file)?.st_mode) != FileType::RegularFile {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let mut users = Vec::new();
    File::from(file).take(LONGEST).read_to_end(&mut users)?;
    Ok(users)
}

/// The first home of the user with this number (`passwd(5)`).
fn home_in(users: &[u8], uid: u32) -> Option<&[u8]> {
    let number = uid.to_string();
    users.split(|byte| *byte == b'\n').find_map(|line| {
        let mut fields = line.split(|byte| *byte == b':');
        let own = fields.nth(2)? == number.as_bytes();
        let home = fields.nth(2)?;
        (own && !home.is_empty() && !home.contains(&0)).then_some(home)
    })
}

/// Gives the standard streams to the user, so that `/dev/stdout` and its like can be opened
/// again: pipes, sockets and the container's own terminal. Other files are somebody else's.
pub(super) fn give_streams(process: &Process) -> Result<(), Fault> {
    if process.uid == 0 {
        return Ok(());
    }
    let streams = [rustix::stdio::stdin(), rustix::stdio::stdout(), rustix::stdio::stderr()];
    for (number, stream) in streams.into_iter().enumerate() {
        let attempt = || format!("give standard stream {number} to user {}", process.uid);
        let status = fstat(stream).attempt(Step::Streams, attempt)?;
        let ours = match FileType::from_raw_mode(status.st_mode) {
            FileType::Fifo | FileType::Socket => true,
            _ => process.terminal,
        };
        if !ours || status.st_uid == process.uid {
            continue;
        }
        match fchown(stream, Some(Uid::from_raw(process.uid)), None) {
            // Made outside of a user namespace, or on a file system that has no owners.
            Ok(()) | Err(Errno::PERM | Errno::INVAL | Errno::ROFS | Errno::OVERFLOW) => {}
            Err(error) => return Err(error).attempt(Step::Streams, attempt),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const USERS: &[u8] = b"root:x:0:0:root:/root:/bin/sh\n#no\nodd:x\na:x:10:1:::/bin/sh\n\
        b:x:10:1::/b:/bin/sh\nc:x:1:1::/c";

    #[test]
    fn a_home_is_found_by_the_number_of_the_user() {
        assert_eq!(home_in(USERS, 0), Some(&b"/root"[..]));
        assert_eq!(home_in(USERS, 1), Some(&b"/c"[..]), "without an end of line or a shell");
        assert_eq!(home_in(USERS, 10), Some(&b"/b"[..]), "not an empty one");
        assert_eq!(home_in(USERS, 2), None);
        assert_eq!(home_in(b"", 0), None);
    }

    #[test]
    fn what_the_environment_says_stays() {
        let process = |env: &str| Process {
            env: vec![env.as_bytes().to_vec()],
            uid: 4_000_000,
            ..Process::default()
        };
        for (env, after) in
            [("HOME=/a", &["HOME=/a"][..]), ("HOME=", &["HOME=/"]), ("A=b", &["A=b", "HOME=/"])]
        {
            let mut process = process(env);
            complete(&mut process);
            let texts: Vec<_> = process.env.iter().map(|v| String::from_utf8_lossy(v)).collect();
            assert_eq!(texts, after, "{env}");
        }
    }

    #[test]
    fn a_variable_has_its_last_value() {
        let text = ["A=1", "HOME=/x", "B=1", "A=2=3", "HOME="];
        let env = text.map(|variable| variable.as_bytes().to_vec()).to_vec();
        let mut process = Process { env, uid: 4_000_000, ..Process::default() };
        complete(&mut process);
        assert_eq!(process.env, [&b"B=1"[..], b"A=2=3", b"HOME=/"]);
    }
}
