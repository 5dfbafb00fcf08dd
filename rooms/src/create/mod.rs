//! Making a room: all of its first events, its alias and its place in the directory are one write.
//!
//! What the events are is decided by [`crate::create::plan`]; here they are built one upon the other,
//! authorised like any other event, and committed. Invites to other servers need those servers'
//! signatures, so they are not part of it: the caller sends them when the room stands.

pub mod plan;

use std::sync::Arc;

use rhizome_protocol::{RoomRules, draft::Draft};
use rhizome_storage::{CommitError, Fact, Listing, NewAlias, NewRoom, RoomNo, WriteSet, random};
use ruma::{OwnedRoomId, OwnedUserId, RoomId, ServerName, UserId};

use crate::{
    Error, Rooms,
    create::plan::{CreateRoom, Planned},
    error::Result,
    send::{
        batch::{Batch, Tip},
        commit_error,
    },
};

/// How many rooms one user can make within one millisecond.
pub(crate) const MAX_COLLISIONS: i64 = 50;

/// A new room.
#[derive(Debug, Clone)]
pub struct Created {
    /// Its id.
    pub room_id: OwnedRoomId,
    /// Invites that are to be sent by way of the invited users' servers.
    pub remote_invites: Vec<Draft>,
}

/// Creates a room, or nothing at all.
///
/// # Errors
///
/// [`Error::UnsupportedVersion`], [`Error::AliasTaken`], [`Error::InvalidRoomState`] when one of the
/// events is not allowed by those before it.
pub async fn create(rooms: &Rooms, request: &CreateRoom) -> Result<Created> {
    create_with(rooms, request, |_| Vec::new()).await
}

/// The same with facts of the new room, which stand or fall with it.
///
/// # Errors
///
/// Those of [`create`]; [`Error::Taken`] if it is one of the facts that can't be.
pub async fn create_with(
    rooms: &Rooms,
    request: &CreateRoom,
    facts: impl Fn(RoomNo) -> Vec<Fact>,
) -> Result<Created> {
    let now = rooms.store().clock().now_ms();
    // Where the room id is the create event's hash, the same request within the same millisecond would
    // make the same room: then it was made a moment later.
    for later in 0..MAX_COLLISIONS {
        if let Some(created) = create_at(rooms, request, &facts, now + later).await? {
            return Ok(created);
        }
    }
    Err(Error::Contended)
}

async fn create_at(
    rooms: &Rooms,
    request: &CreateRoom,
    facts: &impl Fn(RoomNo) -> Vec<Fact>,
    now: i64,
) -> Result<Option<Created>> {
    let rules = RoomRules::get(&request.version)
        .ok_or_else(|| Error::UnsupportedVersion(request.version.to_string()))?;
    let planned = plan::events(rules, request)?;
    let store = rooms.store();
    let room = store.next_room_no().await?;
    let room_id = if rules.format.room_id_is_create_hash {
        None
    } else {
        Some(random_room_id(rooms.server_name())?)
    };
    let mut batch = Batch::upon(rooms, Tip::new_room(room, rules, room_id));
    for event in planned {
        add(&mut batch, &request.creator, event, now).await?;
    }
    let mut remote_invites = Vec::new();
    let mut invited: Vec<&OwnedUserId> = Vec::new();
    for user in &request.invite {
        if invited.contains(&user) || *user == request.creator {
            continue;
        }
        invited.push(user);
        let content = plan::invite(request, user);
        if rooms.is_local(user) {
            let event = Planned {
                key: rhizome_protocol::StateKey::new("m.room.member", user.as_str()),
                content,
            };
            add(&mut batch, &request.creator, event, now).await?;
        } else {
            remote_invites.push(Draft {
                room_id: batch.room_id().cloned(),
                sender: request.creator.clone(),
                kind: "m.room.member".into(),
                state_key: Some(user.to_string()),
                content,
                redacts: None,
            });
        }
    }

    let room_id = batch
        .room_id()
        .cloned()
        .ok_or_else(|| Error::InvalidRoomState("The room has no create event".into()))?;
    let (mut write, _) = batch.finish(None).await?;
    write.create = Some(NewRoom {
        room_id: room_id.clone(),
        rules,
    });
    write.expect = Some(0);
    let mut facts = facts(room);
    if let Some(alias) = &request.alias {
        let creator = store.user_no(&request.creator).await?;
        facts.push(Fact::Alias(NewAlias {
            alias: alias.clone(),
            room,
            creator,
        }));
    }
    if request.public {
        facts.push(Fact::Listing(Listing { room, public: true }));
    }
    let set = WriteSet {
        rooms: vec![write],
        facts,
    };
    match store.commit(set).await {
        Ok(_) => {}
        Err(CommitError::DuplicateEvent { .. } | CommitError::RoomExists(_)) => return Ok(None),
        Err(error) => return Err(commit_error(error)),
    }
    tracing::info!(room.id = %room_id, room.version = rules.id(), "room created");
    Ok(Some(Created {
        room_id,
        remote_invites,
    }))
}

/// Adds a state event of `creator` to a room that is being made.
pub(crate) async fn add(
    batch: &mut Batch<'_>,
    creator: &UserId,
    event: Planned,
    now: i64,
) -> Result<()> {
    let Planned { key, content } = event;
    let draft = Draft {
        room_id: batch.room_id().cloned(),
        sender: creator.to_owned(),
        kind: key.kind,
        state_key: Some(key.key),
        content,
        redacts: None,
    };
    batch
        .look_at(
            &draft.kind,
            &draft.sender,
            draft.state_key.as_deref(),
            &draft.content,
        )
        .await?;
    let pdu = batch.decide(&draft, now).map_err(|error| match error {
        Error::Forbidden(rejection) => {
            Error::InvalidRoomState(format!("{} can't be set: {rejection}", draft.kind))
        }
        other => other,
    })?;
    batch.push(Arc::new(pdu), None, None, None).await?;
    Ok(())
}

/// `!`, 18 random letters, and our name: the ids of rooms up to version 11.
pub(crate) fn random_room_id(server: &ServerName) -> Result<OwnedRoomId> {
    const LETTERS: &[u8; 52] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    let letters = random::letters(LETTERS, 18)?;
    RoomId::parse(format!("!{letters}:{server}"))
        .map_err(|error| Error::Invalid(format!("This server's name makes no room id: {error}")))
}
