//! Registries over HTTPS with certificates of their own.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::Arc;

use berth_imageservice::{Error, Images};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::PrivateKeyDer;
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig, ServerConnection, StreamOwned};

use crate::pull::request;
use crate::support::{Place, TestImage};

/// An authority, and a server with a certificate of it that has one answer.
struct TlsServer {
    address: String,
    authority: String,
    /// Certificate and key that the authority gives to clients.
    client: [String; 2],
}

fn start(image: &TestImage) -> TlsServer {
    serve(image, false)
}

/// Starts a server; a `choosy` one serves only clients with a certificate of its authority.
fn serve(image: &TestImage, choosy: bool) -> TlsServer {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let names = vec!["127.0.0.1".to_owned()];
    let certificate = CertificateParams::new(names).unwrap().signed_by(&key, &authority).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(authority.der().clone()).unwrap();
    let verifier = WebPkiClientVerifier::builder_with_provider(roots.into(), provider);
    let config = match choosy {
        true => config.with_client_cert_verifier(verifier.build().unwrap()),
        false => config.with_no_client_auth(),
    };
    let config = config
        .with_single_cert(
            vec![certificate.der().clone()],
            PrivateKeyDer::try_from(key.serialize_der()).unwrap(),
        )
        .unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let (config, answers) = (Arc::new(config), answers(image));
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let connection = ServerConnection::new(Arc::clone(&config)).unwrap();
            // A client that does not trust us goes away.
            let _ = answer(StreamOwned::new(connection, stream), &answers);
        }
    });
    let key = KeyPair::generate().unwrap();
    let client = CertificateParams::new(Vec::new()).unwrap().signed_by(&key, &authority).unwrap();
    let client = [client.pem(), key.serialize_pem()];
    TlsServer { address, authority: authority.pem(), client }
}

/// Paths and bodies.
fn answers(image: &TestImage) -> Vec<(String, Vec<u8>)> {
    let blob = |bytes: Vec<u8>| {
        (format!("/v2/app/blobs/{}", berth_imageservice::Digest::sha256(&bytes)), bytes)
    };
    let manifest = ("/v2/app/manifests/v1".to_owned(), image.manifest());
    image.blobs().into_iter().map(blob).chain([manifest]).collect()
}

fn answer(mut stream: impl Read + Write, answers: &[(String, Vec<u8>)]) -> std::io::Result<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte)?;
        head.push(byte[0]);
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    let path = head.split(' ').nth(1).unwrap_or_default();
    let body = answers.iter().find(|(name, _)| name == path).map_or(&b""[..], |(_, body)| body);
    write!(
        stream,
        "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
        body.len()
    )?;
    stream.write_all(body)?;
    stream.flush()
}

async fn pull(place: &Place, server: &TlsServer) -> Result<Images, Error> {
    let images = place.open().await;
    images.pull(request(&format!("{}/app:v1", server.address))).await.map(|_| images)
}

#[tokio::test]
async fn a_registry_is_trusted_by_its_authority() {
    let server = start(&TestImage::small("x"));
    let place = Place::new();
    // In Docker's layout.
    place.hosts(&format!("{}/ca.crt", server.address), &server.authority);
    pull(&place, &server).await.unwrap();
    // In containerd's.
    let place = Place::new();
    place.hosts(&format!("{}/ca.pem", server.address), &server.authority);
    let file = format!("server = \"https://{}\"\nca = \"ca.pem\"", server.address);
    place.hosts(&format!("{}/hosts.toml", server.address), &file);
    pull(&place, &server).await.unwrap();
}

#[tokio::test]
async fn a_registry_of_unknown_authority_is_not_trusted_unless_told_so() {
    let server = start(&TestImage::small("x"));
    let stranger = start(&TestImage::small("x"));
    let place = Place::new();
    place.hosts(&format!("{}/ca.crt", server.address), &stranger.authority);
    let error = pull(&place, &server).await.unwrap_err();
    assert!(matches!(error, Error::Insecure { .. }), "{error}");
    assert!(error.to_string().contains("certificate"), "{error}");
    let place = Place::new();
    let file = format!("server = \"https://{}\"\nskip_verify = true", server.address);
    place.hosts(&format!("{}/hosts.toml", server.address), &file);
    pull(&place, &server).await.unwrap();
}

#[tokio::test]
async fn a_registry_that_asks_for_a_certificate_is_shown_ours() {
    let server = serve(&TestImage::small("x"), true);
    let place = Place::new();
    let file = |name: &str, text: &str| place.hosts(&format!("{}/{name}", server.address), text);
    let hosts = format!("server = \"https://{}\"\nca = \"ca.pem\"", server.address);
    file("ca.pem", &server.authority);
    file("hosts.toml", &hosts);
    let error = pull(&place, &server).await.unwrap_err();
    assert!(error.to_string().contains("CertificateRequired"), "{error}");

    let [certificate, key] = &server.client;
    file("one.pem", certificate);
    file("one.key", key);
    file("both.pem", &[certificate.as_str(), key].concat());
    for client in [r#"[["one.pem", "one.key"]]"#, r#""both.pem""#] {
        file("hosts.toml", &format!("{hosts}\nclient = {client}"));
        pull(&place, &server).await.unwrap();
    }
}

#[tokio::test]
async fn files_that_hold_no_certificate_are_named() {
    let server = start(&TestImage::small("x"));
    for content in ["", "no certificate"] {
        let place = Place::new();
        let path = place.hosts(&format!("{}/ca.crt", server.address), content);
        let error = pull(&place, &server).await.unwrap_err();
        assert!(matches!(&error, Error::InvalidHosts { path: p, .. } if *p == path), "{error}");
    }
}

#[tokio::test]
async fn a_registry_without_tls_is_recognised() {
    let server = crate::support::Server::start().await;
    let reference = server.add("app", "v1", &TestImage::small("x"));
    let place = Place::new();
    let file = format!("server = \"https://{}\"\nskip_verify = true", server.address);
    place.hosts(&format!("{}/hosts.toml", server.address), &file);
    let error = place.open().await.pull(request(&reference)).await.unwrap_err();
    assert!(error.to_string().contains("plain HTTP"), "{error}");
}
