//! DEL: takes a container off its network, the last plugin first
//! (specification 1.1, section 3, "Deleting an attachment").
//!
//! The chain, its arguments and its result are those of the record, not those
//! of today's configuration. Unlike the specification's runtime, a failing
//! plugin does not keep the others from running: their addresses and rules
//! would leak until it is mended.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::{Map, Value};

use crate::attachment::{Args, Attachment};
use crate::cache::{Entry, Record};
use crate::capability::Capabilities;
use crate::cni::{Cni, blame};
use crate::error::{Error, Result, Verb};
use crate::leftover;
use crate::network::Network;
use crate::request::Request;
use crate::result::Answer;

/// `f_type` of a namespace file (`NSFS_MAGIC`, linux/magic.h).
const NSFS_MAGIC: u64 = 0x6e73_6673;

/// One chain to be undone.
#[derive(Debug, PartialEq)]
struct Undo {
    network: Arc<Network>,
    args: Args,
    capabilities: Capabilities,
    /// The result of the ADD, in the network's version.
    result: Option<Map<String, Value>>,
}

impl Cni {
    /// Detaches a container. May be called at any time and any number of
    /// times: after a failed or interrupted ADD, with the namespace gone, again
    /// after a failure. The record goes when every plugin has succeeded.
    ///
    /// Without a record nothing was added, or a power cut took the record. The
    /// plugins of the default network are called then, as a precaution whose
    /// failures do not count. It costs as much as any DEL: a caller that knows
    /// of a success need not ask again.
    ///
    /// # Errors
    /// [`Error::Del`] with all that failed; [`Error::NotReady`] if there is a
    /// record that does not tell the chain, and no network to take it from;
    /// [`Error::Cache`]. After any of them the DEL is still owed.
    pub async fn del(&self, attachment: &Attachment) -> Result<()> {
        let of = attachment.clone();
        let entries = self.records(move |cache| cache.find(&of.container_id, &of.ifname)).await?;
        let undos = plan(attachment, &entries, || self.network_now())?;
        if entries.iter().any(Entry::is_unfinished) {
            self.end_leftovers(attachment).await;
        }

        let turn = self.turn().await;
        let netns = attachment.netns.as_deref().filter(|path| is_namespace(path));
        let mut failures = Vec::new();
        for undo in &undos {
            failures.extend(self.undo(attachment, netns, undo).await);
        }
        drop(turn);
        if !entries.is_empty() && !failures.is_empty() {
            return Err(Error::Del { failures });
        }
        tracing::debug!(?failures, container = attachment.container_id, "detached");
        let records: Vec<PathBuf> = entries.into_iter().map(|entry| entry.path).collect();
        let of = attachment.clone();
        self.records(move |cache| cache.remove(&of.container_id, &of.ifname, &records)).await
    }

    /// An ADD that did not come to its end may still be at work, if its daemon was killed.
    async fn end_leftovers(&self, attachment: &Attachment) {
        let id = attachment.container_id.clone();
        let ended = self.records(move |_| leftover::end(&id)).await;
        if ended > 0 {
            let container = &attachment.container_id;
            tracing::warn!(container, processes = ended, "ended the plugins of an earlier daemon");
        }
    }

    async fn undo(&self, attachment: &Attachment, netns: Option<&Path>, undo: &Undo) -> Vec<Error> {
        let request = Request {
            verb: Verb::Del,
            network: &undo.network,
            container_id: &attachment.container_id,
            ifname: &attachment.ifname,
            netns,
            args: &undo.args,
            capabilities: &undo.capabilities,
        };
        let mut failures = Vec::new();
        for plugin in undo.network.plugins.iter().rev() {
            let called = match self.find(plugin) {
                Ok(binary) => self.call(&request, plugin, binary, undo.result.as_ref()).await,
                Err(missing) => Err(missing),
            };
            failures.extend(called.map_err(blame(&request, plugin)).err());
        }
        failures
    }
}

/// What must be undone: each record as it was added; what is on record without
/// telling its chain, and what is not on record, by the network of today.
fn plan(
    attachment: &Attachment,
    entries: &[Entry],
    today: impl Fn() -> Result<Arc<Network>>,
) -> Result<Vec<Undo>> {
    if entries.is_empty() {
        let network = today().ok();
        return Ok(network
            .map(|network| by_configuration(attachment, network))
            .into_iter()
            .collect());
    }
    entries
        .iter()
        .map(|entry| match entry.record.as_ref().and_then(|record| by_record(attachment, record)) {
            Some(undo) => Ok(undo),
            None => Ok(by_configuration(attachment, today()?)),
        })
        .collect()
}

fn by_record(attachment: &Attachment, record: &Record) -> Option<Undo> {
    let network = Network::parse_recorded(&record.config).ok()?;
    let result = record.result.clone().filter(|_| network.version.del_takes_result());
    // A result that makes no sense is left out: plugins must do without one.
    let result = result.and_then(|raw| Answer::of(raw, network.version).ok());
    Some(Undo {
        result: result.map(|answer| answer.raw),
        network: Arc::new(network),
        args: record.cni_args.clone().unwrap_or_else(|| attachment.args.clone()),
        capabilities: record.capability_args.clone(),
    })
}

fn by_configuration(attachment: &Attachment, network: Arc<Network>) -> Undo {
    let (args, capabilities) = (attachment.args.clone(), attachment.capabilities.clone());
    Undo { network, args, capabilities, result: None }
}

/// Whether a path leads to a namespace. Its file may be gone, or something else
/// may stand in its place; plugins are then told that there is none.
fn is_namespace(path: &Path) -> bool {
    rustix::fs::statfs(path).is_ok_and(|fs| fs.f_type.cast_unsigned() == NSFS_MAGIC)
}
