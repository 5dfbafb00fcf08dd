//! Third-party identifiers of accounts: e-mail addresses and telephone numbers, each of one account at most. Nothing caches
//! them, and nobody waits for one.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::fmt;

use super::decision::Decision;
use super::{Kind, last_of_each};
use crate::engine::db::Tx;
use crate::engine::dialect::{Sort, escaped};
use crate::engine::sql::statement::Statements;
use crate::engine::sql::{Cell, Column, Columns as _, Value, rows};
use crate::engine::trouble::Trouble;
use crate::{CommitError, Error, Result, UserNo};

/// What a third-party identifier is one of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Medium {
    /// E-mail addresses.
    Email,
    /// Telephone numbers.
    Msisdn,
}

impl Medium {
    /// Its name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Email => "email",
            Self::Msisdn => "msisdn",
        }
    }

    /// The one of that name.
    pub fn named(name: &str) -> Option<Self> {
        match name {
            "email" => Some(Self::Email),
            "msisdn" => Some(Self::Msisdn),
            _ => None,
        }
    }
}

impl Value for Medium {
    const SORT: Sort = Sort::Text;
    fn cell(&self) -> Cell<'_> {
        Cell::Text(escaped(self.as_str()))
    }
}

impl Column for Medium {
    type Plain = String;
    fn of(plain: String) -> Result<Self> {
        let unknown = || Error::broken("an identifier has an unknown medium");
        Self::named(&plain).ok_or_else(unknown)
    }
}

/// A third-party identifier.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ThirdParty {
    /// What it is.
    pub medium: Medium,
    /// In its canonical form (specification, appendices, "3PID Types").
    pub address: String,
}

impl fmt::Debug for ThirdParty {
    /// Who it is stays out of logs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ThirdParty({} …)", self.medium.as_str())
    }
}

/// A user gets an identifier, or loses it. Refused with [`CommitError::ThirdPartyTaken`] if another user has it.
#[derive(Debug, Clone)]
pub struct ThirdPartyChange {
    /// Whose.
    pub user: UserNo,
    /// Which, in its canonical form.
    pub third_party: ThirdParty,
    /// Since when, and since when it is known to be theirs, in milliseconds since 1970; `None`: they lose it.
    pub since_ms: Option<(i64, i64)>,
}

/// What changes are decided on.
#[derive(Debug, Default)]
pub(crate) struct Held {
    /// Who has an identifier.
    owners: HashMap<ThirdParty, UserNo>,
    /// Whose account has ended.
    ended: HashSet<UserNo>,
}

rows! {
    #[derive(PartialEq, Eq, PartialOrd, Ord)]
    struct Asked<'a> {
        medium: Medium,
        address: &'a str,
    }
}

rows! {
    struct Of<'a> {
        user_no: UserNo,
        medium: Medium,
        address: &'a str,
    }
}

rows! {
    struct Row<'a> {
        medium: Medium,
        address: &'a str,
        user_no: UserNo,
        added_ms: Option<i64>,
        validated_ms: Option<i64>,
    }
}

impl Kind for ThirdPartyChange {
    type Basis = Held;

    fn locks(&self) -> Option<UserNo> {
        Some(self.user)
    }

    async fn look_up(held: &mut Held, tx: &mut Tx, facts: &[&Self]) -> Result<(), Trouble> {
        let asked: BTreeSet<_> = facts
            .iter()
            .map(|change| Asked {
                medium: change.third_party.medium,
                address: &change.third_party.address,
            })
            .collect();
        let query = tx
            .sql(
                "SELECT t.medium, t.address, t.user_no FROM ROWS($1) AS x \
                 JOIN third_party t ON t.medium = x.medium AND t.address = x.address",
            )
            .rows(&asked.into_iter().collect::<Vec<_>>());
        for row in tx.rows(query).await? {
            let third_party = ThirdParty {
                medium: row.get("medium")?,
                address: row.get("address")?,
            };
            held.owners.insert(third_party, row.get("user_no")?);
        }
        let query = tx
            .sql("SELECT user_no FROM account WHERE deactivated = 1 AND user_no IN NUMBERS($1)")
            .numbers(facts.iter().map(|change| change.user));
        for row in tx.rows(query).await? {
            held.ended.insert(row.get("user_no")?);
        }
        Ok(())
    }

    fn check(&self, held: &Held, _retried: bool) -> Option<Decision> {
        self.since_ms?;
        if held.ended.contains(&self.user) {
            return Some(Decision::Refuse(CommitError::AccountMoved(self.user)));
        }
        let owner = held.owners.get(&self.third_party);
        let taken = owner.is_some_and(|owner| *owner != self.user);
        taken.then_some(Decision::Refuse(CommitError::ThirdPartyTaken(self.user)))
    }

    fn apply(&self, held: &mut Held) -> bool {
        if self.since_ms.is_some() {
            held.owners.insert(self.third_party.clone(), self.user);
        } else if held.owners.get(&self.third_party) == Some(&self.user) {
            held.owners.remove(&self.third_party);
        }
        true
    }

    fn write(facts: &[(i64, &Self)], _: &Held, statements: &mut Statements) -> Result<()> {
        let before: Vec<_> = (facts.iter())
            .map(|(_, change)| Of {
                user_no: change.user,
                medium: change.third_party.medium,
                address: &change.third_party.address,
            })
            .collect();
        // What another process has given to somebody else meanwhile stays, and is in the way of what follows.
        statements.before(
            "DELETE FROM third_party WHERE (user_no, medium, address) IN \
             (SELECT user_no, medium, address FROM ROWS($1) AS x)",
            &before,
        )?;
        let lost: Vec<_> = (facts.iter())
            .filter(|(_, change)| change.since_ms.is_none())
            .map(|(_, change)| Of {
                user_no: change.user,
                medium: change.third_party.medium,
                address: &change.third_party.address,
            })
            .collect();
        // What was shown of it serves for nothing any more, also if they get it again.
        statements.before(
            "DELETE FROM validation WHERE (user_no, medium, address) IN \
             (SELECT user_no, medium, address FROM ROWS($1) AS x)",
            &lost,
        )?;
        let key = |change: &Self| (change.third_party.clone(), change.user);
        let last = last_of_each(facts, key, |_, change| Row {
            medium: change.third_party.medium,
            address: &change.third_party.address,
            user_no: change.user,
            added_ms: change.since_ms.map(|(added, _)| added),
            validated_ms: change.since_ms.map(|(_, validated)| validated),
        });
        let new: Vec<_> = (last.into_iter())
            .filter(|row| row.added_ms.is_some())
            .collect();
        statements.before(
            "INSERT INTO third_party (medium, address, user_no, added_ms, validated_ms) \
             SELECT medium, address, user_no, added_ms, validated_ms FROM ROWS($1) AS x",
            &new,
        )
    }
}
