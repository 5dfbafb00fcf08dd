//! Servers for tests.

use std::{net::SocketAddr, sync::Arc};

use axum::Router;
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto::Builder,
    service::TowerToHyperService,
};
use rhizome_contract::Watch;
use rhizome_federation::{Federation, FederationConfig, testing::Network};
use rhizome_protocol::sign::KeyPair;
use rhizome_rooms::Rooms;
use rhizome_storage::{Store, testing::TestDatabase};
use ruma::OwnedServerName;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::{net::TcpListener, task::JoinHandle};
use tokio_rustls::TlsAcceptor;

/// Looks at what a server of these tests is asked and answers.
pub fn watch() -> Watch {
    Watch::new("federation")
}

/// A certificate authority that lives as long as a test.
pub struct Ca {
    key: rcgen::Issuer<'static, rcgen::KeyPair>,
    pub pem: String,
}

impl Ca {
    pub fn new() -> Self {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::new(Vec::<String>::new()).unwrap();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let pem = params.self_signed(&key).unwrap().pem();
        Self {
            key: rcgen::Issuer::new(params, key),
            pem,
        }
    }

    /// TLS for these names and addresses.
    pub fn acceptor(&self, names: &[&str]) -> TlsAcceptor {
        let key = rcgen::KeyPair::generate().unwrap();
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let params = rcgen::CertificateParams::new(names).unwrap();
        let certificate = params.signed_by(&key, &self.key).unwrap();
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key)
            .unwrap();
        TlsAcceptor::from(Arc::new(config))
    }
}

/// A listener that serves a router over TLS until it is dropped.
pub struct Listening {
    task: JoinHandle<()>,
}

impl Listening {
    /// Nobody can connect any more, and who was connected isn't.
    pub async fn stop(mut self) {
        self.task.abort();
        // An error: it was aborted.
        let _ = (&mut self.task).await;
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        self.task.abort();
    }
}

pub async fn bind() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

pub fn listen(listener: TcpListener, tls: TlsAcceptor, router: Router) -> Listening {
    let task = tokio::spawn(async move {
        let mut connections = tokio::task::JoinSet::new();
        while let Ok((tcp, _)) = listener.accept().await {
            let (tls, router) = (tls.clone(), router.clone());
            connections.spawn(async move {
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
    Listening { task }
}

/// Settings that let a server reach others on this machine.
pub fn config(ca: Option<&Ca>) -> FederationConfig {
    FederationConfig {
        extra_ca_pem: ca.map(|ca| ca.pem.clone()).into_iter().collect(),
        allowed_ranges: vec!["127.0.0.0/8".parse().unwrap(), "::1/128".parse().unwrap()],
        request_timeout: std::time::Duration::from_secs(5),
        ..FederationConfig::default()
    }
}

pub fn key(seed: u8) -> KeyPair {
    KeyPair::from_seed(&format!("k{seed}"), &[seed; 32]).unwrap()
}

pub fn rooms(store: &Store, name: &str, key: KeyPair) -> Rooms {
    let name: OwnedServerName = name.try_into().unwrap();
    Rooms::new(store.clone(), name, Arc::new(key))
}

/// A whole server on a socket, with a database of its own.
pub struct Server {
    pub fed: Federation,
    pub name: OwnedServerName,
    pub key: KeyPair,
    pub listening: Option<Listening>,
    _files: Network,
    _database: TestDatabase,
}

impl Server {
    /// A server called `<host>:<port>`.
    pub async fn start(host: &str, seed: u8, ca: &Ca, config: FederationConfig) -> Self {
        let database = TestDatabase::sqlite();
        let store = database.open().await;
        let (listener, address) = bind().await;
        let name = format!("{host}:{}", address.port());
        let rooms = rooms(&store, &name, key(seed));
        let (files, pictures) = (Network::default(), Arc::new(rhizome_media::NoPictures));
        let media = files.media(&rooms, &store, pictures);
        let fed = Federation::new(rooms, store, media, config).unwrap();
        let listening = listen(
            listener,
            ca.acceptor(&["localhost", "127.0.0.1"]),
            watch().over(fed.router()),
        );
        Self {
            fed,
            name: name.try_into().unwrap(),
            key: key(seed),
            listening: Some(listening),
            _files: files,
            _database: database,
        }
    }
}
