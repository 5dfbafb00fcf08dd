//! Accounts: devices, tokens, passwords. Rows without a position.
//!
//! Each change belongs to one user. The commit locks that user, so that of all processes one changes an
//! account at a time, and puts a second change of the same user off to the next group; what a change was
//! decided on is checked under that lock ([`CommitError::AccountMoved`](crate::CommitError::AccountMoved)).

pub(crate) mod admission;
pub(crate) mod dehydrated;
mod flags;
mod held;
pub(crate) mod new;
mod rows;
pub(crate) mod tokens;

use ruma::OwnedDeviceId;

use super::Kind;
use super::decision::Decision;
use crate::engine::db::Tx;
use crate::engine::sql::statement::Statements;
use crate::engine::trouble::Trouble;
use crate::{Admission, CommitError, NewAccount, NewLogin, NewTokens, Pos, Result, UserNo};
use dehydrated::Dehydrated;
use held::Accounts;

/// A change of a user's account that has no position. Which facts go with it is its maker's to say
/// (`sessions.rs`).
#[derive(Debug, Clone)]
pub enum AccountChange {
    /// An account is made. Refused if the user has one already, or had: names aren't given out twice.
    Create {
        /// Whose.
        user: UserNo,
        /// What is written.
        account: NewAccount,
    },
    /// A device was seen. Of one that isn't there, nothing is written.
    Seen {
        /// Whose.
        user: UserNo,
        /// Which.
        device: OwnedDeviceId,
        /// From where; `None`: that stays as it was.
        ip: Option<String>,
        /// When, in milliseconds since 1970.
        now_ms: i64,
    },
    /// A device logs in.
    Login {
        /// What is written.
        login: NewLogin,
        /// Whether the device was there when this was decided.
        known: bool,
    },
    /// A device comes without tokens: an application service acts as it. Refused if it is there, or the account isn't.
    AddDevice(NewDevice),
    /// A refresh token gives out new tokens, and is good until one of those is used.
    Refresh {
        /// Whose.
        user: UserNo,
        /// Of which device.
        device: OwnedDeviceId,
        /// Hash of the refresh token.
        hash: String,
        /// What it gives out.
        tokens: NewTokens,
    },
    /// Tokens that came of a refresh are used: those before them end.
    ConfirmRefresh {
        /// Whose.
        user: UserNo,
        /// Hash of the refresh token that was given out.
        hash: String,
    },
    /// A device gets another name.
    RenameDevice {
        /// Whose.
        user: UserNo,
        /// Which.
        device: OwnedDeviceId,
        /// Its name from now on.
        name: String,
    },
    /// Devices go, with their tokens.
    RemoveDevices {
        /// Whose.
        user: UserNo,
        /// Which; those that are there.
        devices: Vec<OwnedDeviceId>,
    },
    /// A dehydrated device comes, in the place of another.
    Dehydrate(Dehydrated),
    /// The dehydrated device goes. Refused if it isn't that any more: who logs in as it has made it a device like
    /// others.
    RemoveDehydrated {
        /// Whose.
        user: UserNo,
        /// Which.
        device: OwnedDeviceId,
    },
    /// All devices go, with their tokens.
    EndSessions {
        /// Whose.
        user: UserNo,
        /// This one stays.
        except: Option<OwnedDeviceId>,
        /// Those that go; refused if others have come since this was decided.
        devices: Vec<OwnedDeviceId>,
    },
    /// What the password must match from now on; nothing for an account that has ended.
    Password {
        /// Whose.
        user: UserNo,
        /// A PHC string; `None`: no password opens the account any more.
        hash: Option<String>,
        /// The session in which an address of the user's was found to be theirs, if it is set for that. Refused if that
        /// session has served, or the account is a guest's or has ended.
        proof: Option<String>,
    },
    /// A guest's account becomes one like others. Refused if it isn't a guest's any more.
    Upgrade {
        /// Whose.
        user: UserNo,
        /// What its password must match: a PHC string.
        hash: String,
        /// By what it becomes one.
        admission: Admission,
        /// When, in milliseconds since 1970.
        now_ms: i64,
    },
    /// The operator makes something of the account, or takes that back. Refused if there is none, or it has ended.
    Flag {
        /// Whose.
        user: UserNo,
        /// What.
        flag: AccountFlag,
        /// Whether it is that from now on.
        on: bool,
    },
    /// Who uses a device has proved whose it is. Refused if the password was changed meanwhile, or the account has ended.
    Proved {
        /// Whose.
        user: UserNo,
        /// Which.
        device: OwnedDeviceId,
        /// By what: the [mark](crate::password_mark) of what the password matched; `None`: otherwise, as there is none.
        mark: Option<String>,
        /// When, in milliseconds since 1970.
        at_ms: i64,
    },
    /// A session has to prove anew whose it is: its refresh tokens are gone, its access tokens have expired.
    EndTokens {
        /// Whose.
        user: UserNo,
        /// Of which device.
        device: OwnedDeviceId,
    },
    /// A token by which an administrator acts as the user ends.
    EndLoginAs {
        /// As whom.
        user: UserNo,
        /// Its hash.
        hash: String,
    },
    /// The account ends: its profile goes, its name stays taken, and its password opens nothing.
    Deactivate {
        /// Whose.
        user: UserNo,
        /// Its account data and filters go as well, and what the user has sent is redacted for whoever couldn't
        /// see it at this position.
        erase: Option<Pos>,
        /// What is to be done then, written down in the same moment.
        task: Option<NewTask>,
    },
}

