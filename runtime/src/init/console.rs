//! A pseudo terminal of the container's own `devpts`.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{Mode, OFlags};
use rustix::process::ioctl_tiocsctty;
use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer, unlockpt};
use rustix::termios::{OptionalActions, OutputModes, Winsize, tcgetattr, tcsetattr, tcsetwinsize};

use crate::newborn::report_terminal;
use crate::plan::{Process, Window};
use crate::protocol::Step;
use crate::sys::fds;

use super::mounts::{attach, clone_of};
use super::paths::{Kind, RootDirectory};
use super::{Attempt, Fault, Inheritance};

/// Opens a terminal before the pivot, and shows it as `/dev/console`.
pub(super) fn open(
    root: &RootDirectory,
    process: &Process,
    given: &Inheritance<'_>,
) -> Result<(), Fault> {
    let flags = OFlags::RDWR | OFlags::NOCTTY;
    let master = root.open_with("/dev/pts/ptmx", flags);
    let master = master.attempt(Step::Streams, || "open /dev/pts/ptmx")?;
    let slave = connect(master, process, given).attempt(Step::Streams, || "open a terminal")?;
    show(root, &slave).attempt(Step::Streams, || "show the terminal as /dev/console")
}

/// Opens a terminal in a container that is entered.
pub(super) fn open_here(process: &Process, given: &Inheritance<'_>) -> Result<(), Fault> {
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
    rustix::fs::open("/dev/pts/ptmx", flags, Mode::empty())
        .map_err(io::Error::from)
        .and_then(|master| connect(master, process, given))
        .attempt(Step::Streams, || "open a terminal in /dev/pts")
        .map(drop)
}

/// Makes the terminal's other end the controlling terminal and the standard streams, and sends
/// the master to the shim.
fn connect(master: OwnedFd, process: &Process, given: &Inheritance<'_>) -> io::Result<OwnedFd> {
    unlockpt(&master)?;
    if let Some(window) = process.window {
        tcsetwinsize(&master, size(window))?;
    }
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let slave = ioctl_tiocgptpeer(&master, flags)?;
    // Who ends before the program runs must not take it along.
    if !given.has_company() {
        ioctl_tiocsctty(&slave)?;
    }
    if process.plain_lines {
        let mut modes = tcgetattr(&slave)?;
        modes.output_modes.remove(OutputModes::ONLCR);
        tcsetattr(&slave, OptionalActions::Now, &modes)?;
    }
    for number in 0..3 {
        fds::install(slave.as_fd(), number)?;
    }
    report_terminal(given.report, master.as_fd())?;
    Ok(slave)
}

fn size(window: Window) -> Winsize {
    let side = |value| u16::try_from(value).unwrap_or(u16::MAX);
    Winsize { ws_row: side(window.rows), ws_col: side(window.columns), ws_xpixel: 0, ws_ypixel: 0 }
}

fn show(root: &RootDirectory, slave: &OwnedFd) -> io::Result<()> {
    let target = root.open_or_make("/dev/console", Kind::File)?;
    attach(clone_of(slave.as_fd(), false)?.as_fd(), target.as_fd())
}
