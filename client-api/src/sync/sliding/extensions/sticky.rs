//! Sticky events that the timelines don't have (MSC4354), of all rooms that the user is in, whichever are wanted. A client
//! may keep a token for them, of which one `next_batch` is; else they are told from its position on, which says as well
//! where the last answer stopped that had not room for all.

use rhizome_storage::Pos;
use ruma::{EventId, OwnedRoomId};

use super::{Context, typing::Rooms};
use crate::{
    MatrixError,
    place::token::{Token, position},
    sync::{
        sliding::request::extensions::Sticky as Asked,
        sticky::{StickyNews, seen},
    },
    view::{
        client_event::Form,
        json::Json,
        seen::{Seen, Style, Viewer},
    },
};

/// Sticky events.
#[derive(Debug)]
pub struct Sticky {
    rooms: Rooms<Vec<Seen>>,
    next: Token,
}

/// Reads what has come since the token, or the client's position.
pub async fn read(context: &Context<'_>, asked: &Asked) -> Result<Sticky, MatrixError> {
    let loader = context.loader;
    let since = match &asked.since {
        Some(since) => position(loader.store, since).await?,
        None => context.since.cloned(),
    };
    // What came before the connection's position the window doesn't say.
    let covers = since
        .as_ref()
        .zip(loader.after)
        .is_some_and(|(since, after)| since.pos >= after);
    let window = covers.then_some(context.window);
    let rows = &context.moment.2;
    let news = StickyNews::read(loader.store, rows, window, since.as_ref(), loader.upto).await?;
    let mut rooms: Vec<(OwnedRoomId, Vec<Seen>)> = Vec::new();
    for (room, stuck) in &news.rooms {
        let shown: &[&EventId] = context.shown.get(room).map_or(&[], Vec::as_slice);
        let told = |event: &EventId| shown.contains(&event);
        let events = seen(loader.store, stuck, loader.ignored, told).await?;
        if !events.is_empty() {
            rooms.push((loader.store.room_id(*room).await?, events));
        }
    }
    let mut next = Token::new(loader.store, loader.upto, context.moment.1.clone());
    next.sticky = news.upto;
    Ok(Sticky {
        rooms: Rooms(rooms),
        next,
    })
}

impl Sticky {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.rooms.is_empty() && !self.next.is_behind()
    }

    /// Where there are more: up to here they are told.
    pub fn upto(&self) -> Option<Pos> {
        self.next.sticky
    }

    /// Writes it.
    pub fn write(&self, json: &mut Json, viewer: &Viewer, now_ms: i64) {
        let style = Style {
            form: Form::Sync,
            fields: None,
        };
        json.open().key("next_batch").string(&self.next.to_string());
        json.key("rooms").open();
        for (room, events) in &self.rooms.0 {
            json.key(room.as_str()).open().key("events").open_list();
            for event in events {
                event.write(json, viewer, now_ms, &style);
            }
            json.close_list().close();
        }
        json.close().close();
    }
}
