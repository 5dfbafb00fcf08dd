//! Events that other servers made (server-server "Checks performed on receipt of a PDU", steps 4–6).
//!
//! Format, signatures and hashes (steps 1–3) have been checked: what comes in is a [`Pdu`]. Then:
//!
//! 1. what we lack is named ([`Received::Need`]): auth events, prevs whose state nobody told;
//! 2. its auth events must allow it (step 4), or it is rejected;
//! 3. the state before it is the resolution of the states after its prevs (`state_at`); that must allow
//!    it (step 5), or it is rejected;
//! 4. the room's current state must allow it (step 6), or it is soft-failed;
//! 5. an accepted event joins the forward extremities, and their resolution is the new current state;
//! 6. all of it is one commit, conditional on the state version; if that moved, again from 4.
//!
//! A rejected or soft-failed event is stored with the reason, and later events may descend from it.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
};

use rhizome_protocol::{
    Pdu, Rejection, RoomRules, StateKey, auth,
    power::{Action, Level, Power},
    resolve::StateMap,
};
use rhizome_storage::{
    CommitError, CurrentState, EventNo, KeyNo, NewEvent, NewSnapshot, Placement, Redacts, RoomHead,
    RoomNo, RoomWrite, StateChange, Status, StoredEvent, WriteSet,
};
use ruma::{EventId, OwnedEventId, OwnedServerName, RoomId};

use crate::{
    Error, Rooms,
    error::Result,
    queue::Warm,
    send::{commit_error, known_room, send_to},
    state_at::{self, Fork, Resolved},
    view::{ALWAYS, Held, View, keys_of},
};

/// How often an event is decided again because the room's state moved.
const MAX_ATTEMPTS: usize = 20;
/// How many outliers go into one write set.
const OUTLIER_BATCH: usize = 200;
/// More forward extremities than this are not kept: the shallowest go.
const MAX_EXTREMITIES: usize = 100;

/// What other servers told about an event.
#[derive(Debug, Clone, Default)]
pub struct Gathered {
    /// The state after prevs that we don't have, by their ids. The events of these states must have been
    /// stored, e.g. by [`outliers`].
    pub states_after: HashMap<OwnedEventId, StateMap>,
}

/// What became of a received event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Received {
    /// It is part of the room.
    Accepted,
    /// It is kept, but users don't see it: the room's current state doesn't allow it.
    SoftFailed(Rejection),
    /// It is not allowed. Kept with the reason.
    Rejected(Rejection),
    /// We had it already, with whatever outcome then.
    Known,
    /// It can't be decided without these.
    Need(Need),
}

/// What a received event can't be decided without.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Need {
    /// Prevs that we don't have (or have without knowing the state there): the events, or the states
    /// after them in [`Gathered::states_after`].
    pub prev: Vec<OwnedEventId>,
    /// Auth events, or events of a gathered state, that we don't have: as [`outliers`].
    pub auth: Vec<OwnedEventId>,
}

/// Admits an event of another server's transaction.
///
/// # Errors
///
/// [`Error::UnknownRoom`] if none of our users is in the room; otherwise those of the database. What is
/// wrong with the event itself is no error, but [`Received`].
pub async fn receive(rooms: &Rooms, pdu: Arc<Pdu>, gathered: &Gathered) -> Result<Received> {
    let how = How {
        placement: Placement::Live,
        relay: false,
    };
    admit(rooms, pdu, gathered, how).await
}

/// How an event is admitted.
#[derive(Clone, Copy)]
pub(crate) struct How {
    pub(crate) placement: Placement,
    /// Whether we send it to the room's other servers: it came to us as the room's door.
    pub(crate) relay: bool,
}

/// What was found out about an event before anything is decided.
enum Gather {
    Known,
    Need(Need),
    Found(Found),
}

struct Found {
    /// The number of the outlier or rejected event that we have already.
    no: Option<EventNo>,
    prevs: Vec<Arc<StoredEvent>>,
    forks: Vec<Fork>,
    /// Why it can't be accepted, whatever the state.
    rejection: Option<Rejection>,
}

