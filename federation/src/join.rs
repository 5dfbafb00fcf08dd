//! Joining rooms, through other servers where we aren't in the room ourselves
//! (<https://spec.matrix.org/v1.19/server-server-api/#joining-rooms>).
//!
//! 1. An alias becomes a room id and servers to ask.
//! 2. In the room already: the join is a local event like any other.
//! 3. If not, joins of one room go one after the other: whoever comes second finds us in the room.
//! 4. Then each candidate server is asked: template (`make_join`), sign, hand in (`send_join`).
//! 5. The answer's events are checked (format, signatures, hash; keys fetched in parallel), then
//!    [`rhizome_rooms::join::adopt`] checks that they authorise each other and the join, and takes the room.
//! 6. Events that arrived meanwhile wait in the inbox; they are decided now.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use rhizome_protocol::{Membership, Object, Pdu, RoomRules, draft::Draft};
use rhizome_rooms::{
    join::{self as admission, RemoteJoin},
    membership, read, restricted,
    send::SendOptions,
};
use rhizome_storage::RemoteInvite;
use ruma::{
    OwnedRoomId, OwnedServerName, RoomId, RoomOrAliasId, ServerName, UserId,
    api::federation::membership::prepare_join_event,
};
use serde::Deserialize;
use serde_json::{Value, value::RawValue};

use crate::{
    Federation, MatrixError,
    client::{Limits, OutboundError},
    handshake, local, query, verify,
};

/// How many servers are tried.
const MAX_CANDIDATES: usize = 10;
/// The time limit of `make_join`.
const TEMPLATE_TIME: Duration = Duration::from_secs(20);
/// The time limit of `send_join`, whose answer holds the whole state.
const ANSWER_TIME: Duration = Duration::from_mins(3);
/// What servers say that don't know whether the user is allowed into a restricted room.
const UNABLE_TO_AUTHORISE: &str = "M_UNABLE_TO_AUTHORISE_JOIN";
/// What servers say that know the user for allowed in, but can't let anybody in themselves.
const UNABLE_TO_GRANT: &str = "M_UNABLE_TO_GRANT_JOIN";
/// The most bytes of that answer.
const ANSWER_BODY: usize = 256 << 20;

/// Rooms that we are joining now, with their rules once a template has told them.
#[derive(Debug, Default)]
pub(crate) struct Joining {
    rooms: Mutex<HashMap<OwnedRoomId, &'static RoomRules>>,
}

impl Joining {
    /// The rules of the room, if we are just joining it.
    pub(crate) fn rules(&self, room_id: &RoomId) -> Option<&'static RoomRules> {
        self.rooms
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(room_id)
            .copied()
    }

    fn begin<'a>(&'a self, room_id: &RoomId, rules: &'static RoomRules) -> JoiningRoom<'a> {
        self.rooms
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(room_id.to_owned(), rules);
        JoiningRoom {
            joining: self,
            room_id: room_id.to_owned(),
        }
    }
}

/// Ends the joining when dropped.
struct JoiningRoom<'a> {
    joining: &'a Joining,
    room_id: OwnedRoomId,
}

impl Drop for JoiningRoom<'_> {
    fn drop(&mut self) {
        self.joining
            .rooms
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&self.room_id);
    }
}

/// Lets a local user join a room.
///
/// `via`: servers to go through, the best first. `content` is what the member event says besides the
/// membership: `displayname`, `avatar_url`, `reason`.
///
/// # Errors
/// What the room, or the last of the servers, has against it; 404 if there is nobody to ask.
pub async fn join(
    fed: &Federation,
    user: &UserId,
    target: &RoomOrAliasId,
    via: &[OwnedServerName],
    content: Object,
) -> Result<OwnedRoomId, MatrixError> {
    let (room_id, via) = resolve(fed, target, via).await?;
    let (fed, user) = (fed.clone(), user.to_owned());
    // A task of its own: between `send_join` and the room's adoption nobody's patience may end it.
    let joining = tokio::spawn(async move {
        join_room(&fed, &user, &room_id, via, content)
            .await
            .map(|()| room_id)
    });
    joining.await.unwrap_or_else(|error| {
        tracing::error!(%error, "joining a room failed");
        Err(MatrixError::internal())
    })
}

