//! Connections to Matrix servers: one `reqwest` client per destination, along discovery's answer.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};

use axum::body::Body;
use http::{Request, Response, header};
use ipnet::IpNet;
use reqwest::{Client, Url};
use ruma::{OwnedServerName, ServerName};

use crate::{
    FederationConfig,
    config::ConfigError,
    outbound::{
        dialer::{Dialer, Reach},
        discovery::{Discovery, Route, Target},
        error::{OutboundError, cause},
        web::{Messenger, Web},
        wellknown::NetworkLookup,
    },
};

/// Destinations whose clients are kept.
const MAX_CLIENTS: usize = 1000;
/// Sends requests to Matrix servers, each over its own client.
pub(crate) struct Connections {
    dialer: Arc<Dialer>,
    web: Web,
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
        let client = |error: reqwest::Error| ConfigError::Client(cause(&error));
        let servers = Arc::new(Web::new(&dialer).map_err(client)?);
        let lookup = NetworkLookup::new(dialer.clone(), servers);
        let web = Web::new(&Arc::new(dialer.with_exceptions(&[]))).map_err(client)?;
        Ok(Self {
            dialer,
            web,
            discovery: Discovery::new(lookup),
            clients: Mutex::default(),
        })
    }

    /// Web addresses that others name. Where servers in our own network may be reached, these may not be.
    pub(crate) fn web(&self) -> &Web {
        &self.web
    }

    /// The same with exceptions.
    pub(crate) fn web_with(&self, ranges: &[IpNet]) -> reqwest::Result<Web> {
        Web::new(&Arc::new(self.dialer.with_exceptions(ranges)))
    }

    /// What brings something to web addresses.
    pub(crate) fn messenger(&self, reach: &Reach) -> reqwest::Result<Messenger> {
        Messenger::new(&Arc::new(self.dialer.with_reach(reach)))
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

    /// Forgets where a server was found.
    pub(crate) fn look_again(&self, server: &ServerName) {
        self.discovery.forget_all(server);
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
        let client = self.dialer.client(route.clone())?;
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
pub(super) fn url(route: &Route, target: &str) -> Result<Url, OutboundError> {
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
        let client = dialer.client(Arc::new(route)).unwrap();
        let request = client.get(url).header(header::HOST, host);
        assert_eq!(request.send().await.unwrap().status(), 204);
        let (name, head) = server.await.unwrap();
        assert_eq!(name.as_deref(), Some("b.example"));
        assert!(head.starts_with("get /x http/1.1\r\n"), "{head}");
        assert!(head.contains("\r\nhost: c.example:7\r\n"), "{head}");
    }

    #[test]
    fn targets_that_urls_would_change_are_refused() {
        let route = crate::outbound::discovery::by_srv("a.example", Vec::new());
        for path in ["/a/../b", "/a/%2E%2e", "/a/."] {
            assert!(url(&route, path).is_err(), "{path}");
        }
    }
}