pub(crate) async fn admit(
    rooms: &Rooms,
    pdu: Arc<Pdu>,
    gathered: &Gathered,
    how: How,
) -> Result<Received> {
    // Again only if the same event was stored as an outlier in the meantime.
    for _ in 0..MAX_ATTEMPTS {
        if let Some(outcome) = admit_once(rooms, &pdu, gathered, how).await? {
            return Ok(outcome);
        }
    }
    Err(Error::Contended)
}

async fn admit_once(
    rooms: &Rooms,
    pdu: &Arc<Pdu>,
    gathered: &Gathered,
    how: How,
) -> Result<Option<Received>> {
    let head = known_room(rooms, pdu.room_id()).await?;
    if head.rules != pdu.rules() {
        return Err(Error::Invalid(
            "The event is of another room version than its room".into(),
        ));
    }
    if how.placement == Placement::Live {
        require_resident(rooms, &head).await?;
    }
    let found = match gather(rooms, &head, pdu, gathered).await? {
        Gather::Known => return Ok(Some(Received::Known)),
        Gather::Need(need) => return Ok(Some(Received::Need(need))),
        Gather::Found(found) => found,
    };
    let placed = match place(rooms, &head, pdu, found, how).await? {
        Ok(placed) => placed,
        Err(refused) => {
            let outcome = Received::Rejected(refused.rejection);
            let write = RoomWrite {
                room: head.room,
                events: vec![refused.event],
                snapshots: refused.snapshots,
                ..RoomWrite::default()
            };
            return store_alone(rooms, write, outcome).await;
        }
    };
    if how.placement != Placement::Live {
        let write = RoomWrite {
            room: head.room,
            events: vec![placed.event],
            snapshots: placed.after.new,
            drop_extremities: bridged(&head, pdu),
            ..RoomWrite::default()
        };
        return store_alone(rooms, write, Received::Accepted).await;
    }

    // From here on the room's current state matters: keep the rest of this process out of the way.
    let queue = rooms.queues().of(head.room);
    let mut warm = queue.gate.lock().await;
    for _ in 0..MAX_ATTEMPTS {
        let head = known_room(rooms, pdu.room_id()).await?;
        let decided = decide(rooms, &head, pdu, &placed, how).await?;
        let moves = decided.current.is_some();
        let write = RoomWrite {
            room: head.room,
            expect: Some(head.state_version),
            events: vec![decided.event],
            snapshots: decided.snapshots,
            current: decided.current,
            drop_extremities: decided.drop,
            ..RoomWrite::default()
        };
        match rooms.store().commit(only(write)).await {
            Ok(_) => {
                if moves {
                    *warm = Warm::default();
                }
                return Ok(Some(decided.outcome));
            }
            Err(CommitError::StateMoved { .. }) => {}
            Err(CommitError::DuplicateEvent { done, .. }) => {
                return Ok(done.then_some(Received::Known));
            }
            Err(error) => return Err(commit_error(error)),
        }
    }
    Err(Error::Contended)
}

/// Events happen to us in rooms that we are in; of others we know neither extremities nor state, and
/// nobody else comes in through us.
pub(crate) async fn require_resident(rooms: &Rooms, head: &RoomHead) -> Result<()> {
    let servers = rooms.store().joined_servers(head.room).await?;
    if servers.iter().any(|server| server == rooms.server()) {
        return Ok(());
    }
    Err(Error::UnknownRoom(head.room_id.clone()))
}

fn only(write: RoomWrite) -> WriteSet {
    WriteSet {
        rooms: vec![write],
        ..WriteSet::default()
    }
}

