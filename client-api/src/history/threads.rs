//! A room's threads, page by page.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use axum::extract::State;
use rhizome_federation::RawJson;
use rhizome_rooms::access::EventAccess;
use rhizome_storage::{Pos, Relating, StoredEvent, ThreadRow, ThreadsOf, UserNo};
use ruma::{
    EventId, OwnedEventId, OwnedUserId,
    api::client::threads::get_threads::v1::{self, IncludeThreads},
};

use crate::{
    App, MatrixError, Ruma,
    view::{
        bundle::{Bundler, rel_type},
        dress, ignored,
        json::Json,
        reading::Reading,
        scan::Budget,
        seen::{Seen, write_list},
    },
};

/// Threads of a page if the client doesn't say, and the most.
const DEFAULT_LIMIT: u64 = 20;
const MAX_LIMIT: u64 = 100;

/// Threads looked at for one page: where nearly all are hidden from the reader, or they take part in few.
const MAX_SCAN: usize = 500;
/// Threads looked at together, once a page's own number wasn't enough.
const ROUND: usize = 100;

/// `GET /_matrix/client/v1/rooms/{roomId}/threads`
pub async fn threads(
    State(app): State<App>,
    Ruma { who, req, .. }: Ruma<v1::Request>,
) -> Result<RawJson, MatrixError> {
    let reading = Reading::of(&app, &who, &req.room_id).await?;
    let own_only = match req.include {
        IncludeThreads::All => false,
        IncludeThreads::Participated => true,
        _ => {
            return Err(MatrixError::invalid_param(
                "`include` is all or participated",
            ));
        }
    };
    let limit = match req.limit.map(u64::from) {
        Some(0) => return Err(MatrixError::invalid_param("`limit` must be positive")),
        limit => limit.unwrap_or(DEFAULT_LIMIT).min(MAX_LIMIT),
    };
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let from = req.from.as_deref().map(place).transpose()?;
    let ignored = ignored::read(&app.store, reading.viewer.user).await?;
    let numbers = ignored::numbers(&app.store, &ignored).await?;
    let list = List {
        app: &app,
        reading: &reading,
        ignored: &ignored,
        numbers: &numbers,
        own_only,
        end: reading.room.end(&app.store),
    };
    let (shown, next) = list.page(from.unwrap_or(i64::MAX), limit).await?;
    let now = app.store.clock().now_ms();
    let mut json = Json::with_capacity(1_024 * shown.len() + 256);
    json.open();
    write_list(&mut json, "chunk", &shown, &reading.viewer, now);
    if let Some(next) = next {
        json.key("next_batch").string(&format!("{PREFIX}{next}"));
    }
    json.close();
    Ok(RawJson(json.finish().into()))
}

/// What a place in the list begins with: the order of a thread's latest event follows.
const PREFIX: &str = "l";

fn place(token: &str) -> Result<i64, MatrixError> {
    let digits = token.strip_prefix(PREFIX);
    let place = digits.filter(|digits| !digits.starts_with('+'));
    place
        .and_then(|digits| digits.parse().ok())
        .ok_or_else(|| MatrixError::invalid_param("`from` is not a token of this list"))
}

/// The list of a room's threads, for one reader.
struct List<'a> {
    app: &'a App,
    reading: &'a Reading,
    ignored: &'a HashSet<OwnedUserId>,
    numbers: &'a [UserNo],
    own_only: bool,
    end: Pos,
}

