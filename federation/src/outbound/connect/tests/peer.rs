//! Somebody who listens, and behaves as a test says.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use axum::{Router, body::Body};
use http::{Request, StatusCode};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto::Builder,
    service::TowerToHyperService,
};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::{
    net::TcpListener,
    task::{JoinHandle, JoinSet},
};
use tokio_rustls::TlsAcceptor;

/// What all homeservers here are called.
pub(super) const NAME: &str = "b.example";

/// Listens at an address of this machine until this is dropped.
pub(super) struct Peer {
    pub(super) at: SocketAddr,
    /// Its certificate.
    pub(super) pem: String,
    connections: Arc<AtomicUsize>,
    requests: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// How a peer behaves.
#[derive(Clone, Copy)]
pub(super) struct Manners {
    pub(super) ip: &'static str,
    /// The name of its certificate.
    pub(super) name: &'static str,
    pub(super) status: u16,
    pub(super) body: &'static str,
    /// Whether it speaks HTTP/2 alone.
    pub(super) http2: bool,
}

/// As a homeserver does.
pub(super) const WELL: Manners = Manners {
    ip: "127.0.0.1",
    name: NAME,
    status: 200,
    body: "{}",
    http2: false,
};

impl Peer {
    pub(super) async fn with(manners: Manners) -> Self {
        let (tls, pem) = tls(manners);
        let listener = TcpListener::bind((manners.ip, 0)).await.unwrap();
        let at = listener.local_addr().unwrap();
        let requests = Arc::new(AtomicUsize::new(0));
        let connections = Arc::new(AtomicUsize::new(0));
        let router = router(manners, requests.clone());
        let counted = connections.clone();
        let task = tokio::spawn(async move {
            let mut open = JoinSet::new();
            while let Ok((tcp, _)) = listener.accept().await {
                counted.fetch_add(1, Ordering::Relaxed);
                let (tls, router) = (tls.clone(), router.clone());
                open.spawn(async move {
                    // Who only looks whether somebody is there says nothing.
                    let Ok(stream) = tls.accept(tcp).await else {
                        return;
                    };
                    let service = TowerToHyperService::new(router);
                    let builder = Builder::new(TokioExecutor::new());
                    let _ = builder
                        .serve_connection(TokioIo::new(stream), service)
                        .await;
                });
            }
        });
        Self {
            at,
            pem,
            connections,
            requests,
            task,
        }
    }

    pub(super) fn requests(&self) -> usize {
        self.requests.load(Ordering::Relaxed)
    }

    pub(super) fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }
}

fn tls(manners: Manners) -> (TlsAcceptor, String) {
    let issued = rcgen::generate_simple_self_signed([manners.name.to_owned()]).unwrap();
    let key = PrivatePkcs8KeyDer::from(issued.signing_key.serialize_der());
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut tls = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![issued.cert.der().clone()], PrivateKeyDer::Pkcs8(key))
        .unwrap();
    if manners.http2 {
        tls.alpn_protocols = vec![b"h2".to_vec()];
    }
    (TlsAcceptor::from(Arc::new(tls)), issued.cert.pem())
}

/// Answers everything alike, and tells in a header how it was asked: the version, the server in the target, and whether
/// there is a `Host`.
fn router(manners: Manners, requests: Arc<AtomicUsize>) -> Router {
    Router::new().fallback(move |request: Request<Body>| {
        requests.fetch_add(1, Ordering::Relaxed);
        let host = request.uri().authority().map_or("", |host| host.as_str());
        let has_host = request.headers().contains_key("host");
        let told = format!("{:?} {host} {has_host}", request.version());
        let status = StatusCode::from_u16(manners.status).unwrap();
        std::future::ready((status, [("x-asked", told)], manners.body))
    })
}
