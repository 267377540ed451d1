//! `berth stop`: ends containers and pods.

use std::process::ExitCode;

use clap::Args;

use super::for_each;
use crate::api::runtime::{Container, ContainerState};
use crate::names::{Names, Object};
use crate::node::{Cri, Node, Refused};
use crate::output::print;

/// Stop containers, or pods with all their containers
///
/// A container is sent its stop signal (SIGTERM unless the image says otherwise) and is killed
/// when its time is over. A pod that is stopped has no network any more. What is stopped already
/// is no error.
#[derive(Debug, Args)]
pub(crate) struct Stop {
    /// Seconds between the stop signal and the kill; 0 kills at once
    #[arg(short, long, value_name = "SECONDS", default_value_t = 10)]
    time: u32,

    /// Pods or containers: ids, beginnings of ids, or names
    #[arg(required = true, value_name = "POD|CONTAINER")]
    objects: Vec<String>,
}

/// Stops each object, and prints what it was called.
pub(crate) async fn execute(node: &Node, options: Stop) -> anyhow::Result<ExitCode> {
    let cri = node.cri().await?;
    let stop = async |text: &str| {
        // Asked for each time: what was done to the one before may have changed it.
        let names = Names::read(&cri).await?;
        match names.object(text)? {
            Object::Container(container) => cri.stop_container(&container.id, options.time).await?,
            Object::Pod(pod) => {
                let inside: Vec<_> = names.containers_of(&pod.id).collect();
                stop_containers(&cri, &inside, options.time).await?;
                cri.stop_pod(&pod.id).await?;
            }
        }
        print(format!("{text}\n"))
    };
    for_each(&options.objects, stop).await
}

/// Gives all containers of a pod their time together; StopPodSandbox would give them none.
async fn stop_containers(cri: &Cri, containers: &[&Container], grace: u32) -> Result<(), Refused> {
    let [container, rest @ ..] = containers else { return Ok(()) };
    let this = async {
        match container.state() {
            ContainerState::ContainerRunning => cri.stop_container(&container.id, grace).await,
            _ => Ok(()),
        }
    };
    let (stopped, others) = tokio::join!(this, Box::pin(stop_containers(cri, rest, grace)));
    stopped.and(others)
}
