//! For tests: where `scripts/with-s3` has put a bucket.

#![allow(
    clippy::expect_used,
    clippy::panic,
    reason = "a test can do nothing about it"
)]

use std::path::Path;

use rhizome_storage::random;

use crate::{S3Config, http};

/// A part of it with this prefix; files are in the folder on their way.
///
/// # Panics
/// No script has put one anywhere.
pub fn bucket(spool: &Path, prefix: &str) -> S3Config {
    let said = std::env::var("RHIZOME_TEST_S3");
    let Some([access_key, secret_key, host, bucket]) = said.as_deref().ok().and_then(parts) else {
        panic!("This test needs an S3 server. Run: scripts/with-s3 cargo test …");
    };
    S3Config {
        endpoint: format!("http://{host}"),
        public_endpoint: Some(format!("http://{host}")),
        region: "us-east-1".to_owned(),
        bucket: bucket.to_owned(),
        prefix: prefix.to_owned(),
        access_key: access_key.to_owned(),
        secret_key: secret_key.to_owned(),
        path_style: true,
        spool: spool.to_owned(),
        patience: S3Config::PATIENCE,
        part_size: S3Config::PART_SIZE,
    }
}

/// A prefix that nobody else has.
///
/// # Panics
/// The system has no randomness.
pub fn prefix() -> String {
    random::hex::<8>().expect("the system has randomness")
}

/// What asks a store for files as anybody may.
///
/// # Panics
/// There is no encryption.
pub fn client() -> reqwest::Client {
    let client = http::client().expect("certificates can be checked");
    client.build().expect("there is a client")
}

/// `http://KEY:SECRET@HOST/BUCKET`
fn parts(url: &str) -> Option<[&str; 4]> {
    let (keys, place) = url.strip_prefix("http://")?.split_once('@')?;
    let (access_key, secret_key) = keys.split_once(':')?;
    let (host, bucket) = place.split_once('/')?;
    Some([access_key, secret_key, host, bucket])
}
