//! What a user was, or would have been, notified of: found by looking back through their rooms when somebody asks, so
//! that a message costs no row for everybody who hears of it.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use rhizome_storage::{MembershipRow, Pos, RoomNo, Store, StoredEvent, UserNo};

use super::{
    Counting,
    alerts::Whose,
    load::Wanted,
    question::Question,
    tally::{Tally, Thread},
};
use crate::{MatrixError, push::evaluate::Alert};

/// The most events that one request looks at.
const MOST: usize = 1_000;
/// Events read at once.
const CHUNK: usize = 100;

/// What is wanted of a user's notifications.
#[derive(Debug, Clone, Copy)]
pub struct Page {
    /// Where it begins, and goes back from there.
    pub from: Pos,
    /// How many.
    pub limit: usize,
    /// Only those that are highlighted.
    pub highlights: bool,
}

/// Something that a user was notified of.
#[derive(Debug)]
pub struct Notified {
    /// The event.
    pub event: Arc<StoredEvent>,
    /// Since when the user is in its room.
    pub since: Pos,
    /// What was to be done, as a JSON array of actions.
    pub actions: String,
    /// Whether the user has read it: then it isn't counted as unread.
    pub is_read: bool,
    thread: Thread,
}

impl Counting {
    /// A page of what a user was notified of in rooms that they are joined to, newest first, and where the next one
    /// begins, unless there is none.
    ///
    /// As counts do, it goes by today's rules, leaves out what is redacted by now and whom the user ignores, and
    /// begins where they joined.
    pub async fn notified(
        &self,
        store: &Store,
        user: UserNo,
        rooms: &[MembershipRow],
        page: Page,
    ) -> Result<(Vec<Notified>, Option<Pos>), MatrixError> {
        let stays: Vec<_> = rooms.iter().map(|row| (row.room, row.since)).collect();
        let since: BTreeMap<RoomNo, Pos> = stays.iter().copied().collect();
        let wishes = self.wishes(store, user).await?;
        let whose = Whose {
            user,
            wishes: &wishes,
        };
        let (mut found, mut at, mut looked_at) = (Vec::new(), page.from, 0);
        let next = loop {
            let chunk = store.newest_of(&stays, at, CHUNK).await?;
            let is_last = chunk.len() < CHUNK;
            looked_at += chunk.len();
            let mut full = false;
            for event in chunk {
                let (Some(pos), Some(since)) = (event.pos(), since.get(&event.room)) else {
                    continue;
                };
                full = found.len() == page.limit;
                if full {
                    break;
                }
                at = Pos(pos.0 - 1);
                let said = Question::new(&self.alerts, store, &event)
                    .notification(whose)
                    .await?;
                let Some((_, actions)) =
                    said.filter(|(alert, _)| !page.highlights || *alert == Alert::Highlight)
                else {
                    continue;
                };
                let thread = self.alerts.thread(store, &event).await?;
                found.push(Notified {
                    since: *since,
                    actions: actions.to_owned(),
                    is_read: false,
                    event,
                    thread,
                });
            }
            if full || (looked_at >= MOST && !is_last) {
                break Some(at);
            }
            if is_last {
                break None;
            }
        };
        self.mark_read(store, user, &mut found).await?;
        Ok((found, next))
    }

    async fn mark_read(
        &self,
        store: &Store,
        user: UserNo,
        found: &mut [Notified],
    ) -> Result<(), MatrixError> {
        let rooms: BTreeMap<RoomNo, Pos> = (found.iter())
            .map(|one| (one.event.room, one.since))
            .collect();
        let wanted = rooms
            .into_iter()
            .map(|(room, since)| Wanted { user, room, since });
        let tallies = self
            .load(store, wanted.collect(), store.log().head())
            .await?;
        let tallies: HashMap<RoomNo, Tally> = (tallies.into_iter())
            .map(|(wanted, tally)| (wanted.room, tally))
            .collect();
        for one in found {
            let tally = tallies.get(&one.event.room);
            let is_unread = |tally: &Tally| {
                let pos = one.event.pos();
                pos.is_some_and(|pos| tally.has(pos, &one.thread))
            };
            one.is_read = !tally.is_some_and(is_unread);
        }
        Ok(())
    }
}
