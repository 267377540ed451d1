//! Making shims, and finding those of an earlier berthd again.

use std::fs;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use tokio::process::{Child, Command};
use tokio_util::task::TaskTracker;

use crate::client::ShimClient;
use crate::error::{Error, Storing as _};
use crate::record::make_private_directory;
use crate::shim::{EXITS, HOLD, TRY_MAPPING};
use crate::socket;
use crate::sys::image::Image;

/// How long a trial may take.
const TRIAL: Duration = Duration::from_secs(10);

/// Starts shims from a sealed copy of their program in memory.
#[derive(Clone, Debug)]
pub struct Launcher {
    image: Arc<Image>,
    tasks: TaskTracker,
}

impl Launcher {
    /// Loads the shim's program.
    ///
    /// # Errors
    /// If the program cannot be read, or the kernel has no memory files.
    pub fn load(program: &Path, tasks: TaskTracker) -> Result<Self, Error> {
        let bytes = fs::read(program).storing("read the shim", program)?;
        let image = Image::new("berth-shim", &bytes).storing("load the shim", program)?;
        image.keep_resident().storing("map the shim", program)?;
        Ok(Self { image: Arc::new(image), tasks })
    }

    /// Starts a shim that lives in `directory`, which is made.
    ///
    /// The directory is on record before this is called; removing it is the caller's.
    ///
    /// # Errors
    /// If the directory or the process cannot be made.
    pub fn spawn(&self, directory: &Path) -> Result<ShimClient, Error> {
        make_private_directory(&directory.join(EXITS))?;
        let (ours, theirs) = socket::pair().storing("connect a shim in", directory)?;
        let log = directory.join("shim.log");
        let mut options = fs::File::options();
        options.create(true).append(true).mode(0o600);
        let log = options.open(&log).storing("open", &log)?;
        // No closure runs between fork and exec, so that the standard library takes
        // posix_spawn, which does not copy page tables.
        let mut command = Command::new(format!("/proc/self/fd/{}", self.image.as_raw_fd()));
        command.arg0("berth-shim").arg(directory).env_clear();
        command.stdin(theirs).stdout(Stdio::null()).stderr(log);
        let mut child = command.spawn().storing("start a shim in", directory)?;
        let connected = ShimClient::new(directory, ours).storing("connect a shim in", directory);
        let (client, listener) = connected?;
        self.tasks.spawn(async move {
            listener.listen().await;
            // Reaps it; it closed its connection because it ends.
            let _ = child.wait().await;
        });
        Ok(client)
    }

    /// Starts a process that does nothing, to hold a cgroup that must not be empty.
    ///
    /// # Errors
    /// If the process cannot be made.
    pub fn hold(&self) -> Result<Holder, Error> {
        let mut command = Command::new(format!("/proc/self/fd/{}", self.image.as_raw_fd()));
        command.arg0("berth-hold").arg(HOLD).env_clear();
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        let child = command.spawn().storing("start", "a process that holds a cgroup")?;
        Ok(Holder(child))
    }

    /// Tries whether containers with user namespaces can have the image layers below `layers`;
    /// says why not. `attach` is an existing directory.
    ///
    /// # Errors
    /// Why they cannot.
    pub async fn try_mapping(&self, layers: &Path, attach: &Path) -> Result<(), String> {
        let mut command = Command::new(format!("/proc/self/fd/{}", self.image.as_raw_fd()));
        command.arg0("berth-try").arg(TRY_MAPPING).arg(layers).arg(attach).env_clear();
        command.stdin(Stdio::null()).kill_on_drop(true);
        let tried = tokio::time::timeout(TRIAL, command.output()).await;
        let tried = tried.map_err(|_| format!("no answer within {} s", TRIAL.as_secs()))?;
        let tried = tried.map_err(|error| format!("start the trial: {error}"))?;
        match tried.status.success() {
            true => Ok(()),
            false => Err(String::from_utf8_lossy(&tried.stderr).trim().to_owned()),
        }
    }

    /// Connects to the shim that lives in `directory`; one that is gone answers so.
    ///
    /// # Errors
    /// If there is one that cannot be connected to.
    pub fn adopt(&self, directory: &Path) -> Result<ShimClient, Error> {
        let found = ShimClient::connect(directory).storing("connect to the shim in", directory)?;
        match found {
            Some((client, listener)) => {
                self.tasks.spawn(listener.listen());
                Ok(client)
            }
            None => ShimClient::absent(directory).storing("stand in for the shim in", directory),
        }
    }
}

/// A process that does nothing. It ends when it is let go, and with whoever has started it.
#[derive(Debug)]
pub struct Holder(Child);

impl Holder {
    /// Its PID.
    pub fn pid(&self) -> u32 {
        self.0.id().unwrap_or_default()
    }

    /// Has it end, and returns when it is in no cgroup any more.
    pub async fn let_go(mut self) {
        drop(self.0.stdin.take());
        // It ends with its input; that there is nothing to wait for is as good.
        let _ = self.0.wait().await;
    }
}
