//! Whose turn it is to change backups.

use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::{Mutex, MutexGuard};

use crate::Store;

/// Who changes backups, and who waits to.
#[derive(Debug, Default)]
pub(crate) struct Turn {
    changing: Mutex<()>,
    there: AtomicUsize,
}

/// The turn, until it is dropped.
pub(super) struct Taken<'a> {
    _changing: MutexGuard<'a, ()>,
    _there: There<'a>,
}

/// One more is there, until it is dropped.
struct There<'a>(&'a AtomicUsize);

impl<'a> There<'a> {
    fn new(there: &'a AtomicUsize) -> Self {
        there.fetch_add(1, Ordering::Relaxed);
        Self(there)
    }
}

impl Drop for There<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Turn {
    async fn take(&self) -> Taken<'_> {
        let there = There::new(&self.there);
        Taken {
            _changing: self.changing.lock().await,
            _there: there,
        }
    }

    /// How many have the turn or wait for it.
    #[cfg(test)]
    fn there(&self) -> usize {
        self.there.load(Ordering::Relaxed)
    }
}

impl Store {
    /// The turn of who changes backups, until it is dropped; take it before a connection. In a process one does so at
    /// a time: who waits for another's lock would else keep a connection, and many of them all those that commits
    /// need.
    pub(super) async fn backup_turn(&self) -> Taken<'_> {
        self.core.backup_turn.take().await
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use ruma::{UserId, user_id};

    use crate::accounts::backup::held::Held;
    use crate::testing::{TestDatabase, eventually};
    use crate::{NewAccount, Store, UserNo};

    async fn account(store: &Store, id: &UserId) -> UserNo {
        let made = store.create_account(id, NewAccount::default(), None).await;
        made.unwrap().unwrap()
    }

    #[tokio::test]
    async fn who_waits_for_a_backup_keeps_no_commit_waiting() {
        let database = TestDatabase::postgres().await;
        let [store, other] = [database.open().await, database.open().await];
        let ada = account(&store, user_id!("@ada:here")).await;
        store.create_backup(ada, "a", "{}").await.unwrap();
        let mut tx = other.begin().await.unwrap();
        Held::lock(&mut tx, ada).await.unwrap();
        let mut waiting = tokio::task::JoinSet::new();
        for n in 0..100 {
            let store = store.clone();
            waiting.spawn(async move {
                match n % 2 {
                    0 => drop(store.put_backup_sessions(ada, 1, vec![]).await.unwrap()),
                    _ => store.update_backup(ada, 1, "a", "{}").await.unwrap(),
                }
            });
        }
        eventually("they stand wherever they wait", async || {
            store.core.backup_turn.there() == 100
        })
        .await;
        let others = tokio::time::timeout(
            Duration::from_secs(10),
            account(&store, user_id!("@bob:here")),
        );
        others.await.unwrap();
        assert_eq!(waiting.len(), 100);
        drop(tx);
        while let Some(done) = waiting.join_next().await {
            done.unwrap();
        }
        store.close().await;
        other.close().await;
        database.remove().await;
    }
}
