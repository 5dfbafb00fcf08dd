//! Access and refresh tokens, known by their SHA-256 only.
//!
//! A refresh gives out a new pair and leaves the old refresh token good until the new pair is used
//! (<https://spec.matrix.org/v1.19/client-server-api/#refreshing-access-tokens>): `replaces` names it
//! until then.

use ruma::{OwnedDeviceId, OwnedUserId};

use crate::db::{Columns as _, Tx};
use crate::dialect::escaped;
use crate::{Result, Store, UserNo};

/// A new pair of tokens, as the database may know it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewTokens {
    /// Hash of the access token.
    pub access_hash: String,
    /// Hash of the refresh token, if there is one.
    pub refresh_hash: Option<String>,
    /// When the access token ends, in milliseconds since 1970.
    pub expires_ms: Option<i64>,
}

/// A login.
#[derive(Debug, Clone)]
pub struct NewLogin {
    /// Who.
    pub user: UserNo,
    /// As which device, made if it isn't there.
    pub device_id: OwnedDeviceId,
    /// The device's name, if it is made.
    pub device_name: Option<String>,
    /// From where.
    pub ip: String,
    /// When, in milliseconds since 1970.
    pub now_ms: i64,
    /// Its tokens; the device's older ones end.
    pub tokens: NewTokens,
}

/// What an access token stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    /// The user.
    pub user: UserNo,
    /// Their id.
    pub user_id: OwnedUserId,
    /// The device.
    pub device_id: OwnedDeviceId,
    /// When it ends, in milliseconds since 1970.
    pub expires_ms: Option<i64>,
    /// It came of a refresh and wasn't used yet: see [`Store::confirm_refresh`].
    pub confirms_refresh: bool,
    /// When the device was seen last, as far as that was recorded, in milliseconds since 1970.
    pub last_seen_ms: i64,
}

/// Whose tokens were refreshed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refreshed {
    /// The user.
    pub user: UserNo,
    /// The device.
    pub device_id: OwnedDeviceId,
}

impl Store {
    /// Logs a device in. `true` if it was known before (its older tokens have ended, which is to be
    /// committed as a fact).
    pub async fn add_login(&self, login: NewLogin) -> Result<bool> {
        let device = escaped(login.device_id.as_str()).into_owned();
        let mut tx = self.begin().await?;
        let mut known = false;
        for text in [
            "DELETE FROM access_token WHERE user_no = $1 AND device_id = $2",
            "DELETE FROM refresh_token WHERE user_no = $1 AND device_id = $2",
        ] {
            let query = tx.sql(text).bind(login.user.0).bind(device.clone());
            known |= tx.execute(query).await? > 0;
        }
        let seen = tx
            .sql(
                "UPDATE device SET last_seen_ip = $3, last_seen_ms = $4 \
                 WHERE user_no = $1 AND device_id = $2",
            )
            .bind(login.user.0)
            .bind(device.clone())
            .bind(login.ip.clone())
            .bind(login.now_ms);
        if tx.execute(seen).await? > 0 {
            known = true;
        } else {
            let add = tx
                .sql(
                    "INSERT INTO device (user_no, device_id, name, last_seen_ip, last_seen_ms) \
                     VALUES ($1, $2, $3, $4, $5) ON CONFLICT (user_no, device_id) DO NOTHING",
                )
                .bind(login.user.0)
                .bind(device.clone())
                .bind(
                    login
                        .device_name
                        .as_deref()
                        .map(|name| escaped(name).into_owned()),
                )
                .bind(login.ip)
                .bind(login.now_ms);
            tx.execute(add).await?;
        }
        insert(&mut tx, login.user, device, login.tokens, None).await?;
        tx.commit().await?;
        Ok(known)
    }

