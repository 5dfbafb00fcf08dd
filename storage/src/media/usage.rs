//! How much there is: by user, by store.

use crate::engine::sql::{Columns as _, rows};
use crate::{Result, Store, UserNo};

/// What a store holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreUsage {
    /// Its name.
    pub store: String,
    /// How many blobs.
    pub blobs: u64,
    /// Of how many bytes.
    pub bytes: u64,
}

/// What a user has uploaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserUsage {
    /// Who; `None`: other servers.
    pub owner: Option<UserNo>,
    /// How many files.
    pub files: u64,
    /// Of how many bytes.
    pub bytes: u64,
}

rows! {
    struct Window {
        since: i64,
    }
}

impl Store {
    /// How many bytes a user has uploaded since each of these times (ms), in their order.
    pub async fn uploaded_since(&self, owner: UserNo, since: &[i64]) -> Result<Vec<u64>> {
        let windows: Vec<Window> = since.iter().map(|since| Window { since: *since }).collect();
        let query = self
            .sql(
                "SELECT x.since, CAST(COALESCE(SUM(m.size), 0) AS BIGINT) AS bytes \
                 FROM ROWS($2) AS x LEFT JOIN media m ON m.owner = $1 AND m.created > x.since \
                 GROUP BY x.since",
            )
            .bind(owner)
            .rows(&windows);
        let rows = self.rows(query).await?;
        let mut found = Vec::with_capacity(rows.len());
        for row in &rows {
            found.push((row.get::<i64>("since")?, row.get::<u64>("bytes")?));
        }
        let bytes = |since: &i64| {
            found
                .iter()
                .find(|(of, _)| of == since)
                .map_or(0, |of| of.1)
        };
        Ok(since.iter().map(bytes).collect())
    }

    /// What each store holds.
    pub async fn media_by_store(&self) -> Result<Vec<StoreUsage>> {
        let query = self.sql(
            "SELECT store, COUNT(*) AS blobs, CAST(SUM(size) AS BIGINT) AS bytes \
             FROM media_blob GROUP BY store ORDER BY store",
        );
        let rows = self.rows(query).await?;
        rows.iter()
            .map(|row| {
                Ok(StoreUsage {
                    store: row.get("store")?,
                    blobs: row.get("blobs")?,
                    bytes: row.get("bytes")?,
                })
            })
            .collect()
    }

    /// Who has the most.
    pub async fn media_by_user(&self, limit: usize) -> Result<Vec<UserUsage>> {
        let query = self
            .sql(
                "SELECT owner, COUNT(*) AS files, CAST(SUM(size) AS BIGINT) AS bytes \
                 FROM media GROUP BY owner ORDER BY bytes DESC, owner LIMIT $1",
            )
            .bind(limit);
        let rows = self.rows(query).await?;
        rows.iter()
            .map(|row| {
                Ok(UserUsage {
                    owner: row.get("owner")?,
                    files: row.get("files")?,
                    bytes: row.get("bytes")?,
                })
            })
            .collect()
    }
}
