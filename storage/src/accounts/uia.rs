//! Sessions of user-interactive authentication, and nonces: an id, what it was begun for, what has been proved in it, and
//! when it ends. In the database, so that any process can end what another began.

use crate::engine::sql::Columns as _;
use crate::{Result, Store};

/// So many sessions an address, or a user, has at a time; of more, those go first in which nothing was proved, then those
/// that end first.
const MOST: usize = 200;
/// So many of them go at once.
const PIECE: usize = 100;

/// A session that is to begin.
#[derive(Debug, Clone, Copy)]
pub struct NewUiaSession<'a> {
    /// Its id, a secret.
    pub id: &'a str,
    /// What it is for.
    pub purpose: &'a str,
    /// By whom it is begun: a user, or an address or a block of them.
    pub peer: &'a str,
    /// The time, in milliseconds since 1970.
    pub now_ms: i64,
    /// When it ends, likewise.
    pub expires_ms: i64,
}

/// A session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UiaSession {
    /// Its id.
    pub id: String,
    /// What it is for.
    pub purpose: String,
    /// What has been proved: a JSON list.
    pub completed: String,
    /// When it ends, in milliseconds since 1970.
    pub expires_ms: i64,
}

impl Store {
    /// Begins a session, in which nothing has been proved. What has expired goes, and what the same address has too many of.
    pub async fn begin_uia_session(&self, new: NewUiaSession<'_>) -> Result<()> {
        let mut tx = self.begin().await?;
        let expired = tx
            .sql("DELETE FROM uia_session WHERE expires_ms <= $1")
            .bind(new.now_ms);
        tx.execute(expired).await?;
        let too_many = tx
            .sql(
                "DELETE FROM uia_session WHERE id IN (SELECT id FROM uia_session WHERE peer = $1 \
                 ORDER BY CASE WHEN completed = '[]' THEN 1 ELSE 0 END, expires_ms DESC, id \
                 LIMIT $2 OFFSET $3)",
            )
            .bind(new.peer)
            .bind(PIECE)
            .bind(MOST - 1);
        tx.execute(too_many).await?;
        let begin = tx
            .sql(
                "INSERT INTO uia_session (id, purpose, expires_ms, peer, completed) \
                 VALUES ($1, $2, $3, $4, '[]')",
            )
            .bind(new.id)
            .bind(new.purpose)
            .bind(new.expires_ms)
            .bind(new.peer);
        tx.execute(begin).await?;
        tx.commit().await?;
        Ok(())
    }

    /// A session, unless it has expired.
    pub async fn uia_session(&self, id: &str, now_ms: i64) -> Result<Option<UiaSession>> {
        let query = self
            .sql(
                "SELECT purpose, completed, expires_ms FROM uia_session \
                 WHERE id = $1 AND expires_ms > $2",
            )
            .bind(id)
            .bind(now_ms);
        let Some(row) = self.row(query).await? else {
            return Ok(None);
        };
        Ok(Some(UiaSession {
            id: id.to_owned(),
            purpose: row.get("purpose")?,
            completed: row.get("completed")?,
            expires_ms: row.get("expires_ms")?,
        }))
    }

    /// Changes what a session is for and what has been proved in it, as long as both are as in `before`; `false` if they
    /// aren't any more.
    pub async fn move_uia_session(
        &self,
        before: &UiaSession,
        purpose: &str,
        completed: &str,
    ) -> Result<bool> {
        let query = self
            .sql(
                "UPDATE uia_session SET purpose = $4, completed = $5 \
                 WHERE id = $1 AND purpose = $2 AND completed = $3",
            )
            .bind(before.id.as_str())
            .bind(before.purpose.as_str())
            .bind(before.completed.as_str())
            .bind(purpose)
            .bind(completed);
        Ok(self.execute(query).await? == 1)
    }

    /// Ends a session; `false` if it had ended: of several who try, one gets `true`.
    pub async fn end_uia_session(&self, id: &str) -> Result<bool> {
        let query = self.sql("DELETE FROM uia_session WHERE id = $1").bind(id);
        Ok(self.execute(query).await? == 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::each_database;

    fn new<'a>(id: &'a str, purpose: &'a str, now_ms: i64, expires_ms: i64) -> NewUiaSession<'a> {
        NewUiaSession {
            id,
            purpose,
            peer: "192.0.2.1",
            now_ms,
            expires_ms,
        }
    }

    #[tokio::test]
    async fn a_session_serves_once_and_not_for_ever() {
        each_database(async |store| {
            let begin = async |new| store.begin_uia_session(new).await.unwrap();
            begin(new("s", "register \u{0}", 0, 10)).await;
            let session = store.uia_session("s", 9).await.unwrap().unwrap();
            assert_eq!(session.purpose, "register \u{0}");
            assert_eq!((&*session.completed, session.expires_ms), ("[]", 10));
            assert_eq!(store.uia_session("s", 10).await.unwrap(), None);
            assert_eq!(store.uia_session("\u{0}", 0).await.unwrap(), None);
            let moved = async |purpose: &str, completed: &str| {
                let moved = store.move_uia_session(&session, purpose, completed);
                moved.await.unwrap()
            };
            assert!(moved("y", "[\"\\u0000\"]").await);
            // Of two who have seen the same, one is in time.
            assert!(!moved("z", "[]").await);
            let session = store.uia_session("s", 9).await.unwrap().unwrap();
            assert_eq!(
                (&*session.purpose, &*session.completed),
                ("y", "[\"\\u0000\"]")
            );
            assert!(store.end_uia_session("s").await.unwrap());
            assert!(!store.end_uia_session("s").await.unwrap());
            begin(new("t", "x", 10, 20)).await;
            begin(new("u", "x", 20, 30)).await;
            assert!(
                !store.end_uia_session("t").await.unwrap(),
                "it expired and went"
            );
        })
        .await;
    }

    #[tokio::test]
    async fn an_address_has_so_many_at_a_time() {
        each_database(async |store| {
            let other = NewUiaSession {
                peer: "192.0.2.2",
                ..new("other", "x", 0, 1)
            };
            store.begin_uia_session(other).await.unwrap();
            let ids: Vec<String> = (0..MOST + 20).map(|n| format!("s{n:04}")).collect();
            for (at, id) in ids.iter().enumerate() {
                let expires = 1_000 + i64::try_from(at).unwrap();
                let new = new(id, "x", 0, expires);
                store.begin_uia_session(new).await.unwrap();
            }
            let mut held = 0;
            for id in &ids {
                held += usize::from(store.uia_session(id, 0).await.unwrap().is_some());
            }
            assert_eq!(held, MOST);
            assert!(store.uia_session(&ids[0], 0).await.unwrap().is_none());
            assert!(
                store
                    .uia_session(&ids[MOST + 19], 0)
                    .await
                    .unwrap()
                    .is_some()
            );
            // What somebody has proved isn't pushed out by sessions in which nothing is.
            let first = new("proved", "x", 0, 999);
            store.begin_uia_session(first).await.unwrap();
            let proved = store.uia_session("proved", 0).await.unwrap().unwrap();
            let moved = store.move_uia_session(&proved, "x", "[[\"m.login.terms\",{}]]");
            assert!(moved.await.unwrap());
            for n in 0..MOST {
                let id = format!("t{n:04}");
                store
                    .begin_uia_session(new(&id, "x", 0, 9_999))
                    .await
                    .unwrap();
            }
            assert!(store.uia_session("proved", 0).await.unwrap().is_some());
            // Nobody pushes another's out.
            assert!(store.uia_session("other", 0).await.unwrap().is_some());
        })
        .await;
    }
}
