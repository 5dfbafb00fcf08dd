//! Opening connections: one `reqwest` client per destination, whose resolver knows discovery's answer
//! and the egress rules.
//!
//! The rules are checked on the very addresses that the client connects to, after name resolution, so
//! no DNS answer gets around them.

use std::{
    collections::HashMap,
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use axum::body::Body;
use futures_util::future::join_all;
use http::{Request, Response, header};
use reqwest::{
    Client, Url,
    dns::{Addrs, Name, Resolve, Resolving},
    redirect::Policy,
};
use ruma::{OwnedServerName, ServerName};
use rustls::pki_types::{CertificateDer, pem::PemObject as _};

use crate::{
    FederationConfig,
    config::ConfigError,
    outbound::{
        client::{OutboundError, USER_AGENT, cause},
        discovery::{Discovery, Route, Target},
        dns::{Dns, Reason},
        wellknown::NetworkLookup,
    },
};

/// How long looking up, connecting and the TLS handshake may take together. Several addresses share
/// it, so that one that never answers leaves time for the next.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a connection without requests is kept.
const IDLE_TIMEOUT: Duration = Duration::from_mins(1);
/// Such connections per destination.
const MAX_IDLE: usize = 4;
/// Destinations whose clients are kept.
const MAX_CLIENTS: usize = 1000;
/// Addresses of one route that are tried.
const MAX_ADDRESSES: usize = 8;

/// What all connections to the outside share: name lookups, egress rules, TLS.
pub(crate) struct Dialer {
    dns: Dns,
    tls: rustls::ClientConfig,
    config: FederationConfig,
}

impl Dialer {
    pub(crate) fn new(config: &FederationConfig) -> Result<Self, ConfigError> {
        Ok(Self {
            dns: Dns::system(),
            tls: tls_config(config)?,
            config: config.clone(),
        })
    }

    pub(crate) fn dns(&self) -> &Dns {
        &self.dns
    }

    /// A client whose URLs say which name the certificate must be valid for, while it connects to
    /// the route's targets; without a route, to the URL's host. Only HTTP/1.1, since there the
    /// `Host` header is ours to choose. URLs must have passed [`Dialer::check`].
    pub(crate) fn client(self: &Arc<Self>, route: Option<Arc<Route>>) -> reqwest::Result<Client> {
        Client::builder()
            .tls_backend_preconfigured(self.tls.clone())
            .dns_resolver(Guide {
                dialer: self.clone(),
                route,
            })
            .user_agent(USER_AGENT)
            .https_only(true)
            .http1_only()
            .no_proxy()
            .redirect(Policy::none())
            .connect_timeout(CONNECT_TIMEOUT)
            .pool_idle_timeout(IDLE_TIMEOUT)
            .pool_max_idle_per_host(MAX_IDLE)
            .build()
    }

    /// The egress rules for a URL whose host is an address, which no resolver gets to see. Asks the
    /// parsed URL, as `127.1` and `0x7f000001` are addresses to it, too.
    pub(crate) fn check(&self, url: &Url) -> Result<(), Reason> {
        let host = url.host_str().unwrap_or_default();
        match host.trim_matches(['[', ']']).parse() {
            Ok(ip) if !self.config.may_connect_to(ip) => Err(denied(ip)),
            _ => Ok(()),
        }
    }

    /// The addresses of all targets, in their order, as far as the egress rules allow them.
    async fn addresses(&self, targets: &[Target]) -> Result<Vec<SocketAddr>, Reason> {
        let found = join_all(targets.iter().map(async |target| match target {
            Target::Address(address) => Ok(vec![*address]),
            Target::Host(host, port) => match self.dns.addresses(host).await {
                Ok(ips) => Ok(ips.into_iter().map(|ip| (ip, *port).into()).collect()),
                Err(why) => Err(format!("{host}: {why}")),
            },
        }));
        let mut allowed: Vec<SocketAddr> = Vec::new();
        let mut reason = "the name has no address".to_owned();
        for found in found.await {
            match found {
                Err(why) => reason = why,
                Ok(addresses) => {
                    for address in addresses {
                        if self.config.may_connect_to(address.ip()) {
                            allowed.push(address);
                        } else {
                            reason = denied(address.ip());
                        }
                    }
                }
            }
        }
        allowed.truncate(MAX_ADDRESSES);
        if allowed.is_empty() {
            return Err(reason);
        }
        Ok(allowed)
    }
}

fn denied(ip: IpAddr) -> Reason {
    format!("{ip} is in a range that federation may not connect to")
}

/// Tells a client where to connect to. The ports hold, too, for URLs that say none.
struct Guide {
    dialer: Arc<Dialer>,
    route: Option<Arc<Route>>,
}

impl Resolve for Guide {
    fn resolve(&self, name: Name) -> Resolving {
        let (dialer, route) = (self.dialer.clone(), self.route.clone());
        Box::pin(async move {
            let addresses = if let Some(route) = route {
                dialer.addresses(&route.targets).await?
            } else {
                // Port 0 stands for the URL's.
                let target = Target::Host(name.as_str().to_owned(), 0);
                dialer.addresses(&[target]).await?
            };
            Ok(Box::new(addresses.into_iter()) as Addrs)
        })
    }
}

/// Sends requests to Matrix servers, each over its own client.
pub(crate) struct Connections {
    dialer: Arc<Dialer>,
    discovery: Discovery<NetworkLookup>,
    clients: Mutex<HashMap<OwnedServerName, Kept>>,
}

/// The client for a route and when it was last asked for.
struct Kept {
    route: Arc<Route>,
    client: Client,
    used: Instant,
}

impl Connections {
    pub(crate) fn new(config: &FederationConfig) -> Result<Self, ConfigError> {
        let dialer = Arc::new(Dialer::new(config)?);
        let lookup = NetworkLookup::new(dialer.clone())
            .map_err(|error| ConfigError::Client(cause(&error)))?;
        Ok(Self {
            dialer,
            discovery: Discovery::new(lookup),
            clients: Mutex::default(),
        })
    }

    /// Sends a request, whose URI is its target alone, to where discovery says.
    pub(crate) async fn send(
        &self,
        destination: &ServerName,
        request: Request<Option<String>>,
    ) -> Result<Response<Body>, OutboundError> {
        let route = self
            .discovery
            .route(destination)
            .await
            .map_err(OutboundError::Discovery)?;
        let url = url(&route, &request.uri().to_string())?;
        self.dialer.check(&url).map_err(OutboundError::Transport)?;
        let client = self
            .client(destination, &route)
            .map_err(|error| OutboundError::Request(cause(&error)))?;
        let (parts, body) = request.into_parts();
        let mut request = client
            .request(parts.method, url)
            .headers(parts.headers)
            .header(header::HOST, &route.host_header);
        if let Some(body) = body {
            request = request.body(body);
        }
        let response = request.send().await.map_err(|error| {
            if error.is_connect() {
                self.discovery.forget(destination);
            }
            OutboundError::Transport(cause(&error.without_url()))
        })?;
        Ok(Response::from(response).map(Body::new))
    }

    /// The client of a destination, a new one when discovery's answer is another than before.
    fn client(&self, destination: &ServerName, route: &Arc<Route>) -> reqwest::Result<Client> {
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        let used = Instant::now();
        if let Some(kept) = clients.get_mut(destination)
            && kept.route == *route
        {
            kept.used = used;
            return Ok(kept.client.clone());
        }
        let client = self.dialer.client(Some(route.clone()))?;
        if clients.len() >= MAX_CLIENTS
            && let Some(oldest) = clients.iter().min_by_key(|(_, kept)| kept.used)
        {
            let oldest = oldest.0.clone();
            clients.remove(&oldest);
        }
        let kept = Kept {
            route: route.clone(),
            client: client.clone(),
            used,
        };
        clients.insert(destination.to_owned(), kept);
        Ok(client)
    }
}

/// The URL of a target on a route. It says the certificate's name, and no port, as the targets have
/// theirs; for an address, which needs no lookup, both.
fn url(route: &Route, target: &str) -> Result<Url, OutboundError> {
    let authority = match route.targets.first() {
        Some(Target::Address(address)) => address.to_string(),
        _ => route.certificate_name.clone(),
    };
    let url = Url::parse(&format!("https://{authority}{target}"))
        .map_err(|error| OutboundError::Discovery(format!("{authority}: {error}")))?;
    // What is sent must be what was signed.
    if !url.as_str().ends_with(target) {
        let why = "its path can't be part of a URL".to_owned();
        return Err(OutboundError::Request(why));
    }
    Ok(url)
}

/// TLS with the platform's roots and the configured ones, offering HTTP/1.1 alone: its `Host`
/// header can say what discovery wants, whatever the address and port.
fn tls_config(config: &FederationConfig) -> Result<rustls::ClientConfig, ConfigError> {
    let mut roots = rustls::RootCertStore::empty();
    let native = rustls_native_certs::load_native_certs();
    for error in native.errors {
        tracing::warn!(%error, "some of the system's CA certificates can't be read");
    }
    roots.add_parsable_certificates(native.certs);
    for pem in &config.extra_ca_pem {
        let before = roots.len();
        for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
            let certificate =
                certificate.map_err(|error| ConfigError::Certificate(error.to_string()))?;
            roots
                .add(certificate)
                .map_err(|error| ConfigError::Certificate(error.to_string()))?;
        }
        if roots.len() == before {
            return Err(ConfigError::Certificate(
                "it holds no certificate".to_owned(),
            ));
        }
    }
    if roots.is_empty() {
        tracing::warn!("no CA certificate is trusted: no other server can be reached");
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| ConfigError::Client(error.to_string()))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    tls.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(tls)
}

