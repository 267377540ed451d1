//! Image references: the distribution grammar, and the normal form that everything here is keyed
//! by.
//!
//! ```text
//! reference := name [ ":" tag ] [ "@" digest ]      name := [ domain "/" ] path
//! domain    := host [ ":" port ]                    host := dns name | IPv4 | "[" IPv6 "]"
//! path      := component { "/" component }          component := alnum { separator alnum }
//! separator := "." | "_" | "__" | "-"…              tag := [A-Za-z0-9_][A-Za-z0-9_.-]{0,127}
//! ```
//!
//! The first component is a domain only if it has a dot, a colon or an upper-case letter, or is
//! `localhost`; otherwise the image is of docker.io, whose one-component paths live in `library/`.
//! A tag beside a digest is dropped, as container runtimes do: the digest alone says what is meant.
//! 64 hex digits are an image id and never a name. (distribution/reference, `ParseDockerRef`)

use std::fmt;
use std::str::FromStr;

use crate::digest::{Digest, is_lower_hex};
use crate::error::{Error, Result};

const DEFAULT_DOMAIN: &str = "docker.io";
const LEGACY_DEFAULT_DOMAIN: &str = "index.docker.io";
const OFFICIAL_PREFIX: &str = "library/";
const DEFAULT_TAG: &str = "latest";
const MAX_PATH: usize = 255;
const MAX_TAG: usize = 128;

/// A name of an image in a registry, in normal form.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Reference {
    domain: String,
    path: String,
    target: Target,
}

/// Which image of a repository is meant.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Target {
    /// Whatever the tag points to.
    Tag(String),
    /// The manifest or index of this digest.
    Digest(Digest),
}

impl Reference {
    /// The registry's name as images are named by it: `docker.io`, `host:port`, `[::1]:5000`.
    pub fn domain(&self) -> &str {
        &self.domain
    }

    /// The repository inside the registry, such as `library/busybox`.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The tag or the digest.
    pub fn target(&self) -> &Target {
        &self.target
    }

    /// Domain and path: what repo tags and repo digests have in common.
    pub fn repository(&self) -> String {
        format!("{}/{}", self.domain, self.path)
    }

    /// The same repository, by digest.
    pub fn with_digest(&self, digest: Digest) -> Self {
        Self { target: Target::Digest(digest), ..self.clone() }
    }

    fn parse(input: &str) -> Result<Self, &'static str> {
        if is_image_id(input) {
            return Err("64 hex digits are an image id, not a name");
        }
        let (name, digest) = match input.split_once('@') {
            Some((name, digest)) => (name, Some(digest.parse()?)),
            None => (input, None),
        };
        let (domain, rest) = split_domain(name);
        check_domain(domain)?;
        let (path, tag) = match rest.split_once(':') {
            Some((path, tag)) => (path, Some(tag)),
            None => (rest, None),
        };
        check_path(path)?;
        tag.map_or(Ok(()), check_tag)?;
        let target = match digest {
            Some(digest) => Target::Digest(digest),
            None => Target::Tag(tag.unwrap_or(DEFAULT_TAG).to_owned()),
        };
        let prefix =
            if domain == DEFAULT_DOMAIN && !path.contains('/') { OFFICIAL_PREFIX } else { "" };
        let path = format!("{prefix}{path}");
        if path.len() > MAX_PATH {
            return Err("a repository name has at most 255 characters");
        }
        Ok(Self { domain: domain.to_owned(), path, target })
    }
}

impl FromStr for Reference {
    type Err = Error;

    fn from_str(input: &str) -> Result<Self> {
        Self::parse(input)
            .map_err(|reason| Error::InvalidReference { input: shorten(input), reason })
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.domain, self.path)?;
        match &self.target {
            Target::Tag(tag) => write!(f, ":{tag}"),
            Target::Digest(digest) => write!(f, "@{digest}"),
        }
    }
}

/// Whether a name says no registry, which then is a matter of configuration.
pub(crate) fn is_short(name: &str) -> bool {
    !name.split_once('/').is_some_and(|(first, _)| is_domain_like(first))
}

/// Whether the text is a full image id without its algorithm.
pub(crate) fn is_image_id(text: &str) -> bool {
    text.len() == 64 && is_lower_hex(text)
}

/// An error message repeats what it is about, but not a megabyte of it.
fn shorten(input: &str) -> String {
    const LONGEST: usize = 512;
    if input.chars().nth(LONGEST).is_none() {
        return input.to_owned();
    }
    input.chars().take(LONGEST).chain("…".chars()).collect()
}

fn split_domain(name: &str) -> (&str, &str) {
    let (domain, rest) = match name.split_once('/') {
        Some((first, rest)) if is_domain_like(first) => (first, rest),
        _ => (DEFAULT_DOMAIN, name),
    };
    (if domain == LEGACY_DEFAULT_DOMAIN { DEFAULT_DOMAIN } else { domain }, rest)
}

fn is_domain_like(first: &str) -> bool {
    first == "localhost" || first.contains(['.', ':']) || first.chars().any(char::is_uppercase)
}

fn check_domain(domain: &str) -> Result<(), &'static str> {
    let (host, port) = if let Some(rest) = domain.strip_prefix('[') {
        let (address, after) = rest.split_once(']').ok_or("an IPv6 address ends with ]")?;
        let colons_and_hex = address.bytes().all(|b| b == b':' || b.is_ascii_hexdigit());
        if address.is_empty() || !colons_and_hex {
            return Err("an IPv6 address has hex digits and colons only");
        }
        match after.split_once(':') {
            Some(("", port)) => (None, Some(port)),
            None if after.is_empty() => (None, None),
            _ => return Err("an IPv6 address is followed by a port or a slash"),
        }
    } else {
        match domain.split_once(':') {
            Some((host, port)) => (Some(host), Some(port)),
            None => (Some(domain), None),
        }
    };
    if host.is_some_and(|host| !host.split('.').all(is_domain_component)) {
        return Err("a registry host has letters, digits, inner hyphens and single dots");
    }
    if port.is_some_and(|port| port.is_empty() || !port.bytes().all(|b| b.is_ascii_digit())) {
        return Err("a registry port is a number");
    }
    Ok(())
}

fn is_domain_component(component: &str) -> bool {
    !component.is_empty()
        && component.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
        && !component.starts_with('-')
        && !component.ends_with('-')
}

fn check_path(path: &str) -> Result<(), &'static str> {
    if path.is_empty() {
        return Err("a repository name is missing");
    }
    if path.bytes().any(|b| b.is_ascii_uppercase()) {
        return Err("a repository name is lower case");
    }
    if !path.split('/').all(is_path_component) {
        return Err(
            "a repository name has lower-case letters and digits, separated by /, ., _, __ or -",
        );
    }
    Ok(())
}

fn is_path_component(component: &str) -> bool {
    let is_word = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let bytes = component.as_bytes();
    let ends_well =
        bytes.first().is_some_and(|b| is_word(*b)) && bytes.last().is_some_and(|b| is_word(*b));
    ends_well
        && bytes.split(|b| is_word(*b)).all(|separator| {
            matches!(separator, b"" | b"." | b"_" | b"__") || separator.iter().all(|b| *b == b'-')
        })
}

fn check_tag(tag: &str) -> Result<(), &'static str> {
    let starts_well = tag.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric() || b == b'_');
    let is_clean =
        tag.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'));
    if tag.len() > MAX_TAG || !starts_well || !is_clean {
        return Err(
            "a tag has 1 to 128 letters, digits, _, . and -, and starts with none of . and -",
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests;
