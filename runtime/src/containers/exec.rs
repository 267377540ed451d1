//! Running a command in a container and waiting for its end.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use std::sync::PoisonError;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::AsyncReadExt as _;
use tokio::net::unix::pipe::{self, Receiver};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::client::{Ending, Running};
use crate::error::{Error, Storing as _};
use crate::protocol::{GivenStreams, PidNamespace, Start, Streams};
use crate::spec;

use super::{Container, ContainerSpec, Containers, State};

/// Output beyond this is read and dropped. It is for both streams together: the answer has to fit
/// into a message of gRPC, and for those the kubelet's limit is 16 MiB.
const OUTPUT_MAX: usize = (16 << 20) - (64 << 10);

/// How long the answer waits for a killed command to be gone.
const DEATH: Duration = Duration::from_millis(500);

/// A command to run.
#[derive(Clone, Debug)]
pub struct ExecSpec {
    /// Program and arguments.
    pub args: Vec<String>,
    /// How long it may run; for ever if absent.
    pub timeout: Option<Duration>,
    /// Fires when nobody waits for it any more; it is killed then.
    pub cancel: CancellationToken,
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExecOutput {
    /// Standard output, as much as came before there were 16 MiB of both.
    pub stdout: Vec<u8>,
    /// Standard error, likewise.
    pub stderr: Vec<u8>,
    /// Exit code; 128 plus the signal if a signal ended it.
    pub code: i32,
}

/// What is started, and how soon.
pub(super) struct Asked<'a> {
    pub(super) name: &'a str,
    pub(super) args: Vec<String>,
    pub(super) within: Duration,
}

/// An exec has a cgroup of its own below the container's, so that all of it can be killed.
struct Place {
    key: String,
    name: String,
    cgroup: crate::cgroup::CgroupPath,
}

