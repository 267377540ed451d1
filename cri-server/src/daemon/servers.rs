//! What listens: the CRI, the admin service, the metrics.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::error::Error;
use crate::node::Node;

use super::grpc;
use super::socket::{Socket, SocketFile};

/// The servers of one daemon.
pub(super) struct Servers {
    tasks: JoinSet<Result<(), Error>>,
    /// Removed when the servers are gone.
    _files: Vec<SocketFile>,
}

impl Servers {
    /// Opens every listener, and only then serves: who can connect to one can
    /// connect to all.
    pub(super) async fn start(node: &Arc<Node>) -> Result<Self, Error> {
        let config = &node.loaded.config;
        let (grpc, admin) = (&config.grpc, &config.admin);
        let cri = Socket::bind(&grpc.socket, grpc.socket_mode, grpc.socket_gid).await?;
        let admin = Socket::bind(&admin.socket, admin.socket_mode, admin.socket_gid).await?;
        let metrics = match config.metrics.listen {
            Some(address) => Some((address, listen(address).await?)),
            None => None,
        };

        let mut tasks = JoinSet::new();
        let mut files = Vec::new();
        for (socket, routes) in [(cri, grpc::cri(node)), (admin, grpc::admin(node))] {
            tasks.spawn(grpc::serve(socket.listener, routes, node.stopping.clone()));
            files.push(socket.file);
        }
        if let Some((address, listener)) = metrics {
            let stopped = node.stopping.clone().cancelled_owned();
            let server = berth_metrics::serve(listener, node.metrics.clone(), stopped);
            tasks.spawn(async move {
                server.await.map_err(|source| Error::Serve {
                    address: address.to_string(),
                    source: source.into(),
                })
            });
        }
        Ok(Self { tasks, _files: files })
    }

    /// Waits for a server to end by itself, which none should.
    pub(super) async fn failed(&mut self) -> Error {
        let ended = self.tasks.join_next().await;
        let address = "a listener".to_owned();
        match ended {
            Some(Ok(Err(error))) => error,
            Some(Err(panic)) => Error::Serve { address, source: panic.into() },
            Some(Ok(Ok(()))) | None => Error::Serve { address, source: "it ended".into() },
        }
    }

    /// Accepts nothing more, lets operations end and their clients be
    /// answered, within `[timeouts] shutdown`.
    pub(super) async fn stop(mut self, node: &Node) {
        let limit = node.loaded.config.timeouts.shutdown.get();
        let deadline = Instant::now() + limit;
        node.stopping.cancel();
        for left in node.ops.drain(limit).await {
            let stage = left.stages.last().map(|stage| stage.name.as_str());
            tracing::warn!(operation = left.id, "{} left to the next start at {stage:?}", left.key);
        }
        let closed = async { while self.tasks.join_next().await.is_some() {} };
        if tokio::time::timeout_at(deadline, closed).await.is_err() {
            tracing::warn!(?limit, "clients did not close their connections, closing them");
        }
    }
}

async fn listen(address: SocketAddr) -> Result<TcpListener, Error> {
    let failed = |source| Error::Listen { address: address.to_string(), source };
    TcpListener::bind(address).await.map_err(failed)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::MetadataExt;
    use std::path::PathBuf;
    use std::time::Duration;

    use berth_metrics::{Build, Metrics};
    use tokio::sync::oneshot;
    use tokio_util::task::TaskTracker;
    use tonic::client::Grpc;
    use tonic::codegen::http::uri::PathAndQuery;
    use tonic::transport::Endpoint;

    use super::*;
    use crate::api::admin::{OperationsRequest, OperationsResponse};
    use crate::config::{Config, Loaded};
    use crate::ops::{Handle, Key, Operation};

    async fn node(directory: &tempfile::TempDir) -> Arc<Node> {
        let gid = fs::metadata(directory.path()).unwrap().gid();
        let mut config = Config::default();
        config.dirs.root = directory.path().join("root");
        config.dirs.state = directory.path().join("state");
        config.grpc.socket = directory.path().join("berth.sock");
        config.admin.socket = directory.path().join("admin.sock");
        (config.grpc.socket_gid, config.admin.socket_gid) = (gid, gid);
        config.cni.cache_dir = directory.path().join("cni");
        config.runtime.cgroup_root = cgroup2();
        // No pod is run here: any program does.
        config.runtime.shim = Some("/bin/true".into());
        let loaded =
            Loaded { config, origins: Default::default(), warnings: Vec::new(), files: Vec::new() };
        let metrics = Metrics::new(Build { version: "", revision: "", rustc: "" }).unwrap();
        Arc::new(Node::open(loaded, metrics).await.unwrap())
    }

    /// Where cgroup version 2 is mounted: it may be beside version 1.
    fn cgroup2() -> PathBuf {
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        let mount = mounts.lines().find(|line| line.contains(" - cgroup2 "));
        mount.expect("cgroup version 2 to be mounted").split(' ').nth(4).unwrap().into()
    }

    async fn operations(node: &Node) -> OperationsResponse {
        let socket = node.loaded.config.admin.socket.display();
        let endpoint = Endpoint::from_shared(format!("unix://{socket}")).unwrap();
        let mut client = Grpc::new(endpoint.connect().await.unwrap());
        client.ready().await.unwrap();
        let path = PathAndQuery::from_static("/berth.admin.v1.Admin/Operations");
        let codec = tonic_prost::ProstCodec::default();
        let request = tonic::Request::new(OperationsRequest::default());
        client.unary(request, path, codec).await.unwrap().into_inner()
    }

    #[tokio::test]
    async fn an_operation_in_flight_is_listed_and_ends_before_the_servers_do() {
        let directory = tempfile::tempdir().unwrap();
        let node = node(&directory).await;
        let servers = Servers::start(&node).await.unwrap();
        let tasks = TaskTracker::new();
        let (finish, finished) = oneshot::channel::<()>();
        let (began, begun) = oneshot::channel();
        let work = async move |handle: Handle| {
            handle.stage("network add");
            began.send(()).unwrap();
            finished.await.unwrap();
            Ok("s1")
        };
        let operation =
            Operation::new(Key::new("RunPodSandbox", "default/web"), Duration::from_secs(60));
        let ops = node.ops.clone();
        let client = tasks.spawn(async move { ops.run(operation, work).await });
        begun.await.unwrap();

        let listed = operations(&node).await.operations;
        let node_that_stops = Arc::clone(&node);
        let stop = tasks.spawn(async move { servers.stop(&node_that_stops).await });
        finish.send(()).unwrap();

        assert_eq!((listed.len(), listed[0].waiting), (1, 1));
        assert_eq!(listed[0].name, "RunPodSandbox");
        assert_eq!(listed[0].stages[0].name, "network add");
        assert_eq!(client.await.unwrap().unwrap(), "s1");
        stop.await.unwrap();
        assert!(!node.loaded.config.grpc.socket.exists());
    }
}
