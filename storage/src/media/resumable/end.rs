//! How uploads end: as a file, or as nothing.

use super::UploadRow;
use crate::engine::db::Tx;
use crate::engine::sql::Columns as _;
use crate::media::blob::{Keep, keep};
use crate::media::pending::{Filled, fill};
use crate::media::row::{NewMedia, insert};
use crate::{Result, Store, UserNo};

/// What became of an upload's file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FinishedUpload {
    /// It is there; the key of the blob.
    Done(String),
    /// Somebody else has ended the upload.
    Late,
    /// The id that it fills takes no bytes.
    Refused(Filled),
    /// The blob is being deleted: the bytes have to be stored again.
    Again,
}

/// Deletes an upload that isn't over, in a transaction. `false` if there is none.
pub(super) async fn delete(tx: &mut Tx, owner: UserNo, id: &str) -> Result<bool> {
    let query = tx
        .sql("DELETE FROM media_upload WHERE id = $1 AND owner = $2 AND done = 0")
        .bind(id)
        .bind(owner);
    if tx.execute(query).await? == 0 {
        return Ok(false);
    }
    delete_parts(tx, id).await?;
    Ok(true)
}

async fn delete_parts(tx: &mut Tx, id: &str) -> Result<()> {
    let query = tx
        .sql("DELETE FROM media_upload_part WHERE upload = $1")
        .bind(id);
    tx.execute(query).await?;
    Ok(())
}

impl Store {
    /// The file of an upload of which all has come, durable when this returns; the upload is over.
    pub async fn finish_upload(
        &self,
        upload: &UploadRow,
        new: &NewMedia<'_>,
        blob: Keep<'_>,
    ) -> Result<FinishedUpload> {
        let now = self.clock().now_ms();
        let mut tx = self.begin().await?;
        let Some(key) = keep(&mut tx, blob, now).await? else {
            tx.rollback().await;
            return Ok(FinishedUpload::Again);
        };
        let query = tx
            .sql(
                "UPDATE media_upload SET done = 1, touched = $3, announced = received \
                 WHERE id = $1 AND received = $2 AND done = 0",
            )
            .bind(&upload.id)
            .bind(upload.received)
            .bind(now);
        if tx.execute(query).await? == 0 {
            tx.rollback().await;
            return Ok(FinishedUpload::Late);
        }
        let is_there = if upload.fills {
            fill(&mut tx, new, upload.owner, &key, now).await?
        } else {
            insert(&mut tx, new, &key, now).await?
        };
        if !is_there {
            tx.rollback().await;
            let may = self
                .may_fill(new.origin, new.media_id, upload.owner)
                .await?;
            return Ok(FinishedUpload::Refused(match may {
                Filled::Done(_) => Filled::Absent,
                refused => refused,
            }));
        }
        delete_parts(&mut tx, &upload.id).await?;
        tx.commit().await?;
        Ok(FinishedUpload::Done(key))
    }

    /// The blobs of an upload's parts are taken for touched no later than then (ms): they may go soon after it.
    pub async fn hurry_parts(&self, id: &str, touched: i64) -> Result<u64> {
        let query = self
            .sql(
                "UPDATE media_blob SET touched = $2 WHERE touched > $2 AND key IN \
                 (SELECT blob FROM media_upload_part WHERE upload = $1)",
            )
            .bind(id)
            .bind(touched);
        self.execute(query).await
    }

    /// Deletes an upload that isn't over. `false` if there is none.
    pub async fn delete_upload(&self, owner: UserNo, id: &str) -> Result<bool> {
        let mut tx = self.begin().await?;
        if !delete(&mut tx, owner, id).await? {
            tx.rollback().await;
            return Ok(false);
        }
        tx.commit().await?;
        Ok(true)
    }

    /// Deletes uploads of which nothing has come since `until` (ms), over or not; gives their number.
    pub async fn expire_uploads(&self, until: i64, limit: usize) -> Result<usize> {
        // Looked for by reading, so that no writer waits.
        let query = self
            .sql("SELECT id FROM media_upload WHERE touched <= $1 ORDER BY touched LIMIT $2")
            .bind(until)
            .bind(limit);
        let rows = self.rows(query).await?;
        if rows.is_empty() {
            return Ok(0);
        }
        let old: Result<Vec<String>> = rows.iter().map(|row| row.get("id")).collect();
        let old = old?;
        let mut tx = self.begin().await?;
        // The uploads first: whoever appends to one waits for this, and finds it gone.
        let query = tx
            .sql("DELETE FROM media_upload WHERE id IN TEXTS($2) AND touched <= $1 RETURNING id")
            .bind(until)
            .texts(old.iter().map(String::as_str));
        let rows = tx.rows(query).await?;
        let gone: Result<Vec<String>> = rows.iter().map(|row| row.get("id")).collect();
        let gone = gone?;
        let query = tx
            .sql("DELETE FROM media_upload_part WHERE upload IN TEXTS($1)")
            .texts(gone.iter().map(String::as_str));
        tx.execute(query).await?;
        tx.commit().await?;
        Ok(gone.len())
    }
}