/// Step 1.
pub(crate) async fn resolve(
    fed: &Federation,
    target: &RoomOrAliasId,
    via: &[OwnedServerName],
) -> Result<(OwnedRoomId, Vec<OwnedServerName>), MatrixError> {
    let alias = match <&RoomId>::try_from(target) {
        Ok(room_id) => return Ok((room_id.to_owned(), via.to_vec())),
        Err(alias) => alias,
    };
    if alias.server_name() == fed.server_name() {
        let stored = fed.store().alias(alias).await?;
        let stored =
            stored.ok_or_else(|| MatrixError::not_found(format!("There is no alias {alias}")))?;
        return Ok((stored.room_id, via.to_vec()));
    }
    let (room_id, servers) = query::alias(fed, alias).await?;
    Ok((
        room_id,
        servers.into_iter().chain(via.iter().cloned()).collect(),
    ))
}

async fn join_room(
    fed: &Federation,
    user: &UserId,
    room_id: &RoomId,
    via: Vec<OwnedServerName>,
    content: Object,
) -> Result<(), MatrixError> {
    // Step 2.
    let resident = read::server_in_room(fed.rooms(), room_id, fed.server_name()).await?;
    if resident && as_resident(fed, user, room_id, &content).await? {
        return Ok(());
    }
    // Step 3. Events of the room are no part of this: the lock is about joining only.
    let _only = fed.inbound().joins.lock(room_id.to_owned()).await;
    if !resident
        && read::server_in_room(fed.rooms(), room_id, fed.server_name()).await?
        && as_resident(fed, user, room_id, &content).await?
    {
        return Ok(());
    }
    // Step 4.
    let mut refusal = Refusal::default();
    for server in candidates(fed, user, room_id, via).await? {
        match through(fed, &server, user, room_id, &content).await {
            Ok(()) => {
                // Step 6.
                fed.store().inbox_wake(room_id).await?;
                fed.inbound().inbox.notify_one();
                return Ok(());
            }
            Err(error) => refusal.add(&server, room_id, error),
        }
    }
    Err(refusal.into_error())
}

/// Of what several servers had against a user's wish, what says most to the user.
#[derive(Default)]
pub(crate) struct Refusal(Option<MatrixError>);

impl Refusal {
    /// A refusal says more than a server that can't be reached, or can't tell.
    pub(crate) fn add(&mut self, server: &ServerName, room_id: &RoomId, error: MatrixError) {
        tracing::info!(%server, room = %room_id, %error, "can't get into the room through this server");
        let says_little = |known: &MatrixError| known.status.is_server_error() || is_unable(known);
        if self.0.as_ref().is_none_or(says_little) {
            self.0 = Some(error);
        }
    }

    pub(crate) fn into_error(self) -> MatrixError {
        match self.0 {
            // Between servers that is a matter of asking another one; to the user, the door is shut.
            Some(error) if is_unable(&error) => MatrixError::forbidden(error.message),
            Some(error) => error,
            None => MatrixError::not_found(
                "This server is not in the room and knows no server that could be asked",
            ),
        }
    }
}

/// Whether a server merely can't let the user into a restricted room itself.
fn is_unable(error: &MatrixError) -> bool {
    [UNABLE_TO_AUTHORISE, UNABLE_TO_GRANT].contains(&&*error.errcode)
}

/// Joins by a local event of a room that we are in, if one of our users can let this one in.
async fn as_resident(
    fed: &Federation,
    user: &UserId,
    room_id: &RoomId,
    content: &Object,
) -> Result<bool, MatrixError> {
    match join_locally(fed, user, room_id, content.clone()).await {
        // None of our users may let this one in; another server's may.
        Err(error) if is_unable(&error) => Ok(false),
        done => done.map(|()| true),
    }
}

