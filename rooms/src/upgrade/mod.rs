//! Replacing a room by one of another version (client-server API, "Room Upgrades").
//!
//! What each of the two rooms gets is decided by [`plan`]; all of it, with the aliases and the place in the directory,
//! is one write. So there is either a room that is replaced, and what replaces it, or nothing of either.
//!
//! Where the new room's id is the hash of its create event, that must be there before the old room can name it. In
//! older versions the old room's end comes first, since the create event names that.

pub mod plan;

use std::{collections::BTreeMap, sync::Arc};

use rhizome_protocol::{Membership, Pdu, RoomRules, StateKey, draft::Draft};
use rhizome_storage::{
    AliasesChanged, AliasesMoved, CommitError, EventNo, Fact, Listing, NewRoom, RoomHead,
    RoomWrite, WriteSet,
};
use ruma::{OwnedEventId, OwnedRoomId, OwnedServerName, RoomId};

use crate::{
    Error, Rooms,
    create::{self, MAX_COLLISIONS, plan::Planned},
    error::Result,
    send::{
        self, SendOptions,
        batch::{Batch, Tip},
        commit_error, known_room, send_to,
        view::View,
    },
};
use plan::{OldRoom, UpgradeRoom};

/// How many users one upgrade may make creators: all of them are named in one event.
const MAX_CREATORS: usize = 100;
/// How many bans, and how many children of a space, are carried over: each is an event.
const MAX_EACH: usize = 2_000;

/// The end of the old room, decided and not stored.
struct Ending<'a> {
    batch: Batch<'a>,
    tombstone: OwnedEventId,
    /// What didn't go into the batch.
    rest: Vec<Draft>,
}

/// Replaces a room, or does nothing at all; gives the new room's id. Where the room is replaced meanwhile, it is the
/// id of that replacement.
///
/// # Errors
///
/// [`Error::UnsupportedVersion`]; [`Error::Forbidden`] if the user may not end the room;
/// [`Error::InvalidRoomState`] when the new version doesn't allow what the old room has.
pub async fn upgrade(rooms: &Rooms, request: &UpgradeRoom) -> Result<OwnedRoomId> {
    let mut upgrade = Upgrade::begin(rooms, request).await?;
    // Deciding counts the tries.
    loop {
        let done = {
            let head = known_room(rooms, &request.room_id).await?;
            let queue = rooms.queues().of(head.room);
            let _gate = queue.enter().await;
            match upgrade.decide().await? {
                Step::Replaced(room_id) => return Ok(room_id),
                Step::Decided(decided) => decided.store().await?,
            }
        };
        let Some(done) = done else { continue };
        for draft in done.rest {
            let (room_id, kind) = (&request.room_id, draft.kind.clone());
            if let Err(error) = send::send(rooms, draft, SendOptions::default()).await {
                tracing::info!(room.id = %room_id, kind, %error, "the old room stays as it was");
            }
        }
        return Ok(done.room_id);
    }
}

/// [`upgrade`] step by step, for who has the old room's last events signed by others before they are stored.
pub struct Upgrade<'a> {
    rooms: &'a Rooms,
    request: &'a UpgradeRoom,
    rules: &'static RoomRules,
    /// What the room was replaced by when the user asked.
    before: Option<OwnedRoomId>,
    start: i64,
    tries: i64,
}

/// How far an upgrade has got.
pub enum Step<'a> {
    /// The room is replaced by this one, whoever did it.
    Replaced(OwnedRoomId),
    /// What is to be stored.
    Decided(Box<Decided<'a>>),
}

/// Both rooms, decided and not stored.
pub struct Decided<'a> {
    rooms: &'a Rooms,
    head: Arc<RoomHead>,
    rules: &'static RoomRules,
    room_id: OwnedRoomId,
    founded: Batch<'a>,
    ending: Ending<'a>,
}

/// An upgrade that is done.
pub struct Upgraded {
    /// The new room.
    pub room_id: OwnedRoomId,
    /// What the old room is yet to be sent, if it can be.
    pub rest: Vec<Draft>,
}

impl<'a> Upgrade<'a> {
    /// Begins one.
    ///
    /// # Errors
    ///
    /// [`Error::UnsupportedVersion`], [`Error::Invalid`], [`Error::UnknownRoom`]
    pub async fn begin(rooms: &'a Rooms, request: &'a UpgradeRoom) -> Result<Self> {
        let rules = RoomRules::get(&request.version)
            .ok_or_else(|| Error::UnsupportedVersion(request.version.to_string()))?;
        if request.additional_creators.len() > MAX_CREATORS {
            return Err(Error::Invalid(format!(
                "At most {MAX_CREATORS} users can become creators"
            )));
        }
        Ok(Self {
            rooms,
            request,
            rules,
            before: replacement(rooms, &request.room_id).await?,
            start: rooms.store().clock().now_ms(),
            tries: 0,
        })
    }

