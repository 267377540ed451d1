//! One hook: started, attended, and ended if it takes too long.

use std::ffi::OsStr;
use std::io::{self, Write as _};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::Path;
use std::process::{Child, ChildStderr, ChildStdout, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open};

use crate::plan::Hook;

/// How much of what a hook said last is told in an error.
const TAIL: usize = 2048;

/// Runs one hook to its end.
///
/// # Errors
/// What it did instead of ending well, behind its path.
pub(super) fn run(
    hook: &Hook,
    state: &[u8],
    directory: Option<&Path>,
    confine: &dyn Fn(&mut Command) -> io::Result<()>,
) -> io::Result<()> {
    let told = |error: io::Error| io::Error::other(format!("{}: {error}", hook.path));
    let mut command = command(hook, state, directory).map_err(told)?;
    let mut child = confine(&mut command).and_then(|()| command.spawn()).map_err(told)?;
    let mut output = Output::of(&mut child).map_err(told)?;
    let deadline = hook.timeout.map(|seconds| Instant::now() + Duration::from_secs(seconds));
    let ended = attend(&mut child, &mut output, deadline);
    if !matches!(ended, Ok(true)) {
        // Its group has its PID, which nobody else can have before it is waited for.
        let _ = kill_process_group(Pid::from_child(&child), Signal::KILL);
    }
    let status = child.wait().map_err(told)?;
    output.drain();
    match (ended, hook.timeout) {
        (Err(error), _) => Err(told(error)),
        (Ok(false), seconds) => {
            let text = format!("ran longer than its timeout of {} s", seconds.unwrap_or(0));
            Err(told(io::Error::other(output.tell(text))))
        }
        (Ok(true), _) if status.success() => Ok(()),
        (Ok(true), _) => Err(told(io::Error::other(output.tell(describe(status))))),
    }
}

fn command(hook: &Hook, state: &[u8], directory: Option<&Path>) -> io::Result<Command> {
    let mut command = Command::new(&hook.path);
    if let Some((name, args)) = hook.args.split_first() {
        command.arg0(name).args(args);
    }
    command.env_clear();
    for variable in &hook.env {
        let split = variable.iter().position(|byte| *byte == b'=').unwrap_or(variable.len());
        let (name, value) = variable.split_at(split);
        command.env(OsStr::from_bytes(name), OsStr::from_bytes(value.get(1..).unwrap_or_default()));
    }
    if let Some(directory) = directory {
        command.current_dir(directory);
    }
    command.process_group(0).stdin(Stdio::from(sealed(state)?));
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    Ok(command)
}

/// A memory file that is read from its beginning and can be changed by nobody.
fn sealed(bytes: &[u8]) -> io::Result<OwnedFd> {
    let file = memfd_create("state", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
    let mut file = std::fs::File::from(file);
    file.write_all(bytes)?;
    rustix::fs::seek(&file, rustix::fs::SeekFrom::Start(0))?;
    let seals = SealFlags::SEAL | SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE;
    fcntl_add_seals(&file, seals)?;
    Ok(file.into())
}

/// Waits for the child while reading what it says; answers whether it ended in time.
fn attend(child: &mut Child, output: &mut Output, deadline: Option<Instant>) -> io::Result<bool> {
    let pidfd = pidfd_open(Pid::from_child(child), PidfdFlags::empty())?;
    loop {
        let left = deadline.map(|at| at.saturating_duration_since(Instant::now()));
        if left.is_some_and(|left| left.is_zero()) {
            return Ok(false);
        }
        let mut fds = vec![PollFd::new(&pidfd, PollFlags::IN)];
        fds.extend(output.open().map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN)));
        let left = left.and_then(|left| Timespec::try_from(left).ok());
        match poll(&mut fds, left.as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        let ended = !fds[0].revents().is_empty();
        drop(fds);
        // Read first: what was said before the end is in the pipes by now. What a descendant
        // that lives on says later is not the hook's.
        output.drain();
        if ended {
            return Ok(true);
        }
    }
}

/// What a hook says, the last of it kept.
#[derive(Debug)]
struct Output {
    stdout: Option<ChildStdout>,
    stderr: Option<ChildStderr>,
    said: Vec<u8>,
    complained: Vec<u8>,
}

impl Output {
    fn of(child: &mut Child) -> io::Result<Self> {
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        for fd in stdout.iter().map(AsFd::as_fd).chain(stderr.iter().map(AsFd::as_fd)) {
            rustix::io::ioctl_fionbio(fd, true)?;
        }
        Ok(Self { stdout, stderr, said: Vec::new(), complained: Vec::new() })
    }

    fn open(&self) -> impl Iterator<Item = std::os::fd::BorrowedFd<'_>> {
        self.stdout.iter().map(AsFd::as_fd).chain(self.stderr.iter().map(AsFd::as_fd))
    }

    /// Reads all that there is now.
    fn drain(&mut self) {
        read(&mut self.stdout, &mut self.said);
        read(&mut self.stderr, &mut self.complained);
    }

    fn tell(&self, mut text: String) -> String {
        for (name, bytes) in [("stdout", &self.said), ("stderr", &self.complained)] {
            let words = String::from_utf8_lossy(bytes);
            if !words.trim().is_empty() {
                text = format!("{text}, {name}: {}", words.trim());
            }
        }
        text
    }
}

