//! Joining and leaving across servers.
//!
//! As the room's door for another server: [`template`] gives an unsigned event, and [`admit_signed`]
//! takes it back signed. Going through another server's door: [`adopt`] takes the room as that server
//! described it.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use rhizome_protocol::{
    Membership, Object, Pdu, Rejection, RoomRules, StateKey, auth,
    draft::{self, Draft},
    visibility::HistoryVisibility,
};
use rhizome_storage::{
    CommitError, CurrentState, EventNo, KeyNo, NewEvent, NewRoom, Placement, RoomHead, RoomNo,
    RoomWrite, StateChange, Status, StoredEvent, WriteSet,
};
use ruma::{EventId, OwnedEventId, RoomId, RoomVersionId, UserId};

use crate::{
    Error, Rooms,
    chain::{Chain, Tip},
    error::Result,
    receive::{self, Gathered, How, Received, require_resident, store_outliers},
    remote_invite, restricted,
    send::{commit_error, known_room},
    state_at::{self, Resolved, StateBefore},
    view::View,
};

const MAX_ATTEMPTS: usize = 20;

/// An unsigned event for another server to sign.
#[derive(Debug, Clone)]
pub struct Template {
    /// The room's rules.
    pub rules: &'static RoomRules,
    /// The event without hashes and signatures.
    pub event: Object,
}

/// The answer of `make_join`, `make_knock`, `make_leave`: a member event of `user` that would be allowed now.
/// `versions` are the room versions that the other server speaks; empty means any.
///
/// # Errors
///
/// [`Error::UnknownRoom`], [`Error::IncompatibleVersion`], [`Error::Forbidden`]; for a restricted room those
/// of [`restricted::authoriser`].
pub async fn template(
    rooms: &Rooms,
    room_id: &RoomId,
    user: &UserId,
    membership: Membership,
    versions: &[RoomVersionId],
) -> Result<Template> {
    let head = known_room(rooms, room_id).await?;
    require_resident(rooms, &head).await?;
    if !versions.is_empty() && !versions.contains(&head.rules.version) {
        return Err(Error::IncompatibleVersion(head.rules.id().to_owned()));
    }
    let mut content = Object::new();
    content.insert("membership".into(), membership.as_str().into());
    if membership == Membership::Join
        && let Some(by) = restricted::authoriser(rooms, &head, user).await?
    {
        content.insert(restricted::AUTHORISED_VIA.into(), by.as_str().into());
    }
    let draft = Draft {
        room_id: Some(room_id.to_owned()),
        sender: user.to_owned(),
        kind: "m.room.member".into(),
        state_key: Some(user.to_string()),
        content,
        redacts: None,
    };
    let mut chain = Chain::upon(rooms, Tip::of(&head, View::default()));
    chain
        .look_at(
            &draft.kind,
            user,
            draft.state_key.as_deref(),
            &draft.content,
        )
        .await?;
    let now = rooms.store().clock().now_ms();
    // Signed by us it is good for nothing but this check.
    chain.decide(&draft, now)?;
    let place = chain.place(&draft, now);
    Ok(Template {
        rules: head.rules,
        event: draft::template(head.rules, &draft, &place),
    })
}

/// An event that came in through us, and the room before it.
#[derive(Debug, Clone)]
pub struct AdmittedEvent {
    /// The event.
    pub event: Arc<StoredEvent>,
    /// The state before it with its auth chain: what `send_join` answers.
    pub before: StateBefore,
}

/// Admits an event that is signed and so can't be built again: `send_join`, `send_leave`, or an invite of
/// ours that the invited user's server has signed. It goes on to the room's other servers.
///
/// # Errors
///
/// [`Error::Forbidden`] if the room doesn't allow it, then or now; [`Error::BadState`] if it follows
/// events that we don't have (its template was not ours).
pub async fn admit_signed(rooms: &Rooms, pdu: Arc<Pdu>) -> Result<AdmittedEvent> {
    let how = How {
        placement: Placement::Live,
        relay: true,
        depth: None,
    };
    let id = pdu.event_id().to_owned();
    let admitted = receive::admit(rooms, pdu, &Gathered::default(), how).await?;
    match admitted {
        Received::Accepted | Received::Known => {}
        Received::SoftFailed(rejection) | Received::Rejected(rejection) => {
            return Err(Error::Forbidden(rejection));
        }
        Received::Need(need) => {
            let lacks: Vec<String> = need
                .prev
                .iter()
                .chain(&need.auth)
                .map(ToString::to_string)
                .collect();
            return Err(Error::BadState(format!(
                "The event refers to events that are unknown here: {}",
                lacks.join(", ")
            )));
        }
    }
    let event = stored(rooms, &id).await?;
    if event.status != Status::Accepted {
        let reason = event.reason.clone().unwrap_or_default();
        return Err(Error::Forbidden(Rejection::new("decided before", reason)));
    }
    let before = state_at::before(rooms, &event)
        .await?
        .ok_or(Error::UnknownEvent(id))?;
    Ok(AdmittedEvent { event, before })
}

