//! Uploads that go on where they broke off.
//!
//! What has come of one are parts, each a blob of its own, which a part's row refers to like a file's does. They become a
//! file in one transaction, which ends the upload.

mod end;

pub use end::FinishedUpload;

use super::blob::{Blob, Keep, blob_columns, keep};
use super::pending::{Begun, one_at_a_time, prolong};
use crate::engine::db::Tx;
use crate::engine::sql::{Columns as _, ReadRow};
use crate::{Result, Store, UserNo};

/// An upload that begins.
#[derive(Debug, Clone)]
pub struct NewUpload<'a> {
    /// By which its user goes on with it.
    pub id: &'a str,
    /// Whose it is.
    pub owner: UserNo,
    /// Our name.
    pub origin: &'a str,
    /// The id that the file gets.
    pub media_id: &'a str,
    /// That was given before.
    pub fills: bool,
    /// What it is said to be.
    pub content_type: Option<&'a str>,
    /// What it is called.
    pub name: Option<&'a str>,
    /// The client wants to be told how it looks from far away.
    pub blurhash: bool,
    /// How many bytes it is to have, if that is known.
    pub announced: Option<u64>,
}

/// An upload that has begun.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UploadRow {
    /// By which its user goes on with it.
    pub id: String,
    /// Whose it is.
    pub owner: UserNo,
    /// Our name.
    pub origin: String,
    /// The id that the file gets.
    pub media_id: String,
    /// That was given before.
    pub fills: bool,
    /// What it is said to be.
    pub content_type: Option<String>,
    /// What it is called.
    pub name: Option<String>,
    /// The client wants to be told how it looks from far away.
    pub blurhash: bool,
    /// How many bytes it is to have, if that is known.
    pub announced: Option<u64>,
    /// How many have come.
    pub received: u64,
    /// In how many parts.
    pub parts: u64,
    /// Who goes on with it now: what others bring is refused.
    pub turn: i64,
    /// The file is there.
    pub done: bool,
    /// When something last came, milliseconds since 1970.
    pub touched: i64,
}

/// What has come of an upload.
#[derive(Debug, Clone)]
pub struct NewPart<'a> {
    /// Of which.
    pub upload: &'a UploadRow,
    /// At which byte of the file it begins.
    pub start: u64,
    /// How many bytes.
    pub size: u64,
    /// Until when (ms) the id that it fills waits for its bytes at least.
    pub until: i64,
}

/// What became of a part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AppendedPart {
    /// It is kept; the key of the blob.
    Done(String),
    /// The upload has gone on without it, or is gone.
    Late,
    /// The blob is being deleted: the bytes have to be stored again.
    Again,
}

/// An upload's columns.
macro_rules! upload_columns {
    () => {
        "id, owner, origin, media_id, fills, content_type, name, blurhash, announced, received, parts, \
         turn, done, touched"
    };
}

impl UploadRow {
    fn read(row: &ReadRow) -> Result<Self> {
        Ok(Self {
            id: row.get("id")?,
            owner: row.get("owner")?,
            origin: row.get("origin")?,
            media_id: row.get("media_id")?,
            fills: row.get("fills")?,
            content_type: row.get("content_type")?,
            name: row.get("name")?,
            blurhash: row.get("blurhash")?,
            announced: row.get("announced")?,
            received: row.get("received")?,
            parts: row.get("parts")?,
            turn: row.get("turn")?,
            done: row.get("done")?,
            touched: row.get("touched")?,
        })
    }
}

/// How long nothing has come of an upload that was never gone on with before it may be dropped for another.
const UNHEARD: i64 = 10 * 60 * 1_000;

/// Drops the user's oldest upload that was begun and never gone on with since; `false` if there is none.
async fn drop_unheard(tx: &mut Tx, owner: UserNo, (since, now): (i64, i64)) -> Result<bool> {
    let query = tx
        .sql(
            "SELECT id FROM media_upload WHERE owner = $1 AND done = 0 AND turn <= 1 \
             AND touched > $2 AND touched < $3 ORDER BY touched, id LIMIT 1",
        )
        .bind(owner)
        .bind(since)
        .bind(now.saturating_sub(UNHEARD));
    let Some(row) = tx.row(query).await? else {
        return Ok(false);
    };
    let id: String = row.get("id")?;
    end::delete(tx, owner, &id).await
}

