//! Runs a program of the operator's once: credential helpers, credential providers, verifiers of
//! images. Working directory `/`, a process group of its own, a deadline, and a limit on what it
//! may say.
//!
//! A program has ended when its process has. Its pipes may stay open longer, held by what it left
//! behind; what it wrote is in them by then, so nothing waits for their end. When it does not end
//! well its whole group is killed. Its words are the caller's to show or to hide: they may be
//! secrets.

use std::ffi::OsString;
use std::io;
use std::os::fd::AsFd;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, ChildStdin, Command};
use tokio::time::timeout;

/// What a service manager told us and no program of ours.
const OURS: [&str; 6] = [
    "NOTIFY_SOCKET",
    "LISTEN_FDS",
    "LISTEN_PID",
    "LISTEN_FDNAMES",
    "WATCHDOG_USEC",
    "WATCHDOG_PID",
];
/// How much of the standard error is kept.
const COMPLAINT: usize = 1 << 10;

/// How often, and first how long, we wait for a program that is just being written: an installer
/// replaces it in place. The wait doubles each time, to 620 ms in all.
const BUSY_RETRIES: u32 = 5;
const BUSY_WAIT: Duration = Duration::from_millis(20);

/// A program to run.
#[derive(Debug)]
pub(crate) struct Call<'a> {
    pub(crate) path: &'a Path,
    pub(crate) arguments: Vec<OsString>,
    /// Beside berthd's own.
    pub(crate) environment: Vec<(String, String)>,
    pub(crate) stdin: Vec<u8>,
    pub(crate) deadline: Duration,
    /// Bytes of standard output that are kept.
    pub(crate) limit: usize,
}

/// How a program ended, and what it said.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) status: ExitStatus,
    pub(crate) stdout: Vec<u8>,
    /// Whether it said more than that.
    pub(crate) is_cut: bool,
    /// The beginning of its standard error.
    pub(crate) stderr: String,
}

impl Call<'_> {
    /// Runs it to its end. Dropped before that, its process group is killed.
    ///
    /// # Errors
    /// In words, if it cannot be started or has not ended in time. How it ended is no error.
    pub(crate) async fn run(&self) -> Result<Ended, String> {
        let child =
            self.spawn().await.map_err(|e| format!("start {}: {e}", self.path.display()))?;
        let mut group = Group(child);
        match timeout(self.deadline, group.converse(&self.stdin, self.limit)).await {
            Ok(ended) => {
                let ended = ended.map_err(|e| format!("run {}: {e}", self.path.display()))?;
                Ok(ended)
            }
            Err(_) => {
                let (path, deadline) = (self.path.display(), self.deadline);
                Err(format!("{path} has not ended within {deadline:?}"))
            }
        }
    }

    async fn spawn(&self) -> io::Result<Child> {
        let mut command = self.command();
        let mut wait = BUSY_WAIT;
        for _ in 0..BUSY_RETRIES {
            match command.spawn() {
                // There is no event for the end of its being written.
                Err(error) if error.kind() == io::ErrorKind::ExecutableFileBusy => {
                    tokio::time::sleep(wait).await;
                    wait *= 2;
                }
                spawned => return spawned,
            }
        }
        command.spawn()
    }

    fn command(&self) -> Command {
        let mut command = Command::new(self.path);
        for name in OURS {
            command.env_remove(name);
        }
        command
            .args(&self.arguments)
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .current_dir("/")
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }
}

/// A process group, killed when it is dropped before its leader has ended.
struct Group(Child);

impl Drop for Group {
    fn drop(&mut self) {
        // None once the leader has been reaped: then the number may be another's.
        let leader = self.0.id().and_then(|pid| Pid::from_raw(pid.cast_signed()));
        if let Some(leader) = leader {
            let _ = rustix::process::kill_process_group(leader, Signal::KILL);
            // Dropping the child leaves it to the runtime to reap.
        }
    }
}

impl Group {
    async fn converse(&mut self, input: &[u8], limit: usize) -> io::Result<Ended> {
        let (stdin, stdout, stderr) =
            (self.0.stdin.take(), self.0.stdout.take(), self.0.stderr.take());
        let (Some(stdin), Some(mut stdout), Some(mut stderr)) = (stdin, stdout, stderr) else {
            return Err(io::ErrorKind::BrokenPipe.into());
        };
        let (mut said, mut complained) = (Heard::new(limit), Heard::new(COMPLAINT));
        let status = {
            let exchange = async {
                tokio::join!(
                    feed(stdin, input),
                    said.listen(&mut stdout),
                    complained.listen(&mut stderr)
                )
            };
            tokio::pin!(exchange);
            tokio::select! {
                _ = &mut exchange => self.0.wait().await?,
                status = self.0.wait() => status?,
            }
        };
        said.drain(&stdout);
        complained.drain(&stderr);
        let stderr = String::from_utf8_lossy(&complained.bytes).trim().to_owned();
        Ok(Ended { status, stdout: said.bytes, is_cut: said.is_cut, stderr })
    }
}

