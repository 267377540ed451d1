//! Finds a plugin and runs it once: clean environment, working directory `/`,
//! own process group, a deadline, and a limit on what it may say. Knows
//! processes and pipes, and nothing of networks.
//!
//! A plugin has ended when its process has ended. Its pipes may stay open
//! longer, held by a daemon that it left behind; what it wrote is in them by
//! then, so nothing waits for their end. On a timeout, on cancellation and on
//! failure the process group is killed while its leader is not yet reaped, so
//! that the group's number cannot have passed to somebody else.

use std::env;
use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, PidfdFlags, Signal, WaitId, WaitIdOptions};
use serde::Deserialize;
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt, Interest};
use tokio::process::{Child, ChildStdin, Command};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::error::{Fault, excerpt, one_line};

/// How much of a plugin's words goes into an error, in bytes. Errors travel in
/// RPC metadata, which commonly ends at 8 KiB.
const QUOTE: usize = 1024;

/// How long we wait for a killed process to be gone. One that sits in the
/// kernel longer is left for the runtime's orphan queue to reap.
const REAP: Duration = Duration::from_secs(1);

/// How often, and first how long, we wait for an executable that is just being
/// written (`ETXTBSY`): an installer replaces plugins in place. The wait
/// doubles each time, to 620 ms in all.
const BUSY_RETRIES: u32 = 5;
const BUSY_WAIT: Duration = Duration::from_millis(20);

/// Runs plugins from a list of directories.
#[derive(Debug)]
pub(crate) struct Executor {
    pub(crate) bin_dirs: Vec<PathBuf>,
    pub(crate) timeout: Duration,
    pub(crate) max_output: usize,
    pub(crate) cancel: CancellationToken,
}

/// One process to run.
#[derive(Debug)]
pub(crate) struct Invocation {
    pub(crate) binary: PathBuf,
    pub(crate) environment: Vec<(&'static str, OsString)>,
    pub(crate) stdin: Vec<u8>,
}

impl Executor {
    /// The executable of a plugin type, which is one path component.
    pub(crate) fn find(&self, kind: &str) -> Result<PathBuf, Fault> {
        let candidates = self.bin_dirs.iter().map(|dir| dir.join(kind));
        candidates.into_iter().find(|path| path.is_file()).ok_or_else(|| {
            let searched = env::join_paths(&self.bin_dirs).unwrap_or_default();
            Fault::Missing { searched: searched.to_string_lossy().into_owned() }
        })
    }

    /// Runs a plugin to its end and returns its standard output, if it reports
    /// success. Dropping the future kills the process group.
    pub(crate) async fn run(&self, call: &Invocation) -> Result<Vec<u8>, Fault> {
        if self.cancel.is_cancelled() {
            return Err(Fault::Cancelled);
        }
        let mut process = Process::start(call).await?;
        let conversation = timeout(self.timeout, process.converse(&call.stdin, self.max_output));
        let spoken = tokio::select! {
            biased;
            () = self.cancel.cancelled() => Err(Fault::Cancelled),
            spoken = conversation => spoken.unwrap_or(Err(Fault::TimedOut(self.timeout))),
        };
        match spoken {
            Ok(output) => judge(process.finish().await?, output),
            Err(fault) => {
                process.kill().await;
                Err(fault)
            }
        }
    }
}

/// A plugin's process, killed with its group when dropped before its end.
struct Process {
    child: Child,
    binary: PathBuf,
    /// A pidfd: readable once the process has ended, reaped or not.
    end: AsyncFd<OwnedFd>,
}

/// What a plugin wrote.
struct Output {
    stdout: Capture,
    stderr: Capture,
}

impl Process {
    async fn start(call: &Invocation) -> Result<Self, Fault> {
        let failed = |source| Fault::Run { action: "start", binary: call.binary.clone(), source };
        let child = spawn(call).await.map_err(failed)?;
        match end_of(&child) {
            Ok(end) => Ok(Self { child, binary: call.binary.clone(), end }),
            Err(e) => {
                kill_group(&child);
                Err(failed(e))
            }
        }
    }

    /// Feeds and hears the plugin until it has ended.
    async fn converse(&mut self, input: &[u8], limit: usize) -> Result<Output, Fault> {
        let (stdin, stdout, stderr) =
            (self.child.stdin.take(), self.child.stdout.take(), self.child.stderr.take());
        let (Some(stdin), Some(mut stdout), Some(mut stderr)) = (stdin, stdout, stderr) else {
            return Err(self.failed("open the pipes of")(io::ErrorKind::BrokenPipe.into()));
        };
        let mut heard = Output { stdout: Capture::beginning(limit), stderr: Capture::end(QUOTE) };
        let exchange = async {
            tokio::try_join!(
                feed(stdin, input),
                heard.stdout.listen(&mut stdout),
                heard.stderr.listen(&mut stderr),
            )
        };
        tokio::select! {
            said = exchange => {
                said?;
                self.ended().await?;
            }
            ended = self.ended() => ended?,
        }
        heard.stdout.drain(&stdout)?;
        heard.stderr.drain(&stderr)?;
        Ok(heard)
    }

    async fn ended(&self) -> Result<(), Fault> {
        self.end.readable().await.map(drop).map_err(self.failed("wait for"))
    }

