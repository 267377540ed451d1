//! The policy file: what is asked of images, by their names.
//!
//! ```toml
//! [[image_policy]]
//! scope = "*"                           # all that no other scope fits
//! require = "accept"                    # or "reject"
//!
//! [[image_policy]]
//! scope = "registry.test/team"          # host, host/path, host/path:tag or *.host
//! require = "signature"
//! keys = ["team.pem", "old/team.pem"]   # one of them suffices; relative to the file
//! identity = "repository"               # the name in the signature: see below
//! ```
//!
//! `identity` is "repository" (of the image, any tag), "exact" (with the tag), "any", or the
//! repository that the image was signed as elsewhere, such as "build.test/team/app". A file that
//! is wrong accepts nothing: a key that nobody knows may be a condition that somebody relies on.

use std::io;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use toml::Spanned;

use super::cosign::Signed;
use super::key::PublicKey;
use super::verifiers::Program;
use super::{Subject, read};
use crate::digest::Digest;
use crate::reference::{Reference, is_short};
use crate::registries_conf::matching;

/// The scope of everything, names or not.
const EVERYTHING: &str = "*";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    image_policy: Vec<Spanned<Rule>>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Rule {
    scope: String,
    require: Require,
    #[serde(default)]
    keys: Vec<PathBuf>,
    #[serde(default)]
    identity: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Require {
    Accept,
    Reject,
    Signature,
}

/// Which name has to be in a signature.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) enum Identity {
    #[default]
    Repository,
    Exact,
    Any,
    /// That of another repository.
    Named(String),
}

/// What is asked of one image.
#[derive(Debug, Default)]
pub(super) struct Ruling {
    /// Why nothing helps.
    pub(super) rejects: Option<String>,
    /// One of these has to have signed it; empty: nobody.
    pub(super) keys: Vec<PublicKey>,
    identity: Identity,
    pub(super) verifiers: Vec<Program>,
    /// The files that it follows from.
    source: String,
}

impl Ruling {
    /// Reads what a file says about a name, which is empty for an image without one.
    pub(super) fn read(
        path: Option<&Path>,
        name: &str,
        verifiers: Vec<Program>,
    ) -> Result<Self, String> {
        let mut ruling = Self { source: format!("{verifiers:?}"), verifiers, ..Self::default() };
        let Some(path) = path else { return Ok(ruling) };
        let wrong = |reason: String| format!("policy {}: {reason}", path.display());
        let text = match std::fs::read_to_string(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(ruling),
            text => text.map_err(|error| wrong(error.to_string()))?,
        };
        let rules = parse(&text).map_err(wrong)?;
        let fitting = rules.into_iter().filter_map(|(line, rule)| {
            let length = match rule.scope.as_str() {
                EVERYTHING => Some(0),
                scope => matching(name, scope).map(|_| scope.len()),
            };
            length.map(|length| (length, line, rule))
        });
        let Some((_, line, rule)) = fitting.max_by_key(|(length, ..)| *length) else {
            return Ok(ruling);
        };
        ruling.source += &format!("{rule:?}");
        match rule.require {
            Require::Accept => {}
            Require::Reject => {
                ruling.rejects = Some(format!("rejected by {}:{line}", path.display()));
            }
            Require::Signature => {
                ruling.identity = Identity::of(&rule.identity);
                for file in &rule.keys {
                    let file = path.parent().unwrap_or(path).join(file);
                    let pem = read(&file)?;
                    ruling.source += &Digest::sha256(&pem).to_string();
                    let keys = PublicKey::of_pem(&pem);
                    ruling.keys.extend(keys.map_err(|e| format!("{}: {e}", file.display()))?);
                }
            }
        }
        Ok(ruling)
    }

    /// Tells policies apart: it changes with the rule, its keys and the verifiers.
    pub(super) fn identity(&self) -> Digest {
        Digest::sha256(self.source.as_bytes())
    }

    /// The first signature that will do, or why none does.
    pub(super) fn signed(&self, found: &[Signed], subject: &Subject) -> Result<Signed, String> {
        let mut reasons = Vec::new();
        for signed in found {
            match signed.check(&self.keys, &self.identity, subject) {
                Ok(()) => return Ok(signed.clone()),
                Err(reason) if !reasons.contains(&reason) => reasons.push(reason),
                Err(_) => {}
            }
        }
        if reasons.is_empty() {
            return Err("no signature".to_owned());
        }
        Err(format!("no good signature, only {}", reasons.join(", ")))
    }
}

impl Identity {
    fn of(text: &str) -> Self {
        match text {
            "" | "repository" => Self::Repository,
            "exact" => Self::Exact,
            "any" => Self::Any,
            other => Self::Named(
                other
                    .parse()
                    .map_or_else(|_| other.to_owned(), |name: Reference| name.repository()),
            ),
        }
    }
}

