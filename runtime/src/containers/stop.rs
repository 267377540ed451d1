//! Stopping a container: the stop signal, patience, `cgroup.kill`.

use std::sync::atomic::Ordering;
use std::time::Duration;

use fail::fail_point;
use tokio::time::Instant;

use crate::error::Error;

use super::{Container, Containers, State};

/// How long the kernel may take to end a killed process and the shim to tell of it.
const DEATH: Duration = Duration::from_secs(10);

impl Containers {
    /// Asks a container to end, kills it after `grace`, and returns when it has ended.
    ///
    /// A container that does not run is stopped already, one that is gone as well. When several callers stop the same
    /// container, the one with the least patience decides, whoever came first.
    ///
    /// # Errors
    /// [`Error::Deadline`] if it outlives `SIGKILL`, which a process that sleeps in the kernel
    /// does.
    pub async fn stop(&self, id: &str, grace: Duration) -> Result<(), Error> {
        let Some(container) = self.find(id) else { return Ok(()) };
        if !matches!(container.state(), State::Running { .. }) {
            return Ok(());
        }
        container.lose_patience_by(Instant::now().checked_add(grace));
        if !grace.is_zero() {
            // A shim that does not take it leaves killing, which needs no shim.
            if let Err(error) = container.shim.signal(id, container.spec.stop_signal).await {
                tracing::warn!(container = id, %error, "send the stop signal, ignoring");
            }
            tokio::select! {
                _ = container.ended() => return Ok(()),
                () = container.out_of_patience() => {}
            }
        }
        let oom_kills = self.0.hierarchy.oom_kills(&container.spec.cgroup);
        container.oom_kills_before.store(oom_kills, Ordering::Relaxed);
        self.0.hierarchy.kill(&container.spec.cgroup)?;
        fail_point!("container.stop.killed");
        let ended = tokio::time::timeout(DEATH, container.ended()).await;
        ended
            .map(drop)
            .map_err(|_| Error::Deadline { attempt: format!("kill container {id}"), after: DEATH })
    }
}

impl Container {
    /// Brings the end of all patience forward to `deadline`, if that is earlier.
    pub fn lose_patience_by(&self, deadline: Option<Instant>) {
        self.stop_by.send_if_modified(|current| {
            let earlier =
                deadline.is_some() && current.is_none_or(|current| deadline < Some(current));
            if earlier {
                *current = deadline;
            }
            earlier
        });
    }

    async fn out_of_patience(&self) {
        let mut stop_by = self.stop_by.subscribe();
        loop {
            let deadline = *stop_by.borrow_and_update();
            let patience = async {
                match deadline {
                    Some(deadline) => tokio::time::sleep_until(deadline).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = patience => return,
                _ = stop_by.changed() => {}
            }
        }
    }
}
