//! The rows of files.

use super::ask::Question;
use super::finding::{Fault, LEFT_OVER, RESTORE};
use super::moment::Moment;
use crate::engine::sql::{Columns as _, ReadRow};
use crate::{Blob, Result, Seal};

pub(super) static QUESTIONS: &[Question] = &[
    Question {
        fault: Fault {
            what: "files have bytes that no row knows",
            means: "Nobody can get these files.",
            next: RESTORE,
        },
        sql: "SELECT 'mxc://' || m.origin || '/' || m.media_id AS example, COUNT(*) OVER () AS total \
              FROM media m LEFT JOIN media_blob b ON b.key = m.blob \
              WHERE m.blob IS NOT NULL AND b.key IS NULL ORDER BY m.origin, m.media_id LIMIT $1",
    },
    Question {
        fault: Fault {
            what: "thumbnails have bytes that no row knows",
            means: "Nobody can get these pictures.",
            next: LEFT_OVER,
        },
        sql: "SELECT t.blob AS example, COUNT(*) OVER () AS total FROM media_thumbnail t \
              LEFT JOIN media_blob b ON b.key = t.blob WHERE b.key IS NULL ORDER BY t.blob LIMIT $1",
    },
    Question {
        fault: Fault {
            what: "parts of uploads have bytes or an upload that no row knows",
            means: "Who is uploading these files has to begin again.",
            next: LEFT_OVER,
        },
        sql: "SELECT p.blob AS example, COUNT(*) OVER () AS total FROM media_upload_part p \
              LEFT JOIN media_blob b ON b.key = p.blob LEFT JOIN media_upload u ON u.id = p.upload \
              WHERE b.key IS NULL OR u.id IS NULL ORDER BY p.upload, p.start LIMIT $1",
    },
];

fn blob(row: &ReadRow) -> Result<Blob> {
    let seal = match (row.get("seal_key")?, row.get("salt")?) {
        (Some(key_id), Some(salt)) => Some(Seal { key_id, salt }),
        _ => None,
    };
    Ok(Blob {
        key: row.get("key")?,
        sha256: row.get("sha256")?,
        size: row.get("size")?,
        store: row.get("store")?,
        seal,
    })
}

pub(super) async fn blobs(moment: &mut Moment, after: &str, limit: usize) -> Result<Vec<Blob>> {
    let query = moment
        .sql(
            "SELECT key, sha256, size, store, seal_key, salt FROM media_blob \
             WHERE key > $1 AND doomed = 0 ORDER BY key LIMIT $2",
        )
        .bind(after)
        .bind(limit);
    moment.rows(query).await?.iter().map(blob).collect()
}

pub(super) async fn known(moment: &mut Moment, keys: &[&str]) -> Result<Vec<(Blob, bool)>> {
    let query = moment
        .sql(
            "SELECT key, sha256, size, store, seal_key, salt, doomed FROM media_blob \
             WHERE key IN TEXTS($1)",
        )
        .texts(keys.iter().copied());
    let rows = moment.rows(query).await?;
    let known = rows.iter().map(|row| Ok((blob(row)?, row.get("doomed")?)));
    known.collect()
}

pub(super) async fn count(moment: &mut Moment) -> Result<u64> {
    let query = moment.sql("SELECT COUNT(*) AS count FROM media_blob WHERE doomed = 0");
    moment.one(query, "count").await
}

pub(super) async fn store_id(moment: &mut Moment, name: &str) -> Result<Option<String>> {
    let query = moment.sql("SELECT id FROM media_store WHERE name = $1");
    let row = moment.row(query.bind(name)).await?;
    row.map(|row| row.get("id")).transpose()
}