/// The rules, each with its line.
fn parse(text: &str) -> Result<Vec<(usize, Rule)>, String> {
    let line = |start: usize| 1 + text.get(..start).unwrap_or_default().matches('\n').count();
    let file: File = toml::from_str(text).map_err(|error| {
        let start = error.span().map_or(0, |span| span.start);
        format!("line {}: {}", line(start), error.message())
    })?;
    let mut rules: Vec<(usize, Rule)> = Vec::new();
    for rule in file.image_policy {
        let (line, rule) = (line(rule.span().start), rule.into_inner());
        let wrong = |reason: &str| Err(format!("line {line}: scope {:?}: {reason}", rule.scope));
        let wants_keys = rule.require == Require::Signature;
        if rule.scope.is_empty() || rule.scope.contains("://") {
            return wrong("a scope is a host, a host and a path, *.host, or *");
        }
        if wants_keys == rule.keys.is_empty() || (!wants_keys && !rule.identity.is_empty()) {
            return wrong("keys and identity are of signature, which needs keys");
        }
        if matches!(Identity::of(&rule.identity), Identity::Named(_)) && is_short(&rule.identity) {
            return wrong("identity is repository, exact, any, or a repository with its registry");
        }
        if rules.iter().any(|(_, other)| other.scope == rule.scope) {
            return wrong("there is another one");
        }
        rules.push((line, rule));
    }
    Ok(rules)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ruling(text: &str, name: &str) -> Result<Ruling, String> {
        let directory = tempfile::tempdir().unwrap();
        let key = rcgen::KeyPair::generate().unwrap().public_key_pem();
        std::fs::write(directory.path().join("key.pem"), key).unwrap();
        let path = directory.path().join("policy.toml");
        std::fs::write(&path, text).unwrap();
        Ruling::read(Some(&path), name, Vec::new())
    }

    #[test]
    fn the_longest_scope_counts() {
        let text = "[[image_policy]]\nscope = \"*\"\nrequire = \"reject\"\n\
                    [[image_policy]]\nscope = \"a.test\"\nrequire = \"accept\"\n\
                    [[image_policy]]\nscope = \"a.test/team\"\nrequire = \"signature\"\nkeys = [\"key.pem\"]\n\
                    [[image_policy]]\nscope = \"*.wild.test\"\nrequire = \"accept\"\n";
        for (name, rejects, keys) in [
            ("a.test/app:1", false, 0),
            ("a.test/team/app:1", false, 1),
            ("a.test/teams/app:1", false, 0),
            ("b.test/app:1", true, 0),
            ("x.wild.test/app:1", false, 0),
            ("", true, 0),
        ] {
            let ruling = ruling(text, name).unwrap();
            assert_eq!((ruling.rejects.is_some(), ruling.keys.len()), (rejects, keys), "{name}");
        }
        assert!(ruling(text, "b.test/x:1").unwrap().rejects.unwrap().contains("policy.toml:1"));
        assert!(ruling("", "b.test/x:1").unwrap().rejects.is_none());
    }

    #[test]
    fn a_policy_that_is_wrong_says_where_and_accepts_nothing() {
        let rule = |more: &str| format!("\n[[image_policy]]\nscope = \"a.test\"\n{more}");
        for (text, reason) in [
            ("[[image_policy]".to_owned(), "line 1"),
            (rule(""), "missing field `require`"),
            (rule("require = \"maybe\""), "line 4"),
            (rule("require = \"accept\"\nkey = \"x\""), "line 5: unknown field `key`"),
            (rule("require = \"signature\""), "line 2: scope \"a.test\""),
            (rule("require = \"accept\"\nkeys = [\"x\"]"), "line 2: scope \"a.test\""),
            (rule("require = \"signature\"\nkeys = [\"gone.pem\"]"), "gone.pem: No such file"),
            (rule("require = \"signature\"\nkeys = [\"policy.toml\"]"), "no public key in it"),
            (rule("require = \"accept\"") + &rule("require = \"reject\""), "there is another one"),
            (
                rule("require = \"signature\"\nkeys = [\"key.pem\"]\nidentity = \"exakt\""),
                "identity is",
            ),
        ] {
            let error = ruling(&text, "a.test/x:1").unwrap_err();
            assert!(error.contains(reason), "{text}: {error}");
        }
    }

    #[test]
    fn policies_are_told_apart_by_all_that_they_follow_from() {
        let text =
            "[[image_policy]]\nscope = \"*\"\nrequire = \"signature\"\nkeys = [\"key.pem\"]\n";
        let (one, two) = (ruling(text, "a.test/x:1").unwrap(), ruling(text, "a.test/x:1").unwrap());
        assert_ne!(one.identity(), two.identity(), "another key");
        assert_eq!(ruling("", "a").unwrap().identity(), ruling("", "b").unwrap().identity());
    }
}
