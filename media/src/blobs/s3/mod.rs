//! Blobs in a bucket of a store that speaks S3: `<prefix>/<key>`.
//!
//! What comes lies in a folder of this machine until it is whole, as it does for other stores; then it is sent, signed with
//! the hash of its bytes, so that the store takes all of it or nothing. What is large goes in parts.

mod send;
mod unfinished;

use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::stream::{self, BoxStream};
use futures_util::{FutureExt as _, StreamExt as _, TryStreamExt as _};
use http::Method;
use object_store::aws::{AmazonS3, AmazonS3Builder};
use object_store::client::{HttpClient, HttpConnector};
use object_store::list::{PaginatedListOptions, PaginatedListStore as _};
use object_store::path::Path as Location;
use object_store::signer::{SignedUrlOptions, Signer as _};
use object_store::{
    BackoffConfig, ClientOptions, Error, GetOptions, GetRange, ObjectStore as _,
    ObjectStoreExt as _, RetryConfig,
};

use super::disk::{made, tidied};
use super::{Blobs, Listed, PIECE, Pieces, Spooled, Told};
use crate::config::S3Config;
use crate::http::client;
use send::Sender;

/// How long a connection may take to come about.
const CONNECT: Duration = Duration::from_secs(10);
/// How often what failed is tried again.
const RETRIES: usize = 3;
/// So much of what a store says of an error is told.
const SAID: usize = 400;

/// Blobs in a bucket.
#[derive(Debug)]
pub(crate) struct S3 {
    store: AmazonS3,
    /// The same, as others reach it.
    public: Option<AmazonS3>,
    sender: Sender,
    prefix: String,
    spool: PathBuf,
    part_size: u64,
}

/// Our client, whatever the options are.
#[derive(Debug)]
struct Ours(reqwest::Client);

impl HttpConnector for Ours {
    fn connect(&self, _: &ClientOptions) -> object_store::Result<HttpClient> {
        Ok(HttpClient::new(self.0.clone()))
    }
}

impl S3 {
    /// Nothing is asked of the store yet.
    pub(crate) fn open(config: &S3Config) -> io::Result<Self> {
        made(&config.spool)?;
        let asking = client()?.connect_timeout(CONNECT);
        // Between one piece of an answer and the next.
        let asking = asking.read_timeout(config.patience);
        let asking = asking.build().map_err(io::Error::other)?;
        let public = config.public_endpoint.as_ref();
        let public = public.map(|endpoint| at(endpoint, config, asking.clone()));
        let mut prefix = config.prefix.trim_matches('/').to_owned();
        if !prefix.is_empty() {
            prefix.push('/');
        }
        Ok(Self {
            store: at(&config.endpoint, config, asking.clone())?,
            public: public.transpose()?,
            sender: Sender::new(config, asking)?,
            prefix,
            spool: config.spool.clone(),
            part_size: config.part_size,
        })
    }

    fn location(&self, key: &str) -> io::Result<Location> {
        let location = Location::parse(format!("{}{key}", self.prefix));
        location.map_err(|_| io::ErrorKind::NotFound.into())
    }

    async fn send(&self, location: &Location, file: &Spooled) -> io::Result<()> {
        let (file, length) = file.raw().await?;
        if length <= self.part_size {
            self.sender.send(location.as_ref(), file, 0..length).await?;
        } else {
            self.send_parts(location, file, length).await?;
        }
        let options = GetOptions::new().with_head(true);
        let there = self.store.get_opts(location, options).await;
        let there = there.map_err(failed)?.meta.size;
        if there != length {
            return Err(io::Error::other(format!(
                "the store was sent {length} bytes and has {there}"
            )));
        }
        Ok(())
    }
}

/// A bucket at one of its addresses.
fn at(endpoint: &str, config: &S3Config, client: reqwest::Client) -> io::Result<AmazonS3> {
    let endpoint = if config.path_style {
        endpoint.trim_end_matches('/').to_owned()
    } else {
        base(endpoint, config)
    };
    let retry = RetryConfig {
        backoff: BackoffConfig {
            init_backoff: Duration::from_millis(100),
            max_backoff: Duration::from_secs(5),
            base: 2.0,
        },
        max_retries: RETRIES,
        retry_timeout: config.patience,
    };
    let store = AmazonS3Builder::new()
        .with_endpoint(&endpoint)
        .with_allow_http(endpoint.starts_with("http://"))
        .with_virtual_hosted_style_request(!config.path_style)
        .with_bucket_name(&config.bucket)
        .with_region(&config.region)
        .with_access_key_id(&config.access_key)
        .with_secret_access_key(&config.secret_key)
        // Few but Amazon know it, and fewer take it as it is sent.
        .with_disable_bulk_delete(true)
        .with_retry(retry)
        .with_http_connector(Ours(client))
        .build();
    store.map_err(failed)
}

/// The address that keys follow.
fn base(endpoint: &str, config: &S3Config) -> String {
    let (endpoint, bucket) = (endpoint.trim_end_matches('/'), &config.bucket);
    match endpoint.split_once("://") {
        Some((scheme, host)) if !config.path_style => format!("{scheme}://{bucket}.{host}"),
        _ => format!("{endpoint}/{bucket}"),
    }
}

/// The store doesn't answer as it should. It may later.
fn away(why: impl std::fmt::Display) -> io::Error {
    io::Error::new(io::ErrorKind::HostUnreachable, why.to_string())
}