    /// Decides what becomes of both rooms as they are now.
    ///
    /// # Errors
    ///
    /// As [`upgrade`]; [`Error::Contended`] after too many tries.
    pub async fn decide(&mut self) -> Result<Step<'a>> {
        if self.tries >= MAX_COLLISIONS {
            return Err(Error::Contended);
        }
        // As with a room that is made: the same within the same millisecond would be the same room.
        let now = self.start + self.tries;
        self.tries += 1;
        let (rooms, request, rules) = (self.rooms, self.request, self.rules);
        let head = known_room(rooms, &request.room_id).await?;
        let old = gather(rooms, &head).await?;
        let (founded, ending) = if rules.format.room_id_is_create_hash {
            let founded = found(rooms, request, (rules, None), &old, None, now).await?;
            let ending = end(rooms, request, &head, &old, founded.room_id(), now).await?;
            (founded, ending)
        } else {
            let room_id = create::random_room_id(rooms.server_name())?;
            let ending = end(rooms, request, &head, &old, Some(&room_id), now).await?;
            let last = Some(ending.tombstone.clone());
            let founded = found(rooms, request, (rules, Some(room_id)), &old, last, now).await?;
            (founded, ending)
        };
        // Somebody was as quick, or the user asks again since no answer came. Who may not end the room has got no further
        // than this.
        if let Some(meanwhile) = old.replacement()
            && self.before.as_ref() != Some(&meanwhile)
        {
            return Ok(Step::Replaced(meanwhile));
        }
        let room_id = founded.room_id().cloned().ok_or_else(no_create)?;
        Ok(Step::Decided(Box::new(Decided {
            rooms,
            head,
            rules,
            room_id,
            founded,
            ending,
        })))
    }
}

impl Decided<'_> {
    /// The events that end the old room.
    pub fn last_events(&self) -> Vec<Arc<Pdu>> {
        self.ending.batch.pdus()
    }

    /// Puts copies of these that others have signed, too, in their place.
    pub fn put_signed(&mut self, signed: &[Arc<Pdu>]) {
        self.ending.batch.put_signed(signed);
    }

    /// Stores both rooms; `None`: something has changed meanwhile, and it has to be decided again.
    ///
    /// # Errors
    ///
    /// The database's.
    pub async fn store(self) -> Result<Option<Upgraded>> {
        let Self {
            rooms,
            head,
            rules,
            room_id,
            founded,
            ending,
        } = self;
        let set = write_set(&head, rules, &room_id, founded, ending.batch).await?;
        match rooms.store().commit(set).await {
            Ok(_) => {}
            Err(
                CommitError::StateMoved { .. }
                | CommitError::Orphaned(_)
                | CommitError::SnapshotGone { .. }
                | CommitError::DuplicateEvent { .. }
                | CommitError::RoomExists(_),
            ) => return Ok(None),
            Err(error) => return Err(commit_error(error)),
        }
        tracing::info!(room.id = %head.room_id, replacement = %room_id, room.version = rules.id(), "room upgraded");
        Ok(Some(Upgraded {
            room_id,
            rest: ending.rest,
        }))
    }
}

/// What the room is replaced by now.
async fn replacement(rooms: &Rooms, room_id: &RoomId) -> Result<Option<OwnedRoomId>> {
    let head = known_room(rooms, room_id).await?;
    let at = head.snapshot.ok_or_else(no_create)?;
    let tombstone = rooms.store().state_event(at, plan::TOMBSTONE, "").await?;
    Ok(tombstone.and_then(|tombstone| plan::replacement(&tombstone.pdu)))
}

fn no_create() -> Error {
    Error::InvalidRoomState("The room has no create event".into())
}

/// What is carried over, as it stands in the old room.
async fn gather(rooms: &Rooms, head: &RoomHead) -> Result<OldRoom> {
    let store = rooms.store();
    let at = head.snapshot.ok_or_else(no_create)?;
    let keys = plan::LOOKED_AT.map(|kind| (kind, ""));
    let found = store.state_entries(at, &keys).await?;
    let mut nos: Vec<_> = found.into_iter().flatten().collect();
    let summary = store.room_summary(head.room).await?;
    if summary.room_type.as_deref() == Some("m.space") {
        let state = store.current_without_members(&[head.room]).await?;
        nos.extend(state.into_iter().map(|(_, (_, event), _)| event));
    }
    nos.sort_unstable();
    nos.dedup();
    let banned = store.members(head.room, Some(Membership::Ban)).await?;
    let mut bans: Vec<_> = banned.iter().filter_map(|member| member.event).collect();
    bans.sort_unstable();
    let left_out = bans.len().saturating_sub(MAX_EACH);
    let bans = bans.split_off(left_out);
    let mut old = OldRoom {
        rules: head.rules,
        room_id: head.room_id.clone(),
        state: BTreeMap::new(),
        bans: pdus(rooms, &bans).await?,
        aliases: store.aliases_of(head.room).await?,
    };
    for pdu in pdus(rooms, &nos).await? {
        let key = pdu.state_key().map(|key| StateKey::new(pdu.kind(), key));
        if let Some(key) = key {
            old.state.insert(key, pdu);
        }
    }
    let children = old.keep_children(MAX_EACH);
    if left_out + children > 0 {
        tracing::warn!(room.id = %head.room_id, bans = left_out, children, "too many to carry over");
    }
    Ok(old)
}

