//! What /proc knows: mounts, processes, listening sockets.

use std::fs;
use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::path::Path;

use anyhow::{Context, Result};

use super::snapshot::gone_is_empty;

/// State of a TCP socket that listens (include/net/tcp_states.h).
const TCP_LISTEN: &str = "0A";
/// Flag of a unix socket that listens (`__SO_ACCEPTCON`, include/uapi/linux/net.h).
const UNIX_LISTEN: &str = "00010000";

fn read(path: &str) -> Result<String> {
    fs::read_to_string(path).with_context(|| format!("read {path}"))
}

/// Mount points with their type and what of the file system they show; not their ids, which
/// change.
pub(super) fn mounts() -> Result<Vec<String>> {
    let text = read("/proc/self/mountinfo")?;
    let parse = |line: &str| {
        let (before, after) = line.split_once(" - ")?;
        let mut fields = before.split(' ').skip(3);
        let (root, point) = (fields.next()?, fields.next()?);
        Some(format!("{point} ({} {root})", after.split(' ').next()?))
    };
    Ok(text.lines().filter_map(parse).collect())
}

/// Command lines of all processes but this one and the kernel's own.
pub(super) fn processes() -> Result<Vec<String>> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").context("list /proc")?.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let is_other = name.parse().is_ok_and(|pid: u32| pid != std::process::id());
        if is_other && let Some(process) = process(&entry.path())? {
            found.push(process);
        }
    }
    Ok(found)
}

fn process(dir: &Path) -> Result<Option<String>> {
    let gone = |err: &io::Error| {
        // ESRCH: it ended between open and read.
        err.kind() == io::ErrorKind::NotFound || err.raw_os_error() == Some(3)
    };
    let stat = match fs::read_to_string(dir.join("stat")) {
        Err(err) if gone(&err) => return Ok(None),
        stat => stat.with_context(|| format!("read {}", dir.display()))?,
    };
    let command = gone_is_empty(fs::read(dir.join("cmdline"))).unwrap_or_default();
    if !command.is_empty() {
        let command = command.split(|byte| *byte == 0).map(String::from_utf8_lossy);
        return Ok(Some(command.collect::<Vec<_>>().join(" ").trim_end().to_owned()));
    }
    // Without a command line: a zombie, or a thread of the kernel, whose parent is 0 or 2.
    let (name, rest) = stat.rsplit_once(')').unwrap_or_default();
    let mut fields = rest.split_whitespace();
    let (state, parent) = (fields.next().unwrap_or_default(), fields.next().unwrap_or_default());
    let name = name.split_once('(').map_or("", |(_, name)| name);
    Ok((state == "Z" && parent != "2").then(|| format!("zombie {name}")))
}

/// Listening sockets: unix ones by path, TCP ones by address. Only of this network namespace.
pub(super) fn listening() -> Result<Vec<String>> {
    let unix = read("/proc/net/unix")?;
    let unix = unix.lines().filter_map(|line| {
        let fields: Vec<_> = line.split_whitespace().collect();
        let path = fields.get(7)?;
        (fields[3] == UNIX_LISTEN).then(|| format!("unix {path}"))
    });
    let tcp = read("/proc/net/tcp")?;
    let tcp = tcp.lines().filter_map(|line| {
        let fields: Vec<_> = line.split_whitespace().collect();
        (*fields.get(3)? == TCP_LISTEN).then(|| format!("tcp {}", address(fields[1])))
    });
    let tcp6 = read("/proc/net/tcp6").unwrap_or_default();
    let tcp6 = tcp6.lines().filter_map(|line| {
        let fields: Vec<_> = line.split_whitespace().collect();
        (*fields.get(3)? == TCP_LISTEN).then(|| format!("tcp6 {}", fields[1]))
    });
    Ok(unix.chain(tcp).chain(tcp6).collect())
}

/// `0100007F:1F90` is 127.0.0.1:8080: the address as the machine's own word, the port not.
fn address(field: &str) -> String {
    let parse = |(address, port): (&str, &str)| {
        let address = u32::from_str_radix(address, 16).ok()?;
        let port = u16::from_str_radix(port, 16).ok()?;
        Some(SocketAddrV4::new(Ipv4Addr::from(address.to_ne_bytes()), port).to_string())
    };
    field.split_once(':').and_then(parse).unwrap_or_else(|| field.to_owned())
}
