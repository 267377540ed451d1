//! RunPodSandbox: make the home of a pod.

use tonic::Status;

use super::{Call, identity};
use crate::api::runtime::{RunPodSandboxRequest, RunPodSandboxResponse};
use crate::node::{Node, SandboxOrigin, new_id, now};
use crate::ops::Operation;
use crate::status;
use crate::translate::sandbox;

/// What a pod asks of its network, and somebody will look for.
const ASKED: [&str; 2] = ["portMappings", "bandwidth"];

pub(super) async fn run_pod_sandbox(
    node: &Node,
    _: Call,
    request: RunPodSandboxRequest,
) -> Result<RunPodSandboxResponse, Status> {
    let (key, fingerprint) = identity::of_sandbox(&request)?;
    let id = new_id()?;
    let runtime = &node.loaded.config.runtime;
    let handlers = node.handlers.names();
    let mut spec = sandbox::spec(
        &request,
        &sandbox::Context {
            id: &id,
            hostname: &node.hostname,
            handlers: &handlers,
            cgroup_driver: runtime.cgroup_driver,
            default_cgroup_parent: &runtime.default_cgroup_parent.to_string_lossy(),
            unprivileged_ports: runtime.enable_unprivileged_ports,
            unprivileged_icmp: runtime.enable_unprivileged_icmp,
            now: now(),
        },
    )?;
    let handler = node.handlers.find(&request.runtime_handler);
    let handler = handler.ok_or_else(|| Status::internal("a handler that is not there"))?;
    handler.check()?;
    handler.check_users(&spec)?;
    let origin = SandboxOrigin { handler: handler.name.clone(), request: Some(request) };
    spec.origin = prost::Message::encode_to_vec(&origin);

    let deadline = node.loaded.config.timeouts.pod_start.get();
    let operation = Operation::new(key, deadline).fingerprint(fingerprint);
    let (sandboxes, metrics) = (node.sandboxes.clone(), node.metrics.clone());
    let making = node.making.begin(&id);
    let work = async move |handle: crate::ops::Handle| {
        let _making = making;
        let report = sandboxes.run(spec, |stage| handle.stage(stage)).await.map_err(status::of)?;
        metrics.network_operation("add", report.network);
        // The rest is told to networks that want to know it, and missed by none.
        for missed in report.unserved.iter().filter(|asked| ASKED.contains(&asked.as_str())) {
            tracing::warn!("the pod asks for {missed}, which no plugin of its network provides");
        }
        Ok(())
    };
    let sandboxes = node.sandboxes.clone();
    let remove = move |id: String| {
        let sandboxes = sandboxes.clone();
        async move { sandboxes.remove(&id).await.map_err(status::of) }
    };
    let pod_sandbox_id = node.ops.create(operation, id, work, remove).await?;
    Ok(RunPodSandboxResponse { pod_sandbox_id })
}
