//! A berthd in a directory of its own, and clients for its sockets.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Output, Stdio};
use std::time::Duration;

use prost::Message;
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use tokio::net::UnixDatagram;
use tokio::process::{Child, Command};
use tonic::client::Grpc;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status};
use tonic_prost::ProstCodec;

/// Longest wait for anything that should happen at once.
const SOON: Duration = Duration::from_secs(20);

/// A directory with a configuration, in which a berthd can run.
pub(crate) struct Place {
    directory: TempDir,
    /// `sh` commands that run before berthd, in its process.
    before: String,
    environment: Vec<(&'static str, String)>,
}

/// Where cgroup version 2 is mounted: it may be beside version 1.
fn cgroup2() -> PathBuf {
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let mount = mounts.lines().find(|line| line.contains(" - cgroup2 "));
    mount.expect("cgroup version 2 to be mounted").split(' ').nth(4).unwrap().into()
}

impl Place {
    /// No pod is run here, so any program does as the shim. `extra` is appended to a configuration that keeps to the directory.
    pub(crate) fn new(extra: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        // Whoever runs the tests may own the sockets.
        let gid = fs::metadata(directory.path()).unwrap().gid();
        let path = directory.path().display();
        let config = format!(
            "version = 1\nroot = \"{path}/root\"\nstate = \"{path}/state\"\n\
             grpc.socket_gid = {gid}\nadmin.socket_gid = {gid}\n\
             cni.cache_dir = \"{path}/cni\"\nruntime.cgroup_root = \"{}\"\n\
             runtime.shim = \"/bin/true\"\n{extra}\n",
            cgroup2().display()
        );
        fs::write(directory.path().join("config.toml"), config).unwrap();
        Self { directory, before: String::new(), environment: Vec::new() }
    }

    pub(crate) fn before(self, command: &str) -> Self {
        Self { before: format!("{command}; "), ..self }
    }

    pub(crate) fn environment(mut self, name: &'static str, value: &str) -> Self {
        self.environment.push((name, value.to_owned()));
        self
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn command(&self) -> Command {
        let mut command = Command::new("sh");
        let script = format!("{}exec \"$0\" \"$@\"", self.before);
        command
            .args(["-c", &script, env!("CARGO_BIN_EXE_berthd"), "--config"])
            .arg(self.path("config.toml"))
            .env_remove("BERTH_LOG")
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .kill_on_drop(true);
        command
    }

    /// Starts berthd and waits until it says that it is ready.
    pub(crate) async fn start(&self) -> Berthd<'_> {
        let socket = self.path("notify.sock");
        let _ = fs::remove_file(&socket);
        let manager = UnixDatagram::bind(&socket).unwrap();
        let log = fs::File::create(self.path("log")).unwrap();
        let child = self.command().env("NOTIFY_SOCKET", &socket).stderr(log).spawn().unwrap();
        let mut berthd = Berthd { place: self, child, manager };
        berthd.notified("READY=1").await;
        berthd
    }

    /// Runs berthd where it is expected to end by itself.
    pub(crate) async fn fail(&self) -> Output {
        let output = self.command().stdout(Stdio::piped()).stderr(Stdio::piped()).output();
        tokio::time::timeout(SOON, output).await.expect("berthd should end").unwrap()
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.path("log")).unwrap()
    }
}

/// A running berthd.
pub(crate) struct Berthd<'a> {
    place: &'a Place,
    child: Child,
    manager: UnixDatagram,
}

impl Berthd<'_> {
    pub(crate) fn pid(&self) -> u32 {
        self.child.id().unwrap()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.pid()).ok().and_then(Pid::from_raw).unwrap();
        kill_process(pid, signal).unwrap();
    }

    pub(crate) async fn exit(mut self) -> ExitStatus {
        let exit = tokio::time::timeout(SOON, self.child.wait()).await;
        exit.unwrap_or_else(|_| panic!("berthd should exit: {}", self.place.log())).unwrap()
    }

    pub(crate) async fn stop(self) -> ExitStatus {
        self.signal(Signal::TERM);
        self.exit().await
    }

    /// Waits for a message to the service manager that has this line.
    pub(crate) async fn notified(&mut self, line: &str) {
        let mut buffer = [0; 4096];
        let heard = async {
            loop {
                let length = self.manager.recv(&mut buffer).await.unwrap();
                let message = String::from_utf8_lossy(&buffer[..length]).into_owned();
                if message.lines().any(|found| found == line) {
                    return;
                }
            }
        };
        tokio::select! {
            () = heard => {}
            exit = self.child.wait() => panic!("berthd ended with {exit:?}: {}", self.place.log()),
            () = tokio::time::sleep(SOON) => panic!("no {line}: {}", self.place.log()),
        }
    }

    pub(crate) fn cri(&self) -> Client {
        Client::new(&self.place.path("state/berth.sock"))
    }

    pub(crate) fn admin(&self) -> Client {
        Client::new(&self.place.path("state/admin.sock"))
    }
}

/// A gRPC client without generated code: a method is a path. It connects when
/// it is used, and again when it has lost its connection.
pub(crate) struct Client(Grpc<Channel>);

impl Client {
    fn new(socket: &Path) -> Self {
        let endpoint = Endpoint::from_shared(format!("unix://{}", socket.display())).unwrap();
        Self(Grpc::new(endpoint.connect_lazy()))
    }

    /// Calls `service/Method`.
    pub(crate) async fn call<Req, Res>(
        &mut self,
        method: &'static str,
        request: Req,
    ) -> Result<Res, Status>
    where
        Req: Message + 'static,
        Res: Message + Default + 'static,
    {
        self.0.ready().await.map_err(|error| Status::unavailable(error.to_string()))?;
        let path = tonic::codegen::http::uri::PathAndQuery::from_static(method);
        let codec = ProstCodec::<Req, Res>::default();
        let response = self.0.unary(Request::new(request), path, codec).await?;
        Ok(response.into_inner())
    }
}
