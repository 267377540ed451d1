//! An HTTP server that does what its script says, and remembers what it was asked.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use berth_imageservice::Digest;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use super::TestImage;

/// A request as it came.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    pub(crate) method: String,
    /// With the query.
    pub(crate) path: String,
    /// By lower-case name.
    pub(crate) headers: HashMap<String, String>,
    pub(crate) body: String,
}

impl Request {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }

    /// The range that is asked for, its end exclusive and no greater than `length`.
    pub(crate) fn range(&self, length: usize) -> Option<(usize, usize)> {
        let (from, to) = self.header("range")?.strip_prefix("bytes=")?.split_once('-')?;
        let to = to.parse().map_or(length, |last: usize| length.min(last + 1));
        Some((from.parse().unwrap(), to))
    }

    pub(crate) fn authorization(&self) -> Option<&str> {
        self.header("authorization")
    }
}

/// What the server does with a body.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Quirk {
    None,
    /// Closes the connection after so many bytes.
    CutAt(usize),
    /// Sends nothing more after so many bytes, and keeps the connection.
    StallAt(usize),
    /// One byte at a time, with this pause.
    Trickle(Duration),
    /// Chunked, without a length.
    NoLength,
    /// HTTP/1.0 without a length: the end of the connection is the end, after so many bytes.
    Unframed(usize),
    /// So many bytes a second.
    Rate(usize),
}

/// A response to send.
#[derive(Debug, Clone)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
    pub(crate) quirk: Quirk,
}

impl Reply {
    pub(crate) fn status(status: u16) -> Self {
        Self { status, headers: Vec::new(), body: Vec::new(), quirk: Quirk::None }
    }

    pub(crate) fn ok(body: impl Into<Vec<u8>>) -> Self {
        Self { body: body.into(), ..Self::status(200) }
    }

    pub(crate) fn header(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.to_owned(), value.into()));
        self
    }

    /// The same with another status.
    pub(crate) fn status_of(self, status: u16) -> Self {
        Self { status, ..self }
    }

    pub(crate) fn quirk(self, quirk: Quirk) -> Self {
        Self { quirk, ..self }
    }

    /// What a request wants of a blob, be it all or a range.
    pub(crate) fn part(request: &Request, blob: &[u8]) -> Self {
        let Some((from, to)) = request.range(blob.len()) else { return Self::ok(blob) };
        if from >= blob.len() {
            return Self::status(416).header("content-range", format!("bytes */{}", blob.len()));
        }
        let range = format!("bytes {from}-{}/{}", to - 1, blob.len());
        Self::ok(&blob[from..to]).status_of(206).header("content-range", range)
    }

    pub(crate) fn redirect(to: impl Into<String>) -> Self {
        Self::status(307).header("location", to)
    }
}

type Script = Box<dyn Fn(&Request) -> Option<Reply> + Send + Sync>;

/// Serves images, except where the script has its own answer.
pub(crate) struct Server {
    shared: Arc<Shared>,
    /// `127.0.0.1:PORT`.
    pub(crate) address: String,
    _stop: DropGuard,
}

struct Shared {
    files: Mutex<HashMap<String, Reply>>,
    script: Script,
    log: Mutex<Vec<Request>>,
}

impl Server {
    /// A well-behaved registry.
    pub(crate) async fn start() -> Self {
        Self::scripted(|_| None).await
    }

    /// A registry that answers by the script first. Use [`Server::add`] for what it has.
    pub(crate) async fn scripted(
        script: impl Fn(&Request) -> Option<Reply> + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let shared = Arc::new(Shared {
            files: Mutex::default(),
            script: Box::new(script),
            log: Mutex::default(),
        });
        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
        let (serving, accepting) = (Arc::clone(&shared), stop.clone());
        tasks.clone().spawn(accepting.clone().run_until_cancelled_owned(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let connection = serve(stream, Arc::clone(&serving));
                tasks.spawn(accepting.clone().run_until_cancelled_owned(connection));
            }
        }));
        Self { shared, address, _stop: stop.drop_guard() }
    }

    /// Adds an image under a tag, and returns its reference.
    pub(crate) fn add(&self, repository: &str, tag: &str, image: &TestImage) -> String {
        self.add_blobs(repository, image.blobs());
        self.add_manifest(repository, tag, image.manifest_type, image.manifest());
        format!("{}/{repository}:{tag}", self.address)
    }

    pub(crate) fn add_blobs(&self, repository: &str, blobs: Vec<Vec<u8>>) {
        let mut files = self.shared.files.lock().unwrap();
        for blob in blobs {
            let path = format!("/v2/{repository}/blobs/{}", Digest::sha256(&blob));
            files.insert(path, Reply::ok(blob).header("content-type", "application/octet-stream"));
        }
    }

    /// Adds a manifest or index by tag and digest.
    pub(crate) fn add_manifest(
        &self,
        repository: &str,
        tag: &str,
        media_type: &str,
        bytes: Vec<u8>,
    ) {
        let digest = Digest::sha256(&bytes);
        let reply = Reply::ok(bytes)
            .header("content-type", media_type)
            .header("docker-content-digest", digest.to_string());
        let mut files = self.shared.files.lock().unwrap();
        for target in [tag, digest.as_str()] {
            files.insert(format!("/v2/{repository}/manifests/{target}"), reply.clone());
        }
    }

    /// All requests so far.
    pub(crate) fn log(&self) -> Vec<Request> {
        self.shared.log.lock().unwrap().clone()
    }

    /// How many requests had a path that contains this.
    pub(crate) fn count(&self, part: &str) -> usize {
        self.log().iter().filter(|request| request.path.contains(part)).count()
    }
}

