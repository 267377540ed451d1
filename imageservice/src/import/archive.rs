//! The members of an archive on disk, by name.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufReader};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;

use crate::digest::{Digest, Hasher};
use crate::error::{Error, Result};
use crate::layer::{Chunks, Kind, TarReader};
use crate::store::Ingest;

const CHUNK: usize = 256 << 10;
/// Members that an archive of images may have.
const MAX_MEMBERS: usize = 100_000;
/// Links from member to member before it is a loop.
const MAX_LINKS: usize = 8;

/// A spooled archive. Dropped, its file is deleted.
#[derive(Debug)]
pub(crate) struct Archive {
    file: Arc<File>,
    members: HashMap<String, Member>,
    /// Which member has the blob of a digest.
    blobs: Mutex<HashMap<Digest, String>>,
    _ingest: Ingest,
}

#[derive(Debug, Clone)]
enum Member {
    File {
        offset: u64,
        size: u64,
    },
    /// To another member, which old versions of docker wrote for layers that come twice.
    Link(String),
}

impl Archive {
    /// Reads the headers of an archive. Blocks.
    pub(super) fn open(path: &Path, ingest: Ingest) -> Result<Self> {
        let file = File::open(path).map_err(|e| Error::storage("open", path, e))?;
        let file = Arc::new(file);
        let members = index(BufReader::with_capacity(CHUNK, &*file)).map_err(invalid)?;
        Ok(Self { file, members, blobs: Mutex::default(), _ingest: ingest })
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.find(name).is_some()
    }

    /// The size of a file.
    pub(super) fn size(&self, name: &str) -> Result<u64> {
        self.find(name).map(|(_, size)| size).ok_or_else(|| missing(name))
    }

    /// A whole small file. Blocks.
    pub(super) fn read(&self, name: &str, limit: u64) -> Result<Vec<u8>> {
        let (offset, size) = self.find(name).ok_or_else(|| missing(name))?;
        let length = usize::try_from(size).ok().filter(|_| size <= limit).ok_or_else(|| {
            Error::TooLarge {
                what: format!("{name} in the archive"),
                limit: format!("at most {limit} bytes"),
            }
        })?;
        let mut content = vec![0; length];
        self.file.read_exact_at(&mut content, offset).map_err(invalid)?;
        Ok(content)
    }

    /// The digest of a file. Blocks.
    pub(super) fn digest(&self, name: &str) -> Result<Digest> {
        let mut hasher = Hasher::new(crate::digest::Algorithm::Sha256);
        let mut chunks = self.chunks_of(name)?;
        while let Some(chunk) = chunks()? {
            hasher.update(&chunk);
        }
        Ok(hasher.finish())
    }

    /// Says which file is the blob of a digest.
    pub(super) fn has_blob(&self, digest: Digest, name: &str) {
        let mut blobs = self.blobs.lock().unwrap_or_else(PoisonError::into_inner);
        blobs.insert(digest, name.to_owned());
    }

    /// The bytes of a blob, not verified.
    pub(crate) fn chunks(&self, digest: &Digest) -> Result<Chunks> {
        let blobs = self.blobs.lock().unwrap_or_else(PoisonError::into_inner);
        let name = blobs.get(digest).ok_or_else(|| missing(digest.as_str()))?;
        self.chunks_of(name)
    }

    fn chunks_of(&self, name: &str) -> Result<Chunks> {
        let (mut offset, mut left) = self.find(name).ok_or_else(|| missing(name))?;
        let file = Arc::clone(&self.file);
        Ok(Box::new(move || {
            let length = usize::try_from(left).unwrap_or(CHUNK).min(CHUNK);
            if length == 0 {
                return Ok(None);
            }
            let mut chunk = vec![0; length];
            file.read_exact_at(&mut chunk, offset).map_err(invalid)?;
            offset += length as u64;
            left -= length as u64;
            Ok(Some(Bytes::from(chunk)))
        }))
    }

    /// Offset and size of a file.
    fn find(&self, name: &str) -> Option<(u64, u64)> {
        let mut member = self.members.get(name)?;
        for _ in 0..MAX_LINKS {
            match member {
                Member::File { offset, size } => return Some((*offset, *size)),
                Member::Link(target) => member = self.members.get(target)?,
            }
        }
        None
    }
}

fn index(reader: BufReader<&File>) -> io::Result<HashMap<String, Member>> {
    let mut tar = TarReader::new(reader);
    let mut members = HashMap::new();
    while let Some(entry) = tar.next()? {
        // Names of other forms cannot be asked for.
        let Some(name) = clean(&entry.name) else { continue };
        let member = match entry.kind {
            Kind::File { size, segments: None } => Member::File { offset: tar.position(), size },
            Kind::Symlink { target } => {
                let directory = name.rsplit_once('/').map_or("", |(directory, _)| directory);
                let target = [directory.as_bytes(), b"/", &target].concat();
                let Some(target) = clean(&target) else { continue };
                Member::Link(target)
            }
            Kind::Hardlink { target } => {
                let Some(target) = clean(&target) else { continue };
                Member::Link(target)
            }
            _ => continue,
        };
        members.insert(name, member);
        if members.len() > MAX_MEMBERS {
            return Err(io::Error::other("more than 100000 members"));
        }
    }
    Ok(members)
}

fn clean(name: &[u8]) -> Option<String> {
    String::from_utf8(crate::layer::clean(name).ok()?).ok()
}

fn invalid(error: io::Error) -> Error {
    Error::InvalidArchive { reason: error.to_string() }
}

fn missing(name: &str) -> Error {
    Error::InvalidArchive { reason: format!("{name} is not in it") }
}
