//! Tokens that the operator gives out, with which people register.
//!
//! A registration under way holds one of its token's uses until its session ends. That it is completed is written in the
//! commit that makes the account, once, however often its answer is lost.

use crate::engine::sql::{Columns as _, ReadRow};
use crate::facts::account::admission::hash;
use crate::{Result, Store, random};

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

/// A limit of a token's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenLimit {
    /// There is none.
    Without,
    /// This: accounts, or milliseconds since 1970.
    To(i64),
}

impl TokenLimit {
    /// The limit, if it is one.
    pub fn number(self) -> Option<i64> {
        match self {
            Self::Without => None,
            Self::To(number) => Some(number),
        }
    }
}

impl RegistrationToken {
    /// The longest one (client-server API, "Token-authenticated registration").
    pub const LONGEST: usize = 64;
    /// What those that nobody has chosen are made of: nothing that looks like something else.
    const ALPHABET: &[u8] = b"abcdefghijkmnpqrstuvwxyz23456789";

    /// Whether clients can send it (appendices, "Opaque identifiers").
    pub fn can_be(text: &str) -> bool {
        let fits = |c: u8| c.is_ascii_alphanumeric() || b"-._~".contains(&c);
        (1..=Self::LONGEST).contains(&text.len()) && text.bytes().all(fits)
    }

    /// A random one of so many characters.
    ///
    /// # Errors
    /// The system has no randomness to give.
    pub fn random(length: usize) -> Result<String> {
        random::letters(Self::ALPHABET, length)
    }
}

macro_rules! tokens {
    () => {
        "SELECT t.hash, t.token, t.uses_allowed, t.completed, t.created_ms, t.expires_ms, \
         (SELECT COUNT(*) FROM registration_token_pending p \
         WHERE p.hash = t.hash AND p.expires_ms > $1) AS pending FROM registration_token t "
    };
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

    /// So many of the tokens after so many (`page`), in the order of when they were added: those with which somebody can register
    /// now, those with which nobody can, or all.
    pub async fn registration_tokens(
        &self,
        valid: Option<bool>,
        page: (usize, usize),
    ) -> Result<Vec<RegistrationToken>> {
        let query = self
            .sql(concat!(
                "SELECT * FROM (",
                tokens!(),
                ") AS x WHERE CAST($2 AS BIGINT) IS NULL OR $2 = \
                 CASE WHEN (x.expires_ms IS NULL OR x.expires_ms > $1) AND \
                 (x.uses_allowed IS NULL OR x.completed + x.pending < x.uses_allowed) THEN 1 ELSE 0 END \
                 ORDER BY x.created_ms, x.hash LIMIT $3 OFFSET $4"
            ))
            .bind(self.clock().now_ms())
            .bind(valid)
            .bind(page.1)
            .bind(page.0);
        self.rows(query).await?.iter().map(read_token).collect()
    }

    /// A token, if there is one of that name.
    pub async fn registration_token(&self, token: &str) -> Result<Option<RegistrationToken>> {
        let query = self
            .sql(concat!(tokens!(), "WHERE t.hash = $2"))
            .bind(self.clock().now_ms())
            .bind(hash(token));
        self.row(query).await?.as_ref().map(read_token).transpose()
    }

    /// Changes how many accounts may be made with a token, or until when it is good; `false` if there is none of that name.
    pub async fn change_registration_token(
        &self,
        token: &str,
        uses_allowed: Option<TokenLimit>,
        expires_ms: Option<TokenLimit>,
    ) -> Result<bool> {
        let query = self
            .sql(
                "UPDATE registration_token SET \
                 uses_allowed = CASE WHEN $2 = 1 THEN CAST($3 AS BIGINT) ELSE uses_allowed END, \
                 expires_ms = CASE WHEN $4 = 1 THEN CAST($5 AS BIGINT) ELSE expires_ms END WHERE hash = $1",
            )
            .bind(hash(token))
            .bind(uses_allowed.is_some())
            .bind(uses_allowed.and_then(TokenLimit::number))
            .bind(expires_ms.is_some())
            .bind(expires_ms.and_then(TokenLimit::number));
        Ok(self.execute(query).await? == 1)
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
            let all = store.registration_tokens(None, (0, 9)).await.unwrap();
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

    #[tokio::test]
    async fn tokens_are_listed_and_changed() {
        each_database(async |store| {
            let now = store.clock().now_ms();
            for (token, uses, until) in [
                ("any", None, None),
                ("old", None, Some(now)),
                ("used up", Some(1), Some(now + 1_000_000)),
            ] {
                let added = store.add_registration_token(token, uses, until);
                assert!(added.await.unwrap());
            }
            let reserved = store.reserve_registration_token("used up", "a", now + 1_000_000);
            assert!(reserved.await.unwrap());
            let listed = async |valid, page| {
                let tokens = store.registration_tokens(valid, page).await.unwrap();
                let mut names: Vec<_> = tokens.into_iter().map(|one| one.token).collect();
                names.sort();
                names.join(", ")
            };
            assert_eq!(listed(None, (0, 9)).await, "any, old, used up");
            assert_eq!(listed(Some(true), (0, 9)).await, "any");
            assert_eq!(listed(Some(false), (0, 9)).await, "old, used up");
            // Each is on one page.
            let (first, second) = (listed(None, (0, 2)).await, listed(None, (2, 2)).await);
            let mut all: Vec<_> = first.split(", ").chain(second.split(", ")).collect();
            all.sort_unstable();
            assert_eq!(all, ["any", "old", "used up"]);

            let change = async |token: &str, uses, until| {
                let changed = store.change_registration_token(token, uses, until);
                changed.await.unwrap()
            };
            let (until, without) = (now + 1_000_000, Some(TokenLimit::Without));
            let to = |number| Some(TokenLimit::To(number));
            assert!(change("used up", to(2), None).await);
            assert!(change("old", None, to(until)).await);
            assert!(change("any", to(0), None).await);
            assert!(!change("none", without, without).await);
            assert_eq!(listed(Some(true), (0, 9)).await, "old, used up");
            let one = store.registration_token("used up").await.unwrap().unwrap();
            assert_eq!((one.uses_allowed, one.pending), (Some(2), 1));
            assert_eq!(one.expires_ms, Some(until));
            assert!(change("used up", without, without).await);
            let one = store.registration_token("used up").await.unwrap().unwrap();
            assert_eq!((one.uses_allowed, one.expires_ms), (None, None));
            assert_eq!(store.registration_token("none").await.unwrap(), None);
        })
        .await;
    }

    #[test]
    fn tokens_are_what_clients_can_send() {
        for (text, fine) in [
            ("abc-._~Z9", true),
            ("", false),
            ("a b", false),
            ("ä", false),
            (&*"x".repeat(64), true),
            (&*"x".repeat(65), false),
        ] {
            assert_eq!(RegistrationToken::can_be(text), fine, "{text}");
        }
        let random = RegistrationToken::random(64).unwrap();
        assert!(RegistrationToken::can_be(&random));
    }
}
