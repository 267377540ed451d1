//! `berth run`: an image's command, in a container of its own, in a pod of its own.
//!
//! ```text
//!  image ─► pod ─► container ─► start ─┬─ -d: print the pod's id
//!                     │ fails          └─ logs, wait, Ctrl-C ─► stop the pod ─► --rm: remove it
//!                     └─► remove the pod
//! ```

mod attend;
mod bind;
mod identity;
mod interrupts;
pub(crate) mod options;
mod plan;
#[cfg(test)]
mod plan_tests;
mod publish;
mod user;
mod variable;

use std::process::ExitCode;

use anyhow::{Context, bail};

use self::identity::Identity;
use self::interrupts::Interrupts;
use self::options::{PullPolicy, Run};
use self::plan::{Plan, Surroundings};
use crate::api::runtime::{CreateContainerRequest, ImageSpec, PodSandbox};
use crate::exit::{self, Failure};
use crate::names::image_by_name;
use crate::node::{Admin, Cri, Node};
use crate::output::{note, print};
use crate::{pod_logs, table};

use super::pull;

/// Runs the command; the exit code is the container's.
pub(crate) async fn execute(node: &Node, options: &Run) -> anyhow::Result<ExitCode> {
    match run(node, options).await {
        Err(error) => Ok(exit::complain(&error, exit::RUN_FAILED)),
        code => code,
    }
}

async fn run(node: &Node, options: &Run) -> anyhow::Result<ExitCode> {
    options.interactive.refuse()?;
    let plan = plan_of(options)?;
    let cri = node.cri().await?;
    // Asked for before anything exists that would have to be undone without it.
    let admin = if options.detach { None } else { Some(node.admin().await?) };
    refuse_second(&cri, options).await?;
    let image = image(node, &cri, options).await?;

    let mut interrupts = Interrupts::listen()?;
    let started = interrupts.outlast(Started::new(&cri, plan, image)).await??;
    let Some(admin) = admin else {
        if interrupts.is_pending() {
            remove(&cri, &started.pod).await;
            bail!("interrupted");
        }
        print(format!("{}\n", started.pod.id))?;
        return Ok(ExitCode::SUCCESS);
    };
    foreground(&cri, &admin, options, started, interrupts).await
}

fn plan_of(options: &Run) -> anyhow::Result<Plan> {
    let files = options.env_file.iter().map(|path| variable::read_file(path));
    let files: Vec<_> = files.collect::<anyhow::Result<_>>()?;
    let around = Surroundings {
        identity: Identity::new(options.name.as_deref(), &options.words[0])?,
        from_files: files.concat(),
        directory: &std::env::current_dir().context("find the working directory")?,
        environment: &|name| std::env::var_os(name),
    };
    Ok(plan::plan(options, &around)?)
}

/// The CRI allows two pods of one name; a person who gives a name wants to find one thing by it.
async fn refuse_second(cri: &Cri, options: &Run) -> anyhow::Result<()> {
    let Some(name) = &options.name else { return Ok(()) };
    let pods = cri.list_pods().await?;
    let same = pods.iter().find(|pod| {
        let metadata = pod.metadata.as_ref();
        metadata.is_some_and(|m| m.namespace == plan::NAMESPACE && m.name == *name)
    });
    match same {
        Some(pod) => bail!(
            "there is a pod {name} already ({}); remove it with `berth rm -f {name}`, or take \
             another --name",
            table::id(&pod.id, false)
        ),
        None => Ok(()),
    }
}

/// The image, as containers name it: by its id, so that a tag that moves meanwhile does not
/// matter.
async fn image(node: &Node, cri: &Cri, options: &Run) -> anyhow::Result<ImageSpec> {
    let name = &options.words[0];
    let here = match options.pull {
        PullPolicy::Always => None,
        PullPolicy::Missing | PullPolicy::Never => image_by_name(cri, name).await?,
    };
    let id = match (here, options.pull) {
        (Some(image), _) => image.id,
        (None, PullPolicy::Never) => bail!("the image {name} is not on this node (--pull never)"),
        (None, _) => {
            let admin = node.admin().await.with_context(|| format!("pull {name}"))?;
            pull::pull(&admin, name, &options.creds, pull::Tell::Progress).await?
        }
    };
    Ok(ImageSpec { image: id, user_specified_image: name.clone(), ..Default::default() })
}

/// A container that runs, in its pod.
struct Started {
    pod: PodSandbox,
    container: String,
}

impl Started {
    /// Makes and starts both, or leaves neither.
    async fn new(cri: &Cri, plan: Plan, image: ImageSpec) -> anyhow::Result<Self> {
        let Plan { pod: config, mut container } = plan;
        container.image = Some(image);
        let id = cri.run_pod(config.clone()).await?;
        let pod = PodSandbox {
            id: id.clone(),
            metadata: config.metadata.clone(),
            labels: config.labels.clone(),
            ..Default::default()
        };
        let request = CreateContainerRequest {
            pod_sandbox_id: id,
            config: Some(container),
            sandbox_config: Some(config),
        };
        let started = async {
            let container = cri.create_container(request).await?;
            cri.start_container(&container).await.map(|()| container)
        };
        match started.await {
            Ok(container) => Ok(Self { pod, container }),
            Err(error) => {
                remove(cri, &pod).await;
                Err(Failure::start(error))
            }
        }
    }
}

/// Stays with the container until it has ended, then puts the pod away.
async fn foreground(
    cri: &Cri,
    admin: &Admin,
    options: &Run,
    started: Started,
    mut interrupts: Interrupts,
) -> anyhow::Result<ExitCode> {
    let Started { pod, container } = started;
    let ended = attend::attend(cri, admin, &container, &mut interrupts).await;
    let ended = ended.with_context(|| {
        format!("lost sight of the container in the pod {}", table::id(&pod.id, false))
    })?;
    if ended.reason == "OOMKilled" {
        note("berth: the container was killed: it was out of memory");
    }
    match options.rm {
        true => remove(cri, &pod).await,
        false => put_away(cri, &pod).await,
    }
    Ok(exit::of_process(ended.exit_code))
}

/// Stops the pod, which keeps its container and its logs for a look at them.
async fn put_away(cri: &Cri, pod: &PodSandbox) {
    let id = table::id(&pod.id, false);
    match cri.stop_pod(&pod.id).await {
        Ok(()) => note(format!("berth: the pod {id} is stopped; `berth rm {id}` removes it")),
        Err(error) => note(format!("berth: cannot stop the pod {id}: {error}")),
    }
}

/// Removes the pod. The command's own result counts more than that this fails.
async fn remove(cri: &Cri, pod: &PodSandbox) {
    let removed = async {
        cri.stop_pod(&pod.id).await?;
        cri.remove_pod(&pod.id).await
    };
    match removed.await {
        Ok(()) => pod_logs::remove(pod),
        Err(error) => {
            let id = table::id(&pod.id, false);
            note(format!("berth: cannot remove the pod {id}: {error}"));
        }
    }
}
