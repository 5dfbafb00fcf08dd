//! Facts about this database, recorded once: whose it is.

use crate::engine::sql::Columns as _;
use crate::{Error, Result, Store};

impl Store {
    /// Records `value` under `name` unless something is recorded already; returns what is recorded.
    /// Processes that start at once agree on the first.
    pub async fn claim_setting(&self, name: &str, value: &str) -> Result<String> {
        let insert = self
            .sql("INSERT INTO meta (name, value) VALUES ($1, $2) ON CONFLICT (name) DO NOTHING")
            .bind(name)
            .bind(value);
        self.execute(insert).await?;
        let recorded = self.setting(name).await?;
        recorded.ok_or_else(|| Error::broken("a setting that was just written is missing"))
    }

    /// What is recorded under `name`.
    pub async fn setting(&self, name: &str) -> Result<Option<String>> {
        let query = self
            .sql("SELECT value FROM meta WHERE name = $1")
            .bind(name);
        let row = self.row(query).await?;
        row.map(|row| row.get("value")).transpose()
    }
}

#[cfg(test)]
mod tests {
    use crate::testing::each_database;

    #[tokio::test]
    async fn the_first_claim_stands() {
        each_database(|store| async move {
            assert_eq!(store.setting("server_name").await.unwrap(), None);
            assert_eq!(
                store.claim_setting("server_name", "a.org").await.unwrap(),
                "a.org"
            );
            assert_eq!(
                store.claim_setting("server_name", "b.org").await.unwrap(),
                "a.org"
            );
            let recorded = store.setting("server_name").await.unwrap();
            assert_eq!(recorded.as_deref(), Some("a.org"));
        })
        .await;
    }
}
