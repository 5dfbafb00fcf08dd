//! What it takes to register: tokens that the operator gives out, and accounts that wait for the operator's approval.
//!
//! A registration under way holds one of its token's uses until its session ends. That it is completed is written in the
//! commit that makes the account, once, however often its answer is lost.

use ruma::OwnedUserId;

use super::tasks::write_task;
use crate::engine::sql::{Columns as _, ReadRow};
use crate::facts::account::admission::hash;
use crate::{Result, Store, UserNo};

/// A token that lets people register.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RegistrationToken {
    /// What people are told.
    pub token: String,
    /// How many accounts may be made with it; `None`: any number.
    pub uses_allowed: Option<i64>,
    /// How many registrations are under way with it.
    pub pending: i64,
    /// How many accounts have been made with it.
    pub completed: i64,
    /// Since when it is there, in milliseconds since 1970.
    pub created_ms: i64,
    /// Until when it is good, likewise.
    pub expires_ms: Option<i64>,
}

/// An account that waits for approval.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AwaitingApproval {
    /// The user's number.
    pub user: UserNo,
    /// The user.
    pub user_id: OwnedUserId,
    /// Since when, in milliseconds since 1970.
    pub since_ms: i64,
}

impl Store {
    /// Adds a token that lets people register, with so many uses until then; `false` if there is one of that name.
    pub async fn add_registration_token(
        &self,
        token: &str,
        uses_allowed: Option<i64>,
        expires_ms: Option<i64>,
    ) -> Result<bool> {
        let query = self
            .sql(
                "INSERT INTO registration_token (hash, token, uses_allowed, completed, created_ms, expires_ms) \
                 VALUES ($1, $2, $3, 0, $4, $5) ON CONFLICT (hash) DO NOTHING",
            )
            .bind(hash(token))
            .bind(token)
            .bind(uses_allowed)
            .bind(self.clock().now_ms())
            .bind(expires_ms);
        Ok(self.execute(query).await? == 1)
    }

    /// The tokens, in the order of when they were added.
    pub async fn registration_tokens(&self) -> Result<Vec<RegistrationToken>> {
        let query = self
            .sql(
                "SELECT t.token, t.uses_allowed, t.completed, t.created_ms, t.expires_ms, \
                 (SELECT COUNT(*) FROM registration_token_pending p \
                 WHERE p.hash = t.hash AND p.expires_ms > $1) AS pending \
                 FROM registration_token t ORDER BY t.created_ms, t.hash",
            )
            .bind(self.clock().now_ms());
        self.rows(query).await?.iter().map(read_token).collect()
    }

    /// Deletes a token; `false` if there is none. Registrations that have one of its uses already are completed.
    pub async fn delete_registration_token(&self, token: &str) -> Result<bool> {
        let query = self
            .sql("DELETE FROM registration_token WHERE hash = $1")
            .bind(hash(token));
        Ok(self.execute(query).await? == 1)
    }

    /// Whether a token has a use left.
    pub async fn registration_token_holds(&self, token: &str) -> Result<bool> {
        let query = self
            .sql(
                "SELECT t.completed FROM registration_token t WHERE t.hash = $1 \
                 AND (t.expires_ms IS NULL OR t.expires_ms > $2) \
                 AND (t.uses_allowed IS NULL OR t.completed + (SELECT COUNT(*) \
                 FROM registration_token_pending p WHERE p.hash = $1 AND p.expires_ms > $2) \
                 < t.uses_allowed)",
            )
            .bind(hash(token))
            .bind(self.clock().now_ms());
        Ok(self.row(query).await?.is_some())
    }

    /// Takes one of a token's uses for a session until then; `false` if it has none left.
    pub async fn reserve_registration_token(
        &self,
        token: &str,
        session: &str,
        until_ms: i64,
    ) -> Result<bool> {
        let (hash, now) = (hash(token), self.clock().now_ms());
        let mut tx = self.begin().await?;
        // Others who want one wait here.
        let lock = tx
            .sql("UPDATE registration_token SET completed = completed WHERE hash = $1")
            .bind(hash.as_str());
        if tx.execute(lock).await? == 0 {
            tx.rollback().await;
            return Ok(false);
        }
        let expired = tx
            .sql("DELETE FROM registration_token_pending WHERE expires_ms <= $1")
            .bind(now);
        tx.execute(expired).await?;
        let reserve = tx
            .sql(
                "INSERT INTO registration_token_pending (session, hash, expires_ms) \
                 SELECT $1, t.hash, $3 FROM registration_token t WHERE t.hash = $2 \
                 AND (t.expires_ms IS NULL OR t.expires_ms > $4) \
                 AND (t.uses_allowed IS NULL OR t.completed + (SELECT COUNT(*) \
                 FROM registration_token_pending p WHERE p.hash = $2 AND p.session <> $1) \
                 < t.uses_allowed) \
                 ON CONFLICT (session) DO UPDATE SET hash = excluded.hash, expires_ms = excluded.expires_ms",
            )
            .bind(session)
            .bind(hash.as_str())
            .bind(until_ms)
            .bind(now);
        let reserved = tx.execute(reserve).await? == 1;
        tx.commit().await?;
        Ok(reserved)
    }

