//! The state that goes with a room's timeline.

use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
};

use rhizome_storage::{EventNo, KeyNo, MembershipRow, Pos, RoomNo, StoredEvent};
use ruma::{OwnedRoomId, OwnedUserId, UserId};

use super::{
    decide::{self, TimelineView},
    first::FirstLook,
    room::timeline::Timeline,
    room::{Extent, Loader, RoomPart, summary::Summary},
    window::RoomWindow,
};
use crate::{
    MatrixError,
    view::{
        dress, filter,
        moment::{EntryChange, changes, state_at},
        seen::Seen,
        without_members::WithoutMembers,
    },
};

impl Loader<'_> {
    pub(super) async fn joined_state(
        &self,
        row: &MembershipRow,
        room_id: &OwnedRoomId,
        extent: Extent,
        window: &RoomWindow,
        part: &mut RoomPart,
    ) -> Result<(), MatrixError> {
        let whole = extent == Extent::Whole || self.ask.full_state;
        part.summary = self.summary(row.room, whole, window).await?;
        if !filter::section_wants_room(&self.ask.filter.room.state, room_id) {
            return Ok(());
        }
        let keys = if whole {
            let full = self
                .state_at_end(row.room, &part.timeline, part.summary.as_ref())
                .await?;
            let ends = full.values().copied();
            self.begin_truly(&mut part.timeline, false, |last| {
                decide::undoing(last, ends)
            });
            let view = view_of(&part.timeline);
            let changes = match (extent, view.start) {
                // State after the timeline has nothing to do with what happened within.
                _ if self.ask.state_after => Vec::new(),
                (Extent::Since(_), _) => window.changes.clone(),
                (Extent::Whole, Some(start)) => {
                    self.changes_after(row.room, Pos(start.0 - 1)).await?
                }
                (Extent::Whole, None) => Vec::new(),
            };
            self.whole_state(full, &changes, &view)
        } else {
            let since = &window.changes;
            self.begin_truly(&mut part.timeline, false, |last| {
                decide::undoing_since(last, since)
            });
            self.state_delta(&window.changes, &view_of(&part.timeline))
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

    /// The whole state at the end of the answer. Where not all members are told, those that nobody asks for aren't looked
    /// at: a room may have very many.
    async fn state_at_end(
        &self,
        room: RoomNo,
        timeline: &Timeline,
        summary: Option<&Summary>,
    ) -> Result<BTreeMap<KeyNo, EventNo>, MatrixError> {
        if filter::wants_members(&self.ask.filter.room.state) {
            return state_at(self.store, room, self.upto).await;
        }
        let mut wanted: HashSet<&str> = HashSet::from([self.viewer.user_id.as_str()]);
        let heroes = summary.and_then(|summary| summary.heroes.as_deref());
        wanted.extend(heroes.unwrap_or_default().iter().map(|hero| hero.as_str()));
        for pdu in timeline.events.iter().map(|seen| &seen.event.pdu) {
            wanted.insert(pdu.sender().as_str());
            if pdu.kind() == "m.room.member" {
                wanted.extend(pdu.state_key());
            }
        }
        let wanted: Vec<&str> = wanted.into_iter().collect();
        let read;
        let states = if let Some(states) = self.first.get().and_then(FirstLook::states) {
            states
        } else {
            read = WithoutMembers::read(self.store, &[room]).await?;
            &read
        };
        states.with(self.store, room, &wanted, self.upto).await
    }

    async fn changes_after(
        &self,
        room: RoomNo,
        after: Pos,
    ) -> Result<Vec<EntryChange>, MatrixError> {
        let first = self.first.get();
        match first.and_then(|first| first.changes(room, after)) {
            Some(known) => Ok(known),
            None => changes(self.store, room, after, self.upto).await,
        }
    }

    pub(super) fn whole_state(
        &self,
        full: BTreeMap<KeyNo, EventNo>,
        changes: &[EntryChange],
        view: &TimelineView,
    ) -> BTreeMap<KeyNo, EventNo> {
        if self.ask.state_after {
            full
        } else {
            decide::full_before(full, changes, view)
        }
    }

    pub(super) fn state_delta(
        &self,
        changes: &[EntryChange],
        view: &TimelineView,
    ) -> BTreeMap<KeyNo, EventNo> {
        if self.ask.state_after {
            decide::delta_after(changes)
        } else {
            decide::delta_before(changes, view)
        }
    }

    /// The state events to send: those decided on, narrowed by the filter and by lazy loading, and
    /// widened by the members that lazy loading owes.
    pub(super) async fn state_events(
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
        let asking = filter::Asking {
            store: self.store,
            ignored: self.ignored,
            upto: self.upto,
        };
        let unrelated = asking.unrelated(&section.related, events.iter()).await?;
        events.retain(|event| !unrelated.contains(&event.no));
        if section.limit.is_some() {
            events.truncate(filter::limit(section, usize::MAX));
        }
        if lazy.is_some() {
            self.note_members(room, &events, timeline);
        }
        dress::as_state(self.store, events).await
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
            let key = self
                .store
                .known_key("m.room.member", sender.as_str())
                .await?;
            // Told already, and as it must be.
            if key.is_some_and(|key| changed.contains_key(&key)) {
                continue;
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
}

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

/// A timeline as far as state is concerned.
pub(super) fn view_of(timeline: &Timeline) -> TimelineView {
    TimelineView {
        shown: timeline.events.iter().map(|seen| seen.event.no).collect(),
        start: timeline.events.first().and_then(|seen| seen.event.pos()),
    }
}
