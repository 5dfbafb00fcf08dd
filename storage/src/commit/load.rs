//! What a group's transaction reads: for the decision, and for the rows.

use std::collections::{BTreeSet, HashMap, HashSet};

use ruma::{OwnedEventId, OwnedRoomAliasId};

use super::Job;
use super::decide::{Known, KnownEvent, PendingRedaction};
use super::group::Trouble;
use super::rows::{Found, OldMember, redactions_of};
use super::{accounts, receipts, users};
use crate::engine::db::{Columns as _, Tx, json_numbers, json_rows, json_texts};
use crate::engine::dialect::escaped;
use crate::rooms::heads::head_of;
use crate::rooms::members::from_code;
use crate::{
    Error, EventNo, Fact, NewEvent, Placement, RoomNo, RoomWrite, SnapshotNo, Status, Store, UserNo,
};

fn events_of(jobs: &[Job]) -> impl Iterator<Item = (RoomNo, &NewEvent)> {
    jobs.iter()
        .flat_map(|job| &job.set.rooms)
        .flat_map(|write| write.events.iter().map(|event| (write.room, event)))
}

pub(super) async fn load(store: &Store, tx: &mut Tx, jobs: &[Job]) -> Result<Known, Trouble> {
    let mut known = Known::default();
    lock_rooms(store, tx, jobs, &mut known).await?;
    look_up(tx, jobs, &mut known).await?;
    look_up_snapshots(tx, jobs, &mut known).await?;
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
    users::lock(tx, jobs).await?;
    users::look_up_data(tx, jobs, &mut known).await?;
    known.accounts = accounts::look_up(tx, jobs).await?;
    known.receipts = receipts::look_up(tx, jobs).await?;
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

/// Whether the snapshots that the group builds on are there, and whether the collector has them on its list.
/// Mostly they are the rooms' current ones, or new ones of this group: then there is nothing to ask.
async fn look_up_snapshots(tx: &mut Tx, jobs: &[Job], known: &mut Known) -> Result<(), Trouble> {
    let current = known.rooms.values().flatten();
    known.snapshots = current.filter_map(|head| head.snapshot).collect();
    let writes = || jobs.iter().flat_map(|job| &job.set.rooms);
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
            "SELECT s.no, c.no FROM state_snapshot s LEFT JOIN snapshot_candidate c ON c.no = s.no \
             WHERE s.no IN (SELECT CAST(value ->> 0 AS BIGINT) FROM EACH($1))",
        )
        .bind(json_numbers(wanted.iter().map(|no| no.0)));
    for row in tx.rows(query).await? {
        let no = SnapshotNo(row.int(0)?);
        known.snapshots.insert(no);
        if row.int_opt(1)?.is_some() {
            known.candidates.insert(no);
        }
    }
    Ok(())
}

/// Everything that is stored already about the group's events and transactions, in one question. What redacted an
/// outlier that now gets its place goes on doing so.
const LOOK_UP: &str = "\
    SELECT 1 AS k, e.no AS a, e.ord AS b, e.status AS c, e.placement AS d, e.event_id AS t, \
    CAST(NULL AS TEXT) AS u FROM event e \
    WHERE e.event_id IN (SELECT value ->> 0 FROM EACH($1)) \
    UNION ALL SELECT 2, e.redacted_by, e.room, NULL, NULL, e.event_id, NULL FROM event e \
    WHERE e.event_id IN (SELECT value ->> 0 FROM EACH($1)) AND e.redacted_by IS NOT NULL \
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
    let writes = jobs.iter().flat_map(|job| &job.set.rooms);
    let followed = writes.filter_map(|write| Some(write.follows.as_ref()?.as_str()));
    ids.extend(followed.filter(|id| !extremities.contains(id)));
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

pub(super) async fn find(
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
            let members = gathered.all_members();
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
    let targets: BTreeSet<&str> = redactions_of(accepted)
        .map(|(_, _, redacts)| redacts)
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
    let query = tx
        .sql(crate::rooms::events::BY_IDS)
        .bind(json_texts(targets)?);
    for row in tx.rows(query).await? {
        let event = crate::rooms::events::event_of(&row)?;
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