async fn pdus(rooms: &Rooms, nos: &[EventNo]) -> Result<Vec<Arc<Pdu>>> {
    let events = rooms.store().events_by_no(nos).await?;
    Ok(events.iter().map(|event| event.pdu.clone()).collect())
}

/// The new room.
async fn found<'a>(
    rooms: &'a Rooms,
    request: &UpgradeRoom,
    (rules, room_id): (&'static RoomRules, Option<OwnedRoomId>),
    old: &OldRoom,
    last: Option<OwnedEventId>,
    now: i64,
) -> Result<Batch<'a>> {
    let room = rooms.store().next_room_no().await?;
    let mut batch = Batch::upon(rooms, Tip::new_room(room, rules, room_id));
    for event in plan::successor(rules, request, old, last.as_deref()) {
        create::add(&mut batch, &request.user, event, now).await?;
    }
    Ok(batch)
}

/// The old room's end: the tombstone, which the user must be allowed to send, and what else they may.
async fn end<'a>(
    rooms: &'a Rooms,
    request: &UpgradeRoom,
    head: &RoomHead,
    old: &OldRoom,
    replacement: Option<&OwnedRoomId>,
    now: i64,
) -> Result<Ending<'a>> {
    let replacement = replacement.ok_or_else(no_create)?;
    let servers = rooms.store().joined_servers(head.room).await?;
    let others = servers.iter();
    let others = others.filter(|server| **server != rooms.server_name());
    let others: Vec<OwnedServerName> = others.cloned().collect();
    let mut batch = Batch::upon(rooms, Tip::of(rooms, head, View::default()).await?);
    let tombstone = drafted(request, plan::tombstone(replacement));
    let tombstone = push(rooms, &mut batch, &tombstone, &others, now).await?;
    let mut rest = Vec::new();
    for event in plan::after_the_end(old) {
        let draft = drafted(request, event);
        // An event that couldn't follow all ends of the room stands alone.
        if batch.is_crowded() {
            rest.push(draft);
            continue;
        }
        match push(rooms, &mut batch, &draft, &others, now).await {
            Ok(_) => {}
            Err(Error::Store(error)) => return Err(Error::Store(error)),
            Err(error) => {
                tracing::debug!(room.id = %head.room_id, kind = draft.kind, %error, "the old room stays as it was");
            }
        }
    }
    Ok(Ending {
        batch,
        tombstone,
        rest,
    })
}

fn drafted(request: &UpgradeRoom, event: Planned) -> Draft {
    Draft {
        room_id: Some(request.room_id.clone()),
        sender: request.user.clone(),
        kind: event.key.kind,
        state_key: Some(event.key.key),
        content: event.content,
        redacts: None,
    }
}

async fn push(
    rooms: &Rooms,
    batch: &mut Batch<'_>,
    draft: &Draft,
    others: &[OwnedServerName],
    now: i64,
) -> Result<OwnedEventId> {
    let key = draft.state_key.as_deref();
    batch
        .look_at(&draft.kind, &draft.sender, key, &draft.content)
        .await?;
    let pdu = batch.decide(draft, now)?;
    let id = pdu.event_id().to_owned();
    let to = send_to(rooms, others, &pdu);
    batch.push(Arc::new(pdu), None, None, to).await?;
    Ok(id)
}

/// Both rooms, the aliases, and the place in the directory.
async fn write_set(
    head: &RoomHead,
    rules: &'static RoomRules,
    room_id: &RoomId,
    founded: Batch<'_>,
    ending: Batch<'_>,
) -> Result<WriteSet> {
    let (founded, _) = founded.finish(None).await?;
    let new = RoomWrite {
        create: Some(NewRoom {
            room_id: room_id.to_owned(),
            rules,
        }),
        expect: Some(0),
        ..founded
    };
    let (old, _) = ending.finish(Some(head.state_version)).await?;
    let (from, to) = (head.room, new.room);
    let moved = AliasesMoved { from, to };
    let mut facts = vec![moved.into(), AliasesChanged { room: from }.into()];
    if head.public {
        for (room, public) in [(from, false), (to, true)] {
            facts.push(Fact::from(Listing { room, public }));
        }
    }
    Ok(WriteSet {
        rooms: vec![new, old],
        facts,
    })
}
