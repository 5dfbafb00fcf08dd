//! What operators look at, and do about it.

use super::row::{MediaRow, media_columns};
use crate::engine::sql::Columns as _;
use crate::{Result, RoomNo, Store, UserNo};

/// Which files: all that is said must hold.
#[derive(Debug, Clone, Default)]
pub struct MediaQuery {
    /// Of this server.
    pub origin: Option<String>,
    /// Of this user.
    pub owner: Option<UserNo>,
    /// Of ours, or of others'.
    pub remote: Option<bool>,
    /// Made before, milliseconds since 1970.
    pub created_before: Option<i64>,
    /// Not asked for since, milliseconds since 1970.
    pub accessed_before: Option<i64>,
    /// Also those that are protected.
    pub protected: bool,
}

impl Store {
    /// Files, by their names, after this one.
    pub async fn list_media(
        &self,
        which: &MediaQuery,
        (origin, media_id): (&str, &str),
        limit: usize,
    ) -> Result<Vec<MediaRow>> {
        let query = self
            .sql(concat!(
                "SELECT ",
                media_columns!(),
                " FROM media m LEFT JOIN media_blob b ON b.key = m.blob \
                 WHERE (m.origin, m.media_id) > ($1, $2) \
                 AND (CAST($3 AS TEXT) IS NULL OR m.origin = $3) \
                 AND (CAST($4 AS BIGINT) IS NULL OR m.owner = $4) \
                 AND (CAST($5 AS BIGINT) IS NULL OR m.remote = $5) \
                 AND (CAST($6 AS BIGINT) IS NULL OR m.created < $6) \
                 AND (CAST($7 AS BIGINT) IS NULL OR m.accessed < $7) \
                 AND m.protected <= $8 ORDER BY m.origin, m.media_id LIMIT $9"
            ))
            .bind(origin)
            .bind(media_id)
            .bind(which.origin.as_ref())
            .bind(which.owner)
            .bind(which.remote)
            .bind(which.created_before)
            .bind(which.accessed_before)
            .bind(which.protected)
            .bind(limit);
        self.rows(query).await?.iter().map(MediaRow::read).collect()
    }

    /// Whether nobody gets a file, nor others with the same bytes that aren't protected. Another server's needn't be
    /// here to be refused. `false` if it is protected, or none of ours.
    pub async fn quarantine_media(
        &self,
        (origin, media_id): (&str, &str),
        remote: bool,
        quarantined: bool,
    ) -> Result<bool> {
        let now = self.clock().now_ms();
        let mut tx = self.begin().await?;
        let query = tx
            .sql("SELECT blob, protected FROM media WHERE origin = $1 AND media_id = $2")
            .bind(origin)
            .bind(media_id);
        let Some(row) = tx.row(query).await? else {
            if !remote || !quarantined {
                tx.rollback().await;
                return Ok(false);
            }
            let insert = tx
                .sql(
                    "INSERT INTO media (origin, media_id, remote, size, created, accessed, quarantined, \
                     protected) VALUES ($1, $2, 1, 0, $3, $3, 1, 0) \
                     ON CONFLICT (origin, media_id) DO UPDATE SET quarantined = 1",
                )
                .bind(origin)
                .bind(media_id)
                .bind(now);
            tx.execute(insert).await?;
            tx.commit().await?;
            return Ok(true);
        };
        if quarantined && row.get::<bool>("protected")? {
            tx.rollback().await;
            return Ok(false);
        }
        if let Some(blob) = row.get::<Option<String>>("blob")? {
            // Who is about to refer to the same bytes touches them first, too: one of the two waits for the other.
            let touch = tx
                .sql("UPDATE media_blob SET touched = $2 WHERE key = $1")
                .bind(&blob)
                .bind(now);
            tx.execute(touch).await?;
            let all = tx
                .sql("UPDATE media SET quarantined = $2 WHERE blob = $1 AND (protected = 0 OR $2 = 0)")
                .bind(&blob)
                .bind(quarantined);
            tx.execute(all).await?;
        }
        let named = if quarantined {
            "UPDATE media SET quarantined = 1 WHERE origin = $1 AND media_id = $2"
        } else {
            "UPDATE media SET quarantined = 0 WHERE origin = $1 AND media_id = $2"
        };
        let named = tx.sql(named).bind(origin).bind(media_id);
        tx.execute(named).await?;
        if !quarantined {
            // Only a name that was kept to be refused: it may come again.
            let empty = tx
                .sql(
                    "DELETE FROM media WHERE origin = $1 AND media_id = $2 AND blob IS NULL \
                     AND pending IS NULL",
                )
                .bind(origin)
                .bind(media_id);
            tx.execute(empty).await?;
        }
        tx.commit().await?;
        Ok(true)
    }

    /// Whether a file can't be quarantined and isn't deleted by age. `false` if there is none.
    pub async fn protect_media(
        &self,
        (origin, media_id): (&str, &str),
        protected: bool,
    ) -> Result<bool> {
        let query = self
            .sql("UPDATE media SET protected = $3 WHERE origin = $1 AND media_id = $2")
            .bind(origin)
            .bind(media_id)
            .bind(protected);
        Ok(self.execute(query).await? > 0)
    }

    /// The texts of a room's events, by their order, after this one: the order of the last, and those that could name
    /// media.
    pub async fn events_that_name_media(
        &self,
        room: RoomNo,
        after: i64,
        limit: usize,
    ) -> Result<Option<(i64, Vec<String>)>> {
        let query = self
            .sql("SELECT ord, json FROM event WHERE room = $1 AND ord > $2 ORDER BY ord LIMIT $3")
            .bind(room)
            .bind(after)
            .bind(limit);
        let rows = self.rows(query).await?;
        let Some(last) = rows.last() else {
            return Ok(None);
        };
        let last = last.get("ord")?;
        let mut texts = Vec::new();
        for row in &rows {
            let text: String = row.get("json")?;
            if text.contains("mxc:") {
                texts.push(text);
            }
        }
        Ok(Some((last, texts)))
    }
}
