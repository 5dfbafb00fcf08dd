//! The way to a server, a step at a time: for who wants to know which of them fails, and why. Each is taken by the same code as
//! when the server is asked something.

use std::{
    io::{self, ErrorKind},
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use axum::body::Body;
use bytes::Bytes;
use http::{Response, header};
use reqwest::Client;
use ruma::ServerName;
use rustls::{
    DigitallySignedStruct, SignatureScheme,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    pki_types::{self, CertificateDer, UnixTime},
};
use tokio::{net::TcpStream, time::timeout};

use crate::{
    FederationConfig,
    config::ConfigError,
    outbound::{
        connect::{speaks, url},
        dialer::{Dialer, MAX_ADDRESSES, Speaks, denied},
        discovery::{Lookup, Route, Srv, Target, WellKnown, resolve},
        dns::Reason,
        error::cause,
        places,
        web::{Web, WebError},
        wellknown::NetworkLookup,
    },
};

/// Time for opening a connection.
const CONNECT: Duration = Duration::from_secs(5);
/// Time for one question over it.
const ASK: Duration = Duration::from_secs(15);

/// Takes the steps on the way to servers.
pub(crate) struct Probe {
    dialer: Arc<Dialer>,
    lookup: NetworkLookup,
}

/// What was asked on the way from a name to where its server listens.
pub(crate) enum Asked {
    /// `/.well-known/matrix/server` of a host.
    WellKnown {
        host: String,
        answer: Result<WellKnown, WebError>,
    },
    /// The SRV records of a name.
    Srv {
        name: String,
        found: Result<Vec<Srv>, Reason>,
    },
}

/// Why no connection was opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Unconnected {
    pub(crate) why: Reason,
    /// It is this machine that has no way to addresses of that kind.
    pub(crate) has_no_way: bool,
}

impl Unconnected {
    fn of(error: &io::Error) -> Self {
        let kind = error.kind();
        Self {
            why: error.to_string(),
            has_no_way: matches!(
                kind,
                ErrorKind::NetworkUnreachable | ErrorKind::AddrNotAvailable
            ),
        }
    }
}

/// The certificate that a server has shown, and what is wrong with it.
#[derive(Debug, Clone)]
pub(crate) struct Shown {
    pub(crate) certificate: CertificateDer<'static>,
    pub(crate) fault: Option<rustls::Error>,
}

/// Asks one address of a server.
pub(crate) struct Asking<'a> {
    dialer: Arc<Dialer>,
    route: &'a Route,
    speaks: Speaks,
    client: Client,
    witness: Arc<Witness>,
}

impl Probe {
    pub(crate) fn new(config: &FederationConfig) -> Result<Self, ConfigError> {
        let dialer = Arc::new(Dialer::new(config)?);
        let web = Web::new(&dialer).map_err(|error| ConfigError::Client(cause(&error)))?;
        let lookup = NetworkLookup::new(dialer.clone(), Arc::new(web));
        Ok(Self { dialer, lookup })
    }

    /// Where a server listens, and all that was asked for that.
    pub(crate) async fn route(&self, name: &ServerName) -> (Result<Route, Reason>, Vec<Asked>) {
        let recorder = Recorder {
            probe: self,
            asked: Mutex::default(),
        };
        // All targets are looked at: which of equal ones comes first makes no difference.
        let route = resolve(name, &recorder, 0, async |host| {
            recorder.well_known(&host).await
        })
        .await;
        let asked = recorder.asked.into_inner();
        (route, asked.unwrap_or_else(PoisonError::into_inner))
    }

    /// The addresses of a target, as many as are tried at most.
    pub(crate) async fn addresses(&self, target: &Target) -> Result<Vec<SocketAddr>, Reason> {
        let mut found = places::in_turn(self.dialer.look_up(target).await?);
        found.truncate(MAX_ADDRESSES);
        Ok(found)
    }

