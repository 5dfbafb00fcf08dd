//! The rooms of this server, and one of them.

use axum::extract::State;
use rhizome_edge::{MatrixError, RawJson, Undecoded};
use rhizome_storage::{RoomNo, RoomOrder, RoomOverview, RoomQuery, RoomSummary};
use serde_json::{Value, json};

use crate::{
    App, Ruma,
    admin::{asked::Asked, endpoint::endpoints, subject},
};

endpoints! {
    /// `GET`: the rooms that this server is or was in.
    GetRooms: GET "/_synapse/admin/v1/rooms";
    /// `GET`: one of them.
    GetRoom: GET "/_synapse/admin/v1/rooms/{room_id}";
}

/// `GET /_synapse/admin/v1/rooms`
pub async fn list(
    State(app): State<App>,
    Ruma { req, .. }: Ruma<Undecoded<GetRooms>>,
) -> Result<RawJson, MatrixError> {
    let asked = Asked::of(&req);
    let page = asked.page()?;
    let which = RoomQuery {
        term: asked.words("search_term")?.map(ToOwned::to_owned),
        public: asked.flag("public_rooms")?,
        empty: asked.flag("empty_rooms")?,
    };
    let (order, is_falling) = asked.order((RoomOrder::Name, false), order)?;
    let backwards = asked.backwards()?.unwrap_or(false) != is_falling;
    let here = &app.config.server_name;
    let (rooms, total) = app
        .store
        .room_page(here, &which, (order, backwards), page.bounds())
        .await?;
    let nos: Vec<RoomNo> = rooms.iter().map(|room| room.room).collect();
    let summaries = app.store.room_summaries(&nos).await?;
    let none = RoomSummary::default();
    let shown = rooms.iter().map(|room| {
        let summary = summaries.get(&room.room).map_or(&none, |summary| summary);
        shown(room, summary)
    });
    let shown: Vec<Value> = shown.collect();
    let mut answer = json!({ "rooms": shown, "offset": page.from, "total_rooms": total });
    if let Some(next) = page.next(rooms.len(), total) {
        answer["next_batch"] = next.into();
    }
    if page.from > 0 {
        answer["prev_batch"] = page.from.saturating_sub(page.limit).into();
    }
    RawJson::of(&answer)
}

/// By what rooms are put in order, and whether it is the greatest that comes first.
fn order(name: &str) -> Option<(RoomOrder, bool)> {
    Some(match name {
        "name" | "alphabetical" => (RoomOrder::Name, false),
        "canonical_alias" => (RoomOrder::Alias, false),
        "joined_members" | "size" => (RoomOrder::Joined, true),
        "joined_local_members" => (RoomOrder::JoinedHere, true),
        "version" => (RoomOrder::Version, true),
        "creator" => (RoomOrder::Creator, false),
        "encryption" => (RoomOrder::Encryption, false),
        "federatable" => (RoomOrder::Federate, false),
        "public" => (RoomOrder::Public, false),
        "join_rules" => (RoomOrder::JoinRule, false),
        "guest_access" => (RoomOrder::GuestAccess, false),
        "history_visibility" => (RoomOrder::HistoryVisibility, false),
        "state_events" => (RoomOrder::StateEvents, true),
        _ => return None,
    })
}

fn shown(room: &RoomOverview, summary: &RoomSummary) -> Value {
    json!({
        "room_id": room.room_id,
        "name": summary.name,
        "canonical_alias": summary.alias,
        "joined_members": room.joined,
        "joined_local_members": room.joined_here,
        "version": room.version,
        "creator": room.creator,
        "encryption": summary.encryption,
        "federatable": summary.federate,
        "public": room.public,
        "join_rules": summary.join_rule,
        "guest_access": summary.guest_access,
        "history_visibility": summary.history_visibility,
        "state_events": room.state_events,
        "room_type": summary.room_type,
    })
}

/// `GET /_synapse/admin/v1/rooms/{roomId}`
pub async fn details(
    State(app): State<App>,
    Ruma { req, .. }: Ruma<Undecoded<GetRoom>>,
) -> Result<RawJson, MatrixError> {
    let head = subject::room(&app, req.part(0)).await?;
    let (store, here) = (&app.store, &app.config.server_name);
    let found = store.room_overview(here, head.room).await?;
    let room = found.ok_or_else(|| MatrixError::not_found("This server doesn't know the room"))?;
    let summary = store.room_summary(head.room).await?;
    let tombstone = match head.snapshot {
        Some(at) => store.state_event(at, "m.room.tombstone", "").await?,
        None => None,
    };
    let mut answer = shown(&room, &summary);
    for (field, value) in [
        ("topic", json!(summary.topic)),
        ("avatar", json!(summary.avatar)),
        (
            "joined_local_devices",
            store.devices_in(head.room).await?.into(),
        ),
        (
            "forgotten",
            store.is_forgotten_here(head.room).await?.into(),
        ),
        ("tombstoned", tombstone.is_some().into()),
        ("replacement_room", json!(summary.replacement)),
    ] {
        answer[field] = value;
    }
    RawJson::of(&answer)
}