/// A room as another server's `send_join` answer describes it. All events have passed
/// [`rhizome_protocol::receive::verify`].
#[derive(Debug, Clone)]
pub struct RemoteJoin {
    /// The rules of the version that the template named.
    pub rules: &'static RoomRules,
    /// The state before the join.
    pub state: Vec<Arc<Pdu>>,
    /// The auth chain of `state` and of the join.
    pub auth_chain: Vec<Arc<Pdu>>,
    /// The join, as we signed it (and the other server, if it had to).
    pub event: Arc<Pdu>,
}

/// Takes a room as it was given, with the join of a local user as its newest event.
///
/// The state and auth chain are stored first, in bounded batches that nothing refers to; then one commit
/// links them: join, current state, extremity. If the room was known already (we had left it), its state
/// becomes the given one; if a local user is in it already, the join is received like any other event.
///
/// # Errors
///
/// [`Error::BadState`] if what was given doesn't make a room: no create event, or one of another version;
/// [`Error::Forbidden`] if the join isn't allowed by it.
pub async fn adopt(rooms: &Rooms, join: RemoteJoin) -> Result<Arc<StoredEvent>> {
    let RemoteJoin {
        rules,
        state,
        auth_chain,
        event,
    } = join;
    let user = event.sender();
    if event.membership() != Some(Membership::Join) || event.state_key() != Some(user.as_str()) {
        return Err(Error::BadState("That is no join".into()));
    }
    check_create(rules, &state)?;
    let room = known_or_new(rooms, event.room_id(), rules).await?;
    let given = store_given(rooms, room, &event, &state, auth_chain).await?;
    auth::authorize(&event, &given.by_key).map_err(Error::Forbidden)?;

    let store = rooms.store();
    for _ in 0..MAX_ATTEMPTS {
        let Some(head) = store.room_by_no(room).await? else {
            return Err(Error::UnknownRoom(event.room_id().to_owned()));
        };
        let servers = store.joined_servers(room).await?;
        let resident = servers.iter().any(|server| server == rooms.server_name());
        if resident && head.snapshot.is_some() {
            return receive_join(rooms, &event, &state).await;
        }
        let queue = rooms.queues().of(room);
        let mut warm = queue.enter().await;
        let no = match store.event(event.event_id()).await? {
            Some(known) if known.placement != Placement::Outlier => return Ok(known),
            Some(known) => known.no,
            None => store.next_event_no().await?,
        };
        let write = link(rooms, &head, &event, no, &given).await?;
        let facts = remote_invite::answered_by(rooms, room, &event).await?;
        let set = WriteSet {
            rooms: vec![write],
            facts,
        };
        match store.commit(set).await {
            Ok(_) => {
                *warm = crate::queue::Warm::default();
                return stored(rooms, event.event_id()).await;
            }
            Err(CommitError::StateMoved { .. } | CommitError::DuplicateEvent { .. }) => {}
            Err(error) => return Err(commit_error(error)),
        }
    }
    Err(Error::Contended)
}

/// The state that another server gave, stored.
struct Given {
    map: BTreeMap<KeyNo, EventNo>,
    by_key: HashMap<StateKey, Arc<Pdu>>,
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
    let set = WriteSet {
        rooms: vec![write],
        ..WriteSet::default()
    };
    match store.commit(set).await {
        Ok(_) | Err(CommitError::RoomExists(_)) => Ok(room),
        Err(error) => Err(commit_error(error)),
    }
}

