//! Joining rooms, through other servers where we aren't in the room ourselves
//! (<https://spec.matrix.org/v1.19/server-server-api/#joining-rooms>).
//!
//! 1. An alias becomes a room id and servers to ask.
//! 2. In the room already: the join is a local event like any other.
//! 3. If not, each candidate server is asked for a template (`make_join`), which is signed.
//! 4. It is handed in (`send_join`) where it came from. That goes one after the other for the joins of one room:
//!    whoever comes second finds us in the room. All candidates together have a bounded time.
//! 5. The answer's events are checked (format, signatures, hash; keys fetched in parallel), then
//!    [`rhizome_rooms::admit::adopt`] checks that they authorise each other and the join, and takes the room. Where the
//!    server may leave members out, they are asked for afterwards (`partial`).
//! 6. Events that arrived meanwhile wait in the inbox; they are decided now.
//!
//! If nothing comes of a join that was handed in, it is taken back (`taking_back`).

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http::StatusCode;
use rhizome_protocol::{Membership, Object, Pdu, RoomRules};
use rhizome_rooms::{
    Error, access,
    admit::{self as admission, RemoteJoin},
    membership,
};
use ruma::{
    OwnedRoomId, OwnedServerName, RoomId, RoomOrAliasId, ServerName, UserId,
    api::federation::membership::prepare_join_event,
};
use serde_json::Value;
use tokio::time::Instant;

use crate::{
    Federation, MatrixError,
    fetch::verify,
    handshake,
    membership::{
        candidates::{Refusal, candidates},
        joining::{time_left, turn},
        resident, taking_back,
    },
    outbound::{
        OutboundError,
        answer::{self, Pieces},
    },
    partial, query, services,
};

/// The time limit of `make_join`.
const TEMPLATE_TIME: Duration = Duration::from_secs(20);
/// The time limit of `send_join`, whose answer holds the whole state.
const ANSWER_TIME: Duration = Duration::from_mins(3);
/// After an answer to it was lost, the join is handed in again this much later.
const PAUSES: [Duration; 2] = [Duration::from_millis(500), Duration::from_secs(3)];

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
    membership::require_open_to(fed.rooms(), &room_id, user).await?;
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
        let stored = services::alias(fed, alias).await?;
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
    let resident = access::server_in_room(fed.store(), room_id, fed.server_name()).await?;
    if resident && resident::join(fed, user, room_id, &content).await? {
        return Ok(());
    }
    let wish = Wish {
        fed,
        user,
        room_id,
        content: &content,
        until: Instant::now() + fed.config().join_timeout,
    };
    taking_back::wait(fed, user, room_id, wish.until).await?;
    let done = wish.through_any(via).await;
    match done {
        Ok(()) => taking_back::nothing(fed, user, room_id).await,
        Err(_) => taking_back::soon(fed, user, room_id).await,
    }
    done
}

/// Who wants to join what, and until when.
struct Wish<'a> {
    fed: &'a Federation,
    user: &'a UserId,
    room_id: &'a RoomId,
    content: &'a Object,
    until: Instant,
}

