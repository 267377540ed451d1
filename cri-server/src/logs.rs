//! Reading container logs back: the CRI format, line by line, across the
//! rotation of a file, for as long as the container writes.
//!
//! The shim writes logs and knows no readers. A reader waits for the kernel to
//! tell that the directory has changed (inotify), and for the container's end.

mod line;
mod watch;

use std::collections::VecDeque;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use berth_runtime::containers::{Container, State};
use tokio::fs::File;
use tokio::io::AsyncReadExt as _;
use tokio::sync::mpsc;
use tonic::Status;

use crate::api::admin::{LogLine, LogsResponse};

use line::Splitter;
use watch::Watch;

/// About as much text as one message carries.
const BATCH: usize = 64 << 10;

/// Which lines are wanted.
#[derive(Clone, Copy, Debug, Default)]
pub struct Wanted {
    /// Only lines that are not older, in nanoseconds since the epoch.
    pub since: i64,
    /// Only so many of the lines that are there already.
    pub tail: Option<u64>,
    /// Also those that are still to come.
    pub follow: bool,
}

/// Where lines go.
type Client = mpsc::Sender<Result<LogsResponse, Status>>;

/// Reads one log.
#[derive(Debug)]
pub struct Reader {
    path: PathBuf,
    wanted: Wanted,
    file: Option<File>,
    splitter: Splitter,
}

impl Reader {
    /// Will read the log at `path`.
    #[must_use]
    pub fn new(path: PathBuf, wanted: Wanted) -> Self {
        Self { path, wanted, file: None, splitter: Splitter::default() }
    }

    /// Where the log is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Tells all wanted lines; returns when there are no more, or nobody listens.
    ///
    /// # Errors
    /// When the log cannot be read. One that does not exist yet is empty.
    pub async fn tell(&mut self, container: &Container, client: &Client) -> io::Result<()> {
        // Set up before the first look, so that nothing comes between the two.
        let mut watch = self.wanted.follow.then(|| Watch::of(self.path.parent()));
        self.tell_present(client).await?;
        while let Some(watch) = &mut watch {
            // Asked before reading: what was written before the end is read then.
            let ended = matches!(container.state(), State::Exited(_));
            let mut batch = Batch::default();
            while self.read(&mut batch, client).await? {}
            if !batch.send(client).await || ended {
                return Ok(());
            }
            tokio::select! {
                () = watch.changed() => {}
                _ = container.ended() => {}
            }
        }
        Ok(())
    }

    /// Tells what is there already, the last lines of it if only some are wanted.
    async fn tell_present(&mut self, client: &Client) -> io::Result<()> {
        let Some(tail) = self.wanted.tail else {
            let mut batch = Batch::default();
            while self.read(&mut batch, client).await? {}
            batch.send(client).await;
            return Ok(());
        };
        let mut last = VecDeque::new();
        while let Some(lines) = self.next_lines().await? {
            last.extend(lines);
            keep_whole_lines(&mut last, tail);
        }
        let mut batch = Batch::default();
        for line in last {
            batch.add(line, client).await;
        }
        batch.send(client).await;
        Ok(())
    }

    /// Reads once; `false` when there is nothing more now.
    async fn read(&mut self, batch: &mut Batch, client: &Client) -> io::Result<bool> {
        let Some(lines) = self.next_lines().await? else { return Ok(false) };
        for line in lines {
            if !batch.add(line, client).await {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// The next lines of the file, or of the one that has taken its place.
    async fn next_lines(&mut self) -> io::Result<Option<Vec<LogLine>>> {
        let mut buffer = vec![0; BATCH];
        loop {
            let Some(file) = &mut self.file else {
                match File::open(&self.path).await {
                    Ok(file) => self.file = Some(file),
                    Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
                    Err(error) => return Err(error),
                }
                continue;
            };
            let count = file.read(&mut buffer).await?;
            if count > 0 {
                let since = self.wanted.since;
                let lines = self.splitter.push(&buffer[..count]);
                return Ok(Some(lines.into_iter().filter(|line| line.time >= since).collect()));
            }
            if !is_replaced(file, &self.path).await? {
                return Ok(None);
            }
            self.file = None;
        }
    }
}

/// Whether another file is there now: the log was rotated.
async fn is_replaced(file: &File, path: &Path) -> io::Result<bool> {
    let ours = file.metadata().await?;
    match tokio::fs::metadata(path).await {
        Ok(there) => Ok((there.dev(), there.ino()) != (ours.dev(), ours.ino())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// Drops lines from the front until at most `tail` are left; parts of one line count as one.
fn keep_whole_lines(lines: &mut VecDeque<LogLine>, tail: u64) {
    let mut whole = lines.iter().filter(|line| !line.partial).count() as u64;
    whole += u64::from(lines.back().is_some_and(|line| line.partial));
    while whole > tail {
        match lines.pop_front() {
            Some(line) if !line.partial => whole -= 1,
            Some(_) => {}
            None => return,
        }
    }
}

/// Lines on their way to the client.
#[derive(Default)]
struct Batch {
    lines: Vec<LogLine>,
    bytes: usize,
}

impl Batch {
    /// Adds a line, and sends the batch when it is full; `false` if nobody listens any more.
    async fn add(&mut self, line: LogLine, client: &Client) -> bool {
        self.bytes += line.text.len() + 32;
        self.lines.push(line);
        self.bytes < BATCH || self.send(client).await
    }

    /// Sends what there is; `false` if nobody listens any more.
    async fn send(&mut self, client: &Client) -> bool {
        if self.lines.is_empty() {
            return !client.is_closed();
        }
        self.bytes = 0;
        let lines = std::mem::take(&mut self.lines);
        client.send(Ok(LogsResponse { lines })).await.is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(text: &str, partial: bool) -> LogLine {
        LogLine { text: text.into(), partial, ..LogLine::default() }
    }

    #[test]
    fn the_tail_is_counted_in_whole_lines() {
        let all = [line("a", false), line("b1", true), line("b2", false), line("c", false)];
        for (tail, expected) in
            [(0, ""), (1, "c"), (2, "b1 b2 c"), (3, "a b1 b2 c"), (9, "a b1 b2 c")]
        {
            let mut lines: VecDeque<_> = all.clone().into();
            keep_whole_lines(&mut lines, tail);
            let texts: Vec<_> =
                lines.iter().map(|line| String::from_utf8_lossy(&line.text).into_owned()).collect();
            assert_eq!(texts.join(" "), expected, "tail {tail}");
        }
    }

    #[tokio::test]
    async fn a_rotation_loses_and_doubles_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("0.log");
        let mut reader = Reader::new(path.clone(), Wanted::default());
        assert!(reader.next_lines().await.unwrap().is_none());
        let stamp = "2026-01-01T00:00:00.000000000Z stdout F";
        std::fs::write(&path, format!("{stamp} one\n{stamp} tw")).unwrap();
        assert_eq!(reader.next_lines().await.unwrap().unwrap()[0].text, b"one");
        let append = |name: &str, text: &str| {
            let mut file = std::fs::File::options();
            let file = file.append(true).create(true).open(directory.path().join(name));
            io::Write::write_all(&mut file.unwrap(), text.as_bytes()).unwrap();
        };
        std::fs::rename(&path, directory.path().join("0.log.1")).unwrap();
        append("0.log.1", "o\n");
        append("0.log", &format!("{stamp} three\n"));
        assert_eq!(reader.next_lines().await.unwrap().unwrap()[0].text, b"two");
        assert_eq!(reader.next_lines().await.unwrap().unwrap()[0].text, b"three");
        assert!(reader.next_lines().await.unwrap().is_none());
    }
}
