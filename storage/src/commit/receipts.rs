//! Which receipts move: only forwards, whatever order they come in and from whichever process.

use std::collections::{BTreeSet, HashMap, HashSet};

use ruma::OwnedEventId;

use super::Job;
use super::group::Trouble;
use crate::engine::db::{Columns as _, Tx, json_rows};
use crate::engine::dialect::escaped;
use crate::{Fact, RoomNo, UserNo};

/// The receipts that a group may move, under their users' locks.
#[derive(Debug, Default)]
pub(super) struct Receipts {
    /// Where they stand: the event, and its place in the room's history if it has one.
    at: HashMap<Key, Place>,
    /// The places of the events that they may move to.
    orders: HashMap<(RoomNo, OwnedEventId), i64>,
    /// (write set, fact) that move nothing: they get no position and nobody is told.
    stale: HashSet<(usize, usize)>,
}

/// Room, user, kind, thread (empty for none).
type Key = (RoomNo, UserNo, String, String);
type Place = (OwnedEventId, Option<i64>);

/// The receipts among a write set's facts, by their index: which one it is, and the event.
fn receipts_of(job: &Job) -> impl Iterator<Item = (usize, Key, &OwnedEventId)> {
    let facts = job.set.facts.iter().enumerate();
    facts.filter_map(|(index, fact)| match fact {
        Fact::Receipt {
            room,
            user,
            kind,
            thread,
            event_id,
            ..
        } => {
            let thread = thread.clone().unwrap_or_default();
            Some((index, (*room, *user, kind.clone(), thread), event_id))
        }
        _ => None,
    })
}

/// The users whose receipts may move.
pub(super) fn users(jobs: &[Job]) -> impl Iterator<Item = UserNo> {
    let facts = jobs.iter().flat_map(|job| &job.set.facts);
    facts.filter_map(|fact| match fact {
        Fact::Receipt { user, .. } => Some(*user),
        _ => None,
    })
}

/// Reads where the receipts stand. Call with the users locked.
pub(super) async fn look_up(tx: &mut Tx, jobs: &[Job]) -> Result<Receipts, Trouble> {
    let mut receipts = Receipts::default();
    let wanted: BTreeSet<(Key, &OwnedEventId)> = (jobs.iter())
        .flat_map(receipts_of)
        .map(|(_, key, event_id)| (key, event_id))
        .collect();
    if wanted.is_empty() {
        return Ok(receipts);
    }
    let wanted: Vec<_> = wanted.into_iter().collect();
    let rows: Vec<_> = (wanted.iter().enumerate())
        .map(|(index, ((room, user, kind, thread), event_id))| {
            let (kind, thread) = (escaped(kind), escaped(thread));
            (
                *room,
                *user,
                kind,
                thread,
                escaped(event_id.as_str()),
                index,
            )
        })
        .collect();
    let query = tx
        .sql(
            "SELECT CAST(value ->> 5 AS BIGINT), r.event_id, stood.ord, goes.ord FROM EACH($1) \
             LEFT JOIN receipt r ON r.room = CAST(value ->> 0 AS BIGINT) \
             AND r.user_no = CAST(value ->> 1 AS BIGINT) AND r.kind = value ->> 2 \
             AND r.thread = value ->> 3 \
             LEFT JOIN event stood ON stood.event_id = r.event_id AND stood.room = r.room \
             LEFT JOIN event goes ON goes.event_id = value ->> 4 \
             AND goes.room = CAST(value ->> 0 AS BIGINT)",
        )
        .bind(json_rows(&rows)?);
    for row in tx.rows(query).await? {
        let index = usize::try_from(row.int(0)?).unwrap_or(usize::MAX);
        let Some((key, event_id)) = wanted.get(index) else {
            continue;
        };
        if row.raw_opt(1)?.is_some() {
            let place = (row.id(1)?, row.int_opt(2)?);
            receipts.at.insert(key.clone(), place);
        }
        if let Some(order) = row.int_opt(3)? {
            let event = (key.0, (*event_id).clone());
            receipts.orders.insert(event, order);
        }
    }
    Ok(receipts)
}

impl Receipts {
    /// Moves what a write set that was accepted moves forward; the rest of its receipts say nothing.
    pub(super) fn apply(&mut self, index: usize, job: &Job) {
        for (fact, key, event_id) in receipts_of(job) {
            let order = self.orders.get(&(key.0, event_id.clone())).copied();
            let behind = self.at.get(&key).is_some_and(|(at, stands)| {
                at == event_id || matches!((*stands, order), (Some(old), Some(new)) if new <= old)
            });
            if behind {
                self.stale.insert((index, fact));
            } else {
                self.at.insert(key, (event_id.clone(), order));
            }
        }
    }

    /// Whether a fact of the group is a receipt that moves nothing.
    pub(super) fn is_stale(&self, job: usize, fact: usize) -> bool {
        self.stale.contains(&(job, fact))
    }
}
