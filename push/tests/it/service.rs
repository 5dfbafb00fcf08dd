//! A service of somebody's on the loopback, with HTTP/1.1 and HTTP/2, and the server's side of the connection.

use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use http::{HeaderMap, Request, Response, Version};
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use rhizome_push::{ANSWER_BODY, ANSWER_TIME, PushAnswer, PushRequest, SendError};
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// A request as it came.
#[derive(Clone)]
pub struct Seen {
    pub method: String,
    pub path: String,
    /// Which host was asked for.
    pub authority: String,
    pub version: Version,
    pub headers: HeaderMap,
    pub body: Vec<u8>,
}

impl Seen {
    pub fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .map_or("", |value| value.to_str().unwrap())
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }
}

/// A service, as long as it lives.
pub struct Service {
    pub url: String,
    seen: Arc<Mutex<Vec<Seen>>>,
    task: JoinHandle<()>,
}

impl Service {
    /// Starts one that answers so.
    pub async fn start(answer: impl Fn(&Seen) -> Response<String> + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (answer, kept) = (Arc::new(answer), seen.clone());
        let task = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (answer, kept) = (answer.clone(), kept.clone());
                tokio::spawn(async move {
                    let serve =
                        service_fn(move |request| one(request, answer.clone(), kept.clone()));
                    let builder = Builder::new(TokioExecutor::new());
                    let _ = builder.serve_connection(TokioIo::new(stream), serve).await;
                });
            }
        });
        Self { url, seen, task }
    }

    /// What has come so far.
    pub fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn one(
    request: Request<Incoming>,
    answer: Arc<impl Fn(&Seen) -> Response<String>>,
    kept: Arc<Mutex<Vec<Seen>>>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let (head, body) = request.into_parts();
    let seen = Seen {
        method: head.method.to_string(),
        path: head.uri.path().to_owned(),
        authority: head
            .uri
            .authority()
            .map(ToString::to_string)
            .unwrap_or_default(),
        version: head.version,
        headers: head.headers,
        body: body.collect().await.unwrap().to_bytes().to_vec(),
    };
    kept.lock().unwrap().push(seen.clone());
    Ok(answer(&seen).map(|body| Full::new(body.into())))
}

/// An answer.
pub fn answer(status: u16, body: impl Into<String>) -> Response<String> {
    Response::builder()
        .status(status)
        .body(body.into())
        .unwrap()
}

/// Sends requests as the contract says.
pub struct Sender(reqwest::Client);

impl Sender {
    /// One that speaks HTTP/2 alone, or 1.1.
    pub fn new(http2: bool) -> Self {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let tls = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(rustls::RootCertStore::empty())
            .with_no_client_auth();
        let builder = reqwest::Client::builder()
            .tls_backend_preconfigured(tls)
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .timeout(ANSWER_TIME);
        let builder = if http2 {
            builder.http2_prior_knowledge()
        } else {
            builder
        };
        Self(builder.build().unwrap())
    }

    pub async fn send(&self, request: PushRequest) -> Result<PushAnswer, SendError> {
        let failed = |error: reqwest::Error| SendError::Failed(error.to_string());
        let sent = self
            .0
            .request(request.method, request.url)
            .headers(request.headers)
            .body(request.body);
        let answer = sent.send().await.map_err(failed)?;
        let (status, headers) = (answer.status(), answer.headers().clone());
        let mut body = answer.bytes().await.map_err(failed)?.to_vec();
        body.truncate(ANSWER_BODY);
        Ok(PushAnswer {
            status,
            headers,
            body,
        })
    }
}
