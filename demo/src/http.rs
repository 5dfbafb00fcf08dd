//! Requests to homeservers, and what they answer.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use reqwest::{Method, StatusCode};
use serde_json::Value;

/// An answer that was not 2xx.
#[derive(Debug, thiserror::Error)]
#[error("{method} {path}: {status} {errcode}: {error}")]
pub struct Refused {
    /// What was asked.
    pub method: String,
    /// Where, without the query.
    pub path: String,
    /// The HTTP status.
    pub status: StatusCode,
    /// `M_…`.
    pub errcode: String,
    /// The sentence.
    pub error: String,
    /// The whole body.
    pub body: Value,
}

/// An HTTP client for loopback servers: rustls with ring, no proxy.
pub fn http_client() -> anyhow::Result<reqwest::Client> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_no_client_auth();
    let client = reqwest::Client::builder()
        .tls_backend_preconfigured(tls)
        .no_proxy()
        .timeout(Duration::from_mins(1))
        .build()?;
    Ok(client)
}

/// One request; the JSON of a 2xx answer, or [`Refused`] inside the error.
pub async fn call(
    http: &reqwest::Client,
    method: Method,
    url: &str,
    token: Option<&str>,
    body: Option<&Value>,
) -> anyhow::Result<Value> {
    let mut request = http.request(method.clone(), url);
    if let Some(token) = token {
        request = request.bearer_auth(token);
    }
    if let Some(body) = body {
        request = request
            .header("content-type", "application/json")
            .body(body.to_string());
    }
    answer(method, url, request).await
}

/// The JSON of a 2xx answer to this request, or [`Refused`] inside the error.
pub async fn answer(
    method: Method,
    url: &str,
    request: reqwest::RequestBuilder,
) -> anyhow::Result<Value> {
    let (path, bytes) = bytes(method.clone(), url, request).await?;
    parsed(&method, &path, StatusCode::OK, &bytes)
}

/// The path, and the bytes of a 2xx answer to this request, or [`Refused`] inside the error.
pub async fn bytes(
    method: Method,
    url: &str,
    request: reqwest::RequestBuilder,
) -> anyhow::Result<(String, Vec<u8>)> {
    let path = url.split('?').next().unwrap_or_default().to_owned();
    let response = request
        .send()
        .await
        .with_context(|| format!("{method} {path}"))?;
    let status = response.status();
    let bytes = response.bytes().await?;
    if status.is_success() {
        return Ok((path, bytes.into()));
    }
    let json = parsed(&method, &path, status, &bytes)?;
    let text = |key: &str| json[key].as_str().unwrap_or_default().to_owned();
    let (errcode, error) = (text("errcode"), text("error"));
    Err(Refused {
        method: method.to_string(),
        path,
        status,
        errcode,
        error,
        body: json,
    }
    .into())
}

fn parsed(method: &Method, path: &str, status: StatusCode, bytes: &[u8]) -> anyhow::Result<Value> {
    serde_json::from_slice(bytes).with_context(|| {
        let text = String::from_utf8_lossy(bytes);
        format!("{method} {path}: {status}, not JSON: {text}")
    })
}

/// A text field of an answer.
pub fn text(answer: &Value, key: &str) -> anyhow::Result<String> {
    answer[key]
        .as_str()
        .map(str::to_owned)
        .with_context(|| format!("the answer has no `{key}`: {answer}"))
}

/// Percent-encodes one path segment or query value.
pub fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 8);
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                out.push(char::from(byte));
            }
            _ => {
                let digit = |value: u8| char::from(b"0123456789ABCDEF"[usize::from(value & 15)]);
                out.extend(['%', digit(byte >> 4), digit(byte)]);
            }
        }
    }
    out
}