    /// Opens a connection, if the egress rules let us, and closes it.
    pub(crate) async fn connect(&self, address: SocketAddr) -> Result<(), Unconnected> {
        let failed = |why| Unconnected {
            why,
            has_no_way: false,
        };
        if !self.dialer.config().may_connect_to(address.ip()) {
            return Err(failed(denied(address.ip())));
        }
        match timeout(CONNECT, TcpStream::connect(address)).await {
            Ok(connected) => connected.map(drop).map_err(|error| Unconnected::of(&error)),
            Err(_) => Err(failed("nobody answered in time".to_owned())),
        }
    }

    /// Gets ready to ask one address of a route.
    pub(crate) fn asking<'a>(
        &self,
        route: &'a Route,
        address: SocketAddr,
    ) -> Result<Asking<'a>, Reason> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let roots = self.dialer.roots().clone();
        let judge = WebPkiServerVerifier::builder_with_provider(roots, provider).build();
        let witness = Arc::new(Witness {
            judge: judge.map_err(|error| error.to_string())?,
            shown: Mutex::default(),
        });
        let any = url(route, "/").map_err(|error| error.to_string())?;
        let speaks = speaks(&any, route);
        let client = self.dialer.judged_client(address, speaks, witness.clone());
        Ok(Asking {
            dialer: self.dialer.clone(),
            route,
            speaks,
            client: client.map_err(|error| cause(&error))?,
            witness,
        })
    }
}

impl Asking<'_> {
    /// An unsigned GET; the answer has at most so many bytes.
    pub(crate) async fn get(&self, target: &str, most: usize) -> Result<Response<Bytes>, Reason> {
        let exchanged = timeout(ASK, self.exchange(target, most)).await;
        exchanged.unwrap_or_else(|_| Err("it took too long to answer".to_owned()))
    }

    async fn exchange(&self, target: &str, most: usize) -> Result<Response<Bytes>, Reason> {
        let url = url(self.route, target).map_err(|error| error.to_string())?;
        self.dialer.check(&url)?;
        let mut request = self.client.get(url);
        if self.speaks == Speaks::OneAlone {
            request = request.header(header::HOST, &self.route.host_header);
        }
        let response = request.send().await;
        let response = response.map_err(|error| cause(&error.without_url()))?;
        let (parts, body) = Response::from(response).map(Body::new).into_parts();
        let body = axum::body::to_bytes(body, most).await;
        let body = body.map_err(|error| cause(&error))?;
        Ok(Response::from_parts(parts, body))
    }

    /// The certificate that was shown last; `None`: it didn't come to that.
    pub(crate) fn shown(&self) -> Option<Shown> {
        lock(&self.witness.shown).clone()
    }
}

/// Passes discovery's questions on, and notes what is answered.
struct Recorder<'a> {
    probe: &'a Probe,
    asked: Mutex<Vec<Asked>>,
}

impl Lookup for Recorder<'_> {
    async fn well_known(&self, host: &str) -> WellKnown {
        let answer = Box::pin(self.probe.lookup.fetch(host)).await;
        let known = answer.clone().unwrap_or(WellKnown {
            server: None,
            max_age: None,
        });
        let host = host.to_owned();
        lock(&self.asked).push(Asked::WellKnown { host, answer });
        known
    }

    async fn srv(&self, name: &str) -> Result<Vec<Srv>, String> {
        let found = self.probe.dialer.dns().srv(name).await;
        let known = found.clone().unwrap_or_default();
        let name = name.trim_end_matches('.').to_owned();
        lock(&self.asked).push(Asked::Srv { name, found });
        Ok(known)
    }
}

/// Judges certificates as always, and remembers the one that was shown. It lets none pass that isn't good.
#[derive(Debug)]
struct Witness {
    judge: Arc<WebPkiServerVerifier>,
    shown: Mutex<Option<Shown>>,
}

impl ServerCertVerifier for Witness {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &pki_types::ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let verdict = self.judge.verify_server_cert(
            end_entity,
            intermediates,
            server_name,
            ocsp_response,
            now,
        );
        *lock(&self.shown) = Some(Shown {
            certificate: end_entity.clone().into_owned(),
            fault: verdict.as_ref().err().cloned(),
        });
        verdict
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.judge.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.judge.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.judge.supported_verify_schemes()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