/// Stores state and auth chain as outliers. What of the state its auth events allow is the state.
async fn store_given(
    rooms: &Rooms,
    room: RoomNo,
    join: &Pdu,
    state: &[Arc<Pdu>],
    auth_chain: Vec<Arc<Pdu>>,
) -> Result<Given> {
    let mut pdus = auth_chain;
    pdus.extend(state.iter().cloned());
    pdus.retain(|pdu| pdu.event_id() != join.event_id());
    let report = store_outliers(rooms, room, join.rules(), join.room_id(), pdus).await?;
    // Old events whose keys nobody has any more leave holes in auth chains: what hangs on them is left
    // out, and if the join does, it is refused.
    for (id, missing) in &report.incomplete {
        tracing::warn!(room.id = %join.room_id(), event.id = %id, ?missing, "state of a remote join without its auth events");
    }
    for (id, rejection) in &report.rejected {
        tracing::warn!(room.id = %join.room_id(), event.id = %id, %rejection, "state of a remote join refused");
    }
    let accepted: Vec<(&Arc<Pdu>, &str)> = state
        .iter()
        .filter(|pdu| report.accepted.contains(pdu.event_id()))
        .filter_map(|pdu| Some((pdu, pdu.state_key()?)))
        .collect();
    let store = rooms.store();
    let ids: Vec<OwnedEventId> = accepted
        .iter()
        .map(|(pdu, _)| pdu.event_id().to_owned())
        .collect();
    let nos = store.event_nos(&ids).await?;
    let names: Vec<(&str, &str)> = accepted
        .iter()
        .map(|(pdu, key)| (pdu.kind(), *key))
        .collect();
    let keys = store.key_nos(&names).await?;
    let mut given = Given {
        map: BTreeMap::new(),
        by_key: HashMap::new(),
    };
    for ((pdu, state_key), key) in accepted.into_iter().zip(keys) {
        if let Some(no) = nos.get(pdu.event_id()) {
            given.map.insert(key, *no);
            given
                .by_key
                .insert(StateKey::new(pdu.kind(), state_key), pdu.clone());
        }
    }
    Ok(given)
}

/// The write that makes the given state, with the join upon it, the room's.
async fn link(
    rooms: &Rooms,
    head: &RoomHead,
    event: &Arc<Pdu>,
    no: EventNo,
    given: &Given,
) -> Result<RoomWrite> {
    let store = rooms.store();
    let visibility = given
        .by_key
        .get(&StateKey::new("m.room.history_visibility", ""))
        .map(|event| event.content());
    let before = snapshot_of(rooms, head, &given.map).await?;
    let key = store
        .key_no("m.room.member", event.sender().as_str())
        .await?;
    let after = before.with(store, head.room, key, no).await?;
    let changes = after
        .diff_from(store, head.snapshot)
        .await?
        .into_iter()
        .map(|(key, old, new)| StateChange { key, old, new })
        .collect();
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
        reset_extremities: Some(vec![no]),
        ..RoomWrite::default()
    })
}

async fn stored(rooms: &Rooms, id: &EventId) -> Result<Arc<StoredEvent>> {
    let event = rooms.store().event(id).await?;
    event.ok_or_else(|| Error::UnknownEvent(id.to_owned()))
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
    state_at::derive(store, head.room, head.snapshot, changes).await
}

/// The join of a second local user: the room goes on from what we have, with the given state on the
/// join's side of it.
async fn receive_join(
    rooms: &Rooms,
    event: &Arc<Pdu>,
    state: &[Arc<Pdu>],
) -> Result<Arc<StoredEvent>> {
    let map = receive::state_map(state);
    let states_after = event
        .prev_events()
        .iter()
        .map(|id| (id.clone(), map.clone()))
        .collect();
    let gathered = Gathered { states_after };
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

fn check_create(rules: &'static RoomRules, state: &[Arc<Pdu>]) -> Result<()> {
    let mut creates = state.iter().filter(|pdu| pdu.is_state("m.room.create", ""));
    let (Some(create), None) = (creates.next(), creates.next()) else {
        return Err(Error::BadState(
            "The other server's answer has no create event".into(),
        ));
    };
    if RoomRules::of_create(create.content()) != Some(rules) {
        return Err(Error::BadState(
            "The room's create event is of another version than the join".into(),
        ));
    }
    Ok(())
}
