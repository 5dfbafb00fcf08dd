//! The bytes of files: which there are, and where they lie.

use crate::engine::db::Tx;
use crate::engine::sql::{Columns as _, ReadRow};
use crate::{Result, Store};

/// The bytes of a file, as they are stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Blob {
    /// Its name in the store.
    pub key: String,
    /// The hash of the plain bytes, hexadecimal.
    pub sha256: String,
    /// How many plain bytes.
    pub size: u64,
    /// In which store.
    pub store: String,
    /// How it is encrypted, if it is.
    pub seal: Option<Seal>,
}

/// By what a blob is encrypted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seal {
    /// The id of the key.
    pub key_id: String,
    /// The salt, hexadecimal.
    pub salt: String,
}

/// What something new refers to.
#[derive(Debug, Clone, Copy)]
pub enum Keep<'a> {
    /// A blob that is there, by its key.
    Known(&'a str),
    /// Bytes that were just stored, and have no row yet.
    New(&'a Blob),
    /// The same, where those of the blob with this key are gone: whatever refers to that refers to these from then on.
    Instead(&'a str, &'a Blob),
}

/// A blob's columns where its table is called `b`.
macro_rules! blob_columns {
    () => {
        "b.key, b.sha256, b.size AS blob_size, b.store, b.seal_key, b.salt"
    };
}
pub(super) use blob_columns;

impl Blob {
    pub(super) fn read(row: &ReadRow) -> Result<Self> {
        let seal = match (row.get("seal_key")?, row.get("salt")?) {
            (Some(key_id), Some(salt)) => Some(Seal { key_id, salt }),
            _ => None,
        };
        Ok(Self {
            key: row.get("key")?,
            sha256: row.get("sha256")?,
            size: row.get("blob_size")?,
            store: row.get("store")?,
            seal,
        })
    }
}

impl Store {
    /// The blob with this content, if it is there to be referred to.
    pub async fn blob_of(&self, sha256: &str) -> Result<Option<Blob>> {
        let query = self
            .sql(concat!(
                "SELECT ",
                blob_columns!(),
                " FROM media_blob b WHERE b.sha256 = $1 AND b.doomed = 0"
            ))
            .bind(sha256);
        self.row(query).await?.as_ref().map(Blob::read).transpose()
    }

    /// The blob with this key, where it lies now.
    pub async fn blob(&self, key: &str) -> Result<Option<Blob>> {
        let query = self
            .sql(concat!(
                "SELECT ",
                blob_columns!(),
                " FROM media_blob b WHERE b.key = $1"
            ))
            .bind(key);
        self.row(query).await?.as_ref().map(Blob::read).transpose()
    }

    /// Blobs in a store, by key, after this one.
    pub async fn blobs_in(&self, store: &str, after: &str, limit: usize) -> Result<Vec<Blob>> {
        let query = self
            .sql(concat!(
                "SELECT ",
                blob_columns!(),
                " FROM media_blob b WHERE b.store = $1 AND b.key > $2 AND b.doomed = 0 \
                 ORDER BY b.key LIMIT $3"
            ))
            .bind(store)
            .bind(after)
            .bind(limit);
        self.rows(query).await?.iter().map(Blob::read).collect()
    }

    /// A blob's bytes lie in another store from now on. `false` if it isn't where it is thought to be.
    pub async fn move_blob(&self, key: &str, from: &str, to: &str) -> Result<bool> {
        let query = self
            .sql("UPDATE media_blob SET store = $3 WHERE key = $1 AND store = $2")
            .bind(key)
            .bind(from)
            .bind(to);
        Ok(self.execute(query).await? > 0)
    }
}

/// Sees to it that a blob is there for what is about to refer to it in this transaction, and isn't doomed before that
/// commits. Gives its key, which is another's if the same content has come meanwhile; `None` if it is being deleted.
pub(super) async fn keep(tx: &mut Tx, keep: Keep<'_>, now: i64) -> Result<Option<String>> {
    if let Keep::Instead(lost, blob) = keep {
        replace(tx, lost, blob).await?;
    }
    let query = match keep {
        Keep::Known(key) => tx
            .sql(
                "UPDATE media_blob SET touched = $2 WHERE key = $1 AND doomed = 0 \
                 RETURNING key",
            )
            .bind(key)
            .bind(now),
        Keep::New(blob) | Keep::Instead(_, blob) => tx
            .sql(
                "INSERT INTO media_blob \
                 (key, sha256, size, store, seal_key, salt, touched, doomed) \
                 VALUES ($1, $3, $4, $5, $6, $7, $2, 0) \
                 ON CONFLICT (sha256) WHERE doomed = 0 DO UPDATE SET touched = excluded.touched \
                 RETURNING key",
            )
            .bind(&blob.key)
            .bind(now)
            .bind(&blob.sha256)
            .bind(blob.size)
            .bind(&blob.store)
            .bind(blob.seal.as_ref().map(|seal| &seal.key_id))
            .bind(blob.seal.as_ref().map(|seal| &seal.salt)),
    };
    let row = tx.row(query).await?;
    row.map(|row| row.get("key")).transpose()
}

/// Whatever refers to a blob whose bytes are gone refers to these; none does if that is doomed or was replaced meanwhile. Keys
/// are never given twice, so nobody takes the old bytes, should they be there after all, for these.
async fn replace(tx: &mut Tx, lost: &str, blob: &Blob) -> Result<()> {
    let query = tx
        .sql(
            "UPDATE media_blob SET key = $2, store = $3, seal_key = $4, salt = $5 \
             WHERE key = $1 AND doomed = 0",
        )
        .bind(lost)
        .bind(&blob.key)
        .bind(&blob.store)
        .bind(blob.seal.as_ref().map(|seal| &seal.key_id))
        .bind(blob.seal.as_ref().map(|seal| &seal.salt));
    if tx.execute(query).await? == 0 {
        return Ok(());
    }
    for text in [
        "UPDATE media SET blob = $2 WHERE blob = $1",
        "UPDATE media_thumbnail SET blob = $2 WHERE blob = $1",
        "UPDATE media_thumbnail SET source = $2 WHERE source = $1",
        "UPDATE media_upload_part SET blob = $2 WHERE blob = $1",
    ] {
        let query = tx.sql(text).bind(lost).bind(&blob.key);
        tx.execute(query).await?;
    }
    Ok(())
}
