//! Which sticky events an answer tells of
//! ([MSC4354](https://github.com/matrix-org/matrix-spec-proposals/pull/4354)).
//!
//! Everybody in a room gets those that came since their position, whatever fits into the timeline; who comes into a
//! room, all that are sticky then. Of what doesn't fit into an answer the next one tells.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use rhizome_protocol::Membership;
use rhizome_rooms::access::while_sticky;
use rhizome_storage::{EventNo, Logged, MembershipRow, Pos, RoomNo, Sticky, Store, StoredEvent};
use ruma::{EventId, OwnedUserId};

use super::window::Window;
use crate::{
    MatrixError,
    place::token::Token,
    view::{dress, seen::Seen},
};

/// The most sticky events of an answer, apart from those of rooms that the reader has just come into.
pub const MOST: usize = 100;
/// The most that somebody who comes into rooms is told.
const MOST_AT_FIRST: usize = 500;
/// About how many bytes they may have; one is always told.
const MOST_BYTES: usize = 1 << 20;

/// A sticky event, and until when it is so.
#[derive(Clone, Debug)]
pub struct Stuck {
    /// The event.
    pub event: Arc<StoredEvent>,
    /// In milliseconds since 1970.
    pub expires_ms: i64,
}

/// The sticky events of an answer.
#[derive(Debug, Default)]
pub struct StickyNews {
    /// By room, in the order in which they came.
    pub rooms: HashMap<RoomNo, Vec<Stuck>>,
    /// Where there are more: up to here they are told.
    pub upto: Option<Pos>,
}

impl StickyNews {
    /// Of the rooms that the reader is in, those with `since < position ≤ upto`. `window`, if there is one, is what
    /// happened after that or an earlier position.
    pub async fn read(
        store: &Store,
        rows: &[MembershipRow],
        window: Option<&Window>,
        since: Option<&Token>,
        upto: Pos,
    ) -> Result<Self, MatrixError> {
        let now = store.clock().now_ms();
        let after = since.map_or(Pos(0), |since| since.pos);
        let told = since.map_or(Pos(0), Token::told_sticky);
        let joined = |row: &&MembershipRow| row.membership == Membership::Join;
        let entered = rows.iter().filter(joined).filter(|row| row.since > after);
        let entered: Vec<RoomNo> = entered.map(|row| row.room).collect();
        let mut found = Vec::new();
        if since.is_some() && !entered.is_empty() {
            found = store
                .sticky_in(&entered, (Pos(0), told), now, MOST_AT_FIRST)
                .await?;
        }
        let at_first = found.len();
        let listed = window.filter(|window| !window.unlisted);
        if let (Some(window), true) = (listed, since.is_some() && told == after) {
            let rooms = rows.iter().filter(joined);
            let rooms = rooms.filter_map(|row| window.rooms.get(&row.room));
            found.extend(rooms.flat_map(|room| room.sticky.iter().cloned()));
            let mut at = 0;
            found.retain(|one| {
                at += 1;
                at <= at_first || one.allowed && one.expires_ms > now && one.pos > told
            });
            found[at_first..].sort_unstable_by_key(|one| one.pos);
        } else if told < upto {
            let rooms: Vec<RoomNo> = rows.iter().filter(joined).map(|row| row.room).collect();
            found.extend(store.sticky_in(&rooms, (told, upto), now, MOST + 1).await?);
        }
        Self::of(store, found, at_first).await
    }

    /// Of these, the first ones of which are told in any case.
    async fn of(
        store: &Store,
        found: Vec<Arc<Logged<Sticky>>>,
        at_first: usize,
    ) -> Result<Self, MatrixError> {
        let mut news = Self::default();
        if found.is_empty() {
            return Ok(news);
        }
        let nos: Vec<EventNo> = found.iter().map(|one| one.event).collect();
        let events = store.events_by_no(&nos).await?;
        let events: HashMap<EventNo, Arc<StoredEvent>> =
            events.into_iter().map(|event| (event.no, event)).collect();
        let (mut bytes, mut last) = (0, None);
        for (at, one) in found.iter().enumerate() {
            // What a redaction has come for is as any other.
            let event = events
                .get(&one.event)
                .filter(|event| event.pdu.sticky_ms().is_some());
            let size = event.map_or(0, |event| event.pdu.json().len());
            if at >= at_first {
                let full = at - at_first >= MOST || bytes + size > MOST_BYTES;
                if full && let Some(last) = last {
                    news.upto = Some(last);
                    break;
                }
                last = Some(one.pos);
                bytes += size;
            }
            if let Some(event) = event {
                let stuck = Stuck {
                    event: event.clone(),
                    expires_ms: one.expires_ms,
                };
                news.rooms.entry(one.room).or_default().push(stuck);
            }
        }
        Ok(news)
    }
}

/// Sticky events as their reader sees them, but for those that they are `told` of already.
pub async fn seen(
    store: &Store,
    stuck: &[Stuck],
    ignored: &HashSet<OwnedUserId>,
    told: impl Fn(&EventId) -> bool,
) -> Result<Vec<Seen>, MatrixError> {
    let wanted = stuck.iter().filter(|one| {
        let pdu = &one.event.pdu;
        !told(pdu.event_id()) && !ignored.contains(pdu.sender())
    });
    let seen = wanted.filter_map(|one| {
        let mut seen = Seen::of(one.event.clone(), while_sticky(&one.event))?;
        seen.expires_ms = Some(one.expires_ms);
        Some(seen)
    });
    let mut seen: Vec<Seen> = seen.collect();
    dress::dress(store, &mut seen).await?;
    Ok(seen)
}
