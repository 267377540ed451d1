//! Calls that 32-bit x86 has twice: by a number of their own, and by way of `socketcall(2)` or
//! `ipc(2)`, whose first argument says which one is meant. A rule without conditions is for both.

use super::abi::Abi;
use super::profile::{Condition, Test};

/// `SYS_*` of `linux/net.h`.
const SOCKET: [&str; 20] = [
    "socket",
    "bind",
    "connect",
    "listen",
    "accept",
    "getsockname",
    "getpeername",
    "socketpair",
    "send",
    "recv",
    "sendto",
    "recvfrom",
    "shutdown",
    "setsockopt",
    "getsockopt",
    "sendmsg",
    "recvmsg",
    "accept4",
    "recvmmsg",
    "sendmmsg",
];

/// `SEMOP` and so on, of `linux/ipc.h`.
const IPC: [(&str, u64); 12] = [
    ("semop", 1),
    ("semget", 2),
    ("semctl", 3),
    ("semtimedop", 4),
    ("msgsnd", 11),
    ("msgrcv", 12),
    ("msgget", 13),
    ("msgctl", 14),
    ("shmat", 21),
    ("shmdt", 22),
    ("shmget", 23),
    ("shmctl", 24),
];

/// The number of the call that `name` may come by, and what is true of it then.
pub(super) fn multiplexed(abi: Abi, name: &str) -> Option<(u32, Condition)> {
    if abi != Abi::X86 {
        return None;
    }
    let first = |test, value| Condition { index: 0, test, value, wide: false };
    if let Some(index) = SOCKET.iter().position(|known| *known == name) {
        return Some((abi.number("socketcall")?, first(Test::Equal, index as u64 + 1)));
    }
    let (_, value) = IPC.iter().find(|(known, _)| *known == name)?;
    // The upper half is a version.
    Some((abi.number("ipc")?, first(Test::Masked(0xffff), *value)))
}
