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
/// The most that somebody who comes into rooms is told, and the most of one sender in a room: their newest.
const MOST_AT_FIRST: (usize, usize) = (20, 500);
/// Of these so many are read at once.
const PIECE: usize = 50;
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
        let mut news = Self::default();
        if since.is_some() && !entered.is_empty() {
            news.enter(store, &entered, told, now).await?;
        }
        let mut found = Vec::new();
        let listed = window.filter(|window| !window.unlisted);
        if let (Some(window), true) = (listed, since.is_some() && told == after) {
            let rooms = rows.iter().filter(joined);
            let rooms = rooms.filter_map(|row| window.rooms.get(&row.room));
            found.extend(rooms.flat_map(|room| room.sticky.iter().cloned()));
            found.retain(|one| one.allowed && one.expires_ms > now && one.pos > told);
            found.sort_unstable_by_key(|one| one.pos);
        } else if told < upto {
            let rooms: Vec<RoomNo> = rows.iter().filter(joined).map(|row| row.room).collect();
            found = store.sticky_in(&rooms, (told, upto), now, MOST + 1).await?;
        }
        news.tell(store, &found).await?;
        Ok(news)
    }

    /// Of what was told in rooms before the reader came into them, up to a position, the newest of everybody, as long as
    /// it fits: nobody hides the others by sending much.
    async fn enter(
        &mut self,
        store: &Store,
        rooms: &[RoomNo],
        upto: Pos,
        now_ms: i64,
    ) -> Result<(), MatrixError> {
        let found = store
            .sticky_for_entrant(rooms, upto, now_ms, MOST_AT_FIRST)
            .await?;
        let (mut bytes, mut taken) = (0, Vec::new());
        for piece in found.chunks(PIECE) {
            let events = events_of(store, piece).await?;
            for one in piece {
                let Some(event) = events.get(&one.event) else {
                    continue;
                };
                let size = event.pdu.json().len();
                if bytes + size > MOST_BYTES {
                    // A smaller one of somebody else's may fit.
                    continue;
                }
                bytes += size;
                taken.push((one, event.clone()));
            }
        }
        taken.sort_unstable_by_key(|(one, _)| one.pos);
        for (one, event) in taken {
            self.add(one, event);
        }
        Ok(())
    }

    /// These, as many as fit.
    async fn tell(
        &mut self,
        store: &Store,
        found: &[Arc<Logged<Sticky>>],
    ) -> Result<(), MatrixError> {
        let events = events_of(store, found).await?;
        let (mut bytes, mut last) = (0, None);
        for (at, one) in found.iter().enumerate() {
            let event = events.get(&one.event);
            let size = event.map_or(0, |event| event.pdu.json().len());
            let full = at >= MOST || bytes + size > MOST_BYTES;
            if full && let Some(last) = last {
                self.upto = Some(last);
                break;
            }
            last = Some(one.pos);
            bytes += size;
            if let Some(event) = event {
                self.add(one, event.clone());
            }
        }
        Ok(())
    }

    fn add(&mut self, one: &Sticky, event: Arc<StoredEvent>) {
        self.rooms.entry(one.room).or_default().push(Stuck {
            event,
            expires_ms: one.expires_ms,
        });
    }
}

/// The events of these. What a redaction has come for is as any other, and left out.
async fn events_of(
    store: &Store,
    found: &[Arc<Logged<Sticky>>],
) -> Result<HashMap<EventNo, Arc<StoredEvent>>, MatrixError> {
    if found.is_empty() {
        return Ok(HashMap::new());
    }
    let nos: Vec<EventNo> = found.iter().map(|one| one.event).collect();
    let events = store.events_by_no(&nos).await?.into_iter();
    let sticky = events.filter(|event| event.pdu.sticky_ms().is_some());
    Ok(sticky.map(|event| (event.no, event)).collect())
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