/// Looks for what the event refers to, and checks it against its auth events.
async fn gather(
    rooms: &Rooms,
    head: &RoomHead,
    pdu: &Arc<Pdu>,
    gathered: &Gathered,
) -> Result<Gather> {
    let store = rooms.store();
    let known = store.event(pdu.event_id()).await?;
    if let Some(known) = &known {
        // A rejection may be lifted only by what somebody has told since.
        let again = known.status == Status::Rejected && !gathered.states_after.is_empty();
        if known.placement != Placement::Outlier && !again {
            return Ok(Gather::Known);
        }
    }
    let no = known.map(|known| known.no);

    let mut need = Need::default();
    let auth_events = auth_events_of(rooms, pdu, &HashMap::new()).await?;
    let auth_events = match auth_events {
        Ok(events) => events,
        Err(missing) => {
            need.auth = missing;
            Vec::new()
        }
    };
    let found = store.events(pdu.prev_events()).await?;
    let by_id: HashMap<&EventId, &Arc<StoredEvent>> = found
        .iter()
        .map(|event| (event.pdu.event_id(), event))
        .collect();
    let mut prevs = Vec::new();
    let mut forks = Vec::new();
    let mut rejection = None;
    for id in pdu.prev_events() {
        match by_id.get(&**id) {
            Some(event) if event.pdu.room_id() != pdu.room_id() => {
                let reason = format!("prev event {id} is of another room");
                rejection = Some(Rejection::new("PDU format", reason));
            }
            Some(event) if event.state_after.is_some() => {
                prevs.push((*event).clone());
                forks.extend(event.state_after.map(Fork::Snapshot));
            }
            _ => match gathered.states_after.get(id) {
                Some(state) => match given(rooms, head.room, state).await? {
                    Ok(map) => forks.push(Fork::Given(map)),
                    Err(missing) => need.auth.extend(missing),
                },
                None => need.prev.push(id.clone()),
            },
        }
    }
    if !need.prev.is_empty() || !need.auth.is_empty() {
        need.auth.sort_unstable();
        need.auth.dedup();
        return Ok(Gather::Need(need));
    }

    // 4. Passes authorisation rules based on the event's auth events, otherwise it is rejected.
    if let Err(refused) = allowed_by_auth_events(pdu, &auth_events) {
        rejection.get_or_insert(refused);
    }
    // A room begins once. (Its create event may come again as history.)
    if pdu.is_state("m.room.create", "") {
        let at = Resolved {
            snapshot: head.snapshot,
            ..Resolved::default()
        };
        let create = at.entries(store, &[("m.room.create", "")]).await?;
        if no.is_none() || create.first() != Some(&no) {
            rejection.get_or_insert(Rejection::new(
                "auth 1",
                "the room has a create event already",
            ));
        }
    }
    Ok(Gather::Found(Found {
        no,
        prevs,
        forks,
        rejection,
    }))
}

/// The auth events that an event names (and the create event that it implies) with whether each was
/// rejected; or those that we don't have. `at_hand` are some that aren't stored yet.
async fn auth_events_of(
    rooms: &Rooms,
    pdu: &Pdu,
    at_hand: &HashMap<OwnedEventId, (Arc<Pdu>, bool)>,
) -> Result<Result<Vec<(Arc<Pdu>, bool)>, Vec<OwnedEventId>>> {
    let mut ids: Vec<OwnedEventId> = pdu.auth_events().to_vec();
    if let Some(create) = pdu.implied_create()
        && !ids.contains(&create)
    {
        ids.push(create);
    }
    let absent: Vec<OwnedEventId> = ids
        .iter()
        .filter(|id| !at_hand.contains_key(*id))
        .cloned()
        .collect();
    let stored = rooms.store().events(&absent).await?;
    let stored: HashMap<&EventId, &Arc<StoredEvent>> = stored
        .iter()
        .map(|event| (event.pdu.event_id(), event))
        .collect();
    let mut found = Vec::with_capacity(ids.len());
    let mut missing = Vec::new();
    for id in ids {
        if let Some(event) = at_hand.get(&id) {
            found.push(event.clone());
        } else if let Some(event) = stored.get(&*id) {
            found.push((event.pdu.clone(), event.status == Status::Rejected));
        } else {
            missing.push(id);
        }
    }
    Ok(if missing.is_empty() {
        Ok(found)
    } else {
        Err(missing)
    })
}

