//! `/rooms/{roomId}/initialSync`: a room as it is now, or as it was when the reader left, also for who looks at it from
//! outside.

use axum::extract::State;
use rhizome_federation::RawJson;
use rhizome_protocol::Membership;
use rhizome_rooms::state;
use rhizome_storage::Pos;
use ruma::api::client::peeking::get_current_state::v3;

use super::{LIMIT, token};
use crate::{
    App, MatrixError, Ruma, account_data,
    history::pager::Pager,
    place::point::HistoryPoint,
    sync::pieces::account_data_list,
    view::{
        dress,
        filter::EventFilter,
        ignored,
        json::Json,
        reading::Reading,
        seen::{Seen, write_list},
    },
};

/// `GET /_matrix/client/v3/rooms/{roomId}/initialSync`
pub async fn sync(
    State(app): State<App>,
    Ruma { who, req, .. }: Ruma<v3::Request>,
) -> Result<RawJson, MatrixError> {
    let reading = Reading::complete(&app, &who, &req.room_id).await?;
    let end = reading.room.end(&app.store);
    let ignored = ignored::read(&app.store, who.user).await?;
    let pager = Pager {
        app: &app,
        reading: &reading,
        filter: &EventFilter::default(),
        ignored: &ignored,
        end,
    };
    let page = pager.backward(HistoryPoint::at(end), None, LIMIT).await?;
    let messages: Vec<Seen> = page.events.into_iter().rev().collect();
    let events = state::events_at(&app.rooms, reading.room.state).await?;
    let state = dress::as_state(&app.store, events).await?;
    let head = &reading.room.head;
    let mut data = app.store.account_data_since(who.user, Pos(0), end).await?;
    data.retain(|data| data.room == Some(head.room) && account_data::stands(data));

    let now = app.store.clock().now_ms();
    let mut json = Json::with_capacity(512 * (messages.len() + state.len()) + 256);
    json.open().key("room_id").string(head.room_id.as_str());
    // Of who knocks the specification's files know nothing.
    let membership = reading.room.standing.membership;
    if let Some(membership) = membership.filter(|it| *it != Membership::Knock) {
        json.key("membership").string(membership.as_str());
    }
    json.key("visibility").string(visibility(head.public));
    json.key("messages").open();
    if let Some(start) = page.next {
        json.key("start").string(&start.to_string());
    }
    json.key("end").string(&token(&app.store, end).to_string());
    write_list(&mut json, "chunk", &messages, &reading.viewer, now);
    json.close();
    write_list(&mut json, "state", &state, &reading.viewer, now);
    account_data_list(json.key("account_data"), &data);
    json.close();
    Ok(RawJson(json.finish().into()))
}

/// Whether a room is in the directory.
pub(super) fn visibility(is_public: bool) -> &'static str {
    if is_public { "public" } else { "private" }
}