async fn feed(mut stdin: ChildStdin, input: &[u8]) {
    // A program need not read what it has no use for.
    let _ = stdin.write_all(input).await;
}

/// The beginning of what comes out of a pipe.
struct Heard {
    bytes: Vec<u8>,
    limit: usize,
    is_cut: bool,
}

impl Heard {
    fn new(limit: usize) -> Self {
        Self { bytes: Vec::new(), limit, is_cut: false }
    }

    async fn listen(&mut self, pipe: &mut (impl AsyncRead + Unpin)) {
        let mut chunk = [0; 4096];
        while let Ok(length @ 1..) = pipe.read(&mut chunk).await {
            self.keep(&chunk[..length]);
        }
    }

    /// Reads what is in the pipe now, and no more than a pipe can hold.
    fn drain(&mut self, pipe: impl AsFd) {
        let mut chunk = [0; 4096];
        for _ in 0..(1 << 20) / chunk.len() {
            match rustix::io::read(&pipe, &mut chunk) {
                Ok(0) => return,
                Ok(length) => self.keep(&chunk[..length]),
                Err(rustix::io::Errno::INTR) => {}
                Err(_) => return,
            }
        }
    }

    fn keep(&mut self, chunk: &[u8]) {
        let room = self.limit - self.bytes.len();
        self.is_cut |= chunk.len() > room;
        self.bytes.extend_from_slice(&chunk[..chunk.len().min(room)]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn shell(script: &str, deadline: Duration) -> Result<Ended, String> {
        let arguments = vec!["-c".into(), script.into()];
        let environment = vec![("GIVEN".to_owned(), "yes".to_owned())];
        let stdin = b"question".to_vec();
        let path = Path::new("/bin/sh");
        Call { path, arguments, environment, stdin, deadline, limit: 64 }.run().await
    }

    const LONG: Duration = Duration::from_secs(60);

    #[tokio::test]
    async fn what_a_program_says_and_how_it_ends() {
        let ended = shell("read -r it; echo \"$it $GIVEN\"; pwd; echo no >&2; exit 3", LONG).await;
        let ended = ended.unwrap();
        assert_eq!(ended.status.code(), Some(3));
        assert_eq!(ended.stdout, b"question yes\n/\n");
        assert_eq!((ended.stderr.as_str(), ended.is_cut), ("no", false));
        let ended = shell("yes | head -c 100000; kill -9 $$", LONG).await.unwrap();
        assert_eq!((ended.status.code(), ended.stdout.len(), ended.is_cut), (None, 64, true));
    }

    #[tokio::test]
    async fn nobody_waits_for_what_a_program_leaves_behind() {
        let ended = shell("sleep 600 & echo $!", LONG).await.unwrap();
        assert!(ended.status.success());
        let left: i32 = String::from_utf8(ended.stdout).unwrap().trim().parse().unwrap();
        rustix::process::kill_process(Pid::from_raw(left).unwrap(), Signal::KILL).unwrap();
    }

    #[tokio::test]
    async fn a_program_that_hangs_is_killed_with_all_of_its_group() {
        let directory = tempfile::tempdir().unwrap();
        let fifo = directory.path().join("fifo");
        let mode = rustix::fs::Mode::from_raw_mode(0o600);
        rustix::fs::mkfifoat(rustix::fs::CWD, &fifo, mode).unwrap();
        let script = format!("sleep 600 > {} & wait", fifo.display());
        // It ends when nobody holds the other side: when the child of the program is dead.
        let (sender, ended) = std::sync::mpsc::channel();
        std::thread::spawn(move || sender.send(std::fs::read(fifo).map(|read| read.len())));
        let error = shell(&script, Duration::from_millis(500)).await.unwrap_err();
        assert!(error.contains("/bin/sh has not ended within 500ms"), "{error}");
        assert_eq!(ended.recv_timeout(Duration::from_secs(30)).unwrap().unwrap(), 0);
    }

    #[tokio::test]
    async fn a_program_that_is_not_there_is_named() {
        let (path, deadline) = (Path::new("/nowhere/at/all"), LONG);
        let (arguments, environment, stdin) = (Vec::new(), Vec::new(), Vec::new());
        let call = Call { path, arguments, environment, stdin, deadline, limit: 1 };
        assert!(call.run().await.unwrap_err().contains("start /nowhere/at/all"));
    }
}