    /// Takes the exit status of a process that has ended. If it failed, what it
    /// left running is killed; after a success that is its own affair.
    async fn finish(mut self) -> Result<ExitStatus, Fault> {
        let look = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
        let status = rustix::process::waitid(WaitId::PidFd(self.end.as_fd()), look);
        if !matches!(status, Ok(Some(status)) if status.exit_status() == Some(0)) {
            kill_group(&self.child);
        }
        self.child.wait().await.map_err(self.failed("reap"))
    }

    async fn kill(mut self) {
        kill_group(&self.child);
        let _ = timeout(REAP, self.child.wait()).await;
    }

    fn failed(&self, action: &'static str) -> impl Fn(io::Error) -> Fault + use<> {
        let binary = self.binary.clone();
        move |source| Fault::Run { action, binary: binary.clone(), source }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        kill_group(&self.child);
    }
}

async fn spawn(call: &Invocation) -> io::Result<Child> {
    // A process group, not a session: that would take code of ours between
    // fork and exec, and std could no longer use posix_spawn.
    let mut command = Command::new(&call.binary);
    command
        .env_clear()
        .envs(call.environment.iter().map(|(key, value)| (key, value)))
        .current_dir("/")
        .process_group(0)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut wait = BUSY_WAIT;
    for _ in 0..BUSY_RETRIES {
        match command.spawn() {
            Err(e) if e.kind() == io::ErrorKind::ExecutableFileBusy => {
                tokio::time::sleep(wait).await;
                wait *= 2;
            }
            spawned => return spawned,
        }
    }
    command.spawn()
}

/// The process, unless it has been reaped.
fn pid_of(child: &Child) -> Option<Pid> {
    child.id().and_then(|pid| Pid::from_raw(pid.cast_signed()))
}

/// Does nothing once the leader has been reaped: it has no number then.
fn kill_group(leader: &Child) {
    if let Some(group) = pid_of(leader) {
        let _ = rustix::process::kill_process_group(group, Signal::KILL);
    }
}

#[expect(deprecated, reason = "sound for an owned descriptor; what replaces it is unsafe")]
fn end_of(child: &Child) -> io::Result<AsyncFd<OwnedFd>> {
    let pid = pid_of(child).ok_or(io::ErrorKind::NotFound)?;
    let pidfd = rustix::process::pidfd_open(pid, PidfdFlags::empty())?;
    AsyncFd::with_interest(pidfd, Interest::READABLE)
}

async fn feed(mut stdin: ChildStdin, input: &[u8]) -> Result<(), Fault> {
    // A plugin may end, or close its input, without reading all of it.
    let _ = stdin.write_all(input).await;
    Ok(())
}

/// What is kept of a pipe.
struct Capture {
    bytes: Vec<u8>,
    limit: usize,
    /// Keep the last bytes and let go of earlier ones, rather than fail.
    only_the_end: bool,
}

impl Capture {
    fn beginning(limit: usize) -> Self {
        Self { bytes: Vec::new(), limit, only_the_end: false }
    }

    fn end(limit: usize) -> Self {
        Self { bytes: Vec::new(), limit, only_the_end: true }
    }

    /// Reads until the pipe ends.
    async fn listen(&mut self, pipe: &mut (impl AsyncRead + Unpin)) -> Result<(), Fault> {
        let mut chunk = [0; 4096];
        loop {
            match pipe.read(&mut chunk).await {
                Ok(0) | Err(_) => return Ok(()),
                Ok(n) => self.keep(&chunk[..n])?,
            }
        }
    }

    /// Reads what is in the pipe now. Its writer has ended; who else holds the
    /// pipe gets no more attention than what a pipe holds.
    fn drain(&mut self, pipe: impl AsFd) -> Result<(), Fault> {
        let mut chunk = [0; 4096];
        for _ in 0..(1 << 20) / chunk.len() {
            match rustix::io::read(&pipe, &mut chunk) {
                Ok(0) => return Ok(()),
                Ok(n) => self.keep(&chunk[..n])?,
                Err(rustix::io::Errno::INTR) => {}
                Err(_) => return Ok(()),
            }
        }
        Ok(())
    }

    fn keep(&mut self, chunk: &[u8]) -> Result<(), Fault> {
        self.bytes.extend_from_slice(chunk);
        let excess = self.bytes.len().saturating_sub(self.limit);
        if excess > 0 && !self.only_the_end {
            return Err(Fault::TooMuchOutput { limit: self.limit });
        }
        self.bytes.drain(..excess);
        Ok(())
    }
}

/// The specification's error result (section 5, "Error").
#[derive(Deserialize)]
struct Refusal {
    #[serde(default)]
    code: u64,
    msg: String,
    #[serde(default)]
    details: String,
}

fn judge(status: ExitStatus, output: Output) -> Result<Vec<u8>, Fault> {
    if status.success() {
        return Ok(output.stdout.bytes);
    }
    let stderr = one_line(&output.stderr.bytes);
    match serde_json::from_slice(&output.stdout.bytes) {
        Ok(Refusal { code, msg, details }) => Err(Fault::Refused {
            code,
            msg: excerpt(msg.as_bytes(), QUOTE),
            details: excerpt(details.as_bytes(), QUOTE),
            stderr,
        }),
        Err(_) => {
            let stdout = excerpt(&output.stdout.bytes, QUOTE);
            Err(Fault::Died { status, stdout, stderr })
        }
    }
}

/// A success whose answer makes no sense.
pub(crate) fn bad_result(why: String, stdout: &[u8]) -> Fault {
    Fault::BadResult { why, stdout: excerpt(stdout, QUOTE) }
}
