//! Room state, read and written.

use std::collections::BTreeSet;

use axum::extract::State;
use http::StatusCode;
use rhizome_edge::{Content, MatrixError, RawJson, Undecoded};
use rhizome_federation::{local, query};
use rhizome_protocol::{Membership, Object, StateKey, draft::Draft};
use rhizome_rooms::{
    access::RoomAccess,
    membership::{require_open, restricted::AUTHORISED_VIA},
    send::SendOptions,
};
use ruma::{
    OwnedEventId, OwnedRoomAliasId, OwnedRoomId, RoomAliasId, RoomId, UserId,
    api::client::state::{
        get_state_event_for_key::v3 as get, get_state_events::v3 as list,
        send_state_event::v3 as put,
    },
};
use serde_json::{Value, json};

use crate::{
    App, Caller, Ruma,
    account::{guests, newcomers, presence::acts},
    auth::{shadow, standing},
    content::{self, Beside},
    limits::{By, Kind},
    room::{
        membership, notices, relating,
        schedule::{self, Asked},
        send::may_stick,
        whole::Whole,
    },
    view::{
        complete, dress,
        json::Json,
        reading::Reading,
        seen::{Style, Viewer, reader},
    },
};

/// `GET /_matrix/client/v3/rooms/{roomId}/state`
pub async fn list(
    State(app): State<App>,
    Ruma { who, req, .. }: Ruma<list::Request>,
) -> Result<Content, MatrixError> {
    let Reading { viewer, room } = Reading::complete(&app, &who, &req.room_id).await?;
    let entries = app.store.state_all(room.state).await?;
    let events = entries.into_iter().map(|(_, no)| no).collect();
    Whole::new(&app, viewer, events, ("[", "]")).tell().await
}

/// `GET /_matrix/client/v3/rooms/{roomId}/state/{eventType}/{stateKey}`
pub async fn get(
    State(app): State<App>,
    Ruma { who, req, .. }: Ruma<get::Request>,
) -> Result<RawJson, MatrixError> {
    let kind = req.event_type.to_string();
    let viewer = Viewer::of(&who);
    let mut room = RoomAccess::of(&app.store, reader(&who), &req.room_id).await?;
    let entry = async |room: &RoomAccess| {
        let entry = app.store.state_event(room.state, &kind, &req.state_key);
        entry.await
    };
    let mut event = entry(&room).await?;
    if event.is_none() && kind == "m.room.member" && complete::wait(&app, &room.head).await? {
        room = RoomAccess::of(&app.store, reader(&who), &req.room_id).await?;
        event = entry(&room).await?;
    }
    let event = event.ok_or_else(|| {
        MatrixError::not_found(format!("The room has no {kind} with this state key"))
    })?;
    if req.format != get::StateEventFormat::Event {
        return Ok(RawJson(event.pdu.raw_content().to_owned().into()));
    }
    let mut json = Json::with_capacity(1024);
    let now = app.store.clock().now_ms();
    for event in dress::as_state(&app.store, vec![event]).await? {
        event.write(&mut json, &viewer, now, &Style::ROOM);
    }
    Ok(RawJson(json.finish().into()))
}

/// `PUT /_matrix/client/v3/rooms/{roomId}/state/{eventType}/{stateKey}`
pub async fn put(
    State(app): State<App>,
    Ruma { who, req, body, .. }: Ruma<Undecoded<put::Request>>,
) -> Result<RawJson, MatrixError> {
    let query = req.query.as_deref();
    let (room_id, kind, state_key) = (req.part(0), req.part(1), req.part(2));
    if let Some(delay_ms) = schedule::delay_ms(query)? {
        let asked = Asked {
            path: [room_id, kind, ""],
            state_key: Some(state_key),
            delay_ms,
            sticky_ms: schedule::beside(&who, query)?,
        };
        return schedule::answer(&schedule::by_query(&app, &who, asked, &body).await?);
    }
    let beside = Beside::read(&who, query)?;
    let sent = set(&app, &who, room_id, (kind, state_key), &body, beside).await?;
    RawJson::of(&json!({ "event_id": sent }))
}

/// Sets state for a client, by `/state` or by WebSocket.
pub async fn set(
    app: &App,
    who: &Caller,
    room_id: &str,
    (kind, state_key): (&str, &str),
    content: &[u8],
    beside: Beside,
) -> Result<OwnedEventId, MatrixError> {
    acts(app, who);
    let room_id = content::room_id(room_id)?;
    may_stick(app, who.user, &room_id, beside.sticky_ms).await?;
    let key = StateKey::new(kind, state_key);
    let options = SendOptions {
        sticky_ms: beside.sticky_ms,
        origin_server_ts: beside.origin_server_ts,
        ..SendOptions::default()
    };
    let mut content = content::parse(content)?;
    relating::check(app, who, &room_id, (kind, &content), None).await?;
    guests::check_state(app, who, &room_id, (kind, &content)).await?;
    let leaves = content.get("membership") == Some(&"leave".into());
    if kind == "m.room.member" && state_key == who.user_id.as_str() && leaves {
        notices::may_leave(app, who, &room_id).await?;
        shadow::quiet(app, &who.user_id, &mut content).await?;
    } else {
        standing::may_speak(app, who, &room_id).await?;
        if shadow::is_banned(app, &who.user_id).await? {
            return shadow::event(app, who, &room_id, None).await;
        }
    }
    if membership::is_invite(kind, &content)
        && let Ok(invited) = <&UserId>::try_from(state_key)
        && invited.server_name() == app.config.server_name
    {
        membership::made_by_service(app, who, invited).await;
    }
    event(app, who.into(), room_id, key, content, options).await
}

