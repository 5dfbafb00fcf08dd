//! `/events` of one room, for who needn't be in it
//! (<https://spec.matrix.org/v1.19/client-server-api/#room-previews>).

use std::time::Duration;

use rhizome_federation::RawJson;
use rhizome_rooms::access::RoomAccess;
use rhizome_storage::{Pos, RoomNo};
use ruma::RoomId;
use tokio::time::Instant;

use super::{MAX_EVENTS, chunk, is_ignored, token};
use crate::{
    App, Caller, MatrixError,
    auth::standing,
    place::token::Token,
    view::{
        dress, ignored,
        seen::{Viewer, reader},
    },
};

/// Who looks from outside isn't woken for the room alone: after each time that the log has gone on they look, but not
/// more often than this.
const PACE: Duration = Duration::from_millis(100);

/// What happens in a room, once something has that the reader may see.
pub async fn events(
    app: &App,
    who: &Caller,
    room_id: &RoomId,
    (from, until): (Option<Token>, Instant),
) -> Result<RawJson, MatrixError> {
    let store = &app.store;
    let mut news = store.log().subscribe();
    let viewer = Viewer::of(who);
    let mut start = from;
    let mut looked_at = None;
    loop {
        news.borrow_and_update();
        store.log().refresh().await?;
        let head = store.log().head();
        let start = &*start.get_or_insert_with(|| token(store, head));
        // Each time anew: it may not be theirs to see any more.
        let access = RoomAccess::of(store, reader(who), room_id).await?;
        let over = Instant::now() >= until || app.shutdown.is_cancelled();
        let after = looked_at.unwrap_or(start.pos);
        let room = access.head.room;
        let (mut seen, mut upto) = (Vec::new(), head);
        if may_hold(app, room, (after, head)) {
            let end = head.min(access.end(store));
            let found = store.live_after(room, after, end, MAX_EVENTS).await?;
            let last = found.last().filter(|_| found.len() >= MAX_EVENTS);
            upto = last.and_then(|last| last.pos()).unwrap_or(head);
            let ignored = ignored::read(store, who.user).await?;
            let wanted = found
                .into_iter()
                .filter(|event| !is_ignored(event, &ignored));
            let wanted = wanted.collect();
            seen = dress::visible(store, &viewer, &access.standing, wanted).await?;
        }
        if !seen.is_empty() || over {
            let (end, now) = (token(store, upto), store.clock().now_ms());
            let text = chunk(&viewer, &seen, (start, &end), now);
            return Ok(RawJson(text.into()));
        }
        looked_at = Some(upto);
        if upto < head {
            continue;
        }
        tokio::select! {
            _ = news.changed() => {
                let soon = (Instant::now() + PACE).min(until);
                tokio::time::sleep_until(soon).await;
                standing::may_listen(app, who.user, true).await?;
            }
            () = tokio::time::sleep_until(until) => {}
            () = app.shutdown.cancelled() => {}
        }
    }
}

/// Whether something may have happened in the room between two positions.
fn may_hold(app: &App, room: RoomNo, (after, upto): (Pos, Pos)) -> bool {
    match app.store.log().tail(after, upto) {
        Some(entries) => entries.iter().any(|entry| entry.kind.room() == Some(room)),
        None => after < upto,
    }
}
