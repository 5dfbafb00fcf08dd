//! Going through another server's door: its answer becomes a room of ours.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
};

use rhizome_protocol::{
    Membership, Pdu, RoomRules, StateKey, auth, resolve::StateMap, visibility::HistoryVisibility,
};
use rhizome_storage::{
    CommitError, CurrentState, EventNo, KeyNo, NewEvent, NewRoom, Partial, PartialJoin, Placement,
    RoomHead, RoomNo, RoomWrite, StateChange, Status, StoredEvent, WriteSet,
};
use ruma::{OwnedServerName, RoomId, UserId};

use super::{ask::whom_to_ask, stored};
use crate::{
    Error, Rooms,
    error::Result,
    membership::remote_invite,
    policy_server::Asked,
    receive::{
        self, Gathered, Outcome, Received,
        packed::{Packed, parents},
        store_outliers,
    },
    send::commit_error,
    state::{self, MEMBER, Resolved},
};

const MAX_ATTEMPTS: usize = 20;
/// How many entries of the state get their numbers at once.
const KEYS: usize = 1_000;
/// How many events that were refused are named in the log.
const REPORTED: usize = 20;

/// A room as another server's `send_join` answer describes it. All events have passed
/// [`rhizome_protocol::receive::verify`].
#[derive(Debug)]
pub struct RemoteJoin {
    /// The rules of the version that the template named.
    pub rules: &'static RoomRules,
    /// The state before the join, and the auth chain of that and of the join.
    pub given: Packed,
    /// The join, as we signed it (and the other server, if it had to).
    pub event: Arc<Pdu>,
    /// If members were left out of the state: what was told instead.
    pub without_members: Option<WithoutMembers>,
}

/// What an answer to a join has instead of members.
#[derive(Debug)]
pub struct WithoutMembers {
    /// The servers that are said to be in the room, ours excluded.
    pub servers: Vec<OwnedServerName>,
    /// The servers that the user relies on: first the one that has answered.
    pub relied_on: Vec<OwnedServerName>,
}

/// Takes a room as it was given, with the join of a local user as its newest event.
///
/// The state and auth chain are stored first, in bounded batches that nothing refers to; then one commit
/// links them: join, current state, extremity. If the room was known already (we had left it), its state
/// becomes the given one; if a local user is in it already, the join is received like any other event.
///
/// A room whose members were left out is partial from here on ([`rhizome_storage::Partial`]).
///
/// # Errors
///
/// [`Error::BadState`] if what was given doesn't make a room: no create event, or one of another version;
/// [`Error::Forbidden`] if the join isn't allowed by it.
pub async fn adopt(rooms: &Rooms, join: RemoteJoin) -> Result<Arc<StoredEvent>> {
    let RemoteJoin {
        rules,
        mut given,
        event,
        without_members,
    } = join;
    let user = event.sender();
    if event.membership() != Some(Membership::Join) || event.state_key() != Some(user.as_str()) {
        return Err(Error::BadState("That is no join".into()));
    }
    check_create(rules, &given)?;
    given.leave_out(event.event_id());
    let room = known_or_new(rooms, event.room_id(), rules).await?;
    let mut state = store_given(rooms, room, &event, &given).await?;
    if without_members.is_some() {
        state.learn(rooms, room, &event).await?;
    }
    auth::authorize(&event, &state.by_key).map_err(Error::Forbidden)?;

    let store = rooms.store();
    for _ in 0..MAX_ATTEMPTS {
        let Some(head) = store.room_by_no(room).await? else {
            return Err(Error::UnknownRoom(event.room_id().to_owned()));
        };
        let servers = store.joined_servers(room).await?;
        let resident = servers.iter().any(|server| server == rooms.server_name());
        if resident && head.snapshot.is_some() {
            if without_members.is_some() && head.partial.is_none() {
                // Completed meanwhile: its members aren't to meet a state without any.
                return Err(Error::Contended);
            }
            return receive_join(rooms, &head, &event, &given).await;
        }
        let queue = rooms.queues().of(room);
        let mut warm = queue.enter().await;
        let no = match store.event(event.event_id()).await? {
            Some(known) if known.placement != Placement::Outlier => return Ok(known),
            Some(known) => known.no,
            None => store.next_event_no().await?,
        };
        let mut write = link(rooms, &head, &event, no, &state).await?;
        write.partial = match &without_members {
            Some(told) => Partial::Begins(PartialJoin {
                join: no,
                servers: told.servers.clone(),
                ask: whom_to_ask(rules, &state.by_key, &told.relied_on, &told.servers),
            }),
            None if head.partial.is_some() => Partial::Ends,
            None => Partial::Nothing,
        };
        let facts = remote_invite::answered_by(rooms, room, &event).await?;
        let set = WriteSet {
            rooms: vec![write],
            facts,
        };
        match store.commit(set).await {
            Ok(_) => {
                *warm = crate::send::queue::Warm::default();
                return stored(rooms, event.event_id()).await;
            }
            Err(CommitError::StateMoved { .. } | CommitError::DuplicateEvent { .. }) => {}
            Err(error) => return Err(commit_error(error)),
        }
    }
    Err(Error::Contended)
}

