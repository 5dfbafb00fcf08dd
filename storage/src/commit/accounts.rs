//! What accounts are like under their users' locks, and whether that is what a write set was decided on.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use ruma::OwnedDeviceId;

use super::Job;
use super::decide::Decision;
use super::group::Trouble;
use crate::engine::db::{Columns as _, Tx, json_numbers, json_texts};
use crate::{CommitError, Plain, UserNo};

/// The accounts that a group changes.
#[derive(Debug, Default)]
pub(super) struct Accounts {
    pub(super) devices: BTreeMap<UserNo, BTreeSet<OwnedDeviceId>>,
    /// What the passwords of accounts that haven't ended must match.
    passwords: BTreeMap<UserNo, Option<String>>,
    /// Refresh tokens that are used and exist.
    refresh: HashSet<String>,
    /// Access tokens that are to be made and exist: an earlier attempt was durable after all.
    made: HashSet<String>,
    /// Users whose account this group changes already.
    touched: BTreeSet<UserNo>,
}

const LOOK_UP: &str = "\
    SELECT 1 AS k, user_no, device_id AS t FROM device \
    WHERE user_no IN (SELECT CAST(value ->> 0 AS BIGINT) FROM EACH($1)) \
    UNION ALL SELECT 2, user_no, password_hash FROM account WHERE deactivated = 0 \
    AND user_no IN (SELECT CAST(value ->> 0 AS BIGINT) FROM EACH($1)) \
    UNION ALL SELECT 3, user_no, hash FROM refresh_token \
    WHERE hash IN (SELECT value ->> 0 FROM EACH($2)) \
    UNION ALL SELECT 4, user_no, hash FROM access_token \
    WHERE hash IN (SELECT value ->> 0 FROM EACH($3))";

fn plain_of(jobs: &[Job]) -> impl Iterator<Item = &Plain> {
    jobs.iter().flat_map(|job| &job.set.plain)
}

/// The users whose accounts the group changes.
pub(super) fn users(jobs: &[Job]) -> impl Iterator<Item = UserNo> {
    plain_of(jobs).map(Plain::user)
}

/// Reads what the group's changes were decided on. Call with the users locked.
pub(super) async fn look_up(tx: &mut Tx, jobs: &[Job]) -> Result<Accounts, Trouble> {
    let mut accounts = Accounts::default();
    let users: BTreeSet<i64> = users(jobs).map(|user| user.0).collect();
    if users.is_empty() {
        return Ok(accounts);
    }
    let (mut used, mut made) = (Vec::new(), Vec::new());
    for plain in plain_of(jobs) {
        match plain {
            Plain::Login { login, .. } => made.push(login.tokens.access_hash.as_str()),
            Plain::Refresh { hash, tokens, .. } => {
                used.push(hash.as_str());
                made.push(tokens.access_hash.as_str());
            }
            _ => {}
        }
    }
    let query = tx
        .sql(LOOK_UP)
        .bind(json_numbers(users))
        .bind(json_texts(used)?)
        .bind(json_texts(made)?);
    for row in tx.rows(query).await? {
        let user = UserNo(row.int(1)?);
        match row.int(0)? {
            1 => {
                let device = row.text(2)?.into();
                accounts.devices.entry(user).or_default().insert(device);
            }
            2 => drop(accounts.passwords.insert(user, row.raw_opt(2)?)),
            3 => drop(accounts.refresh.insert(row.raw(2)?)),
            _ => drop(accounts.made.insert(row.raw(2)?)),
        }
    }
    Ok(accounts)
}

impl Accounts {
    /// `None` if the write set's changes can be made.
    pub(super) fn check(&self, job: &Job) -> Option<Decision> {
        let plain = || job.set.plain.iter();
        if plain().any(|plain| self.touched.contains(&plain.user())) {
            return Some(Decision::Defer);
        }
        if job.maybe_done && plain().any(|plain| self.is_made(plain)) {
            return Some(Decision::Done(None));
        }
        let moved = plain().find(|plain| self.has_moved(plain))?;
        Some(Decision::Refuse(CommitError::AccountMoved(moved.user())))
    }

    pub(super) fn apply(&mut self, job: &Job) {
        self.touched.extend(job.set.plain.iter().map(Plain::user));
    }

    fn is_made(&self, plain: &Plain) -> bool {
        match plain {
            Plain::Login { login, .. } => self.made.contains(&login.tokens.access_hash),
            Plain::Refresh { tokens, .. } => self.made.contains(&tokens.access_hash),
            _ => false,
        }
    }

    fn has_moved(&self, plain: &Plain) -> bool {
        match plain {
            Plain::Login { login, known } => {
                let password = self.passwords.get(&login.user).map(Option::as_deref);
                let proves = |proof: &String| password == Some(Some(proof));
                *known != self.has_device(login.user, &login.device_id)
                    || !login.proof.as_ref().is_none_or(proves)
            }
            Plain::Refresh { hash, .. } => !self.refresh.contains(hash),
            Plain::RenameDevice { user, device, .. } => !self.has_device(*user, device),
            _ => false,
        }
    }

    fn has_device(&self, user: UserNo, device: &OwnedDeviceId) -> bool {
        let devices = self.devices.get(&user);
        devices.is_some_and(|devices| devices.contains(device))
    }
}
