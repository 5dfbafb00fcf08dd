//! What the rows of a group's accepted write sets need to know of what is stored.

use std::collections::BTreeSet;

use crate::commit::Job;
use crate::commit::decide::GroupState;
use crate::commit::rows::{Found, OldMember, redactions_of};
use crate::engine::db::Tx;
use crate::engine::sql::{Columns as _, rows};
use crate::engine::trouble::Trouble;
use crate::rooms::events::BY_IDS;
use crate::rooms::stored_event::event_of;
use crate::{EventNo, Fact, RoomNo, Store, UserNo};

rows! {
    struct AskedMember {
        user_no: UserNo,
        room: RoomNo,
    }
}

pub(super) async fn find(
    store: &Store,
    tx: &mut Tx,
    accepted: &[(usize, &Job)],
    known: &GroupState,
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
        let outside = job.set.facts.iter().filter_map(Fact::outside_membership);
        wanted.extend(outside.map(|(user, room, _)| (user, room)));
    }
    if wanted.is_empty() {
        return Ok(());
    }
    let wanted: Vec<_> = (wanted.into_iter())
        .map(|(user_no, room)| AskedMember { user_no, room })
        .collect();
    let query = tx
        .sql(
            "SELECT m.user_no, m.room, m.membership, m.event, m.since, m.forgotten \
             FROM ROWS($1) AS x JOIN membership m ON m.user_no = x.user_no AND m.room = x.room",
        )
        .rows(&wanted);
    for row in tx.rows(query).await? {
        let old = OldMember {
            membership: row.get("membership")?,
            counted: row.get::<Option<EventNo>>("event")?.is_some(),
            since: row.get("since")?,
            forgotten: row.get("forgotten")?,
        };
        found
            .members
            .insert((row.get("user_no")?, row.get("room")?), old);
    }
    Ok(())
}

/// The stored targets of the group's redactions.
async fn find_targets(
    tx: &mut Tx,
    accepted: &[(usize, &Job)],
    known: &GroupState,
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
    let query = tx.sql(BY_IDS).texts(targets);
    for row in tx.rows(query).await? {
        let event = event_of(&row)?;
        found.targets.insert(event.pdu.event_id().to_owned(), event);
    }
    Ok(())
}

/// The numbers of the auth events of the group's state events.
async fn find_auth(
    store: &Store,
    tx: &mut Tx,
    accepted: &[(usize, &Job)],
    known: &GroupState,
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
        .sql("SELECT no, event_id FROM event WHERE event_id IN TEXTS($1)")
        .texts(unknown);
    for row in tx.rows(query).await? {
        found.auth.insert(row.get("event_id")?, row.get("no")?);
    }
    Ok(())
}
