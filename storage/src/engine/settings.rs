//! Facts about this database, recorded once: whose it is.

use crate::engine::db::Columns as _;
use crate::{Error, Result, Store};

impl Store {
    /// Records `value` under `name` unless something is recorded already; returns what is recorded.
    /// Processes that start at once agree on the first.
    pub async fn claim_setting(&self, name: &str, value: &str) -> Result<String> {
        let insert = self
            .sql("INSERT INTO meta (name, value) VALUES ($1, $2) ON CONFLICT (name) DO NOTHING")
            .bind(name.to_owned())
            .bind(value.to_owned());
        self.execute(insert).await?;
        let select = self
            .sql("SELECT value FROM meta WHERE name = $1")
            .bind(name.to_owned());
        let row = self.row(select).await?;
        let row = row.ok_or_else(|| Error::broken("a setting that was just written is missing"))?;
        Ok(row.raw(0)?)
    }
}

#[cfg(test)]
mod tests {
    use crate::testing::each_database;

    #[tokio::test]
    async fn the_first_claim_stands() {
        each_database(|store| async move {
            assert_eq!(
                store.claim_setting("server_name", "a.org").await.unwrap(),
                "a.org"
            );
            assert_eq!(
                store.claim_setting("server_name", "b.org").await.unwrap(),
                "a.org"
            );
        })
        .await;
    }
}
