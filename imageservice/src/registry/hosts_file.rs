//! containerd's `hosts.toml` (its docs/hosts.md), so that files can stay where they are.
//!
//! ```toml
//! server = "https://registry-1.docker.io"      # the registry itself, asked last
//! [host."https://mirror.test/docker-hub"]      # mirrors, asked in the order of the file
//!   capabilities = ["pull", "resolve"]         # without: all
//!   ca = "ca.pem"                              # or a list; relative to the file
//!   client = [["client.pem", "client.key"]]    # or one file with both
//!   skip_verify = false
//!   override_path = false                      # true: the URL's path is the API's root, as it is
//!   dial_timeout = "5s"
//!   [host."https://mirror.test/docker-hub".header]
//!     x-team = ["one"]
//! ```

mod kinds;

use std::collections::HashMap;
use std::path::Path;
use std::time::Duration;

use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use serde::Deserialize;
use serde::de::IgnoredAny;
use toml::Spanned;
use url::Url;

pub(super) use self::kinds::unknown_keys;
use self::kinds::wrong_kind;
use super::hosts::{Host, Tls};

#[derive(Deserialize)]
struct File {
    server: Option<String>,
    #[serde(default)]
    host: HashMap<String, Table>,
    #[serde(flatten)]
    own: Table,
}

/// The same file again, for the order of its tables.
#[derive(Deserialize)]
struct Order {
    #[serde(default)]
    host: HashMap<Spanned<String>, IgnoredAny>,
}

#[derive(Default, Deserialize)]
struct Table {
    capabilities: Option<Vec<String>>,
    ca: Option<OneOrMany<String>>,
    client: Option<Client>,
    #[serde(default)]
    skip_verify: bool,
    #[serde(default)]
    override_path: bool,
    dial_timeout: Option<String>,
    #[serde(default)]
    header: HashMap<String, OneOrMany<String>>,
}

#[derive(Clone, Deserialize)]
#[serde(untagged)]
enum OneOrMany<T> {
    One(T),
    Many(Vec<T>),
}

/// Files of a certificate with its key, or pairs of files. Not [`OneOrMany`] twice: a list of two
/// files is no pair.
#[derive(Clone, Deserialize)]
#[serde(untagged)]
enum Client {
    One(String),
    Many(Vec<OneOrMany<String>>),
}

impl<T> OneOrMany<T> {
    fn into_vec(self) -> Vec<T> {
        match self {
            Self::One(one) => vec![one],
            Self::Many(many) => many,
        }
    }
}

/// Reads the file of a registry that lies in `directory`.
pub(super) fn parse(text: &str, directory: &Path, domain: &str) -> Result<Vec<Host>, String> {
    if let Some(mistake) = wrong_kind(text) {
        return Err(mistake);
    }
    let file: File = toml::from_str(text).map_err(|e| at_line(text, &e))?;
    let order: Order = toml::from_str(text).map_err(|e| at_line(text, &e))?;
    let mut urls: Vec<_> = order.host.into_keys().collect();
    urls.sort_by_key(|url| url.span().start);
    let File { server, mut host, own } = file;
    let mut hosts = Vec::new();
    for url in urls.into_iter().map(Spanned::into_inner) {
        let table = host.remove(&url).unwrap_or_default();
        // What is before an @ may be a password.
        let shown = url.rsplit('@').next().unwrap_or_default();
        let host = table.into_host(Some(&url), directory, domain);
        hosts.push(host.map_err(|e| format!("host {shown:?}: {e}"))?);
    }
    let server = server.filter(|server| !server.is_empty());
    let server =
        own.into_host(server.as_deref(), directory, domain).map_err(|e| format!("server: {e}"))?;
    if !hosts.last().is_some_and(|last| says_it_all(last, &server)) {
        hosts.push(server);
    }
    Ok(hosts)
}

/// Whether a mirror is the registry itself: many files name it twice, with its authority among the
/// mirrors only. Asked again without that, its certificate would be the error that people see.
fn says_it_all(mirror: &Host, server: &Host) -> bool {
    mirror.base == server.base
        && mirror.can_resolve
        && mirror.can_pull
        && server.tls == Tls::default()
        && server.headers.is_empty()
}

/// The line, from 1, that a byte is in.
fn line(text: &str, offset: usize) -> usize {
    1 + text.get(..offset).unwrap_or_default().matches('\n').count()
}

fn at_line(text: &str, error: &toml::de::Error) -> String {
    let start = error.span().map_or(0, |span| span.start);
    format!("line {}: {}", line(text, start), error.message())
}

