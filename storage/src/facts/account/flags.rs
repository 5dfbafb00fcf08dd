//! Rows of what operators make of accounts.

use super::AccountFlag;
use crate::engine::sql::rows;
use crate::engine::sql::statement::Statements;
use crate::{Result, UserNo};

rows! {
    struct Flag {
        user_no: UserNo,
        is_so: bool,
    }
}

rows! {
    struct Hash {
        hash: String,
    }
}

rows! {
    struct User {
        user_no: UserNo,
    }
}

/// By what is made of them.
#[derive(Default)]
pub(super) struct Flags {
    admins: Vec<Flag>,
    locked: Vec<Flag>,
    suspended: Vec<Flag>,
    /// Who gets no notifications any more, of those that wait.
    silenced: Vec<User>,
    /// Whose tokens for a login end.
    login_tokens: Vec<User>,
    /// Who acts as others no longer.
    acting: Vec<User>,
    /// Tokens for that which end.
    acted: Vec<Hash>,
}

impl Flags {
    pub(super) fn add(&mut self, user_no: UserNo, flag: AccountFlag, is_so: bool) {
        let set = match flag {
            AccountFlag::Admin => &mut self.admins,
            AccountFlag::Locked => &mut self.locked,
            AccountFlag::Suspended => &mut self.suspended,
        };
        set.push(Flag { user_no, is_so });
        if is_so != (flag == AccountFlag::Admin) {
            self.ends_acting(user_no);
        }
        if is_so && flag == AccountFlag::Locked {
            self.silenced.push(User { user_no });
            self.ends_logins(user_no);
        }
    }

    /// What other devices of the user could log in with is no good any more.
    fn ends_logins(&mut self, user_no: UserNo) {
        self.login_tokens.push(User { user_no });
    }

    /// The user's sessions end, and what hangs on them.
    pub(super) fn ends_sessions(&mut self, user_no: UserNo) {
        self.ends_logins(user_no);
        self.ends_acting(user_no);
    }

    /// The user acts as others no longer.
    fn ends_acting(&mut self, user_no: UserNo) {
        self.acting.push(User { user_no });
    }

    /// A token by which somebody acts as another ends.
    pub(super) fn ends_acted(&mut self, hash: &str) {
        let hash = hash.to_owned();
        self.acted.push(Hash { hash });
    }

    pub(super) fn write(&self, statements: &mut Statements) -> Result<()> {
        for (text, flags) in [
            (
                "UPDATE account SET admin = x.is_so FROM ROWS($1) AS x WHERE account.user_no = x.user_no",
                &self.admins,
            ),
            (
                "UPDATE account SET locked = x.is_so FROM ROWS($1) AS x WHERE account.user_no = x.user_no",
                &self.locked,
            ),
            (
                "UPDATE account SET suspended = x.is_so FROM ROWS($1) AS x WHERE account.user_no = x.user_no",
                &self.suspended,
            ),
        ] {
            statements.before(text, flags)?;
        }
        statements.before(
            "DELETE FROM push WHERE user_no IN (SELECT user_no FROM ROWS($1) AS x)",
            &self.silenced,
        )?;
        statements.before(
            "DELETE FROM login_token WHERE user_no IN (SELECT user_no FROM ROWS($1) AS x)",
            &self.login_tokens,
        )?;
        statements.before(
            "DELETE FROM login_as WHERE by_user IN (SELECT user_no FROM ROWS($1) AS x)",
            &self.acting,
        )?;
        statements.before(
            "DELETE FROM login_as WHERE hash IN (SELECT hash FROM ROWS($1) AS x)",
            &self.acted,
        )
    }
}
