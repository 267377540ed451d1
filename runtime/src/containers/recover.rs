//! Finding the containers of an earlier berthd again.
//!
//! What is true of a process the kernel and its shim say, not the record: a shim that answers
//! says what runs, its exit records say what has ended meanwhile, and where there is neither,
//! whatever is left is killed and the end is unknown.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::client::{ShimClient, Watch, read_exit};
use crate::error::Error;
use crate::protocol::{Greeting, Started};
use crate::record::Found;

use super::state::Exited;
use super::{Container, ContainerSpec, Containers, State};

/// What is left of a pod's shim.
#[derive(Debug)]
pub struct Pod {
    /// The shim, connected to; or one that is gone.
    pub shim: ShimClient,
    /// The shim's directory.
    pub directory: PathBuf,
}

/// What a shim tells of a container.
#[derive(Debug)]
enum Seen {
    /// It runs.
    Running(Started, Watch),
    /// Its start, which the last berthd had asked for, has failed.
    Failed(Error),
}

/// How long a start that the last berthd had asked for may still take. Another runtime may hang in
/// it, and nobody is served before.
const UNFINISHED: Duration = Duration::from_secs(10);

impl Containers {
    /// Loads all containers of the sandboxes in `pods`, by sandbox.
    ///
    /// Containers that were not created to the end, and those of sandboxes that are not there,
    /// are torn down.
    ///
    /// # Errors
    /// If the records cannot be read at all.
    pub async fn recover(&self, pods: &HashMap<String, Pod>) -> Result<(), Error> {
        let (specs, _) = self.0.specs.load()?;
        let (states, _) = self.0.states.load()?;
        let mut states: HashMap<_, _> =
            states.into_iter().map(|found| (found.id, (found.record, found.this_boot))).collect();
        let mut running = HashMap::new();
        for (sandbox, pod) in pods {
            running.insert(sandbox.as_str(), self.seen(sandbox, pod, &specs).await);
        }
        for Found { id, record: spec, .. } in specs {
            let state = states.remove(&id);
            match (pods.get(&spec.sandbox), state) {
                (Some(pod), Some((state, this_boot))) => {
                    let of_pod = running.get_mut(spec.sandbox.as_str());
                    let seen = of_pod.and_then(|of_pod| of_pod.remove(&id));
                    self.adopt(spec, state, this_boot, seen, pod).await?;
                }
                _ => {
                    tracing::info!(container = id, "tear down an unfinished container");
                    if let Err(error) = self.discard(&spec).await {
                        tracing::warn!(container = id, %error, "it is not all gone, ignoring");
                    }
                }
            }
        }
        // A state without a specification is what a remove that was cut off has left.
        states.keys().try_for_each(|id| self.remove_records(id))
    }

    /// Asks a shim what runs, and waits for what is being started. Watches are set up before it is
    /// asked, so that no end is missed.
    async fn seen(
        &self,
        sandbox: &str,
        pod: &Pod,
        specs: &[Found<ContainerSpec>],
    ) -> HashMap<String, Seen> {
        let of_pod = specs.iter().filter(|found| found.record.sandbox == sandbox);
        let mut watches: HashMap<_, _> =
            of_pod.map(|found| (found.id.clone(), pod.shim.watch(&found.id))).collect();
        let greeting = pod.shim.greet().await.unwrap_or_else(|error| {
            tracing::warn!(sandbox, %error, "a shim does not answer");
            Greeting::default()
        });
        let pair = |started: Started| {
            let watch = watches.remove(&started.key)?;
            Some((started.key.clone(), Seen::Running(started, watch)))
        };
        let mut seen: HashMap<_, _> = greeting.running.into_iter().filter_map(pair).collect();
        for key in greeting.starting.into_iter().filter(|key| watches.contains_key(key)) {
            tracing::info!(container = key, "wait for a start that was cut off");
            let heard = match pod.shim.attend(&key, UNFINISHED).await {
                Ok(running) => Seen::Running(running.started, running.ending),
                Err(error) => Seen::Failed(error),
            };
            seen.insert(key, heard);
        }
        seen
    }

    async fn adopt(
        &self,
        spec: ContainerSpec,
        state: State,
        this_boot: bool,
        seen: Option<Seen>,
        pod: &Pod,
    ) -> Result<(), Error> {
        let container = Container::new(spec, pod.shim.clone(), state.clone());
        self.insert(Arc::clone(&container));
        match (state, seen) {
            (State::Exited(_), _) => {}
            (State::Running { .. }, Some(Seen::Running(_, ending))) => {
                self.watch(container, ending)
            }
            // Started, but berthd was gone before it could write that down.
            (State::Created, Some(Seen::Running(Started { pid, at, .. }, ending))) => {
                self.set_state(&container, State::Running { pid, started_at: at })?;
                self.watch(container, ending);
            }
            (State::Created, seen) => {
                if let Some(exited) = ended_meanwhile(&pod.directory, &container.spec) {
                    self.settle(&container, exited).await;
                } else if let Some(Seen::Failed(error)) = seen {
                    self.give_up_start(&container, error).await;
                } else if !this_boot {
                    // Its cgroup went with the boot: it cannot be started any more.
                    let now = crate::clock::nanoseconds();
                    let why = "the machine was restarted before it was started";
                    self.settle(&container, Exited::not_started(255, why.to_owned(), now)).await;
                }
            }
            (state @ State::Running { .. }, _) => {
                let exited = ended_meanwhile(&pod.directory, &container.spec);
                let now = crate::clock::nanoseconds();
                let exited = exited.unwrap_or_else(|| Exited::unknown(&state, now));
                self.settle(&container, exited).await;
            }
        }
        Ok(())
    }

    /// Ids on record, which [`crate::shim`]'s or anybody's leftovers can be compared with.
    pub fn ids(&self) -> HashSet<String> {
        self.list().iter().map(|container| container.spec.id.clone()).collect()
    }
}

fn ended_meanwhile(directory: &Path, spec: &ContainerSpec) -> Option<Exited> {
    read_exit(directory, &spec.id).map(|exit| Exited::from_exit(&exit, 0, &spec.cgroup))
}
