//! Pictures in other sizes.

use super::blob::{Blob, Keep, blob_columns, keep};
use crate::engine::sql::Columns as _;
use crate::{Result, Store};

/// Which picture of another.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ThumbnailKind {
    /// The width that was asked for.
    pub width: u32,
    /// The height that was asked for.
    pub height: u32,
    /// `crop` or `scale`.
    pub method: &'static str,
    /// Whether it moves.
    pub animated: bool,
    /// As what it was asked for.
    pub format: &'static str,
}

/// A picture that was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredThumbnail {
    /// Its bytes.
    pub blob: Blob,
    /// What it is.
    pub content_type: String,
}

impl Store {
    /// A picture that was made of a blob. One that is its own picture is so in every larger size.
    pub async fn thumbnail(
        &self,
        source: &str,
        kind: &ThumbnailKind,
    ) -> Result<Option<StoredThumbnail>> {
        let query = self
            .sql(concat!(
                "SELECT t.content_type, ",
                blob_columns!(),
                " FROM media_thumbnail t JOIN media_blob b ON b.key = t.blob \
                 WHERE t.source = $1 AND t.method = $4 AND t.animated = $5 AND t.format = $6 \
                 AND ((t.width = $2 AND t.height = $3) \
                 OR (t.blob = $1 AND t.width <= $2 AND t.height <= $3)) LIMIT 1"
            ))
            .bind(source)
            .bind(i64::from(kind.width))
            .bind(i64::from(kind.height))
            .bind(kind.method)
            .bind(kind.animated)
            .bind(kind.format);
        let Some(row) = self.row(query).await? else {
            return Ok(None);
        };
        Ok(Some(StoredThumbnail {
            blob: Blob::read(&row)?,
            content_type: row.get("content_type")?,
        }))
    }

    /// Keeps a picture that was made. Gives the key of its blob; `None` if that is being deleted.
    pub async fn add_thumbnail(
        &self,
        source: &str,
        kind: &ThumbnailKind,
        (content_type, size): (&str, u64),
        blob: Keep<'_>,
    ) -> Result<Option<String>> {
        let now = self.clock().now_ms();
        let mut tx = self.begin().await?;
        let Some(key) = keep(&mut tx, blob, now).await? else {
            tx.rollback().await;
            return Ok(None);
        };
        let query = tx
            .sql(
                "INSERT INTO media_thumbnail \
                 (source, width, height, method, animated, format, content_type, blob, size) \
                 VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) \
                 ON CONFLICT (source, width, height, method, animated, format) \
                 DO UPDATE SET content_type = excluded.content_type, blob = excluded.blob, \
                 size = excluded.size",
            )
            .bind(source)
            .bind(i64::from(kind.width))
            .bind(i64::from(kind.height))
            .bind(kind.method)
            .bind(kind.animated)
            .bind(kind.format)
            .bind(content_type)
            .bind(&key)
            .bind(size);
        tx.execute(query).await?;
        if key == source {
            // The smallest size in which it is its own picture says it of the others.
            let query = tx
                .sql(
                    "DELETE FROM media_thumbnail WHERE source = $1 AND blob = $1 AND method = $4 \
                     AND animated = $5 AND format = $6 AND width >= $2 AND height >= $3 \
                     AND NOT (width = $2 AND height = $3)",
                )
                .bind(source)
                .bind(i64::from(kind.width))
                .bind(i64::from(kind.height))
                .bind(kind.method)
                .bind(kind.animated)
                .bind(kind.format);
            tx.execute(query).await?;
        }
        tx.commit().await?;
        Ok(Some(key))
    }

    /// Forgets the pictures whose bytes these are: they are gone.
    pub async fn forget_thumbnails(&self, blob: &str) -> Result<u64> {
        let query = self
            .sql("DELETE FROM media_thumbnail WHERE blob = $1 AND source <> $1")
            .bind(blob);
        self.execute(query).await
    }

    /// How many pictures there are of a blob.
    pub async fn thumbnail_count(&self, source: &str) -> Result<usize> {
        let query = self
            .sql("SELECT COUNT(*) AS pictures FROM media_thumbnail WHERE source = $1")
            .bind(source);
        let row = self.row(query).await?;
        row.map_or(Ok(0), |row| row.get("pictures"))
    }
}
