//! What accounts are like under their users' locks, and whether that is what a change was decided on.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use ruma::OwnedDeviceId;

use super::AccountChange;
use super::admission::{Uses, password_mark};
use super::dehydrated::{Dehydrated, Held};
use crate::UserNo;
use crate::engine::db::Tx;
use crate::engine::sql::Columns as _;
use crate::engine::trouble::Trouble;

/// The accounts that a group changes.
#[derive(Debug, Default)]
pub(crate) struct Accounts {
    pub(super) devices: BTreeMap<UserNo, BTreeSet<OwnedDeviceId>>,
    dehydrated: Held,
    /// Accounts, also those that have ended.
    existing: BTreeSet<UserNo>,
    /// Accounts of guests.
    guests: BTreeSet<UserNo>,
    /// What the passwords of accounts that haven't ended must match.
    passwords: BTreeMap<UserNo, Option<String>>,
    /// Refresh tokens that are used and exist.
    refresh: HashSet<String>,
    /// Access tokens that are to be made and exist: an earlier attempt was durable after all.
    made: HashSet<String>,
    /// Sessions in which an address of a user was found to be theirs.
    proofs: HashSet<(UserNo, String)>,
    uses: Uses,
    /// Users whose account this group changes already.
    touched: BTreeSet<UserNo>,
}

/// In one question: the devices, accounts and passwords of users, and those of the tokens that exist.
const LOOK_UP: &str = "\
    SELECT 'device' AS what, user_no, device_id AS text FROM device WHERE user_no IN NUMBERS($1) \
    UNION ALL SELECT 'account', user_no, NULL FROM account WHERE user_no IN NUMBERS($1) \
    UNION ALL SELECT 'password', user_no, password_hash FROM account \
    WHERE deactivated = 0 AND user_no IN NUMBERS($1) \
    UNION ALL SELECT 'guest', user_no, NULL FROM guest WHERE user_no IN NUMBERS($1) \
    UNION ALL SELECT 'refresh', user_no, hash FROM refresh_token WHERE hash IN TEXTS($2) \
    UNION ALL SELECT 'access', user_no, hash FROM access_token WHERE hash IN TEXTS($3) \
    UNION ALL SELECT 'proof', user_no, sid FROM validation \
    WHERE user_no IS NOT NULL AND validated_ms IS NOT NULL AND sid IN TEXTS($4)";

impl Accounts {
    /// Reads what the changes were decided on.
    pub(super) async fn look_up(
        &mut self,
        tx: &mut Tx,
        changes: &[&AccountChange],
    ) -> Result<(), Trouble> {
        let users: BTreeSet<UserNo> = changes.iter().map(|change| change.user()).collect();
        if users.is_empty() {
            return Ok(());
        }
        self.dehydrated.look_up(tx, changes).await?;
        self.uses.look_up(tx, changes).await?;
        let (mut used, mut made, mut proofs) = (Vec::new(), Vec::new(), Vec::new());
        for change in changes {
            match change {
                AccountChange::Login { login, .. } => made.push(&login.tokens.access_hash),
                AccountChange::Refresh { hash, tokens, .. } => {
                    used.push(hash);
                    made.push(&tokens.access_hash);
                }
                AccountChange::Password { proof, .. } => proofs.extend(proof),
                _ => {}
            }
        }
        let query = tx.sql(LOOK_UP).numbers(users).texts(used);
        let query = query.texts(made).texts(proofs);
        for row in tx.rows(query).await? {
            let user = row.get("user_no")?;
            match row.get::<String>("what")?.as_str() {
                "device" => {
                    let device = row.get("text")?;
                    self.devices.entry(user).or_default().insert(device);
                }
                "guest" => drop(self.guests.insert(user)),
                "account" => drop(self.existing.insert(user)),
                "password" => drop(self.passwords.insert(user, row.get("text")?)),
                "refresh" => drop(self.refresh.insert(row.get("text")?)),
                "proof" => drop(self.proofs.insert((user, row.get("text")?))),
                _ => drop(self.made.insert(row.get("text")?)),
            }
        }
        Ok(())
    }

    /// Whether the group changes the user's account already.
    pub(super) fn is_touched(&self, user: UserNo) -> bool {
        self.touched.contains(&user)
    }

