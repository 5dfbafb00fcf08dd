//! Loading one room's part of an answer. Every way in which a client is kept up to date (`/sync`,
//! the WebSocket stream) loads rooms here; they differ in how they ask and in what they write.

pub(super) mod summary;
pub(super) mod timeline;

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, OnceLock},
};

use rhizome_protocol::Membership;
use rhizome_rooms::access::Standing;
use rhizome_storage::{AccountData, Heard, Logged, MembershipRow, Pos, Receipt, RoomNo, Store};
use ruma::{EventId, OwnedRoomId, OwnedUserId};

use summary::{HEROES, Summary};
use timeline::Timeline;

use super::{
    Ask,
    counts::{Counting, Counts},
    first::FirstLook,
    lazy::LazyMembers,
    sticky::{self, Stuck},
    window::{FIRST, RoomWindow},
};
use crate::{
    MatrixError, account_data,
    view::{
        filter::{self, DEFAULT_TIMELINE},
        ignored::Unwanted,
        scan::Budget,
        seen::{Seen, Viewer},
    },
};

/// What every room of one answer shares.
pub struct Loader<'a> {
    /// The database.
    pub store: &'a Store,
    /// What devices have been told of members.
    pub lazy: &'a LazyMembers,
    /// How much users haven't read.
    pub counts: &'a Counting,
    /// Who reads.
    pub viewer: &'a Viewer,
    /// How the answer is wanted.
    pub ask: &'a Ask,
    /// Whose messages the reader doesn't want.
    pub ignored: &'a Unwanted,
    /// What the client has seen already; `None` for an initial answer.
    pub after: Option<Pos>,
    /// The position at which the answer ends.
    pub upto: Pos,
    /// What the client has been told of what isn't in the log.
    pub heard: Heard,
    /// About how many bytes the timelines may hold.
    pub budget: Budget,
    /// All of the reader's account data, loaded once if a room is told as a whole.
    pub all_account_data: tokio::sync::OnceCell<Vec<Arc<Logged<AccountData>>>>,
    /// Of a first answer: what was read of all its rooms at once.
    pub first: OnceLock<FirstLook>,
    /// Sticky events that the answer tells of.
    pub sticky: HashMap<RoomNo, Vec<Stuck>>,
}

/// A room's part of an answer.
#[derive(Default, Debug)]
pub struct RoomPart {
    /// What happened.
    pub timeline: Timeline,
    /// Sticky events that aren't in the timeline.
    pub sticky: Vec<Seen>,
    /// The state beside it, before or after the timeline as was asked for.
    pub state: Vec<Seen>,
    /// Who is there, if that changed.
    pub summary: Option<Summary>,
    /// Receipts with the names of their users.
    pub receipts: Vec<(OwnedUserId, Arc<Logged<Receipt>>)>,
    /// Who is typing, if that changed.
    pub typing: Option<Vec<OwnedUserId>>,
    /// The reader's account data.
    pub account_data: Vec<Arc<Logged<AccountData>>>,
    /// How much the reader hasn't read; of a room that they are in.
    pub unread: Option<Counts>,
    /// Whether the room is in the answer even with nothing in it.
    pub always: bool,
    /// Whether the reader has left it.
    pub left: bool,
}

impl RoomPart {
    /// Whether there is nothing to tell.
    pub fn is_empty(&self) -> bool {
        !self.always
            && self.timeline.events.is_empty()
            && !self.timeline.limited
            && self.sticky.is_empty()
            && self.state.is_empty()
            && self.summary.is_none()
            && self.receipts.is_empty()
            && self.typing.is_none()
            && self.account_data.is_empty()
    }
}

/// How much of a joined room is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Extent {
    /// Everything, as to someone who knows nothing of it.
    Whole,
    /// What changed since the client's position.
    Since(Pos),
}

