//! One transaction for a group of write sets.

use std::collections::{BTreeSet, HashMap, HashSet};

use ruma::{OwnedEventId, OwnedRoomAliasId};
use serde::Serialize;

use super::decide::{Decision, Known, KnownEvent, PendingRedaction, decide};
use super::rows::{self, Found, OldMember, Plan};
use super::{Answer, Job, publish, write};
use crate::db::{Columns as _, Tx, json_numbers, json_rows, json_texts, signed};
use crate::dialect::escaped;
use crate::error::is_busy;
use crate::members::from_code;
use crate::rooms::head_of;
use crate::store::CrashAt;
use crate::{
    CommitError, Committed, Error, EventNo, Fact, LostAnswer, NewEvent, Placement, Pos, RoomNo,
    Status, Store, UserNo,
};

/// What became of a group that was committed, or that had nothing to commit.
pub(super) struct Answered {
    pub(super) answers: Vec<(Job, Answer)>,
    pub(super) deferred: Vec<Job>,
}

/// Nothing is written, or (at COMMIT) nobody knows.
pub(super) struct Failed {
    pub(super) jobs: Vec<Job>,
    pub(super) trouble: Trouble,
}

#[derive(Debug)]
pub(super) enum Trouble {
    /// A row of the group can't be written.
    Row(Error),
    /// A row is there already. Another process may have written it after we looked.
    Conflict(Error),
    /// Not the group's fault.
    Passing(Error),
    /// COMMIT didn't answer as it should.
    AtCommit(Error),
}

impl From<sqlx::Error> for Trouble {
    fn from(error: sqlx::Error) -> Self {
        let is_conflict = error
            .as_database_error()
            .is_some_and(sqlx::error::DatabaseError::is_unique_violation);
        if is_busy(&error) {
            Self::Passing(error.into())
        } else if is_conflict {
            Self::Conflict(error.into())
        } else {
            Self::Row(error.into())
        }
    }
}

impl From<Error> for Trouble {
    fn from(error: Error) -> Self {
        match error {
            Error::Busy(_) => Self::Passing(error),
            Error::Failed(_) => Self::Row(error),
        }
    }
}

pub(super) async fn attempt(store: &Store, jobs: Vec<Job>) -> Result<Answered, Failed> {
    let mut written = match write_group(store, &jobs).await {
        Ok(written) => written,
        Err(trouble) => return Err(Failed { jobs, trouble }),
    };
    if written.committed {
        let counters = &store.core.counters;
        counters.groups(1);
        counters.write_sets(written.plan.spans.len());
        if let Err(error) = publish::publish(store, &jobs, &mut written).await {
            // It is durable, but the tail can't be brought up to date: the next group will try again.
            tracing::error!(%error, "the log's tail is behind");
        }
    }
    if written
        .decisions
        .iter()
        .any(|decision| matches!(decision, Decision::Done(_)))
        && let Err(error) = store.log().refresh().await
    {
        tracing::error!(%error, "the log's tail is behind");
    }
    Ok(answer(store, jobs, written))
}

/// A group that was written.
pub(super) struct Written {
    pub(super) known: Known,
    pub(super) decisions: Vec<Decision>,
    pub(super) plan: Plan,
    pub(super) found: Found,
    /// The position before the group's first.
    pub(super) base: Pos,
    /// The order after the group's last backfilled event.
    pub(super) back: i64,
    pub(super) committed: bool,
}

