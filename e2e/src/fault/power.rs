//! Power cuts: a disk whose every write is on record, and how it might look if the power had gone at
//! any moment of it.
//!
//! Linux records (`dm-log-writes`, Documentation/admin-guide/device-mapper/log-writes.rst): each
//! entry is a block with a header, followed by the data that was written.
//!
//! A cut keeps every write before the last flush that had ended, and of those after it a part: what
//! a drive has in its cache it may write in any order.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::place::{Place, needs};

/// Marks a log of `dm-log-writes`.
const MAGIC: u64 = 0x006a_7366_7773_6872;
const FLUSH: u64 = 1;
const FUA: u64 = 2;
const DISCARD: u64 = 4;
const MARK: u64 = 8;

/// A file system on a disk whose writes are recorded.
#[derive(Debug)]
pub struct RecordedDisk {
    base: PathBuf,
    name: String,
    loops: Vec<String>,
    bytes: u64,
}

/// Everything that was written to a disk, from the making of its file system on.
#[derive(Debug)]
pub struct Recording {
    bytes: usize,
    entries: Vec<Entry>,
}

#[derive(Debug)]
struct Entry {
    offset: usize,
    flags: u64,
    data: Vec<u8>,
    mark: String,
}

impl RecordedDisk {
    /// Makes an ext4 of `bytes` and mounts it.
    pub fn ext4(place: &Place, bytes: u64) -> Result<Self> {
        let base = place.dir("recorded")?;
        let name = format!("berth-e2e-{}", std::process::id());
        let mut disk = Self { base, name, loops: Vec::new(), bytes };
        run(Command::new("modprobe").args(["--all", "loop", "dm-log-writes"]))?;
        for (file, size) in [("data", bytes), ("log", 64 * bytes)] {
            let path = disk.base.join(file);
            let file = File::create(&path).with_context(|| format!("make {}", path.display()))?;
            file.set_len(size).context("size a disk")?;
            let device = run(Command::new("losetup").args(["--find", "--show"]).arg(&path))?;
            disk.loops.push(device.trim().to_owned());
        }
        let table = format!("0 {} log-writes {} {}", bytes / 512, disk.loops[0], disk.loops[1]);
        disk.dmsetup(&["create", &disk.name, "--table", &table])?;
        disk.dmsetup(&["mknodes", &disk.name])?;
        let device = format!("/dev/mapper/{}", disk.name);
        let eager = "nodiscard,lazy_itable_init=0,lazy_journal_init=0";
        let mut make = Command::new(needs::program("mkfs.ext4")?);
        make.args(["-q", "-F", "-m", "0", "-N", "8192", "-J", "size=4", "-E", eager]);
        run(make.arg(&device))?;
        std::fs::create_dir_all(disk.dir()).context("make a mount point")?;
        run(Command::new("mount").arg(&device).arg(disk.dir()))?;
        Ok(disk)
    }

    /// Where it is mounted.
    pub fn dir(&self) -> PathBuf {
        self.base.join("mounted")
    }

    /// Puts a name, which is one word, to this moment.
    pub fn mark(&self, name: &str) -> Result<()> {
        self.dmsetup(&["message", &self.name, "0", "mark", name])
    }

    /// Ends the recording, and reads it.
    pub fn recording(mut self) -> Result<Recording> {
        run(Command::new("umount").arg(self.dir()))?;
        self.dmsetup(&["remove", &self.name])?;
        self.release();
        let bytes = usize::try_from(self.bytes).context("a size")?;
        let recording = Recording::read(&self.base.join("log"), bytes);
        std::fs::remove_file(self.base.join("log")).context("remove the log")?;
        recording
    }

    fn dmsetup(&self, words: &[&str]) -> Result<()> {
        run(Command::new(needs::program("dmsetup")?).arg("--noudevsync").args(words)).map(drop)
    }

    fn release(&mut self) {
        for device in self.loops.drain(..) {
            let _ = run(Command::new("losetup").args(["--detach", &device]));
        }
    }
}

