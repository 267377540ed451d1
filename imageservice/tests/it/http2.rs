//! Registries that speak HTTP/2: one connection for all requests, and streams that break alone.

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use h2::Reason;
use h2::server::SendResponse;
use http::{Request, Response};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::PrivateKeyDer;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use crate::pull::request;
use crate::resume::image;
use crate::support::place::assert_clean;
use crate::support::{Place, TestImage};

/// A registry with one image, of which the layer breaks at first.
struct Server {
    address: String,
    authority: String,
    shared: Arc<Shared>,
    _stop: DropGuard,
}

struct Shared {
    image: TestImage,
    /// Path and range of each request.
    log: Mutex<Vec<(String, Option<String>)>>,
    connections: Mutex<usize>,
}

impl Server {
    async fn start(image: TestImage) -> Self {
        let (config, authority) = tls();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let shared = Arc::new(Shared { image, log: Mutex::default(), connections: Mutex::new(0) });
        let (tasks, stop, serving) =
            (TaskTracker::new(), CancellationToken::new(), Arc::clone(&shared));
        let all = stop.clone();
        tasks.clone().spawn(stop.clone().run_until_cancelled_owned(async move {
            while let Ok((stream, _)) = listener.accept().await {
                *serving.connections.lock().unwrap() += 1;
                let connection = serve(acceptor.clone(), stream, Arc::clone(&serving));
                tasks.spawn(all.clone().run_until_cancelled_owned(connection));
            }
        }));
        Self { address, authority, shared, _stop: stop.drop_guard() }
    }
}

fn tls() -> (ServerConfig, String) {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let names = vec!["127.0.0.1".to_owned()];
    let certificate = CertificateParams::new(names).unwrap().signed_by(&key, &authority).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], key)
        .unwrap();
    config.alpn_protocols = vec![b"h2".to_vec()];
    (config, authority.pem())
}

async fn serve(acceptor: TlsAcceptor, stream: TcpStream, shared: Arc<Shared>) {
    let Ok(stream) = acceptor.accept(stream).await else { return };
    let Ok(mut connection) = h2::server::handshake(stream).await else { return };
    while let Some(Ok((request, respond))) = connection.accept().await {
        shared.answer(&request, respond);
    }
}

impl Shared {
    fn answer<B>(&self, request: &Request<B>, mut respond: SendResponse<Bytes>) {
        let path = request.uri().path().to_owned();
        let range = request.headers().get("range").map(|it| it.to_str().unwrap().to_owned());
        let layer = &self.image.layers[0];
        let is_layer = path.ends_with(layer.digest().as_str());
        let body = match &path {
            _ if is_layer => layer.packed.clone(),
            path if path.contains("/manifests/") => self.image.manifest(),
            _ => self.image.config_bytes(),
        };
        let mut log = self.log.lock().unwrap();
        let is_first = !log.iter().any(|(asked, _)| *asked == path);
        log.push((path, range.clone()));
        let from = range.and_then(|it| it.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok());
        let mut response = Response::builder().status(200);
        let mut bytes = Bytes::from(body);
        if let Some(from) = from {
            let range = format!("bytes {from}-{}/{}", bytes.len() - 1, bytes.len());
            response = Response::builder().status(206).header("content-range", range);
            bytes = bytes.split_off(from);
        }
        let mut stream = respond.send_response(response.body(()).unwrap(), false).unwrap();
        if is_layer && is_first {
            // What fits into the first window, so that it is on its way before the end.
            stream.send_data(bytes.slice(..60_000), false).unwrap();
            stream.send_reset(Reason::INTERNAL_ERROR);
        } else {
            stream.send_data(bytes, true).unwrap();
        }
    }
}

#[tokio::test]
async fn one_connection_serves_all_and_a_stream_that_breaks_goes_on() {
    let server = Server::start(image(3 << 20)).await;
    let place = Place::new();
    place.hosts(&format!("{}/ca.crt", server.address), &server.authority);
    let images = place.open().await;
    images.pull(request(&format!("{}/app:v1", server.address))).await.unwrap();
    assert_eq!(*server.shared.connections.lock().unwrap(), 1);
    let digest = server.shared.image.layers[0].digest();
    let log = server.shared.log.lock().unwrap().clone();
    let asked: Vec<_> = log.iter().filter(|(path, _)| path.ends_with(digest.as_str())).collect();
    assert_eq!(asked.len(), 2, "{log:?}");
    assert_clean(&images).await;
}