async fn write_group(store: &Store, jobs: &[Job]) -> Result<Written, Trouble> {
    let mut tx = store.begin().await?;
    let mut known = load(store, &mut tx, jobs).await?;
    let decisions: Vec<_> = jobs.iter().map(|job| decide(job, &mut known)).collect();
    let accepted: Vec<(usize, &Job)> = (jobs.iter().enumerate())
        .filter(|(index, _)| matches!(decisions[*index], Decision::Accept))
        .collect();
    if accepted.is_empty() {
        tx.rollback().await;
        return Ok(Written {
            known,
            decisions,
            plan: Plan::default(),
            found: Found::default(),
            base: store.core.tail.head(),
            back: 0,
            committed: false,
        });
    }
    let found = find(store, &mut tx, &accepted, &known).await?;
    let plan = rows::plan(&accepted, &mut known, &found, store.clock().now_ms())?;
    let (base, back) = write::write(&mut tx, &plan).await?;
    store.crash_if(CrashAt::BeforeCommit);
    commit(store, tx).await?;
    store.crash_if(CrashAt::AfterCommit);
    Ok(Written {
        known,
        decisions,
        plan,
        found,
        base,
        back,
        committed: true,
    })
}

async fn commit(store: &Store, tx: Tx) -> Result<(), Trouble> {
    let lost = store.next_lost_answer();
    if lost == Some(LostAnswer::RolledBack) {
        tx.rollback().await;
    } else {
        let done = tx.commit().await;
        done.map_err(|error| Trouble::AtCommit(error.into()))?;
    }
    match lost {
        Some(_) => Err(Trouble::AtCommit(Error::Busy("the answer is lost".into()))),
        None => Ok(()),
    }
}

fn answer(store: &Store, jobs: Vec<Job>, written: Written) -> Answered {
    let head = store.core.tail.head();
    let mut answered = Answered {
        answers: Vec::with_capacity(jobs.len()),
        deferred: Vec::new(),
    };
    let mut spans = written.plan.spans.into_iter();
    for (job, decision) in jobs.into_iter().zip(written.decisions) {
        let answer = match decision {
            Decision::Accept => {
                let span = spans.next().unwrap_or_default();
                let at = |offset: usize| Pos(written.base.0 + signed(offset));
                Ok(if span.is_empty() {
                    Committed {
                        first: head,
                        last: head,
                    }
                } else {
                    Committed {
                        first: at(span.start + 1),
                        last: at(span.end),
                    }
                })
            }
            Decision::Refuse(error) => {
                store.core.counters.refused(1);
                if let CommitError::StateMoved { room, .. } = &error {
                    // Whoever decided on it may have read it here.
                    store.core.caches.rooms.remove(room);
                }
                Err(error)
            }
            Decision::Done(order) => {
                let pos = Pos(order.unwrap_or(head.0).max(0));
                Ok(Committed {
                    first: pos,
                    last: pos,
                })
            }
            Decision::Defer => {
                answered.deferred.push(job);
                continue;
            }
        };
        answered.answers.push((job, answer));
    }
    answered
}

// ---- what the decision needs

fn events_of(jobs: &[Job]) -> impl Iterator<Item = (RoomNo, &NewEvent)> {
    jobs.iter()
        .flat_map(|job| &job.set.rooms)
        .flat_map(|write| write.events.iter().map(|event| (write.room, event)))
}

async fn load(store: &Store, tx: &mut Tx, jobs: &[Job]) -> Result<Known, Trouble> {
    let mut known = Known::default();
    lock_rooms(store, tx, jobs, &mut known).await?;
    look_up(tx, jobs, &mut known).await?;
    let new_rooms: Vec<&str> = jobs
        .iter()
        .flat_map(|job| &job.set.rooms)
        .filter_map(|write| Some(write.create.as_ref()?.room_id.as_str()))
        .collect();
    if !new_rooms.is_empty() {
        let query = tx
            .sql("SELECT no, room_id FROM room WHERE room_id IN (SELECT value ->> 0 FROM EACH($1))")
            .bind(json_texts(new_rooms)?);
        for row in tx.rows(query).await? {
            known.room_ids.insert(row.id(1)?, RoomNo(row.int(0)?));
        }
    }
    let aliases: Vec<&OwnedRoomAliasId> = jobs
        .iter()
        .flat_map(|job| &job.set.facts)
        .filter_map(|fact| match fact {
            Fact::Alias { alias, .. } => Some(alias),
            _ => None,
        })
        .collect();
    if !aliases.is_empty() {
        let query = tx
            .sql("SELECT alias FROM room_alias WHERE alias IN (SELECT value ->> 0 FROM EACH($1))")
            .bind(json_texts(aliases.iter().map(|alias| alias.as_str()))?);
        for row in tx.rows(query).await? {
            known.aliases.insert(row.id(0)?);
        }
    }
    Ok(known)
}

