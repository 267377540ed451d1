//! berthd's end of the connection to a shim.
//!
//! One task per shim reads what it tells: answers go to who asked, exits to who watches the
//! process. Whoever watches hears one [`Ending`], also if the shim dies without a word.

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use fail::fail_point;
use prost::Message;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::oneshot;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::error::Error;
use crate::protocol::{
    Exit, FromShim, Greeting, MAX_PACKET, Request, Signal, Start, Started, Tidings, ToShim, VERSION,
};
use crate::shim::{EXITS, SOCKET};
use crate::socket::{self, Packet};
use crate::sys::watch::watch;

/// How long a shim may take for an answer that needs no work. It has one thread, which waits
/// for nothing but the disk that logs are on.
const PATIENCE: Duration = Duration::from_secs(20);

/// What is attempted by who waits for the start of a process.
const START: &str = "start a process";

/// The end of a process, as its watcher learns of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ending {
    /// The shim saw it.
    Exited(Exit),
    /// The shim is gone, and has left no record: nobody knows.
    Lost,
}

/// Resolves when the process has ended.
pub type Watch = oneshot::Receiver<Ending>;

/// A process that has just been started.
#[derive(Debug)]
pub struct Running {
    /// Its PID and when it was executed.
    pub started: Started,
    /// A descriptor of the process.
    pub pidfd: Option<OwnedFd>,
    /// Resolves when it has ended.
    pub ending: Watch,
}

/// A connection to a shim; clones share it, and it is closed with the last of them.
#[derive(Clone, Debug)]
pub struct ShimClient {
    inner: Arc<Inner>,
    _open: Arc<DropGuard>,
}

/// Reads what a shim tells; does not keep the connection open by itself.
#[derive(Debug)]
pub(crate) struct Listener {
    inner: Arc<Inner>,
    closed: CancellationToken,
}

#[derive(Debug)]
struct Inner {
    name: String,
    directory: PathBuf,
    socket: AsyncFd<OwnedFd>,
    number: AtomicU64,
    waiting: Mutex<Waiting>,
    gone: CancellationToken,
}

#[derive(Debug, Default)]
struct Waiting {
    answers: HashMap<u64, oneshot::Sender<(Tidings, Option<OwnedFd>)>>,
    endings: HashMap<String, oneshot::Sender<Ending>>,
}

impl ShimClient {
    /// Takes over a connected socket; the listener must then be run as a task.
    pub(crate) fn new(directory: &Path, socket: OwnedFd) -> io::Result<(Self, Listener)> {
        let flags = rustix::fs::fcntl_getfl(&socket)? | rustix::fs::OFlags::NONBLOCK;
        rustix::fs::fcntl_setfl(&socket, flags)?;
        let interest = Interest::READABLE | Interest::WRITABLE;
        let inner = Arc::new(Inner {
            name: directory.file_name().unwrap_or_default().to_string_lossy().into_owned(),
            directory: directory.to_owned(),
            socket: watch(socket, interest)?,
            number: AtomicU64::new(1),
            waiting: Mutex::default(),
            gone: CancellationToken::new(),
        });
        let closed = CancellationToken::new();
        let listener = Listener { inner: Arc::clone(&inner), closed: closed.clone() };
        Ok((Self { inner, _open: Arc::new(closed.drop_guard()) }, listener))
    }