impl Loader<'_> {
    /// A room that the reader is joined to. `window` is what happened since the reader's position.
    pub async fn joined(
        &self,
        row: &MembershipRow,
        window: Option<&RoomWindow>,
    ) -> Result<RoomPart, MatrixError> {
        // Who wants all members hasn't been told of a room of which they weren't known.
        let is_new = window.is_some_and(|window| window.completed.is_some())
            && filter::wants_members(&self.ask.filter.room.state);
        let extent = match self.after {
            Some(after) if row.since <= after && !is_new => Extent::Since(after),
            _ => Extent::Whole,
        };
        let room_id = self.store.room_id(row.room).await?;
        let nothing = RoomWindow {
            whole: true,
            ..RoomWindow::default()
        };
        let window = window.unwrap_or(&nothing);
        let standing = Standing::joined(row.since);
        let mut part = RoomPart {
            // What the reader has read changes the counts, also where receipts aren't wanted.
            always: extent == Extent::Whole
                || self.ask.full_state
                || (window.receipts.iter()).any(|receipt| receipt.user == self.viewer.user),
            ..RoomPart::default()
        };
        if filter::section_wants_room(&self.ask.filter.room.timeline, &room_id) {
            part.timeline = match extent {
                Extent::Since(after) => {
                    let known = (&window.events[..], window.whole);
                    self.timeline(row.room, &standing, (after, self.upto), known)
                        .await?
                }
                Extent::Whole => {
                    let first = self.first.get();
                    let known = first.map_or((&[][..], false), |first| first.timeline(row.room));
                    self.timeline(row.room, &standing, (Pos(0), self.upto), known)
                        .await?
                }
            };
            // A client that was in the room before may hold an older part of its history.
            part.timeline.limited |= extent == Extent::Whole && self.after.is_some();
        }
        self.joined_state(row, &room_id, extent, window, &mut part)
            .await?;
        part.sticky = self.stuck(row.room, &part.timeline).await?;
        self.ephemeral(row.room, &room_id, extent, window, &mut part)
            .await?;
        self.account_data(row.room, &room_id, extent, window, &mut part)
            .await?;
        Ok(part)
    }

    /// Reads what a first answer tells of the rooms that it tells of.
    pub(super) async fn look_first(&self, rows: &[MembershipRow]) -> Result<(), MatrixError> {
        let (mut joined, mut ends) = (Vec::new(), Vec::new());
        let rooms: Vec<RoomNo> = rows.iter().map(|row| row.room).collect();
        self.store.room_ids(&rooms).await?;
        for row in rows.iter().filter(|row| !row.forgotten) {
            match (row.membership, row.event) {
                (Membership::Join, _) if self.wanted(row.room).await?.is_some() => {
                    joined.push(row.room);
                }
                (Membership::Leave | Membership::Ban, Some(end)) => ends.push(end),
                _ => {}
            }
        }
        let limit = filter::limit(&self.ask.filter.room.timeline, DEFAULT_TIMELINE);
        let size = FIRST.min(limit + 1);
        let reader = (self.store, self.viewer.user);
        let mut first = FirstLook::read(reader, &joined, self.upto, (size, HEROES)).await?;
        if !filter::wants_members(&self.ask.filter.room.state) {
            first
                .read_states(self.store, &self.viewer.user_id, &joined)
                .await?;
        }
        first
            .note_ends(self.store, &self.viewer.user_id, &ends)
            .await?;
        // Nobody else looks first.
        let _ = self.first.set(first);
        Ok(())
    }

    /// The room's sticky events, but for those that the timeline has.
    async fn stuck(&self, room: RoomNo, timeline: &Timeline) -> Result<Vec<Seen>, MatrixError> {
        let Some(stuck) = self.sticky.get(&room) else {
            return Ok(Vec::new());
        };
        let told: HashSet<&EventId> = (timeline.events.iter())
            .map(|seen| seen.event.pdu.event_id())
            .collect();
        let told = |event: &EventId| told.contains(event);
        sticky::seen(self.store, stuck, self.ignored, told).await
    }

    async fn ephemeral(
        &self,
        room: RoomNo,
        room_id: &OwnedRoomId,
        extent: Extent,
        window: &RoomWindow,
        part: &mut RoomPart,
    ) -> Result<(), MatrixError> {
        let section = &self.ask.filter.room.ephemeral;
        if !filter::section_wants_room(section, room_id) {
            return Ok(());
        }
        if filter::wants_kind(section, "m.receipt") {
            let receipts = match extent {
                Extent::Since(_) => window.receipts.clone(),
                Extent::Whole => {
                    if let Some(first) = self.first.get() {
                        first.receipts(room).to_vec()
                    } else {
                        let rooms = [room];
                        (self
                            .store
                            .receipts_in_rooms_after(&rooms, Pos(0), self.upto))
                        .await?
                    }
                }
            };
            for receipt in receipts {
                if receipt.is_for(self.viewer.user) {
                    let user = self.store.user(receipt.user).await?;
                    if !self.ignored.contains(&user) {
                        part.receipts.push((user, receipt));
                    }
                }
            }
        }
        if filter::wants_kind(section, "m.typing") {
            let (changed, mut users) = self.store.ephemeral().typing(room);
            users.retain(|user| !self.ignored.contains(user));
            let news = match extent {
                Extent::Since(_) => changed.exceeds(&self.heard),
                Extent::Whole => !users.is_empty(),
            };
            part.typing = news.then_some(users);
        }
        Ok(())
    }

    pub(super) async fn account_data(
        &self,
        room: RoomNo,
        room_id: &OwnedRoomId,
        extent: Extent,
        window: &RoomWindow,
        part: &mut RoomPart,
    ) -> Result<(), MatrixError> {
        let section = &self.ask.filter.room.account_data;
        if !filter::section_wants_room(section, room_id) {
            return Ok(());
        }
        part.account_data = match extent {
            Extent::Since(_) => window.account_data.clone(),
            Extent::Whole => {
                let load = || {
                    self.store
                        .account_data_since(self.viewer.user, Pos(0), self.upto)
                };
                let all = self.all_account_data.get_or_try_init(load).await?;
                all.iter()
                    .filter(|data| data.room == Some(room) && account_data::stands(data))
                    .cloned()
                    .collect()
            }
        };
        part.account_data
            .retain(|data| filter::wants_kind(section, &data.kind));
        Ok(())
    }
}
