//! Accounts that wait for the operator's approval, and what their users have accepted.

use ruma::OwnedUserId;

use super::tasks::write_task;
use crate::engine::sql::{Columns as _, ReadRow};
use crate::{Result, Store, UserNo};

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

#[cfg(test)]
mod tests {
    use ruma::user_id;

    use super::*;
    use crate::testing::each_database;
    use crate::{Admission, NewAccount, RegistrationToken, TokenUse};

    async fn one(store: &Store) -> RegistrationToken {
        store
            .registration_tokens(None, (0, 1))
            .await
            .unwrap()
            .remove(0)
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
}