    /// Connects to a shim that runs already; `None` if none listens there.
    pub(crate) fn connect(directory: &Path) -> io::Result<Option<(Self, Listener)>> {
        match socket::connect_in(directory, SOCKET) {
            Ok(socket) => Self::new(directory, socket).map(Some),
            Err(error) if is_absence(&error) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Stands for a shim that is gone.
    pub(crate) fn absent(directory: &Path) -> io::Result<Self> {
        let (ours, _) = socket::pair()?;
        let (client, _) = Self::new(directory, ours)?;
        client.inner.gone.cancel();
        Ok(client)
    }

    /// Asks what the shim is and what runs in it.
    ///
    /// # Errors
    /// If the shim is gone or speaks another version of the protocol.
    pub async fn greet(&self) -> Result<Greeting, Error> {
        match self.ask("greet", Request::Hello(VERSION), &[], PATIENCE).await? {
            (Tidings::Greeting(greeting), _) if greeting.version == VERSION => Ok(greeting),
            (Tidings::Greeting(greeting), _) => {
                Err(self.error("greet", format!("speaks protocol version {}", greeting.version)))
            }
            _ => Err(self.nonsense("greet")),
        }
    }

    /// Makes a process and waits until its program runs.
    ///
    /// `descriptors` are the handles after those of `start.members`. `start.plan` is filled in
    /// here: the plan (or the errand, if `start.foreign`) travels in a memory file behind them.
    ///
    /// # Errors
    /// [`Error::Start`] with the step that failed, [`Error::Deadline`] if the child does not get
    /// there in time (it may still: the caller kills its cgroup), or a failure of the shim.
    pub async fn start(
        &self,
        mut start: Start,
        plan: &impl Message,
        descriptors: &[BorrowedFd<'_>],
        within: Duration,
    ) -> Result<Running, Error> {
        let file = memory_file(plan).map_err(|error| self.error("start", error.to_string()))?;
        let before = start.members.len() + descriptors.len();
        start.plan = u32::try_from(before).unwrap_or(u32::MAX);
        let mut all = descriptors.to_vec();
        all.push(file.as_fd());
        let key = start.key.clone();
        self.hear_of_start(&key, Request::Start(start), &all, within).await
    }

    /// Waits for what becomes of a process whose start somebody else has asked for.
    ///
    /// # Errors
    /// As those of [`start`](Self::start); a process that has ended by now, or that the shim does
    /// not know, is one that could not be started.
    pub async fn attend(&self, key: &str, within: Duration) -> Result<Running, Error> {
        self.hear_of_start(key, Request::Attend(key.to_owned()), &[], within).await
    }

    async fn hear_of_start(
        &self,
        key: &str,
        request: Request,
        descriptors: &[BorrowedFd<'_>],
        within: Duration,
    ) -> Result<Running, Error> {
        let ending = self.watch(key);
        match self.ask(START, request, descriptors, within).await {
            Ok((Tidings::Started(started), pidfd)) => Ok(Running { started, pidfd, ending }),
            other => {
                self.inner.waiting().endings.remove(key);
                Err(other.map_or_else(|error| error, |_| self.nonsense(START)))
            }
        }
    }

    /// Watches for the end of a process that runs already.
    pub fn watch(&self, key: &str) -> Watch {
        let (sender, receiver) = oneshot::channel();
        self.inner.waiting().endings.insert(key.to_owned(), sender);
        if self.inner.gone.is_cancelled() {
            self.inner.abandon();
        }
        receiver
    }

    /// Sends a signal; a process that has ended is fine.
    ///
    /// # Errors
    /// If there is no such process or signal, or the shim is gone.
    pub async fn signal(&self, key: &str, signal: i32) -> Result<(), Error> {
        let request = Request::Signal(Signal { key: key.to_owned(), signal });
        self.tell("send a signal", request, &[]).await
    }

    /// Has the log of a process go on in `file`.
    ///
    /// # Errors
    /// If there is no such process, or the shim is gone.
    pub async fn reopen_log(&self, key: &str, file: BorrowedFd<'_>) -> Result<(), Error> {
        self.tell("reopen a log", Request::Reopen(key.to_owned()), &[file]).await
    }

    /// Drops what is known of an ended process, its exit record included.
    ///
    /// # Errors
    /// If the process still runs.
    pub async fn forget(&self, key: &str) -> Result<(), Error> {
        match self.tell("forget a process", Request::Forget(key.to_owned()), &[]).await {
            Err(Error::Shim { .. }) if self.is_gone() => Ok(()),
            result => result,
        }
    }

    /// Lets the shim end, if nothing runs in it; a shim that is gone is fine.
    ///
    /// # Errors
    /// If something still runs.
    pub async fn quit(&self) -> Result<(), Error> {
        match self.tell("quit", Request::Quit(true), &[]).await {
            Err(Error::Shim { .. }) if self.is_gone() => Ok(()),
            result => result,
        }
    }

    /// Whether the connection has ended.
    pub fn is_gone(&self) -> bool {
        self.inner.gone.is_cancelled()
    }

    /// Resolves when the connection has ended.
    pub async fn gone(&self) {
        self.inner.gone.cancelled().await;
    }

    async fn tell(
        &self,
        attempt: &'static str,
        request: Request,
        descriptors: &[BorrowedFd<'_>],
    ) -> Result<(), Error> {
        match self.ask(attempt, request, descriptors, PATIENCE).await? {
            (Tidings::Done(_), _) => Ok(()),
            _ => Err(self.nonsense(attempt)),
        }
    }

    async fn ask(
        &self,
        attempt: &'static str,
        request: Request,
        descriptors: &[BorrowedFd<'_>],
        within: Duration,
    ) -> Result<(Tidings, Option<OwnedFd>), Error> {
        let number = self.inner.number.fetch_add(1, Ordering::Relaxed);
        let (sender, receiver) = oneshot::channel();
        self.inner.waiting().answers.insert(number, sender);
        let bytes = ToShim { number, request: Some(request) }.encode_to_vec();
        let exchange = async {
            self.send(&bytes, descriptors).await?;
            if attempt == START {
                fail_point!("shim.start.sent");
            }
            receiver.await.map_err(|_| "is gone".to_owned())
        };
        let answer = tokio::time::timeout(within, exchange).await;
        self.inner.waiting().answers.remove(&number);
        match answer {
            Err(_) => Err(Error::Deadline {
                attempt: format!("{attempt} in the shim of {}", self.inner.name),
                after: within,
            }),
            Ok(Err(cause)) => Err(self.error(attempt, cause)),
            Ok(Ok((Tidings::Failure(failure), _))) => Err(Error::Start(failure)),
            Ok(Ok(answer)) => Ok(answer),
        }
    }

    async fn send(&self, bytes: &[u8], descriptors: &[BorrowedFd<'_>]) -> Result<(), String> {
        let send = |fd: &OwnedFd| socket::send(fd.as_fd(), bytes, descriptors);
        let sent = self.inner.socket.async_io(Interest::WRITABLE, send).await;
        sent.map_err(|error| {
            if matches!(error.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset) {
                // The task that listens is going to notice as well.
                self.inner.gone.cancel();
                return "is gone".to_owned();
            }
            error.to_string()
        })
    }

    fn error(&self, attempt: &'static str, cause: String) -> Error {
        Error::Shim { attempt, shim: self.inner.name.clone(), cause }
    }

    fn nonsense(&self, attempt: &'static str) -> Error {
        self.error(attempt, "answers something else".to_owned())
    }
}

impl Listener {
    /// Reads until the shim is gone or nobody holds the connection any more. Runs as a task.
    pub(crate) async fn listen(self) {
        let mut buffer = vec![0; MAX_PACKET];
        loop {
            let packet = self
                .inner
                .socket
                .async_io(Interest::READABLE, |fd| socket::receive(fd.as_fd(), &mut buffer));
            let packet = tokio::select! {
                packet = packet => packet,
                () = self.closed.cancelled() => break,
            };
            match packet {
                Ok(packet) if !packet.bytes.is_empty() => self.dispatch(packet),
                _ => break,
            }
        }
        self.inner.gone.cancel();
        self.inner.abandon();
    }

    fn dispatch(&self, packet: Packet) {
        let name = &self.inner.name;
        let Ok(message) = FromShim::decode(packet.bytes.as_slice()) else {
            tracing::warn!(shim = name, "a packet that cannot be decoded, ignoring");
            return;
        };
        match message.tidings {
            Some(Tidings::Exit(exit)) => {
                let watcher = self.inner.waiting().endings.remove(&exit.key);
                if let Some(watcher) = watcher {
                    let _ = watcher.send(Ending::Exited(exit));
                }
            }
            Some(tidings) => {
                let asker = self.inner.waiting().answers.remove(&message.number);
                if let Some(asker) = asker {
                    let _ = asker.send((tidings, packet.descriptors.into_iter().next()));
                }
            }
            None => tracing::warn!(shim = name, "news of a newer version, ignoring"),
        }
    }
}

impl Inner {
    /// Ends all waits; who watches a process may still find its record.
    fn abandon(&self) {
        let waiting = std::mem::take(&mut *self.waiting());
        drop(waiting.answers);
        for (key, watcher) in waiting.endings {
            let ending = read_exit(&self.directory, &key).map_or(Ending::Lost, Ending::Exited);
            let _ = watcher.send(ending);
        }
    }

    fn waiting(&self) -> std::sync::MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a shim has recorded about the end of a process.
pub fn read_exit(directory: &Path, key: &str) -> Option<Exit> {
    let bytes = std::fs::read(directory.join(EXITS).join(key)).ok()?;
    Exit::decode(bytes.as_slice()).ok()
}

fn memory_file(plan: &impl Message) -> io::Result<OwnedFd> {
    let file = rustix::fs::memfd_create("plan", rustix::fs::MemfdFlags::CLOEXEC)?;
    let mut file = std::fs::File::from(file);
    io::Write::write_all(&mut file, &plan.encode_to_vec())?;
    Ok(file.into())
}

fn is_absence(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused)
}
