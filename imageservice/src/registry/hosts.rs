//! Which hosts serve a registry's images, and how they are to be talked to.
//!
//! Read anew on every pull, so that no restart is needed. For `registry.test:5000`, each `certs.d`
//! directory is asked for `registry.test_5000_`, `registry.test:5000` and `_default`; the first
//! directory that exists counts. It has a `hosts.toml`, or certificates in Docker's layout.
//!
//! Where `certs.d` and `registries.conf` both know a registry, the `hosts.toml` of its own name
//! counts, then `registries.conf`, then the `hosts.toml` of `_default`. What `registries.conf`
//! blocks is blocked in any case. Its locations take their certificates from `certs.d`.

use std::fmt;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use reqwest::header::HeaderMap;
use url::{Host as UrlHost, Url};

use super::hosts_file;
use crate::error::{Error, Result};
use crate::reference::Reference;
use crate::registries_conf::{PullSource, RegistriesConf};

/// A host that serves a registry's images.
#[derive(Debug, Clone)]
pub(super) struct Host {
    /// With the API's root as its path, which ends in a slash.
    pub(super) base: Url,
    pub(super) can_resolve: bool,
    pub(super) can_pull: bool,
    /// Where the image lies at this host, if not where its name says. Such a host is not told
    /// which registry it stands in for.
    pub(super) repository: Option<String>,
    /// Whether plain HTTP will do if there is no TLS. Not known before it is asked.
    pub(super) may_be_plain: bool,
    pub(super) tls: Tls,
    /// Sent to this host only.
    pub(super) headers: HeaderMap,
    pub(super) dial_timeout: Option<Duration>,
}

/// How a host proves itself, and we ourselves.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Tls {
    /// PEM files of authorities beside the system's.
    pub(super) authorities: Vec<PathBuf>,
    /// PEM files of a certificate and its key, which may be one file.
    pub(super) client: Option<(PathBuf, Option<PathBuf>)>,
    pub(super) skip_verify: bool,
}

/// What a host is trusted to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Capability {
    /// Say what a tag points to.
    Resolve,
    /// Deliver what a digest names.
    Pull,
}

impl fmt::Display for Capability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Resolve => "resolve tags",
            Self::Pull => "pull",
        })
    }
}

/// The files of the operator.
#[derive(Debug, Clone, Copy)]
pub(super) struct Files<'a> {
    pub(super) certs_dirs: &'a [PathBuf],
    pub(super) registries_conf: Option<&'a Path>,
}

/// The hosts that have an image, the one to ask first, first. Blocks.
pub(super) fn load(files: Files<'_>, reference: &Reference) -> Result<Vec<Host>> {
    let domain = reference.domain();
    let directory = find_directory(files.certs_dirs, domain)?;
    let own = directory.as_ref().filter(|found| !found.is_default && found.has_hosts_file());
    let conf = match files.registries_conf {
        Some(path) => RegistriesConf::load(path).and_then(|conf| conf.sources(reference)),
        None => Ok(None),
    };
    match (conf, own) {
        (Err(error @ Error::Blocked { .. }), _) => Err(error),
        (_, Some(own)) => own.hosts(domain),
        (Err(error), None) => Err(error),
        (Ok(Some(sources)), None) => {
            sources.into_iter().map(|source| located(files.certs_dirs, source, reference)).collect()
        }
        (Ok(None), None) => match directory {
            Some(directory) => directory.hosts(domain),
            None => Ok(vec![upstream(domain, Tls::default())?]),
        },
    }
}

/// The host of a location of `registries.conf`.
fn located(certs_dirs: &[PathBuf], source: PullSource, reference: &Reference) -> Result<Host> {
    let PullSource { reference: place, insecure } = source;
    let domain = place.domain();
    let mut tls = match find_directory(certs_dirs, domain)? {
        Some(found) if !found.is_default => docker_certificates(&found.path)?,
        _ => Tls::default(),
    };
    tls.skip_verify = insecure;
    let host = upstream(domain, tls)?;
    let repository = (place != *reference).then(|| place.path().to_owned());
    Ok(Host { repository, may_be_plain: insecure, ..host })
}

