//! Files are sent as streams: what asks for other things holds what it sends in memory.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::{Bytes, BytesMut};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use http::{HeaderMap, Method};
use object_store::aws::{AwsAuthorizer, AwsCredential};
use object_store::client::HttpRequestBody;
use object_store::multipart::{MultipartStore as _, PartId};
use object_store::path::Path as Location;
use reqwest::Response;
use tokio::sync::Notify;
use tokio::time::timeout;

use super::{CONNECT, RETRIES, S3, SAID, away, base, failed};
use crate::blobs::read_file;
use crate::blobs::spool::{Hashes, hashes_of};
use crate::config::S3Config;
use crate::http::client;

/// Before something is tried for the second time; twice as long each time after.
const PAUSE: Duration = Duration::from_millis(200);
/// As much is given to the connection at once: it takes several before it waits for the network.
const SENT: usize = 8 << 10;

/// Sends files.
#[derive(Debug)]
pub(super) struct Sender {
    base: String,
    region: String,
    credential: AwsCredential,
    /// For what is asked shortly.
    asking: reqwest::Client,
    /// This one has no limit upon how long an answer takes: it comes after all was sent.
    sending: reqwest::Client,
    patience: Duration,
}

/// Why something wasn't taken.
struct Refused {
    error: io::Error,
    /// Whether it may be taken the next time.
    again: bool,
}

impl Refused {
    fn for_now(why: impl std::fmt::Display) -> Self {
        let (error, again) = (away(why), true);
        Self { error, again }
    }
}

impl From<io::Error> for Refused {
    fn from(error: io::Error) -> Self {
        let again = false;
        Self { error, again }
    }
}

impl Sender {
    pub(super) fn new(config: &S3Config, asking: reqwest::Client) -> io::Result<Self> {
        let sending = client()?.connect_timeout(CONNECT);
        Ok(Self {
            base: base(&config.endpoint, config),
            region: config.region.clone(),
            credential: AwsCredential {
                key_id: config.access_key.clone(),
                secret_key: config.secret_key.clone(),
                token: None,
            },
            asking,
            sending: sending.build().map_err(io::Error::other)?,
            patience: config.patience,
        })
    }

    /// Sends a part of a file; gives the store's name for what it has (`ETag`).
    pub(super) async fn send(
        &self,
        to: &str,
        file: Arc<File>,
        part: Range<u64>,
    ) -> io::Result<Option<String>> {
        // The store compares: all know the one, many the other.
        let hashes = hashes_of(file.clone(), part.clone()).await?;
        let (mut pause, mut tried) = (PAUSE, 0);
        loop {
            match self.send_once(to, &file, &part, &hashes).await {
                Ok(name) => return Ok(name),
                Err(refused) if !refused.again || tried == RETRIES => return Err(refused.error),
                Err(refused) => {
                    tracing::debug!(error = %refused.error, "a file is sent to its store again");
                }
            }
            tokio::time::sleep(pause).await;
            pause *= 2;
            tried += 1;
        }
    }

    async fn send_once(
        &self,
        to: &str,
        file: &Arc<File>,
        part: &Range<u64>,
        hashes: &Hashes,
    ) -> Result<Option<String>, Refused> {
        let address = format!("{}/{to}", self.base);
        let headers = self.signed(&Method::PUT, &address, Some(hashes))?;
        let moving = Arc::new(Notify::new());
        let body = {
            let moving = moving.clone();
            let pieces = read_file(file.clone(), part.clone())
                .map_ok(small)
                .try_flatten();
            pieces.inspect(move |_| moving.notify_one())
        };
        let request = self.sending.put(address).headers(headers);
        let request = request.header("content-length", part.end - part.start);
        let request = request.body(reqwest::Body::wrap_stream(body));
        let mut sending = pin!(request.send());
        let answer = loop {
            tokio::select! {
                answer = &mut sending => break answer,
                waited = timeout(self.patience, moving.notified()) => if waited.is_err() {
                    return Err(Refused::for_now("the store takes no more, and says nothing"));
                }
            }
        };
        let answer = answer.map_err(|error| Refused::for_now(why(error)))?;
        let answer = self.taken(answer).await?;
        let name = answer.headers().get("etag");
        Ok(name.and_then(|name| Some(name.to_str().ok()?.to_owned())))
    }

