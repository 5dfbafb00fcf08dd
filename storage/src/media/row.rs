//! Files by their names.

use ruma::OwnedServerName;

use super::blob::{Blob, Keep, keep};
use crate::engine::db::Tx;
use crate::engine::sql::{Columns as _, ReadRow, rows};
use crate::{Result, Store, UserNo};

/// A file under its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MediaRow {
    /// Which server has given it its id.
    pub origin: OwnedServerName,
    /// Its id there.
    pub media_id: String,
    /// It is kept of another server's.
    pub remote: bool,
    /// Who has uploaded it.
    pub owner: Option<UserNo>,
    /// What it is said to be.
    pub content_type: Option<String>,
    /// What it is called.
    pub name: Option<String>,
    /// Its bytes, once they have come.
    pub blob: Option<Blob>,
    /// How many bytes.
    pub size: u64,
    /// Since when, milliseconds since 1970.
    pub created: i64,
    /// When somebody last asked for it, roughly.
    pub accessed: i64,
    /// Until when bytes may come, if they haven't.
    pub pending: Option<i64>,
    /// Nobody gets it.
    pub quarantined: bool,
    /// It can't be quarantined, and isn't deleted by age.
    pub protected: bool,
}

/// A file that is new, with its bytes.
#[derive(Debug, Clone)]
pub struct NewMedia<'a> {
    /// Which server has given it its id.
    pub origin: &'a str,
    /// Its id there.
    pub media_id: &'a str,
    /// It is kept of another server's.
    pub remote: bool,
    /// Who has uploaded it.
    pub owner: Option<UserNo>,
    /// What it is said to be.
    pub content_type: Option<&'a str>,
    /// What it is called.
    pub name: Option<&'a str>,
    /// How many bytes.
    pub size: u64,
}

/// The columns of a file where its table is called `m` and its blob's `b`.
macro_rules! media_columns {
    () => {
        concat!(
            "m.origin, m.media_id, m.remote, m.owner, m.content_type, m.name, m.size, m.created, \
             m.accessed, m.pending, m.quarantined, m.protected, ",
            $crate::media::blob::blob_columns!()
        )
    };
}
pub(super) use media_columns;

impl MediaRow {
    pub(super) fn read(row: &ReadRow) -> Result<Self> {
        let key: Option<String> = row.get("key")?;
        Ok(Self {
            origin: row.get("origin")?,
            media_id: row.get("media_id")?,
            remote: row.get("remote")?,
            owner: row.get("owner")?,
            content_type: row.get("content_type")?,
            name: row.get("name")?,
            blob: key.map(|_| Blob::read(row)).transpose()?,
            size: row.get("size")?,
            created: row.get("created")?,
            accessed: row.get("accessed")?,
            pending: row.get("pending")?,
            quarantined: row.get("quarantined")?,
            protected: row.get("protected")?,
        })
    }
}

rows! {
    struct Access<'a> {
        origin: &'a str,
        media_id: &'a str,
        at: i64,
    }
}

impl Store {
    /// The file with this name.
    pub async fn media(&self, origin: &str, media_id: &str) -> Result<Option<MediaRow>> {
        let query = self
            .sql(concat!(
                "SELECT ",
                media_columns!(),
                " FROM media m LEFT JOIN media_blob b ON b.key = m.blob \
                 WHERE m.origin = $1 AND m.media_id = $2"
            ))
            .bind(origin)
            .bind(media_id);
        let row = self.row(query).await?;
        row.as_ref().map(MediaRow::read).transpose()
    }

    /// Adds a file with its bytes, durable when this returns; one of another server's that is there already takes
    /// them. Bytes that are quarantined under another name are under this, too. Gives the key of the blob that it has; `None` if the blob is being deleted, so that the bytes have
    /// to be stored again.
    pub async fn add_media(&self, new: &NewMedia<'_>, blob: Keep<'_>) -> Result<Option<String>> {
        let now = self.clock().now_ms();
        let mut tx = self.begin().await?;
        let Some(key) = keep(&mut tx, blob, now).await? else {
            tx.rollback().await;
            return Ok(None);
        };
        if !insert(&mut tx, new, &key, now).await? {
            tx.rollback().await;
            return Err(crate::Error::broken("a file's id was given twice"));
        }
        tx.commit().await?;
        Ok(Some(key))
    }

    /// Notes when files were last asked for.
    pub async fn media_accessed<'a>(
        &self,
        files: impl Iterator<Item = (&'a str, &'a str, i64)> + Send,
    ) -> Result<()> {
        let rows = files.map(|(origin, media_id, at)| Access {
            origin,
            media_id,
            at,
        });
        let rows: Vec<_> = rows.collect();
        if rows.is_empty() {
            return Ok(());
        }
        let query = self
            .sql(
                "UPDATE media SET accessed = x.at FROM ROWS($1) AS x \
                 WHERE media.origin = x.origin AND media.media_id = x.media_id \
                 AND media.accessed < x.at",
            )
            .rows(&rows);
        self.execute(query).await?;
        Ok(())
    }
}

/// A file with this blob, in a transaction; one of another server's takes it. `false`: there is one of ours.
pub(super) async fn insert(tx: &mut Tx, new: &NewMedia<'_>, key: &str, now: i64) -> Result<bool> {
    let query = tx
        .sql(
            "INSERT INTO media (origin, media_id, remote, owner, content_type, name, blob, size, \
             created, accessed, pending, quarantined, protected) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $9, NULL, CASE WHEN EXISTS (SELECT 1 \
             FROM media q WHERE q.blob = $7 AND q.quarantined = 1) THEN 1 ELSE 0 END, 0) \
             ON CONFLICT (origin, media_id) DO UPDATE SET content_type = excluded.content_type, \
             name = excluded.name, blob = excluded.blob, size = excluded.size, \
             created = excluded.created, accessed = excluded.accessed, \
             quarantined = CASE WHEN media.quarantined = 1 THEN 1 ELSE excluded.quarantined END \
             WHERE media.remote = 1",
        )
        .bind(new.origin)
        .bind(new.media_id)
        .bind(new.remote)
        .bind(new.owner)
        .bind(new.content_type)
        .bind(new.name)
        .bind(key)
        .bind(new.size)
        .bind(now);
    Ok(tx.execute(query).await? > 0)
}