/// Locks the rows of all rooms by ascending number, and reads them.
async fn lock_rooms(
    store: &Store,
    tx: &mut Tx,
    jobs: &[Job],
    known: &mut Known,
) -> Result<(), Trouble> {
    let mut rooms = BTreeSet::new();
    for job in jobs {
        rooms.extend(job.set.rooms.iter().map(|write| write.room.0));
        rooms.extend(job.set.facts.iter().filter_map(|fact| match fact {
            Fact::Directory { room, .. } => Some(room.0),
            _ => None,
        }));
    }
    if rooms.is_empty() {
        return Ok(());
    }
    let query = store
        .sql(
            "SELECT no, room_id, version, state_version, snapshot, extremities, joined, invited, \
             public FROM room WHERE no IN (SELECT CAST(value ->> 0 AS BIGINT) FROM EACH($1)) \
             ORDER BY no FOR_UPDATE",
        )
        .bind(json_numbers(rooms));
    for row in tx.rows(query).await? {
        let head = match row.raw_opt(2)? {
            Some(_) => Some(head_of(&row)?),
            None => None,
        };
        known.rooms.insert(RoomNo(row.int(0)?), head);
    }
    Ok(())
}

/// Everything that is stored already about the group's events and transactions, in one question.
const LOOK_UP: &str = "\
    SELECT 1 AS k, e.no AS a, e.ord AS b, e.status AS c, e.placement AS d, e.event_id AS t, \
    CAST(NULL AS TEXT) AS u FROM event e \
    WHERE e.event_id IN (SELECT value ->> 0 FROM EACH($1)) \
    UNION ALL SELECT 2, p.redaction, p.room, NULL, NULL, p.target, p.only_from \
    FROM pending_redaction p WHERE p.target IN (SELECT value ->> 0 FROM EACH($2)) \
    UNION ALL SELECT 3, NULL, NULL, NULL, NULL, m.missing, NULL \
    FROM missing_prev m WHERE m.missing IN (SELECT value ->> 0 FROM EACH($2)) \
    UNION ALL SELECT 4, NULL, NULL, NULL, NULL, m.auth_id, NULL \
    FROM missing_auth m WHERE m.auth_id IN (SELECT value ->> 0 FROM EACH($2)) \
    UNION ALL SELECT 5, c.event, CAST(value ->> 4 AS BIGINT), NULL, NULL, e.event_id, NULL \
    FROM EACH($3) JOIN client_transaction c \
    ON c.user_no = CAST(value ->> 0 AS BIGINT) AND c.device = value ->> 1 \
    AND c.path = value ->> 2 AND c.txn_id = value ->> 3 \
    JOIN event e ON e.no = c.event";

