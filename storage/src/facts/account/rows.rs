//! Rows of accounts: devices, tokens, passwords. What ends goes first, what begins comes last.

use ruma::OwnedDeviceId;

use super::AccountChange;
use super::NewDevice;
use super::dehydrated;
use super::flags::Flags;
use super::held::Accounts;
use super::tokens::TokenRows;
use crate::engine::sql::rows;
use crate::engine::sql::statement::Statements;
use crate::{NewLogin, NewTask, Pos, Result, UserNo};

rows! {
    struct Password<'a> {
        user_no: UserNo,
        hash: Option<&'a str>,
    }
}

rows! {
    struct Created<'a> {
        user_no: UserNo,
        password_hash: Option<&'a str>,
        admin: bool,
        created_ms: i64,
    }
}

rows! {
    struct User {
        user_no: UserNo,
    }
}

rows! {
    struct Erased {
        user_no: UserNo,
        pos: Pos,
    }
}

rows! {
    struct Task<'a> {
        no: i64,
        kind: &'a str,
        what: &'a str,
        now_ms: i64,
    }
}

rows! {
    struct Device<'a> {
        user_no: UserNo,
        device_id: &'a OwnedDeviceId,
    }
}

rows! {
    struct Renamed<'a> {
        user_no: UserNo,
        device_id: &'a OwnedDeviceId,
        name: &'a str,
    }
}

rows! {
    struct SeenAgain<'a> {
        user_no: UserNo,
        device_id: &'a OwnedDeviceId,
        ip: Option<&'a str>,
        now_ms: i64,
    }
}

rows! {
    struct Seen<'a> {
        user_no: UserNo,
        device_id: &'a OwnedDeviceId,
        name: Option<&'a str>,
        ip: Option<&'a str>,
        now_ms: i64,
        proved_ms: Option<i64>,
    }
}

rows! {
    struct Proved<'a> {
        user_no: UserNo,
        device_id: &'a OwnedDeviceId,
        at_ms: i64,
    }
}

/// By table and kind of change.
#[derive(Default)]
struct AccountRows<'a> {
    created: Vec<Created<'a>>,
    guests: Vec<User>,
    upgraded: Vec<User>,
    passwords: Vec<Password<'a>>,
    deactivated: Vec<User>,
    flags: Flags,
    erased: Vec<Erased>,
    tasks: Vec<Task<'a>>,
    /// Devices whose tokens end.
    ended: Vec<Device<'a>>,
    /// Those of them that go.
    removed: Vec<Device<'a>>,
    renamed: Vec<Renamed<'a>>,
    tokens: TokenRows<'a>,
    seen: Vec<Seen<'a>>,
    seen_again: Vec<SeenAgain<'a>>,
    proved: Vec<Proved<'a>>,
}

pub(super) fn write(
    changes: &[(i64, &AccountChange)],
    held: &Accounts,
    statements: &mut Statements,
) -> Result<()> {
    let mut rows = AccountRows::default();
    for (_, change) in changes {
        rows.add(change, held);
    }
    rows.write_accounts(statements)?;
    rows.flags.write(statements)?;
    rows.write_devices(statements)?;
    dehydrated::write(changes, statements)?;
    rows.tokens.write(statements)
}

