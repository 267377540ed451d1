//! Bounded waiting for what announces itself with no event: another program's log, a CRI state
//! of a daemon without events, kernel objects that go away by themselves.

use std::time::Duration;

use anyhow::{Context, Result};

/// How often is looked: a compromise between the speed of a test and the load that looking
/// puts on one CPU of a guest.
const PAUSE: Duration = Duration::from_millis(10);

/// Calls `look` until it answers something, at most for `deadline`.
///
/// # Errors
/// The first error of `look`, or that `what` did not happen in time.
pub async fn until<T>(
    what: &str,
    deadline: Duration,
    mut look: impl AsyncFnMut() -> Result<Option<T>>,
) -> Result<T> {
    let looking = async {
        loop {
            if let Some(found) = look().await? {
                return Ok(found);
            }
            // Nothing tells us when to look again: see the module.
            tokio::time::sleep(PAUSE).await;
        }
    };
    tokio::time::timeout(deadline, looking)
        .await
        .with_context(|| format!("wait {deadline:?} until {what}"))?
}