/// The state that another server gave, stored.
#[derive(Default)]
struct Given {
    map: BTreeMap<KeyNo, EventNo>,
    /// Which entries readers must be told of: those of local users, and the one that says it's all new.
    told: HashSet<KeyNo>,
    /// What of it the join and its place in history depend on.
    by_key: HashMap<StateKey, Arc<Pdu>>,
}

impl Given {
    /// Adds those members that the join rests on and of whom the state, which has few, says nothing.
    async fn learn(&mut self, rooms: &Rooms, room: RoomNo, join: &Pdu) -> Result<()> {
        let store = rooms.store();
        for event in store.events(&parents(join)).await? {
            let counts = event.room == room && event.status != Status::Rejected;
            let (MEMBER, Some(user), true) = (event.pdu.kind(), event.pdu.state_key(), counts)
            else {
                continue;
            };
            let (key, name) = (
                store.key_no(MEMBER, user).await?,
                StateKey::new(MEMBER, user),
            );
            if self.map.contains_key(&key) {
                continue;
            }
            self.map.insert(key, event.no);
            if is_told(rooms, &name) {
                self.told.insert(key);
            }
            self.by_key.insert(name, event.pdu.clone());
        }
        Ok(())
    }
}

async fn known_or_new(
    rooms: &Rooms,
    room_id: &RoomId,
    rules: &'static RoomRules,
) -> Result<RoomNo> {
    let store = rooms.store();
    let room = store.room_no(room_id).await?;
    if let Some(head) = store.room_by_no(room).await? {
        if head.rules != rules {
            return Err(Error::BadState("The room is of another version".into()));
        }
        return Ok(room);
    }
    let write = RoomWrite {
        room,
        create: Some(NewRoom {
            room_id: room_id.to_owned(),
            rules,
        }),
        ..RoomWrite::default()
    };
    let set = WriteSet::from(write);
    match store.commit(set).await {
        Ok(_) | Err(CommitError::RoomExists(_)) => Ok(room),
        Err(error) => Err(commit_error(error)),
    }
}

/// Stores state and auth chain as outliers. What of the state its auth events allow is the state.
async fn store_given(rooms: &Rooms, room: RoomNo, join: &Pdu, given: &Packed) -> Result<Given> {
    let outcome = store_outliers(rooms, room, given).await?;
    report(join.room_id(), given, &outcome);
    let store = rooms.store();
    let looked_at = looked_at(join);
    let mut state = Given::default();
    for part in given.state().chunks(KEYS) {
        let accepted: Vec<_> = part
            .iter()
            .filter_map(|(at, key)| Some((*at, key, outcome.accepted(*at)?)))
            .collect();
        let names: Vec<(&str, &str)> = accepted
            .iter()
            .map(|(_, key, _)| (key.kind.as_str(), key.key.as_str()))
            .collect();
        let keys = store.key_nos(&names).await?;
        for ((at, name, no), key) in accepted.into_iter().zip(keys) {
            state.map.insert(key, no);
            if is_told(rooms, name) {
                state.told.insert(key);
            }
            if looked_at.contains(name)
                && let Some(text) = given.text(at)
            {
                let pdu = text.parse().map_err(Error::Forbidden)?;
                state.by_key.insert(name.clone(), pdu);
            }
        }
    }
    Ok(state)
}

/// Whether a change of this entry gets a position although nobody here has seen the room before.
fn is_told(rooms: &Rooms, entry: &StateKey) -> bool {
    let user = <&UserId>::try_from(entry.key.as_str());
    match entry.kind.as_str() {
        "m.room.create" => entry.key.is_empty(),
        "m.room.member" => user.is_ok_and(|user| rooms.is_local(user)),
        _ => false,
    }
}

/// The entries of the state before the join that matter for it by themselves.
fn looked_at(join: &Pdu) -> HashSet<StateKey> {
    let (sender, key) = (join.sender(), join.state_key());
    let mut keys: HashSet<StateKey> =
        auth::auth_keys(join.rules(), join.kind(), sender, key, join.content())
            .into_iter()
            .map(|(kind, key)| StateKey { kind, key })
            .collect();
    keys.insert(StateKey::new("m.room.create", ""));
    keys.insert(StateKey::new("m.room.history_visibility", ""));
    keys
}

