//! What a group's transaction reads: for the decision, and for the rows.

use std::collections::{BTreeSet, HashSet};

use ruma::{OwnedEventId, OwnedServerName};

use crate::commit::Job;
use crate::commit::decide::{GroupState, KnownEvent, PendingRedaction};
use crate::engine::db::Tx;
use crate::engine::sql::{Columns as _, ReadRow, rows};
use crate::engine::trouble::Trouble;
use crate::facts::FactsBasis;
use crate::rooms::heads::head_of;
use crate::{
    EventNo, Fact, NewEvent, Placement, Result, RoomNo, RoomWrite, SnapshotNo, Status, Store,
    TxnKey, UserNo,
};

fn events_of(jobs: &[Job]) -> impl Iterator<Item = (RoomNo, &NewEvent)> {
    writes_of(jobs).flat_map(|write| write.events.iter().map(|event| (write.room, event)))
}

fn writes_of(jobs: &[Job]) -> impl Iterator<Item = &RoomWrite> {
    jobs.iter().flat_map(|job| &job.set.rooms)
}

fn facts_of(jobs: &[Job]) -> impl Iterator<Item = &Fact> {
    jobs.iter().flat_map(|job| &job.set.facts)
}

pub(super) async fn load(store: &Store, tx: &mut Tx, jobs: &[Job]) -> Result<GroupState, Trouble> {
    let mut known = GroupState::default();
    lock_rooms(store, tx, jobs, &mut known).await?;
    known.partial.look_up(tx, writes_of(jobs)).await?;
    look_up(tx, jobs, &mut known).await?;
    look_up_snapshots(tx, jobs, &mut known).await?;
    look_up_room_ids(tx, jobs, &mut known).await?;
    lock_users(store, tx, jobs).await?;
    known.facts = FactsBasis::look_up(tx, facts_of(jobs)).await?;
    Ok(known)
}

/// Locks the rows of all rooms by ascending number, and reads them.
async fn lock_rooms(
    store: &Store,
    tx: &mut Tx,
    jobs: &[Job],
    known: &mut GroupState,
) -> Result<(), Trouble> {
    let written = writes_of(jobs).map(|write| write.room);
    let rooms: BTreeSet<RoomNo> = written
        .chain(facts_of(jobs).filter_map(Fact::room_row))
        .chain(facts_of(jobs).filter_map(|fact| Some(fact.decided_on()?.0)))
        .collect();
    if rooms.is_empty() {
        return Ok(());
    }
    let query = store
        .sql(
            "SELECT no, room_id, version, state_version, snapshot, extremities, joined, invited, \
             public, bump, partial_join FROM room WHERE no IN NUMBERS($1) ORDER BY no FOR_UPDATE",
        )
        .numbers(rooms);
    for row in tx.rows(query).await? {
        let head = match row.get::<Option<String>>("version")? {
            Some(_) => Some(head_of(&row)?),
            None => None,
        };
        known.rooms.insert(row.get("no")?, head);
    }
    Ok(())
}

/// Locks the rows of all users whose own rows may change, by ascending number: of two processes only one
/// changes them at a time, also when there is nothing yet. In SQLite only one transaction writes at a time anyhow.
async fn lock_users(store: &Store, tx: &mut Tx, jobs: &[Job]) -> Result<(), Trouble> {
    if !store.core.dialect.is_shared() {
        return Ok(());
    }
    let users: BTreeSet<UserNo> = facts_of(jobs).filter_map(Fact::locks).collect();
    if users.is_empty() {
        return Ok(());
    }
    let lock = tx
        .sql("SELECT no FROM user_name WHERE no IN NUMBERS($1) ORDER BY no FOR_UPDATE")
        .numbers(users);
    tx.rows(lock).await?;
    Ok(())
}

