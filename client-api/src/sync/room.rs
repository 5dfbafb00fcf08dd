//! Loading one room's part of an answer. Every way in which a client is kept up to date (`/sync`,
//! the WebSocket stream) loads rooms here; they differ in how they ask and in what they write.

use std::{
    collections::{BTreeMap, HashSet},
    sync::{Arc, OnceLock, atomic::AtomicUsize},
};

use rhizome_protocol::Membership;
use rhizome_storage::{
    AccountData, Logged, MembershipRow, Pos, Receipt, RoomNo, Store, StoredEvent,
};
use ruma::{OwnedRoomId, OwnedUserId};

use super::{
    Ask,
    decide::{self, Change},
    first::FirstLook,
    lazy::LazyMembers,
    state::view_of,
    summary::Summary,
    timeline::Timeline,
    window::{FIRST, RoomWindow, changes},
};
use crate::{
    MatrixError,
    account::account_data::DELETED,
    view::{
        filter::{self, DEFAULT_TIMELINE},
        seen::{self, Seen, Standing, Viewer},
    },
};

/// What every room of one answer shares.
pub struct Loader<'a> {
    /// The database.
    pub store: &'a Store,
    /// What devices have been told of members.
    pub lazy: &'a LazyMembers,
    /// Who reads.
    pub viewer: &'a Viewer,
    /// How the answer is wanted.
    pub ask: &'a Ask,
    /// Whose messages the reader doesn't want.
    pub ignored: &'a HashSet<OwnedUserId>,
    /// What the client has seen already; `None` for an initial answer.
    pub after: Option<Pos>,
    /// The position at which the answer ends.
    pub upto: Pos,
    /// What the client has seen of the ephemeral stream; where the answer ends there.
    pub ephemeral: (i64, i64),
    /// About how many bytes the timelines may hold, and hold already.
    pub bytes: (usize, AtomicUsize),
    /// All of the reader's account data, loaded once if a room is told as a whole.
    pub all_account_data: tokio::sync::OnceCell<Vec<Arc<Logged<AccountData>>>>,
    /// Of a first answer: what was read of all its rooms at once.
    pub first: OnceLock<FirstLook>,
}