fn allowed_by_auth_events(pdu: &Pdu, auth_events: &[(Arc<Pdu>, bool)]) -> Result<(), Rejection> {
    auth::check_auth_events(pdu, auth_events)?;
    let state: Vec<Arc<Pdu>> = auth_events.iter().map(|(event, _)| event.clone()).collect();
    auth::authorize(pdu, &state)
}

/// A state that another server told, in numbers; or those of its events that we don't have. Rejected
/// events are left out of it.
async fn given(
    rooms: &Rooms,
    room: RoomNo,
    state: &StateMap,
) -> Result<Result<BTreeMap<KeyNo, EventNo>, Vec<OwnedEventId>>> {
    let ids: Vec<OwnedEventId> = state.values().cloned().collect();
    let stored = rooms.store().events(&ids).await?;
    let by_id: HashMap<&EventId, &Arc<StoredEvent>> = stored
        .iter()
        .map(|event| (event.pdu.event_id(), event))
        .collect();
    let mut map = BTreeMap::new();
    let mut missing = Vec::new();
    for (key, id) in state {
        match by_id.get(&**id) {
            Some(event) if event.room == room && event.status != Status::Rejected => {
                if event.pdu.is_state(&key.kind, &key.key) {
                    map.insert(rooms.store().key_no(&key.kind, &key.key).await?, event.no);
                }
            }
            Some(_) => {}
            None => missing.push(id.clone()),
        }
    }
    Ok(if missing.is_empty() {
        Ok(map)
    } else {
        Err(missing)
    })
}

/// An event with the states around it, allowed by the one before it.
struct Placed {
    event: NewEvent,
    prevs: Vec<Arc<StoredEvent>>,
    before: Resolved,
    after: Resolved,
}

/// An event that is not allowed by its auth events or by the state before it.
struct Refused {
    event: NewEvent,
    snapshots: Vec<NewSnapshot>,
    rejection: Rejection,
}

/// Finds the states before and after the event and checks it against the one before.
async fn place(
    rooms: &Rooms,
    head: &RoomHead,
    pdu: &Arc<Pdu>,
    found: Found,
    how: How,
) -> Result<Result<Placed, Refused>> {
    let store = rooms.store();
    let no = match found.no {
        Some(no) => no,
        None => store.next_event_no().await?,
    };
    let before = state_at::resolve(rooms, head, found.forks, None).await?;
    let view = view_of(rooms, &before, pdu).await?;
    let event = NewEvent {
        placement: how.placement,
        state_before: before.snapshot,
        state_after: before.snapshot,
        visibility: Some(view.visibility()),
        ..NewEvent::new(no, pdu.clone())
    };
    // 5. Passes authorisation rules based on the state before the event, otherwise it is rejected.
    let allowed = match found.rejection {
        Some(rejection) => Err(rejection),
        None => auth::authorize(pdu, &view),
    };
    if let Err(rejection) = allowed {
        let reason = Some(rejection.to_string());
        let event = NewEvent {
            status: Status::Rejected,
            reason,
            ..event
        };
        return Ok(Err(Refused {
            event,
            snapshots: before.new,
            rejection,
        }));
    }
    let after = match pdu.state_key() {
        Some(key) => {
            let key = store.key_no(pdu.kind(), key).await?;
            before.with(store, head.room, key, no).await?
        }
        None => before.clone(),
    };
    let event = NewEvent {
        state_after: after.snapshot,
        redacts: redacts(pdu, &view),
        ..event
    };
    Ok(Ok(Placed {
        event,
        prevs: found.prevs,
        before,
        after,
    }))
}

struct Decided {
    outcome: Received,
    event: NewEvent,
    snapshots: Vec<NewSnapshot>,
    current: Option<CurrentState>,
    drop: Vec<EventNo>,
}