async fn look_up(tx: &mut Tx, jobs: &[Job], known: &mut Known) -> Result<(), Trouble> {
    let own: HashSet<&str> = events_of(jobs)
        .map(|(_, event)| event.pdu.event_id().as_str())
        .collect();
    if own.is_empty() {
        return Ok(());
    }
    // Whether prev_events are there: extremities and the group's own are.
    let mut ids = own.clone();
    let extremities: HashSet<&str> = (known.rooms.values().flatten())
        .flat_map(|head| &head.extremities)
        .map(|extremity| extremity.event_id.as_str())
        .collect();
    for (_, event) in events_of(jobs).filter(|(_, event)| event.is_history()) {
        let prevs = event.pdu.prev_events().iter().map(|id| id.as_str());
        ids.extend(prevs.filter(|id| !extremities.contains(id)));
    }
    let keys: Vec<_> = events_of(jobs)
        .filter_map(|(_, event)| event.txn.as_ref())
        .collect();
    let txns: Vec<_> = keys
        .iter()
        .enumerate()
        .map(|(index, key)| {
            let device = escaped(key.device.as_str());
            (
                key.user,
                device,
                escaped(&key.path),
                escaped(&key.txn_id),
                index,
            )
        })
        .collect();
    let query = tx
        .sql(LOOK_UP)
        .bind(json_texts(ids)?)
        .bind(json_texts(own)?)
        .bind(json_rows(&txns)?);
    let mut placed_extremities: Vec<(OwnedEventId, EventNo)> = Vec::new();
    for head in known.rooms.values().flatten() {
        let known = head.extremities.iter();
        placed_extremities.extend(known.map(|ext| (ext.event_id.clone(), ext.no)));
    }
    for (id, no) in placed_extremities {
        // Never asked for as an event of the group, unless it is one, and then the row says more.
        known.events.insert(
            id,
            KnownEvent {
                no,
                done: true,
                placed: true,
                order: None,
                in_group: false,
            },
        );
    }
    for row in tx.rows(query).await? {
        match row.int(0)? {
            1 => {
                let status = Status::from_code(row.int(3)?);
                let outlier = Placement::from_code(row.int(4)?) == Placement::Outlier;
                let event = KnownEvent {
                    no: EventNo(row.int(1)?),
                    done: status == Status::Accepted && !outlier,
                    placed: !outlier,
                    order: row.int_opt(2)?,
                    in_group: false,
                };
                known.events.insert(row.id(5)?, event);
            }
            2 => {
                let pending = PendingRedaction {
                    by: EventNo(row.int(1)?),
                    room: RoomNo(row.int(2)?),
                    only_from: match row.text_opt(6)? {
                        Some(_) => Some(row.id(6)?),
                        None => None,
                    },
                };
                known
                    .redactions
                    .entry(row.id(5)?)
                    .or_default()
                    .push(pending);
            }
            3 => drop(known.wanted_prevs.insert(row.id(5)?)),
            4 => drop(known.wanted_auth.insert(row.id(5)?)),
            _ => {
                let index = usize::try_from(row.int(2)?).unwrap_or(usize::MAX);
                if let Some(key) = keys.get(index) {
                    let made = (EventNo(row.int(1)?), row.id(5)?);
                    known.txns.insert((*key).clone(), made);
                }
            }
        }
    }
    Ok(())
}

// ---- what the rows need

async fn find(
    store: &Store,
    tx: &mut Tx,
    accepted: &[(usize, &Job)],
    known: &Known,
) -> Result<Found, Trouble> {
    let mut found = Found::default();
    find_members(tx, accepted, &mut found).await?;
    find_targets(tx, accepted, known, &mut found).await?;
    find_auth(store, tx, accepted, known, &mut found).await?;
    Ok(found)
}

/// The memberships that the group changes, as they were.
async fn find_members(
    tx: &mut Tx,
    accepted: &[(usize, &Job)],
    found: &mut Found,
) -> Result<(), Trouble> {
    let mut wanted: BTreeSet<(UserNo, RoomNo)> = BTreeSet::new();
    for (_, job) in accepted {
        for (write, gathered) in job.set.rooms.iter().zip(&job.gathered.rooms) {
            let members = gathered.members.iter().flatten();
            wanted.extend(members.map(|member| (member.user, write.room)));
        }
        for (fact, room) in job.set.facts.iter().zip(&job.gathered.fact_rooms) {
            if let Fact::RemoteInvite { user, .. } | Fact::RemoteInviteGone { user, .. } = fact {
                wanted.extend(room.map(|room| (*user, room)));
            }
        }
    }
    if wanted.is_empty() {
        return Ok(());
    }
    let wanted: Vec<_> = wanted.into_iter().collect();
    let query = tx
        .sql(
            "SELECT m.user_no, m.room, m.membership, m.event, m.since, m.forgotten \
             FROM EACH($1) JOIN membership m \
             ON m.user_no = CAST(value ->> 0 AS BIGINT) AND m.room = CAST(value ->> 1 AS BIGINT)",
        )
        .bind(json_rows(&wanted)?);
    for row in tx.rows(query).await? {
        let old = OldMember {
            membership: from_code(row.int(2)?)?,
            counted: row.int_opt(3)?.is_some(),
            since: row.int(4)?,
            forgotten: row.int(5)?,
        };
        let key = (UserNo(row.int(0)?), RoomNo(row.int(1)?));
        found.members.insert(key, old);
    }
    Ok(())
}