/// The numbers that rooms to create have already.
async fn look_up_room_ids(
    tx: &mut Tx,
    jobs: &[Job],
    known: &mut GroupState,
) -> Result<(), Trouble> {
    let new = writes_of(jobs).filter_map(|write| Some(&write.create.as_ref()?.room_id));
    let new: Vec<_> = new.collect();
    if new.is_empty() {
        return Ok(());
    }
    let query = tx
        .sql("SELECT no, room_id FROM room WHERE room_id IN TEXTS($1)")
        .texts(new.iter().map(|id| id.as_str()));
    for row in tx.rows(query).await? {
        known.room_ids.insert(row.get("room_id")?, row.get("no")?);
    }
    Ok(())
}

/// Whether the snapshots that the group builds on are there, and whether the collector has them on its list.
/// Mostly they are the rooms' current ones, or new ones of this group: then there is nothing to ask.
async fn look_up_snapshots(
    tx: &mut Tx,
    jobs: &[Job],
    known: &mut GroupState,
) -> Result<(), Trouble> {
    let current = known.rooms.values().flatten();
    known.snapshots = current.filter_map(|head| head.snapshot).collect();
    let writes = || writes_of(jobs);
    let mut wanted: BTreeSet<SnapshotNo> = writes()
        .flat_map(RoomWrite::outer_snapshots)
        .filter(|no| !known.snapshots.contains(no))
        .collect();
    // What an earlier attempt has stored already is not written again, so it must be asked for.
    if !jobs.iter().any(|job| job.maybe_done) {
        for new in writes().flat_map(|write| &write.snapshots) {
            wanted.remove(&new.no);
        }
    }
    if wanted.is_empty() {
        return Ok(());
    }
    let query = tx
        .sql(
            "SELECT s.no, c.no AS candidate FROM state_snapshot s \
             LEFT JOIN snapshot_candidate c ON c.no = s.no WHERE s.no IN NUMBERS($1)",
        )
        .numbers(wanted);
    for row in tx.rows(query).await? {
        let no = row.get("no")?;
        known.snapshots.insert(no);
        known
            .candidates
            .extend(row.get::<Option<SnapshotNo>>("candidate")?);
    }
    Ok(())
}

rows! {
    struct AskedTxn<'a> {
        n: usize,
        user_no: UserNo,
        device: &'a str,
        path: &'a str,
        txn_id: &'a str,
    }
}

/// Everything that is stored already about the group's events and transactions, in one question: each
/// answer says `what` it is about, and fills the columns that it needs.
///
/// - `event`: one of the group, or a `prev_event`, and what redacted it: if it is an outlier that now gets its
///   place, that goes on doing so;
/// - `redaction`: one that came before its target, an event of the group;
/// - `wanted prev`, `wanted auth`: a stored event names one of the group, which wasn't there;
/// - `transaction`: what the group's nth client transaction has made.
const LOOK_UP: &str = "\
    SELECT 'event' AS what, e.event_id, e.no, e.ord, e.status, e.placement, e.redacted_by, \
    e.room, CAST(NULL AS TEXT) AS only_from, CAST(NULL AS BIGINT) AS n \
    FROM event e WHERE e.event_id IN TEXTS($1) \
    UNION ALL SELECT 'redaction', p.target, p.redaction, NULL, NULL, NULL, NULL, p.room, p.only_from, NULL \
    FROM pending_redaction p WHERE p.target IN TEXTS($2) \
    UNION ALL SELECT 'wanted prev', m.missing, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL \
    FROM missing_prev m WHERE m.missing IN TEXTS($2) \
    UNION ALL SELECT 'wanted auth', m.auth_id, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL \
    FROM missing_auth m WHERE m.auth_id IN TEXTS($2) \
    UNION ALL SELECT 'transaction', e.event_id, e.no, NULL, NULL, NULL, NULL, NULL, NULL, x.n \
    FROM ROWS($3) AS x JOIN client_transaction c ON c.user_no = x.user_no AND c.device = x.device \
    AND c.path = x.path AND c.txn_id = x.txn_id JOIN event e ON e.no = c.event";

