//! Whether an image may be here, and whether it may run.
//!
//! ```text
//! policy file (by scope, the longest counts) ──► accept, reject, or signatures by known keys
//!                                                     │ and
//! verifier programs of the operator's, if there are any ──► all of them say yes
//! ```
//!
//! Asked when an image is pulled, before any layer is fetched, and again whenever a container of it
//! is made: an image that was pulled under another policy does not run under this one. Files are
//! read anew each time. Whatever cannot be found out is a no: a policy that is wrong, a key that is
//! gone, a verifier that hangs. A yes is remembered by image and policy; a no is not, since the
//! signature that was missing may be there a minute later.
//!
//! Signatures that were good are kept beside the images, so that a node that is cut off from its
//! registries can start its containers. Those that are missing when a container is made, because
//! nobody asked for them at the pull, are looked for at the registry.

mod cosign;
mod key;
mod policy;
mod record;
mod verifiers;

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::timeout;
use tokio_util::task::TaskTracker;

use self::cosign::Signed;
use self::policy::Ruling;
pub(crate) use self::record::Description;
use self::record::Record;
pub use self::verifiers::Verifiers;
use crate::blocking::blocking;
use crate::config::Config;
use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::reference::Reference;
use crate::registry::{Memory, Registry};

/// Answers that are remembered; beyond that all are forgotten.
const REMEMBERED: usize = 10_000;
/// How long a container waits for signatures that are not here.
const VISIT: Duration = Duration::from_secs(15);

/// Who decides about images. Nobody by default: every image is accepted.
#[derive(Debug, Clone, Default)]
pub struct TrustConfig {
    /// The policy file, which need not exist.
    pub policy_file: Option<PathBuf>,
    /// Programs that have to agree.
    pub verifiers: Option<Verifiers>,
}

/// Decides, and remembers.
#[derive(Debug)]
pub(crate) struct Trust {
    config: TrustConfig,
    /// Directory of what was good at pulls.
    records: PathBuf,
    tasks: TaskTracker,
    accepted: Mutex<HashSet<Verdict>>,
}

/// That an image is accepted under a name, by a policy.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Verdict {
    policy: Digest,
    name: String,
    digest: Digest,
}

/// The image that is decided about.
#[derive(Debug, Clone)]
pub(crate) struct Subject {
    /// What it is called by whoever asks; `None` for an image without a name.
    pub(crate) name: Option<Reference>,
    /// Digests of manifests and indexes that are this image here; at a pull, that of what the
    /// reference leads to comes first.
    pub(crate) digests: Vec<Digest>,
}

/// Where signatures are looked for.
pub(crate) enum Evidence<'a> {
    /// At the registry, which describes the image so; what is good is kept.
    Registry(&'a Registry, Description),
    /// Among those that were kept; else at the registry, where they may have come later.
    Kept(Visit),
}

/// What it takes to ask the registry of an image that is here already.
#[derive(Debug, Clone)]
pub(crate) struct Visit {
    pub(crate) config: Arc<Config>,
    pub(crate) memory: Arc<Memory>,
}

impl Trust {
    pub(crate) fn new(config: TrustConfig, records: PathBuf, tasks: TaskTracker) -> Self {
        Self { config, records, tasks, accepted: Mutex::default() }
    }

    /// Whether an image is accepted.
    ///
    /// # Errors
    /// [`Error::Untrusted`] if it is not; errors of the registry if it cannot be asked.
    pub(crate) async fn check(&self, subject: &Subject, evidence: Evidence<'_>) -> Result<()> {
        if self.config.policy_file.is_none() && self.config.verifiers.is_none() {
            return Ok(());
        }
        let name = subject.name.as_ref().map(Reference::to_string).unwrap_or_default();
        let untrusted = |reason: String| {
            let shown = subject.digests.first().map(Digest::to_string).unwrap_or_default();
            let name = if name.is_empty() { shown } else { name.clone() };
            Error::Untrusted { name, reason }
        };
        let ruling = self.ruling(&name).await?.map_err(untrusted)?;
        let verdict = |digest: &Digest| Verdict {
            policy: ruling.identity(),
            name: name.clone(),
            digest: digest.clone(),
        };
        let known = match evidence {
            Evidence::Registry(..) => &subject.digests[..1.min(subject.digests.len())],
            Evidence::Kept(_) => &subject.digests[..],
        };
        if known.iter().any(|digest| self.remembers(&verdict(digest))) {
            return Ok(());
        }
        if let Some(reason) = &ruling.rejects {
            return Err(untrusted(reason.clone()));
        }
        if ruling.keys.is_empty() && ruling.verifiers.is_empty() {
            return Ok(());
        }
        let (digest, record) = self.evidence(&ruling, subject, evidence).await?;
        let record = record.map_err(untrusted)?;
        if let Some(verifiers) = &self.config.verifiers {
            let asked = verifiers.ask(&ruling.verifiers, &name, &digest, &record.description);
            asked.await.map_err(untrusted)?;
        }
        let path = self.record(&digest);
        let verdict = verdict(&digest);
        blocking(&self.tasks, move || record.write(&path)).await?;
        self.remember(verdict);
        Ok(())
    }

