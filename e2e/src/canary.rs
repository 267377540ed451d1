//! A directory of the node that no container has any business in: what traps lead to.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};

use crate::place::Place;

/// Of each path its mode, owner, time of change, device and content.
type Look = BTreeMap<PathBuf, (u32, u32, i64, u64, Vec<u8>)>;

/// Name and content of the file that whoever gets there sees.
pub const UNTOUCHED: &str = "untouched";

/// The directory, and how it looked.
#[derive(Debug)]
pub struct Canary {
    dir: PathBuf,
    before: Look,
}

impl Canary {
    /// Makes it: a file [`UNTOUCHED`], accounts with a root called `evil`, a directory.
    pub fn new(place: &Place) -> Result<Self> {
        let dir = place.dir("canary")?;
        fs::write(dir.join(UNTOUCHED), UNTOUCHED)?;
        fs::write(dir.join("passwd"), "evil:x:0:0::/:/bin/sh\n")?;
        fs::create_dir(dir.join("sub"))?;
        let before = look(&dir)?;
        Ok(Self { dir, before })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.dir
    }

    /// Fails if anything in it is other than it was.
    pub fn assert_untouched(&self) -> Result<()> {
        let now = look(&self.dir)?;
        ensure!(now == self.before, "the canary was {:?}, and is {now:?}", self.before);
        Ok(())
    }
}

fn look(dir: &Path) -> Result<Look> {
    let mut seen = Look::new();
    let mut dirs = vec![dir.to_owned()];
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(&dir)? {
            let path = entry?.path();
            let metadata = fs::symlink_metadata(&path)?;
            let content =
                if metadata.is_file() { fs::read(&path).unwrap_or_default() } else { Vec::new() };
            let (mode, owner, time) = (metadata.mode(), metadata.uid(), metadata.ctime_nsec());
            if metadata.is_dir() {
                dirs.push(path.clone());
            }
            // A mount on top of it would show another device.
            seen.insert(path, (mode, owner, time, metadata.dev(), content));
        }
    }
    Ok(seen)
}