fn read(from: &mut Option<impl io::Read>, tail: &mut Vec<u8>) {
    let mut chunk = [0; 4096];
    // A bound, so that a hook which never stops talking cannot keep us from the clock.
    for _ in 0..64 {
        let Some(source) = from else { return };
        match source.read(&mut chunk) {
            Ok(0) => *from = None,
            Ok(count) => {
                tail.extend_from_slice(&chunk[..count]);
                tail.drain(..tail.len().saturating_sub(TAIL));
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
            Err(_) => *from = None,
        }
    }
}

fn describe(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit status {code}"),
        (None, Some(libc::SIGSYS)) => "killed by a bad system call".to_owned(),
        (None, Some(signal)) => format!("killed by signal {signal}"),
        (None, None) => status.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Hook {
        let args = ["sh", "-c", script].map(str::to_owned).to_vec();
        Hook { path: "/bin/sh".to_owned(), args, ..Hook::default() }
    }

    /// Nothing keeps it from anything.
    fn free(_: &mut Command) -> io::Result<()> {
        Ok(())
    }

    fn fault(hook: &Hook) -> String {
        run(hook, b"{}", None, &free).unwrap_err().to_string()
    }

    #[test]
    fn its_environment_is_what_it_says() {
        let hook = Hook { path: "/usr/bin/env".to_owned(), ..Hook::default() };
        run(&hook, b"", None, &free).unwrap();
        // `env` prints all of it; a failing command at the end makes that an error to look at.
        let args = ["env", "false"].map(str::to_owned).to_vec();
        let env = vec![b"A=b=c".to_vec(), b"PATH=/bin:/usr/bin".to_vec()];
        let shell = Hook { env: env.clone(), ..shell("/usr/bin/env; exit 9") };
        let text = fault(&shell);
        assert!(text.contains("exit status 9, stdout: "), "{text}");
        for line in ["A=b=c", "PATH=/bin:/usr/bin"] {
            assert!(text.contains(line), "{text}");
        }
        assert!(!text.contains("HOME=") && !text.contains("CARGO"), "{text}");
        let hook = Hook { path: "/usr/bin/env".to_owned(), args, env, timeout: None };
        assert_eq!(fault(&hook), "/usr/bin/env: exit status 1");
    }

    #[test]
    fn its_arguments_are_what_it_says() {
        let args = ["named", "-c", "echo $0 $1; exit 1", "a", "b"].map(str::to_owned).to_vec();
        let hook = Hook { path: "/bin/sh".to_owned(), args, ..Hook::default() };
        assert_eq!(fault(&hook), "/bin/sh: exit status 1, stdout: a b");
    }

    #[test]
    fn a_missing_program_is_told() {
        let hook = Hook { path: "/no/such/hook".to_owned(), ..Hook::default() };
        assert!(fault(&hook).starts_with("/no/such/hook: No such file"), "{}", fault(&hook));
    }

    #[test]
    fn a_death_by_signal_is_told() {
        assert_eq!(fault(&shell("kill -9 $$")), "/bin/sh: killed by signal 9");
    }

    #[test]
    fn what_takes_too_long_is_killed_with_its_children() {
        let directory = tempfile::tempdir().unwrap();
        let script = "sleep 1000 & echo $! > child; echo waiting >&2; wait";
        let hook = Hook { timeout: Some(1), env: vec![b"PATH=/bin".to_vec()], ..shell(script) };
        let begun = Instant::now();
        let error = run(&hook, b"", Some(directory.path()), &free).unwrap_err().to_string();
        assert_eq!(error, "/bin/sh: ran longer than its timeout of 1 s, stderr: waiting");
        assert!(begun.elapsed() < Duration::from_secs(60));
        let pid = std::fs::read_to_string(directory.path().join("child")).unwrap();
        let pid = Pid::from_raw(pid.trim().parse().unwrap()).unwrap();
        // Its parent is gone: whoever adopted it reaps it, or has done so.
        if let Ok(pidfd) = pidfd_open(pid, PidfdFlags::empty()) {
            let limit = Timespec { tv_sec: 30, tv_nsec: 0 };
            let mut fds = [PollFd::new(&pidfd, PollFlags::IN)];
            assert_eq!(poll(&mut fds, Some(&limit)).unwrap(), 1, "it goes on");
        }
    }

    #[test]
    fn a_child_that_keeps_the_pipes_keeps_nobody_waiting() {
        let directory = tempfile::tempdir().unwrap();
        let script = "sleep 1000 & echo $! > child";
        let hook = Hook { env: vec![b"PATH=/bin".to_vec()], ..shell(script) };
        let begun = Instant::now();
        run(&hook, b"", Some(directory.path()), &free).unwrap();
        assert!(begun.elapsed() < Duration::from_secs(60));
        let pid = std::fs::read_to_string(directory.path().join("child")).unwrap();
        let pid = Pid::from_raw(pid.trim().parse().unwrap()).unwrap();
        rustix::process::kill_process(pid, Signal::KILL).unwrap();
    }

    #[test]
    fn much_output_and_a_long_state_block_nobody() {
        let hook =
            shell("i=0; while [ $i -lt 20000 ]; do echo 0123456789; i=$((i+1)); done; exit 1");
        let error = run(&hook, &vec![b' '; 1 << 20], None, &free).unwrap_err().to_string();
        assert!(error.len() < TAIL + 100, "{}", error.len());
    }

    #[test]
    fn it_reads_the_state() {
        let hook = shell("read -r line; echo \"$line\"; exit 1");
        let error = run(&hook, b"{\"id\": 1}\n", None, &free).unwrap_err().to_string();
        assert_eq!(error, "/bin/sh: exit status 1, stdout: {\"id\": 1}");
    }
}
