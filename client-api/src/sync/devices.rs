//! Whose devices a reader must look at again (client-server API, "Extensions to /sync" of
//! end-to-end encryption).

use std::collections::{BTreeSet, HashSet};

use rhizome_protocol::Membership;
use rhizome_rooms::access;
use rhizome_storage::{MembershipRow, Pos, RoomNo, UserNo};
use ruma::OwnedUserId;

use super::{
    room::{Loader, summary::MANY},
    window::{MemberChange, Window},
};
use crate::MatrixError;

/// Up to this many users are asked one by one whether they share a room with the reader.
const MOST_ASKED: usize = 16;

/// Who came and went.
#[derive(Default)]
struct Moved {
    met: HashSet<UserNo>,
    parted: HashSet<UserNo>,
    /// Whether the reader came.
    came: bool,
}

impl Loader<'_> {
    /// Users whose devices the reader must look at again, and those it may forget
    /// ("Tracking the device list for a user"). An initial answer names nobody: the client knows
    /// nothing yet.
    pub(super) async fn devices(
        &self,
        rows: &[MembershipRow],
        window: &Window,
    ) -> Result<(BTreeSet<OwnedUserId>, BTreeSet<OwnedUserId>), MatrixError> {
        let (mut changed, mut left) = (BTreeSet::new(), BTreeSet::new());
        let Some(after) = self.after else {
            return Ok((changed, left));
        };
        let Moved {
            mut met,
            parted,
            came,
        } = self.moved(rows, window, after, true).await?;
        if met.is_empty() && parted.is_empty() && window.device_lists.is_empty() {
            return Ok((changed, left));
        }
        // Who comes into a room looks at their own other devices too, which the room's members send to from now on.
        if !came {
            met.remove(&self.viewer.user);
        }
        met.extend(&window.device_lists);
        let candidates: HashSet<UserNo> = met.union(&parted).copied().collect();
        let sharing = self.sharing(&candidates, rows).await?;
        for user in candidates {
            if sharing.contains(&user) {
                if met.contains(&user) {
                    changed.insert(self.store.user(user).await?);
                }
            } else if parted.contains(&user) {
                left.insert(self.store.user(user).await?);
            }
        }
        Ok((changed, left))
    }

    /// Who came into a room with the reader after a position, and who isn't in one any more that they were in together:
    /// they may be in another. With `all` unset only those count who surely were in one, and none of the others.
    async fn moved(
        &self,
        rows: &[MembershipRow],
        window: &Window,
        after: Pos,
        all: bool,
    ) -> Result<Moved, MatrixError> {
        let mut moved = Moved::default();
        for row in rows {
            let here = row.membership == Membership::Join;
            let fresh = row.since > after;
            if !(here || fresh && self.was_joined_after(row, after).await?) {
                continue;
            }
            let changes = window.rooms.get(&row.room);
            let changes = changes.map_or(&[][..], |room| &room.members);
            if !here {
                self.parted_from(row, changes, (fresh, all), &mut moved)
                    .await?;
                continue;
            }
            if fresh && all {
                let members = self.store.members(row.room, Some(Membership::Join)).await?;
                let members = members.into_iter().map(|member| member.user);
                moved.met.extend(members);
                moved.came = true;
            }
            let completed = window.rooms.get(&row.room);
            if let Some(pos) = completed.and_then(|room| room.completed).filter(|_| all) {
                moved.met.extend(self.come_to_be_known(row, pos).await?);
            }
            for one in self.moves(changes).await? {
                if one.to == Membership::Join {
                    moved.met.insert(one.user);
                } else if all || one.from == Membership::Join || changes.len() > MANY {
                    moved.parted.insert(one.user);
                }
            }
        }
        moved.parted.remove(&self.viewer.user);
        Ok(moved)
    }

    /// Members of a room whose devices the reader looks at when it has come to be known who is there: where messages are
    /// encrypted all of whom nobody has heard, and all whose devices have changed since the reader came.
    async fn come_to_be_known(
        &self,
        row: &MembershipRow,
        pos: Pos,
    ) -> Result<Vec<UserNo>, MatrixError> {
        let changed = self.store.devices_changed_in(row.room, row.since).await?;
        let mut users: Vec<UserNo> = changed.iter().map(|list| list.user).collect();
        if self
            .store
            .room_summary(row.room)
            .await?
            .encryption
            .is_some()
        {
            users.extend(self.store.members_given_at(row.room, pos).await?);
        }
        Ok(users)
    }

    /// Who was in a room with the reader until the reader left it: who came later is none of their business.
    async fn parted_from(
        &self,
        row: &MembershipRow,
        changes: &[MemberChange],
        (fresh, all): (bool, bool),
        moved: &mut Moved,
    ) -> Result<(), MatrixError> {
        let end = row.pos;
        if fresh {
            let still = self.store.members_since(row.room, end).await?;
            moved.parted.extend(still);
        }
        let (before, after): (Vec<MemberChange>, Vec<MemberChange>) = changes
            .iter()
            .copied()
            .partition(|change| change.pos <= end);
        for one in self.moves(&before).await? {
            if one.to != Membership::Join && (all || one.from == Membership::Join) {
                moved.parted.insert(one.user);
            }
        }
        let mut seen = HashSet::new();
        let first = after.into_iter().filter(|change| seen.insert(change.user));
        for one in self.moves(&first.collect::<Vec<_>>()).await? {
            if one.from == Membership::Join {
                moved.parted.insert(one.user);
            }
        }
        Ok(())
    }

    /// Who has left, after a position, the last room that they shared with the reader.
    pub(super) async fn parted(
        &self,
        rows: &[MembershipRow],
        window: &Window,
        after: Pos,
    ) -> Result<HashSet<UserNo>, MatrixError> {
        let mut parted = self.moved(rows, window, after, false).await?.parted;
        if !parted.is_empty() {
            let sharing = self.sharing(&parted, rows).await?;
            parted.retain(|user| !sharing.contains(user));
        }
        Ok(parted)
    }

    /// Those of some users who share a room with the reader; the reader counts as one of them.
    pub(super) async fn sharing(
        &self,
        users: &HashSet<UserNo>,
        rows: &[MembershipRow],
    ) -> Result<HashSet<UserNo>, MatrixError> {
        if users.len() > MOST_ASKED {
            let among: Vec<UserNo> = users.iter().copied().collect();
            let sharing = self.store.sharing_rooms(self.viewer.user, &among).await?;
            return Ok(sharing.into_iter().chain([self.viewer.user]).collect());
        }
        // A few are answered from the cache of memberships.
        let here = |row: &MembershipRow| row.membership == Membership::Join;
        let joined: HashSet<RoomNo> = rows
            .iter()
            .filter(|row| here(row))
            .map(|row| row.room)
            .collect();
        let mut sharing = HashSet::new();
        for user in users {
            let theirs = self.store.memberships_of(*user).await?;
            if *user == self.viewer.user
                || theirs
                    .iter()
                    .any(|row| here(row) && joined.contains(&row.room))
            {
                sharing.insert(*user);
            }
        }
        Ok(sharing)
    }

    /// Whether the reader, who isn't in the room now, was joined at or after a position.
    async fn was_joined_after(&self, row: &MembershipRow, after: Pos) -> Result<bool, MatrixError> {
        if !matches!(row.membership, Membership::Leave | Membership::Ban) {
            return Ok(false);
        }
        // Who forgets a room leaves it all the same.
        let row = MembershipRow {
            forgotten: false,
            ..*row
        };
        let end = access::end_of_stay(self.store, &self.viewer.user_id, &row).await?;
        Ok(end
            .and_then(|end| end.pos())
            .is_some_and(|left| left > after))
    }
}
