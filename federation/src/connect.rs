//! Opening connections: names to addresses, the egress rules, TCP, TLS.
//!
//! The rules are checked on the very address that is connected to, after name resolution, so no
//! DNS answer gets around them.

use std::{
    future::Future,
    io,
    net::{IpAddr, SocketAddr},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use hickory_resolver::{
    TokioResolver,
    config::ResolveHosts,
    proto::rr::{RData, RecordType},
};
use http::Uri;
use hyper_util::{
    client::legacy::connect::{Connected, Connection},
    rt::TokioIo,
};
use ruma::OwnedServerName;
use rustls::pki_types::{CertificateDer, ServerName as TlsName, pem::PemObject as _};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use crate::{
    FederationConfig,
    config::ConfigError,
    discovery::{Discovery, Srv, Target},
    wellknown::NetworkLookup,
};

/// How long one TCP connect or one TLS handshake may take.
const STEP_TIMEOUT: Duration = Duration::from_secs(8);
/// How long a name lookup may take.
const DNS_TIMEOUT: Duration = Duration::from_secs(6);
/// Addresses of one name that are tried.
const MAX_ADDRESSES: usize = 4;

/// A reason in words; the causes here are many and only ever shown or logged.
pub(crate) type Reason = String;

/// Name lookups: the system's resolvers and its hosts file.
pub(crate) struct Dns {
    /// Absent when the system has no usable configuration: then addresses come from the C library.
    resolver: Option<TokioResolver>,
}

impl Dns {
    pub(crate) fn system() -> Self {
        let resolver = TokioResolver::builder_tokio().and_then(|mut builder| {
            let options = builder.options_mut();
            options.use_hosts_file = ResolveHosts::Always;
            options.cache_size = 4096;
            options.timeout = Duration::from_millis(2500);
            builder.build()
        });
        let resolver = resolver
            .inspect_err(|error| {
                tracing::warn!(%error, "no DNS configuration: SRV records can't be looked up");
            })
            .ok();
        Self { resolver }
    }

    async fn addresses(&self, host: &str) -> Result<Vec<IpAddr>, Reason> {
        let lookup = async {
            match &self.resolver {
                Some(resolver) => {
                    // Rooted, so that no search domain is tried. Single labels (as in container
                    // networks) are left to the system's ways.
                    let rooted = if host.contains('.') {
                        format!("{host}.")
                    } else {
                        host.to_owned()
                    };
                    let found = resolver
                        .lookup_ip(rooted)
                        .await
                        .map_err(|e| e.to_string())?;
                    Ok(found.iter().collect())
                }
                None => Ok(tokio::net::lookup_host((host, 0))
                    .await
                    .map_err(|e| e.to_string())?
                    .map(|address| address.ip())
                    .collect()),
            }
        };
        tokio::time::timeout(DNS_TIMEOUT, lookup)
            .await
            .unwrap_or_else(|_| Err("the lookup took too long".to_owned()))
    }

    pub(crate) async fn srv(&self, name: &str) -> Result<Vec<Srv>, Reason> {
        let Some(resolver) = &self.resolver else {
            return Ok(Vec::new());
        };
        let lookup = tokio::time::timeout(DNS_TIMEOUT, resolver.lookup(name, RecordType::SRV));
        let found = match lookup.await {
            Err(_) => return Err(format!("the lookup of {name} took too long")),
            Ok(Err(error)) if error.is_no_records_found() || error.is_nx_domain() => {
                return Ok(Vec::new());
            }
            Ok(Err(error)) => return Err(format!("the lookup of {name} failed: {error}")),
            Ok(Ok(found)) => found,
        };
        let records = found
            .answers()
            .iter()
            .filter_map(|record| match &record.data {
                RData::SRV(srv) => Some(Srv {
                    priority: srv.priority,
                    weight: srv.weight,
                    target: srv.target.to_ascii(),
                    port: srv.port,
                }),
                _ => None,
            });
        Ok(records.collect())
    }
}

/// Opens TLS connections to where the egress rules allow it.
pub(crate) struct Dialer {
    dns: Dns,
    tls: TlsConnector,
    config: FederationConfig,
}

impl Dialer {
    pub(crate) fn new(config: &FederationConfig) -> Result<Self, ConfigError> {
        let tls = TlsConnector::from(Arc::new(tls_config(config)?));
        Ok(Self {
            dns: Dns::system(),
            tls,
            config: config.clone(),
        })
    }

    pub(crate) fn dns(&self) -> &Dns {
        &self.dns
    }

    /// A TLS connection to the first target that gives one.
    pub(crate) async fn dial(
        &self,
        targets: &[Target],
        certificate_name: &str,
    ) -> Result<Stream, Reason> {
        let name = TlsName::try_from(certificate_name.to_owned())
            .map_err(|_| format!("{certificate_name} is no host name"))?;
        let mut reason = "there is nothing to connect to".to_owned();
        for target in targets {
            let addresses = match self.addresses(target).await {
                Ok(addresses) => addresses,
                Err(why) => {
                    reason = why;
                    continue;
                }
            };
            for address in addresses {
                match self.connect(address, name.clone()).await {
                    Ok(stream) => return Ok(stream),
                    Err(why) => reason = format!("{address}: {why}"),
                }
            }
        }
        Err(reason)
    }

    async fn addresses(&self, target: &Target) -> Result<Vec<SocketAddr>, Reason> {
        let found = match target {
            Target::Address(address) => vec![*address],
            Target::Host(host, port) => {
                let ips = self
                    .dns
                    .addresses(host)
                    .await
                    .map_err(|why| format!("{host}: {why}"))?;
                ips.into_iter()
                    .map(|ip| SocketAddr::new(ip, *port))
                    .collect()
            }
        };
        let mut allowed = found.clone();
        allowed.retain(|address| self.config.may_connect_to(address.ip()));
        allowed.truncate(MAX_ADDRESSES);
        match (allowed.is_empty(), found.first()) {
            (false, _) => Ok(allowed),
            (true, Some(address)) => Err(format!(
                "{} is in a range that federation may not connect to",
                address.ip()
            )),
            (true, None) => Err("the name has no address".to_owned()),
        }
    }

    async fn connect(&self, address: SocketAddr, name: TlsName<'static>) -> Result<Stream, Reason> {
        let tcp = tokio::time::timeout(STEP_TIMEOUT, TcpStream::connect(address))
            .await
            .map_err(|_| "connecting took too long".to_owned())?
            .map_err(|error| error.to_string())?;
        tcp.set_nodelay(true).map_err(|error| error.to_string())?;
        let tls = tokio::time::timeout(STEP_TIMEOUT, self.tls.connect(name, tcp))
            .await
            .map_err(|_| "the TLS handshake took too long".to_owned())?
            .map_err(|error| error.to_string())?;
        Ok(Stream(tls))
    }
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

/// A TLS connection, as the HTTP client wants it.
pub(crate) struct Stream(TlsStream<TcpStream>);

impl Connection for Stream {
    fn connected(&self) -> Connected {
        Connected::new()
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(context, buffer)
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(context)
    }
}

type Connecting = Pin<Box<dyn Future<Output = Result<TokioIo<Stream>, io::Error>> + Send>>;

/// Connects to Matrix servers: the URI's authority is a *server name*, which discovery resolves. So
/// the HTTP client's pool holds connections per server name.
#[derive(Clone)]
pub(crate) struct ServerConnector {
    pub(crate) dialer: Arc<Dialer>,
    pub(crate) discovery: Arc<Discovery<NetworkLookup>>,
}

impl tower::Service<Uri> for ServerConnector {
    type Response = TokioIo<Stream>;
    type Error = io::Error;
    type Future = Connecting;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Connecting {
        let Self { dialer, discovery } = self.clone();
        Box::pin(async move {
            let authority = uri
                .authority()
                .map(http::uri::Authority::as_str)
                .unwrap_or_default();
            let name = OwnedServerName::try_from(authority).map_err(io::Error::other)?;
            let route = discovery.route(&name).await.map_err(io::Error::other)?;
            let stream = dialer.dial(&route.targets, &route.certificate_name).await;
            Ok(TokioIo::new(stream.map_err(|why| {
                discovery.forget(&name);
                io::Error::other(why)
            })?))
        })
    }
}

/// Connects to web servers, for `.well-known`.
#[derive(Clone)]
pub(crate) struct WebConnector {
    pub(crate) dialer: Arc<Dialer>,
}

impl tower::Service<Uri> for WebConnector {
    type Response = TokioIo<Stream>;
    type Error = io::Error;
    type Future = Connecting;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Connecting {
        let dialer = self.dialer.clone();
        Box::pin(async move {
            let host = uri
                .host()
                .unwrap_or_default()
                .trim_matches(['[', ']'])
                .to_owned();
            let port = uri.port_u16().unwrap_or(443);
            let target = match host.parse() {
                Ok(ip) => Target::Address(SocketAddr::new(ip, port)),
                Err(_) => Target::Host(host.clone(), port),
            };
            let stream = dialer
                .dial(&[target], &host)
                .await
                .map_err(io::Error::other)?;
            Ok(TokioIo::new(stream))
        })
    }
}
