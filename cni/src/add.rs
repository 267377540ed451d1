//! ADD: puts a container on a network, one plugin after the other, each given
//! the result of the one before (specification 1.1, section 3, "Adding an
//! attachment").
//!
//! ```text
//!  all plugins found? ─► record, DEL is owed ─► plugin ─► ... ─► plugin ─► record with result
//! ```

use std::sync::Arc;
use std::time::Instant;

use serde_json::Value;

use crate::attachment::Attachment;
use crate::cache::Record;
use crate::cni::{Cni, blame};
use crate::error::{Error, Result, Verb};
use crate::exec::bad_result;
use crate::network::Network;
use crate::request::Request;
use crate::result::{Answer, Attached, PluginRun};

impl Cni {
    /// Attaches a container to a network. After any error but
    /// [`Error::Argument`] and [`Error::AlreadyAttached`] the caller owes a
    /// [`Cni::del`], as the specification has it; the record of what is owed
    /// was written before the first plugin ran. Dropping the future kills the
    /// plugin that runs.
    ///
    /// A plugin that is missing is found out before any runs; then nothing is
    /// owed, and a DEL does no harm.
    ///
    /// # Errors
    /// [`Error::Plugin`] if a plugin failed, [`Error::Cache`] if the record
    /// could not be written, and those above.
    pub async fn add(&self, network: &Arc<Network>, attachment: &Attachment) -> Result<Attached> {
        let Some(netns) = attachment.netns.as_deref() else {
            let value = attachment.container_id.clone();
            let why = "needs a network namespace to be attached";
            return Err(Error::Argument { what: "container", value, why });
        };
        let request = Request {
            verb: Verb::Add,
            network,
            container_id: &attachment.container_id,
            ifname: &attachment.ifname,
            netns: Some(netns),
            args: &attachment.args,
            capabilities: &attachment.capabilities,
        };
        let mut chain = Vec::new();
        for plugin in &network.plugins {
            chain.push((plugin, self.find(plugin).map_err(blame(&request, plugin))?));
        }

        let _turn = self.turn().await;
        let owed = owed(network, attachment);
        let mut complete = owed.clone();
        self.records(move |cache| cache.create(&owed)).await?;

        let mut answer: Option<Answer> = None;
        let mut runs = Vec::new();
        for (plugin, binary) in chain {
            let started = Instant::now();
            let previous = answer.as_ref().map(|answer| &answer.raw);
            let stdout = self.call(&request, plugin, binary, previous).await;
            let stdout = stdout.map_err(blame(&request, plugin))?;
            runs.push(PluginRun { plugin: plugin.kind.clone(), took: started.elapsed() });
            let read = Answer::read(&stdout, network.version);
            answer = Some(read.map_err(|why| blame(&request, plugin)(bad_result(why, &stdout)))?);
        }

        let answer = answer.unwrap_or_default();
        complete.result = Some(answer.raw.clone());
        self.records(move |cache| cache.write(&complete)).await?;
        Ok(attached(network, attachment, answer, runs))
    }
}

/// The record of an attachment of which nothing stands yet.
fn owed(network: &Network, attachment: &Attachment) -> Record {
    let netns = attachment.netns.as_deref().unwrap_or("".as_ref());
    Record {
        config: network.list.clone(),
        netns: netns.to_string_lossy().into_owned(),
        cni_args: Some(attachment.args.clone()),
        capability_args: attachment.capabilities.clone(),
        ..Record::new(&attachment.container_id, &network.name, &attachment.ifname)
    }
}

fn attached(
    network: &Network,
    attachment: &Attachment,
    answer: Answer,
    runs: Vec<PluginRun>,
) -> Attached {
    let served = network.capabilities();
    let unserved = attachment.capabilities.names().filter(|name| !served.contains(name));
    let parsed = answer.parsed;
    Attached {
        network: network.name.clone(),
        ifname: attachment.ifname.clone(),
        interfaces: parsed.interfaces,
        ips: parsed.ips,
        routes: parsed.routes,
        dns: parsed.dns,
        unserved: unserved.map(str::to_owned).collect(),
        raw: Value::Object(answer.raw).to_string(),
        runs,
    }
}