/// The stored targets of the group's redactions.
async fn find_targets(
    tx: &mut Tx,
    accepted: &[(usize, &Job)],
    known: &Known,
    found: &mut Found,
) -> Result<(), Trouble> {
    let targets: BTreeSet<&str> = accepted
        .iter()
        .flat_map(|(_, job)| &job.set.rooms)
        .flat_map(|write| &write.events)
        .filter_map(|event| event.redacts.as_ref())
        .filter(|redacts| {
            known
                .events
                .get(&redacts.target)
                .is_none_or(|event| !event.in_group)
        })
        .map(|redacts| redacts.target.as_str())
        .collect();
    if targets.is_empty() {
        return Ok(());
    }
    let query = tx.sql(crate::events::BY_IDS).bind(json_texts(targets)?);
    for row in tx.rows(query).await? {
        let event = crate::events::event_of(&row)?;
        found.targets.insert(event.pdu.event_id().to_owned(), event);
    }
    Ok(())
}

/// The numbers of the auth events of the group's state events.
async fn find_auth(
    store: &Store,
    tx: &mut Tx,
    accepted: &[(usize, &Job)],
    known: &Known,
    found: &mut Found,
) -> Result<(), Trouble> {
    let mut unknown = BTreeSet::new();
    let events = accepted
        .iter()
        .flat_map(|(_, job)| &job.set.rooms)
        .flat_map(|write| &write.events)
        .filter(|event| event.pdu.state_key().is_some());
    for id in events.flat_map(|event| event.pdu.auth_events()) {
        let no = known.events.get(id).map(|event| event.no);
        match no.or_else(|| store.core.caches.event_ids.get(id)) {
            Some(no) => drop(found.auth.insert(id.clone(), no)),
            None => drop(unknown.insert(id.as_str())),
        }
    }
    if unknown.is_empty() {
        return Ok(());
    }
    let query = tx
        .sql("SELECT no, event_id FROM event WHERE event_id IN (SELECT value ->> 0 FROM EACH($1))")
        .bind(json_texts(unknown)?);
    let rows = tx.rows(query).await?;
    let stored: Result<HashMap<_, _>, Error> = rows
        .iter()
        .map(|row| Ok((row.id(1)?, EventNo(row.int(0)?))))
        .collect();
    found.auth.extend(stored?);
    Ok(())
}

/// A statement for rows of a plan.
#[derive(Debug)]
pub(super) struct Statement {
    pub(super) sql: &'static str,
    /// `$1`: a JSON array of arrays.
    pub(super) rows: String,
    /// Whether it needs `$2`, the position before the group's first, and `$3`, the order after its
    /// last backfilled event.
    pub(super) uses: Uses,
    /// How many rows it must touch.
    pub(super) expect: Option<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Uses {
    Rows,
    Base,
    BaseAndBack,
}

impl Statement {
    pub(super) fn new<T: Serialize>(
        sql: &'static str,
        rows: &[T],
        uses: Uses,
    ) -> Result<Self, Error> {
        Ok(Self {
            sql,
            rows: json_rows(rows)?,
            uses,
            expect: None,
        })
    }
}
