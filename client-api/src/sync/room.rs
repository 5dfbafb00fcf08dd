//! Loading one room's part of an answer. Every way in which a client is kept up to date (`/sync`,
//! the WebSocket stream) loads rooms here; they differ in how they ask and in what they write.

use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
};

use rhizome_protocol::Membership;
use rhizome_storage::{
    AccountData, EventNo, KeyNo, MembershipRow, Pos, Receipt, RoomNo, Store, StoredEvent,
};
use ruma::{OwnedRoomId, OwnedUserId, UserId};

use super::{
    Ask,
    decide::{self, Change, TimelineView},
    lazy::LazyMembers,
    window::{CHUNK, RoomWindow, changes},
};
use crate::{
    MatrixError,
    filter::{self, DEFAULT_TIMELINE},
    seen::{self, Seen, Sight, Standing, Viewer},
};

/// Events looked through for one timeline when the filter or the history's visibility hides most.
const MAX_SCAN: usize = 1_000;

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
    /// All of the reader's account data, loaded once if a room is told as a whole.
    pub all_account_data: tokio::sync::OnceCell<Vec<Arc<AccountData>>>,
}

/// A timeline.
#[derive(Default, Debug)]
pub struct Timeline {
    /// Its events, oldest first.
    pub events: Vec<Seen>,
    /// Whether something was left out before them.
    pub limited: bool,
    /// The position right before the first event: where paging backwards goes on.
    pub before: Pos,
}

