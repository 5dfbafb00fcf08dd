//! Sessions in which it is found out whose a third-party identifier is: a code is sent there, and whoever gets it enters it.
//!
//! In the database, so that any process can end what another began. A session is good for one purpose, and for who
//! knows its client's secret; both secret and code are hashes here.

use crate::engine::sql::Columns as _;
use crate::{Result, Store, ThirdParty, UserNo};

/// So many codes may be tried of each that is sent.
const TRIES: i64 = 10;

/// What a session is begun with, or goes on with.
#[derive(Debug, Clone)]
pub struct NewValidation<'a> {
    /// Its id, unless there is a session of that purpose, identifier and secret.
    pub sid: &'a str,
    /// For what alone it is good.
    pub purpose: &'a str,
    /// Whose it is to be found out.
    pub third_party: &'a ThirdParty,
    /// Whose account it is to serve for, if it is somebody's: it is good for no other, and goes when that account's password
    /// changes, the account ends, or it loses the identifier.
    pub owner: Option<UserNo>,
    /// Hash of the client's secret.
    pub secret: &'a str,
    /// Hash of the code.
    pub code: &'a str,
    /// By a higher one than the last the client wants another letter.
    pub send_attempt: i64,
    /// Where the user goes on.
    pub next_link: Option<&'a str>,
    /// When it ends, in milliseconds since 1970.
    pub expires_ms: i64,
}

/// A session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Validation {
    /// For what alone it is good.
    pub purpose: String,
    /// What it is about.
    pub third_party: ThirdParty,
    /// Whose account it is to serve for, if it is somebody's.
    pub owner: Option<UserNo>,
    /// Hash of the client's secret.
    pub secret: String,
    /// When the right code came, in milliseconds since 1970.
    pub validated_ms: Option<i64>,
    /// Where the user goes on.
    pub next_link: Option<String>,
}

/// What becomes of a code.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Tried {
    /// It is the right one; where the user goes on.
    Right(Option<String>),
    /// It isn't.
    Wrong,
    /// There is no such session any more, or too many codes were tried.
    Gone,
}

impl Store {
    /// The session that is asked for, and whether a letter with the new code is to be sent. What has expired goes.
    pub async fn begin_validation(&self, new: &NewValidation<'_>) -> Result<(String, bool)> {
        let now_ms = self.clock().now_ms();
        let mut tx = self.begin().await?;
        let expired = tx
            .sql("DELETE FROM validation WHERE expires_ms <= $1")
            .bind(now_ms);
        tx.execute(expired).await?;
        // One statement, as the same client may ask twice at once.
        let begun = tx
            .sql(
                "INSERT INTO validation (sid, purpose, medium, address, secret, code, send_attempt, tries, \
                 next_link, created_ms, expires_ms, user_no) \
                 VALUES ($1, $2, $3, $4, $5, $6, $7, 0, $8, $9, $10, $11) \
                 ON CONFLICT (purpose, medium, address, secret) DO UPDATE SET code = excluded.code, tries = 0, \
                 send_attempt = excluded.send_attempt, next_link = excluded.next_link, \
                 expires_ms = excluded.expires_ms, user_no = excluded.user_no \
                 WHERE validation.send_attempt < excluded.send_attempt AND validation.validated_ms IS NULL \
                 RETURNING sid",
            )
            .bind(new.sid)
            .bind(new.purpose)
            .bind(new.third_party.medium)
            .bind(new.third_party.address.as_str())
            .bind(new.secret)
            .bind(new.code)
            .bind(new.send_attempt)
            .bind(new.next_link)
            .bind(now_ms)
            .bind(new.expires_ms)
            .bind(new.owner);
        let mut found = tx.row(begun).await?;
        let is_sent = found.is_some();
        if !is_sent {
            let query = tx
                .sql(
                    "SELECT sid FROM validation \
                     WHERE purpose = $1 AND medium = $2 AND address = $3 AND secret = $4",
                )
                .bind(new.purpose)
                .bind(new.third_party.medium)
                .bind(new.third_party.address.as_str())
                .bind(new.secret);
            found = tx.row(query).await?;
        }
        let sid = match found {
            Some(row) => row.get("sid")?,
            None => new.sid.to_owned(),
        };
        tx.commit().await?;
        Ok((sid, is_sent))
    }

    /// A session, unless it has expired.
    pub async fn validation(&self, sid: &str) -> Result<Option<Validation>> {
        let query = self
            .sql(
                "SELECT purpose, medium, address, user_no, secret, validated_ms, next_link FROM validation \
                 WHERE sid = $1 AND expires_ms > $2",
            )
            .bind(sid)
            .bind(self.clock().now_ms());
        let Some(row) = self.row(query).await? else {
            return Ok(None);
        };
        Ok(Some(Validation {
            purpose: row.get("purpose")?,
            third_party: ThirdParty {
                medium: row.get("medium")?,
                address: row.get("address")?,
            },
            owner: row.get("user_no")?,
            secret: row.get("secret")?,
            validated_ms: row.get("validated_ms")?,
            next_link: row.get("next_link")?,
        }))
    }