    /// What speaks for an image, or why nothing does, and by which digest that is filed.
    async fn evidence(
        &self,
        ruling: &Ruling,
        subject: &Subject,
        evidence: Evidence<'_>,
    ) -> Result<(Digest, Result<Record, String>)> {
        let first = subject.digests.first().cloned().unwrap_or_else(|| Digest::sha256(b""));
        let (digest, found) = match evidence {
            Evidence::Kept(visit) => {
                let kept = self.kept(&subject.digests).await?;
                let (digest, mut kept) = kept.unwrap_or((first, Record::default()));
                let is_missing =
                    !ruling.keys.is_empty() && ruling.signed(&kept.signatures, subject).is_err();
                if let Some(name) = subject.name.as_ref().filter(|_| is_missing) {
                    kept.signatures.extend(self.visit(visit, name, &subject.digests).await);
                }
                (digest, kept)
            }
            Evidence::Registry(registry, description) => {
                let signatures = match ruling.keys.is_empty() {
                    true => Vec::new(),
                    false => cosign::fetch(registry, &subject.digests).await?,
                };
                (first, Record { signatures, description })
            }
        };
        if ruling.keys.is_empty() {
            return Ok((digest, Ok(found)));
        }
        let signed = ruling.signed(&found.signatures, subject);
        Ok((digest, signed.map(|signed| Record { signatures: vec![signed], ..found })))
    }

    /// The signatures that the registry has now. None if it cannot be asked: then what was kept
    /// has to do.
    async fn visit(&self, visit: Visit, name: &Reference, digests: &[Digest]) -> Vec<Signed> {
        let Visit { config, memory } = visit;
        let fetching = async {
            let registry =
                Registry::open(name.clone(), &config, None, &memory, &self.tasks).await?;
            cosign::fetch(&registry, digests).await
        };
        match timeout(VISIT, fetching).await {
            Ok(Ok(signatures)) => return signatures,
            Ok(Err(error)) => tracing::warn!(%name, %error, "no signatures from the registry"),
            Err(_) => tracing::warn!(%name, "no signatures from the registry within {VISIT:?}"),
        }
        Vec::new()
    }

    /// What the files say about a name now. The inner error is why it cannot be told.
    async fn ruling(&self, name: &str) -> Result<Result<Ruling, String>> {
        let (config, name) = (self.config.clone(), name.to_owned());
        blocking(&self.tasks, move || {
            let listed = config.verifiers.as_ref().map(Verifiers::list).transpose();
            Ok(listed.and_then(|verifiers| {
                let verifiers = verifiers.unwrap_or_default();
                Ruling::read(config.policy_file.as_deref(), &name, verifiers)
            }))
        })
        .await
    }

    /// The first record of any of these digests.
    async fn kept(&self, digests: &[Digest]) -> Result<Option<(Digest, Record)>> {
        let paths: Vec<_> = digests.iter().map(|it| (it.clone(), self.record(it))).collect();
        let read = move || {
            let mut records = paths.into_iter();
            Ok(records.find_map(|(digest, path)| Some((digest, Record::read(&path)?))))
        };
        blocking(&self.tasks, read).await
    }

    /// Forgets what was kept of images that are gone.
    pub(crate) async fn prune(&self, live: HashSet<Digest>) -> Result<()> {
        let directory = self.records.clone();
        blocking(&self.tasks, move || record::prune(&directory, &live)).await
    }

    /// Forgets what was kept of an image that is gone.
    pub(crate) async fn forget(&self, digests: &[Digest]) -> Result<()> {
        let paths: Vec<_> = digests.iter().map(|digest| self.record(digest)).collect();
        blocking(&self.tasks, move || record::remove(paths)).await
    }

    fn record(&self, digest: &Digest) -> PathBuf {
        self.records.join(format!("{}.json", digest.hex()))
    }

    fn remembers(&self, verdict: &Verdict) -> bool {
        self.accepted.lock().unwrap_or_else(PoisonError::into_inner).contains(verdict)
    }

    fn remember(&self, verdict: Verdict) {
        let mut accepted = self.accepted.lock().unwrap_or_else(PoisonError::into_inner);
        if accepted.len() >= REMEMBERED {
            accepted.clear();
        }
        accepted.insert(verdict);
    }
}

/// Reads a small file of the operator's.
fn read(path: &Path) -> Result<Vec<u8>, String> {
    std::fs::read(path).map_err(|error| format!("{}: {error}", path.display()))
}