/// Looks at the room's current state: whether it allows the event, and what becomes of it.
async fn decide(
    rooms: &Rooms,
    head: &RoomHead,
    pdu: &Arc<Pdu>,
    placed: &Placed,
    how: How,
) -> Result<Decided> {
    let store = rooms.store();
    let mut event = placed.event.clone();
    let mut snapshots = placed.after.new.clone();

    // 6. Passes authorisation rules based on the current state, otherwise it is "soft failed".
    if placed.before.snapshot != head.snapshot {
        let current = Resolved {
            snapshot: head.snapshot,
            ..Resolved::default()
        };
        let current = view_of(rooms, &current, pdu).await?;
        if let Err(rejection) = auth::authorize(pdu, &current) {
            event.status = Status::SoftFailed;
            event.reason = Some(rejection.to_string());
            event.redacts = None;
            let outcome = Received::SoftFailed(rejection);
            return Ok(Decided {
                outcome,
                event,
                snapshots,
                current: None,
                drop: Vec::new(),
            });
        }
    }

    if how.relay {
        event.send_to = relay_to(rooms, head, pdu).await?;
    }
    let (forks, drop) = extremities(rooms, head, pdu, &placed.prevs).await?;
    let now = if forks.is_empty() {
        placed.after.clone()
    } else {
        let now = merge(rooms, head, placed, forks).await?;
        let known: HashSet<_> = snapshots.iter().map(NewSnapshot::no).collect();
        snapshots.extend(
            now.new
                .iter()
                .filter(|new| !known.contains(&new.no()))
                .cloned(),
        );
        now
    };
    let mut changes = Vec::new();
    if now.snapshot != head.snapshot {
        for (key, old, new) in now.diff_from(store, head.snapshot).await? {
            changes.push(StateChange { key, old, new });
        }
    }
    let current = now
        .snapshot
        .filter(|_| !changes.is_empty())
        .map(|snapshot| CurrentState { snapshot, changes });
    Ok(Decided {
        outcome: Received::Accepted,
        event,
        snapshots,
        current,
        drop,
    })
}

/// The servers that we, as the room's door, pass an event on to: all in the room but its own.
async fn relay_to(
    rooms: &Rooms,
    head: &RoomHead,
    pdu: &Pdu,
) -> Result<Option<Vec<OwnedServerName>>> {
    let mut servers = rooms.store().joined_servers(head.room).await?.to_vec();
    servers.retain(|server| server != rooms.server());
    let mut to = send_to(rooms, &servers, pdu).unwrap_or_default();
    to.retain(|server| server != pdu.sender().server_name());
    Ok((!to.is_empty()).then_some(to))
}

/// The states of the extremities that stay beside the new event; and the extremities to drop, because
/// the event descends from them through events that were not accepted, or because there are too many.
async fn extremities(
    rooms: &Rooms,
    head: &RoomHead,
    pdu: &Pdu,
    prevs: &[Arc<StoredEvent>],
) -> Result<(Vec<Fork>, Vec<EventNo>)> {
    let mut covered: HashSet<OwnedEventId> = pdu.prev_events().iter().cloned().collect();
    // Through refused events: a bounded walk, what it doesn't reach merely stays an extremity.
    let mut walk: Vec<Arc<StoredEvent>> = prevs.to_vec();
    let mut steps = 0;
    while let Some(event) = walk.pop() {
        steps += 1;
        if event.status == Status::Accepted || steps > 100 {
            continue;
        }
        covered.extend(event.pdu.prev_events().iter().cloned());
        walk.extend(rooms.store().events(event.pdu.prev_events()).await?);
    }
    let mut drop = Vec::new();
    let mut left = Vec::new();
    for end in &head.extremities {
        if !covered.contains(&end.event_id) {
            left.push(end);
        } else if !pdu.prev_events().contains(&end.event_id) {
            drop.push(end.no);
        }
    }
    if left.len() >= MAX_EXTREMITIES {
        left.sort_by_key(|end| std::cmp::Reverse(end.depth));
        drop.extend(left.drain(MAX_EXTREMITIES - 1..).map(|end| end.no));
    }
    let nos: Vec<EventNo> = left.iter().map(|end| end.no).collect();
    let ends = rooms.store().events_by_no(&nos).await?;
    let forks = ends
        .iter()
        .filter_map(|end| end.state_after.map(Fork::Snapshot))
        .collect();
    Ok((forks, drop))
}

