//! Files and their owners as an administrator looks through them: in an order, a page at a time.

use super::row::{MediaRow, media_columns};
use crate::engine::db::literally;
use crate::engine::sql::{Columns as _, Query};
use crate::{Result, Store, UserNo};

/// By what a user's files are put in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "as in MediaRow")]
pub enum MediaOrder {
    Id,
    Name,
    Created,
    Accessed,
    Size,
    ContentType,
    Quarantined,
    Protected,
}

macro_rules! files {
    ($key:literal, $direction:literal) => {
        concat!(
            "SELECT ",
            media_columns!(),
            " FROM media m LEFT JOIN media_blob b ON b.key = m.blob WHERE m.owner = $1 \
             AND (m.quarantined = 0 OR m.blob IS NOT NULL) ORDER BY ",
            $key,
            $direction,
            ", m.media_id LIMIT $2 OFFSET $3"
        )
    };
}

macro_rules! files_both {
    ($key:literal) => {
        [files!($key, ""), files!($key, " DESC")]
    };
}

impl MediaOrder {
    /// The statement for a page, forwards and backwards.
    fn statements(self) -> [&'static str; 2] {
        match self {
            Self::Id => files_both!("m.media_id"),
            Self::Name => files_both!("COALESCE(m.name, '')"),
            Self::Created => files_both!("m.created"),
            Self::Accessed => files_both!("m.accessed"),
            Self::Size => files_both!("m.size"),
            Self::ContentType => files_both!("COALESCE(m.content_type, '')"),
            Self::Quarantined => files_both!("m.quarantined"),
            Self::Protected => files_both!("m.protected"),
        }
    }
}

/// A user who has uploaded something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Uploader {
    /// Who.
    pub user: UserNo,
    /// How many files.
    pub files: i64,
    /// Of how many bytes.
    pub bytes: i64,
}

/// Which users, and which of their files are counted.
#[derive(Debug, Clone, Default)]
pub struct UploaderQuery {
    /// They have this in their ids, or are called so.
    pub has: Option<String>,
    /// What came then or later, in milliseconds since 1970.
    pub from_ms: Option<i64>,
    /// What came then or before.
    pub until_ms: Option<i64>,
}

/// By what they are put in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UploaderOrder {
    /// Their ids.
    UserId,
    /// What they are called.
    Name,
    /// How many files they have.
    Files,
    /// How many bytes these have.
    Bytes,
}

macro_rules! uploaders {
    () => {
        "SELECT m.owner AS owner, u.user_id AS user_id, COALESCE(LOWER(p.name), '') AS called, \
         COUNT(*) AS files, CAST(SUM(m.size) AS BIGINT) AS bytes \
         FROM media m JOIN user_name u ON u.no = m.owner \
         LEFT JOIN people_name p ON p.user_no = m.owner AND p.n = 0 \
         WHERE (CAST($1 AS TEXT) IS NULL OR LOWER(u.user_id) LIKE LOWER('%' || $1 || '%') ESCAPE '!' \
         OR LOWER(p.name) LIKE LOWER('%' || $1 || '%') ESCAPE '!') \
         AND (CAST($2 AS BIGINT) IS NULL OR m.created >= $2) \
         AND (CAST($3 AS BIGINT) IS NULL OR m.created <= $3) \
         GROUP BY m.owner, u.user_id, p.name"
    };
}

macro_rules! uploaders_page {
    ($key:literal, $direction:literal) => {
        concat!(
            "SELECT * FROM (",
            uploaders!(),
            ") AS x ORDER BY ",
            $key,
            $direction,
            ", x.user_id LIMIT $4 OFFSET $5"
        )
    };
}

macro_rules! uploaders_both {
    ($key:literal) => {
        [uploaders_page!($key, ""), uploaders_page!($key, " DESC")]
    };
}

impl UploaderOrder {
    /// The statement for a page, forwards and backwards.
    fn statements(self) -> [&'static str; 2] {
        match self {
            Self::UserId => uploaders_both!("x.user_id"),
            Self::Name => uploaders_both!("x.called"),
            Self::Files => uploaders_both!("x.files"),
            Self::Bytes => uploaders_both!("x.bytes"),
        }
    }
}

impl UploaderQuery {
    /// As `$1` to `$3`.
    fn bind(&self, query: Query) -> Query {
        query
            .bind(self.has.as_deref().map(literally))
            .bind(self.from_ms)
            .bind(self.until_ms)
    }
}

impl Store {
    /// A page of the files that a user has uploaded: `limit` of them after so many; and how many there are in all. Not those
    /// that are deleted, of which only the name is kept because of a quarantine.
    pub async fn media_page(
        &self,
        owner: UserNo,
        (order, backwards): (MediaOrder, bool),
        (from, limit): (usize, usize),
    ) -> Result<(Vec<MediaRow>, usize)> {
        let count = self
            .sql(
                "SELECT COUNT(*) AS n FROM media m WHERE m.owner = $1 \
                 AND (m.quarantined = 0 OR m.blob IS NOT NULL)",
            )
            .bind(owner);
        let count = self.row(count).await?;
        let total = count.map_or(Ok(0), |row| row.get("n"))?;
        let [forwards, back] = order.statements();
        let query = self
            .sql(if backwards { back } else { forwards })
            .bind(owner)
            .bind(limit)
            .bind(from);
        let rows = self.rows(query).await?;
        let files = rows.iter().map(MediaRow::read).collect::<Result<_>>()?;
        Ok((files, total))
    }

    /// A page of those who have uploaded something: `limit` of them after so many; and how many there are in all.
    pub async fn uploader_page(
        &self,
        which: &UploaderQuery,
        (order, backwards): (UploaderOrder, bool),
        (from, limit): (usize, usize),
    ) -> Result<(Vec<Uploader>, usize)> {
        let count = self.sql(concat!(
            "SELECT COUNT(*) AS n FROM (",
            uploaders!(),
            ") AS x"
        ));
        let count = self.row(which.bind(count)).await?;
        let total = count.map_or(Ok(0), |row| row.get("n"))?;
        let [forwards, back] = order.statements();
        let query = self.sql(if backwards { back } else { forwards });
        let rows = self.rows(which.bind(query).bind(limit).bind(from)).await?;
        let users = rows.iter().map(|row| {
            Ok(Uploader {
                user: row.get("owner")?,
                files: row.get("files")?,
                bytes: row.get("bytes")?,
            })
        });
        Ok((users.collect::<Result<_>>()?, total))
    }
}
