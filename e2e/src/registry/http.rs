//! As much of HTTP/1.1 as a lying registry needs: one request per connection, and full control
//! over every byte of the answer.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Longest head of a request, in bytes.
const HEAD: usize = 64 << 10;
/// How a connection of TLS begins.
const TLS_HANDSHAKE: [u8; 1] = [0x16];

/// What a client asked.
#[derive(Debug, Clone)]
pub struct Request {
    /// `GET`, `HEAD`, …
    pub method: String,
    /// The path with its query.
    pub path: String,
    /// Header fields; names in lower case.
    pub headers: Vec<(String, String)>,
}

impl Request {
    /// The bytes of `length` that are asked for, the end exclusive; `None` for all.
    pub(super) fn range(&self, length: usize) -> Option<(usize, usize)> {
        let (from, to) = self.header("range")?.strip_prefix("bytes=")?.split_once('-')?;
        let to = to.parse().map_or(length, |last: usize| length.min(last.saturating_add(1)));
        from.parse().ok().filter(|from| *from < to).map(|from| (from, to))
    }

    /// The value of the header field `name`, which is in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    pub(super) async fn read(stream: &mut TcpStream) -> io::Result<Self> {
        let mut first = [0];
        if stream.peek(&mut first).await? == 1 && first == TLS_HANDSHAKE {
            // Somebody takes us for another kind of server.
            stream.write_all(b"HTTP/1.0 400 Bad Request\r\n\r\n").await?;
            return Err(io::ErrorKind::InvalidData.into());
        }
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            if head.len() == HEAD {
                return Err(io::ErrorKind::InvalidData.into());
            }
            head.push(stream.read_u8().await?);
        }
        let head = String::from_utf8_lossy(&head);
        let mut lines = head.lines();
        let mut words = lines.next().unwrap_or_default().split(' ').map(str::to_owned);
        let headers = lines.filter_map(|line| {
            let (name, value) = line.split_once(':')?;
            Some((name.to_ascii_lowercase(), value.trim().to_owned()))
        });
        let headers = headers.collect();
        let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        Ok(Self { method, path, headers })
    }
}

/// How the body of an answer reaches the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Delivery {
    Whole,
    /// So many bytes, then the connection ends.
    Short(usize),
    /// So many bytes, then nothing, while the connection stays.
    Stall(usize),
    /// So many bytes, then a TCP reset.
    Reset(usize),
    /// So many bytes each second.
    Slow(usize),
    /// In chunks, so that no length is told.
    Chunked,
    /// No head at all: the body is all that is sent.
    Bare,
}

/// What a client gets.
#[derive(Debug, Clone)]
pub(super) struct Response {
    pub(super) status: u16,
    pub(super) headers: Vec<(String, String)>,
    pub(super) body: Arc<Vec<u8>>,
    pub(super) delivery: Delivery,
}

impl Response {
    pub(super) fn status(status: u16) -> Self {
        let body = Arc::new(Vec::new());
        Self { status, headers: Vec::new(), body, delivery: Delivery::Whole }
    }

    pub(super) fn say((status, headers, body): (u16, Vec<(String, String)>, Vec<u8>)) -> Self {
        Self { headers, body: Arc::new(body), ..Self::status(status) }
    }

    pub(super) fn header(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.to_owned(), value.into()));
        self
    }

    pub(super) async fn send(&self, stream: &mut TcpStream, with_body: bool) -> io::Result<()> {
        if self.delivery != Delivery::Bare {
            stream.write_all(self.head().as_bytes()).await?;
        }
        if with_body {
            self.send_body(stream).await?;
        }
        stream.shutdown().await
    }

    fn head(&self) -> String {
        let mut head = format!("HTTP/1.1 {} X\r\nConnection: close\r\n", self.status);
        for (name, value) in &self.headers {
            head += &format!("{name}: {value}\r\n");
        }
        let says_length =
            |(name, _): &(String, String)| name.eq_ignore_ascii_case("content-length");
        if self.delivery == Delivery::Chunked {
            head += "Transfer-Encoding: chunked\r\n";
        } else if !self.headers.iter().any(says_length) {
            head += &format!("Content-Length: {}\r\n", self.body.len());
        }
        head + "\r\n"
    }

    async fn send_body(&self, stream: &mut TcpStream) -> io::Result<()> {
        let first = |n: usize| &self.body[..n.min(self.body.len())];
        match self.delivery {
            Delivery::Whole | Delivery::Bare => stream.write_all(&self.body).await,
            Delivery::Chunked => {
                for piece in self.body.chunks(32 << 10) {
                    stream.write_all(format!("{:x}\r\n", piece.len()).as_bytes()).await?;
                    stream.write_all(piece).await?;
                    stream.write_all(b"\r\n").await?;
                }
                stream.write_all(b"0\r\n\r\n").await
            }
            Delivery::Short(n) => stream.write_all(first(n)).await,
            Delivery::Stall(n) => {
                stream.write_all(first(n)).await?;
                // Until the client has had enough.
                stream.read_u8().await.map(drop)
            }
            Delivery::Reset(n) => {
                stream.write_all(first(n)).await?;
                stream.set_zero_linger()
            }
            Delivery::Slow(rate) => {
                for piece in self.body.chunks(rate.max(10) / 10) {
                    stream.write_all(piece).await?;
                    // The slowness itself.
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
                Ok(())
            }
        }
    }
}