/// Tells the operator what was wrong with the answer.
fn report(room: &RoomId, given: &Packed, outcome: &Outcome) {
    // Old events whose keys nobody has any more leave holes in auth chains: what hangs on them is left
    // out, and if the join does, it is refused.
    for (at, missing) in outcome.incomplete.iter().take(REPORTED) {
        let missing: Vec<_> = missing.iter().map(|at| given.name(*at)).collect();
        tracing::warn!(room.id = %room, event.id = %given.name(*at), ?missing, "state of a remote join without its auth events");
    }
    for (at, rejection) in outcome.rejected.iter().take(REPORTED) {
        tracing::warn!(room.id = %room, event.id = %given.name(*at), %rejection, "state of a remote join refused");
    }
    let (incomplete, rejected) = (outcome.incomplete.len(), outcome.rejected.len());
    if incomplete > REPORTED || rejected > REPORTED {
        tracing::warn!(room.id = %room, incomplete, rejected, "more of the state of a remote join was left out");
    }
}

/// The write that makes the given state, with the join upon it, the room's.
async fn link(
    rooms: &Rooms,
    head: &RoomHead,
    event: &Arc<Pdu>,
    no: EventNo,
    state: &Given,
) -> Result<RoomWrite> {
    let store = rooms.store();
    let visibility = state
        .by_key
        .get(&StateKey::new("m.room.history_visibility", ""))
        .map(|event| event.content());
    let before = snapshot_of(rooms, head, &state.map).await?;
    let key = store
        .key_no("m.room.member", event.sender().as_str())
        .await?;
    let after = before.with(store, head.room, key, no).await?;
    // A room that nobody here has seen is read as a whole by whoever comes in: told one by one, its members
    // would only push out of the log's tail what everybody else is reading. Of one that was partial nobody has seen much.
    let fresh = head.snapshot.is_none() || head.partial.is_some();
    let (given, changes) = after
        .diff_from(store, head.snapshot)
        .await?
        .into_iter()
        .map(|(key, old, new)| StateChange { key, old, new })
        .partition(|change| fresh && change.key != key && !state.told.contains(&change.key));
    let current = after
        .snapshot
        .map(|snapshot| CurrentState { snapshot, changes });
    Ok(RoomWrite {
        room: head.room,
        expect: Some(head.state_version),
        events: vec![NewEvent {
            state_before: before.snapshot,
            state_after: after.snapshot,
            visibility: Some(HistoryVisibility::of(visibility)),
            ..NewEvent::new(no, event.clone())
        }],
        snapshots: after.new,
        current,
        given,
        reset_extremities: Some(vec![no]),
        ..RoomWrite::default()
    })
}

/// The state before the join, upon what we had of the room before.
async fn snapshot_of(
    rooms: &Rooms,
    head: &RoomHead,
    map: &BTreeMap<KeyNo, EventNo>,
) -> Result<Resolved> {
    let store = rooms.store();
    let old: BTreeMap<KeyNo, EventNo> = match head.snapshot {
        Some(at) => store.state_all(at).await?.into_iter().collect(),
        None => BTreeMap::new(),
    };
    let mut changes: Vec<(KeyNo, Option<EventNo>)> = Vec::new();
    for (key, event) in map {
        if old.get(key) != Some(event) {
            changes.push((*key, Some(*event)));
        }
    }
    changes.extend(
        old.keys()
            .filter(|key| !map.contains_key(key))
            .map(|key| (*key, None)),
    );
    state::derive(store, head.room, head.snapshot, changes).await
}

/// The join of a second local user: the room goes on from what we have, with the given state on the
/// join's side of it.
async fn receive_join(
    rooms: &Rooms,
    head: &RoomHead,
    event: &Arc<Pdu>,
    given: &Packed,
) -> Result<Arc<StoredEvent>> {
    // To a room that is partial members come when it is completed. Until then the names and powers told are what counts.
    let told = |key: &StateKey| head.partial.is_none() || key.kind != MEMBER;
    let entries = given.state().iter().filter(|(_, key)| told(key));
    let entry = |(at, key): &(usize, StateKey)| (key.clone(), given.name(*at).clone());
    let map: StateMap = entries.map(entry).collect();
    let gathered = Gathered {
        states_before: HashMap::from([(event.event_id().to_owned(), map)]),
        // The server through which the user came had it signed.
        policy: Asked::Elsewhere,
        ..Gathered::default()
    };
    match receive::receive(rooms, event.clone(), &gathered).await? {
        Received::Accepted | Received::Known => {}
        Received::SoftFailed(rejection) | Received::Rejected(rejection) => {
            return Err(Error::Forbidden(rejection));
        }
        Received::Need(_) => {
            return Err(Error::BadState("The other server's answer has gaps".into()));
        }
    }
    stored(rooms, event.event_id()).await
}

fn check_create(rules: &'static RoomRules, given: &Packed) -> Result<()> {
    let [create] = given.creates() else {
        return Err(Error::BadState(
            "The other server's answer has no create event".into(),
        ));
    };
    if *create != Some(rules) {
        return Err(Error::BadState(
            "The room's create event is of another version than the join".into(),
        ));
    }
    Ok(())
}
