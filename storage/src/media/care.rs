//! What operators look at, and do about it.

use std::collections::HashSet;

use serde_json::Value;

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
    /// Of more bytes than these.
    pub larger_than: Option<u64>,
    /// Also those that are protected.
    pub protected: bool,
    /// None that is in quarantine.
    pub not_quarantined: bool,
    /// None that is somebody's picture, or a room's.
    pub no_pictures: bool,
}

/// A file's address.
fn address(file: &MediaRow) -> String {
    format!("mxc://{}/{}", file.origin, file.media_id)
}

impl Store {
    /// Files, by their names, after this one: none once there are no more.
    pub async fn list_media(
        &self,
        which: &MediaQuery,
        (origin, media_id): (&str, &str),
        limit: usize,
    ) -> Result<Vec<MediaRow>> {
        if !which.no_pictures {
            return self.media_after(which, (origin, media_id), limit).await;
        }
        if media_id.is_empty() {
            // The pictures of rooms of before are known, too.
            self.fill_all_summaries().await?;
        }
        let mut after = (origin.to_owned(), media_id.to_owned());
        loop {
            let mut files = self.media_after(which, (&after.0, &after.1), limit).await?;
            let Some(last) = files.last() else {
                return Ok(Vec::new());
            };
            after = (last.origin.to_string(), last.media_id.clone());
            let pictures = self.pictures_among(&files).await?;
            files.retain(|file| !pictures.contains(&address(file)));
            if !files.is_empty() {
                return Ok(files);
            }
        }
    }

    /// Those addresses of files that are somebody's picture, or a room's: of who has uploaded a file as their profile says, of
    /// others as the user directory has it. By the addresses, so that each database looks once through who has which.
    async fn pictures_among(&self, files: &[MediaRow]) -> Result<HashSet<String>> {
        let addresses: Vec<String> = files.iter().map(address).collect();
        let query = self
            .sql(
                "SELECT p.avatar AS avatar FROM people_name p WHERE p.avatar IN TEXTS($1) \
                 UNION ALL SELECT s.avatar AS avatar FROM room_summary s WHERE s.avatar IN TEXTS($2)",
            )
            .texts(&addresses)
            .texts(&addresses);
        let mut found = HashSet::new();
        for row in &self.rows(query).await? {
            found.insert(row.get("avatar")?);
        }
        let owners: Vec<UserNo> = files.iter().filter_map(|file| file.owner).collect();
        for profile in self.profiles(&owners).await?.values() {
            let avatar = profile.get("avatar_url").and_then(Value::as_str);
            found.extend(avatar.map(ToOwned::to_owned));
        }
        Ok(found)
    }

    async fn media_after(
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
                 AND m.protected <= $8 AND (CAST($9 AS BIGINT) IS NULL OR m.size > $9) \
                 AND ($10 = 0 OR m.quarantined = 0) \
                 ORDER BY m.origin, m.media_id LIMIT $11"
            ))
            .bind(origin)
            .bind(media_id)
            .bind(which.origin.as_ref())
            .bind(which.owner)
            .bind(which.remote)
            .bind(which.created_before)
            .bind(which.accessed_before)
            .bind(which.protected)
            .bind(which.larger_than)
            .bind(which.not_quarantined)
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
