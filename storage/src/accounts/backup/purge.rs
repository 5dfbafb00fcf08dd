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

    /// Deletes the backups of users whose account has ended, and all sessions that belong to no backup. Gives their
    /// number. Between pieces there is a pause, so that it takes little from what matters more.
    pub(crate) async fn purge_backups(&self, pause: Duration) -> Result<u64> {
        self.purge_ended().await?;
        let mut gone = 0;
        while let Some(deleted) = self.purge_piece().await? {
            gone += deleted;
            self.clock().sleep(pause).await;
        }
        Ok(gone)
    }

    /// Deletes some sessions of a shelf, and with the last ones the shelf; `None` if there is none. Of all processes one
    /// works on a shelf at a time.
    async fn purge_piece(&self) -> Result<Option<u64>> {
        let any = self.sql("SELECT shelf FROM backup_gone LIMIT 1");
        if self.row(any).await?.is_none() {
            return Ok(None);
        }
        let _turn = self.backup_turn().await;
        let mut tx = self.begin().await?;
        let lock = tx.sql("SELECT shelf FROM backup_gone ORDER BY shelf LIMIT 1 FOR_UPDATE");
        let Some(row) = tx.row(lock).await? else {
            return Ok(None);
        };
        let shelf: i64 = row.get("shelf")?;
        let delete = tx
            .sql(
                "DELETE FROM backup_session WHERE shelf = $1 AND (room_id, session_id) IN \
                 (SELECT room_id, session_id FROM backup_session WHERE shelf = $1 LIMIT $2)",
            )
            .bind(shelf)
            .bind(PIECE);
        let deleted = tx.execute(delete).await?;
        if deleted < PIECE as u64 {
            let done = tx
                .sql("DELETE FROM backup_gone WHERE shelf = $1")
                .bind(shelf);
            tx.execute(done).await?;
        }
        tx.commit().await?;
        Ok(Some(deleted))
    }

    /// Whose account has ended has no backups; also none that a request made that was on its way.
    async fn purge_ended(&self) -> Result<()> {
        let any = "SELECT b.user_no FROM backup b \
             JOIN account a ON a.user_no = b.user_no WHERE a.deactivated = 1 LIMIT 1";
        if self.row(self.sql(any)).await?.is_none() {
            return Ok(());
        }
        let _turn = self.backup_turn().await;
        let mut tx = self.begin().await?;
        let delete = tx.sql(
            "DELETE FROM backup WHERE user_no IN (SELECT b.user_no FROM backup b \
             JOIN account a ON a.user_no = b.user_no WHERE a.deactivated = 1) RETURNING shelf",
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