    /// What the access token with this hash stands for; also an expired one.
    pub async fn token(&self, hash: &str) -> Result<Option<Token>> {
        let query = self
            .sql(
                "SELECT t.user_no, u.user_id, t.device_id, t.expires_ms, r.replaces, d.last_seen_ms \
                 FROM access_token t JOIN user_name u ON u.no = t.user_no \
                 JOIN device d ON d.user_no = t.user_no AND d.device_id = t.device_id \
                 LEFT JOIN refresh_token r ON r.hash = t.refresh_hash WHERE t.hash = $1",
            )
            .bind(hash.to_owned());
        let Some(row) = self.row(query).await? else {
            return Ok(None);
        };
        Ok(Some(Token {
            user: UserNo(row.int(0)?),
            user_id: row.id(1)?,
            device_id: row.text(2)?.into(),
            expires_ms: row.int_opt(3)?,
            confirms_refresh: row.raw_opt(4)?.is_some(),
            last_seen_ms: row.int(5)?,
        }))
    }

    /// Gives out new tokens for a refresh token; `None` if nobody has it. Tokens that were given out
    /// for the same one before, and never used, end.
    pub async fn refresh(&self, hash: &str, tokens: NewTokens) -> Result<Option<Refreshed>> {
        let mut tx = self.begin().await?;
        let find = tx
            .sql("SELECT user_no, device_id FROM refresh_token WHERE hash = $1 FOR_UPDATE")
            .bind(hash.to_owned());
        let Some(row) = tx.row(find).await? else {
            tx.rollback().await;
            return Ok(None);
        };
        let user = UserNo(row.int(0)?);
        let device = row.raw(1)?;
        // Its use confirms it: what it replaced has ended.
        confirm(&mut tx, hash).await?;
        for text in [
            "DELETE FROM access_token WHERE refresh_hash IN \
             (SELECT hash FROM refresh_token WHERE replaces = $1)",
            "DELETE FROM refresh_token WHERE replaces = $1",
        ] {
            let query = tx.sql(text).bind(hash.to_owned());
            tx.execute(query).await?;
        }
        insert(&mut tx, user, device.clone(), tokens, Some(hash)).await?;
        tx.commit().await?;
        let device_id = crate::dialect::unescaped(device).into();
        Ok(Some(Refreshed { user, device_id }))
    }

    /// A refreshed access token is used: the refresh token that it came of ends, with its access
    /// token (which is to be committed as a fact).
    pub async fn confirm_refresh(&self, access_hash: &str) -> Result<()> {
        let mut tx = self.begin().await?;
        let find = tx
            .sql("SELECT refresh_hash FROM access_token WHERE hash = $1 AND refresh_hash IS NOT NULL")
            .bind(access_hash.to_owned());
        if let Some(row) = tx.row(find).await? {
            let hash = row.raw(0)?;
            confirm(&mut tx, &hash).await?;
        }
        tx.commit().await?;
        Ok(())
    }
}

/// Ends what the refresh token `hash` replaces.
async fn confirm(tx: &mut Tx, hash: &str) -> Result<()> {
    for text in [
        "DELETE FROM access_token WHERE refresh_hash IN \
         (SELECT replaces FROM refresh_token WHERE hash = $1 AND replaces IS NOT NULL)",
        "DELETE FROM refresh_token WHERE hash IN \
         (SELECT replaces FROM refresh_token WHERE hash = $1 AND replaces IS NOT NULL)",
        "UPDATE refresh_token SET replaces = NULL WHERE hash = $1",
    ] {
        let query = tx.sql(text).bind(hash.to_owned());
        tx.execute(query).await?;
    }
    Ok(())
}

