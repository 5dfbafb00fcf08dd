//! Whose devices a reader must look at again (client-server API, "Extensions to /sync" of
//! end-to-end encryption).

use std::collections::{BTreeSet, HashSet};

use rhizome_protocol::Membership;
use rhizome_rooms::access;
use rhizome_storage::{MembershipRow, Pos, RoomNo, UserNo};
use ruma::OwnedUserId;

use super::{room::Loader, window::Window};
use crate::MatrixError;

/// Up to this many users are asked one by one whether they share a room with the reader.
const MOST_ASKED: usize = 16;

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
        let mut met: HashSet<UserNo> = HashSet::new();
        let mut parted: HashSet<UserNo> = HashSet::new();
        let mut came = false;
        for row in rows {
            let here = row.membership == Membership::Join;
            let fresh = row.since > after;
            if !(here || fresh && self.was_joined_after(row, after).await?) {
                continue;
            }
            if fresh {
                let members = self.store.members(row.room, Some(Membership::Join)).await?;
                let group = if here { &mut met } else { &mut parted };
                group.extend(members.into_iter().map(|member| member.user));
                came |= here;
            }
            if let Some(room) = window.rooms.get(&row.room) {
                for one in self.moves(&room.members).await? {
                    let group = if one.to == Membership::Join {
                        &mut met
                    } else {
                        &mut parted
                    };
                    group.insert(one.user);
                }
            }
        }
        if met.is_empty() && parted.is_empty() && window.device_lists.is_empty() {
            return Ok((changed, left));
        }
        // Who comes into a room looks at their own other devices too, which the room's members send to from now on.
        if !came {
            met.remove(&self.viewer.user);
        }
        parted.remove(&self.viewer.user);
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

    /// Those of some users who share a room with the reader; the reader counts as one of them.
    async fn sharing(
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
