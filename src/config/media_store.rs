//! `[[media.stores]]`: further places for files.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::units::Secret;
use super::{Problems, secrets::read_secret};

/// A place for files.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct MediaStore {
    /// What it is called.
    pub name: String,
    /// What it is.
    pub kind: StoreKind,
    /// Of a disk: the folder. Of S3: a folder for files on their way; default: one in `data_dir`.
    pub path: Option<PathBuf>,
    /// Where S3 is, `https://host`.
    pub endpoint: String,
    /// Where those reach it who are sent there for files; nobody is without.
    pub public_endpoint: Option<String>,
    /// The region that requests are signed for; `us-east-1` if none is named, as stores have it that have no regions.
    pub region: Option<String>,
    /// The bucket.
    pub bucket: String,
    /// What keys in it begin with.
    pub prefix: String,
    /// Who we are there.
    pub access_key: Option<Secret>,
    /// A file that holds it.
    pub access_key_file: Option<PathBuf>,
    /// What requests are signed with.
    pub secret_key: Option<Secret>,
    /// A file that holds it.
    pub secret_key_file: Option<PathBuf>,
    /// Whether the bucket is in the path (or in the host's name); it is if nothing is said.
    pub path_style: Option<bool>,
}

/// What a place for files is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StoreKind {
    /// A folder of this machine.
    #[default]
    Disk,
    /// A bucket of a store that speaks S3.
    S3,
}

impl MediaStore {
    /// The folder: all of a disk, and where files are on their way to S3.
    pub fn folder(&self, data_dir: &Path) -> PathBuf {
        let path = self.path.clone();
        path.unwrap_or_else(|| data_dir.join("media-on-its-way").join(&self.name))
    }

    pub(super) fn read_secrets(&mut self, at: &str, problems: &mut Problems) {
        let keys = [
            ("access_key", &mut self.access_key, &self.access_key_file),
            ("secret_key", &mut self.secret_key, &self.secret_key_file),
        ];
        for (key, value, file) in keys {
            read_secret(&format!("{at}.{key}"), value, file.as_deref(), problems);
        }
    }

    pub(super) fn check(&self, at: &str, problems: &mut Problems) {
        let mut found = Found { at, problems };
        let path = self.path.as_ref();
        if path.is_some_and(|path| path.exists() && !path.is_dir()) {
            let what = "this is a file, not a directory".to_owned();
            found.add("path", what, "name a directory; it is made when missing");
        }
        match self.kind {
            StoreKind::Disk if path.is_some() => {}
            StoreKind::Disk => found.add(
                "",
                format!("the store `{}` has no folder", self.name),
                "name one: path = \"/mnt/large/media\"; for another kind, write kind = \"s3\"",
            ),
            StoreKind::S3 => {
                self.check_place(&mut found);
                self.check_keys(&mut found);
            }
        }
    }

    /// Where a bucket is.
    fn check_place(&self, found: &mut Found<'_>) {
        let endpoints = [
            ("endpoint", Some(&self.endpoint)),
            ("public_endpoint", self.public_endpoint.as_ref()),
        ];
        for (key, endpoint) in endpoints {
            if let Some(endpoint) = endpoint.filter(|endpoint| !is_base(endpoint)) {
                found.add(
                    key,
                    format!("`{endpoint}` is no address of a store"),
                    "write scheme and host, without a path, such as \"https://s3.example.org\"",
                );
            }
        }
        if self.bucket.is_empty() || self.bucket.contains('/') || !is_plain(&self.bucket) {
            let what = format!("`{}` is no bucket", self.bucket);
            found.add("bucket", what, "name the bucket; it is not made");
        }
        let mut parts = self.prefix.split('/');
        let is_prefix = is_plain(&self.prefix)
            && !self.prefix.contains("//")
            && !parts.any(|part| part == "." || part == "..");
        if !is_prefix {
            found.add(
                "prefix",
                format!("keys can't begin with `{}`", self.prefix),
                "write letters, digits, -, _, . and single slashes, such as \"matrix/media\"",
            );
        }
    }

    fn check_keys(&self, found: &mut Found<'_>) {
        let keys = [
            ("access_key", &self.access_key, &self.access_key_file),
            ("secret_key", &self.secret_key, &self.secret_key_file),
        ];
        for (key, value, file) in keys {
            let is_empty = value.as_ref().is_none_or(|value| value.expose().is_empty());
            if is_empty && file.is_none() {
                found.add(
                    "",
                    format!("the store `{}` has no {key}", self.name),
                    &format!("write {key}, or name a file that holds it with {key}_file"),
                );
            }
        }
    }
}

/// What is wrong with a store.
struct Found<'a> {
    at: &'a str,
    problems: &'a mut Problems,
}

impl Found<'_> {
    /// With a key of it; with none, if one is missing.
    fn add(&mut self, key: &str, what: String, remedy: &str) {
        let path = match key {
            "" => self.at.to_owned(),
            key => format!("{}.{key}", self.at),
        };
        self.problems.add(path, what, remedy);
    }
}

fn is_plain(text: &str) -> bool {
    text.bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || b"-._/".contains(&byte))
}

/// Whether this is a scheme and a host, and no more.
fn is_base(endpoint: &str) -> bool {
    let host = endpoint.strip_prefix("https://");
    let host = host.or_else(|| endpoint.strip_prefix("http://"));
    let host = host.map(|host| host.strip_suffix('/').unwrap_or(host));
    host.is_some_and(|host| {
        !host.is_empty()
            && host
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"-._:[]".contains(&byte))
    })
}
