//! A registry that does what a test tells it: serves images honestly, except where a rule says
//! otherwise. It remembers every request, so that a test can see what a client gave away.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};

use anyhow::{Context, Result};
use base64::Engine;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use super::http::Request;
use super::http::{Delivery, Response};
use super::{Login, Upstream};
use crate::image::{Blob, Image};

/// What a rule does to a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Act {
    /// Serves the right length, with one bit of the content changed.
    WrongContent,
    /// Promises the whole, sends so many bytes, closes.
    Short(usize),
    /// Promises the whole, sends so many bytes, then nothing more.
    Stall(usize),
    /// Promises the whole, sends so many bytes, then resets the connection.
    Reset(usize),
    /// Sends so many bytes each second.
    Slow(usize),
    /// Answers a status with header fields, and no content.
    Status(u16, Vec<(String, String)>),
    /// Sends the client to the same path below another URL (307).
    Redirect(String),
    /// Sends the client to the same path below another URL with this status, and with a query that
    /// is as good as a password.
    Signed(u16, String, String),
    /// Answers 401 with a challenge, whatever the client shows.
    Unauthorized,
    /// Serves the content in chunks, without its length.
    Chunked,
    /// Serves all of the content to who asks for a range.
    NoRanges,
    /// Answers with a status, header fields and a body of its own.
    Say(u16, Vec<(String, String)>, Vec<u8>),
    /// The same without its length.
    SayChunked(u16, Vec<(String, String)>, Vec<u8>),
    /// Sends bytes that are no HTTP, and closes.
    Raw(Vec<u8>),
}

impl Act {
    /// A status, and one header field.
    pub fn status(status: u16, name: &str, value: impl Into<String>) -> Self {
        Self::Status(status, vec![(name.to_owned(), value.into())])
    }
}

#[derive(Debug)]
struct Rule {
    path: String,
    act: Act,
    left: usize,
}

#[derive(Debug, Default)]
struct State {
    content: HashMap<String, Blob>,
    rules: Vec<Rule>,
    seen: Vec<Request>,
    login: Option<Login>,
}

/// A running scripted registry. Stops when dropped.
#[derive(Debug)]
pub struct Scripted {
    server: Server,
}

impl Drop for Scripted {
    fn drop(&mut self) {
        self.server.stop.cancel();
    }
}

/// The token that the token server gives to who knows the password.
const TOKEN: &str = "a-token-of-the-harness";

impl Scripted {
    /// Starts it on a free port of the loopback interface.
    pub async fn start() -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await.context("listen on loopback")?;
        let address = listener.local_addr().context("ask for the port")?;
        let (state, stop) = (Default::default(), CancellationToken::new());
        let server = Server { address, state, stop, tasks: TaskTracker::new() };
        server.spawn(server.clone().accept(listener));
        Ok(Self { server })
    }

    /// `127.0.0.1:` and its port.
    pub fn host(&self) -> String {
        self.server.address.to_string()
    }

    /// How a daemon reaches it.
    pub fn upstream(&self) -> Upstream {
        Upstream { url: format!("http://{}", self.server.address), ca: None }
    }

    /// Serves `image` as `name`, which is `repository:tag`, and answers its whole reference.
    pub fn add(&self, name: &str, image: &Image) -> Result<String> {
        let (repository, tag) = name.split_once(':').with_context(|| format!("a tag in {name}"))?;
        let mut state = self.state();
        for blob in image.blobs() {
            let kind = if blob.digest == image.manifest.digest { "manifests" } else { "blobs" };
            let path = format!("/v2/{repository}/{kind}/{}", blob.digest);
            state.content.insert(path, blob.clone());
        }
        state.content.insert(format!("/v2/{repository}/manifests/{tag}"), image.manifest.clone());
        Ok(format!("{}/{name}", self.server.address))
    }

    /// From now on, `act` befalls every request whose path contains `path`. The newest rule
    /// that fits is the one that counts.
    pub fn on(&self, path: &str, act: Act) {
        self.on_next(usize::MAX, path, act);
    }

    /// As [`Scripted::on`], but only for the next `times` requests.
    pub fn on_next(&self, times: usize, path: &str, act: Act) {
        self.state().rules.push(Rule { path: path.to_owned(), act, left: times });
    }

    /// Serves `blob` of `repository` under `target`, a tag or a digest that need not be its own.
    pub fn add_manifest(&self, repository: &str, target: &str, blob: &Blob) -> String {
        let path = format!("/v2/{repository}/manifests/{target}");
        self.state().content.insert(path, blob.clone());
        format!("{}/{repository}:{target}", self.server.address)
    }

    /// From now on, content needs a token, which a token server of its own, at `/token`, gives
    /// to `login` (the distribution project's token authentication).
    pub fn require_token(&self, login: Login) {
        self.state().login = Some(login);
    }

    /// Forgets all rules: serves everything as it is.
    pub fn be_honest(&self) {
        self.state().rules.clear();
    }

    /// How often content was asked for whose path contains `path`.
    pub fn gets(&self, path: &str) -> usize {
        let asked = |request: &&Request| request.method == "GET" && request.path.contains(path);
        self.state().seen.iter().filter(asked).count()
    }

    /// Every request so far.
    pub fn seen(&self) -> Vec<Request> {
        self.state().seen.clone()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.server.state()
    }
}