impl AccountRows<'_> {
    fn write_accounts(&self, statements: &mut Statements) -> Result<()> {
        statements.before(
            "INSERT INTO account (user_no, password_hash, admin, deactivated, created_ms) \
             SELECT user_no, password_hash, admin, 0, created_ms FROM ROWS($1) AS x",
            &self.created,
        )?;
        statements.before(
            "INSERT INTO guest (user_no) SELECT user_no FROM ROWS($1) AS x",
            &self.guests,
        )?;
        statements.before(
            "DELETE FROM guest WHERE user_no IN (SELECT user_no FROM ROWS($1) AS x)",
            &self.upgraded,
        )?;
        statements.before(
            "UPDATE account SET password_hash = x.hash FROM ROWS($1) AS x \
             WHERE account.user_no = x.user_no AND account.deactivated = 0",
            &self.passwords,
        )?;
        // Whoever could have set another one by an address can't any more.
        statements.before(
            "DELETE FROM validation WHERE user_no IN (SELECT user_no FROM ROWS($1) AS x)",
            &self.passwords,
        )?;
        // What was proved by another password is proved no more.
        statements.before(
            "UPDATE device SET proved_ms = NULL WHERE user_no IN (SELECT user_no FROM ROWS($1) AS x)",
            &self.passwords,
        )?;
        for text in [
            // The password opens nothing any more, but whoever knows it is told that the account has ended.
            "UPDATE account SET deactivated = 1 WHERE user_no IN (SELECT user_no FROM ROWS($1) AS x)",
            "DELETE FROM profile WHERE user_no IN (SELECT user_no FROM ROWS($1) AS x)",
            "DELETE FROM profile_change WHERE user_no IN (SELECT user_no FROM ROWS($1) AS x)",
            "DELETE FROM third_party WHERE user_no IN (SELECT user_no FROM ROWS($1) AS x)",
            "DELETE FROM third_party_bound WHERE user_no IN (SELECT user_no FROM ROWS($1) AS x)",
            "DELETE FROM validation WHERE user_no IN (SELECT user_no FROM ROWS($1) AS x)",
            "DELETE FROM profile_spread WHERE user_no IN (SELECT user_no FROM ROWS($1) AS x)",
            "DELETE FROM cross_signing_key WHERE user_no IN (SELECT user_no FROM ROWS($1) AS x)",
            "DELETE FROM key_signature WHERE target_user IN (SELECT user_no FROM ROWS($1) AS x)",
            "DELETE FROM key_signature WHERE signer IN (SELECT user_no FROM ROWS($1) AS x)",
        ] {
            statements.before(text, &self.deactivated)?;
        }
        for text in [
            "INSERT INTO erasure (user_no, pos) SELECT user_no, pos FROM ROWS($1) AS x WHERE true \
             ON CONFLICT (user_no) DO NOTHING",
            "DELETE FROM account_data WHERE user_no IN (SELECT user_no FROM ROWS($1) AS x)",
            "DELETE FROM thread_subscription WHERE user_no IN (SELECT user_no FROM ROWS($1) AS x)",
            "DELETE FROM client_filter WHERE user_no IN (SELECT user_no FROM ROWS($1) AS x)",
        ] {
            statements.before(text, &self.erased)?;
        }
        statements.before(
            "INSERT INTO task (no, kind, what, state, progress, place, error, made_ms, changed_ms) \
             SELECT no, kind, what, 0, 0, '', NULL, now_ms, now_ms FROM ROWS($1) AS x WHERE true \
             ON CONFLICT (no) DO NOTHING",
            &self.tasks,
        )
    }

    fn write_devices(&self, statements: &mut Statements) -> Result<()> {
        for text in [
            "DELETE FROM access_token WHERE (user_no, device_id) IN \
             (SELECT user_no, device_id FROM ROWS($1) AS x)",
            "DELETE FROM refresh_token WHERE (user_no, device_id) IN \
             (SELECT user_no, device_id FROM ROWS($1) AS x)",
            "DELETE FROM openid_token WHERE (user_no, device_id) IN (SELECT user_no, device_id FROM ROWS($1) AS x)",
            "DELETE FROM login_token WHERE (user_no, device_id) IN (SELECT user_no, device_id FROM ROWS($1) AS x)",
            // What was set by a session goes with it.
            "DELETE FROM push WHERE (user_no, app_id, pushkey) IN (SELECT p.user_no, p.app_id, p.pushkey \
             FROM ROWS($1) AS x JOIN pusher p ON p.user_no = x.user_no AND p.device_id = x.device_id)",
            "DELETE FROM pusher WHERE (user_no, device_id) IN \
             (SELECT user_no, device_id FROM ROWS($1) AS x)",
            // Another session of the device begins with transaction ids of its own.
            "DELETE FROM to_device_txn WHERE (user_no, device) IN \
             (SELECT user_no, device_id FROM ROWS($1) AS x)",
            // Who logs in as it has made it a device like others.
            "DELETE FROM dehydrated_device WHERE (user_no, device_id) IN \
             (SELECT user_no, device_id FROM ROWS($1) AS x)",
        ] {
            statements.before(text, &self.ended)?;
        }
        for text in [
            "DELETE FROM device WHERE (user_no, device_id) IN \
             (SELECT user_no, device_id FROM ROWS($1) AS x)",
            "DELETE FROM device_keys WHERE (user_no, device_id) IN \
             (SELECT user_no, device_id FROM ROWS($1) AS x)",
            "DELETE FROM one_time_key WHERE (user_no, device_id) IN \
             (SELECT user_no, device_id FROM ROWS($1) AS x)",
            "DELETE FROM fallback_key WHERE (user_no, device_id) IN \
             (SELECT user_no, device_id FROM ROWS($1) AS x)",
            "DELETE FROM key_signature WHERE (target_user, target_id) IN \
             (SELECT user_no, device_id FROM ROWS($1) AS x)",
            "DELETE FROM key_signature WHERE (signer, signer_key) IN \
             (SELECT user_no, 'ed25519:' || device_id FROM ROWS($1) AS x)",
            "DELETE FROM to_device WHERE (user_no, device_id) IN \
             (SELECT user_no, device_id FROM ROWS($1) AS x)",
            "DELETE FROM sliding_room WHERE connection IN (SELECT c.no FROM ROWS($1) AS x \
             JOIN sliding_connection c ON c.user_no = x.user_no AND c.device_id = x.device_id)",
            "DELETE FROM sliding_version WHERE connection IN (SELECT c.no FROM ROWS($1) AS x \
             JOIN sliding_connection c ON c.user_no = x.user_no AND c.device_id = x.device_id)",
            "DELETE FROM sliding_connection WHERE (user_no, device_id) IN \
             (SELECT user_no, device_id FROM ROWS($1) AS x)",
        ] {
            statements.before(text, &self.removed)?;
        }
        statements.before(
            "UPDATE device SET name = x.name FROM ROWS($1) AS x \
             WHERE device.user_no = x.user_no AND device.device_id = x.device_id",
            &self.renamed,
        )?;
        statements.before(
            "UPDATE device SET last_seen_ms = x.now_ms, \
             last_seen_ip = COALESCE(x.ip, device.last_seen_ip) FROM ROWS($1) AS x \
             WHERE device.user_no = x.user_no AND device.device_id = x.device_id",
            &self.seen_again,
        )?;
        statements.before(
            "UPDATE device SET proved_ms = x.at_ms FROM ROWS($1) AS x \
             WHERE device.user_no = x.user_no AND device.device_id = x.device_id \
             AND (device.proved_ms IS NULL OR device.proved_ms < x.at_ms)",
            &self.proved,
        )?;
        // What another session of the device has proved isn't this one's.
        statements.before(
            "INSERT INTO device (user_no, device_id, name, last_seen_ip, last_seen_ms, proved_ms) \
             SELECT user_no, device_id, name, ip, now_ms, proved_ms FROM ROWS($1) AS x WHERE true \
             ON CONFLICT (user_no, device_id) DO UPDATE SET last_seen_ip = excluded.last_seen_ip, \
             last_seen_ms = excluded.last_seen_ms, proved_ms = excluded.proved_ms",
            &self.seen,
        )
    }
}