    /// The first accounts after this one that wait for approval.
    pub async fn awaiting_approval(
        &self,
        after: UserNo,
        limit: usize,
    ) -> Result<Vec<AwaitingApproval>> {
        let query = self
            .sql(
                "SELECT w.user_no, u.user_id, w.since_ms FROM awaiting_approval w \
                 JOIN user_name u ON u.no = w.user_no WHERE w.user_no > $1 ORDER BY w.user_no LIMIT $2",
            )
            .bind(after)
            .bind(limit);
        let rows = self.rows(query).await?;
        let read = |row: &ReadRow| {
            Ok(AwaitingApproval {
                user: row.get("user_no")?,
                user_id: row.get("user_id")?,
                since_ms: row.get("since_ms")?,
            })
        };
        rows.iter().map(read).collect()
    }

    /// Approves an account, and writes a task down in the same moment, if there is one: its kind, and what it is about.
    /// `false` if the account doesn't wait for that.
    pub async fn approve(&self, user: UserNo, task: Option<(&str, &str)>) -> Result<bool> {
        let (no, now_ms) = (self.next_task_no().await?, self.clock().now_ms());
        let mut tx = self.begin().await?;
        let approve = tx
            .sql("DELETE FROM awaiting_approval WHERE user_no = $1")
            .bind(user);
        let waited = tx.execute(approve).await? == 1;
        if let Some(task) = task.filter(|_| waited) {
            write_task(&mut tx, no, task, now_ms).await?;
        }
        tx.commit().await?;
        if task.is_some() && waited {
            self.core.tasks_added.notify_one();
            // It is approved, whatever becomes of these.
            if let Err(error) = self.forget_old_tasks().await {
                tracing::warn!(%error, "old tasks can't be forgotten");
            }
        }
        Ok(waited)
    }

    /// Which policies a user has accepted, in which versions.
    pub async fn accepted_terms(&self, user: UserNo) -> Result<Vec<(String, String)>> {
        let query = self
            .sql("SELECT policy, version FROM accepted_terms WHERE user_no = $1 ORDER BY policy")
            .bind(user);
        let rows = self.rows(query).await?;
        let read = |row: &ReadRow| Ok((row.get("policy")?, row.get("version")?));
        rows.iter().map(read).collect()
    }
}

fn read_token(row: &ReadRow) -> Result<RegistrationToken> {
    Ok(RegistrationToken {
        token: row.get("token")?,
        uses_allowed: row.get("uses_allowed")?,
        pending: row.get("pending")?,
        completed: row.get("completed")?,
        created_ms: row.get("created_ms")?,
        expires_ms: row.get("expires_ms")?,
    })
}

#[cfg(test)]
mod tests {
    use ruma::{UserId, user_id};

    use super::*;
    use crate::testing::each_database;
    use crate::{Admission, NewAccount, TokenUse};

    async fn one(store: &Store) -> RegistrationToken {
        store.registration_tokens().await.unwrap().remove(0)
    }