/// Who is in a room.
#[derive(Debug)]
pub struct Summary {
    /// Users to name a nameless room by.
    pub heroes: Option<Vec<OwnedUserId>>,
    /// How many are joined.
    pub joined: i64,
    /// How many are invited.
    pub invited: i64,
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
    pub receipts: Vec<(OwnedUserId, Arc<Receipt>)>,
    /// Who is typing, if that changed.
    pub typing: Option<Vec<OwnedUserId>>,
    /// The reader's account data.
    pub account_data: Vec<Arc<AccountData>>,
    /// Whether the room is in the answer even with nothing in it.
    pub always: bool,
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
enum Extent {
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
                    self.timeline(row.room, &standing, Pos(0), self.upto, &[], false)
                        .await?
                }
            };
        }
        self.joined_state(row, &room_id, extent, window, &mut part)
            .await?;
        self.ephemeral(row.room, &room_id, extent, window, &mut part)
            .await?;
        self.account_data(row.room, &room_id, extent, window, &mut part)
            .await?;
        Ok(part)
    }

    async fn joined_state(
        &self,
        row: &MembershipRow,
        room_id: &OwnedRoomId,
        extent: Extent,
        window: &RoomWindow,
        part: &mut RoomPart,
    ) -> Result<(), MatrixError> {
        let whole = extent == Extent::Whole || self.ask.full_state;
        if whole || !window.members.is_empty() {
            part.summary = Some(self.summary(row.room).await?);
        }
        if !filter::section_wants_room(&self.ask.filter.room.state, room_id) {
            return Ok(());
        }
        let view = view_of(&part.timeline);
        let keys = if whole {
            let full = state_at(self.store, row.room, self.upto).await?;
            let changes = match extent {
                Extent::Since(_) => window.changes.clone(),
                Extent::Whole => match view.start {
                    Some(start) => {
                        changes(self.store, row.room, Pos(start.0 - 1), self.upto).await?
                    }
                    None => Vec::new(),
                },
            };
            self.whole_state(full, &changes, &view)
        } else {
            self.state_delta(&window.changes, &view)
        };
        let heroes = part
            .summary
            .as_ref()
            .and_then(|summary| summary.heroes.as_deref())
            .unwrap_or_default();
        part.state = self
            .state_events(row.room, keys, whole, &part.timeline, heroes)
            .await?;
        Ok(())
    }

    fn whole_state(
        &self,
        full: BTreeMap<KeyNo, EventNo>,
        changes: &[Change],
        view: &TimelineView,
    ) -> BTreeMap<KeyNo, EventNo> {
        if self.ask.state_after {
            full
        } else {
            decide::full_before(full, changes, view)
        }
    }

    fn state_delta(&self, changes: &[Change], view: &TimelineView) -> BTreeMap<KeyNo, EventNo> {
        if self.ask.state_after {
            decide::delta_after(changes)
        } else {
            decide::delta_before(changes, view)
        }
    }

    /// A room that the reader was in, or was invited to, and is no more.
    ///
    /// Told once, up to the moment of leaving; nothing that came later.
    pub async fn left(&self, row: &MembershipRow) -> Result<RoomPart, MatrixError> {
        let mut part = RoomPart {
            always: true,
            ..RoomPart::default()
        };
        let Some(own_no) = row.event else {
            return Ok(part);
        };
        let Some(own) = self.store.event_by_no(own_no).await? else {
            return Ok(part);
        };
        let room_id = self.store.room_id(row.room).await?;
        let left_at = seen::end_of_stay(self.store, self.viewer, own_no).await?;
        let standing = Standing {
            membership: Some(row.membership),
            joined_from: None,
            left_at,
        };
        let upto = row.pos.min(self.upto);
        let after = self.after.unwrap_or(Pos(0)).min(upto);
        if filter::section_wants_room(&self.ask.filter.room.timeline, &room_id) {
            part.timeline = if left_at.is_some() {
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
        let Some(left_at) =
            left_at.filter(|_| filter::section_wants_room(&self.ask.filter.room.state, &room_id))
        else {
            return Ok(part);
        };
        let view = view_of(&part.timeline);
        let end = left_at.min(upto);
        let known = match self.after {
            Some(after) if !self.ask.full_state => {
                self.was_joined_at(row, after).await?.then_some(after)
            }
            _ => None,
        };
        let keys = if let Some(after) = known {
            self.state_delta(&changes(self.store, row.room, after, end).await?, &view)
        } else {
            let mut full = BTreeMap::new();
            if let Some(at) = own.state_after.or(own.state_before) {
                full.extend(self.store.state_all(at).await?);
            }
            let start = view.start.map_or(end, |start| Pos(start.0 - 1));
            let changes = changes(self.store, row.room, start, row.pos).await?;
            self.whole_state(full, &changes, &view)
        };
        part.state = self
            .state_events(row.room, keys, known.is_none(), &part.timeline, &[])
            .await?;
        if self.after.is_none() {
            let nothing = RoomWindow::default();
            self.account_data(row.room, &room_id, Extent::Whole, &nothing, &mut part)
                .await?;
        }
        Ok(part)
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

    /// The timeline between two positions. `known` are the newest events of that span (`complete`:
    /// all of them) if they have been read already.
    async fn timeline(
        &self,
        room: RoomNo,
        standing: &Standing,
        after: Pos,
        upto: Pos,
        known: &[Arc<StoredEvent>],
        complete: bool,
    ) -> Result<Timeline, MatrixError> {
        let limit = filter::limit(&self.ask.filter.room.timeline, DEFAULT_TIMELINE);
        let mut sight = Sight::new(self.store, self.viewer, *standing);
        let mut newest_first: Vec<Seen> = Vec::new();
        let (mut chunk, mut complete) = (known.to_vec(), complete);
        let (mut scanned, mut end) = (0, upto);
        loop {
            if chunk.is_empty() && !complete {
                let size = if scanned == 0 {
                    CHUNK.min(limit + 1)
                } else {
                    CHUNK
                };
                chunk = self.store.room_timeline(room, after, end, size).await?;
                complete = chunk.len() < size;
            }
            scanned += chunk.len();
            if let Some(pos) = chunk.first().and_then(|event| event.pos()) {
                end = Pos(pos.0 - 1);
            }
            while let Some(event) = chunk.pop() {
                if newest_first.len() <= limit && self.wants(&event) {
                    newest_first.extend(sight.see(event).await?);
                }
            }
            if newest_first.len() > limit || complete || scanned >= MAX_SCAN {
                break;
            }
        }
        // More than was asked for, or not all of the span was looked through.
        let limited = newest_first.len() > limit || !complete;
        newest_first.truncate(limit);
        newest_first.reverse();
        seen::dress(self.store, &mut newest_first).await?;
        let first = newest_first.first().and_then(|seen| seen.event.pos());
        let before = first.map_or(upto, |pos| Pos(pos.0 - 1));
        Ok(Timeline {
            events: newest_first,
            limited,
            before,
        })
    }

    fn wants(&self, event: &StoredEvent) -> bool {
        filter::wants_event(&self.ask.filter.room.timeline, event)
            && (self.ignored.is_empty()
                || event.pdu.state_key().is_some()
                || !self.ignored.contains(event.pdu.sender()))
    }

    /// The state events to send: those decided on, narrowed by the filter and by lazy loading, and
    /// widened by the members that lazy loading owes.
    async fn state_events(
        &self,
        room: RoomNo,
        mut keys: BTreeMap<KeyNo, EventNo>,
        whole: bool,
        timeline: &Timeline,
        heroes: &[OwnedUserId],
    ) -> Result<Vec<Seen>, MatrixError> {
        let section = &self.ask.filter.room.state;
        let mut owed = Vec::new();
        let lazy = filter::lazy_members(section);
        if let Some(redundant) = lazy {
            let wanted = self.lazy_members(timeline, whole, heroes);
            if whole {
                self.keep_members(&mut keys, &wanted).await?;
            } else {
                owed = self
                    .owed_members(room, &keys, timeline, wanted, redundant)
                    .await?;
            }
        }
        let mut nos: Vec<EventNo> = keys.into_values().chain(owed).collect();
        nos.sort_unstable();
        nos.dedup();
        if nos.is_empty() && lazy.is_none() {
            return Ok(Vec::new());
        }
        let mut events = self.store.events_by_no(&nos).await?;
        events.retain(|event| filter::wants_event(section, event));
        if section.limit.is_some() {
            events.truncate(filter::limit(section, usize::MAX));
        }
        if lazy.is_some() {
            self.note_members(room, &events, timeline);
        }
        seen::as_state(self.store, events).await
    }

    /// The users whose membership matters to a reader who loads members lazily, with the first
    /// event of the timeline that makes each of them matter.
    fn lazy_members<'t>(
        &self,
        timeline: &'t Timeline,
        whole: bool,
        heroes: &'t [OwnedUserId],
    ) -> LazyWanted<'t> {
        let mut wanted = LazyWanted::default();
        for seen in &timeline.events {
            wanted
                .senders
                .entry(seen.event.pdu.sender())
                .or_insert(&seen.event);
        }
        wanted.others.extend(heroes.iter().map(|hero| &**hero));
        if whole {
            wanted.own = Some(self.viewer.user_id.clone());
        }
        wanted
    }

    /// Drops the members that aren't wanted from a whole state.
    async fn keep_members(
        &self,
        keys: &mut BTreeMap<KeyNo, EventNo>,
        wanted: &LazyWanted<'_>,
    ) -> Result<(), MatrixError> {
        let nos: Vec<KeyNo> = keys.keys().copied().collect();
        for (no, key) in nos.iter().zip(self.store.keys(&nos).await?) {
            if key.kind == "m.room.member" && !wanted.has(&key.key) {
                keys.remove(no);
            }
        }
        Ok(())
    }

    /// The members that an incremental answer owes beside what changed: those of the timeline's
    /// senders, as of the sender's first event, unless the device knows them.
    async fn owed_members(
        &self,
        room: RoomNo,
        changed: &BTreeMap<KeyNo, EventNo>,
        timeline: &Timeline,
        wanted: LazyWanted<'_>,
        redundant: bool,
    ) -> Result<Vec<EventNo>, MatrixError> {
        let device = (self.viewer.user, self.viewer.device_id.clone());
        let mut owed = Vec::new();
        let shown: HashSet<EventNo> = timeline.events.iter().map(|seen| seen.event.no).collect();
        for (sender, event) in wanted.senders {
            let known = self
                .after
                .is_some_and(|after| self.lazy.knows(&device, room, sender, after));
            if known && !redundant {
                continue;
            }
            if self.ask.state_after {
                let key = self
                    .store
                    .known_key("m.room.member", sender.as_str())
                    .await?;
                if key.is_some_and(|key| changed.contains_key(&key)) {
                    continue;
                }
            }
            let Some(before) = event.state_before else {
                continue;
            };
            let found = self
                .store
                .state_entry(before, "m.room.member", sender.as_str())
                .await?;
            owed.extend(found.filter(|no| !shown.contains(no)));
        }
        if let (Some(head), false) = (self.store.room_by_no(room).await?, wanted.others.is_empty())
        {
            for hero in wanted.others {
                let known = self
                    .after
                    .is_some_and(|after| self.lazy.knows(&device, room, hero, after));
                if known && !redundant {
                    continue;
                }
                let Some(snapshot) = head.snapshot else { break };
                let found = self
                    .store
                    .state_entry(snapshot, "m.room.member", hero.as_str())
                    .await?;
                owed.extend(found.filter(|no| !shown.contains(no)));
            }
        }
        Ok(owed)
    }

    /// Remembers which members this answer tells the device of.
    fn note_members(&self, room: RoomNo, state: &[Arc<StoredEvent>], timeline: &Timeline) {
        let told = state
            .iter()
            .chain(timeline.events.iter().map(|seen| &seen.event));
        let members = told
            .filter(|event| event.pdu.kind() == "m.room.member")
            .filter_map(|event| <&UserId>::try_from(event.pdu.state_key()?).ok());
        let device = (self.viewer.user, self.viewer.device_id.clone());
        self.lazy.tell(&device, room, members, self.upto);
    }

    async fn summary(&self, room: RoomNo) -> Result<Summary, MatrixError> {
        let counts = self.store.member_counts(room).await?;
        let named = match self
            .store
            .room_by_no(room)
            .await?
            .and_then(|head| head.snapshot)
        {
            Some(snapshot) => self.is_named(snapshot).await?,
            None => false,
        };
        let heroes = if named {
            None
        } else {
            let members = self.store.heroes(room, self.viewer.user, HEROES).await?;
            let users: Vec<_> = members.iter().map(|member| member.user).collect();
            Some(self.store.users(&users).await?)
        };
        Ok(Summary {
            heroes,
            joined: counts.joined,
            invited: counts.invited,
        })
    }

    /// Whether the room has a name or a canonical alias that isn't empty.
    async fn is_named(&self, snapshot: rhizome_storage::SnapshotNo) -> Result<bool, MatrixError> {
        for (kind, field) in [("m.room.name", "name"), ("m.room.canonical_alias", "alias")] {
            let event = self.store.state_event(snapshot, kind, "").await?;
            let text = event
                .as_ref()
                .and_then(|event| event.pdu.content().get(field)?.as_str());
            if text.is_some_and(|text| !text.is_empty()) {
                return Ok(true);
            }
        }
        Ok(false)
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
                Extent::Whole => self.store.receipts_in(room, Pos(0), self.upto).await?,
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
                    .filter(|data| data.room == Some(room))
                    .cloned()
                    .collect()
            }
        };
        part.account_data
            .retain(|data| filter::wants_kind(section, &data.kind));
        Ok(())
    }
}