/// The resolution of the other extremities' states with the state after the new event.
async fn merge(
    rooms: &Rooms,
    head: &RoomHead,
    placed: &Placed,
    mut forks: Vec<Fork>,
) -> Result<Resolved> {
    let after = &placed.after;
    let mut after_all = None;
    if let (None, Some(snapshot)) = (&after.derived, after.snapshot) {
        forks.push(Fork::Snapshot(snapshot));
    } else {
        // Not stored yet: by its entries.
        let all = after.all(rooms.store()).await?;
        forks.push(Fork::Given(all.clone()));
        after_all = Some(all);
    }
    let pending = Some((placed.event.no, &placed.event.pdu));
    let now = state_at::resolve(rooms, head, forks, pending).await?;
    // The state after the event under the number that it gets anyway.
    if let (Some(_), Some(all)) = (&now.derived, after_all)
        && now.all(rooms.store()).await? == all
    {
        return Ok(after.clone());
    }
    Ok(now)
}

/// What authorising `pdu` looks at, in a state that may not be stored yet. The event itself may not be
/// stored, so the view holds stored events only: the state before `pdu` never names it.
async fn view_of(rooms: &Rooms, state: &Resolved, pdu: &Pdu) -> Result<View> {
    let keys = keys_of(
        pdu.rules(),
        pdu.kind(),
        pdu.sender(),
        pdu.state_key(),
        pdu.content(),
    );
    let mut wanted: Vec<(&str, &str)> = ALWAYS.to_vec();
    wanted.extend(keys.iter().map(|(kind, key)| (kind.as_str(), key.as_str())));
    wanted.sort_unstable();
    wanted.dedup();
    let entries = state.entries(rooms.store(), &wanted).await?;
    let nos: Vec<EventNo> = entries.iter().flatten().copied().collect();
    let events = rooms.store().events_by_no(&nos).await?;
    let mut view = View::default();
    for ((kind, key), no) in wanted.into_iter().zip(entries) {
        let held = no.and_then(|no| {
            let event = events.iter().find(|event| event.no == no)?;
            Some(Held {
                no,
                pdu: event.pdu.clone(),
            })
        });
        view.put(kind, key, held);
    }
    Ok(view)
}

/// Whether and where a redaction takes effect (room versions "Handling redactions"): everywhere with
/// the power for it, otherwise on events of the sender's own server.
fn redacts(pdu: &Pdu, state: &View) -> Option<Redacts> {
    let target = pdu.redacts()?.to_owned();
    let power = Power::of(pdu.rules(), state);
    let any = power.user(pdu.sender()) >= Level::Int(power.action(Action::Redact));
    Some(Redacts {
        target,
        only_from: (!any).then(|| pdu.sender().server_name().to_owned()),
    })
}

/// The extremities that an event which fills a hole follows: what lies beyond the hole follows them too,
/// though nobody could see it before.
fn bridged(head: &RoomHead, pdu: &Pdu) -> Vec<EventNo> {
    let followed = head
        .extremities
        .iter()
        .filter(|end| pdu.prev_events().contains(&end.event_id));
    let followed: Vec<EventNo> = followed.map(|end| end.no).collect();
    if followed.len() == head.extremities.len() {
        // Nothing is beyond it.
        return Vec::new();
    }
    followed
}

/// Stores an event that doesn't change the room's current state.
async fn store_alone(
    rooms: &Rooms,
    write: RoomWrite,
    outcome: Received,
) -> Result<Option<Received>> {
    match rooms.store().commit(only(write)).await {
        Ok(_) => Ok(Some(outcome)),
        Err(CommitError::DuplicateEvent { done, .. }) => Ok(done.then_some(Received::Known)),
        Err(error) => Err(commit_error(error)),
    }
}

