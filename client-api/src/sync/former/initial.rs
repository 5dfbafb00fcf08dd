//! `/initialSync`: all of the reader's rooms as they are now.

use std::{collections::HashMap, sync::Arc};

use axum::extract::State;
use rhizome_edge::Undecoded;
use rhizome_federation::RawJson;
use rhizome_protocol::Membership;
use rhizome_storage::{MembershipRow, RoomHead, RoomNo};
use ruma::{OwnedRoomId, api::auth_scheme::AccessToken, metadata};
use serde_json::json;

use super::{LIMIT, room::visibility, token};
use crate::{
    App, MatrixError, Ruma,
    account::presence::by_sync,
    content::pairs,
    place::{point::HistoryPoint, token::Token},
    sync::{Ask, News, Reader, Summons, pieces::account_data_list, room::RoomPart},
    view::{
        filter::{self, MAX_TIMELINE},
        json::Json,
        seen::{Style, Viewer, write_list},
    },
};

/// `GET /_matrix/client/v3/initialSync`
pub struct InitialSync;
metadata! {
    @for InitialSync,
    method: GET,
    rate_limited: false,
    authentication: AccessToken,
    history: {
        1.0 => "/_matrix/client/r0/initialSync",
        1.1 => "/_matrix/client/v3/initialSync",
    }
}

/// `GET /_matrix/client/v3/initialSync`
pub async fn sync(
    State(app): State<App>,
    Ruma { who, req, .. }: Ruma<Undecoded<InitialSync>>,
) -> Result<RawJson, MatrixError> {
    let (limit, archived) = asked(req.query.as_deref())?;
    let filter = json!({ "room": { "timeline": { "limit": limit }, "include_leave": archived } });
    let filter = filter::parse(&filter.to_string()).map_err(MatrixError::invalid_param)?;
    let ask = Ask {
        filter: Arc::new(filter),
        full_state: false,
        state_after: true,
    };
    let device = who.device_or_none();
    let _there = app
        .store
        .syncs(who.user, &device, by_sync(&who, None)?)
        .await?;
    app.store.log().refresh().await?;
    let viewer = Viewer::of(&who);
    let mut reader = Reader::new(app.clone(), viewer.clone(), ask, None);
    let mut news = Box::pin(reader.pass()).await?;
    if !archived {
        news.leave.clear();
    }
    let rows = app.store.memberships_of(who.user).await?;
    let writer = Writer {
        viewer: &viewer,
        now_ms: app.store.clock().now_ms(),
        end: token(&app.store, news.next.pos),
        rooms: places(&app, &news).await?,
        rows: &rows,
    };
    Ok(RawJson(writer.answer(&news).into()))
}

/// How many events of each room, and whether rooms that the reader has left are told.
fn asked(query: Option<&str>) -> Result<(usize, bool), MatrixError> {
    let pairs = pairs(query.unwrap_or_default());
    let value = |name: &str| {
        let found = pairs.iter().find(|(key, _)| key == name);
        found.map(|(_, value)| value.as_str())
    };
    let limit = value("limit").map(|text| {
        let limit: Result<usize, _> = text.parse();
        limit.map_err(|_| MatrixError::invalid_param("limit must be a number"))
    });
    let archived = match value("archived") {
        None | Some("false") => false,
        Some("true") => true,
        Some(_) => {
            return Err(MatrixError::invalid_param(
                "archived is either true or false",
            ));
        }
    };
    Ok((
        limit.transpose()?.unwrap_or(LIMIT).min(MAX_TIMELINE),
        archived,
    ))
}

/// Where the rooms of some news stand.
async fn places(
    app: &App,
    news: &News,
) -> Result<HashMap<OwnedRoomId, (RoomNo, Option<Arc<RoomHead>>)>, MatrixError> {
    let ids = news.join.iter().chain(&news.leave).map(|(id, _)| id);
    let ids: Vec<OwnedRoomId> = ids.cloned().collect();
    let known = app.store.known_rooms(&ids).await?;
    let nos: Vec<RoomNo> = known.values().copied().collect();
    let mut heads = app.store.heads(&nos).await?;
    let each = known.into_iter();
    Ok(each.map(|(id, no)| (id, (no, heads.remove(&no)))).collect())
}

struct Writer<'a> {
    viewer: &'a Viewer,
    now_ms: i64,
    end: Token,
    rooms: HashMap<OwnedRoomId, (RoomNo, Option<Arc<RoomHead>>)>,
    rows: &'a [MembershipRow],
}

impl Writer<'_> {
    fn answer(&self, news: &News) -> String {
        let mut json = Json::with_capacity(4_096);
        json.open().key("end").string(&self.end.to_string());
        news.presence.write_list(json.key("presence"));
        account_data_list(json.key("account_data"), &news.account_data);
        json.key("rooms").open_list();
        for (room, part) in news.join.iter().chain(&news.leave) {
            self.room(&mut json, room, part);
        }
        for (room, summons) in &news.invite {
            self.invite(&mut json, room, summons);
        }
        json.close_list().close();
        json.finish()
    }

    fn room(&self, json: &mut Json, room: &OwnedRoomId, part: &RoomPart) {
        let place = self.rooms.get(room);
        let row = place.and_then(|(no, _)| {
            let found = self.rows.binary_search_by_key(no, |row| row.room);
            found.ok().map(|index| &self.rows[index])
        });
        let gone = || row.map_or(Membership::Leave, |row| row.membership);
        let membership = if part.left { gone() } else { Membership::Join };
        json.open().key("room_id").string(room.as_str());
        json.key("membership").string(membership.as_str());
        if let Some((_, Some(head))) = place {
            json.key("visibility").string(visibility(head.public));
        }
        json.key("messages").open();
        if part.timeline.limited {
            let start = HistoryPoint::at(part.timeline.before);
            json.key("start").string(&start.to_string());
        }
        json.key("end").string(&self.end.to_string());
        write_list(
            json,
            "chunk",
            &part.timeline.events,
            self.viewer,
            self.now_ms,
        );
        json.close();
        write_list(json, "state", &part.state, self.viewer, self.now_ms);
        account_data_list(json.key("account_data"), &part.account_data);
        json.close();
    }

    fn invite(&self, json: &mut Json, room: &OwnedRoomId, summons: &Summons) {
        json.open().key("room_id").string(room.as_str());
        json.key("membership").string(Membership::Invite.as_str());
        if let Some(event) = &summons.event {
            json.key("invite");
            event.write(json, self.viewer, self.now_ms, &Style::ROOM);
        }
        json.close();
    }
}