impl Containers {
    /// Runs a command in a running container, without input, and collects its output.
    ///
    /// Each step is told to `stage` as it begins. The answer waits for the command's first process, and then a bounded while for children
    /// that still hold its output. A command that is out of time is killed with its children.
    ///
    /// # Errors
    /// [`Error::WrongState`] unless the container runs, [`Error::Start`] if the command cannot
    /// be executed, [`Error::Deadline`] if it is out of time.
    pub async fn exec_sync(
        &self,
        id: &str,
        exec: ExecSpec,
        stage: impl Fn(&'static str),
    ) -> Result<ExecOutput, Error> {
        let container = self.get(id)?;
        let state = container.state();
        if !matches!(state, State::Running { .. }) {
            let (id, state) = (id.to_owned(), state.name());
            return Err(Error::WrongState { id, state, verb: "execute in it" });
        }
        let place = self.exec_place(&container)?;
        let output = self.run_exec(&container, &place, exec, &stage).await;
        stage("clean up");
        // What the command left running stays, as with the field's runtimes, in its cgroup,
        // which goes with the container's.
        self.0.hierarchy.remove_if_unused(&place.cgroup);
        if let Err(error) = container.shim.forget(&place.key).await {
            tracing::debug!(container = id, %error, "forget an exec, ignoring");
        }
        output
    }

    async fn run_exec(
        &self,
        container: &Container,
        place: &Place,
        exec: ExecSpec,
        stage: impl Fn(&'static str),
    ) -> Result<ExecOutput, Error> {
        stage("cgroup");
        let begun = Instant::now();
        let deadline = exec.timeout.map(|timeout| (timeout, begun + timeout));
        self.0.hierarchy.create_below_processes(&place.cgroup)?;
        let cgroup = self.0.hierarchy.open_cgroup(&place.cgroup)?;
        let (stdout, childs_stdout) = output_pipe().storing("make", "a pipe")?;
        let (stderr, childs_stderr) = output_pipe().storing("make", "a pipe")?;
        let start = Start {
            key: place.key.clone(),
            cgroup: 1,
            members: vec![container.spec.id.clone()],
            streams: Some(Streams::Given(GivenStreams {
                stdin: None,
                stdout: Some(2),
                stderr: Some(3),
            })),
            ..Start::default()
        };
        let descriptors = [cgroup, childs_stdout, childs_stderr];
        let borrowed = descriptors.each_ref().map(AsFd::as_fd);
        let within = self.0.settings.start_within;
        let within = deadline.map_or(within, |(timeout, _)| timeout.min(within));
        let asked = Asked { name: &place.name, args: exec.args, within };
        stage("program");
        let started = self.start_exec(container, start, asked, &borrowed).await;
        // Our copies of the write ends: while they are open the output does not end.
        drop(descriptors);
        let mut ending = started?.ending;
        stage("output");
        let collected = collect(stdout, stderr, &mut ending, self.0.settings.drain_within);
        let out_of_time = async {
            match deadline {
                Some((timeout, at)) => {
                    tokio::time::sleep_until(at).await;
                    timeout
                }
                None => std::future::pending().await,
            }
        };
        let (attempt, after) = tokio::select! {
            collected = collected => return collected.ok_or_else(|| lost(container)),
            timeout = out_of_time => ("execute the command", timeout),
            () = exec.cancel.cancelled() => ("execute a command that nobody waits for", begun.elapsed()),
        };
        self.kill_exec(container, place).await?;
        // A killed process goes at once, unless it sleeps in the kernel.
        let _ = tokio::time::timeout(DEATH, &mut ending).await;
        Err(Error::Deadline { attempt: attempt.to_owned(), after })
    }

    async fn start_exec(
        &self,
        container: &Container,
        start: Start,
        asked: Asked<'_>,
        descriptors: &[BorrowedFd<'_>],
    ) -> Result<Running, Error> {
        if let Some(runtime) = &container.spec.runtime {
            return self.start_foreign_exec(container, runtime, start, asked, descriptors).await;
        }
        let ContainerSpec { oci, env, .. } = &container.spec;
        let best_effort = self.0.settings.oom_score_adj_best_effort;
        let mut process = oci.process().clone().unwrap_or_default();
        process.set_args(Some(asked.args)).set_terminal(Some(false));
        let first = match container.state() {
            State::Running { pid, .. } => Some(pid),
            _ => None,
        };
        let seccomp = container.spec.seccomp(&self.0.filters, first);
        let mut plan = spec::exec(oci, &process, env.clone(), best_effort, &seccomp)?;
        if let Some(process) = &mut plan.process {
            process.keyring = spec::session_keyring(&container.spec.id);
        }
        let start = Start { pid_namespace: Some(PidNamespace::Of(0)), ..start };
        container.shim.start(start, &plan, descriptors, asked.within).await
    }

    /// Kills the command with its children; where a foreign runtime could not start it in its
    /// own cgroup, the command alone.
    async fn kill_exec(&self, container: &Container, place: &Place) -> Result<(), Error> {
        self.0.hierarchy.kill(&place.cgroup)?;
        if container.spec.runtime.is_some() {
            container.shim.signal(&place.key, libc::SIGKILL).await?;
        }
        Ok(())
    }

    /// A key that no earlier exec of the container had, not even one of an earlier berthd.
    fn exec_place(&self, container: &Container) -> Result<Place, Error> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let now = u64::try_from(now.as_nanos()).unwrap_or(u64::MAX);
        let mut last = self.0.execs.lock().unwrap_or_else(PoisonError::into_inner);
        *last = now.max(*last + 1);
        let name = format!("exec-{:x}", *last);
        let cgroup = container.spec.cgroup.child(&name)?;
        Ok(Place { key: format!("{}-{name}", container.spec.id), name, cgroup })
    }
}

fn output_pipe() -> io::Result<(Receiver, OwnedFd)> {
    let (sender, receiver) = pipe::pipe()?;
    Ok((receiver, sender.into_blocking_fd()?))
}

fn lost(container: &Container) -> Error {
    Error::Shim {
        attempt: "wait for a command",
        shim: container.spec.sandbox.clone(),
        cause: "is gone".to_owned(),
    }
}

/// Reads both streams until they end, or until `drain` after the process has ended.
async fn collect(
    mut stdout: Receiver,
    mut stderr: Receiver,
    ending: &mut crate::client::Watch,
    drain: Duration,
) -> Option<ExecOutput> {
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let left = AtomicUsize::new(OUTPUT_MAX);
    let code = {
        let read = async {
            tokio::join!(
                read_capped(&mut stdout, &mut out, &left),
                read_capped(&mut stderr, &mut err, &left)
            )
        };
        tokio::pin!(read);
        let mut code = None;
        tokio::select! {
            _ = &mut read => {}
            ended = &mut *ending => {
                code = Some(ended);
                // Children may hold the pipes for as long as they like: what they write later
                // is not the command's.
                let _ = tokio::time::timeout(drain, &mut read).await;
            }
        }
        match code {
            Some(code) => code,
            None => (&mut *ending).await,
        }
    };
    match code {
        Ok(Ending::Exited(exit)) => Some(ExecOutput { stdout: out, stderr: err, code: exit.code }),
        _ => None,
    }
}

/// Reads to the end; what there is no room `left` for is dropped.
async fn read_capped(from: &mut Receiver, to: &mut Vec<u8>, left: &AtomicUsize) {
    let mut chunk = vec![0; 32 << 10];
    while let Ok(count) = from.read(&mut chunk).await {
        if count == 0 {
            break;
        }
        let room = left.load(Ordering::Relaxed).min(count);
        // Both readers are one task: nobody comes between.
        left.fetch_sub(room, Ordering::Relaxed);
        to.extend_from_slice(&chunk[..room]);
    }
}