async fn join_locally(
    fed: &Federation,
    user: &UserId,
    room_id: &RoomId,
    content: Object,
) -> Result<(), MatrixError> {
    if membership::current(fed.rooms(), room_id, user).await? == Some(Membership::Join) {
        return Ok(());
    }
    let mut content = content;
    content.insert("membership".to_owned(), Membership::Join.as_str().into());
    if let Some(head) = fed.store().room(room_id).await?
        && let Some(by) = restricted::authoriser(fed.rooms(), &head, user).await?
    {
        content.insert(restricted::AUTHORISED_VIA.to_owned(), by.as_str().into());
    }
    let draft = Draft {
        room_id: Some(room_id.to_owned()),
        sender: user.to_owned(),
        kind: "m.room.member".to_owned(),
        state_key: Some(user.to_string()),
        content,
        redacts: None,
    };
    local::send(fed, draft, SendOptions::default()).await?;
    Ok(())
}

/// Whom to ask: those the user named, and the server of who invited them. If the user named nobody but us:
/// those who are, or were, in the room with us, and the one in the room's id.
pub(crate) async fn candidates(
    fed: &Federation,
    user: &UserId,
    room_id: &RoomId,
    via: Vec<OwnedServerName>,
) -> Result<Vec<OwnedServerName>, MatrixError> {
    let mut candidates = via;
    candidates.retain(|server| server != fed.server_name());
    let named = !candidates.is_empty();
    if let Some(invite) = invite(fed, user, room_id).await? {
        candidates.push(invite.sender.server_name().to_owned());
    }
    if !named {
        if let Some(head) = fed.store().room(room_id).await? {
            let servers = fed.store().joined_servers(head.room).await?;
            let others = servers.iter().filter(|server| *server != fed.server_name());
            candidates.extend(others.take(3).cloned());
        }
        candidates.extend(room_id.server_name().map(ToOwned::to_owned));
    }
    let mut seen = std::collections::HashSet::new();
    candidates.retain(|server| server != fed.server_name() && seen.insert(server.clone()));
    candidates.truncate(MAX_CANDIDATES);
    Ok(candidates)
}

/// The user's invite to a room that we aren't in.
pub(crate) async fn invite(
    fed: &Federation,
    user: &UserId,
    room_id: &RoomId,
) -> Result<Option<RemoteInvite>, MatrixError> {
    let (Some(user), Some(room)) = (
        fed.store().known_user(user).await?,
        fed.store().known_room(room_id).await?,
    ) else {
        return Ok(None);
    };
    Ok(fed.store().remote_invite(user, room).await?)
}

/// Steps 4 and 5 with one server.
async fn through(
    fed: &Federation,
    server: &ServerName,
    user: &UserId,
    room_id: &RoomId,
    content: &Object,
) -> Result<(), MatrixError> {
    let mut request = prepare_join_event::v1::Request::new(room_id.to_owned(), user.to_owned());
    request.ver = RoomRules::supported()
        .map(|rules| rules.version.clone())
        .collect();
    let template = fed
        .outbound()
        .send_limited(server, request, handshake::step(TEMPLATE_TIME))
        .await?;
    let rules = handshake::rules_of(template.room_version.as_ref())?;
    let join = handshake::finish(
        fed,
        rules,
        &template.event,
        room_id,
        user,
        Membership::Join,
        content.clone(),
    )?;

    // From here on the other server may send us the room's events.
    let _joining = fed.inbound().joining.begin(room_id, rules);
    let limits = Limits {
        timeout: Some(ANSWER_TIME),
        max_body: ANSWER_BODY,
    };
    let answer = handshake::submit(fed, server, "send_join", &join, limits).await?;
    let answer = Answer::read(answer).await?;
    let (rules, join) = if template.room_version.is_some() {
        (rules, join)
    } else {
        of_unnamed_version(&answer.state, join)?
    };
    let event = countersigned(fed, rules, &join, answer.event).await;
    let given = verify::pack(fed, rules, room_id, answer.state, answer.auth_chain).await;
    let join = RemoteJoin {
        rules,
        given,
        event,
    };
    admission::adopt(fed.rooms(), join).await?;
    Ok(())
}