#[cfg(test)]
mod tests {
    use rustls::pki_types::PrivatePkcs8KeyDer;
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::TcpListener,
    };

    use super::*;

    #[tokio::test]
    async fn urls_name_the_certificate_and_clients_follow_the_route() {
        let connections = Connections::new(&FederationConfig::default()).unwrap();
        let name: OwnedServerName = "a.example".try_into().unwrap();
        let route = |port| {
            let srv = crate::outbound::discovery::Srv {
                priority: 0,
                weight: 0,
                target: "host.example.".to_owned(),
                port,
            };
            Arc::new(crate::outbound::discovery::by_srv("a.example", vec![srv]))
        };
        assert_eq!(
            url(&route(1), "/x?y").unwrap().as_str(),
            "https://a.example/x?y"
        );
        for port in [1, 1, 2] {
            connections.client(&name, &route(port)).unwrap();
            let clients = connections.clients.lock().unwrap();
            assert_eq!(clients.len(), 1);
            assert_eq!(clients[&name].route, route(port));
        }
        for n in 0..=MAX_CLIENTS {
            let name: OwnedServerName = format!("b{n}.example").try_into().unwrap();
            connections.client(&name, &route(1)).unwrap();
        }
        let clients = connections.clients.lock().unwrap();
        assert_eq!(clients.len(), MAX_CLIENTS);
        assert!(!clients.contains_key(&name));
    }

    /// Where to connect, the certificate's name and `Host` are three things; of several targets, one
    /// that isn't there doesn't matter.
    #[tokio::test]
    async fn target_certificate_and_host_header_are_three_things() {
        let issued = rcgen::generate_simple_self_signed(["b.example".to_owned()]).unwrap();
        let key = PrivatePkcs8KeyDer::from(issued.signing_key.serialize_der());
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let tls = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![issued.cert.der().clone()], key.into())
            .unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let server = tokio::spawn(async move {
            let (tcp, _) = listener.accept().await.unwrap();
            let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(tls));
            let mut stream = acceptor.accept(tcp).await.unwrap();
            let name = stream.get_ref().1.server_name().map(str::to_owned);
            let mut head = vec![0; 4096];
            let length = stream.read(&mut head).await.unwrap();
            let answer = b"HTTP/1.1 204 No Content\r\n\r\n";
            stream.write_all(answer).await.unwrap();
            head.truncate(length);
            (name, String::from_utf8(head).unwrap().to_lowercase())
        });
        let closed = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let gone = closed.local_addr().unwrap().port();
        drop(closed);
        let localhost = |port| Target::Host("localhost".to_owned(), port);
        let route = Route {
            targets: vec![localhost(gone), localhost(port)],
            host_header: "c.example:7".to_owned(),
            certificate_name: "b.example".to_owned(),
        };
        let config = FederationConfig {
            extra_ca_pem: vec![issued.cert.pem()],
            allowed_ranges: vec!["127.0.0.0/8".parse().unwrap()],
            ..FederationConfig::default()
        };
        let dialer = Arc::new(Dialer::new(&config).unwrap());
        let url = url(&route, "/x").unwrap();
        let host = route.host_header.clone();
        let client = dialer.client(Some(Arc::new(route))).unwrap();
        let request = client.get(url).header(header::HOST, host);
        assert_eq!(request.send().await.unwrap().status(), 204);
        let (name, head) = server.await.unwrap();
        assert_eq!(name.as_deref(), Some("b.example"));
        assert!(head.starts_with("get /x http/1.1\r\n"), "{head}");
        assert!(head.contains("\r\nhost: c.example:7\r\n"), "{head}");
    }

    #[test]
    fn odd_spellings_of_addresses_and_paths_are_refused() {
        let dialer = Dialer::new(&FederationConfig::default()).unwrap();
        for denied in ["127.1", "0x7f000001", "2130706433", "[::1]", "10.0.0.1:80"] {
            let url = Url::parse(&format!("https://{denied}/")).unwrap();
            assert!(dialer.check(&url).is_err(), "{denied}");
        }
        for allowed in ["8.8.8.8", "localhost", "[2606:4700::1111]:1"] {
            let url = Url::parse(&format!("https://{allowed}/")).unwrap();
            assert!(dialer.check(&url).is_ok(), "{allowed}");
        }
        let route = crate::outbound::discovery::by_srv("a.example", Vec::new());
        for path in ["/a/../b", "/a/%2E%2e", "/a/."] {
            assert!(url(&route, path).is_err(), "{path}");
        }
    }
}
