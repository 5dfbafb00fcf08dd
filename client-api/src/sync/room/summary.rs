//! Who is in a room, told when that changed.

use std::collections::{BTreeMap, HashMap};

use rhizome_protocol::Membership;
use rhizome_storage::{EventNo, RoomNo, UserNo};
use ruma::OwnedUserId;

use crate::MatrixError;
use crate::sync::{
    room::Loader,
    window::{MemberChange, RoomWindow},
};

/// How many users a nameless room is named by.
pub(super) const HEROES: usize = 5;

/// Of so many changes nobody looks whether they come to anything.
pub(in crate::sync) const MANY: usize = 200;

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

/// A membership that became another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::sync) struct Move {
    /// Whose.
    pub user: UserNo,
    pub(in crate::sync) from: Membership,
    /// What it became.
    pub to: Membership,
}

impl Move {
    /// How many more there are of a kind.
    fn more(self, of: Membership) -> i64 {
        i64::from(self.to == of) - i64::from(self.from == of)
    }

    /// Whether it changes who may stand for the room's name.
    fn is_of_present(self) -> bool {
        let present = |membership| matches!(membership, Membership::Join | Membership::Invite);
        present(self.from) || present(self.to)
    }
}

/// What some moves, ascending, come to for each user, if to anything.
fn ends(moves: &[Move]) -> Vec<Move> {
    let mut users: BTreeMap<UserNo, Move> = BTreeMap::new();
    for one in moves {
        users.entry(one.user).or_insert(*one).to = one.to;
    }
    let mut ends: Vec<Move> = users.into_values().collect();
    ends.retain(|one| one.from != one.to);
    ends
}

impl Loader<'_> {
    /// Who is in the room: for whoever is told the `whole` of it, else if it has changed.
    pub(in crate::sync) async fn summary(
        &self,
        room: RoomNo,
        whole: bool,
        window: &RoomWindow,
    ) -> Result<Option<Summary>, MatrixError> {
        let whole = whole || window.members.len() > MANY || window.completed.is_some();
        let moves = if whole {
            Vec::new()
        } else {
            ends(&self.moves(&window.members).await?)
        };
        let renamed = !whole && self.may_be_renamed(window).await?;
        if !(whole || renamed) && moves.is_empty() {
            return Ok(None);
        }
        let named = self.store.room_summary(room).await?.is_named();
        let mut heroes = Vec::new();
        if !named {
            if let Some(known) = self.first.get().and_then(|first| first.heroes(room)) {
                heroes.extend_from_slice(known);
            } else {
                let members = self.store.heroes(room, self.viewer.user, HEROES).await?;
                heroes.extend(members.iter().map(|member| member.user));
            }
        }
        let other_heroes = moves
            .iter()
            .any(|one| one.is_of_present() || heroes.contains(&one.user));
        let other_counts = [Membership::Join, Membership::Invite]
            .iter()
            .any(|kind| moves.iter().map(|one| one.more(*kind)).sum::<i64>() != 0);
        let changed = whole || other_counts || (!named && (renamed || other_heroes));
        if !changed {
            return Ok(None);
        }
        let counts = self.store.member_counts(room).await?;
        let heroes = if named {
            None
        } else {
            Some(self.store.users(&heroes).await?)
        };
        Ok(Some(Summary {
            heroes,
            joined: counts.joined,
            invited: counts.invited,
        }))
    }

    /// The changes by which memberships became others: a change of profile is none.
    pub(in crate::sync) async fn moves(
        &self,
        changes: &[MemberChange],
    ) -> Result<Vec<Move>, MatrixError> {
        let looked_at = if changes.len() > MANY { &[] } else { changes };
        let olds: Vec<EventNo> = looked_at.iter().filter_map(|change| change.old).collect();
        let olds = self.store.events_by_no(&olds).await?;
        let olds: HashMap<EventNo, Option<Membership>> = olds
            .iter()
            .map(|event| (event.no, event.pdu.membership()))
            .collect();
        let moves = changes.iter().map(|change| Move {
            user: change.user,
            from: change
                .old
                .and_then(|old| *olds.get(&old)?)
                .unwrap_or(Membership::Leave),
            to: change.membership,
        });
        let unseen = changes.len() > MANY;
        Ok(moves.filter(|one| unseen || one.from != one.to).collect())
    }

    /// Whether what names a room changed: one that lost its name is named by its members.
    async fn may_be_renamed(&self, window: &RoomWindow) -> Result<bool, MatrixError> {
        if window.changes.is_empty() {
            return Ok(false);
        }
        let keys = [("m.room.name", ""), ("m.room.canonical_alias", "")];
        let keys = self.store.known_keys(&keys).await?;
        let mut changed = window.changes.iter().map(|change| Some(change.key));
        Ok(changed.any(|key| keys.contains(&key)))
    }
}
