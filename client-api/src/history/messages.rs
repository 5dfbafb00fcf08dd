//! Paging through a room's history.

use axum::extract::State;
use rhizome_edge::Undecoded;
use rhizome_federation::RawJson;
use ruma::api::{Direction as Asked, client::message::get_message_events::v3};

use crate::{
    App, MatrixError, Ruma,
    content::room_id,
    history::pager::Pager,
    place::point::{HistoryPoint, point},
    view::{
        filter::{self, MAX_TIMELINE},
        ignored,
        json::Json,
        reading::Reading,
        seen::write_list,
    },
};

/// `GET /_matrix/client/v3/rooms/{roomId}/messages`
pub async fn messages(
    State(app): State<App>,
    Ruma { who, req, .. }: Ruma<Undecoded<v3::Request>>,
) -> Result<RawJson, MatrixError> {
    // Who may not read learns nothing else, not even what is wrong with the question.
    let reading = Reading::of(&app, &who, &room_id(req.part(0))?).await?;
    let filter = filter::of_query(req.query.as_deref());
    let req = req.decode()?;
    let filter = filter?;
    let end = reading.room.end(&app.store);
    let from = match (&req.from, req.dir) {
        (Some(text), _) => point(text)?,
        (None, Asked::Backward) => HistoryPoint::at(end),
        (None, Asked::Forward) => HistoryPoint::START,
    };
    let to = req.to.as_deref().map(point).transpose()?;
    let asked = u64::from(req.limit).min(MAX_TIMELINE as u64);
    let limit = usize::try_from(asked)
        .unwrap_or(MAX_TIMELINE)
        .min(filter::limit(&filter, MAX_TIMELINE));
    let ignored = ignored::read(&app.store, reading.viewer.user).await?;
    let pager = Pager {
        app: &app,
        reading: &reading,
        filter: &filter,
        ignored: &ignored,
        end,
    };
    let mut page = match req.dir {
        Asked::Backward => pager.backward(from, to, limit).await?,
        Asked::Forward => pager.forward(from, to, limit).await?,
    };
    let state = pager.lazy_members(&page.events).await?;
    pager.bundle(&mut page.events).await?;
    let now = app.store.clock().now_ms();
    let mut json = Json::with_capacity(512 * page.events.len() + 256);
    json.open().key("start").string(&from.to_string());
    if let Some(end) = page.next {
        json.key("end").string(&end.to_string());
    }
    write_list(&mut json, "chunk", &page.events, &reading.viewer, now);
    if !state.is_empty() {
        write_list(&mut json, "state", &state, &reading.viewer, now);
    }
    json.close();
    Ok(RawJson(json.finish().into()))
}
