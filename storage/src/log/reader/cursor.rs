//! How far a reader has got, as it is written down: by who has the highest fence, and nobody else.

use crate::engine::db::Tx;
use crate::engine::sql::Columns as _;
use crate::{Error, Lease, Pos, Result};

/// Where the reader stands. From now on nobody with a lower fence moves it.
pub(super) async fn load(lease: &Lease) -> Result<Pos> {
    let query = lease
        .store()
        .sql(
            "INSERT INTO reader (name, fence, pos) VALUES ($1, $2, 0) \
             ON CONFLICT (name) DO UPDATE SET fence = excluded.fence \
             WHERE reader.fence <= excluded.fence RETURNING pos",
        )
        .bind(lease.name())
        .bind(lease.fence());
    let rows = lease.store().execute_returning(query).await?;
    let row = rows.first();
    let row = row.ok_or_else(|| Error::broken("the reader's cursor has a higher fence"))?;
    row.get("pos")
}

/// Writes down that it stands here; `false` if that is for another process to say by now.
pub(super) async fn save(lease: &Lease, at: Pos) -> Result<bool> {
    let query = lease
        .store()
        .sql(
            "UPDATE reader SET pos = CASE WHEN pos > $3 THEN pos ELSE $3 END \
             WHERE name = $1 AND fence = $2",
        )
        .bind(lease.name())
        .bind(lease.fence())
        .bind(at);
    Ok(lease.store().execute(query).await? > 0)
}

/// The same in a transaction, for work whose rows stand or fall with it.
pub(crate) async fn stands_at(lease: &Lease, tx: &mut Tx, at: Pos) -> Result<bool> {
    let query = tx
        .sql("UPDATE reader SET pos = $3 WHERE name = $1 AND fence = $2")
        .bind(lease.name())
        .bind(lease.fence())
        .bind(at);
    Ok(tx.execute(query).await? > 0)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::testing::TestDatabase;
    use crate::{Clock, Options, Store};

    const LENGTH: Duration = Duration::from_secs(6);

    #[tokio::test]
    async fn who_has_lost_the_lease_does_not_move_it() {
        for database in TestDatabase::both().await {
            let options = Options {
                clock: Clock::manual(1_000_000),
                ..database.options()
            };
            let store = Store::open(options).await.unwrap();
            let take = async || {
                let lease = Lease::take(&store, "reader", Some(LENGTH)).await;
                lease.unwrap().unwrap()
            };
            let frozen = take().await;
            assert_eq!(load(&frozen).await.unwrap(), Pos(0));
            assert!(save(&frozen, Pos(3)).await.unwrap());
            store.clock().advance(LENGTH);
            let next = take().await;
            // Between the two it may still say how far it has come: nobody has begun from there.
            assert!(save(&frozen, Pos(4)).await.unwrap());
            assert_eq!(load(&next).await.unwrap(), Pos(4));
            assert!(!save(&frozen, Pos(9)).await.unwrap());
            assert!(load(&frozen).await.is_err());
            assert!(save(&next, Pos(5)).await.unwrap());
            next.release().await.unwrap();
            assert_eq!(load(&take().await).await.unwrap(), Pos(5));
            store.close().await;
            database.remove().await;
        }
    }
}