/// Sends a user's state event, for a client or as it was scheduled.
pub async fn event(
    app: &App,
    by: By<'_>,
    room_id: OwnedRoomId,
    StateKey { kind, key }: StateKey,
    mut content: Object,
    options: SendOptions,
) -> Result<OwnedEventId, MatrixError> {
    let sender = by.user.to_owned();
    if kind == "m.room.member" {
        // Who lets whom in, servers settle.
        content.remove(AUTHORISED_VIA);
    }
    if kind == "m.room.member" {
        may_come(app, &sender, &room_id, &content).await?;
        let target = <&UserId>::try_from(key.as_str());
        if let Some(target) = target.ok().filter(|target| *target != sender) {
            complete::wait_for(app, &room_id, target).await?;
        }
    }
    if membership::is_invite(&kind, &content) {
        let now = app.now_monotonic_ms();
        app.limits.take_many(Kind::Invite, by, 1, now)?;
        newcomers::take(app, by, 0, 1).await?;
    }
    if kind == "m.room.canonical_alias" && key.is_empty() {
        check_canonical_alias(app, &room_id, &content).await?;
    }
    let draft = Draft {
        room_id: Some(room_id),
        sender,
        kind,
        state_key: Some(key),
        content,
        redacts: None,
    };
    let sent = local::send(&app.federation, draft, options).await?;
    Ok(sent.event_id)
}

/// Whether the operator lets somebody come into the room, if that is what the event is about: who is there already only says
/// something else of themselves.
async fn may_come(
    app: &App,
    sender: &UserId,
    room_id: &RoomId,
    content: &Object,
) -> Result<(), MatrixError> {
    let comes = match content.get("membership").and_then(Value::as_str) {
        Some("invite" | "knock") => true,
        Some("join") => {
            let user = app.store.user_no(sender).await?;
            let joined = match app.store.known_room(room_id).await? {
                Some(room) => app.store.membership(user, room).await?,
                None => None,
            };
            joined.is_none_or(|row| row.membership != Membership::Join)
        }
        _ => false,
    };
    if comes {
        require_open(&app.store, room_id).await?;
    }
    Ok(())
}

/// The aliases that the event newly names must lead to the room
/// (<https://spec.matrix.org/v1.19/client-server-api/#mroomcanonical_alias>).
async fn check_canonical_alias(
    app: &App,
    room_id: &RoomId,
    content: &Object,
) -> Result<(), MatrixError> {
    let wanted = named_aliases(content)?;
    let head = app.store.room(room_id).await?;
    let event = match head.and_then(|head| head.snapshot) {
        Some(at) => {
            app.store
                .state_event(at, "m.room.canonical_alias", "")
                .await?
        }
        None => None,
    };
    let stands = event
        .and_then(|event| named_aliases(event.pdu.content()).ok())
        .unwrap_or_default();
    for alias in wanted.difference(&stands) {
        let leads_here = match leads_to(app, alias).await {
            Ok(leads) => leads == *room_id,
            Err(error) if error.status == StatusCode::NOT_FOUND => false,
            Err(error) => return Err(error),
        };
        if !leads_here {
            return Err(bad_alias(alias));
        }
    }
    Ok(())
}

/// A room would be named by an alias that isn't its own.
pub(crate) fn bad_alias(alias: &RoomAliasId) -> MatrixError {
    MatrixError::new(
        StatusCode::BAD_REQUEST,
        "M_BAD_ALIAS",
        format!("The alias {alias} doesn't lead to this room"),
    )
}

async fn leads_to(app: &App, alias: &RoomAliasId) -> Result<OwnedRoomId, MatrixError> {
    if alias.server_name() != app.config.server_name {
        return Ok(query::alias(&app.federation, alias).await?.0);
    }
    let found = app.store.alias(alias).await?;
    found
        .map(|found| found.room_id)
        .ok_or_else(|| MatrixError::not_found("No such alias"))
}

/// `alias` and `alt_aliases`. An empty or absent alias is none.
pub(crate) fn named_aliases(content: &Object) -> Result<BTreeSet<OwnedRoomAliasId>, MatrixError> {
    let invalid = || MatrixError::invalid_param("alias and alt_aliases must be room aliases");
    let mut named = BTreeSet::new();
    let mut add = |value: &Value| {
        let text = value.as_str().ok_or_else(invalid)?;
        named.insert(RoomAliasId::parse(text).map_err(|_| invalid())?);
        Ok::<(), MatrixError>(())
    };
    match content.get("alias") {
        None | Some(Value::Null) => {}
        Some(Value::String(text)) if text.is_empty() => {}
        Some(alias) => add(alias)?,
    }
    match content.get("alt_aliases") {
        None | Some(Value::Null) => {}
        Some(Value::Array(aliases)) => aliases.iter().try_for_each(&mut add)?,
        Some(_) => return Err(invalid()),
    }
    Ok(named)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(content: Value) -> Result<usize, MatrixError> {
        let Value::Object(content) = content else {
            unreachable!()
        };
        named_aliases(&content).map(|named| named.len())
    }

    #[test]
    fn aliases_are_found_or_refused() {
        assert_eq!(named(json!({})), Ok(0));
        assert_eq!(named(json!({ "alias": "", "alt_aliases": null })), Ok(0));
        assert_eq!(
            named(json!({ "alias": "#a:b", "alt_aliases": ["#a:b", "#c:d"] })),
            Ok(2)
        );
        for wrong in [
            json!({ "alias": 1 }),
            json!({ "alt_aliases": ["x"] }),
            json!({ "alt_aliases": {} }),
        ] {
            assert_eq!(named(wrong).unwrap_err().errcode, "M_INVALID_PARAM");
        }
    }
}