    #[tokio::test]
    async fn a_tokens_uses_are_counted() {
        each_database(async |store| {
            let token = "two \u{0}";
            assert!(!store.registration_token_holds(token).await.unwrap());
            let add = async |uses, until| {
                let added = store.add_registration_token(token, uses, until);
                added.await.unwrap()
            };
            assert!(add(Some(2), None).await);
            assert!(!add(None, None).await);
            let until = store.clock().now_ms() + 1_000_000;
            let reserve = async |session: &str, until| {
                let reserved = store.reserve_registration_token(token, session, until);
                reserved.await.unwrap()
            };
            assert!(reserve("a", until).await);
            // Of one session, once.
            assert!(reserve("a", until).await);
            // Given back at once.
            assert!(reserve("gone", 0).await);
            assert!(reserve("b", until).await);
            assert!(!reserve("c", until).await);
            assert!(!store.registration_token_holds(token).await.unwrap());
            assert_eq!(
                (one(&store).await.pending, one(&store).await.completed),
                (2, 0)
            );

            let admission = Admission {
                token: Some(TokenUse {
                    session: "a".into(),
                    token: token.into(),
                }),
                terms: vec![("privacy".into(), "1".into())],
                awaits_approval: true,
                session: None,
            };
            let account = NewAccount {
                password_hash: Some("$x".into()),
                admission,
                ..NewAccount::default()
            };
            let ada = user_id!("@ada:here");
            let made = store.create_account(ada, account.clone(), None).await;
            let ada_no = made.unwrap().unwrap();
            // A second time nothing is made, and nothing counted.
            let made = store.create_account(ada, account, None).await;
            assert_eq!(made.unwrap(), None);
            assert_eq!(
                (one(&store).await.pending, one(&store).await.completed),
                (1, 1)
            );
            assert!(!reserve("c", until).await);
            let terms = store.accepted_terms(ada_no).await.unwrap();
            assert_eq!(terms, [("privacy".to_owned(), "1".to_owned())]);

            assert!(store.account(ada).await.unwrap().unwrap().awaits_approval);
            let waiting = store.awaiting_approval(UserNo(0), 10).await.unwrap();
            assert_eq!((waiting.len(), &*waiting[0].user_id), (1, ada));
            let tell = Some(("tell", "ada"));
            assert!(store.approve(ada_no, tell).await.unwrap());
            let task = store.open_task(0).await.unwrap().unwrap();
            assert_eq!((&*task.kind, &*task.what), ("tell", "ada"));
            // A second time nobody is told.
            assert!(!store.approve(ada_no, tell).await.unwrap());
            assert_eq!(store.open_task(task.no).await.unwrap(), None);
            assert!(!store.account(ada).await.unwrap().unwrap().awaits_approval);

            assert!(store.delete_registration_token(token).await.unwrap());
            assert!(!store.delete_registration_token(token).await.unwrap());
            assert!(!reserve("d", until).await);
        })
        .await;
    }

    /// What is reserved may be another's by the time that the account is made.
    #[tokio::test]
    async fn a_use_is_taken_when_the_account_is_made() {
        each_database(async |store| {
            let until = store.clock().now_ms() + 1_000_000;
            for token in ["one", "two"] {
                let added = store.add_registration_token(token, Some(1), None);
                assert!(added.await.unwrap());
            }
            let reserve = async |token: &str, session: &str| {
                let reserved = store.reserve_registration_token(token, session, until);
                reserved.await.unwrap()
            };
            let made = async |user: &UserId, token: &str, session: &str| {
                let token = Some(TokenUse {
                    session: session.into(),
                    token: token.into(),
                });
                let admission = Admission {
                    token,
                    ..Admission::default()
                };
                let account = NewAccount {
                    admission,
                    ..NewAccount::default()
                };
                let made = store.create_account(user, account, None).await;
                made.unwrap().is_some()
            };
            // A session goes on with another token: the first one's use is anybody's.
            assert!(reserve("one", "a").await && reserve("two", "a").await);
            assert!(reserve("one", "b").await);
            assert!(!made(user_id!("@a:here"), "one", "a").await);
            assert_eq!(store.account(user_id!("@a:here")).await.unwrap(), None);
            assert!(made(user_id!("@b:here"), "one", "b").await);
            assert!(made(user_id!("@c:here"), "two", "a").await);
            // Once each.
            for token in ["one", "two"] {
                assert!(!made(user_id!("@d:here"), token, "a").await);
            }
            let all = store.registration_tokens().await.unwrap();
            assert!(
                all.iter()
                    .all(|token| (token.completed, token.pending) == (1, 0))
            );
        })
        .await;
    }

    #[tokio::test]
    async fn a_token_ends_when_its_time_is_over() {
        each_database(async |store| {
            let now = store.clock().now_ms();
            for (token, until, holds) in [("old", now, false), ("new", now + 1_000_000, true)] {
                let added = store.add_registration_token(token, None, Some(until));
                assert!(added.await.unwrap());
                assert_eq!(store.registration_token_holds(token).await.unwrap(), holds);
                let reserved = store.reserve_registration_token(token, token, now + 1_000_000);
                assert_eq!(reserved.await.unwrap(), holds);
            }
        })
        .await;
    }
}