/// A template that names no room version is of a room of version 1 or 2, whose events look alike: which,
/// the create event tells.
fn of_unnamed_version(
    state: &[Bytes],
    join: Arc<Pdu>,
) -> Result<(&'static RoomRules, Arc<Pdu>), MatrixError> {
    let create = state
        .iter()
        .filter_map(|text| verify::parse_bytes(text).ok())
        .find(|event| event.get("type").and_then(Value::as_str) == Some("m.room.create"));
    let content = create.as_ref().and_then(|create| create.get("content"));
    let told = content
        .and_then(Value::as_object)
        .and_then(RoomRules::of_create)
        .filter(|rules| rules.format == join.rules().format);
    match told {
        Some(rules) if rules != join.rules() => {
            let (id, json) = (join.event_id().to_owned(), join.json().clone());
            let join = Pdu::from_stored(rules, id, json)
                .map_err(|rejection| MatrixError::bad_gateway(rejection.to_string()))?;
            Ok((rules, Arc::new(join)))
        }
        _ => Ok((join.rules(), join)),
    }
}

/// What of a `send_join` answer matters, as pieces of its text.
struct Answer {
    auth_chain: Vec<Bytes>,
    state: Vec<Bytes>,
    event: Option<Box<RawValue>>,
}

impl Answer {
    /// Takes the answer apart without reading the events. On the blocking pool: it may be large.
    async fn read(text: Bytes) -> Result<Self, MatrixError> {
        #[derive(Deserialize)]
        struct Parts<'a> {
            #[serde(borrow)]
            auth_chain: Vec<&'a RawValue>,
            #[serde(borrow)]
            state: Vec<&'a RawValue>,
            #[serde(borrow)]
            event: Option<&'a RawValue>,
        }
        let read = move || {
            let parts: Parts<'_> = serde_json::from_slice(&text)
                .map_err(|error| OutboundError::Answer(error.to_string()))?;
            let cut = |raws: Vec<&RawValue>| {
                let pieces = raws.into_iter().map(|raw| raw.get().as_bytes());
                pieces.map(|piece| text.slice_ref(piece)).collect()
            };
            Ok(Self {
                auth_chain: cut(parts.auth_chain),
                state: cut(parts.state),
                event: parts.event.map(ToOwned::to_owned),
            })
        };
        let read = tokio::task::spawn_blocking(read).await;
        read.unwrap_or_else(|error| {
            tracing::error!(%error, "reading an answer failed");
            Err(MatrixError::internal())
        })
    }
}

/// Our join with the other server's signature, if it gave one that is right and the event is the same.
async fn countersigned(
    fed: &Federation,
    rules: &'static RoomRules,
    join: &Arc<Pdu>,
    given: Option<Box<RawValue>>,
) -> Arc<Pdu> {
    let Some(given) = given else {
        return Arc::clone(join);
    };
    let given = verify::batch(fed, rules, join.room_id(), vec![given])
        .await
        .pop();
    given
        .filter(|given| given.event_id() == join.event_id() && given.content() == join.content())
        .unwrap_or_else(|| Arc::clone(join))
}

#[cfg(test)]
mod tests {
    use rhizome_protocol::draft;
    use ruma::{server_name, user_id};
    use serde_json::json;

    use super::*;

    #[test]
    fn the_create_event_tells_version_1_from_2() {
        let key = rhizome_protocol::sign::KeyPair::from_seed("a", &[1; 32]).unwrap();
        let rules = RoomRules::named("1").unwrap();
        let draft = Draft {
            room_id: Some(RoomId::parse("!r:a.example").unwrap()),
            sender: user_id!("@bob:b.example").to_owned(),
            kind: "m.room.member".into(),
            state_key: Some("@bob:b.example".into()),
            content: Object::new(),
            redacts: None,
        };
        let place = draft::Place::default();
        let join = draft::build(rules, &draft, &place, server_name!("b.example"), &key).unwrap();
        let join = Arc::new(join);
        for (content, version) in [
            (json!({}), "1"),
            (json!({ "room_version": "1" }), "1"),
            (json!({ "room_version": "2" }), "2"),
            // Such a room would have had to name its version.
            (json!({ "room_version": "10" }), "1"),
            (json!({ "room_version": 2 }), "1"),
        ] {
            let create = json!({ "type": "m.room.create", "content": content });
            let state = [json!({ "type": "m.room.name" }), create]
                .map(|event| Bytes::from(event.to_string()));
            let (rules, same) = of_unnamed_version(&state, Arc::clone(&join)).unwrap();
            assert_eq!((rules.id(), same.rules().id()), (version, version));
            assert_eq!(same.json(), join.json());
        }
    }
}
