//! Rows of accounts: devices, tokens, passwords. What ends goes first, what begins comes last.

use std::borrow::Cow;

use super::accounts::Accounts;
use super::group::Uses;
use super::rows::Maker;
use crate::engine::dialect::escaped;
use crate::{NewLogin, NewTokens, Plain, Pos, Result, UserNo};

type Text<'a> = Cow<'a, str>;
type Device<'a> = (UserNo, Text<'a>);
/// Hash, user, device, end, hash of the refresh token.
type Access<'a> = (&'a str, UserNo, Text<'a>, Option<i64>, Option<&'a str>);

/// By table and kind of change.
#[derive(Default)]
struct PlainRows<'a> {
    passwords: Vec<(UserNo, Option<&'a str>)>,
    deactivated: Vec<(UserNo,)>,
    erased: Vec<(UserNo, Pos)>,
    /// Devices whose tokens end.
    ended: Vec<Device<'a>>,
    /// Those of them that go.
    removed: Vec<Device<'a>>,
    renamed: Vec<(UserNo, Text<'a>, Text<'a>)>,
    /// Hashes of refresh tokens: what they replaced ends.
    confirmed: Vec<(&'a str,)>,
    /// Hashes of refresh tokens that are used: what they gave out before, and wasn't used, ends.
    refreshed: Vec<(&'a str,)>,
    devices: Vec<(UserNo, Text<'a>, Option<Text<'a>>, &'a str, i64)>,
    access: Vec<Access<'a>>,
    refresh: Vec<(&'a str, UserNo, Text<'a>, Option<&'a str>)>,
}

impl Maker<'_> {
    pub(super) fn plain(&mut self, accounts: &Accounts) -> Result<()> {
        let mut rows = PlainRows::default();
        let accepted = self.accepted;
        for plain in accepted.iter().flat_map(|(_, job)| &job.set.plain) {
            rows.add(plain, accounts);
        }
        self.accounts(&rows)?;
        self.devices(&rows)?;
        self.refreshes(&rows)?;
        self.tokens(&rows)
    }

    fn accounts(&mut self, rows: &PlainRows<'_>) -> Result<()> {
        self.before(
            "UPDATE account SET password_hash = x.hash FROM (\
             SELECT CAST(value ->> 0 AS BIGINT) AS user_no, value ->> 1 AS hash FROM EACH($1)) AS x \
             WHERE account.user_no = x.user_no AND account.deactivated = 0",
            &rows.passwords,
            Uses::Rows,
        )?;
        for text in [
            // The password opens nothing any more, but whoever knows it is told that the account has ended.
            "UPDATE account SET deactivated = 1 \
             WHERE user_no IN (SELECT CAST(value ->> 0 AS BIGINT) FROM EACH($1))",
            "DELETE FROM profile \
             WHERE user_no IN (SELECT CAST(value ->> 0 AS BIGINT) FROM EACH($1))",
        ] {
            self.before(text, &rows.deactivated, Uses::Rows)?;
        }
        for text in [
            "INSERT INTO erasure (user_no, pos) \
             SELECT CAST(value ->> 0 AS BIGINT), CAST(value ->> 1 AS BIGINT) FROM EACH($1) WHERE true \
             ON CONFLICT (user_no) DO NOTHING",
            "DELETE FROM account_data \
             WHERE user_no IN (SELECT CAST(value ->> 0 AS BIGINT) FROM EACH($1))",
            "DELETE FROM client_filter \
             WHERE user_no IN (SELECT CAST(value ->> 0 AS BIGINT) FROM EACH($1))",
        ] {
            self.before(text, &rows.erased, Uses::Rows)?;
        }
        Ok(())
    }

    fn devices(&mut self, rows: &PlainRows<'_>) -> Result<()> {
        for text in [
            "DELETE FROM access_token WHERE (user_no, device_id) IN (\
             SELECT CAST(value ->> 0 AS BIGINT), value ->> 1 FROM EACH($1))",
            "DELETE FROM refresh_token WHERE (user_no, device_id) IN (\
             SELECT CAST(value ->> 0 AS BIGINT), value ->> 1 FROM EACH($1))",
        ] {
            self.before(text, &rows.ended, Uses::Rows)?;
        }
        self.before(
            "DELETE FROM device WHERE (user_no, device_id) IN (\
             SELECT CAST(value ->> 0 AS BIGINT), value ->> 1 FROM EACH($1))",
            &rows.removed,
            Uses::Rows,
        )?;
        self.before(
            "UPDATE device SET name = x.name FROM (\
             SELECT CAST(value ->> 0 AS BIGINT) AS user_no, value ->> 1 AS device_id, \
             value ->> 2 AS name FROM EACH($1)) AS x \
             WHERE device.user_no = x.user_no AND device.device_id = x.device_id",
            &rows.renamed,
            Uses::Rows,
        )?;
        self.before(
            "INSERT INTO device (user_no, device_id, name, last_seen_ip, last_seen_ms) \
             SELECT CAST(value ->> 0 AS BIGINT), value ->> 1, value ->> 2, value ->> 3, \
             CAST(value ->> 4 AS BIGINT) FROM EACH($1) WHERE true \
             ON CONFLICT (user_no, device_id) DO UPDATE SET \
             last_seen_ip = excluded.last_seen_ip, last_seen_ms = excluded.last_seen_ms",
            &rows.devices,
            Uses::Rows,
        )
    }

    fn refreshes(&mut self, rows: &PlainRows<'_>) -> Result<()> {
        for text in [
            "DELETE FROM access_token WHERE refresh_hash IN (\
             SELECT replaces FROM refresh_token WHERE replaces IS NOT NULL \
             AND hash IN (SELECT value ->> 0 FROM EACH($1)))",
            "DELETE FROM refresh_token WHERE hash IN (\
             SELECT replaces FROM refresh_token WHERE replaces IS NOT NULL \
             AND hash IN (SELECT value ->> 0 FROM EACH($1)))",
            "UPDATE refresh_token SET replaces = NULL \
             WHERE hash IN (SELECT value ->> 0 FROM EACH($1))",
        ] {
            self.before(text, &rows.confirmed, Uses::Rows)?;
        }
        for text in [
            "DELETE FROM access_token WHERE refresh_hash IN (\
             SELECT hash FROM refresh_token WHERE replaces IN (SELECT value ->> 0 FROM EACH($1)))",
            "DELETE FROM refresh_token WHERE replaces IN (SELECT value ->> 0 FROM EACH($1))",
        ] {
            self.before(text, &rows.refreshed, Uses::Rows)?;
        }
        Ok(())
    }

    fn tokens(&mut self, rows: &PlainRows<'_>) -> Result<()> {
        self.before(
            "INSERT INTO access_token (hash, user_no, device_id, expires_ms, refresh_hash) \
             SELECT value ->> 0, CAST(value ->> 1 AS BIGINT), value ->> 2, \
             CAST(value ->> 3 AS BIGINT), value ->> 4 FROM EACH($1)",
            &rows.access,
            Uses::Rows,
        )?;
        self.before(
            "INSERT INTO refresh_token (hash, user_no, device_id, replaces) \
             SELECT value ->> 0, CAST(value ->> 1 AS BIGINT), value ->> 2, value ->> 3 \
             FROM EACH($1)",
            &rows.refresh,
            Uses::Rows,
        )
    }
}

impl<'a> PlainRows<'a> {
    fn add(&mut self, plain: &'a Plain, accounts: &'a Accounts) {
        match plain {
            Plain::Login { login, known } => self.login(login, *known),
            Plain::Refresh {
                user,
                device,
                hash,
                tokens,
            } => {
                // Its use confirms it: what it replaced has ended.
                self.confirmed.push((hash,));
                self.refreshed.push((hash,));
                self.give_out(*user, escaped(device.as_str()), tokens, Some(hash));
            }
            Plain::ConfirmRefresh { hash, .. } => self.confirmed.push((hash,)),
            Plain::RenameDevice { user, device, name } => {
                let device = escaped(device.as_str());
                self.renamed.push((*user, device, escaped(name)));
            }
            Plain::RemoveDevices { user, devices } => {
                for device in devices {
                    self.remove(*user, escaped(device.as_str()));
                }
            }
            Plain::EndSessions { user, except } => {
                for device in accounts.devices.get(user).into_iter().flatten() {
                    if Some(device) != except.as_ref() {
                        self.remove(*user, escaped(device.as_str()));
                    }
                }
            }
            Plain::Password { user, hash } => self.passwords.push((*user, hash.as_deref())),
            Plain::Deactivate { user, erase } => {
                self.deactivated.push((*user,));
                self.erased.extend(erase.map(|pos| (*user, pos)));
            }
        }
    }

    fn login(&mut self, login: &'a NewLogin, known: bool) {
        let user = login.user;
        let device = escaped(login.device_id.as_str());
        if known {
            self.ended.push((user, device.clone()));
        }
        let name = login.device_name.as_deref().map(escaped);
        let seen = (user, device.clone(), name, login.ip.as_str(), login.now_ms);
        self.devices.push(seen);
        self.give_out(user, device, &login.tokens, None);
    }

    fn remove(&mut self, user: UserNo, device: Text<'a>) {
        self.ended.push((user, device.clone()));
        self.removed.push((user, device));
    }

    fn give_out(
        &mut self,
        user: UserNo,
        device: Text<'a>,
        tokens: &'a NewTokens,
        replaces: Option<&'a str>,
    ) {
        let refresh = tokens.refresh_hash.as_deref();
        let access = tokens.access_hash.as_str();
        let row = (access, user, device.clone(), tokens.expires_ms, refresh);
        self.access.push(row);
        self.refresh
            .extend(refresh.map(|hash| (hash, user, device, replaces)));
    }
}