    /// An answer that says yes.
    async fn taken(&self, mut answer: Response) -> Result<Response, Refused> {
        let status = answer.status();
        if status.is_success() {
            return Ok(answer);
        }
        let said = timeout(self.patience, beginning(&mut answer, SAID)).await;
        let said = String::from_utf8_lossy(&said.unwrap_or_default()).into_owned();
        let code = said
            .split_once("<Code>")
            .and_then(|(_, rest)| rest.split_once('<'));
        let code = code.map_or("", |(code, _)| code);
        let why = format!("the store answers {} {code}", status.as_u16());
        // What arrived isn't what was sent.
        let damaged = ["BadDigest", "XAmzContentSHA256Mismatch"].contains(&code);
        if matches!(status.as_u16(), 405 | 501) {
            return Err(io::Error::new(io::ErrorKind::Unsupported, why).into());
        }
        if status.is_server_error() || damaged || matches!(status.as_u16(), 408 | 429) {
            return Err(Refused::for_now(why));
        }
        Err(io::Error::other(why).into())
    }

    /// Asks something short, and gives at most so many bytes of the answer.
    pub(super) async fn ask(&self, query: &str, most: usize) -> io::Result<Bytes> {
        let address = format!("{}/{query}", self.base);
        let headers = self.signed(&Method::GET, &address, None)?;
        let asked = self.asking.get(address).headers(headers).send().await;
        let asked = asked.map_err(|error| away(why(error)))?;
        let mut answer = self.taken(asked).await.map_err(|refused| refused.error)?;
        Ok(beginning(&mut answer, most).await)
    }

    /// What says of a request that it is ours. `hashes`: of its body, if it has one.
    fn signed(
        &self,
        method: &Method,
        address: &str,
        hashes: Option<&Hashes>,
    ) -> io::Result<HeaderMap> {
        let mut request = http::Request::builder().method(method).uri(address);
        if let Some(hashes) = hashes {
            request = request.header("content-md5", STANDARD.encode(hashes.md5));
        }
        let mut request = request
            .body(HttpRequestBody::empty())
            .map_err(io::Error::other)?;
        let authorizer = AwsAuthorizer::new(&self.credential, "s3", &self.region);
        let signed =
            authorizer.try_authorize(&mut request, hashes.map(|hashes| hashes.sha256.as_ref()));
        signed.map_err(failed)?;
        Ok(std::mem::take(request.headers_mut()))
    }
}

impl S3 {
    /// Sends a large file in parts; they are one when this returns.
    pub(super) async fn send_parts(
        &self,
        location: &Location,
        file: Arc<File>,
        length: u64,
    ) -> io::Result<()> {
        let id = self
            .store
            .create_multipart(location)
            .await
            .map_err(failed)?;
        let sent = async {
            let mut parts = Vec::new();
            let mut from = 0;
            while from < length {
                let part = from..length.min(from + self.part_size);
                from = part.end;
                let to = format!("{location}?partNumber={}&uploadId={id}", parts.len() + 1);
                let name = self.sender.send(&to, file.clone(), part).await?;
                let content_id = name.ok_or_else(|| away("the store has no name for a part"))?;
                parts.push(PartId { content_id });
            }
            let completed = self.store.complete_multipart(location, &id, parts);
            completed.await.map_err(failed)
        };
        match sent.await {
            Ok(_) => Ok(()),
            Err(error) => {
                // If this fails, too, a sweep finds it.
                let _ = self.store.abort_multipart(location, &id).await;
                Err(error)
            }
        }
    }
}

/// Why a request failed, without the address that it was sent to.
fn why(error: reqwest::Error) -> String {
    let error = error.without_url();
    let mut said = error.to_string();
    let mut cause = std::error::Error::source(&error);
    while let Some(error) = cause {
        said = format!("{said}: {error}");
        cause = error.source();
    }
    said
}

/// A piece in pieces.
fn small(piece: Bytes) -> impl futures_util::Stream<Item = io::Result<Bytes>> {
    let all = (0..piece.len()).step_by(SENT);
    stream::iter(all.map(move |at| Ok(piece.slice(at..piece.len().min(at + SENT)))))
}

/// The first bytes of an answer; fewer if it breaks off.
async fn beginning(answer: &mut Response, most: usize) -> Bytes {
    let mut all = BytesMut::new();
    while all.len() < most
        && let Ok(Some(piece)) = answer.chunk().await
    {
        all.extend_from_slice(&piece);
    }
    all.truncate(most);
    all.freeze()
}
