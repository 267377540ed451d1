//! Names without a registry: what `nginx` means on this node.
//!
//! An alias counts first, then the search registries, and without either the name is one of
//! docker.io, as it is for every Kubernetes node. Several search registries are ambiguous: whoever
//! registers the name at the first of them would be pulled from. `enforcing` refuses them, because
//! nobody can be asked; else they are tried in their order.

use std::path::Path;

use super::{Broken, Mode, RegistriesConf};
use crate::error::{Error, Result};
use crate::reference::{Reference, is_short};

/// The references that a text may mean, the one to try first, first; at least one. Reads the files
/// for short names only. Blocks.
///
/// # Errors
/// [`Error::InvalidReference`], and [`Error::InvalidHosts`] for a short name that the files make
/// ambiguous or about which they are wrong.
pub(crate) fn expand(conf: Option<&Path>, text: &str) -> Result<Vec<Reference>> {
    let usual: Reference = text.parse()?;
    match conf {
        Some(path) if is_short(text) => RegistriesConf::load(path)?.meaning(text, usual),
        _ => Ok(vec![usual]),
    }
}

impl RegistriesConf {
    fn meaning(&self, text: &str, usual: Reference) -> Result<Vec<Reference>> {
        let name = text.split('@').next().unwrap_or_default();
        let name = name.split(':').next().unwrap_or_default();
        let quoted = format!("\"{name}\"");
        let is_about = |broken: &&Broken| {
            broken.text.contains("unqualified-search-registries") || broken.text.contains(&quoted)
        };
        if let Some(broken) = self.broken.iter().find(is_about) {
            return Err(broken.error());
        }
        if let Some(alias) = self.aliases.get(name).filter(|alias| !alias.value.is_empty()) {
            let wrong = |reason: &str| alias.place.error(&format!("alias {name:?}: {reason}"));
            let path = alias.value.rsplit('/').next().unwrap_or_default();
            if is_short(&alias.value) || path.contains([':', '@']) {
                return Err(wrong("it stands for a registry and a repository, without tag"));
            }
            let full = format!("{}{}", alias.value, &text[name.len()..]);
            return Ok(vec![full.parse().map_err(|e: Error| wrong(&e.to_string()))?]);
        }
        let Some((registries, place)) = &self.search else { return Ok(vec![usual]) };
        if registries.len() > 1 && self.mode == Some(Mode::Enforcing) {
            let several = registries.join(", ");
            let reason = format!("{name:?} may be of {several}: write which, or make an alias");
            return Err(place.error(&reason));
        }
        let full = registries.iter().map(|registry| {
            let full = format!("{}/{text}", registry.trim_end_matches('/')).parse();
            full.map_err(|e: Error| place.error(&e.to_string()))
        });
        let full: Vec<Reference> = full.collect::<Result<_>>()?;
        Ok(if full.is_empty() { vec![usual] } else { full })
    }
}