/// A device without tokens.
#[derive(Debug, Clone)]
pub struct NewDevice {
    /// Whose.
    pub user: UserNo,
    /// Which.
    pub device: OwnedDeviceId,
    /// Its name.
    pub name: Option<String>,
    /// From where it was made, if that was by its user or who acts for them.
    pub ip: Option<String>,
    /// When, in milliseconds since 1970.
    pub now_ms: i64,
}

/// A task that is written down together with a change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewTask {
    /// Its number.
    pub no: i64,
    /// What is to be done, …
    pub kind: String,
    /// … to whom or what.
    pub what: String,
    /// When, in milliseconds since 1970.
    pub now_ms: i64,
}

/// What operators make of accounts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AccountFlag {
    /// It administers the server.
    Admin,
    /// It can do nothing but log out.
    Locked,
    /// It can only read.
    Suspended,
}

impl AccountChange {
    /// Whether it rests on what the account is, or others do on what it makes of it. Otherwise nobody is held
    /// up for its sake.
    fn decides(&self) -> bool {
        !matches!(self, Self::Seen { .. })
    }

    /// By what it makes an account, if it makes one.
    fn admission(&self) -> Option<&Admission> {
        match self {
            Self::Create { account, .. } => Some(&account.admission),
            Self::Upgrade { admission, .. } => Some(admission),
            _ => None,
        }
    }

    /// Whose account it changes.
    pub(crate) fn user(&self) -> UserNo {
        match self {
            Self::Login { login, .. } => login.user,
            Self::Dehydrate(new) => new.user,
            Self::AddDevice(new) => new.user,
            Self::Create { user, .. }
            | Self::Seen { user, .. }
            | Self::Refresh { user, .. }
            | Self::ConfirmRefresh { user, .. }
            | Self::RenameDevice { user, .. }
            | Self::RemoveDevices { user, .. }
            | Self::RemoveDehydrated { user, .. }
            | Self::EndSessions { user, .. }
            | Self::Password { user, .. }
            | Self::Upgrade { user, .. }
            | Self::Flag { user, .. }
            | Self::Proved { user, .. }
            | Self::EndTokens { user, .. }
            | Self::EndLoginAs { user, .. }
            | Self::Deactivate { user, .. } => *user,
        }
    }
}

impl Kind for AccountChange {
    type Basis = Accounts;

    fn locks(&self) -> Option<UserNo> {
        self.decides().then(|| self.user())
    }

    async fn look_up(held: &mut Accounts, tx: &mut Tx, facts: &[&Self]) -> Result<(), Trouble> {
        let deciding = facts.iter().copied().filter(|change| change.decides());
        held.look_up(tx, &deciding.collect::<Vec<_>>()).await
    }

    fn check(&self, held: &Accounts, retried: bool) -> Option<Decision> {
        if !self.decides() {
            return None;
        }
        if held.is_touched(self.user()) {
            return Some(Decision::Defer);
        }
        if retried && held.is_made(self) {
            return Some(Decision::Done(None));
        }
        let moved = held.has_moved(self);
        moved.then(|| Decision::Refuse(CommitError::AccountMoved(self.user())))
    }

    fn apply(&self, held: &mut Accounts) -> bool {
        if self.decides() {
            held.apply(self);
        }
        true
    }

    fn write(facts: &[(i64, &Self)], held: &Accounts, statements: &mut Statements) -> Result<()> {
        rows::write(facts, held, statements)?;
        admission::write(facts, statements)
    }
}
