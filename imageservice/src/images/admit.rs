//! Whether an image that is here may run: the policy of the node, asked again.

use std::collections::HashSet;
use std::sync::Arc;

use super::Images;
use crate::digest::Digest;
use crate::error::Result;
use crate::image::Image;
use crate::reference::{Reference, Target};
use crate::trust::{Evidence, Subject, Visit};

impl Images {
    /// Whether a container of an image may be made, by the policy as it is now. `asked` is what
    /// the client calls it; a name of the image counts, else it suffices that the image is
    /// accepted under one of its names, since what is in it is the same under all of them.
    ///
    /// # Errors
    /// [`Untrusted`](crate::Error::Untrusted).
    pub async fn admit(&self, image: &Image, asked: &[&str]) -> Result<()> {
        let names: Vec<Reference> = names(image).collect();
        let meant = asked.iter().filter(|name| !name.is_empty());
        let meant = meant.flat_map(|name| self.meanings(name).unwrap_or_default());
        let mut subjects: Vec<_> = meant.filter(|name| names.contains(name)).map(Some).collect();
        if subjects.is_empty() {
            subjects.extend(names.into_iter().map(Some));
        }
        if subjects.is_empty() {
            subjects.push(None);
        }
        let assembler = &self.0.assembler;
        let (config, memory) = (Arc::clone(&assembler.config), Arc::clone(&self.0.registries));
        let visit = Visit { config, memory };
        let mut refused = None;
        for name in subjects {
            let digests = digests(image, name.as_ref());
            let subject = Subject { name, digests };
            match assembler.trust.check(&subject, Evidence::Kept(visit.clone())).await {
                Ok(()) => return Ok(()),
                Err(error) => refused = refused.or(Some(error)),
            }
        }
        refused.map_or(Ok(()), Err)
    }

    /// Lets go of what spoke for images that a crash has left without one.
    pub(super) async fn prune_evidence(&self) -> Result<()> {
        self.0.assembler.trust.prune(self.known_digests()).await
    }

    /// The digests of an image, to be forgotten once it is gone.
    pub(super) fn evidence_of(&self, query: &str) -> Vec<Digest> {
        let found = self.find(query).ok().flatten();
        found.map(|image| digests(&image, None)).unwrap_or_default()
    }

    /// Lets go of what spoke for an image, where nothing is left of it.
    pub(super) async fn forget_evidence(&self, mut digests: Vec<Digest>) -> Result<()> {
        let live = self.known_digests();
        digests.retain(|digest| !live.contains(digest));
        self.0.assembler.trust.forget(&digests).await
    }

    fn known_digests(&self) -> HashSet<Digest> {
        self.list().iter().flat_map(|image| digests(image, None)).collect()
    }
}

fn names(image: &Image) -> impl Iterator<Item = Reference> {
    let names = image.repo_tags().iter().chain(image.repo_digests());
    names.filter_map(|name| name.parse().ok())
}

/// Digests by which an image is known, in the repository of a name or, without one, in any.
fn digests(image: &Image, name: Option<&Reference>) -> Vec<Digest> {
    let is_beside =
        |other: &Reference| name.is_none_or(|name| name.repository() == other.repository());
    let known = names(image).filter(is_beside).filter_map(|name| match name.target() {
        Target::Digest(digest) => Some(digest.clone()),
        Target::Tag(_) => None,
    });
    let mut digests: Vec<_> = known.chain([image.manifest_digest().clone()]).collect();
    let mut seen = HashSet::new();
    digests.retain(|digest| seen.insert(digest.clone()));
    digests
}
