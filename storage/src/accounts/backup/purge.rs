//! What stands on shelves that no backup has any more goes, bit by bit. Any number of processes may do so at a time.

use std::time::Duration;

use crate::engine::sql::{Columns as _, rows};
use crate::{Result, Store};

rows! {
    struct Shelf {
        shelf: i64,
    }
}

/// How many sessions go at once.
const PIECE: usize = 500;

impl Store {
    /// Something is there to be purged.
    pub(crate) fn purge_soon(&self) {
        self.core.backups_gone.notify_one();
    }

    /// Resolves when something is there to be purged.
    pub(crate) async fn to_be_purged(&self) {
        self.core.backups_gone.notified().await;
    }

    /// Deletes the backups of users whose content is erased, and all sessions that belong to no backup. Gives their
    /// number. Between pieces there is a pause, so that it takes little from what matters more.
    pub(crate) async fn purge_backups(&self, pause: Duration) -> Result<u64> {
        self.purge_erased().await?;
        let mut gone = 0;
        while let Some(shelf) = self.gone_shelf().await? {
            loop {
                let query = self
                    .sql(
                        "DELETE FROM backup_session WHERE shelf = $1 AND (room_id, session_id) IN \
                         (SELECT room_id, session_id FROM backup_session WHERE shelf = $1 \
                         ORDER BY room_id, session_id LIMIT $2)",
                    )
                    .bind(shelf)
                    .bind(PIECE);
                let deleted = self.execute(query).await?;
                gone += deleted;
                if deleted == 0 {
                    break;
                }
                self.clock().sleep(pause).await;
            }
            // Others may have deleted what this would have, and left the rest.
            let query = self
                .sql(
                    "DELETE FROM backup_gone WHERE shelf = $1 \
                     AND NOT EXISTS (SELECT 1 FROM backup_session WHERE shelf = $1)",
                )
                .bind(shelf);
            self.execute(query).await?;
        }
        Ok(gone)
    }

    async fn gone_shelf(&self) -> Result<Option<i64>> {
        let query = self.sql("SELECT MIN(shelf) AS shelf FROM backup_gone");
        let row = self.row(query).await?;
        row.map_or(Ok(None), |row| row.get("shelf"))
    }

    /// Who is erased has no backups; also none that a request made that was on its way.
    async fn purge_erased(&self) -> Result<()> {
        let any = "SELECT user_no FROM backup \
             WHERE user_no IN (SELECT user_no FROM erasure) LIMIT 1";
        if self.row(self.sql(any)).await?.is_none() {
            return Ok(());
        }
        let mut tx = self.begin().await?;
        let delete = tx.sql(
            "DELETE FROM backup WHERE user_no IN (SELECT user_no FROM erasure) RETURNING shelf",
        );
        let rows = tx.rows(delete).await?;
        let shelves: Result<Vec<Option<i64>>> = rows.iter().map(|row| row.get("shelf")).collect();
        let shelves = shelves?.into_iter().flatten();
        let shelves: Vec<Shelf> = shelves.map(|shelf| Shelf { shelf }).collect();
        let list = tx
            .sql("INSERT INTO backup_gone (shelf) SELECT shelf FROM ROWS($1) AS x")
            .rows(&shelves);
        tx.execute(list).await?;
        tx.commit().await?;
        Ok(())
    }
}
