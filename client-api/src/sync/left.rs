//! Loading a room that the reader has left, or was invited to and is no more.

use std::{
    collections::BTreeMap,
    sync::{Arc, OnceLock},
};

use rhizome_protocol::{Membership, Pdu, canonical::parse_object};
use rhizome_rooms::access::{self, Standing};
use rhizome_storage::{EventNo, MembershipRow, Placement, Pos, RemoteInvite, Status, StoredEvent};

use super::{
    decide,
    room::timeline::Timeline,
    room::{Extent, Loader, RoomPart},
    state::view_of,
    window::RoomWindow,
};
use crate::{
    MatrixError,
    view::{
        dress, filter,
        moment::{EntryChange, changes},
        seen::Seen,
    },
};

impl Loader<'_> {
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
        let ended = access::end_of_stay(self.store, &self.viewer.user_id, row).await?;
        let standing = Standing::left(row.membership, ended.as_deref());
        let upto = row.pos.min(self.upto);
        let after = self.after.unwrap_or(Pos(0)).min(upto);
        if filter::section_wants_room(&self.ask.filter.room.timeline, &room_id) {
            part.timeline = if ended.is_some() {
                self.timeline(row.room, &standing, (after, upto), (&[], false))
                    .await?
            } else {
                // Whoever was never in the room is told only what happened to them.
                let events =
                    dress::visible(self.store, self.viewer, &standing, vec![own.clone()]).await?;
                Timeline {
                    events,
                    before: Pos(upto.0 - 1),
                    ..Timeline::default()
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
        let ends = [Membership::Leave, Membership::Ban];
        if let Some(event) = ended.as_ref().and_then(|ended| of_outside(ended, &ends))
            && filter::section_wants_room(&self.ask.filter.room.timeline, &room_id)
        {
            timeline.events = dress::as_state(self.store, vec![event]).await?;
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
            self.begin_truly(timeline, true, |last| decide::undoing_since(last, &within));
            self.state_delta(&within, &view_of(timeline))
        } else {
            let mut full = BTreeMap::new();
            if let Some(at) = end.state_after {
                full.extend(self.store.state_all(at).await?);
            }
            let ends = full.values().copied();
            self.begin_truly(timeline, true, |last| decide::undoing(last, ends));
            self.whole_state(full, &within, &view_of(timeline))
        };
        self.state_events(row.room, keys, known.is_none(), timeline, &[])
            .await
    }

    /// Those of some changes whose new event isn't later than `end`.
    async fn not_after(
        &self,
        changes: &[EntryChange],
        end: Option<Pos>,
    ) -> Result<Vec<EntryChange>, MatrixError> {
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
}

/// The membership event, one of these, of an invite to a room that this server isn't in, or of what ended it. It stands
/// outside any history that we have: it has no number, no place, and no state around it.
pub(crate) fn of_outside(invite: &RemoteInvite, of: &[Membership]) -> Option<Arc<StoredEvent>> {
    let object = parse_object(invite.event.as_bytes()).ok()?;
    let pdu = Pdu::parse(invite.rules, object).ok()?;
    of.contains(&pdu.membership()?).then(|| {
        Arc::new(StoredEvent {
            no: EventNo(0),
            room: invite.room,
            depth: pdu.depth(),
            pdu: Arc::new(pdu),
            order: None,
            status: Status::Accepted,
            reason: None,
            placement: Placement::Outlier,
            state_before: None,
            state_after: None,
            visibility: None,
            redacted_by: None,
            txn: None,
            client: OnceLock::new(),
            replaces: OnceLock::from(None),
        })
    })
}