impl Table {
    fn into_host(self, url: Option<&str>, directory: &Path, domain: &str) -> Result<Host, String> {
        let tls = self.tls(directory)?;
        let capabilities = self.capabilities.filter(|list| !list.is_empty());
        let capabilities: Option<Vec<String>> =
            capabilities.map(|list| list.iter().map(|c| c.to_lowercase()).collect());
        for capability in capabilities.iter().flatten() {
            if !["pull", "resolve", "push", "referrers"].contains(&capability.as_str()) {
                return Err(format!("unknown capability {capability:?}"));
            }
        }
        let can =
            |what: &str| capabilities.as_ref().is_none_or(|list| list.iter().any(|c| c == what));
        Ok(Host {
            base: match url {
                Some(url) => api_root(url, self.override_path)?,
                None => Host::upstream(domain, tls.clone()).map_err(|e| e.to_string())?.base,
            },
            can_resolve: can("resolve"),
            can_pull: can("pull"),
            repository: None,
            may_be_plain: false,
            tls,
            headers: headers(self.header)?,
            dial_timeout: self.dial_timeout.as_deref().map(duration).transpose()?,
        })
    }

    fn tls(&self, directory: &Path) -> Result<Tls, String> {
        let authorities = self.ca.clone().map(OneOrMany::into_vec).unwrap_or_default();
        // Only one can be shown; the first it is.
        let client = match self.client.clone() {
            Some(Client::One(file)) => Some(vec![file]),
            Some(Client::Many(many)) => many.into_iter().next().map(OneOrMany::into_vec),
            None => None,
        };
        let client = match client.as_deref() {
            None => None,
            Some([both]) => Some((directory.join(both), None)),
            Some([both, key]) if key.is_empty() => Some((directory.join(both), None)),
            Some([certificate, key]) => {
                Some((directory.join(certificate), Some(directory.join(key))))
            }
            Some(_) => return Err("client is a file, or pairs of certificate and key".to_owned()),
        };
        Ok(Tls {
            authorities: authorities.iter().map(|file| directory.join(file)).collect(),
            client,
            skip_verify: self.skip_verify,
        })
    }
}

fn api_root(url: &str, override_path: bool) -> Result<Url, String> {
    let text = if url.contains("://") { url.to_owned() } else { format!("https://{url}") };
    let mut url = Url::parse(&text).map_err(|e| e.to_string())?;
    if !["http", "https"].contains(&url.scheme()) || url.cannot_be_a_base() {
        return Err("the URL must be of http or https".to_owned());
    }
    if !url.username().is_empty() || url.password().is_some() || url.query().is_some() {
        return Err("the URL must have no user, password or query".to_owned());
    }
    let path = url.path().trim_end_matches('/');
    let is_whole = override_path || path.ends_with("/v2");
    let path = format!("{path}{}/", if is_whole { "" } else { "/v2" });
    url.set_path(&path);
    url.set_fragment(None);
    Ok(url)
}

fn headers(table: HashMap<String, OneOrMany<String>>) -> Result<HeaderMap, String> {
    let mut headers = HeaderMap::new();
    for (name, values) in table {
        let key =
            HeaderName::try_from(&name).map_err(|_| format!("header {name:?} is not a name"))?;
        for value in values.into_vec() {
            let mut value = HeaderValue::try_from(value)
                .map_err(|_| format!("header {name:?} has a value that cannot be sent"))?;
            value.set_sensitive(true);
            headers.append(key.clone(), value);
        }
    }
    Ok(headers)
}

/// Go's notation: `1m30s`, `500ms`.
fn duration(text: &str) -> Result<Duration, String> {
    let bad = || format!("dial_timeout {text:?} is not like 5s or 500ms");
    let mut rest = text;
    let mut sum = Duration::ZERO;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(bad)?;
        let number: f64 = rest[..digits].parse().map_err(|_| bad())?;
        rest = &rest[digits..];
        let unit = rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len());
        let seconds = match &rest[..unit] {
            "h" => 3600.0,
            "m" => 60.0,
            "s" => 1.0,
            "ms" => 1e-3,
            "us" | "µs" => 1e-6,
            "ns" => 1e-9,
            _ => return Err(bad()),
        };
        rest = &rest[unit..];
        sum += Duration::try_from_secs_f64(number * seconds).map_err(|_| bad())?;
    }
    if sum.is_zero() { Err(bad()) } else { Ok(sum) }
}
