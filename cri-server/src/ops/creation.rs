//! Creations: operations whose result outlives them, as the id of an object.
//!
//! The kubelet repeats a RunPodSandbox whose answer it did not get, with the
//! same name, uid and attempt. What it then gets depends on what became of the
//! first one:
//!
//! | the first | same parameters | other parameters |
//! |---|---|---|
//! | runs | joins it | waits for its end; stops it if no client waits |
//! | failed | runs again | runs |
//! | made it, a client got the id | the same id | ALREADY_EXISTS with the id |
//! | made it, no client got the id | the same id | removes it, then runs |

use std::panic::{AssertUnwindSafe, resume_unwind};
use std::sync::Arc;

use futures_util::FutureExt;
use tonic::Status;

use super::Ops;
use super::key::{Fingerprint, Key, Operation};
use super::registry::{NextCreation, Registry};
use super::running::Handle;

impl Ops {
    /// Creates the object `id` by `work`, or gives the id that an identical
    /// request got before. The id is kept until [`Ops::forget`].
    ///
    /// `remove` is the object's teardown, for any id and any half of an
    /// object. It is called when the work is told to stop, which drops the
    /// work where it stands; when the work panics; and for an object that was
    /// made with other parameters and whose id no client ever got. Work that
    /// fails has cleaned up behind itself.
    ///
    /// # Errors
    /// As [`Ops::run`], and `ALREADY_EXISTS` when a client has got an object
    /// of this key with other parameters.
    pub async fn create<F, W, R, C>(
        &self,
        operation: Operation,
        id: String,
        work: W,
        remove: C,
    ) -> Result<String, Status>
    where
        F: Future<Output = Result<(), Status>> + Send + 'static,
        W: FnOnce(Handle) -> F + Send + 'static,
        R: Future<Output = Result<(), Status>> + Send + 'static,
        C: Fn(String) -> R + Send + Sync + 'static,
    {
        let Operation { key, fingerprint, .. } = operation.clone();
        loop {
            let next = self.registry().creation(&operation)?;
            let mut waiter = match next {
                NextCreation::Made(id) => return Ok(id),
                NextCreation::Taken(id) => return Err(taken(&key, &id)),
                NextCreation::After { ended, rival: _rival } => {
                    ended.cancelled().await;
                    continue;
                }
                NextCreation::Join(waiter) => waiter,
                NextCreation::Start { launch, unclaimed } => {
                    let waiter = launch.waiter();
                    let maker = Arc::clone(&launch.running);
                    let keep = move |registry: &mut Registry, id: &String| {
                        registry.keep(&maker, fingerprint, id.clone());
                    };
                    let ops = self.clone();
                    let work = async move |handle: Handle| {
                        if let Some(id) = unclaimed {
                            handle.stage("remove what no client claimed");
                            remove(id.clone()).await?;
                            ops.forget(&id);
                        }
                        make(&handle, id, work, remove).await
                    };
                    self.launch(launch, work, keep);
                    waiter
                }
            };
            let id = waiter.result().await?;
            // Before the waiter goes: at no moment does the id look unclaimed.
            self.registry().claim(&key, &id);
            return Ok(id);
        }
    }

    /// Keeps the id of an object that an earlier berthd made, with the
    /// fingerprint that its record holds.
    pub fn adopt(&self, key: Key, fingerprint: Fingerprint, id: impl Into<String>) {
        self.registry().adopt(key, fingerprint, id.into());
    }

    /// Drops what is kept about an object. To be called when it is gone, not
    /// before: else a request could make it twice.
    pub fn forget(&self, id: &str) {
        self.registry().forget(id);
    }
}

/// Does the work, or unmakes what it did when it cannot end.
async fn make<F, W, R, C>(handle: &Handle, id: String, work: W, remove: C) -> Result<String, Status>
where
    F: Future<Output = Result<(), Status>>,
    W: FnOnce(Handle) -> F,
    R: Future<Output = Result<(), Status>>,
    C: Fn(String) -> R,
{
    let stopping = handle.stopping();
    let for_work = handle.clone();
    let work = AssertUnwindSafe(async move { work(for_work).await }).catch_unwind();
    let panic = tokio::select! {
        biased;
        result = work => match result {
            Ok(result) => return result.map(|()| id),
            Err(panic) => Some(panic),
        },
        () = stopping.cancelled() => None,
    };
    // The work was dropped with the select: nobody else touches the object.
    handle.stage("undo");
    let undone = remove(id).await;
    match panic {
        None => undone.and(Err(Status::aborted("undone"))),
        Some(panic) => {
            if let Err(error) = undone {
                tracing::warn!(error = error.message(), "undo, ignoring");
            }
            resume_unwind(panic)
        }
    }
}

fn taken(key: &Key, id: &str) -> Status {
    Status::already_exists(format!(
        "{key}: it exists as {id}, made by a request with other parameters"
    ))
}
