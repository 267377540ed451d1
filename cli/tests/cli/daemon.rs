//! A daemon that follows a script and remembers what it was asked.

mod services;

use std::path::Path;
use std::process::{Command, Output};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;

use tempfile::TempDir;
use tokio::net::UnixListener;
use tokio::sync::{oneshot, watch};
use tokio_stream::wrappers::UnixListenerStream;
use tonic::transport::Server;

use admin::admin_server::AdminServer;
use runtime::image_service_server::ImageServiceServer;
use runtime::runtime_service_server::RuntimeServiceServer;

pub(crate) mod runtime {
    #![allow(clippy::all, clippy::too_many_lines, reason = "generated")]
    #![allow(dead_code, unreachable_pub, reason = "generated")]
    include!(concat!(env!("OUT_DIR"), "/server/runtime.v1.rs"));
}

pub(crate) mod admin {
    #![allow(clippy::all, clippy::too_many_lines, reason = "generated")]
    #![allow(dead_code, unreachable_pub, reason = "generated")]
    include!(concat!(env!("OUT_DIR"), "/server/berth.admin.v1.rs"));
}

/// What the daemon has, and what its one container does.
#[derive(Debug, Default)]
pub(crate) struct Script {
    pub(crate) pods: Vec<runtime::PodSandbox>,
    pub(crate) containers: Vec<runtime::Container>,
    /// Why StartContainer fails, if it does.
    pub(crate) start_fails: Option<&'static str>,
    /// StartContainer takes until [`Daemon::go_on`].
    pub(crate) start_waits: bool,
    /// What the container writes.
    pub(crate) log: Vec<admin::LogLine>,
    /// It ends by itself; otherwise by being stopped.
    pub(crate) ends: bool,
    /// It ends only when it is killed.
    pub(crate) stubborn: bool,
    pub(crate) exit_code: i32,
    pub(crate) exec: runtime::ExecSyncResponse,
    pub(crate) pull: Vec<admin::pull_response::Event>,
    pub(crate) audit: Vec<admin::audit_response::Event>,
}

/// What the services share.
#[derive(Debug)]
pub(crate) struct State {
    script: Script,
    asked: Mutex<Vec<String>>,
    asked_more: Condvar,
    goes_on: watch::Sender<bool>,
    /// What was imported, once it is whole.
    imported: Mutex<Option<Vec<u8>>>,
    ended: watch::Sender<bool>,
}

impl State {
    fn asked(&self, what: impl Into<String>) {
        self.asked.lock().unwrap().push(what.into());
        self.asked_more.notify_all();
    }

    /// Waits for the end of the container.
    fn has_ended(&self) -> impl Future<Output = ()> + use<> {
        is_true(self.ended.subscribe())
    }

    /// Waits until starting may go on.
    async fn may_start(&self) {
        if self.script.start_waits {
            is_true(self.goes_on.subscribe()).await;
        }
    }
}

async fn is_true(mut value: watch::Receiver<bool>) {
    let _ = value.wait_for(|value| *value).await;
}

/// A daemon in a thread of its own, with its sockets in a directory of its own.
pub(crate) struct Daemon {
    directory: TempDir,
    state: Arc<State>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Daemon {
    /// Starts one; when this returns it listens.
    pub(crate) fn start(script: Script) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let ended = watch::Sender::new(script.ends);
        let state = Arc::new(State {
            script,
            asked: Mutex::default(),
            asked_more: Condvar::new(),
            goes_on: watch::Sender::new(false),
            imported: Mutex::default(),
            ended,
        });
        let (stop, stopped) = oneshot::channel();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let serving = {
            let _guard = runtime.enter();
            serve(directory.path(), Arc::clone(&state), stopped)
        };
        let thread = std::thread::spawn(move || runtime.block_on(serving));
        Self { directory, state, stop: Some(stop), thread: Some(thread) }
    }

    /// A command line that is for this daemon.
    pub(crate) fn berth(&self, words: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_berth"));
        command.env_clear().args(words);
        command.arg("--address").arg(self.directory.path().join("cri.sock"));
        command.arg("--admin-address").arg(self.directory.path().join("admin.sock"));
        command
    }

    /// The same for `run` and `exec`, where what follows the image is the container's.
    pub(crate) fn berth_with(&self, options: &[&str], words: &[&str]) -> Command {
        let mut command = self.berth(options);
        command.args(words);
        command
    }

    /// What it was asked to change, in order.
    pub(crate) fn asked(&self) -> Vec<String> {
        self.state.asked.lock().unwrap().clone()
    }

    /// Waits until it is asked something that begins with these words.
    pub(crate) fn wait_for(&self, words: &str) {
        let State { asked, asked_more, .. } = &*self.state;
        let not_yet = |asked: &mut Vec<String>| !asked.iter().any(|what| what.starts_with(words));
        drop(asked_more.wait_while(asked.lock().unwrap(), not_yet).unwrap());
    }

    /// Lets a start go on that waits.
    pub(crate) fn go_on(&self) {
        self.state.goes_on.send_replace(true);
    }

    /// The archive that was imported, if it came to its end.
    pub(crate) fn imported(&self) -> Option<Vec<u8>> {
        self.state.imported.lock().unwrap().clone()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

fn serve(
    directory: &Path,
    state: Arc<State>,
    stopped: oneshot::Receiver<()>,
) -> impl Future<Output = ()> + use<> {
    let listen = |name| UnixListener::bind(directory.join(name)).unwrap();
    let (cri, admin) = (listen("cri.sock"), listen("admin.sock"));
    let cri = Server::builder()
        .add_service(RuntimeServiceServer::from_arc(Arc::clone(&state)))
        .add_service(ImageServiceServer::from_arc(Arc::clone(&state)))
        .serve_with_incoming(UnixListenerStream::new(cri));
    let admin = Server::builder()
        .add_service(AdminServer::from_arc(state))
        .serve_with_incoming(UnixListenerStream::new(admin));
    async move {
        tokio::select! {
            served = cri => served.unwrap(),
            served = admin => served.unwrap(),
            _ = stopped => {}
        }
    }
}

/// What a command printed, as text.
pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// Runs a command to its end.
pub(crate) fn output(mut command: Command) -> Output {
    command.output().unwrap()
}
