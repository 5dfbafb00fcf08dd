//! The bucket of `scripts/with-s3`, past the service.

use std::sync::Once;

use futures_util::TryStreamExt as _;
use object_store::aws::{AmazonS3, AmazonS3Builder};
use object_store::path::Path as Location;
use object_store::{ObjectStore as _, ObjectStoreExt as _};
use rhizome_media::S3Config;

pub use rhizome_media::testing::{bucket as config, prefix};

/// A file in a store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lies {
    pub key: String,
    pub size: u64,
}

pub fn client(config: &S3Config) -> AmazonS3 {
    provide();
    let client = AmazonS3Builder::new()
        .with_endpoint(&config.endpoint)
        .with_allow_http(true)
        .with_bucket_name(&config.bucket)
        .with_region(&config.region)
        .with_access_key_id(&config.access_key)
        .with_secret_access_key(&config.secret_key)
        .with_disable_bulk_delete(true);
    client.build().unwrap()
}

/// What encrypts the connections of clients that bring nothing of their own.
pub fn provide() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let _ = rustls::crypto::ring::default_provider().install_default();
    });
}

pub fn location(config: &S3Config, key: &str) -> Location {
    Location::parse(format!("{}/{key}", config.prefix)).unwrap()
}

pub async fn list(config: &S3Config) -> Vec<Lies> {
    let all = client(config);
    let all = all.list(Some(&Location::parse(&config.prefix).unwrap()));
    let all = all.map_ok(|one| Lies {
        key: one.location.filename().unwrap().to_owned(),
        size: one.size,
    });
    all.try_collect().await.unwrap()
}

pub async fn get(config: &S3Config, key: &str) -> Vec<u8> {
    let got = client(config).get(&location(config, key)).await.unwrap();
    got.bytes().await.unwrap().to_vec()
}

pub async fn lay(config: &S3Config, key: &str, bytes: Option<&[u8]>) {
    let (client, location) = (client(config), location(config, key));
    match bytes {
        Some(bytes) => client
            .put(&location, bytes.to_vec().into())
            .await
            .map(|_| ()),
        None => client.delete(&location).await,
    }
    .unwrap();
}
