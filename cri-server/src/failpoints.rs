//! Points in the code at which a test has this program killed, held up or made to panic.
//!
//! Only in a build with the feature `failpoints`, which is never shipped. The environment variable
//! `BERTH_FAILPOINTS` is a list of `NAME=ACTION` with semicolons between them; an action is `kill`
//! (by `SIGKILL`, so that nothing of ours runs any more) or one of the crate `fail`, such as
//! `sleep(1000)`.

use rustix::process::{Signal, getpid, kill_process};

/// Arms what the environment asks for.
pub(crate) fn arm() {
    let wanted = std::env::var("BERTH_FAILPOINTS").unwrap_or_default();
    for (name, action) in wanted.split(';').filter_map(|point| point.split_once('=')) {
        let armed = match action {
            "kill" => fail::cfg_callback(name, kill_myself),
            action => fail::cfg(name, action),
        };
        if let Err(error) = armed {
            tracing::error!(name, action, error, "a failpoint that cannot be armed, ignoring");
        }
    }
}

fn kill_myself() {
    // Cannot fail: a process may send itself any signal.
    let _ = kill_process(getpid(), Signal::KILL);
}
