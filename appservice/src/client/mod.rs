//! Requests to application services.
//!
//! The operator names where they are, so no egress rule stands in the way. They may be wrong, slow or broken all the
//! same: an answer is waited for so long, and so much of it is read.

mod ping;
mod url;

use std::sync::OnceLock;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt as _;
use http::{HeaderValue, Method, StatusCode, header};
use reqwest::redirect::Policy;
use rustls::pki_types::{CertificateDer, pem::PemObject as _};

use crate::Registration;
pub use ping::PingError;

/// How we call ourselves.
const USER_AGENT: &str = concat!("Rhizome/", env!("CARGO_PKG_VERSION"));
/// How long looking up, connecting and the TLS handshake may take together.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a connection without requests is kept: those of our side end before those of most services.
const IDLE_TIMEOUT: Duration = Duration::from_secs(30);
/// Such connections per service.
const MAX_IDLE: usize = 4;

/// What asks and tells application services. One is enough for all of them.
pub struct AppserviceClient {
    extra_ca_pem: Vec<String>,
    /// Made for the first request: who has no services needn't have it.
    http: OnceLock<Result<reqwest::Client, String>>,
}

/// A request to a service.
pub struct Call<'a> {
    /// Its method.
    pub method: Method,
    /// Its path below the service's own URL, as segments, which are encoded here.
    pub path: &'a [&'a str],
    /// Its query, which is encoded here.
    pub query: &'a [(&'a str, &'a str)],
    /// Its body: JSON.
    pub body: Option<Bytes>,
    /// How long it may take, the answer included.
    pub within: Duration,
    /// How many bytes of the answer are read.
    pub most: usize,
}

/// What a service answered, whatever the status.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The status.
    pub status: StatusCode,
    /// The body, or its beginning.
    pub body: Vec<u8>,
    /// Whether there was more of it.
    pub is_cut: bool,
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// The registration has no URL.
    #[error("the registration has no url")]
    NoUrl,
    /// It took too long.
    #[error("no answer in time")]
    Timeout,
    /// Nobody is there, or the connection broke.
    #[error("{0}")]
    Unreachable(String),
}

impl AppserviceClient {
    /// `extra_ca_pem`: certificates that are trusted beside the system's, as PEM.
    pub fn new(extra_ca_pem: Vec<String>) -> Self {
        Self {
            extra_ca_pem,
            http: OnceLock::new(),
        }
    }

    /// `GET`: asks something.
    ///
    /// # Errors
    /// As [`Self::call`].
    pub async fn get(
        &self,
        service: &Registration,
        path: &[&str],
        query: &[(&str, &str)],
        (within, most): (Duration, usize),
    ) -> Result<Answer, CallError> {
        let (method, body) = (Method::GET, None);
        self.call(
            service,
            Call {
                method,
                path,
                query,
                body,
                within,
                most,
            },
        )
        .await
    }

    /// `PUT` of JSON: the bytes as they are.
    ///
    /// # Errors
    /// As [`Self::call`].
    pub async fn put(
        &self,
        service: &Registration,
        path: &[&str],
        body: Bytes,
        (within, most): (Duration, usize),
    ) -> Result<Answer, CallError> {
        self.with_body(Method::PUT, service, path, body, (within, most))
            .await
    }

    /// `POST` of JSON: the bytes as they are.
    ///
    /// # Errors
    /// As [`Self::call`].
    pub async fn post(
        &self,
        service: &Registration,
        path: &[&str],
        body: Bytes,
        (within, most): (Duration, usize),
    ) -> Result<Answer, CallError> {
        self.with_body(Method::POST, service, path, body, (within, most))
            .await
    }

    async fn with_body(
        &self,
        method: Method,
        service: &Registration,
        path: &[&str],
        body: Bytes,
        (within, most): (Duration, usize),
    ) -> Result<Answer, CallError> {
        let (query, body) = (&[][..], Some(body));
        self.call(
            service,
            Call {
                method,
                path,
                query,
                body,
                within,
                most,
            },
        )
        .await
    }

    /// Makes a request, with the `hs_token` in its `Authorization` header and nowhere else. No redirect is followed.
    ///
    /// # Errors
    /// There is no answer; none for a status.
    pub async fn call(&self, service: &Registration, call: Call<'_>) -> Result<Answer, CallError> {
        let base = service.url.as_ref().ok_or(CallError::NoUrl)?;
        let url = url::below(base, call.path, call.query);
        let bearer = format!("Bearer {}", service.hs_token().expose());
        let mut bearer = HeaderValue::try_from(bearer)
            .map_err(|_| CallError::Unreachable("`hs_token` can't be in a header".into()))?;
        bearer.set_sensitive(true);
        let mut request = self
            .http()?
            .request(call.method, url)
            .timeout(call.within)
            .header(header::AUTHORIZATION, bearer);
        if let Some(body) = call.body {
            let json = HeaderValue::from_static("application/json");
            request = request.header(header::CONTENT_TYPE, json).body(body);
        }
        // Boxed: who waits for an answer is often part of something large.
        let exchange = Box::pin(exchange(request, call.most));
        exchange.await.map_err(|error| told(&error.without_url()))
    }

    fn http(&self) -> Result<&reqwest::Client, CallError> {
        let made = self.http.get_or_init(|| client(&self.extra_ca_pem));
        made.as_ref()
            .map_err(|error| CallError::Unreachable(error.clone()))
    }
}

impl std::fmt::Debug for AppserviceClient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("AppserviceClient")
    }
}

async fn exchange(request: reqwest::RequestBuilder, most: usize) -> reqwest::Result<Answer> {
    let response = request.send().await?;
    let status = response.status();
    let (mut pieces, mut body, mut is_cut) = (response.bytes_stream(), Vec::new(), false);
    while let Some(piece) = pieces.next().await {
        let piece = piece?;
        let room = most - body.len();
        body.extend_from_slice(&piece[..piece.len().min(room)]);
        if piece.len() > room {
            is_cut = true;
            break;
        }
    }
    Ok(Answer {
        status,
        body,
        is_cut,
    })
}

/// An error with its causes.
fn told(error: &reqwest::Error) -> CallError {
    if error.is_timeout() {
        return CallError::Timeout;
    }
    let mut text = error.to_string();
    let mut next = std::error::Error::source(error);
    while let Some(error) = next {
        let inner = error.to_string();
        if !text.ends_with(&inner) {
            text = format!("{text}: {inner}");
        }
        next = error.source();
    }
    CallError::Unreachable(text)
}

fn client(extra_ca_pem: &[String]) -> Result<reqwest::Client, String> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    for pem in extra_ca_pem {
        let certificates = CertificateDer::pem_slice_iter(pem.as_bytes());
        roots.add_parsable_certificates(certificates.flatten());
    }
    let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
    let tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_root_certificates(roots)
        .with_no_client_auth();
    reqwest::Client::builder()
        .tls_backend_preconfigured(tls)
        .no_proxy()
        .redirect(Policy::none())
        .user_agent(USER_AGENT)
        .connect_timeout(CONNECT_TIMEOUT)
        .pool_idle_timeout(IDLE_TIMEOUT)
        .pool_max_idle_per_host(MAX_IDLE)
        .build()
        .map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests;
