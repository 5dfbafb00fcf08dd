//! Sessions go on with new tokens: a write set each, as when they begin and end (`sessions.rs`).

use ruma::OwnedDeviceId;

use super::sessions::revoked;
use crate::engine::sql::Columns as _;
use crate::facts::account::AccountChange;
use crate::facts::account::tokens::{generation_of, session_of};
use crate::{NewTokens, Result, Store, Token};

impl Store {
    /// Gives out new tokens for a refresh token; `false` if nobody has it, or it has expired. Tokens that were given out
    /// for the same one before, and never used, end.
    pub async fn refresh(&self, hash: &str, tokens: NewTokens) -> Result<bool> {
        let query = self
            .sql("SELECT user_no, device_id, expires_ms FROM refresh_token WHERE hash = $1")
            .bind(hash);
        let Some(row) = self.row(query).await? else {
            return Ok(false);
        };
        let expires: Option<i64> = row.get("expires_ms")?;
        if expires.is_some_and(|expires| expires <= self.clock().now_ms()) {
            return Ok(false);
        }
        let user = row.get("user_no")?;
        let device: OwnedDeviceId = row.get("device_id")?;
        let told = revoked(user, Some(&device));
        let change = AccountChange::Refresh {
            user,
            device,
            hash: hash.to_owned(),
            tokens,
        };
        self.change(vec![change.into(), told]).await
    }

    /// A refresh token that isn't good: whether it was one of a session whose device is still there, and which goes on with
    /// tokens that another answer has, or has to log in again. One that came before those that are there, and so was used
    /// before, may be stolen, nobody knows from whom: the tokens of its session end. One that was given out beside them, to an
    /// answer that got lost, is just no good, nor is one that has expired.
    pub async fn refresh_reused(&self, hash: &str) -> Result<bool> {
        let query = self
            .sql(
                "SELECT 'alive' AS what, user_no, device_id, hash FROM refresh_token WHERE session = $1 \
                 UNION ALL SELECT 'ended', user_no, device_id, NULL FROM access_token \
                 WHERE refresh_hash = $2 ORDER BY what LIMIT 3",
            )
            .bind(session_of(hash))
            .bind(hash);
        let rows = self.rows(query).await?;
        let Some(first) = rows.first() else {
            return Ok(false);
        };
        let mut good = Vec::new();
        for row in &rows {
            good.extend(row.get::<Option<String>>("hash")?);
        }
        if good.is_empty() {
            return Ok(true);
        }
        let oldest = good.iter().filter_map(|good| generation_of(good)).min();
        if generation_of(hash).is_none_or(|generation| Some(generation) >= oldest) {
            return Ok(true);
        }
        let (user, device) = (first.get("user_no")?, first.get("device_id")?);
        let told = revoked(user, Some(&device));
        let ending = AccountChange::EndTokens { user, device };
        self.change(vec![ending.into(), told]).await?;
        Ok(true)
    }

    /// Whether the account that a refresh token belongs to is locked.
    pub async fn is_refresh_locked(&self, hash: &str) -> Result<bool> {
        let query = self
            .sql(
                "SELECT a.locked FROM refresh_token r JOIN account a ON a.user_no = r.user_no WHERE r.hash = $1",
            )
            .bind(hash);
        let row = self.row(query).await?;
        row.map_or(Ok(false), |row| row.get("locked"))
    }

    /// A refreshed access token is used: the refresh token that it came of ends, with its access token.
    pub async fn confirm_refresh(&self, token: &Token) -> Result<()> {
        let Some(hash) = token.confirms_refresh.clone() else {
            return Ok(());
        };
        let user = token.user;
        let told = revoked(user, Some(&token.device_id));
        let change = AccountChange::ConfirmRefresh { user, hash };
        self.change(vec![change.into(), told]).await?;
        Ok(())
    }
}