/// What became of a batch of outliers.
#[derive(Debug, Clone, Default)]
pub struct Outliers {
    /// Stored now, or before, and allowed by their auth events.
    pub accepted: HashSet<OwnedEventId>,
    /// Stored with the reason why their auth events don't allow them.
    pub rejected: HashMap<OwnedEventId, Rejection>,
    /// Not stored: auth events of these are neither among them nor stored.
    pub incomplete: HashMap<OwnedEventId, Vec<OwnedEventId>>,
}

/// Stores events without a place in the room's history: state and auth chains that other servers gave.
/// They may come in any order. Each is checked against its auth events (step 4).
pub async fn outliers(rooms: &Rooms, room_id: &RoomId, pdus: Vec<Arc<Pdu>>) -> Result<Outliers> {
    let head = rooms
        .store()
        .room(room_id)
        .await?
        .ok_or_else(|| Error::UnknownRoom(room_id.to_owned()))?;
    store_outliers(rooms, head.room, head.rules, room_id, pdus).await
}

pub(crate) async fn store_outliers(
    rooms: &Rooms,
    room: RoomNo,
    rules: &'static RoomRules,
    room_id: &RoomId,
    pdus: Vec<Arc<Pdu>>,
) -> Result<Outliers> {
    let store = rooms.store();
    let mut report = Outliers::default();
    let mut checked: HashMap<OwnedEventId, (Arc<Pdu>, bool)> = HashMap::new();
    let ids: Vec<OwnedEventId> = pdus.iter().map(|pdu| pdu.event_id().to_owned()).collect();
    for event in store.events(&ids).await? {
        let id = event.pdu.event_id().to_owned();
        let rejected = event.status == Status::Rejected;
        if rejected {
            let reason = event.reason.clone().unwrap_or_default();
            report
                .rejected
                .insert(id.clone(), Rejection::new("rejected before", reason));
        } else {
            report.accepted.insert(id.clone());
        }
        checked.insert(id, (event.pdu.clone(), rejected));
    }
    let mut fresh: Vec<NewEvent> = Vec::new();
    for pdu in parents_first(pdus) {
        let id = pdu.event_id().to_owned();
        if checked.contains_key(&id) || pdu.room_id() != room_id || pdu.rules() != rules {
            continue;
        }
        let auth_events = match auth_events_of(rooms, &pdu, &checked).await? {
            Ok(events) => events,
            Err(missing) => {
                report.incomplete.insert(id, missing);
                continue;
            }
        };
        let mut event = NewEvent::outlier(store.next_event_no().await?, pdu.clone());
        let rejected = match allowed_by_auth_events(&pdu, &auth_events) {
            Ok(()) => {
                report.accepted.insert(id.clone());
                false
            }
            Err(rejection) => {
                event.status = Status::Rejected;
                event.reason = Some(rejection.to_string());
                report.rejected.insert(id.clone(), rejection);
                true
            }
        };
        checked.insert(id, (pdu, rejected));
        fresh.push(event);
    }
    while !fresh.is_empty() {
        let rest = fresh.split_off(fresh.len().min(OUTLIER_BATCH));
        let batch = std::mem::replace(&mut fresh, rest);
        store_batch(rooms, room, batch).await?;
    }
    Ok(report)
}

/// Stores a batch; what another task stored in between is left out.
async fn store_batch(rooms: &Rooms, room: RoomNo, mut batch: Vec<NewEvent>) -> Result<()> {
    loop {
        if batch.is_empty() {
            return Ok(());
        }
        let write = RoomWrite {
            room,
            events: batch.clone(),
            ..RoomWrite::default()
        };
        match rooms.store().commit(only(write)).await {
            Ok(_) => return Ok(()),
            Err(CommitError::DuplicateEvent { event_id, .. }) => {
                let before = batch.len();
                batch.retain(|event| event.pdu.event_id() != event_id);
                if batch.len() == before {
                    return Err(Error::Contended);
                }
            }
            Err(error) => return Err(commit_error(error)),
        }
    }
}

/// Auth events before what they allow. Events in a circle (which hashes make impossible) are dropped.
pub(crate) fn parents_first(pdus: Vec<Arc<Pdu>>) -> Vec<Arc<Pdu>> {
    order_by(pdus, |pdu| {
        let mut parents = pdu.auth_events().to_vec();
        parents.extend(pdu.implied_create());
        parents
    })
}