async fn serve(stream: TcpStream, shared: Arc<Shared>) {
    let mut first = [0];
    // A TLS record, from a client that takes us for another kind of server.
    if stream.peek(&mut first).await.is_ok() && first == [0x16] {
        let _ = BufReader::new(stream).write_all(b"HTTP/1.0 400 Bad Request\r\n\r\n").await;
        return;
    }
    let mut stream = BufReader::new(stream);
    while let Some(request) = read_request(&mut stream).await {
        shared.log.lock().unwrap().push(request.clone());
        let path = request.path.split('?').next().unwrap_or_default();
        let file = || shared.files.lock().unwrap().get(path).cloned();
        let reply = (shared.script)(&request).or_else(file).unwrap_or_else(|| Reply::status(404));
        if !send(&mut stream, reply).await {
            return;
        }
    }
}

async fn read_request(stream: &mut BufReader<TcpStream>) -> Option<Request> {
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).await.ok().filter(|length| *length > 0)?;
        if line.trim_end().is_empty() {
            break;
        }
        lines.push(line.trim_end().to_owned());
    }
    let mut words = lines.first()?.split(' ');
    let (method, path) = (words.next()?.to_owned(), words.next()?.to_owned());
    let headers: HashMap<String, String> = lines[1..]
        .iter()
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| (name.to_lowercase(), value.to_owned()))
        .collect();
    let length = headers.get("content-length").and_then(|value| value.parse().ok()).unwrap_or(0);
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await.ok()?;
    Some(Request { method, path, headers, body: String::from_utf8_lossy(&body).into_owned() })
}

/// Sends a reply; `false` if the connection is of no use any more.
async fn send(stream: &mut BufReader<TcpStream>, reply: Reply) -> bool {
    let version = if matches!(reply.quirk, Quirk::Unframed(_)) { "1.0" } else { "1.1" };
    let mut head = format!("HTTP/{version} {} X\r\n", reply.status);
    let has_length = reply.headers.iter().any(|(name, _)| name == "content-length");
    if reply.quirk == Quirk::NoLength {
        head += "transfer-encoding: chunked\r\n";
    } else if !has_length && version == "1.1" {
        head += &format!("content-length: {}\r\n", reply.body.len());
    }
    for (name, value) in &reply.headers {
        head += &format!("{name}: {value}\r\n");
    }
    let mut bytes = (head + "\r\n").into_bytes();
    let (body, rest) = match reply.quirk {
        Quirk::None => (reply.body, Quirk::None),
        Quirk::NoLength => {
            let size = format!("{:x}\r\n", reply.body.len()).into_bytes();
            ([size, reply.body, b"\r\n0\r\n\r\n".to_vec()].concat(), Quirk::None)
        }
        Quirk::CutAt(n) | Quirk::StallAt(n) | Quirk::Unframed(n) => {
            (reply.body[..n.min(reply.body.len())].to_vec(), reply.quirk)
        }
        Quirk::Rate(rate) => {
            let (pause, piece) = (Duration::from_millis(50), (rate / 20).max(1));
            return trickle(stream, bytes, (&reply.body, piece), pause).await;
        }
        Quirk::Trickle(pause) => {
            return trickle(stream, bytes, (&reply.body, 1), pause).await;
        }
    };
    bytes.extend(body);
    let sent = stream.write_all(&bytes).await.is_ok() && stream.flush().await.is_ok();
    match rest {
        Quirk::StallAt(_) => std::future::pending().await,
        Quirk::CutAt(_) | Quirk::Unframed(_) => false,
        _ => sent,
    }
}

async fn trickle(
    stream: &mut BufReader<TcpStream>,
    head: Vec<u8>,
    (body, piece): (&[u8], usize),
    pause: Duration,
) -> bool {
    if stream.write_all(&head).await.is_err() {
        return false;
    }
    for piece in body.chunks(piece) {
        // The slowness is what is tested.
        tokio::time::sleep(pause).await;
        if stream.write_all(piece).await.is_err() || stream.flush().await.is_err() {
            return false;
        }
    }
    true
}
