//! A certificate authority of the harness's own, and a server certificate for the loopback
//! interface.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};

/// The PEM files that a server and its clients need.
#[derive(Debug)]
pub(super) struct Identity {
    pub(super) ca: PathBuf,
    pub(super) certificate: PathBuf,
    pub(super) key: PathBuf,
}

impl Identity {
    pub(super) fn make(dir: &Path) -> Result<Self> {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "berth e2e authority");
        let ca = CertifiedIssuer::self_signed(params, KeyPair::generate()?)
            .context("make a certificate authority")?;

        let key = KeyPair::generate()?;
        let names = ["127.0.0.1", "localhost", "registry.test"].map(str::to_owned);
        let certificate = CertificateParams::new(names)?
            .signed_by(&key, &ca)
            .context("make a server certificate")?;

        let write = |name: &str, text: String| {
            let path = dir.join(name);
            std::fs::write(&path, text).with_context(|| format!("write {}", path.display()))?;
            Ok::<_, anyhow::Error>(path)
        };
        Ok(Self {
            ca: write("ca.pem", ca.pem())?,
            certificate: write("server.pem", certificate.pem())?,
            key: write("server.key", key.serialize_pem())?,
        })
    }
}