/// Parents, as `parents_of` names them, before their children; each event once.
fn order_by(pdus: Vec<Arc<Pdu>>, parents_of: impl Fn(&Pdu) -> Vec<OwnedEventId>) -> Vec<Arc<Pdu>> {
    let mut by_id: BTreeMap<OwnedEventId, Arc<Pdu>> = BTreeMap::new();
    let mut waits: HashMap<OwnedEventId, usize> = HashMap::new();
    let mut children: HashMap<OwnedEventId, Vec<OwnedEventId>> = HashMap::new();
    for pdu in pdus {
        by_id.insert(pdu.event_id().to_owned(), pdu);
    }
    let mut ready: Vec<OwnedEventId> = Vec::new();
    for (id, pdu) in &by_id {
        let mut parents: Vec<OwnedEventId> = parents_of(pdu)
            .into_iter()
            .filter(|parent| by_id.contains_key(parent))
            .collect();
        parents.sort_unstable();
        parents.dedup();
        if parents.is_empty() {
            ready.push(id.clone());
        }
        waits.insert(id.clone(), parents.len());
        for parent in parents {
            children.entry(parent).or_default().push(id.clone());
        }
    }
    let mut ordered = Vec::with_capacity(by_id.len());
    while let Some(id) = ready.pop() {
        for child in children.remove(&id).unwrap_or_default() {
            if let Some(count) = waits.get_mut(&child) {
                *count -= 1;
                if *count == 0 {
                    ready.push(child);
                }
            }
        }
        ordered.extend(by_id.get(&id).cloned());
    }
    ordered
}

/// What became of a page of history.
#[derive(Debug, Clone, Default)]
pub struct Backfilled {
    /// New history.
    pub accepted: Vec<OwnedEventId>,
    /// Stored, but not allowed.
    pub rejected: Vec<OwnedEventId>,
    /// Not stored, and what each would need.
    pub needs: HashMap<OwnedEventId, Need>,
}

/// Stores history from before what we have: events that another server's `/backfill` gave, in any order.
///
/// The state before the oldest of them comes from `gathered`; without it they are named in `needs`, as is
/// whatever descends from them. Neither extremities nor the current state change.
pub async fn backfilled(
    rooms: &Rooms,
    room_id: &RoomId,
    pdus: Vec<Arc<Pdu>>,
    gathered: &Gathered,
) -> Result<Backfilled> {
    known_room(rooms, room_id).await?;
    let mut report = Backfilled::default();
    let how = How {
        placement: Placement::Backfilled,
        relay: false,
    };
    for pdu in order_by(pdus, |pdu| pdu.prev_events().to_vec()) {
        if pdu.room_id() != room_id {
            continue;
        }
        let id = pdu.event_id().to_owned();
        match admit(rooms, pdu, gathered, how).await? {
            Received::Accepted => report.accepted.push(id),
            Received::Rejected(_) | Received::SoftFailed(_) => report.rejected.push(id),
            Received::Known => {}
            Received::Need(need) => {
                report.needs.insert(id, need);
            }
        }
    }
    Ok(report)
}

/// The state that these events make up, e.g. those of a `/state` answer.
pub fn state_map(state: &[Arc<Pdu>]) -> StateMap {
    let entry = |pdu: &Arc<Pdu>| {
        Some((
            StateKey::new(pdu.kind(), pdu.state_key()?),
            pdu.event_id().to_owned(),
        ))
    };
    state.iter().filter_map(entry).collect()
}

/// The state after `event`, if these make up the state before it: what [`Gathered`] wants to know of a
/// prev that isn't here.
pub fn state_after(state: &[Arc<Pdu>], event: &Pdu) -> StateMap {
    let mut map = state_map(state);
    if let Some(key) = event.state_key() {
        map.insert(
            StateKey::new(event.kind(), key),
            event.event_id().to_owned(),
        );
    }
    map
}
