//! Events that go on from the room as it is, each from the one before it: what another server's transaction mostly
//! brings. They are decided one upon the other in memory and stored by one commit.
//!
//! An event is taken if nothing about it is to be found out: it follows the room's only end (or the event before it),
//! changes no state, and rests on exactly those events that the current state has for it. Then the states of steps 4, 5
//! and 6 are one and the same, and no resolution is needed. What isn't so is for [`super::pushed`].

use std::{
    collections::{BTreeSet, HashSet},
    sync::Arc,
};

use rhizome_protocol::{Pdu, auth, policy::PolicyServer};
use rhizome_storage::{CommitError, Fact, NewEvent, RoomHead, RoomWrite, StoredEvent};
use ruma::{EventId, OwnedEventId, RoomId};

use super::{checks::allowed_by_auth_events, require_resident};
use crate::{
    Rooms,
    error::Result,
    policy_server,
    send::{
        batch::above,
        commit_error, known_room,
        view::{ALWAYS, View, keys_of},
    },
    sticky::with_sticky,
};

/// What was taken of a line of events.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Line {
    /// So many from its beginning are part of the room.
    pub taken: usize,
    /// Whether the facts were written with them.
    pub with_facts: bool,
}

/// Admits as many of the first of these events of a room as form a line that goes on from it. `facts` are written with
/// them if that is all.
///
/// # Errors
///
/// As of [`super::receive`].
pub async fn line(
    rooms: &Rooms,
    room_id: &RoomId,
    pdus: &[Arc<Pdu>],
    facts: Vec<Fact>,
) -> Result<Line> {
    // Who is at work in the room isn't held up for what can't be one.
    let head = known_room(rooms, room_id).await?;
    let ends = head.extremities.iter().map(|end| &end.event_id);
    let goes_on = pdus
        .first()
        .is_some_and(|pdu| pdu.prev_events().iter().eq(ends));
    if !goes_on {
        return Ok(Line::default());
    }
    let room = head.room;
    let queue = rooms.queues().of(room);
    let mut warm = queue.enter().await;
    let head = known_room(rooms, room_id).await?;
    require_resident(rooms, &head).await?;
    let Some(end) = only_end(rooms, &head).await? else {
        return Ok(Line::default());
    };
    let policy = policy_server::in_force(rooms, &head).await?;
    let fitting = fitting(&head, &end, policy.as_ref(), pdus);
    let fitting = &fitting[..unknown(rooms, fitting).await?];
    let view = &mut warm.at(head.state_version).view;
    let allowed = allowed(rooms, &head, view, fitting).await?;
    if allowed == 0 {
        return Ok(Line::default());
    }
    let mut write = RoomWrite {
        room,
        expect: Some(head.state_version),
        ..RoomWrite::default()
    };
    let mut depth = above(std::slice::from_ref(&end));
    for pdu in &fitting[..allowed] {
        write.events.push(NewEvent {
            depth,
            state_before: head.snapshot,
            state_after: head.snapshot,
            visibility: Some(view.visibility()),
            ..NewEvent::new(rooms.store().next_event_no().await?, pdu.clone())
        });
        depth = depth.saturating_add(1);
    }
    let mut set = with_sticky(rooms, write).await?;
    let with_facts = allowed == pdus.len();
    if with_facts {
        set.facts.extend(facts);
    }
    match rooms.store().commit(set).await {
        Ok(_) => Ok(Line {
            taken: allowed,
            with_facts,
        }),
        // Something else came first: each by itself.
        Err(CommitError::StateMoved { .. } | CommitError::DuplicateEvent { .. }) => {
            Ok(Line::default())
        }
        Err(error) => Err(commit_error(error)),
    }
}

/// The room's end, if it is the only one and the current state is the state after it.
async fn only_end(rooms: &Rooms, head: &RoomHead) -> Result<Option<Arc<StoredEvent>>> {
    let [end] = &head.extremities[..] else {
        return Ok(None);
    };
    let end = rooms.store().event_by_no(end.no).await?;
    Ok(end.filter(|end| end.state_after.is_some() && end.state_after == head.snapshot))
}

/// Those at the beginning that follow one another, and of which that is all that matters.
fn fitting<'a>(
    head: &RoomHead,
    end: &StoredEvent,
    policy: Option<&PolicyServer>,
    pdus: &'a [Arc<Pdu>],
) -> &'a [Arc<Pdu>] {
    let mut last: &EventId = end.pdu.event_id();
    let mut seen = HashSet::new();
    let mut count = 0;
    for pdu in pdus {
        // Where servers choose the ids, two events may have one.
        if !seen.insert(pdu.event_id()) {
            break;
        }
        let follows = matches!(pdu.prev_events(), [prev] if prev == last);
        let is_plain = pdu.state_key().is_none() && pdu.redacts().is_none() && pdu.is_whole();
        if !follows || !is_plain || pdu.rules() != head.rules || pdu.room_id() != head.room_id {
            break;
        }
        // Step 7.
        if policy.is_some_and(|policy| !policy.passes(pdu)) {
            break;
        }
        last = pdu.event_id();
        count += 1;
    }
    &pdus[..count]
}

/// How many at the beginning aren't stored in any way.
async fn unknown(rooms: &Rooms, pdus: &[Arc<Pdu>]) -> Result<usize> {
    let ids: Vec<OwnedEventId> = pdus.iter().map(|pdu| pdu.event_id().to_owned()).collect();
    let known = rooms.store().events(&ids).await?;
    let is_known = |id: &OwnedEventId| known.iter().any(|known| known.pdu.event_id() == id);
    Ok(ids.iter().position(is_known).unwrap_or(ids.len()))
}

/// How many at the beginning the current state allows, resting on just that.
async fn allowed(
    rooms: &Rooms,
    head: &RoomHead,
    view: &mut View,
    pdus: &[Arc<Pdu>],
) -> Result<usize> {
    for (at, pdu) in pdus.iter().enumerate() {
        let keys = keys_of(pdu.rules(), pdu.kind(), pdu.sender(), None, pdu.content());
        let mut wanted: Vec<(&str, &str)> = ALWAYS.to_vec();
        wanted.extend(keys.iter().map(|(kind, key)| (kind.as_str(), key.as_str())));
        view.load(rooms.store(), head.snapshot, &wanted).await?;
        let mut rests_on: Vec<(Arc<Pdu>, bool)> = (keys.iter())
            .filter_map(|(kind, key)| view.held(kind, key))
            .map(|held| (held.pdu.clone(), false))
            .collect();
        let implied = pdu.implied_create();
        if implied.is_some() {
            let create = view.held("m.room.create", "");
            rests_on.extend(create.map(|held| (held.pdu.clone(), false)));
        }
        let named = pdu.auth_events().iter().chain(&implied);
        let named: BTreeSet<&EventId> = named.map(|id| &**id).collect();
        let current: BTreeSet<&EventId> = rests_on.iter().map(|(pdu, _)| pdu.event_id()).collect();
        // Steps 4, 5 and 6.
        let allowed = named == current
            && allowed_by_auth_events(pdu, &rests_on).is_ok()
            && auth::authorize(pdu, &*view).is_ok();
        if !allowed {
            return Ok(at);
        }
    }
    Ok(pdus.len())
}
