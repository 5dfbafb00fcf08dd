//! Where a room's next event goes.

use std::{collections::BTreeMap, sync::Arc};

use rhizome_protocol::{RoomRules, hash::ReferenceHash, rules::EventIdFormat};
use rhizome_storage::{RoomHead, RoomNo, SnapshotNo, StoredEvent};
use ruma::{OwnedEventId, OwnedRoomId};

use super::crowd::Crowd;
use crate::{Rooms, error::Result, send::view::View};

/// How many events one of ours may follow: the specification's limit on `prev_events`.
const MAX_PREVS: usize = 20;

/// Where a room's next event goes.
pub(crate) struct Tip {
    pub(crate) room: RoomNo,
    pub(super) rules: &'static RoomRules,
    pub(super) room_id: Option<OwnedRoomId>,
    pub(super) prevs: Vec<OwnedEventId>,
    /// Those of `prevs`, in the versions that write them beside the ids.
    pub(super) hashes: BTreeMap<OwnedEventId, ReferenceHash>,
    /// What the next event says of its depth.
    pub(super) depth: i64,
    /// How deep it is by our own count; `None` until somebody looks at `prevs`.
    pub(super) rank: Option<i64>,
    pub(super) snapshot: Option<SnapshotNo>,
    /// The state there, as far as anybody asked for it.
    pub(crate) view: View,
    /// The event that made this tip, if it was decided here and may not be stored yet.
    pub(super) pending: Option<OwnedEventId>,
    /// If the room has more ends than `prevs`: then this is the tip for one event only.
    pub(super) crowd: Option<Box<Crowd>>,
}

impl Tip {
    /// The room's head; `view` must be of its current state.
    pub(crate) async fn of(rooms: &Rooms, head: &RoomHead, view: View) -> Result<Self> {
        let (prevs, depth) = place(head);
        let mut tip = Self {
            room: head.room,
            rules: head.rules,
            room_id: Some(head.room_id.clone()),
            prevs,
            hashes: BTreeMap::new(),
            depth,
            rank: None,
            snapshot: head.snapshot,
            view,
            pending: None,
            crowd: None,
        };
        if tip.prevs.len() < head.extremities.len() {
            let view = std::mem::take(&mut tip.view);
            let (crowd, before) = Crowd::of(rooms, head, &tip.prevs, view).await?;
            tip.snapshot = before;
            tip.crowd = Some(Box::new(crowd));
        }
        Ok(tip)
    }

    /// What is known of the room's current state, if nothing was added.
    pub(crate) fn into_current(self) -> View {
        match self.crowd {
            Some(crowd) => crowd.view,
            None => self.view,
        }
    }

    /// Where a new room begins. `room_id` is `None` where the create event makes it.
    pub(crate) fn new_room(
        room: RoomNo,
        rules: &'static RoomRules,
        room_id: Option<OwnedRoomId>,
    ) -> Self {
        Self {
            room,
            rules,
            room_id,
            prevs: Vec::new(),
            hashes: BTreeMap::new(),
            depth: 1,
            rank: Some(1),
            snapshot: None,
            view: View::default(),
            pending: None,
            crowd: None,
        }
    }

    /// Whether events of this room name others with their hashes.
    pub(super) fn names_hashes(&self) -> bool {
        self.rules.format.event_id == EventIdFormat::Explicit
    }
}

/// Which events a new one follows, and its depth.
///
/// All forward extremities, if they aren't too many; otherwise the deepest ten and the shallowest ten,
/// so that old loose ends get tied up as well.
fn place(head: &RoomHead) -> (Vec<OwnedEventId>, i64) {
    let mut ends: Vec<_> = head.extremities.iter().collect();
    ends.sort_by(|a, b| {
        b.depth
            .cmp(&a.depth)
            .then_with(|| a.event_id.cmp(&b.event_id))
    });
    let depth = ends.first().map_or(0, |end| end.depth);
    if ends.len() > MAX_PREVS {
        let oldest = ends.split_off(ends.len() - MAX_PREVS / 2);
        ends.truncate(MAX_PREVS / 2);
        ends.extend(oldest);
    }
    let prevs = ends.into_iter().map(|end| end.event_id.clone()).collect();
    (prevs, depth.saturating_add(1).min(head.rules.max_depth()))
}

/// The depth by our own count of an event upon these.
pub(crate) fn above(prevs: &[Arc<StoredEvent>]) -> i64 {
    let deepest = prevs.iter().map(|event| event.depth).max();
    deepest.unwrap_or_default().saturating_add(1)
}

#[cfg(test)]
mod tests {
    use rhizome_storage::{EventNo, Extremity, Pos};

    use super::*;

    fn head(depths: impl Iterator<Item = i64>) -> RoomHead {
        RoomHead {
            room: RoomNo(1),
            room_id: "!r:one".try_into().unwrap(),
            rules: RoomRules::named("11").unwrap(),
            state_version: 1,
            snapshot: None,
            extremities: depths
                .map(|depth| Extremity {
                    no: EventNo(depth),
                    event_id: format!("${depth:04}").try_into().unwrap(),
                    depth,
                })
                .collect(),
            joined: 1,
            invited: 0,
            public: false,
            bump: Pos(0),
            partial: None,
        }
    }

    #[test]
    fn all_loose_ends_are_tied_up_if_they_are_few() {
        let (prevs, depth) = place(&head([3, 7, 5].into_iter()));
        assert_eq!(prevs, ["$0007", "$0005", "$0003"]);
        assert_eq!(depth, 8);
    }

    #[test]
    fn of_many_the_newest_and_the_oldest() {
        let (prevs, depth) = place(&head(1..=50));
        assert_eq!((prevs.len(), depth), (MAX_PREVS, 51));
        assert!(prevs.contains(&"$0050".try_into().unwrap()));
        assert!(prevs.contains(&"$0001".try_into().unwrap()));
        assert!(!prevs.contains(&"$0025".try_into().unwrap()));
    }

    #[test]
    fn the_depth_stays_within_canonical_json() {
        let (_, depth) = place(&head([i64::MAX].into_iter()));
        assert_eq!(depth, (1 << 53) - 1);
    }
}