impl Wish<'_> {
    /// Steps 3 to 6 with one server after the other.
    async fn through_any(&self, via: Vec<OwnedServerName>) -> Result<(), MatrixError> {
        let (fed, room_id) = (self.fed, self.room_id);
        let mut refusal = Refusal::default();
        let candidates = candidates(fed, self.user, room_id, via).await?;
        for server in &candidates {
            match self.through(server, &candidates).await {
                Ok(()) => {
                    // Step 6.
                    fed.store().inbox_wake(room_id).await?;
                    fed.inbox().notify_one();
                    return Ok(());
                }
                Err(error) => refusal.add(server, room_id, error),
            }
            if Instant::now() >= self.until {
                break;
            }
        }
        Err(refusal.into_error())
    }

    /// Steps 3 to 5 with one server. `candidates`: all that the user relies on.
    async fn through(
        &self,
        server: &ServerName,
        candidates: &[OwnedServerName],
    ) -> Result<(), MatrixError> {
        let (fed, room_id) = (self.fed, self.room_id);
        // Step 3.
        let mut request =
            prepare_join_event::v1::Request::new(room_id.to_owned(), self.user.to_owned());
        request.ver = RoomRules::known()
            .map(|rules| rules.version.clone())
            .collect();
        let limits = handshake::step(time_left(self.until, TEMPLATE_TIME), answer::TEMPLATE);
        let template = fed.outbound().send_limited(server, request, limits).await?;
        let rules = handshake::rules_of(template.room_version.as_ref())?;
        let join = handshake::finish(
            fed,
            rules,
            &template.event,
            room_id,
            self.user,
            Membership::Join,
            self.content.clone(),
        )?;

        // Step 4. Events of the room are no part of this: the lock is about joining only.
        let _only = turn(fed, room_id, self.until).await?;
        if access::server_in_room(fed.store(), room_id, fed.server_name()).await?
            && resident::join(fed, self.user, room_id, self.content).await?
        {
            return Ok(());
        }
        is_door(fed, room_id, server).await?;
        // From here on the other server may send us the room's events.
        let _joining = fed.joining().begin(room_id, rules);
        let few = partial::may_begin(fed, room_id).await?;
        let mut answer = self.hand_in(server, &join, few).await?;
        let without_members = partial::told(fed, server, candidates, few, &answer)?;
        let (state, auth_chain) = (answer.take(0), answer.take(1));
        let (state, rules, join) = if template.room_version.is_some() {
            (state, rules, join)
        } else {
            // Nothing says that the create event is soon found.
            let look = move || of_unnamed_version(&state, join).map(|(r, j)| (state, r, j));
            let looked = tokio::task::spawn_blocking(look).await;
            looked.unwrap_or_else(|error| {
                tracing::error!(%error, "reading an answer failed");
                Err(MatrixError::internal())
            })?
        };
        // Step 5.
        let event = countersigned(fed, rules, &join, answer.single.take()).await;
        let given = verify::pack(fed, rules, room_id, Some(server), state, auth_chain).await?;
        let join = RemoteJoin {
            rules,
            given,
            event,
            without_members,
        };
        // By another process somebody may have come in meanwhile.
        is_door(fed, room_id, server).await?;
        let joined = match admission::adopt(fed.rooms(), join).await {
            // All members have become known meanwhile: it is a room of ours like others.
            Err(Error::Contended) if few => {
                let joined = resident::join(fed, self.user, room_id, self.content).await?;
                return joined.then_some(()).ok_or_else(|| Error::Contended.into());
            }
            joined => joined?,
        };
        if few {
            fed.store().want_partial(joined.room).await?;
            fed.partial().notify_one();
        }
        Ok(())
    }

    /// Hands the join in, once more if the answer is lost on its way: the same event counts once. Whatever becomes of
    /// it, the other server may count us as joined from here on; so that is written down first.
    async fn hand_in(
        &self,
        server: &ServerName,
        join: &Pdu,
        few: bool,
    ) -> Result<Pieces, MatrixError> {
        let (fed, user, room_id) = (self.fed, self.user, self.room_id);
        taking_back::begin(fed, user, room_id, server).await?;
        let mut pauses = PAUSES.into_iter();
        let mut was_lost = false;
        let error = loop {
            let time = time_left(self.until, ANSWER_TIME);
            let error = match handshake::send_join(fed, server, join, few, time).await {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            match pauses.next() {
                Some(pause) if is_lost(&error) && self.until > Instant::now() + pause => {
                    tracing::info!(%server, room = %room_id, %error, "the answer to a join is lost");
                    was_lost = true;
                    tokio::time::sleep(pause).await;
                }
                _ => break error,
            }
        };
        if !was_lost
            && error
                .status()
                .is_some_and(|status| status.is_client_error())
        {
            let store = fed.store();
            store.join_is_refused(user, room_id, server).await?;
        }
        Err(error.into())
    }
}

/// Nobody of ours comes by this server into a room that others of ours are in and that isn't known in full, unless it is
/// trusted with the rest.
async fn is_door(
    fed: &Federation,
    room_id: &RoomId,
    server: &ServerName,
) -> Result<(), MatrixError> {
    if partial::is_door(fed, room_id, server).await? {
        return Ok(());
    }
    Err(MatrixError::bad_gateway(
        "Not all members of the room are known here yet; until then nobody joins through that server",
    ))
}

/// Whether the other server may have taken what it was sent, though its answer didn't come.
fn is_lost(error: &OutboundError) -> bool {
    match error {
        OutboundError::Transport(_) | OutboundError::Timeout => true,
        OutboundError::Remote(error) => [
            StatusCode::BAD_GATEWAY,
            StatusCode::SERVICE_UNAVAILABLE,
            StatusCode::GATEWAY_TIMEOUT,
        ]
        .contains(&error.status),
        _ => false,
    }
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

/// Our join with the other server's signature, if it gave one that is right and the event is the same.
async fn countersigned(
    fed: &Federation,
    rules: &'static RoomRules,
    join: &Arc<Pdu>,
    given: Option<Bytes>,
) -> Arc<Pdu> {
    let Some(given) = given else {
        return Arc::clone(join);
    };
    let given = verify::texts(fed, rules, join.room_id(), vec![given])
        .await
        .pop();
    given
        .filter(|given| given.event_id() == join.event_id() && given.content() == join.content())
        // What stands beside the content is covered by its hash.
        .filter(|given| given.is_whole())
        .unwrap_or_else(|| Arc::clone(join))
}

#[cfg(test)]
mod tests {
    use rhizome_protocol::draft::{self, Draft};
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