impl List<'_> {
    /// A page, and where the next begins.
    async fn page(&self, from: i64, limit: usize) -> Result<(Vec<Seen>, Option<i64>), MatrixError> {
        let room = self.reading.room.head.room;
        // Who is in the room and hears everybody has its threads in the order in which they are stored.
        let of = if self.numbers.is_empty() && self.reading.room.is_open() {
            ThreadsOf::All
        } else {
            ThreadsOf::Hearing(self.numbers, self.end)
        };
        let budget = Budget::new(self.app.config.max_timeline_bytes);
        let (mut shown, mut at): (Vec<Seen>, _) = (Vec::new(), from);
        // Mostly the first round is enough. One more than fits tells whether there is more.
        let (mut looked, mut round) = (0, limit + 1);
        while looked < MAX_SCAN {
            let rows = self.app.store.threads(room, of, at, round).await?;
            let mut roots = self.roots(&rows).await?;
            for row in &rows {
                let is_full = shown.len() == limit;
                if is_full || (budget.is_spent() && !shown.is_empty()) {
                    return Ok((shown, Some(at)));
                }
                at = row.latest;
                if let Some(root) = roots.remove(&row.root) {
                    budget.take(root.size());
                    shown.push(root);
                }
            }
            if rows.len() < round {
                return Ok((shown, None));
            }
            looked += rows.len();
            round = ROUND;
        }
        Ok((shown, Some(at)))
    }

    /// The roots of some threads, as far as they are to be shown, with their threads.
    async fn roots(&self, rows: &[ThreadRow]) -> Result<HashMap<OwnedEventId, Seen>, MatrixError> {
        let (store, viewer) = (&self.app.store, &self.reading.viewer);
        let room = &self.reading.room;
        let ids: Vec<OwnedEventId> = rows.iter().map(|row| row.root.clone()).collect();
        let mut roots = store.events(&ids).await?;
        let here = |event: &StoredEvent| event.room == room.head.room && event.is_history();
        // Nothing that relates to something can be a thread's root.
        roots.retain(|event| here(event) && rel_type(event).is_none());
        if self.own_only {
            self.retain_own(&mut roots).await?;
        }
        let mut access = EventAccess::new(store, &viewer.user_id, room.standing);
        access.load(&roots).await?;
        let seen = roots.into_iter().filter_map(|event| {
            let verdict = access.judge(&event);
            let event = if self.ignored.contains(event.pdu.sender()) {
                Arc::new(event.without_content())
            } else {
                event
            };
            Seen::of(event, verdict)
        });
        let mut seen: Vec<Seen> = seen.collect();
        dress::dress(store, &mut seen).await?;
        // The page is cut off by what its threads take.
        let budget = Budget::new(usize::MAX);
        let bundler = Bundler {
            store,
            viewer,
            ignored: self.ignored,
            budget: &budget,
        };
        bundler.in_room(self.reading, self.end, &mut seen).await?;
        // A thread of which the reader may see nothing but the root is none for them.
        let seen = seen.into_iter().filter(Seen::has_thread);
        Ok(seen
            .map(|seen| (seen.event.pdu.event_id().to_owned(), seen))
            .collect())
    }

    /// Leaves those in whose threads the reader takes part.
    async fn retain_own(&self, roots: &mut Vec<Arc<StoredEvent>>) -> Result<(), MatrixError> {
        let (store, viewer) = (&self.app.store, &self.reading.viewer);
        let thread = ["m.thread".to_owned()];
        let ways = Relating {
            senders: Some(&[viewer.user]),
            rel_types: Some(&thread),
            ignored: &[],
            upto: self.end,
        };
        let ids: Vec<&EventId> = roots.iter().map(|event| event.pdu.event_id()).collect();
        let with = store.related(self.reading.room.head.room, &ids, ways);
        let with = with.await?;
        roots.retain(|event| {
            event.pdu.sender() == viewer.user_id || with.contains(event.pdu.event_id())
        });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_in_the_list_are_told_from_other_tokens() {
        for place_of in [7, -3, i64::MAX, i64::MIN] {
            assert_eq!(place(&format!("{PREFIX}{place_of}")).ok(), Some(place_of));
        }
        for text in [
            "",
            "l",
            "l+1",
            "l1_2",
            "p1",
            "s1_2_3",
            "1",
            "l 1",
            "l9223372036854775808",
        ] {
            assert!(place(text).is_err(), "{text:?}");
        }
    }
}