/// What all connections share. Cheap to clone.
#[derive(Debug, Clone)]
struct Server {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl Server {
    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.tasks.spawn(self.stop.clone().run_until_cancelled_owned(task));
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|e| e.into_inner())
    }

    async fn accept(self, listener: TcpListener) {
        while let Ok((mut stream, _)) = listener.accept().await {
            let server = self.clone();
            self.spawn(async move {
                // A client that goes away is part of the game.
                let _ = server.serve(&mut stream).await;
            });
        }
    }

    async fn serve(&self, stream: &mut TcpStream) -> std::io::Result<()> {
        let mut first = [0];
        // A TLS record: whoever asks whether there is TLS here learns that there is not.
        if stream.peek(&mut first).await? == 1 && first == [0x16] {
            return Ok(());
        }
        let request = Request::read(stream).await?;
        let response = {
            let mut state = self.state();
            state.seen.push(request.clone());
            state.answer(&request, self.address)
        };
        response.send(stream, request.method != "HEAD").await
    }
}

impl State {
    fn answer(&mut self, request: &Request, address: SocketAddr) -> Response {
        let fits = |rule: &&mut Rule| rule.left > 0 && request.path.contains(&rule.path);
        let act = self.rules.iter_mut().rev().find(fits).map(|rule| {
            rule.left -= 1;
            rule.act.clone()
        });
        let honest = || self.honest(request, address);
        let deliver = |delivery| Response { delivery, ..honest() };
        match act {
            None => honest(),
            Some(Act::Unauthorized) => challenge(address),
            Some(Act::Redirect(url)) => {
                Response::status(307).header("Location", url + &request.path)
            }
            Some(Act::Signed(status, url, query)) => {
                Response::status(status).header("Location", url + &request.path + "?" + &query)
            }
            Some(Act::Chunked) => deliver(Delivery::Chunked),
            Some(Act::NoRanges) => {
                let headers = request.headers.iter().filter(|(name, _)| name != "range");
                let request = Request { headers: headers.cloned().collect(), ..request.clone() };
                self.honest(&request, address)
            }
            Some(Act::Say(status, headers, body)) => Response::say((status, headers, body)),
            Some(Act::SayChunked(status, headers, body)) => {
                Response { delivery: Delivery::Chunked, ..Response::say((status, headers, body)) }
            }
            Some(Act::Raw(bytes)) => {
                let said = Response::say((0, Vec::new(), bytes));
                Response { delivery: Delivery::Bare, ..said }
            }
            Some(Act::Status(status, headers)) => Response { headers, ..Response::status(status) },
            Some(Act::WrongContent) => {
                let mut response = honest();
                if let Some(byte) = Arc::make_mut(&mut response.body).last_mut() {
                    *byte ^= 1;
                }
                response
            }
            Some(Act::Short(n)) => deliver(Delivery::Short(n)),
            Some(Act::Stall(n)) => deliver(Delivery::Stall(n)),
            Some(Act::Reset(n)) => deliver(Delivery::Reset(n)),
            Some(Act::Slow(rate)) => deliver(Delivery::Slow(rate)),
        }
    }

    fn honest(&self, request: &Request, address: SocketAddr) -> Response {
        let shown = request.header("authorization").unwrap_or_default();
        if let Some(login) = self.login {
            if request.path.starts_with("/token") {
                return token(login, shown);
            }
            if shown != format!("Bearer {TOKEN}") {
                return challenge(address);
            }
        }
        // A mirror is told by the query for which registry it stands in.
        let path = request.path.split('?').next().unwrap_or_default();
        match self.content.get(path) {
            Some(blob) => content(blob, request),
            None if path.trim_end_matches('/') == "/v2" => Response::status(200),
            None => Response::status(404),
        }
    }
}

/// What the token server answers to who shows `shown`.
fn token(login: Login, shown: &str) -> Response {
    let secret = format!("{}:{}", login.user, login.password);
    let expected = base64::engine::general_purpose::STANDARD.encode(secret);
    if shown != format!("Basic {expected}") {
        return Response::status(401);
    }
    let body = format!(r#"{{"token":"{TOKEN}","expires_in":300}}"#).into_bytes();
    let given = Response::status(200).header("Content-Type", "application/json");
    Response { body: Arc::new(body), ..given }
}

fn content(blob: &Blob, request: &Request) -> Response {
    let found = Response::status(200)
        .header("Content-Type", blob.media_type)
        .header("Docker-Content-Digest", &blob.digest);
    let size = blob.bytes.len();
    let Some((from, to)) = request.range(size) else {
        return Response { body: blob.bytes.clone(), ..found };
    };
    let partial = found.header("Content-Range", format!("bytes {from}-{}/{size}", to - 1));
    Response { status: 206, body: Arc::new(blob.bytes[from..to].to_vec()), ..partial }
}

fn challenge(address: SocketAddr) -> Response {
    let challenge = format!(
        r#"Bearer realm="http://{address}/token",service="e2e",scope="repository:any:pull""#
    );
    Response::status(401).header("WWW-Authenticate", challenge)
}
