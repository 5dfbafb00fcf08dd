//! On what is decided what becomes of delayed events.

use std::collections::{BTreeSet, HashMap};

use super::{DelayedChange, NewDelayed};
use crate::engine::db::Tx;
use crate::engine::sql::{Columns as _, rows};
use crate::engine::trouble::Trouble;
use crate::facts::delay_id::DelayId;
use crate::{CommitError, UserNo};

/// What a group's changes are decided on.
#[derive(Debug, Default)]
pub(crate) struct Schedules {
    /// When the events that are there are due; `None` if they are over.
    pub(super) due: HashMap<DelayId, Option<i64>>,
    /// What transactions have scheduled.
    txns: HashMap<(UserNo, String), DelayId>,
    /// How many events users have scheduled, and when the first is due.
    counts: HashMap<UserNo, (usize, Option<i64>)>,
}

rows! {
    #[derive(PartialEq, Eq, PartialOrd, Ord)]
    struct Asked {
        user_no: UserNo,
        txn: String,
    }
}

impl Schedules {
    /// Reads it.
    pub(super) async fn look_up(
        &mut self,
        tx: &mut Tx,
        facts: &[&DelayedChange],
    ) -> Result<(), Trouble> {
        self.look_up_ids(tx, facts).await?;
        let mut users = BTreeSet::new();
        let mut asked = BTreeSet::new();
        for change in facts {
            let Some(new) = change.scheduled() else {
                continue;
            };
            users.insert(change.user);
            if let Some(txn) = new.txn_digest()? {
                let user_no = change.user;
                asked.insert(Asked { user_no, txn });
            }
        }
        if users.is_empty() {
            return Ok(());
        }
        self.look_up_txns(tx, asked).await?;
        self.look_up_counts(tx, users).await
    }

    async fn look_up_ids(&mut self, tx: &mut Tx, facts: &[&DelayedChange]) -> Result<(), Trouble> {
        let digests: BTreeSet<String> = facts.iter().map(|change| change.id.digest()).collect();
        let query = tx
            .sql("SELECT delay_id, due_ms FROM delayed_event WHERE digest IN TEXTS($1)")
            .texts(&digests);
        for row in tx.rows(query).await? {
            let id = DelayId::of(row.get::<String>("delay_id")?);
            self.due.insert(id, row.get("due_ms")?);
        }
        Ok(())
    }

    async fn look_up_txns(&mut self, tx: &mut Tx, asked: BTreeSet<Asked>) -> Result<(), Trouble> {
        if asked.is_empty() {
            return Ok(());
        }
        let query = tx
            .sql(
                "SELECT d.user_no, d.txn, d.delay_id FROM ROWS($1) AS x JOIN delayed_event d \
                 ON d.user_no = x.user_no AND d.txn = x.txn",
            )
            .rows(&asked.into_iter().collect::<Vec<_>>());
        for row in tx.rows(query).await? {
            let key = (row.get("user_no")?, row.get("txn")?);
            let id = DelayId::of(row.get::<String>("delay_id")?);
            self.txns.insert(key, id);
        }
        Ok(())
    }

    async fn look_up_counts(
        &mut self,
        tx: &mut Tx,
        users: BTreeSet<UserNo>,
    ) -> Result<(), Trouble> {
        let query = tx
            .sql(
                "SELECT user_no, COUNT(*) AS n, MIN(due_ms) AS first FROM delayed_event \
                 WHERE user_no IN NUMBERS($1) AND due_ms IS NOT NULL GROUP BY user_no",
            )
            .numbers(users);
        for row in tx.rows(query).await? {
            let count = (row.get("n")?, row.get("first")?);
            self.counts.insert(row.get("user_no")?, count);
        }
        Ok(())
    }

    /// Why an event can't be scheduled, if it can't.
    pub(super) fn keeps_out(
        &self,
        change: &DelayedChange,
        new: &NewDelayed,
    ) -> Option<CommitError> {
        if let Ok(Some(txn)) = new.txn_digest()
            && let Some(id) = self.txns.get(&(change.user, txn))
        {
            return Some(CommitError::DelayedTwice(id.clone()));
        }
        let (count, first_ms) = self.counts.get(&change.user).copied().unwrap_or_default();
        (count >= new.most).then_some(CommitError::TooManyDelayed {
            user: change.user,
            first_ms,
        })
    }

    /// An event is scheduled.
    pub(super) fn add(&mut self, change: &DelayedChange, new: &NewDelayed) {
        if let Ok(Some(txn)) = new.txn_digest() {
            self.txns.insert((change.user, txn), change.id.clone());
        }
        let (count, first_ms) = self.counts.entry(change.user).or_default();
        *count += 1;
        let due_ms = new.due_ms();
        *first_ms = Some(first_ms.map_or(due_ms, |first| first.min(due_ms)));
    }
}
