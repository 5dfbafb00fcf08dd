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
        let update = self
            .sql(
                "UPDATE media SET quarantined = $3 WHERE (protected = 0 OR $3 = 0) AND EXISTS ( \
                 SELECT 1 FROM media q WHERE q.origin = $1 AND q.media_id = $2 \
                 AND (q.protected = 0 OR $3 = 0) AND (q.blob = media.blob \
                 OR (media.origin = $1 AND media.media_id = $2)))",
            )
            .bind(origin)
            .bind(media_id)
            .bind(quarantined);
        if self.execute(update).await? > 0 {
            return Ok(true);
        }
        if !remote || !quarantined {
            return Ok(false);
        }
        let insert = self
            .sql(
                "INSERT INTO media (origin, media_id, remote, size, created, accessed, quarantined, \
                 protected) VALUES ($1, $2, 1, 0, $3, $3, 1, 0) \
                 ON CONFLICT (origin, media_id) DO NOTHING",
            )
            .bind(origin)
            .bind(media_id)
            .bind(now);
        Ok(self.execute(insert).await? > 0)
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