/// A room's current state as it was at a position.
pub async fn state_at(
    store: &Store,
    room: RoomNo,
    at: Pos,
) -> Result<BTreeMap<KeyNo, EventNo>, MatrixError> {
    let Some(head) = store.room_by_no(room).await? else {
        return Ok(BTreeMap::new());
    };
    let Some(snapshot) = head.snapshot else {
        return Ok(BTreeMap::new());
    };
    let full = store.state_all(snapshot).await?.into_iter().collect();
    // Read after the head: whatever it holds beyond `at` is among these.
    let now = store.log().head();
    let later = if now > at {
        changes(store, room, at, now).await?
    } else {
        Vec::new()
    };
    Ok(decide::rewound(full, &later))
}

/// How many users a nameless room is named by.
const HEROES: usize = 5;

/// Users whose membership matters.
#[derive(Default)]
struct LazyWanted<'t> {
    /// Senders of the timeline, with the first event of each.
    senders: BTreeMap<&'t UserId, &'t Arc<StoredEvent>>,
    /// Heroes.
    others: Vec<&'t UserId>,
    /// The reader.
    own: Option<OwnedUserId>,
}

impl LazyWanted<'_> {
    fn has(&self, user: &str) -> bool {
        self.own.as_ref().is_some_and(|own| own == user)
            || self.others.iter().any(|other| *other == user)
            || <&UserId>::try_from(user).is_ok_and(|user| self.senders.contains_key(user))
    }
}

fn view_of(timeline: &Timeline) -> TimelineView {
    TimelineView {
        shown: timeline.events.iter().map(|seen| seen.event.no).collect(),
        start: timeline.events.first().and_then(|seen| seen.event.pos()),
    }
}