/// A room's part of an answer.
#[derive(Default, Debug)]
pub struct RoomPart {
    /// What happened.
    pub timeline: Timeline,
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
        let extent = match self.after {
            Some(after) if row.since <= after => Extent::Since(after),
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
            always: extent == Extent::Whole || self.ask.full_state,
            ..RoomPart::default()
        };
        if filter::section_wants_room(&self.ask.filter.room.timeline, &room_id) {
            part.timeline = match extent {
                Extent::Since(after) => {
                    self.timeline(
                        row.room,
                        &standing,
                        after,
                        self.upto,
                        &window.events,
                        window.whole,
                    )
                    .await?
                }
                Extent::Whole => {
                    let first = self.first.get();
                    let (known, complete) =
                        first.map_or((&[][..], false), |first| first.timeline(row.room));
                    self.timeline(row.room, &standing, Pos(0), self.upto, known, complete)
                        .await?
                }
            };
            // A client that was in the room before may hold an older part of its history.
            part.timeline.limited |= extent == Extent::Whole && self.after.is_some();
        }
        self.joined_state(row, &room_id, extent, window, &mut part)
            .await?;
        self.ephemeral(row.room, &room_id, extent, window, &mut part)
            .await?;
        self.account_data(row.room, &room_id, extent, window, &mut part)
            .await?;
        Ok(part)
    }

    /// A room that the reader was in, or was invited to, and is no more.
    ///
    /// Told once, up to the moment of leaving; nothing that came later.
    pub async fn left(&self, row: &MembershipRow) -> Result<RoomPart, MatrixError> {
        let mut part = RoomPart {
            always: true,
            left: true,
            ..RoomPart::default()
        };
        let Some(own_no) = row.event else {
            part.timeline = self.ended_invite(row).await?;
            return Ok(part);
        };
        let Some(own) = self.store.event_by_no(own_no).await? else {
            return Ok(part);
        };
        let room_id = self.store.room_id(row.room).await?;
        let ended = seen::end_of_stay(self.store, self.viewer, own_no).await?;
        let standing = Standing::left(row.membership, ended.as_deref());
        let upto = row.pos.min(self.upto);
        let after = self.after.unwrap_or(Pos(0)).min(upto);
        if filter::section_wants_room(&self.ask.filter.room.timeline, &room_id) {
            part.timeline = if ended.is_some() {
                self.timeline(row.room, &standing, after, upto, &[], false)
                    .await?
            } else {
                // Whoever was never in the room is told only what happened to them.
                let events =
                    seen::visible(self.store, self.viewer, &standing, vec![own.clone()]).await?;
                Timeline {
                    events,
                    limited: false,
                    before: Pos(upto.0 - 1),
                }
            };
        }
        let fresh = ended.filter(|end| self.after.is_none_or(|after| end.pos() > Some(after)));
        if let Some(end) = fresh
            && filter::section_wants_room(&self.ask.filter.room.state, &room_id)
        {
            part.state = self.left_state(row, &end, &mut part.timeline).await?;
        }
        if self.after.is_none() {
            let nothing = RoomWindow::default();
            self.account_data(row.room, &room_id, Extent::Whole, &nothing, &mut part)
                .await?;
        }
        Ok(part)
    }

    /// What ended an invite to a room that this server isn't in, as the timeline: nothing else of it is known.
    async fn ended_invite(&self, row: &MembershipRow) -> Result<Timeline, MatrixError> {
        let mut timeline = Timeline {
            before: Pos(row.pos.min(self.upto).0 - 1),
            ..Timeline::default()
        };
        let ended = self
            .store
            .ended_remote_invite(self.viewer.user, row.room)
            .await?;
        let room_id = self.store.room_id(row.room).await?;
        if let Some(event) = ended.as_ref().and_then(seen::of_ended_invite)
            && filter::section_wants_room(&self.ask.filter.room.timeline, &room_id)
        {
            timeline.events = seen::as_state(self.store, vec![event]).await?;
        }
        Ok(timeline)
    }

    /// The state that goes with the timeline of a room whose reader's stay ended with `end`.
    async fn left_state(
        &self,
        row: &MembershipRow,
        end: &StoredEvent,
        timeline: &mut Timeline,
    ) -> Result<Vec<Seen>, MatrixError> {
        let known = match self.after {
            Some(after) if !self.ask.full_state => {
                self.was_joined_at(row, after).await?.then_some(after)
            }
            _ => None,
        };
        let start = view_of(timeline).start;
        let from = known.unwrap_or_else(|| start.map_or(row.pos, |start| Pos(start.0 - 1)));
        let changes = changes(self.store, row.room, from, row.pos).await?;
        // A commit's changes come after its events: some may be of events after the end.
        let within = self.not_after(&changes, end.pos()).await?;
        let keys = if known.is_some() {
            self.begin_truly(timeline, |last| decide::undoing_since(last, &within));
            self.state_delta(&within, &view_of(timeline))
        } else {
            let mut full = BTreeMap::new();
            if let Some(at) = end.state_after {
                full.extend(self.store.state_all(at).await?);
            }
            let ends = full.values().copied();
            self.begin_truly(timeline, |last| decide::undoing(last, ends));
            self.whole_state(full, &within, &view_of(timeline))
        };
        self.state_events(row.room, keys, known.is_none(), timeline, &[])
            .await
    }

    /// Those of some changes whose new event isn't later than `end`.
    async fn not_after(
        &self,
        changes: &[Change],
        end: Option<Pos>,
    ) -> Result<Vec<Change>, MatrixError> {
        let mut within = Vec::with_capacity(changes.len());
        for change in changes {
            let event = match change.new {
                Some(new) => self.store.event_by_no(new).await?,
                None => None,
            };
            if event
                .and_then(|event| event.pos())
                .is_none_or(|pos| Some(pos) <= end)
            {
                within.push(*change);
            }
        }
        Ok(within)
    }

    /// Whether the reader, who has left since, was joined at a position.
    async fn was_joined_at(&self, row: &MembershipRow, at: Pos) -> Result<bool, MatrixError> {
        let member = self
            .store
            .known_key("m.room.member", self.viewer.user_id.as_str())
            .await?;
        let changes = changes(self.store, row.room, at, self.upto).await?;
        let first = changes.iter().find(|change| Some(change.key) == member);
        let Some(old) = first.and_then(|change| change.old) else {
            return Ok(false);
        };
        let event = self.store.event_by_no(old).await?;
        Ok(event.and_then(|event| event.pdu.membership()) == Some(Membership::Join))
    }

    /// Reads what a first answer tells of the rooms that it tells of.
    pub(super) async fn look_first(&self, rows: &[MembershipRow]) -> Result<(), MatrixError> {
        let (mut joined, mut ends) = (Vec::new(), Vec::new());
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
        let mut first = FirstLook::read(self.store, &joined, self.upto, size).await?;
        first
            .note_ends(self.store, &self.viewer.user_id, &ends)
            .await?;
        // Nobody else looks first.
        let _ = self.first.set(first);
        Ok(())
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
                Extent::Whole => match self.first.get() {
                    Some(first) => first.receipts(room).to_vec(),
                    None => self.store.receipts_in(room, Pos(0), self.upto).await?,
                },
            };
            for receipt in receipts {
                // Private receipts are their owner's alone.
                let shown = receipt.kind == "m.read" || receipt.user == self.viewer.user;
                if shown {
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
                Extent::Since(_) => changed > self.ephemeral.0,
                Extent::Whole => !users.is_empty(),
            };
            part.typing = news.then_some(users);
        }
        Ok(())
    }

    async fn account_data(
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
                    .filter(|data| data.room == Some(room) && *data.content != *DELETED)
                    .cloned()
                    .collect()
            }
        };
        part.account_data
            .retain(|data| filter::wants_kind(section, &data.kind));
        Ok(())
    }
}
