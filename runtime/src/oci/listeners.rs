//! Sockets that a service manager has opened for a container (`sd_listen_fds(3)`).

use std::env;

use crate::plan::Process;

/// Passes the sockets that were given to this program on to `process`; answers their number.
/// They are its descriptors from 3 on, as they are ours.
pub(super) fn adopt(process: &mut Process) -> u32 {
    let number = |name| env::var(name).ok().and_then(|text| text.parse::<u32>().ok());
    let count = count(number("LISTEN_PID"), std::process::id(), number("LISTEN_FDS"));
    if count > 0 {
        // In a PID namespace of its own it is the first; elsewhere nobody could say yet.
        process.env.push(format!("LISTEN_FDS={count}").into_bytes());
        process.env.push(b"LISTEN_PID=1".to_vec());
    }
    count
}

/// Those that are meant for another process are none.
fn count(meant_for: Option<u32>, own: u32, announced: Option<u32>) -> u32 {
    announced.filter(|_| meant_for == Some(own)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sockets_for_somebody_else_are_not_ours() {
        assert_eq!(count(Some(7), 7, Some(2)), 2);
        assert_eq!(count(Some(8), 7, Some(2)), 0);
        assert_eq!(count(None, 7, Some(2)), 0);
        assert_eq!(count(Some(7), 7, None), 0);
    }
}
