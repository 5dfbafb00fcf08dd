//! Leases: which of several processes on one database does long work that only one may do at a time.

use crate::engine::db::Tx;
use crate::{Result, Store};

/// Work that one process at a time does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Duty {
    /// Sending to other servers.
    Sending,
    /// Collecting snapshots that nothing refers to.
    Collecting,
}

impl Duty {
    /// Its row in `sender_lease`, which began with the sender's alone.
    fn id(self) -> i64 {
        match self {
            Self::Sending => 1,
            Self::Collecting => 2,
        }
    }
}

impl Store {
    /// Takes or renews the lease on a duty for `owner` until `until` (ms); says whether it has it.
    pub async fn take_duty(&self, duty: Duty, owner: &str, now: i64, until: i64) -> Result<bool> {
        let query = self
            .sql(
                "INSERT INTO sender_lease (id, owner, until) VALUES ($4, $1, $3) \
                 ON CONFLICT (id) DO UPDATE SET owner = excluded.owner, until = excluded.until \
                 WHERE sender_lease.owner = $1 OR sender_lease.until < $2",
            )
            .bind(owner.to_owned())
            .bind(now)
            .bind(until)
            .bind(duty.id());
        Ok(self.execute(query).await? > 0)
    }

    /// Gives the lease back, so that another process needn't wait for its end.
    pub async fn release_duty(&self, duty: Duty, owner: &str) -> Result<()> {
        let query = self
            .sql("DELETE FROM sender_lease WHERE id = $1 AND owner = $2")
            .bind(duty.id())
            .bind(owner.to_owned());
        self.execute(query).await?;
        Ok(())
    }
}

/// The fence: whether `owner` still has the lease. Until `tx` ends nobody can take it, so that what is
/// written in it is never the work of somebody who has lost it, however long they were asleep.
pub(crate) async fn holds(tx: &mut Tx, duty: Duty, owner: &str) -> Result<bool> {
    let query = tx
        .sql("SELECT id FROM sender_lease WHERE id = $1 AND owner = $2 FOR_UPDATE")
        .bind(duty.id())
        .bind(owner.to_owned());
    Ok(tx.row(query).await?.is_some())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::each_database;

    #[tokio::test]
    async fn the_lease_has_one_owner_at_a_time() {
        each_database(async |store: Store| {
            let take = async |owner, now, until| {
                let taken = store.take_duty(Duty::Sending, owner, now, until).await;
                taken.unwrap()
            };
            assert!(take("one", 0, 10).await);
            assert!(!take("two", 5, 15).await);
            assert!(take("one", 9, 20).await);
            assert!(!take("two", 20, 30).await);
            assert!(take("two", 21, 31).await);
            assert!(!take("one", 22, 40).await);
            store.release_duty(Duty::Sending, "one").await.unwrap();
            assert!(!take("one", 22, 40).await);
            store.release_duty(Duty::Collecting, "two").await.unwrap();
            assert!(!take("one", 22, 40).await, "that was another duty");
            store.release_duty(Duty::Sending, "two").await.unwrap();
            assert!(take("one", 22, 40).await);
        })
        .await;
    }

    #[tokio::test]
    async fn duties_are_apart_and_the_fence_knows_the_owner() {
        each_database(async |store: Store| {
            for (duty, owner) in [(Duty::Sending, "one"), (Duty::Collecting, "two")] {
                assert!(store.take_duty(duty, owner, 0, 10).await.unwrap());
            }
            let mut tx = store.begin().await.unwrap();
            assert!(holds(&mut tx, Duty::Collecting, "two").await.unwrap());
            assert!(!holds(&mut tx, Duty::Collecting, "one").await.unwrap());
            tx.rollback().await;
        })
        .await;
    }
}