impl Store {
    /// Begins an upload, if fewer than `most` of the user's are under way that something has come of since `since` (ms).
    /// Else it takes the place of one of whose beginning the client may never have heard, if there is one.
    pub async fn begin_upload(
        &self,
        new: &NewUpload<'_>,
        since: i64,
        most: usize,
    ) -> Result<Begun> {
        let now = self.clock().now_ms();
        let mut tx = self.begin().await?;
        one_at_a_time(&mut tx, new.owner).await?;
        let under_way = tx
            .sql(
                "SELECT COUNT(*) AS under_way, MIN(touched) AS first FROM media_upload \
                 WHERE owner = $1 AND done = 0 AND touched > $2",
            )
            .bind(new.owner)
            .bind(since);
        if let Some(row) = tx.row(under_way).await?
            && row.get::<usize>("under_way")? >= most
            && !drop_unheard(&mut tx, new.owner, (since, now)).await?
        {
            let first: Option<i64> = row.get("first")?;
            tx.rollback().await;
            return Ok(Begun::TooMany(first.unwrap_or(now) + (now - since)));
        }
        let insert = tx
            .sql(
                "INSERT INTO media_upload (id, owner, origin, media_id, fills, content_type, name, \
                 blurhash, announced, received, parts, turn, done, touched) \
                 VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, 0, 0, 0, 0, $10)",
            )
            .bind(new.id)
            .bind(new.owner)
            .bind(new.origin)
            .bind(new.media_id)
            .bind(new.fills)
            .bind(new.content_type)
            .bind(new.name)
            .bind(new.blurhash)
            .bind(new.announced)
            .bind(now);
        tx.execute(insert).await?;
        if new.fills {
            let until = now.saturating_add(now.saturating_sub(since));
            prolong(&mut tx, (new.origin, new.media_id), until).await?;
        }
        tx.commit().await?;
        Ok(Begun::Done)
    }

    /// A user's upload of which something has come since `since` (ms).
    pub async fn media_upload(
        &self,
        owner: UserNo,
        id: &str,
        since: i64,
    ) -> Result<Option<UploadRow>> {
        let query = self
            .sql(concat!(
                "SELECT ",
                upload_columns!(),
                " FROM media_upload WHERE id = $1 AND owner = $2 AND touched > $3"
            ))
            .bind(id)
            .bind(owner)
            .bind(since);
        let row = self.row(query).await?;
        row.as_ref().map(UploadRow::read).transpose()
    }

    /// The same for who goes on with it: from now on what others bring is refused. `announced`: how many bytes it is to
    /// have, which is noted if that wasn't known.
    pub async fn take_upload(
        &self,
        owner: UserNo,
        id: &str,
        since: i64,
        announced: Option<u64>,
    ) -> Result<Option<UploadRow>> {
        let query = self
            .sql(concat!(
                "UPDATE media_upload SET turn = turn + 1, announced = COALESCE(announced, $4) \
                 WHERE id = $1 AND owner = $2 AND touched > $3 RETURNING ",
                upload_columns!()
            ))
            .bind(id)
            .bind(owner)
            .bind(since)
            .bind(announced);
        let row = self.row(query).await?;
        row.as_ref().map(UploadRow::read).transpose()
    }

    /// Keeps a part, durable when this returns, if the upload is where it begins and nobody else goes on with it.
    pub async fn append_part(&self, part: &NewPart<'_>, blob: Keep<'_>) -> Result<AppendedPart> {
        let now = self.clock().now_ms();
        let mut tx = self.begin().await?;
        let Some(key) = keep(&mut tx, blob, now).await? else {
            tx.rollback().await;
            return Ok(AppendedPart::Again);
        };
        let query = tx
            .sql(
                "UPDATE media_upload SET received = received + $4, parts = parts + 1, touched = $5 \
                 WHERE id = $1 AND received = $2 AND turn = $3 AND done = 0",
            )
            .bind(&part.upload.id)
            .bind(part.start)
            .bind(part.upload.turn)
            .bind(part.size)
            .bind(now);
        if tx.execute(query).await? == 0 {
            tx.rollback().await;
            return Ok(AppendedPart::Late);
        }
        let query = tx
            .sql("INSERT INTO media_upload_part (upload, start, blob) VALUES ($1, $2, $3)")
            .bind(&part.upload.id)
            .bind(part.start)
            .bind(&key);
        tx.execute(query).await?;
        if part.upload.fills {
            let id = (part.upload.origin.as_str(), part.upload.media_id.as_str());
            prolong(&mut tx, id, part.until).await?;
        }
        tx.commit().await?;
        Ok(AppendedPart::Done(key))
    }

    /// Where the bytes of an upload's parts are, in order, from this byte on.
    pub async fn upload_parts(
        &self,
        id: &str,
        from: u64,
        limit: usize,
    ) -> Result<Vec<(u64, Blob)>> {
        let query = self
            .sql(concat!(
                "SELECT p.start, ",
                blob_columns!(),
                " FROM media_upload_part p JOIN media_blob b ON b.key = p.blob \
                 WHERE p.upload = $1 AND p.start >= $2 ORDER BY p.start LIMIT $3"
            ))
            .bind(id)
            .bind(from)
            .bind(limit);
        let rows = self.rows(query).await?;
        rows.iter()
            .map(|row| Ok((row.get("start")?, Blob::read(row)?)))
            .collect()
    }

    /// How many bytes have come of a user's uploads that are under way, of which something has since `since` (ms).
    pub async fn bytes_under_way(&self, owner: UserNo, since: i64) -> Result<u64> {
        let query = self
            .sql(
                "SELECT CAST(COALESCE(SUM(received), 0) AS BIGINT) AS bytes FROM media_upload \
                 WHERE owner = $1 AND done = 0 AND touched > $2",
            )
            .bind(owner)
            .bind(since);
        let row = self.row(query).await?;
        row.map_or(Ok(0), |row| row.get("bytes"))
    }
}
