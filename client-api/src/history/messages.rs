//! Paging through a room's history.

use std::collections::HashSet;

use axum::extract::State;
use rhizome_edge::Undecoded;
use rhizome_federation::RawJson;
use ruma::{
    OwnedUserId,
    api::{Direction as Asked, client::message::get_message_events::v3},
};

use crate::{
    App, MatrixError, Ruma,
    content::room_id,
    history::pager::Pager,
    place::point::{HistoryPoint, point},
    view::{
        filter::{self, EventFilter, MAX_TIMELINE},
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
    let asked = u64::from(req.limit).min(MAX_TIMELINE as u64);
    let wish = Wish {
        from: req.from.as_deref().map(point).transpose()?,
        to: req.to.as_deref().map(point).transpose()?,
        backward: req.dir == Asked::Backward,
        limit: usize::try_from(asked).unwrap_or(MAX_TIMELINE),
        filter,
    };
    let ignored = ignored::read(&app.store, reading.viewer.user).await?;
    page(&app, &reading, &ignored, wish).await
}

/// What is asked of a room's history.
pub struct Wish {
    /// From where on; without it from the end, or the beginning.
    pub from: Option<HistoryPoint>,
    /// Up to where.
    pub to: Option<HistoryPoint>,
    /// Whether towards the past.
    pub backward: bool,
    /// How many events at most, if the filter doesn't say less.
    pub limit: usize,
    /// Which.
    pub filter: EventFilter,
}

/// A page of a room's history, without what those have said whom the reader ignores.
pub async fn page(
    app: &App,
    reading: &Reading,
    ignored: &HashSet<OwnedUserId>,
    wish: Wish,
) -> Result<RawJson, MatrixError> {
    let end = reading.room.end(&app.store);
    let from = match (wish.from, wish.backward) {
        (Some(from), _) => from,
        (None, true) => HistoryPoint::at(end),
        (None, false) => HistoryPoint::START,
    };
    let limit = wish.limit.min(filter::limit(&wish.filter, MAX_TIMELINE));
    let pager = Pager {
        app,
        reading,
        filter: &wish.filter,
        ignored,
        end,
    };
    let mut page = if wish.backward {
        pager.backward(from, wish.to, limit).await?
    } else {
        pager.forward(from, wish.to, limit).await?
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