fn added(new: &NewDevice) -> Seen<'_> {
    Seen {
        user_no: new.user,
        device_id: &new.device,
        name: new.name.as_deref(),
        ip: new.ip.as_deref(),
        now_ms: new.now_ms,
        proved_ms: None,
    }
}

fn task_row(task: &NewTask) -> Task<'_> {
    Task {
        no: task.no,
        kind: &task.kind,
        what: &task.what,
        now_ms: task.now_ms,
    }
}

impl<'a> AccountRows<'a> {
    fn add(&mut self, change: &'a AccountChange, held: &'a Accounts) {
        match change {
            AccountChange::Create { user, account } => {
                let guest = account.is_guest.then_some(User { user_no: *user });
                self.guests.extend(guest);
                self.created.push(Created {
                    user_no: *user,
                    password_hash: account.password_hash.as_deref(),
                    admin: account.admin,
                    created_ms: account.created_ms,
                });
            }
            AccountChange::Seen {
                user,
                device,
                ip,
                now_ms,
            } => self.seen_again.push(SeenAgain {
                user_no: *user,
                device_id: device,
                ip: ip.as_deref(),
                now_ms: *now_ms,
            }),
            AccountChange::Login { login, known } => self.login(login, *known),
            AccountChange::AddDevice(new) => self.seen.push(added(new)),
            AccountChange::Refresh {
                user,
                device,
                hash,
                tokens,
            } => {
                self.tokens.refresh(hash);
                self.tokens.give_out(*user, device, tokens, Some(hash));
            }
            AccountChange::ConfirmRefresh { hash, .. } => self.tokens.confirm(hash),
            AccountChange::RenameDevice { user, device, name } => self.renamed.push(Renamed {
                user_no: *user,
                device_id: device,
                name,
            }),
            AccountChange::RemoveDevices { user, devices } => self.remove(*user, devices),
            // Written by itself.
            AccountChange::Dehydrate(_) => {}
            AccountChange::RemoveDehydrated { user, device } => self.remove(*user, [device]),
            AccountChange::EndSessions { user, except, .. } => {
                self.end_sessions(*user, except.as_ref(), held);
            }
            AccountChange::Password { user, hash, .. } => self.passwords.push(Password {
                user_no: *user,
                hash: hash.as_deref(),
            }),
            AccountChange::Upgrade { user, hash, .. } => {
                self.upgraded.push(User { user_no: *user });
                self.passwords.push(Password {
                    user_no: *user,
                    hash: Some(hash),
                });
            }
            AccountChange::Flag { user, flag, on } => self.flags.add(*user, *flag, *on),
            AccountChange::Proved {
                user,
                device,
                at_ms,
                ..
            } => self.proved.push(Proved {
                user_no: *user,
                device_id: device,
                at_ms: *at_ms,
            }),
            AccountChange::EndLoginAs { hash, .. } => self.flags.ends_acted(hash),
            AccountChange::EndTokens { user, device } => self.tokens.expire(*user, device),
            AccountChange::Deactivate { user, erase, task } => {
                let user_no = *user;
                self.deactivated.push(User { user_no });
                self.erased.extend(erase.map(|pos| Erased { user_no, pos }));
                self.tasks.extend(task.as_ref().map(task_row));
            }
        }
    }

    fn end_sessions(&mut self, user: UserNo, except: Option<&OwnedDeviceId>, held: &'a Accounts) {
        self.flags.ends_sessions(user);
        let devices = held.devices.get(&user).into_iter().flatten();
        self.remove(user, devices.filter(|device| Some(*device) != except));
    }

    fn login(&mut self, login: &'a NewLogin, known: bool) {
        let (user_no, device_id) = (login.user, &login.device_id);
        if known {
            self.ended.push(Device { user_no, device_id });
        }
        self.seen.push(Seen {
            user_no,
            device_id,
            name: login.device_name.as_deref(),
            ip: Some(&login.ip),
            now_ms: login.now_ms,
            proved_ms: login.proved.then_some(login.now_ms),
        });
        self.tokens
            .give_out(user_no, device_id, &login.tokens, None);
    }

    fn remove(&mut self, user_no: UserNo, devices: impl IntoIterator<Item = &'a OwnedDeviceId>) {
        for device_id in devices {
            self.ended.push(Device { user_no, device_id });
            self.removed.push(Device { user_no, device_id });
        }
    }
}
