//! What goes: files whose time is over, and blobs that nothing refers to.

use ruma::OwnedServerName;

use super::blob::{Blob, blob_columns};
use crate::engine::sql::{Columns as _, rows};
use crate::{Result, Store};

/// A file that may go, and what that gives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MediaSize {
    /// Which server has given it its id.
    pub origin: OwnedServerName,
    /// Its id there.
    pub media_id: String,
    /// How many bytes.
    pub size: u64,
}

rows! {
    struct Name<'a> {
        origin: &'a str,
        media_id: &'a str,
    }
}

impl<'a> Name<'a> {
    fn all(names: &[(&'a str, &'a str)]) -> Vec<Self> {
        let names = names.iter();
        let name = |(origin, media_id): &(&'a str, &'a str)| Self { origin, media_id };
        names.map(name).collect()
    }
}

impl Store {
    /// Deletes ids for which no bytes came in time; gives their number.
    pub async fn expire_pending_media(&self) -> Result<u64> {
        let query = self
            .sql("DELETE FROM media WHERE pending <= $1")
            .bind(self.clock().now_ms());
        self.execute(query).await
    }

    /// How many bytes are kept of other servers' files.
    pub async fn remote_media_size(&self) -> Result<u64> {
        let query = self.sql(
            "SELECT CAST(COALESCE(SUM(size), 0) AS BIGINT) AS size FROM media WHERE remote = 1",
        );
        let row = self.row(query).await?;
        row.map_or(Ok(0), |row| row.get("size"))
    }

    /// Files of other servers, those first that nobody has asked for the longest, up to a time (ms).
    pub async fn stale_remote_media(&self, until: i64, limit: usize) -> Result<Vec<MediaSize>> {
        let query = self
            .sql(
                "SELECT origin, media_id, size FROM media WHERE remote = 1 AND accessed <= $1 \
                 AND protected = 0 AND quarantined = 0 ORDER BY accessed LIMIT $2",
            )
            .bind(until)
            .bind(limit);
        let rows = self.rows(query).await?;
        rows.iter()
            .map(|row| {
                Ok(MediaSize {
                    origin: row.get("origin")?,
                    media_id: row.get("media_id")?,
                    size: row.get("size")?,
                })
            })
            .collect()
    }

    /// Deletes files by their names; gives their number. Their bytes go later. Of what is quarantined the name stays, so
    /// that it isn't given or fetched again.
    pub async fn delete_media(&self, names: &[(&str, &str)]) -> Result<u64> {
        let names = Name::all(names);
        let mut tx = self.begin().await?;
        let emptied = tx
            .sql(
                "UPDATE media SET blob = NULL, size = 0 WHERE quarantined = 1 AND blob IS NOT NULL \
                 AND (origin, media_id) IN (SELECT x.origin, x.media_id FROM ROWS($1) AS x)",
            )
            .rows(&names);
        let emptied = tx.execute(emptied).await?;
        let deleted = tx
            .sql(
                "DELETE FROM media WHERE quarantined = 0 AND (origin, media_id) IN \
                 (SELECT x.origin, x.media_id FROM ROWS($1) AS x)",
            )
            .rows(&names);
        let deleted = tx.execute(deleted).await?;
        tx.commit().await?;
        Ok(emptied + deleted)
    }

    /// Blobs with thumbnails and no file, by key, after this one. (Looked for by reading, so that no writer waits.)
    pub async fn lone_sources(&self, after: &str, limit: usize) -> Result<Vec<String>> {
        let query = self
            .sql(
                "SELECT DISTINCT t.source FROM media_thumbnail t WHERE t.source > $1 AND NOT EXISTS \
                 (SELECT 1 FROM media m WHERE m.blob = t.source) ORDER BY t.source LIMIT $2",
            )
            .bind(after)
            .bind(limit);
        let rows = self.rows(query).await?;
        rows.iter().map(|row| row.get("source")).collect()
    }

    /// The thumbnails of these sources go, if no file has them; gives the keys of their blobs.
    pub async fn delete_lone_thumbnails(&self, sources: &[&str]) -> Result<Vec<String>> {
        let mut tx = self.begin().await?;
        let query = tx
            .sql(
                "DELETE FROM media_thumbnail WHERE source IN TEXTS($1) AND NOT EXISTS \
                 (SELECT 1 FROM media m WHERE m.blob = media_thumbnail.source) RETURNING blob",
            )
            .texts(sources.iter().copied());
        let rows = tx.rows(query).await?;
        tx.commit().await?;
        rows.iter().map(|row| row.get("blob")).collect()
    }