fn upstream(domain: &str, tls: Tls) -> Result<Host> {
    Host::upstream(domain, tls).map_err(|_| Error::InvalidReference {
        input: domain.to_owned(),
        reason: "a registry host that no URL can have",
    })
}

/// What a `certs.d` directory has for a registry.
struct Directory {
    path: PathBuf,
    /// Whether it is for any registry.
    is_default: bool,
}

impl Directory {
    fn has_hosts_file(&self) -> bool {
        self.path.join("hosts.toml").exists()
    }

    fn hosts(&self, domain: &str) -> Result<Vec<Host>> {
        let path = self.path.join("hosts.toml");
        match std::fs::read_to_string(&path) {
            Ok(text) if !text.is_empty() => {
                for key in hosts_file::unknown_keys(&text) {
                    tracing::warn!(file = %path.display(), "unknown key at {key}, ignoring it");
                }
                hosts_file::parse(&text, &self.path, domain)
                    .map_err(|reason| Error::InvalidHosts { path, reason })
            }
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(Error::InvalidHosts { path, reason: error.to_string() })
            }
            _ => Ok(vec![upstream(domain, docker_certificates(&self.path)?)?]),
        }
    }
}

impl Host {
    /// The registry itself. Over plain HTTP only on this very machine, and not if it has a
    /// certificate to show. The error says why a URL cannot have such a host, which the grammar of
    /// references allows.
    pub(super) fn upstream(domain: &str, tls: Tls) -> Result<Self, url::ParseError> {
        let host = if domain == "docker.io" { "registry-1.docker.io" } else { domain };
        let mut base = Url::parse(&format!("https://{host}/v2/"))?;
        let is_plain = tls == Tls::default() && is_loopback(&base) && !domain.ends_with(":443");
        if is_plain {
            base = Url::parse(&format!("http://{host}/v2/"))?;
        }
        let (headers, dial_timeout) = (HeaderMap::new(), None);
        Ok(Self {
            base,
            can_resolve: true,
            can_pull: true,
            repository: None,
            may_be_plain: false,
            tls,
            headers,
            dial_timeout,
        })
    }
}

/// Whether a URL leads to this machine.
pub(super) fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(UrlHost::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
        Some(UrlHost::Ipv4(address)) => IpAddr::from(address).is_loopback(),
        Some(UrlHost::Ipv6(address)) => IpAddr::from(address).is_loopback(),
        None => false,
    }
}

fn find_directory(certs_dirs: &[PathBuf], domain: &str) -> Result<Option<Directory>> {
    let underscored = domain.rsplit_once(':').map(|(host, port)| format!("{host}_{port}_"));
    let names: Vec<&str> =
        underscored.iter().map(String::as_str).chain([domain, "_default"]).collect();
    for (root, name) in certs_dirs.iter().flat_map(|dir| names.iter().map(move |name| (dir, *name)))
    {
        let path = root.join(name);
        match path.metadata() {
            Ok(_) => return Ok(Some(Directory { path, is_default: name == "_default" })),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(Error::InvalidHosts { path, reason: error.to_string() }),
        }
    }
    Ok(None)
}

/// Docker's layout: `*.crt` are authorities, `*.cert` and `*.key` of one name are ours.
fn docker_certificates(directory: &Path) -> Result<Tls> {
    let unreadable =
        |e: io::Error| Error::InvalidHosts { path: directory.to_owned(), reason: e.to_string() };
    let mut paths = std::fs::read_dir(directory)
        .and_then(|entries| entries.map(|entry| Ok(entry?.path())).collect::<io::Result<Vec<_>>>())
        .map_err(unreadable)?;
    paths.sort();
    let has_ending = |path: &Path, ending: &str| path.extension().is_some_and(|e| e == ending);
    let client = paths.iter().find(|path| has_ending(path, "cert")).map(|certificate| {
        let key = certificate.with_extension("key");
        (certificate.clone(), paths.contains(&key).then_some(key))
    });
    let authorities = paths.into_iter().filter(|path| has_ending(path, "crt")).collect();
    Ok(Tls { authorities, client, skip_verify: false })
}

#[cfg(test)]
mod tests;
