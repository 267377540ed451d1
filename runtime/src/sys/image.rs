//! Programs in memory: sealed, executable, and not to be found in any file system.
//!
//! A container that gets hold of `/proc/PID/exe` of a process of ours finds an anonymous file
//! that nobody can write to any more, not a binary of the host (CVE-2019-5736).

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::ptr;

use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};
use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap};

/// A program in a sealed memory file.
#[derive(Debug)]
pub(crate) struct Image {
    file: OwnedFd,
}

impl Image {
    /// Copies `program` into memory and seals it against any change.
    pub(crate) fn new(name: &str, program: &[u8]) -> io::Result<Self> {
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        // MFD_EXEC says that the file is meant to be run, which Linux 6.3 wants to hear.
        let fd = memfd_create(name, flags | MemfdFlags::EXEC).or_else(|error| match error {
            rustix::io::Errno::INVAL => memfd_create(name, flags),
            other => Err(other),
        })?;
        let mut file = File::from(fd);
        file.write_all(program)?;
        let seals = SealFlags::SEAL | SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE;
        fcntl_add_seals(&file, seals)?;
        Ok(Self { file: file.into() })
    }

    /// Maps the program for as long as this process lives.
    ///
    /// The pages of a program are charged to those who map it. With one mapping in berthd they
    /// are shared from the first shim on, and the text stays resident between two pods.
    pub(crate) fn keep_resident(&self) -> io::Result<()> {
        let size = usize::try_from(rustix::fs::fstat(&self.file)?.st_size)
            .map_err(|_| io::Error::other("a program larger than memory"))?;
        let flags = MapFlags::SHARED | MapFlags::POPULATE;
        // SAFETY: a fresh read-only mapping at an address of the kernel's choice; no reference
        // into it is ever made, and the seals keep the file from shrinking under it.
        unsafe { mmap(ptr::null_mut(), size, ProtFlags::READ, flags, &self.file, 0) }?;
        Ok(())
    }
}

/// Lets go of the pages of this program's code and constants: what is needed again is mapped
/// again, as it is in the page cache; what was needed once does not count as resident any more.
pub(crate) fn leave_code() -> io::Result<()> {
    unsafe extern "C" {
        /// Where the linker put the first byte of the program, and the first one after its code.
        static __executable_start: u8;
        static etext: u8;
    }
    let (start, end) = (&raw const __executable_start, &raw const etext);
    // SAFETY: asks for a number.
    let page = usize::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) });
    let page = page.map_err(|_| io::Error::last_os_error())?;
    let length = end.addr().saturating_sub(start.addr()) / page * page;
    // SAFETY: between the two lie code and constants, which are mapped from the file and never
    // written to, so that they come back unchanged.
    Ok(unsafe { madvise(start.cast_mut().cast(), length, Advice::LinuxDontNeed) }?)
}

impl std::os::fd::AsRawFd for Image {
    fn as_raw_fd(&self) -> std::os::fd::RawFd {
        self.file.as_raw_fd()
    }
}

impl AsFd for Image {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}