async fn look_up(tx: &mut Tx, jobs: &[Job], known: &mut GroupState) -> Result<(), Trouble> {
    let own: HashSet<&str> = events_of(jobs)
        .map(|(_, event)| event.pdu.event_id().as_str())
        .collect();
    if own.is_empty() {
        return Ok(());
    }
    let keys: Vec<&TxnKey> = events_of(jobs)
        .filter_map(|(_, event)| event.txn.as_ref())
        .collect();
    let txns: Vec<_> = (keys.iter().enumerate())
        .map(|(n, key)| AskedTxn {
            n,
            user_no: key.user,
            device: key.device.as_str(),
            path: &key.path,
            txn_id: &key.txn_id,
        })
        .collect();
    let query = tx
        .sql(LOOK_UP)
        .texts(asked_ids(jobs, known, &own))
        .texts(own)
        .rows(&txns);
    let rows = tx.rows(query).await?;
    known_extremities(known);
    for row in rows {
        answered(&row, &keys, known)?;
    }
    Ok(())
}

/// The group's events, and those that they name and that aren't extremities: extremities are there.
fn asked_ids<'a>(jobs: &'a [Job], known: &GroupState, own: &HashSet<&'a str>) -> HashSet<&'a str> {
    let extremities: HashSet<&str> = (known.rooms.values().flatten())
        .flat_map(|head| &head.extremities)
        .map(|extremity| extremity.event_id.as_str())
        .collect();
    let mut ids = own.clone();
    for (_, event) in events_of(jobs).filter(|(_, event)| event.is_history()) {
        let prevs = event.pdu.prev_events().iter().map(|id| id.as_str());
        ids.extend(prevs.filter(|id| !extremities.contains(id)));
    }
    let followed = writes_of(jobs).filter_map(|write| Some(write.follows.as_ref()?.as_str()));
    ids.extend(followed.filter(|id| !extremities.contains(id)));
    ids
}

/// Extremities are placed. Of one that is an event of the group the answer says more.
fn known_extremities(known: &mut GroupState) {
    let heads = known.rooms.values().flatten();
    for extremity in heads.flat_map(|head| &head.extremities) {
        let event = KnownEvent {
            no: extremity.no,
            done: true,
            placed: true,
            order: None,
            in_group: false,
        };
        known.events.insert(extremity.event_id.clone(), event);
    }
}

/// Takes one answer to [`LOOK_UP`].
fn answered(row: &ReadRow, keys: &[&TxnKey], known: &mut GroupState) -> Result<()> {
    let event_id: OwnedEventId = row.get("event_id")?;
    match row.get::<String>("what")?.as_str() {
        "event" => {
            let status: Status = row.get("status")?;
            let outlier = row.get::<Placement>("placement")? == Placement::Outlier;
            let event = KnownEvent {
                no: row.get("no")?,
                done: status == Status::Accepted && !outlier,
                placed: !outlier,
                order: row.get("ord")?,
                in_group: false,
            };
            if let Some(by) = row.get("redacted_by")? {
                redacted(event_id.clone(), by, row, known)?;
            }
            known.events.insert(event_id, event);
        }
        "redaction" => redacted(event_id, row.get("no")?, row, known)?,
        "wanted prev" => drop(known.wanted_prevs.insert(event_id)),
        "wanted auth" => drop(known.wanted_auth.insert(event_id)),
        _ => {
            if let Some(key) = keys.get(row.get::<usize>("n")?) {
                let made = (row.get("no")?, event_id);
                known.txns.insert((*key).clone(), made);
            }
        }
    }
    Ok(())
}

fn redacted(
    target: OwnedEventId,
    by: EventNo,
    row: &ReadRow,
    known: &mut GroupState,
) -> Result<()> {
    let pending = PendingRedaction {
        by,
        room: row.get("room")?,
        only_from: row.get::<Option<OwnedServerName>>("only_from")?,
    };
    known.redactions.entry(target).or_default().push(pending);
    Ok(())
}