async fn insert(
    tx: &mut Tx,
    user: UserNo,
    device: String,
    tokens: NewTokens,
    replaces: Option<&str>,
) -> Result<()> {
    let access = tx
        .sql(
            "INSERT INTO access_token (hash, user_no, device_id, expires_ms, refresh_hash) \
             VALUES ($1, $2, $3, $4, $5)",
        )
        .bind(tokens.access_hash)
        .bind(user.0)
        .bind(device.clone())
        .bind(tokens.expires_ms)
        .bind(tokens.refresh_hash.clone());
    tx.execute(access).await?;
    if let Some(refresh_hash) = tokens.refresh_hash {
        let refresh = tx
            .sql(
                "INSERT INTO refresh_token (hash, user_no, device_id, replaces) \
                 VALUES ($1, $2, $3, $4)",
            )
            .bind(refresh_hash)
            .bind(user.0)
            .bind(device)
            .bind(replaces.map(str::to_owned));
        tx.execute(refresh).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use ruma::user_id;

    use super::*;
    use crate::testing::each_database;

    fn pair(n: u32) -> NewTokens {
        NewTokens {
            access_hash: format!("a{n}"),
            refresh_hash: Some(format!("r{n}")),
            expires_ms: Some(i64::from(n)),
        }
    }

    fn login(user: UserNo, device: &str, tokens: NewTokens) -> NewLogin {
        NewLogin {
            user,
            device_id: device.into(),
            device_name: Some("a\u{0}b\u{1}".into()),
            ip: "::1".into(),
            now_ms: 7,
            tokens,
        }
    }

    #[tokio::test]
    async fn a_login_ends_the_older_tokens_of_its_device_only() {
        each_database(async |store| {
            let ada = store.user_no(user_id!("@ada:here")).await.unwrap();
            assert!(!store.add_login(login(ada, "A", pair(1))).await.unwrap());
            assert!(!store.add_login(login(ada, "B", pair(2))).await.unwrap());
            assert!(store.add_login(login(ada, "A", pair(3))).await.unwrap());
            assert_eq!(store.token("a1").await.unwrap(), None);
            assert_eq!(store.refresh("r1", pair(9)).await.unwrap(), None);
            let token = store.token("a3").await.unwrap().unwrap();
            assert_eq!((token.user, token.device_id.as_str()), (ada, "A"));
            assert_eq!(token.user_id, "@ada:here");
            assert_eq!(token.expires_ms, Some(3));
            assert!(store.token("a2").await.unwrap().is_some());

            let devices = store.devices(ada).await.unwrap();
            assert_eq!(devices.len(), 2);
            assert_eq!(devices[0].name.as_deref(), Some("a\u{0}b\u{1}"));
            assert!(store.rename_device(ada, "B".into(), "\u{0}").await.unwrap());
            assert!(!store.rename_device(ada, "C".into(), "x").await.unwrap());
            let device = store.device(ada, "B".into()).await.unwrap().unwrap();
            assert_eq!(device.name.as_deref(), Some("\u{0}"));

            store.delete_devices(ada, &["A".into()]).await.unwrap();
            assert_eq!(store.token("a3").await.unwrap(), None);
            assert_eq!(store.refresh("r3", pair(9)).await.unwrap(), None);
            assert!(store.token("a2").await.unwrap().is_some());
        })
        .await;
    }

    #[tokio::test]
    async fn a_refresh_token_lives_until_its_successor_is_used() {
        each_database(async |store| {
            let ada = store.user_no(user_id!("@ada:here")).await.unwrap();
            store.add_login(login(ada, "A", pair(1))).await.unwrap();
            let refreshed = store.refresh("r1", pair(2)).await.unwrap().unwrap();
            assert_eq!(refreshed.device_id.as_str(), "A");
            // The answer got lost: once more, and what was given out before ends.
            assert!(store.refresh("r1", pair(3)).await.unwrap().is_some());
            assert_eq!(store.token("a2").await.unwrap(), None);
            assert_eq!(store.refresh("r2", pair(9)).await.unwrap(), None);
            assert!(store.token("a1").await.unwrap().is_some());

            // The new access token is used.
            assert!(store.token("a3").await.unwrap().unwrap().confirms_refresh);
            store.confirm_refresh("a3").await.unwrap();
            assert!(!store.token("a3").await.unwrap().unwrap().confirms_refresh);
            assert_eq!(store.token("a1").await.unwrap(), None);
            assert_eq!(store.refresh("r1", pair(9)).await.unwrap(), None);

            // The new refresh token is used at once.
            store.refresh("r3", pair(4)).await.unwrap().unwrap();
            store.refresh("r4", pair(5)).await.unwrap().unwrap();
            assert_eq!(store.refresh("r3", pair(9)).await.unwrap(), None);
            assert_eq!(store.token("a3").await.unwrap(), None);
        })
        .await;
    }
}
