//! `GET /notifications`: what a user was notified of (client-server API, "Listing Notifications").

use std::{collections::BTreeMap, sync::Arc};

use axum::extract::State;
use rhizome_edge::RawJson;
use rhizome_protocol::Membership;
use rhizome_rooms::access::{EventAccess, Standing};
use rhizome_storage::{MembershipRow, Pos, RoomNo, StoredEvent};
use ruma::api::client::push::get_notifications::v3;

use super::counts::notified::{Notified, Page};
use crate::{
    App, MatrixError, Ruma,
    view::{
        client_event::Form,
        dress,
        json::Json,
        seen::{Seen, Style, Viewer},
    },
};

/// How many are told where the client doesn't say.
const DEFAULT: usize = 20;
/// How many are told at most.
const MOST: usize = 100;

/// `GET /_matrix/client/v3/notifications`
pub async fn notifications(
    State(app): State<App>,
    Ruma { who, req, .. }: Ruma<v3::Request>,
) -> Result<RawJson, MatrixError> {
    let head = app.store.log().head();
    let from = req.from.as_deref().map(place).transpose()?;
    let limit = req.limit.map_or(DEFAULT, |limit| {
        usize::try_from(u64::from(limit)).unwrap_or(MOST)
    });
    let page = Page {
        from: from.map_or(head, |from| from.min(head)),
        limit: limit.clamp(1, MOST),
        highlights: req.only.as_deref() == Some("highlight"),
    };
    let rooms = app.store.memberships_of(who.user).await?;
    let is_joined = |row: &&MembershipRow| row.membership == Membership::Join;
    let rooms: Vec<_> = rooms.iter().filter(is_joined).copied().collect();
    let counts = &app.sync.counts;
    let (found, next) = counts.notified(&app.store, who.user, &rooms, page).await?;
    let viewer = Viewer::of(&who);
    let shown = shown(&app, &viewer, found).await?;
    Ok(write(&app, &viewer, &shown, next))
}

/// Where a page begins, as clients have it.
fn place(text: &str) -> Result<Pos, MatrixError> {
    let pos = text.strip_prefix('n').and_then(|pos| pos.parse().ok());
    let pos = pos.filter(|pos: &i64| *pos >= 0).map(Pos);
    pos.ok_or_else(|| MatrixError::invalid_param("`from` is no token of this list"))
}

/// What the user may see of it.
async fn shown(
    app: &App,
    viewer: &Viewer,
    found: Vec<Notified>,
) -> Result<Vec<(Notified, Seen)>, MatrixError> {
    let mut by_room: BTreeMap<RoomNo, (Pos, Vec<&Arc<StoredEvent>>)> = BTreeMap::new();
    for one in &found {
        let of_room = by_room.entry(one.event.room);
        let (_, events) = of_room.or_insert_with(|| (one.since, Vec::new()));
        events.push(&one.event);
    }
    let mut accesses = BTreeMap::new();
    for (room, (since, events)) in by_room {
        let standing = Standing::joined(since);
        let mut access = EventAccess::new(&app.store, &viewer.user_id, standing);
        access.load(events).await?;
        accesses.insert(room, access);
    }
    let (mut kept, mut seen) = (Vec::new(), Vec::new());
    for one in found {
        let Some(access) = accesses.get(&one.event.room) else {
            continue;
        };
        if let Some(shown) = Seen::of(one.event.clone(), access.judge(&one.event)) {
            kept.push(one);
            seen.push(shown);
        }
    }
    dress::dress(&app.store, &mut seen).await?;
    Ok(kept.into_iter().zip(seen).collect())
}

fn write(app: &App, viewer: &Viewer, shown: &[(Notified, Seen)], next: Option<Pos>) -> RawJson {
    let style = Style {
        form: Form::Sync,
        fields: None,
    };
    let now = app.store.clock().now_ms();
    let mut json = Json::with_capacity(1_024 * shown.len() + 64);
    json.open().key("notifications").open_list();
    for (one, seen) in shown {
        json.open().key("actions").raw(&one.actions);
        json.key("event");
        seen.write(&mut json, viewer, now, &style);
        json.key("read").boolean(one.is_read);
        json.key("room_id")
            .string(seen.event.pdu.room_id().as_str());
        json.key("ts").number(seen.event.pdu.origin_server_ts());
        json.close();
    }
    json.close_list();
    if let Some(next) = next {
        json.key("next_token").string(&format!("n{}", next.0));
    }
    json.close();
    RawJson(json.finish().into())
}
