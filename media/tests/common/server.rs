//! Where `scripts/with-s3` has put a bucket.

use std::path::Path;

use rhizome_media::S3Config;

/// A part of it with this prefix; files are in the folder on their way.
pub fn config(spool: &Path, prefix: &str) -> S3Config {
    let Ok(url) = std::env::var("RHIZOME_TEST_S3") else {
        panic!("This test needs an S3 server. Run: scripts/with-s3 cargo test …");
    };
    let rest = url.strip_prefix("http://").unwrap();
    let (keys, rest) = rest.split_once('@').unwrap();
    let (access_key, secret_key) = keys.split_once(':').unwrap();
    let (host, bucket) = rest.split_once('/').unwrap();
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

/// One that nobody else has.
pub fn prefix() -> String {
    rhizome_storage::random::hex::<8>().unwrap()
}
