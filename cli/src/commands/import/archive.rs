//! An archive to import: a file or a stream as it is, or a tar that is made of a directory.

use std::fs::{self, File};
use std::io::{self, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use tokio::sync::mpsc::Sender;

use crate::api::admin::ImportRequest;
use crate::api::admin::import_request::Part;

/// Bytes in one part; the protocol allows 1 MiB.
const CHUNK: usize = 256 << 10;

/// Where an archive comes from.
#[derive(Debug)]
pub(super) enum Source {
    /// Standard input.
    Stdin,
    /// An archive of so many bytes.
    File(File, u64),
    /// A directory with an OCI layout.
    Layout(PathBuf),
}

impl Source {
    /// Finds out what `text` names.
    pub(super) fn open(text: &str) -> anyhow::Result<Self> {
        if text == "-" {
            return Ok(Self::Stdin);
        }
        let path = Path::new(text);
        let data = fs::metadata(path).with_context(|| format!("import {text}"))?;
        if !data.is_dir() {
            let file = File::open(path).with_context(|| format!("import {text}"))?;
            // What is no regular file, such as a pipe, does not know its length.
            return Ok(Self::File(file, if data.is_file() { data.len() } else { 0 }));
        }
        if !path.join("oci-layout").is_file() {
            bail!("import {text}: it is no OCI layout: there is no file oci-layout in it");
        }
        Ok(Self::Layout(path.to_owned()))
    }

    /// Bytes of the archive; zero if that is not known.
    pub(super) fn size(&self) -> u64 {
        match self {
            Self::File(_, size) => *size,
            Self::Stdin | Self::Layout(_) => 0,
        }
    }

    /// Sends the archive, and returns early if nobody wants more of it: then there is an answer
    /// that says why. Blocks.
    pub(super) fn send(self, parts: Sender<ImportRequest>) -> anyhow::Result<()> {
        let mut parts = Parts { parts };
        let sent = match self {
            Self::Stdin => parts.copy(io::stdin().lock()),
            Self::File(file, _) => parts.copy(file),
            Self::Layout(directory) => write_layout(&directory, &mut parts),
        };
        if parts.parts.is_closed() { Ok(()) } else { sent }
    }
}

/// Writes a directory with an OCI layout as a tar archive: what the layout consists of, and
/// nothing that lies beside it (image-spec, image-layout.md).
fn write_layout(directory: &Path, parts: &mut Parts) -> anyhow::Result<()> {
    let mut tar = tar::Builder::new(BufWriter::with_capacity(CHUNK, parts));
    tar.mode(tar::HeaderMode::Deterministic);
    let mut append = |name: &Path| {
        let path = directory.join(name);
        tar.append_path_with_name(&path, name).with_context(|| format!("read {}", path.display()))
    };
    append(Path::new("oci-layout"))?;
    append(Path::new("index.json"))?;
    for algorithm in names_in(directory, Path::new("blobs"))? {
        for blob in names_in(directory, &algorithm)? {
            append(&blob)?;
        }
    }
    Ok(tar.into_inner()?.flush()?)
}

/// Names of what is in a part of a directory, relative to the directory, in a fixed order.
fn names_in(directory: &Path, part: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let path = directory.join(part);
    let read = || fs::read_dir(&path)?.collect::<io::Result<Vec<_>>>();
    let entries = read().with_context(|| format!("read {}", path.display()))?;
    let mut names: Vec<_> = entries.into_iter().map(|entry| part.join(entry.file_name())).collect();
    names.sort();
    Ok(names)
}

/// Turns what is written into parts of an import.
#[derive(Debug)]
struct Parts {
    parts: Sender<ImportRequest>,
}

impl Parts {
    fn copy(&mut self, mut source: impl Read) -> anyhow::Result<()> {
        let mut chunk = vec![0; CHUNK];
        loop {
            match source.read(&mut chunk).context("read the archive")? {
                0 => return Ok(()),
                length => self.write_all(&chunk[..length])?,
            }
        }
    }
}

impl Write for Parts {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let bytes = &bytes[..bytes.len().min(CHUNK)];
        let part = ImportRequest { part: Some(Part::Chunk(bytes.to_vec())) };
        let gone = |_| io::Error::from(io::ErrorKind::BrokenPipe);
        self.parts.blocking_send(part).map_err(gone).map(|()| bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::mpsc;

    use super::*;

    fn sent(source: Source) -> anyhow::Result<Vec<u8>> {
        let (sender, mut receiver) = mpsc::channel(4);
        let sending = std::thread::spawn(move || source.send(sender));
        let mut bytes = Vec::new();
        while let Some(request) = receiver.blocking_recv() {
            match request.part {
                Some(Part::Chunk(chunk)) => bytes.extend(chunk),
                other => panic!("{other:?}"),
            }
        }
        sending.join().unwrap().map(|()| bytes)
    }

    fn layout() -> tempfile::TempDir {
        let directory = tempfile::tempdir().unwrap();
        let blobs = directory.path().join("blobs/sha256");
        fs::create_dir_all(&blobs).unwrap();
        for (name, content) in [("oci-layout", "l"), ("index.json", "i"), ("README", "r")] {
            fs::write(directory.path().join(name), content).unwrap();
        }
        fs::write(blobs.join("bb"), vec![7; CHUNK + 1]).unwrap();
        fs::write(blobs.join("aa"), "a").unwrap();
        directory
    }

    #[test]
    fn a_layout_becomes_an_archive_of_its_own_parts() {
        let directory = layout();
        let source = Source::open(directory.path().to_str().unwrap()).unwrap();
        assert_eq!(source.size(), 0);

        let bytes = sent(source).unwrap();

        let mut archive = tar::Archive::new(bytes.as_slice());
        let members = archive.entries().unwrap().map(|entry| {
            let entry = entry.unwrap();
            (entry.path().unwrap().to_string_lossy().into_owned(), entry.size())
        });
        let expected = [
            ("oci-layout", 1),
            ("index.json", 1),
            ("blobs/sha256/aa", 1),
            ("blobs/sha256/bb", CHUNK as u64 + 1),
        ];
        let expected = expected.map(|(name, size)| (name.to_owned(), size));
        assert_eq!(members.collect::<Vec<_>>(), expected);
    }

    #[test]
    fn an_archive_is_sent_as_it_is() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("image.tar");
        fs::write(&path, vec![5; 3 * CHUNK + 1]).unwrap();
        let source = Source::open(path.to_str().unwrap()).unwrap();
        assert_eq!(source.size(), 3 * CHUNK as u64 + 1);
        assert_eq!(sent(source).unwrap(), vec![5; 3 * CHUNK + 1]);
    }

    #[test]
    fn what_cannot_be_read_is_named_and_nothing_that_is_not_a_layout_is_sent() {
        let directory = layout();
        let path = directory.path().to_str().unwrap();
        fs::remove_dir_all(directory.path().join("blobs")).unwrap();
        let message = format!("{:#}", sent(Source::open(path).unwrap()).unwrap_err());
        assert!(message.contains("blobs"), "{message}");
        fs::remove_file(directory.path().join("oci-layout")).unwrap();
        let message = Source::open(path).unwrap_err().to_string();
        assert!(message.contains("no OCI layout"), "{message}");
    }

    #[test]
    fn nobody_is_told_more_than_he_wants_to_hear() {
        let (sender, receiver) = mpsc::channel(1);
        drop(receiver);
        let directory = layout();
        let source = Source::open(directory.path().to_str().unwrap()).unwrap();
        assert!(source.send(sender).is_ok());
    }
}
