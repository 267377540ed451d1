//! The life of berthd: what is claimed and opened, in which order, and how it
//! is given back.
//!
//! ```text
//! directories, locks ─► node ─► sockets ─► READY ─► serve
//!                                                     │ SIGTERM, SIGINT
//!   exit 0 ◄─ sockets removed ◄─ operations end ◄─ no new ones
//! ```
//!
//! No container is touched on the way out: their processes belong to their
//! shims. Operations that do not end within `[timeouts] shutdown` are left to
//! the next start, which finds them by their records; a second signal leaves
//! them at once.

mod accept;
mod directories;
mod grpc;
mod lock;
mod servers;
mod signals;
mod socket;
mod systemd;

use std::sync::Arc;

use berth_metrics::{Build, Metrics};
use tokio::task::JoinSet;

use crate::about;
use crate::config::Loaded;
use crate::error::Error;
use crate::node::Node;

use servers::Servers;
use signals::Signals;

/// Threads that run tasks. berthd waits most of its time; what computes
/// (digests, inflating) runs on blocking threads, and the node's processors
/// are there for the containers.
const WORKERS: usize = 2;

/// Runs the daemon until it is told to stop.
///
/// # Errors
/// When it cannot start, when a server ends by itself, and
/// [`Error::Interrupted`] when it is told to stop twice.
pub fn run(loaded: Loaded) -> Result<(), Error> {
    #[cfg(feature = "failpoints")]
    crate::failpoints::arm();
    for warning in &loaded.warnings {
        tracing::warn!("{warning}");
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(WORKERS)
        .thread_name("berthd")
        .enable_all()
        .build()
        .map_err(Error::set_up("the runtime"))?;
    let result = runtime.block_on(live(loaded));
    // What still runs is left: a thread that hangs in a file system must not
    // hold up the exit.
    runtime.shutdown_background();
    result
}

async fn live(loaded: Loaded) -> Result<(), Error> {
    let signals = Signals::listen()?;
    let dirs = &loaded.config.dirs;
    directories::prepare(dirs)?;
    let _locks = lock::take(dirs)?;

    let build = Build { version: about::VERSION, revision: about::REVISION, rustc: about::RUSTC };
    let metrics = Metrics::new(build).map_err(Error::set_up("the metrics"))?;
    let node = Arc::new(Node::open(loaded, metrics).await?);
    let servers = Servers::start(&node).await?;
    // A task of the workers, so that it tells of them; it ends with this scope.
    let mut watchdog = JoinSet::new();
    watchdog.spawn(systemd::watchdog(node.ops.clone()));
    let served = serve(&node, signals, servers).await;
    node.close().await;
    served
}

async fn serve(node: &Node, mut signals: Signals, mut servers: Servers) -> Result<(), Error> {
    let socket = node.loaded.config.grpc.socket.display();
    tracing::info!(version = about::VERSION, revision = about::REVISION, %socket, "serving");
    systemd::ready(&format!("serving on {socket}"));

    let signal = tokio::select! {
        signal = signals.next() => signal,
        error = servers.failed() => return Err(error),
    };
    let running = node.ops.list().len();
    tracing::info!(signal, running, "stopping");
    systemd::stopping(&format!("{signal}: waiting for {running} operations"));
    tokio::select! {
        () = servers.stop(node) => Ok(()),
        _ = signals.next() => Err(Error::Interrupted { running: node.ops.list().len() }),
    }
}
