//! Which stores are this database's: each holds an id, which the database knows by the store's name.

use crate::engine::sql::Columns as _;
use crate::{Result, Store};

impl Store {
    /// The id of the store of this name.
    pub async fn media_store_id(&self, name: &str) -> Result<Option<String>> {
        let query = self
            .sql("SELECT id FROM media_store WHERE name = $1")
            .bind(name);
        let row = self.row(query).await?;
        row.map(|row| row.get("id")).transpose()
    }

    /// The store of this id.
    pub async fn media_store_of(&self, id: &str) -> Result<Option<String>> {
        let query = self
            .sql("SELECT name FROM media_store WHERE id = $1")
            .bind(id);
        let row = self.row(query).await?;
        row.map(|row| row.get("name")).transpose()
    }

    /// The id of a store, which is this one from now on if it has none.
    pub async fn begin_media_store(&self, name: &str, id: &str) -> Result<String> {
        let mut tx = self.begin().await?;
        let query = tx
            .sql(
                "INSERT INTO media_store (name, id) VALUES ($1, $2) \
                 ON CONFLICT (name) DO UPDATE SET id = media_store.id RETURNING id",
            )
            .bind(name)
            .bind(id);
        let row = tx.row(query).await?;
        let id = row.map_or(Ok(id.to_owned()), |row| row.get("id"))?;
        tx.commit().await?;
        Ok(id)
    }

    /// This is the id of a store from now on, whatever it was.
    pub async fn adopt_media_store(&self, name: &str, id: &str) -> Result<()> {
        let query = self
            .sql(
                "INSERT INTO media_store (name, id) VALUES ($1, $2) \
                 ON CONFLICT (name) DO UPDATE SET id = excluded.id",
            )
            .bind(name)
            .bind(id);
        self.execute(query).await?;
        Ok(())
    }
}
