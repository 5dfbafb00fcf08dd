//! Files that have an id before they have bytes.

use ruma::ServerName;

use super::blob::{Keep, keep};
use super::row::NewMedia;
use crate::engine::db::Tx;
use crate::engine::sql::Columns as _;
use crate::{Result, Store, UserNo};

/// What became of the wish for an id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Begun {
    /// It is given.
    Done,
    /// The user has too many that wait; one of them won't any more from this time on, milliseconds since 1970.
    TooMany(i64),
}

/// What became of bytes that came for an id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Filled {
    /// They are its; the key of the blob.
    Done(String),
    /// There is no such id, or no longer.
    Absent,
    /// It is somebody else's.
    NotTheirs,
    /// It has bytes already.
    Already,
    /// The blob is being deleted: the bytes have to be stored again.
    Again,
}

impl Store {
    /// Gives a user an id for a file whose bytes come until `until` (ms), if they have fewer than `most` of those.
    pub async fn begin_media(
        &self,
        (origin, media_id): (&ServerName, &str),
        owner: UserNo,
        until: i64,
        most: usize,
    ) -> Result<Begun> {
        let now = self.clock().now_ms();
        let mut tx = self.begin().await?;
        one_at_a_time(&mut tx, owner).await?;
        let waiting = tx
            .sql(
                "SELECT COUNT(*) AS waiting, MIN(pending) AS first FROM media \
                 WHERE owner = $1 AND pending > $2",
            )
            .bind(owner)
            .bind(now);
        if let Some(row) = tx.row(waiting).await?
            && row.get::<usize>("waiting")? >= most
        {
            let first: Option<i64> = row.get("first")?;
            tx.rollback().await;
            return Ok(Begun::TooMany(first.unwrap_or(now)));
        }
        let insert = tx
            .sql(
                "INSERT INTO media (origin, media_id, remote, owner, size, created, accessed, \
                 pending, quarantined, protected) VALUES ($1, $2, 0, $3, 0, $4, $4, $5, 0, 0)",
            )
            .bind(origin)
            .bind(media_id)
            .bind(owner)
            .bind(now)
            .bind(until);
        tx.execute(insert).await?;
        tx.commit().await?;
        Ok(Begun::Done)
    }

    /// Whether bytes may come for an id now: [`Filled::Done`], with nothing in it, if so.
    pub async fn may_fill(&self, origin: &str, media_id: &str, owner: UserNo) -> Result<Filled> {
        let query = self
            .sql("SELECT owner, pending FROM media WHERE origin = $1 AND media_id = $2")
            .bind(origin)
            .bind(media_id);
        let now = self.clock().now_ms();
        let Some(row) = self.row(query).await? else {
            return Ok(Filled::Absent);
        };
        let pending: Option<i64> = row.get("pending")?;
        Ok(if row.get::<Option<UserNo>>("owner")? != Some(owner) {
            Filled::NotTheirs
        } else if pending.is_none() {
            Filled::Already
        } else if pending.is_some_and(|until| until <= now) {
            Filled::Absent
        } else {
            Filled::Done(String::new())
        })
    }

    /// Gives an id of [`Store::begin_media`] its bytes, durable when this returns. It counts as made now: its bytes are.
    pub async fn fill_media(
        &self,
        new: &NewMedia<'_>,
        owner: UserNo,
        blob: Keep<'_>,
    ) -> Result<Filled> {
        let now = self.clock().now_ms();
        let mut tx = self.begin().await?;
        let Some(key) = keep(&mut tx, blob, now).await? else {
            tx.rollback().await;
            return Ok(Filled::Again);
        };
        if fill(&mut tx, new, owner, &key, now).await? {
            tx.commit().await?;
            return Ok(Filled::Done(key));
        }
        tx.rollback().await;
        Ok(
            match self.may_fill(new.origin, new.media_id, owner).await? {
                Filled::Done(_) => Filled::Absent,
                refused => refused,
            },
        )
    }
}

/// An id that waits for its bytes does so until then (ms) at least, in a transaction.
pub(super) async fn prolong(
    tx: &mut Tx,
    (origin, media_id): (&str, &str),
    until: i64,
) -> Result<()> {
    let query = tx
        .sql("UPDATE media SET pending = $3 WHERE origin = $1 AND media_id = $2 AND pending < $3")
        .bind(origin)
        .bind(media_id)
        .bind(until);
    tx.execute(query).await?;
    Ok(())
}

/// One at a time begins something for a user, so that what they have is counted.
pub(super) async fn one_at_a_time(tx: &mut Tx, owner: UserNo) -> Result<()> {
    let lock = tx
        .sql("SELECT user_no FROM account WHERE user_no = $1 FOR_UPDATE")
        .bind(owner);
    tx.row(lock).await?;
    Ok(())
}

/// Gives an id its blob, in a transaction; `false` if it takes none.
pub(super) async fn fill(
    tx: &mut Tx,
    new: &NewMedia<'_>,
    owner: UserNo,
    key: &str,
    now: i64,
) -> Result<bool> {
    let query = tx
        .sql(
            "UPDATE media SET content_type = $4, name = $5, blob = $6, size = $7, pending = NULL, \
             created = $8, accessed = $8, quarantined = CASE WHEN EXISTS (SELECT 1 FROM media q \
             WHERE q.blob = $6 AND q.quarantined = 1) THEN 1 ELSE quarantined END \
             WHERE origin = $1 AND media_id = $2 AND owner = $3 AND pending > $8",
        )
        .bind(new.origin)
        .bind(new.media_id)
        .bind(owner)
        .bind(new.content_type)
        .bind(new.name)
        .bind(key)
        .bind(new.size)
        .bind(now);
    Ok(tx.execute(query).await? > 0)
}
