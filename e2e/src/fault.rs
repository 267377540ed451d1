//! Faults of the machine below a daemon. Faults of plugins are in [`crate::network`], of
//! registries in [`crate::registry::scripted`]; failpoints inside berthd are armed by
//! [`crate::daemon::Setup::failpoint`].

pub mod power;

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use rustix::fs::{FallocateFlags, fallocate, statvfs};
use rustix::mount::{MountFlags, UnmountFlags, mount, mount_bind, mount_remount, unmount};

use crate::place::{Place, needs};

/// A small file system of the test's own, to fill, to take away, to make read-only.
#[derive(Debug)]
pub struct SmallDisk {
    dir: PathBuf,
}

impl SmallDisk {
    /// An ext4 of `bytes` (at least 1 MiB) on a loop device, which knows inodes, journals and
    /// reserved blocks.
    pub fn ext4(place: &Place, bytes: u64) -> Result<Self> {
        let (disk, image) = Self::make(place)?;
        File::create(&image)
            .and_then(|file| file.set_len(bytes))
            .with_context(|| format!("make {}", image.display()))?;
        run(Command::new(needs::program("mkfs.ext4")?).args(["-q", "-F", "-m", "0"]).arg(&image))?;
        run(Command::new("mount").args(["-o", "loop"]).arg(&image).arg(&disk.dir))?;
        Ok(disk)
    }

    /// A tmpfs of `bytes`.
    pub fn tmpfs(place: &Place, bytes: u64) -> Result<Self> {
        let (disk, _) = Self::make(place)?;
        let options = std::ffi::CString::new(format!("size={bytes},mode=755"))?;
        mount("tmpfs", &disk.dir, "tmpfs", MountFlags::empty(), options.as_c_str())
            .with_context(|| format!("mount {}", disk.dir.display()))?;
        Ok(disk)
    }

    fn make(place: &Place) -> Result<(Self, PathBuf)> {
        let base = tempfile::tempdir_in(place.scratch()).context("make a directory")?.keep();
        let dir = base.join("mounted");
        std::fs::create_dir(&dir).with_context(|| format!("make {}", dir.display()))?;
        Ok((Self { dir }, base.join("image")))
    }

    /// Where it is mounted.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Bytes that are free.
    pub fn free(&self) -> Result<u64> {
        let stat = statvfs(&self.dir).with_context(|| format!("look at {}", self.dir.display()))?;
        Ok(stat.f_bavail * stat.f_frsize)
    }

    /// Takes all free space but `leave` bytes.
    pub fn fill(&self, leave: u64) -> Result<()> {
        let file = File::create(self.filler()).context("make the filler")?;
        let mut taken = 0;
        // In pieces: what the file system needs to describe the file comes out of the same space.
        for piece in [16 << 20, 1 << 20, 64 << 10, 4 << 10] {
            while self.free()? >= leave + piece {
                match fallocate(&file, FallocateFlags::empty(), taken, piece) {
                    Ok(()) => taken += piece,
                    Err(rustix::io::Errno::NOSPC) => break,
                    Err(err) => return Err(err).context("fill the disk"),
                }
            }
        }
        Ok(())
    }

    /// Gives back what [`SmallDisk::fill`] took.
    pub fn relieve(&self) -> Result<()> {
        std::fs::remove_file(self.filler()).context("remove the filler")
    }

    fn filler(&self) -> PathBuf {
        self.dir.join("filler-of-the-test")
    }

    /// Refuses writes from now on, as a file system does after an error, or allows them again.
    /// By a mount on top of it, which the files that somebody has open do not forbid.
    pub fn set_read_only(&self, read_only: bool) -> Result<()> {
        let dir = &self.dir;
        let done = if read_only {
            let flags = MountFlags::BIND | MountFlags::RDONLY;
            mount_bind(dir, dir).and_then(|()| mount_remount(dir, flags, ""))
        } else {
            unmount(dir, UnmountFlags::empty())
        };
        done.with_context(|| format!("remount {}", dir.display()))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Whoever still uses it keeps it until the place ends.
        let _ = unmount(&self.dir, UnmountFlags::DETACH);
    }
}

fn run(command: &mut Command) -> Result<()> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command.output().with_context(|| format!("run {name}"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{name}: {}: {said}", output.status);
    Ok(())
}