/// What of an error can be told: no address that is signed is in any, but all that a store says may be.
#[expect(
    clippy::needless_pass_by_value,
    reason = "it stands for what it is given"
)]
fn failed(error: Error) -> io::Error {
    let mut said = error.to_string().replace('\n', " ");
    said.truncate(said.floor_char_boundary(SAID));
    match error {
        Error::NotFound { .. } => io::Error::new(io::ErrorKind::NotFound, said),
        Error::Generic { .. } => away(said),
        _ => io::Error::other(said),
    }
}

impl Blobs for S3 {
    fn spool(&self) -> &Path {
        &self.spool
    }

    fn put<'a>(&'a self, key: &'a str, file: Spooled) -> BoxFuture<'a, io::Result<()>> {
        async move {
            let sent = self.send(&self.location(key)?, &file).await;
            // It is the file that is found or not; here there is none whose absence could be told.
            sent.map_err(|error| match error.kind() {
                io::ErrorKind::NotFound => io::Error::other(error),
                _ => error,
            })
        }
        .boxed()
    }

    fn read<'a>(&'a self, key: &'a str, range: Range<u64>) -> BoxFuture<'a, io::Result<Pieces>> {
        async move {
            if range.is_empty() {
                return Ok(stream::empty().boxed());
            }
            let left = range.end - range.start;
            let options = GetOptions::new().with_range(Some(GetRange::Bounded(range)));
            let got = self.store.get_opts(&self.location(key)?, options).await;
            let pieces = got.map_err(failed)?.into_stream().map_err(failed);
            Ok(whole(pieces.boxed(), left))
        }
        .boxed()
    }

    fn delete<'a>(&'a self, key: &'a str) -> BoxFuture<'a, io::Result<()>> {
        async move {
            match self.store.delete(&self.location(key)?).await {
                Ok(()) | Err(Error::NotFound { .. }) => Ok(()),
                Err(error) => Err(failed(error)),
            }
        }
        .boxed()
    }

    fn list(&self) -> BoxStream<'_, io::Result<Vec<Listed>>> {
        let pages = stream::try_unfold(Some(None), async |next: Option<Option<String>>| {
            let Some(page_token) = next else {
                return Ok(None);
            };
            let options = PaginatedListOptions {
                page_token,
                ..PaginatedListOptions::default()
            };
            let prefix = Some(self.prefix.as_str()).filter(|prefix| !prefix.is_empty());
            let page = self.store.list_paginated(prefix, options).await;
            let page = page.map_err(failed)?;
            let listed = page.result.objects.into_iter().filter_map(|one| {
                let key = one.location.as_ref().strip_prefix(&self.prefix)?;
                Some(Listed {
                    key: key.to_owned(),
                    since: one.last_modified.timestamp_millis(),
                })
            });
            let next = page.page_token.map(Some);
            Ok(Some((listed.collect(), next)))
        });
        pages.boxed()
    }

    fn tidy(&self, before: i64) -> BoxFuture<'_, io::Result<u64>> {
        async move {
            let here = tidied(self.spool.clone(), before).await?;
            match self.abort_unfinished(before).await {
                // It has to see to that itself; few don't know it.
                Err(error) if error.kind() == io::ErrorKind::Unsupported => Ok(here),
                there => Ok(here + there?),
            }
        }
        .boxed()
    }

    fn address<'a>(
        &'a self,
        key: &'a str,
        valid_for: Duration,
        told: Told<'a>,
    ) -> BoxFuture<'a, io::Result<Option<String>>> {
        async move {
            let Some(store) = &self.public else {
                return Ok(None);
            };
            let options = SignedUrlOptions::new().with_query([
                ("response-content-type", told.content_type),
                ("response-content-disposition", told.disposition),
            ]);
            let location = self.location(key)?;
            let signed = store.signed_url_opts(Method::GET, &location, valid_for, &options);
            Ok(Some(signed.await.map_err(failed)?.into()))
        }
        .boxed()
    }
}

/// Pieces of which so many bytes are to come, no larger than others are.
fn whole(pieces: BoxStream<'static, io::Result<Bytes>>, left: u64) -> Pieces {
    let begin = (pieces, Bytes::new(), left);
    let whole = stream::try_unfold(begin, async |(mut pieces, mut held, left)| {
        while held.is_empty() {
            match pieces.try_next().await? {
                Some(piece) => held = piece,
                None if left == 0 => return Ok(None),
                None => return Err(away("the store gives less than it has")),
            }
        }
        let piece = held.split_to(held.len().min(PIECE));
        let left = left.checked_sub(piece.len() as u64);
        let left = left.ok_or_else(|| away("the store gives more than it has"))?;
        Ok(Some((piece, (pieces, held, left))))
    });
    whole.boxed()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(path_style: bool) -> S3Config {
        S3Config {
            endpoint: "https://s3.example/".to_owned(),
            public_endpoint: None,
            region: "there".to_owned(),
            bucket: "files".to_owned(),
            prefix: String::new(),
            access_key: "us".to_owned(),
            secret_key: "hush".to_owned(),
            path_style,
            spool: PathBuf::new(),
            patience: S3Config::PATIENCE,
            part_size: S3Config::PART_SIZE,
        }
    }

    #[test]
    fn buckets_are_in_the_path_or_in_the_name() {
        let base = |path_style| base("https://s3.example/", &config(path_style));
        assert_eq!(base(true), "https://s3.example/files");
        assert_eq!(base(false), "https://files.s3.example");
        assert!(!format!("{:?}", config(true)).contains("hush"));
    }
}
