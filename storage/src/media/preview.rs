//! Previews of links, and the pictures that were fetched for them.

use crate::engine::sql::{Columns as _, rows};
use crate::{Result, Store};

rows! {
    struct Picture<'a> {
        media_id: &'a str,
    }
}

impl Store {
    /// What is told of a link, as JSON, if that is known and hasn't expired.
    pub async fn url_preview(&self, key: &str) -> Result<Option<String>> {
        let query = self
            .sql("SELECT preview FROM url_preview WHERE key = $1 AND expires > $2")
            .bind(key)
            .bind(self.clock().now_ms());
        let row = self.row(query).await?;
        row.map(|row| row.get("preview")).transpose()
    }

    /// Keeps what is told of a link, until a time (ms).
    pub async fn put_url_preview(&self, key: &str, preview: &str, expires: i64) -> Result<()> {
        let query = self
            .sql(
                "INSERT INTO url_preview (key, preview, expires) VALUES ($1, $2, $3) \
                 ON CONFLICT (key) DO UPDATE SET preview = excluded.preview, expires = excluded.expires",
            )
            .bind(key)
            .bind(preview)
            .bind(expires);
        self.execute(query).await.map(drop)
    }

    /// Notes that a file of ours is a picture of a preview and goes at a time (ms).
    pub async fn put_preview_picture(&self, media_id: &str, until: i64) -> Result<()> {
        let query = self
            .sql(
                "INSERT INTO url_preview_picture (media_id, until) VALUES ($1, $2) \
                 ON CONFLICT (media_id) DO UPDATE SET until = excluded.until",
            )
            .bind(media_id)
            .bind(until);
        self.execute(query).await.map(drop)
    }

    /// Pictures of previews whose time is over; they are to be deleted, then forgotten.
    pub async fn stale_preview_pictures(&self, limit: usize) -> Result<Vec<String>> {
        let query = self
            .sql("SELECT media_id FROM url_preview_picture WHERE until <= $1 ORDER BY until LIMIT $2")
            .bind(self.clock().now_ms())
            .bind(limit);
        let rows = self.rows(query).await?;
        rows.iter().map(|row| row.get("media_id")).collect()
    }

    /// How many bytes the pictures of previews have.
    pub async fn preview_pictures_size(&self, origin: &str) -> Result<u64> {
        let query = self
            .sql(
                "SELECT CAST(COALESCE(SUM(m.size), 0) AS BIGINT) AS size FROM url_preview_picture AS p \
                 JOIN media AS m ON m.origin = $1 AND m.media_id = p.media_id",
            )
            .bind(origin);
        let row = self.row(query).await?;
        row.map_or(Ok(0), |row| row.get("size"))
    }

    /// Pictures of previews and their sizes, those first whose time is over first.
    pub async fn preview_pictures(&self, origin: &str, limit: usize) -> Result<Vec<(String, u64)>> {
        let query = self
            .sql(
                "SELECT p.media_id, m.size FROM url_preview_picture AS p \
                 JOIN media AS m ON m.origin = $1 AND m.media_id = p.media_id \
                 ORDER BY p.until, p.media_id LIMIT $2",
            )
            .bind(origin)
            .bind(limit);
        let rows = self.rows(query).await?;
        let all = rows.iter();
        all.map(|row| Ok((row.get("media_id")?, row.get("size")?)))
            .collect()
    }

    /// Forgets pictures of previews that were deleted.
    pub async fn forget_preview_pictures(&self, media_ids: &[String]) -> Result<()> {
        let pictures: Vec<Picture<'_>> = media_ids
            .iter()
            .map(|media_id| Picture { media_id })
            .collect();
        let query = self
            .sql(
                "DELETE FROM url_preview_picture WHERE media_id IN \
                 (SELECT x.media_id FROM ROWS($1) AS x)",
            )
            .rows(&pictures);
        self.execute(query).await.map(drop)
    }

    /// Deletes what is told of links and has expired; gives how many.
    pub async fn expire_url_previews(&self) -> Result<u64> {
        let query = self
            .sql("DELETE FROM url_preview WHERE expires <= $1")
            .bind(self.clock().now_ms());
        self.execute(query).await
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use crate::testing::TestDatabase;
    use crate::{Clock, Options, Store};

    #[tokio::test]
    async fn previews_and_their_pictures_have_their_time() {
        for database in TestDatabase::both().await {
            let clock = Clock::manual(1_000);
            let options = Options {
                clock: clock.clone(),
                ..database.options()
            };
            let store = Store::open(options).await.unwrap();
            assert_eq!(store.url_preview("k").await.unwrap(), None);
            store
                .put_url_preview("k", "{\"a\":\"\\u0000\"}", 2_000)
                .await
                .unwrap();
            store.put_url_preview("k", "{}", 3_000).await.unwrap();
            store.put_url_preview("other", "{}", 9_000).await.unwrap();
            store.put_preview_picture("p", 4_000).await.unwrap();
            store.put_preview_picture("q", 9_000).await.unwrap();
            assert_eq!(store.url_preview("k").await.unwrap().as_deref(), Some("{}"));
            clock.advance(Duration::from_secs(2));
            assert_eq!(store.url_preview("k").await.unwrap(), None);
            assert_eq!(store.expire_url_previews().await.unwrap(), 1);
            assert!(store.url_preview("other").await.unwrap().is_some());
            assert!(store.stale_preview_pictures(9).await.unwrap().is_empty());
            clock.advance(Duration::from_secs(1));
            let stale = store.stale_preview_pictures(9).await.unwrap();
            assert_eq!(stale, ["p"]);
            let all = store.preview_pictures("here", 1).await.unwrap();
            // Those that haven't come take no room.
            assert!(all.is_empty());
            assert_eq!(store.preview_pictures_size("here").await.unwrap(), 0);
            store.forget_preview_pictures(&stale).await.unwrap();
            assert!(store.stale_preview_pictures(9).await.unwrap().is_empty());
            store.close().await;
            database.remove().await;
        }
    }
}