impl Drop for RecordedDisk {
    fn drop(&mut self) {
        if !self.loops.is_empty() {
            let _ = run(Command::new("umount").arg("--lazy").arg(self.dir()));
            let _ = self.dmsetup(&["remove", "--force", &self.name]);
            self.release();
        }
    }
}

impl Recording {
    fn read(log: &Path, bytes: usize) -> Result<Self> {
        let file = File::open(log).with_context(|| format!("open {}", log.display()))?;
        let number = |at: u64| -> Result<u64> {
            let mut buffer = [0; 8];
            file.read_exact_at(&mut buffer, at).context("read the log of writes")?;
            Ok(u64::from_le_bytes(buffer))
        };
        ensure!(number(0)? == MAGIC, "no log of writes");
        let count = number(16)?;
        let block = number(24)? & u64::from(u32::MAX);
        let mut entries = Vec::new();
        let mut at = block;
        for _ in 0..count {
            let (sector, sectors, flags, length) =
                (number(at)?, number(at + 8)?, number(at + 16)?, number(at + 24)?);
            let mut entry = Entry {
                offset: usize::try_from(sector * block)?,
                flags,
                data: Vec::new(),
                mark: String::new(),
            };
            if flags & MARK != 0 {
                let mut name = vec![0; usize::try_from(length)?];
                file.read_exact_at(&mut name, at + 32).context("read a mark")?;
                entry.mark = String::from_utf8_lossy(&name).trim_end_matches('\0').to_owned();
            }
            at += block;
            if flags & (DISCARD | MARK) == 0 {
                entry.data = vec![0; usize::try_from(sectors * block)?];
                file.read_exact_at(&mut entry.data, at).context("read what was written")?;
                at += sectors * block;
            }
            entries.push(entry);
        }
        Ok(Self { bytes, entries })
    }

    /// How many writes there were.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there was none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The number of writes before a mark.
    pub fn marked(&self, name: &str) -> Option<usize> {
        self.entries.iter().position(|entry| entry.mark == name)
    }

    /// The last mark before a moment.
    pub fn mark_before(&self, moment: usize) -> &str {
        let mut marks = self.entries[..moment].iter().rev().map(|entry| entry.mark.as_str());
        marks.find(|mark| !mark.is_empty()).unwrap_or("the beginning")
    }

    /// The disk after a power cut when `moment` writes had been made. Of those that no flush had
    /// made safe, it has a part: which one depends on the moment alone.
    pub fn cut(&self, moment: usize) -> Vec<u8> {
        let before = &self.entries[..moment];
        let safe = before.iter().rposition(|entry| entry.flags & FLUSH != 0);
        let mut disk = vec![0; self.bytes];
        let mut dice = moment as u64;
        for (index, entry) in before.iter().enumerate() {
            let falls = odd(&mut dice);
            if safe.is_some_and(|safe| index <= safe) || entry.flags & FUA != 0 || falls {
                disk[entry.offset..][..entry.data.len()].copy_from_slice(&entry.data);
            }
        }
        disk
    }
}

/// The next throw (splitmix64).
fn odd(state: &mut u64) -> bool {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (z ^ (z >> 31)) & 1 == 1
}

fn run(command: &mut Command) -> Result<String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command.output().with_context(|| format!("run {name}"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{name}: {}: {said}", output.status);
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(offset: usize, byte: u8, flags: u64) -> Entry {
        Entry { offset, flags, data: vec![byte; 4], mark: String::new() }
    }

    #[test]
    fn what_was_flushed_survives_and_of_the_rest_a_part() {
        let mut entries = vec![write(0, 1, 0), write(4, 2, 0), write(8, 3, FLUSH)];
        entries.extend((0..16).map(|n| write(12 + 4 * n, 4, 0)));
        entries.push(write(76, 5, FUA));
        let recording = Recording { bytes: 80, entries };
        let disk = recording.cut(recording.len());
        assert_eq!(disk[..12], [1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3]);
        assert_eq!(disk[76..], [5; 4]);
        let kept = disk[12..76].iter().filter(|byte| **byte == 4).count();
        assert!((4..60).contains(&kept), "{kept}");
        assert_eq!(recording.cut(2)[8..], [0; 72]);
    }
}