    /// What a change makes of what later ones of the group are decided on.
    pub(super) fn apply(&mut self, change: &AccountChange) {
        self.touched.insert(change.user());
        if let Some(used) = change.admission().and_then(|one| one.token.as_ref()) {
            self.uses.take(used);
        }
    }

    pub(super) fn is_made(&self, change: &AccountChange) -> bool {
        match change {
            AccountChange::Login { login, .. } => self.made.contains(&login.tokens.access_hash),
            AccountChange::Refresh { tokens, .. } => self.made.contains(&tokens.access_hash),
            AccountChange::AddDevice(new) => self.has_device(new.user, &new.device),
            AccountChange::Dehydrate(new) => self.dehydrated.is_there(new),
            AccountChange::RemoveDehydrated { user, device } => !self.has_device(*user, device),
            // A hash has a salt: nobody else's is the same.
            AccountChange::Create { user, account } => {
                account.password_hash.is_some()
                    && self.passwords.get(user) == Some(&account.password_hash)
            }
            AccountChange::Upgrade { user, hash, .. }
            | AccountChange::Password {
                user,
                hash: Some(hash),
                proof: Some(_),
            } => self.passwords.get(user).map(Option::as_deref) == Some(Some(hash)),
            _ => false,
        }
    }

    pub(super) fn has_moved(&self, change: &AccountChange) -> bool {
        let used = change.admission().and_then(|one| one.token.as_ref());
        if used.is_some_and(|used| !self.uses.admit(used)) {
            return true;
        }
        match change {
            AccountChange::Login { login, known } => {
                let password = self.passwords.get(&login.user).map(Option::as_deref);
                let proves = |proof: &String| password == Some(Some(proof));
                *known != self.has_device(login.user, &login.device_id)
                    || self.has_ended(login.user)
                    || !login.proof.as_ref().is_none_or(proves)
            }
            AccountChange::AddDevice(new) => {
                self.has_device(new.user, &new.device) || !self.passwords.contains_key(&new.user)
            }
            AccountChange::Create { user, .. } => self.existing.contains(user),
            AccountChange::Upgrade { user, .. } => {
                !self.guests.contains(user) || self.has_ended(*user)
            }
            AccountChange::Password {
                user,
                proof: Some(proof),
                ..
            } => {
                !self.proofs.contains(&(*user, proof.clone()))
                    || self.guests.contains(user)
                    || self.has_ended(*user)
            }
            AccountChange::Flag { user, .. } => {
                !self.existing.contains(user) || self.has_ended(*user)
            }
            AccountChange::Proved { user, mark, .. } => {
                let password = self.passwords.get(user).map(Option::as_deref);
                password.map(|hash| hash.map(password_mark)) != Some(mark.clone())
            }
            AccountChange::Refresh { hash, .. } => !self.refresh.contains(hash),
            AccountChange::RenameDevice { user, device, .. } => !self.has_device(*user, device),
            AccountChange::Dehydrate(new) => self.keeps_out(new),
            AccountChange::RemoveDehydrated { user, device } => {
                self.dehydrated.of(*user) != Some(device)
            }
            AccountChange::EndSessions {
                user,
                except,
                devices,
            } => {
                let mut here = self.devices.get(user).into_iter().flatten();
                here.any(|device| Some(device) != except.as_ref() && !devices.contains(device))
            }
            _ => false,
        }
    }

    fn keeps_out(&self, new: &Dehydrated) -> bool {
        let current = self.dehydrated.of(new.user);
        let other = current != Some(&new.device) && self.has_device(new.user, &new.device);
        let is_gone = |by| !self.has_device(new.user, by);
        other
            || current != new.replaces.as_ref()
            || self.has_ended(new.user)
            || new.by.as_ref().is_some_and(is_gone)
    }

    /// Whether the user had an account and has none any more.
    fn has_ended(&self, user: UserNo) -> bool {
        self.existing.contains(&user) && !self.passwords.contains_key(&user)
    }

    fn has_device(&self, user: UserNo, device: &OwnedDeviceId) -> bool {
        let devices = self.devices.get(&user);
        devices.is_some_and(|devices| devices.contains(device))
    }
}