    /// Tries a code, by its hash, in a session; `secret`: only if its client has that one. From then on it goes on until
    /// `expires_ms`.
    pub async fn try_code(
        &self,
        sid: &str,
        secret: Option<&str>,
        code: &str,
        expires_ms: i64,
    ) -> Result<Tried> {
        let now_ms = self.clock().now_ms();
        // A try counts before anybody looks whether it is right: however many come at once.
        let counted = self
            .sql(
                "UPDATE validation SET tries = tries + 1 WHERE sid = $1 AND expires_ms > $2 AND tries < $3 \
                 AND (secret = $4 OR $5 = 0) RETURNING code, validated_ms, next_link",
            )
            .bind(sid)
            .bind(now_ms)
            .bind(TRIES)
            .bind(secret.unwrap_or_default())
            .bind(i64::from(secret.is_some()));
        let rows = self.execute_returning(counted).await?;
        let Some(row) = rows.first() else {
            return Ok(Tried::Gone);
        };
        if row.get::<String>("code")? != code {
            return Ok(Tried::Wrong);
        }
        let right = self
            .sql(
                "UPDATE validation SET tries = 0, validated_ms = COALESCE(validated_ms, $3), \
                 expires_ms = CASE WHEN validated_ms IS NULL THEN $4 ELSE expires_ms END \
                 WHERE sid = $1 AND code = $2",
            )
            .bind(sid)
            .bind(code)
            .bind(now_ms)
            .bind(expires_ms);
        if self.execute(right).await? == 0 {
            // Another code was sent meanwhile.
            return Ok(Tried::Wrong);
        }
        Ok(Tried::Right(row.get("next_link")?))
    }

    /// Ends a session; `false` if it had ended: of several who use it, one gets `true`.
    pub async fn end_validation(&self, sid: &str) -> Result<bool> {
        let query = self.sql("DELETE FROM validation WHERE sid = $1").bind(sid);
        Ok(self.execute(query).await? == 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Medium;
    use crate::testing::each_database;

    fn mail() -> ThirdParty {
        ThirdParty {
            medium: Medium::Email,
            address: "a@x.example".to_owned(),
        }
    }

    fn new<'a>(third_party: &'a ThirdParty, sid: &'a str, attempt: i64) -> NewValidation<'a> {
        NewValidation {
            sid,
            purpose: "p",
            third_party,
            owner: None,
            secret: "s",
            code: "right",
            send_attempt: attempt,
            next_link: Some("https://x.example/"),
            expires_ms: i64::MAX,
        }
    }

    #[tokio::test]
    async fn a_session_goes_on_and_sends_for_higher_attempts_only() {
        each_database(async |store| {
            let mail = mail();
            let begin = async |sid, attempt| {
                let begun = store.begin_validation(&new(&mail, sid, attempt)).await;
                begun.unwrap()
            };
            assert_eq!(begin("one", 1).await, ("one".to_owned(), true));
            assert_eq!(begin("two", 1).await, ("one".to_owned(), false));
            assert_eq!(begin("two", 2).await, ("one".to_owned(), true));
            assert_eq!(begin("two", 1).await, ("one".to_owned(), false));
            let other = NewValidation {
                purpose: "q",
                ..new(&mail, "three", 1)
            };
            let begun = store.begin_validation(&other).await.unwrap();
            assert_eq!(begun, ("three".to_owned(), true));
            let tried = store.try_code("one", Some("s"), "right", i64::MAX).await;
            assert!(matches!(tried.unwrap(), Tried::Right(Some(_))));
            let found = store.validation("one").await.unwrap().unwrap();
            assert!(found.validated_ms.is_some() && found.purpose == "p");
            // What is done needs no further letter.
            assert_eq!(begin("two", 9).await, ("one".to_owned(), false));
            assert!(store.end_validation("one").await.unwrap());
            assert!(!store.end_validation("one").await.unwrap());
            assert_eq!(store.validation("one").await.unwrap(), None);
        })
        .await;
    }

    #[tokio::test]
    async fn codes_cant_be_guessed() {
        each_database(async |store| {
            let mail = mail();
            store.begin_validation(&new(&mail, "one", 1)).await.unwrap();
            let tried = async |secret, code| {
                let tried = store.try_code("one", secret, code, i64::MAX).await;
                tried.unwrap()
            };
            // Who doesn't know the secret doesn't use tries up.
            for _ in 0..20 {
                assert_eq!(tried(Some("other"), "right").await, Tried::Gone);
            }
            for _ in 0..TRIES {
                assert_eq!(tried(Some("s"), "wrong").await, Tried::Wrong);
            }
            assert_eq!(tried(Some("s"), "right").await, Tried::Gone);
            assert_eq!(tried(None, "right").await, Tried::Gone);
            // With another letter it goes on.
            store.begin_validation(&new(&mail, "two", 2)).await.unwrap();
            assert!(matches!(tried(None, "right").await, Tried::Right(_)));
        })
        .await;
    }
}