    /// Blobs that nothing refers to, and nothing has since `touched` (ms), by key, after this one. (Looked for by
    /// reading, so that no writer waits.)
    pub async fn unneeded_blobs(
        &self,
        touched: i64,
        after: &str,
        limit: usize,
    ) -> Result<Vec<String>> {
        let query = self
            .sql(
                "SELECT b.key FROM media_blob b WHERE b.key > $1 AND b.touched < $2 AND b.doomed = 0 \
                 AND NOT EXISTS (SELECT 1 FROM media m WHERE m.blob = b.key) \
                 AND NOT EXISTS (SELECT 1 FROM media_thumbnail t WHERE t.blob = b.key) \
                 AND NOT EXISTS (SELECT 1 FROM media_upload_part p WHERE p.blob = b.key) \
                 ORDER BY b.key LIMIT $3",
            )
            .bind(after)
            .bind(touched)
            .bind(limit);
        let rows = self.rows(query).await?;
        rows.iter().map(|row| row.get("key")).collect()
    }

    /// Dooms those of these blobs that nothing refers to, and nothing has since `touched` (ms): from now on nothing will.
    pub async fn doom_blobs(&self, touched: i64, keys: &[&str]) -> Result<u64> {
        // PostgreSQL looks at the outer conditions again when it has waited for a row.
        let query = self
            .sql(
                "UPDATE media_blob SET doomed = 1 WHERE key IN TEXTS($2) AND touched < $1 \
                 AND doomed = 0 \
                 AND NOT EXISTS (SELECT 1 FROM media m WHERE m.blob = media_blob.key) \
                 AND NOT EXISTS (SELECT 1 FROM media_thumbnail t WHERE t.blob = media_blob.key) \
                 AND NOT EXISTS (SELECT 1 FROM media_upload_part p WHERE p.blob = media_blob.key)",
            )
            .bind(touched)
            .texts(keys.iter().copied());
        self.execute(query).await
    }

    /// These blobs are taken for touched no later than then (ms): they may go sooner, if nothing refers to them.
    pub async fn hurry_blobs(&self, touched: i64, keys: &[&str]) -> Result<u64> {
        let query = self
            .sql("UPDATE media_blob SET touched = $1 WHERE key IN TEXTS($2) AND touched > $1")
            .bind(touched)
            .texts(keys.iter().copied());
        self.execute(query).await
    }

    /// The same of the blobs of these files, by server and id.
    pub async fn hurry_media(&self, touched: i64, names: &[(&str, &str)]) -> Result<u64> {
        let query = self
            .sql(
                "UPDATE media_blob SET touched = $2 WHERE touched > $2 AND key IN \
                 (SELECT m.blob FROM ROWS($1) AS x JOIN media m ON m.origin = x.origin \
                 AND m.media_id = x.media_id)",
            )
            .rows(&Name::all(names))
            .bind(touched);
        self.execute(query).await
    }

    /// Blobs that are doomed and not deleted yet.
    pub async fn doomed_blobs(&self, after: &str, limit: usize) -> Result<Vec<Blob>> {
        let query = self
            .sql(concat!(
                "SELECT ",
                blob_columns!(),
                " FROM media_blob b WHERE b.doomed = 1 AND b.key > $1 ORDER BY b.key LIMIT $2"
            ))
            .bind(after)
            .bind(limit);
        self.rows(query).await?.iter().map(Blob::read).collect()
    }

    /// The bytes of these doomed blobs are gone.
    pub async fn forget_blobs(&self, keys: &[&str]) -> Result<u64> {
        let query = self
            .sql("DELETE FROM media_blob WHERE doomed = 1 AND key IN TEXTS($1)")
            .texts(keys.iter().copied());
        self.execute(query).await
    }

    /// Those of these blobs that there are, wherever they lie.
    pub async fn known_blobs(&self, keys: &[&str]) -> Result<Vec<Blob>> {
        let query = self
            .sql(concat!(
                "SELECT ",
                blob_columns!(),
                " FROM media_blob b WHERE b.key IN TEXTS($1)"
            ))
            .texts(keys.iter().copied());
        self.rows(query).await?.iter().map(Blob::read).collect()
    }
}
