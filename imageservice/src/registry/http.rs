//! HTTP clients: one that may show who we are, and one for wherever a registry redirects to.

use std::io::Read;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use reqwest::{Certificate, Client, ClientBuilder, Identity, redirect};

use super::dns::SystemDns;
use super::hosts::{Host, Tls, is_loopback};
use crate::error::{Error, Result};

const DIAL_TIMEOUT: Duration = Duration::from_secs(30);
const USER_AGENT: &str = concat!("berth/", env!("CARGO_PKG_VERSION"));
/// Certificates and keys are small.
const MAX_PEM: u64 = 4 << 20;

/// The client for a host itself: with its authorities, our certificate and its own settings.
pub(super) fn own_client(host: &Host) -> Result<Client> {
    let mut builder = builder(host);
    if host.base.scheme() == "http" {
        // No system certificates are needed, and there may be none.
        builder = builder.tls_certs_only([]);
    } else {
        builder = trust(builder, &host.tls)?;
        if let Some((certificate, key)) = &host.tls.client {
            builder = builder.identity(identity(certificate, key.as_deref())?);
        }
    }
    build(builder, host)
}

/// The client for other hosts that this one sends us to: the same trust, but nothing of ours.
pub(super) fn foreign_client(host: &Host) -> Result<Client> {
    build(trust(builder(host), &host.tls)?, host)
}

fn builder(host: &Host) -> ClientBuilder {
    // reqwest takes the process's default; if there is one already, it is fine too.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let builder = Client::builder()
        .user_agent(USER_AGENT)
        .redirect(redirect::Policy::none())
        .referer(false)
        .connect_timeout(host.dial_timeout.unwrap_or(DIAL_TIMEOUT))
        .http2_adaptive_window(true)
        .dns_resolver(Arc::new(SystemDns::default()));
    // Proxies are for what is far away.
    if is_loopback(&host.base) { builder.no_proxy() } else { builder }
}

fn build(builder: ClientBuilder, host: &Host) -> Result<Client> {
    builder.build().map_err(|e| Error::BadAnswer {
        what: "a connection".to_owned(),
        registry: host.base.host_str().unwrap_or_default().to_owned(),
        reason: format!("cannot set up TLS: {e}"),
    })
}

fn trust(builder: ClientBuilder, tls: &Tls) -> Result<ClientBuilder> {
    let mut certificates = Vec::new();
    for path in &tls.authorities {
        let found = Certificate::from_pem_bundle(&read(path)?).map_err(|e| invalid(path, e))?;
        if found.is_empty() {
            return Err(invalid(path, "no certificate in it"));
        }
        certificates.extend(found);
    }
    let builder = builder.tls_certs_merge(certificates);
    Ok(if tls.skip_verify { builder.tls_danger_accept_invalid_certs(true) } else { builder })
}

fn identity(certificate: &Path, key: Option<&Path>) -> Result<Identity> {
    let mut pem = read(certificate)?;
    if let Some(key) = key {
        pem.push(b'\n');
        pem.extend(read(key)?);
    }
    Identity::from_pem(&pem).map_err(|e| invalid(certificate, e))
}

fn read(path: &Path) -> Result<Vec<u8>> {
    let mut content = Vec::new();
    std::fs::File::open(path)
        .and_then(|file| file.take(MAX_PEM).read_to_end(&mut content))
        .map_err(|e| invalid(path, e))?;
    Ok(content)
}

fn invalid(path: &Path, reason: impl ToString) -> Error {
    Error::InvalidHosts { path: path.to_owned(), reason: reason.to_string() }
}
