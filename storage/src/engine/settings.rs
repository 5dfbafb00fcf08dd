//! Facts about this database, recorded once: whose it is.

use crate::engine::db::literally;
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

    /// What is recorded under names that begin like this: what follows in each name, and what is recorded.
    pub async fn settings_beginning(&self, beginning: &str) -> Result<Vec<(String, String)>> {
        let query = self
            .sql("SELECT name, value FROM meta WHERE name LIKE $1 ESCAPE '!' ORDER BY name LIMIT 1000")
            .bind(format!("{}%", literally(beginning)));
        let mut found = Vec::new();
        for row in self.rows(query).await? {
            let name: String = row.get("name")?;
            // One database looks at upper and lower case, the other doesn't.
            if let Some(rest) = name.strip_prefix(beginning) {
                found.push((rest.to_owned(), row.get("value")?));
            }
        }
        Ok(found)
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

    #[tokio::test]
    async fn settings_are_found_by_how_their_names_begin() {
        each_database(|store| async move {
            for (name, value) in [
                ("key:a_b:2", "two"),
                ("key:a_b:1", "one"),
                ("key:axb:1", "other"),
                ("KEY:a_b:3", "other"),
                ("key:a_b", "other"),
            ] {
                store.claim_setting(name, value).await.unwrap();
            }
            let found = store.settings_beginning("key:a_b:").await.unwrap();
            let found: Vec<_> = found.iter().map(|(a, b)| (&**a, &**b)).collect();
            assert_eq!(found, [("1", "one"), ("2", "two")]);
            assert_eq!(store.settings_beginning("none%").await.unwrap(), []);
        })
        .await;
    }
}
