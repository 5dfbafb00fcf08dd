//! Rows of access and refresh tokens. What ends goes first, what begins comes last.

use ruma::OwnedDeviceId;

use crate::engine::sql::rows;
use crate::engine::sql::statement::Statements;
use crate::{NewTokens, Result, UserNo};

rows! {
    struct Device<'a> {
        user_no: UserNo,
        device_id: &'a OwnedDeviceId,
    }
}

rows! {
    struct Hash<'a> {
        hash: &'a str,
    }
}

rows! {
    struct Access<'a> {
        hash: &'a str,
        user_no: UserNo,
        device_id: &'a OwnedDeviceId,
        expires_ms: Option<i64>,
        refresh_hash: Option<&'a str>,
    }
}

rows! {
    struct Refresh<'a> {
        hash: &'a str,
        user_no: UserNo,
        device_id: &'a OwnedDeviceId,
        replaces: Option<&'a str>,
        session: Option<&'a str>,
        expires_ms: Option<i64>,
    }
}

/// By table and kind of change.
#[derive(Default)]
pub(super) struct TokenRows<'a> {
    /// Devices whose refresh tokens end and whose access tokens have expired.
    expired: Vec<Device<'a>>,
    /// Refresh tokens: what they replaced ends.
    confirmed: Vec<Hash<'a>>,
    /// Refresh tokens that are used: what they gave out before, and wasn't used, ends.
    refreshed: Vec<Hash<'a>>,
    access: Vec<Access<'a>>,
    refresh: Vec<Refresh<'a>>,
}

impl<'a> TokenRows<'a> {
    pub(super) fn expire(&mut self, user_no: UserNo, device_id: &'a OwnedDeviceId) {
        self.expired.push(Device { user_no, device_id });
    }

    /// What a refresh token replaced ends.
    pub(super) fn confirm(&mut self, hash: &'a str) {
        self.confirmed.push(Hash { hash });
    }

    /// A refresh token is used, which confirms it.
    pub(super) fn refresh(&mut self, hash: &'a str) {
        self.confirm(hash);
        self.refreshed.push(Hash { hash });
    }

    pub(super) fn give_out(
        &mut self,
        user_no: UserNo,
        device_id: &'a OwnedDeviceId,
        tokens: &'a NewTokens,
        replaces: Option<&'a str>,
    ) {
        let refresh_hash = tokens.refresh_hash.as_deref();
        self.access.push(Access {
            hash: &tokens.access_hash,
            user_no,
            device_id,
            expires_ms: tokens.expires_ms,
            refresh_hash,
        });
        self.refresh.extend(refresh_hash.map(|hash| Refresh {
            hash,
            user_no,
            device_id,
            replaces,
            session: session_of(hash),
            expires_ms: tokens.refresh_expires_ms,
        }));
    }

    pub(super) fn write(&self, statements: &mut Statements) -> Result<()> {
        self.write_refreshes(statements)?;
        self.write_tokens(statements)
    }

    fn write_refreshes(&self, statements: &mut Statements) -> Result<()> {
        for text in [
            "DELETE FROM refresh_token WHERE (user_no, device_id) IN \
             (SELECT user_no, device_id FROM ROWS($1) AS x)",
            // Not deleted: who has one is told that the session can go on.
            "UPDATE access_token SET expires_ms = 0 WHERE (user_no, device_id) IN \
             (SELECT user_no, device_id FROM ROWS($1) AS x)",
        ] {
            statements.before(text, &self.expired)?;
        }
        for text in [
            "DELETE FROM access_token WHERE refresh_hash IN (\
             SELECT replaces FROM refresh_token WHERE replaces IS NOT NULL \
             AND hash IN (SELECT hash FROM ROWS($1) AS x))",
            "DELETE FROM refresh_token WHERE hash IN (\
             SELECT replaces FROM refresh_token WHERE replaces IS NOT NULL \
             AND hash IN (SELECT hash FROM ROWS($1) AS x))",
            "UPDATE refresh_token SET replaces = NULL WHERE hash IN (SELECT hash FROM ROWS($1) AS x)",
        ] {
            statements.before(text, &self.confirmed)?;
        }
        for text in [
            // One at most is kept of those that ended so …
            "DELETE FROM access_token WHERE expires_ms = 0 AND (user_no, device_id) IN (\
             SELECT user_no, device_id FROM refresh_token WHERE hash IN (SELECT hash FROM ROWS($1) AS x))",
            // … so that who has it is told that the session lives.
            "UPDATE access_token SET expires_ms = 0 WHERE refresh_hash IN (\
             SELECT hash FROM refresh_token WHERE replaces IN (SELECT hash FROM ROWS($1) AS x))",
            "DELETE FROM refresh_token WHERE replaces IN (SELECT hash FROM ROWS($1) AS x)",
        ] {
            statements.before(text, &self.refreshed)?;
        }
        Ok(())
    }

    fn write_tokens(&self, statements: &mut Statements) -> Result<()> {
        statements.before(
            "INSERT INTO access_token (hash, user_no, device_id, expires_ms, refresh_hash) \
             SELECT hash, user_no, device_id, expires_ms, refresh_hash FROM ROWS($1) AS x",
            &self.access,
        )?;
        statements.before(
            "INSERT INTO refresh_token (hash, user_no, device_id, replaces, session, expires_ms) \
             SELECT hash, user_no, device_id, replaces, session, expires_ms FROM ROWS($1) AS x",
            &self.refresh,
        )
    }
}

/// What a refresh token's hash says of its session, if anything: what stands before the point.
pub(crate) fn session_of(hash: &str) -> Option<&str> {
    hash.split_once('.').map(|(session, _)| session)
}

/// How many refresh tokens of the session came before it, if its hash says so.
pub(crate) fn generation_of(hash: &str) -> Option<u64> {
    hash.split('.').nth(1)?.parse().ok()
}
