//! `berth rm`: removes containers and pods.

use std::process::ExitCode;

use anyhow::bail;
use clap::Args;

use super::for_each;
use crate::api::runtime::{Container, ContainerState, PodSandbox, PodSandboxState};
use crate::names::{Names, Object};
use crate::node::{Cri, Node};
use crate::output::print;
use crate::{pod_logs, table};

/// Remove containers, or pods with all their containers
///
/// Removes the logs too if the pod was made by `berth run`; those of other pods belong to who
/// made them.
#[derive(Debug, Args)]
pub(crate) struct Rm {
    /// Remove also what runs: it is killed
    #[arg(short, long)]
    force: bool,

    /// Pods or containers: ids, beginnings of ids, or names
    #[arg(required = true, value_name = "POD|CONTAINER")]
    objects: Vec<String>,
}

/// Removes each object, and prints what it was called.
pub(crate) async fn execute(node: &Node, options: Rm) -> anyhow::Result<ExitCode> {
    let cri = node.cri().await?;
    let remove = async |text: &str| {
        // Asked for each time: what was done to the one before may have changed it.
        let names = Names::read(&cri).await?;
        match names.object(text)? {
            Object::Container(container) => {
                remove_container(&cri, container, options.force).await?;
            }
            Object::Pod(pod) => remove_pod(&cri, pod, options.force).await?,
        }
        print(format!("{text}\n"))
    };
    for_each(&options.objects, remove).await
}

async fn remove_container(cri: &Cri, container: &Container, force: bool) -> anyhow::Result<()> {
    let id = &container.id;
    if container.state() == ContainerState::ContainerRunning {
        if !force {
            bail!("the container {} runs: stop it first, or use -f", table::id(id, false));
        }
        // Daemons differ in whether they remove a container that runs.
        cri.stop_container(id, 0).await?;
    }
    Ok(cri.remove_container(id).await?)
}

async fn remove_pod(cri: &Cri, pod: &PodSandbox, force: bool) -> anyhow::Result<()> {
    let id = &pod.id;
    if pod.state() == PodSandboxState::SandboxReady {
        if !force {
            bail!("the pod {} runs: stop it first, or use -f", table::id(id, false));
        }
        cri.stop_pod(id).await?;
    }
    cri.remove_pod(id).await?;
    pod_logs::remove(pod);
    Ok(())
}
