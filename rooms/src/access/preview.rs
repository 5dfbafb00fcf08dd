//! Who may be told what a room is without being in it: its name, its topic, how many are there.
//!
//! That is told to whoever is in the room or could come in, and to everybody where everybody may read
//! (<https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv1roomsroomidhierarchy>,
//! <https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv1room_summaryroomidoralias>).

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use rhizome_protocol::{Membership, RoomRules};
use rhizome_storage::{MembershipRow, RoomNo, RoomSummary, Store, UserNo};
use ruma::{OwnedRoomId, RoomId, ServerName};

use crate::error::Result;

/// How many rooms whose members may come in are looked at, of one room.
const MAX_ALLOWED: usize = 100;

/// How a room is open to those who aren't in it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Doors {
    /// Whether anybody may come in, or ask to.
    pub is_open: bool,
    /// Whether anybody may read without coming in.
    pub is_world_readable: bool,
    /// The rooms whose members may come in.
    pub allowed: Vec<OwnedRoomId>,
    /// Whether users of other servers may come in.
    pub federates: bool,
}

impl Doors {
    /// Of a room that we know.
    pub fn of(rules: &RoomRules, summary: &RoomSummary) -> Self {
        let (knock, restricted) = match summary.join_rule.as_deref() {
            Some("knock") => (rules.auth.knock, false),
            Some("restricted") => (false, rules.auth.restricted),
            Some("knock_restricted") => (rules.auth.knock_restricted, rules.auth.knock_restricted),
            _ => (false, false),
        };
        Self {
            is_open: knock || summary.join_rule.as_deref() == Some("public"),
            is_world_readable: summary.history_visibility.as_deref() == Some("world_readable"),
            allowed: if restricted {
                summary.allowed.iter().take(MAX_ALLOWED).cloned().collect()
            } else {
                Vec::new()
            },
            federates: summary.federate,
        }
    }

    /// Of a room of which another server tells us.
    pub fn told(join_rule: &str, is_world_readable: bool, allowed: &[OwnedRoomId]) -> Self {
        let is_restricted = ["restricted", "knock_restricted"].contains(&join_rule);
        Self {
            is_open: ["public", "knock", "knock_restricted"].contains(&join_rule),
            is_world_readable,
            allowed: if is_restricted {
                allowed.iter().take(MAX_ALLOWED).cloned().collect()
            } else {
                Vec::new()
            },
            federates: true,
        }
    }

    /// Whether anybody may know of the room, whoever they are.
    pub fn are_open_to_all(&self) -> bool {
        self.is_open || self.is_world_readable
    }
}

/// A user of ours, or somebody who doesn't say who they are, who looks at rooms from outside.
#[derive(Debug, Clone)]
pub struct Visitor {
    memberships: Arc<[MembershipRow]>,
    known: HashMap<OwnedRoomId, RoomNo>,
}

impl Visitor {
    /// A user.
    ///
    /// # Errors
    ///
    /// Those of the database.
    pub async fn load(store: &Store, user: UserNo) -> Result<Self> {
        // What another process has answered is known here too.
        store.log().refresh().await?;
        Ok(Self {
            memberships: store.memberships_of(user).await?,
            known: HashMap::new(),
        })
    }

    /// Nobody in particular.
    pub fn nobody() -> Self {
        Self {
            memberships: [].into(),
            known: HashMap::new(),
        }
    }

    /// Looks up what deciding on these rooms needs, in one query at most.
    ///
    /// # Errors
    ///
    /// Those of the database.
    pub async fn learn<'a>(
        &mut self,
        store: &Store,
        rooms: impl IntoIterator<Item = (&'a RoomId, &'a Doors)>,
    ) -> Result<()> {
        if self.memberships.is_empty() {
            return Ok(());
        }
        let mut unknown = HashSet::new();
        for (room, doors) in rooms {
            let ids = doors.allowed.iter().map(|id| &**id).chain([room]);
            unknown.extend(ids.filter(|id| !self.known.contains_key(*id)));
        }
        let unknown: Vec<OwnedRoomId> = unknown.into_iter().map(ToOwned::to_owned).collect();
        if !unknown.is_empty() {
            self.known.extend(store.known_rooms(&unknown).await?);
        }
        Ok(())
    }

    /// The user's membership in a room of which we have [learnt](Visitor::learn).
    pub fn membership(&self, room: &RoomId) -> Option<Membership> {
        let no = self.known.get(room)?;
        let found = self.memberships.binary_search_by_key(no, |row| row.room);
        found.ok().map(|index| self.memberships[index].membership)
    }

    /// Whether they may be told what a room is of which we have [learnt](Visitor::learn).
    pub fn may_preview(&self, room: &RoomId, doors: &Doors) -> bool {
        let is_joined = |room: &OwnedRoomId| self.membership(room) == Some(Membership::Join);
        may_preview(self.membership(room), doors, is_joined)
    }
}

/// The rule, pure.
fn may_preview(
    membership: Option<Membership>,
    doors: &Doors,
    is_joined: impl Fn(&OwnedRoomId) -> bool,
) -> bool {
    match membership {
        Some(Membership::Join | Membership::Invite) => true,
        // To them no door is open.
        Some(Membership::Ban) => doors.is_world_readable,
        Some(Membership::Leave | Membership::Knock) | None => {
            doors.are_open_to_all() || doors.allowed.iter().any(is_joined)
        }
    }
}

/// Of each of these rooms, which we are in: whether users of the server could come in, or are there, or invited. A
/// few queries, however many rooms.
///
/// # Errors
///
/// Those of the database.
pub async fn previews_for_server(
    store: &Store,
    us: &ServerName,
    server: &ServerName,
    rooms: &[(RoomNo, &Doors)],
) -> Result<Vec<bool>> {
    let closed = |doors: &Doors| !(doors.federates && doors.are_open_to_all());
    let unclear: Vec<&(RoomNo, &Doors)> = rooms.iter().filter(|(_, doors)| closed(doors)).collect();
    if unclear.is_empty() {
        return Ok(vec![true; rooms.len()]);
    }
    let allowed = unclear.iter().filter(|(_, doors)| doors.federates);
    let allowed: HashSet<&OwnedRoomId> = allowed.flat_map(|(_, doors)| &doors.allowed).collect();
    let allowed: Vec<OwnedRoomId> = allowed.into_iter().cloned().collect();
    let known = store.known_rooms(&allowed).await?;
    let allowed: Vec<RoomNo> = known.values().copied().collect();
    let mut asked: Vec<RoomNo> = unclear.iter().map(|(room, _)| *room).collect();
    asked.extend(&allowed);
    let theirs = store.rooms_with_server(server, &asked).await?;
    let theirs: HashSet<RoomNo> = theirs.into_iter().collect();
    // Of rooms that we have left we only know who was there then.
    let ours = store.rooms_with_server(us, &allowed).await?;
    let ours: HashSet<RoomNo> = ours.into_iter().collect();
    let left = unclear.iter().filter(|(room, _)| !theirs.contains(room));
    let left: Vec<RoomNo> = left.map(|(room, _)| *room).collect();
    let inviting = store.rooms_inviting(server, &left).await?;
    let inviting: HashSet<RoomNo> = inviting.into_iter().collect();
    let shared = |room: &OwnedRoomId| {
        let no = known.get(room);
        no.is_some_and(|no| theirs.contains(no) && ours.contains(no))
    };
    let may = rooms.iter().map(|(room, doors)| {
        !closed(doors)
            || theirs.contains(room)
            || inviting.contains(room)
            || (doors.federates && doors.allowed.iter().any(shared))
    });
    Ok(may.collect())
}

#[cfg(test)]
mod tests {
    use ruma::owned_room_id;

    use super::*;

    fn summary(join_rule: &str, visibility: &str) -> RoomSummary {
        RoomSummary {
            join_rule: Some(join_rule.into()),
            history_visibility: Some(visibility.into()),
            allowed: vec![owned_room_id!("!allowed:x")],
            ..RoomSummary::default()
        }
    }

    /// Whether a room of this kind is shown to: a member, an invited user, one who is banned, one who left, a stranger,
    /// a stranger who is in the allowed room.
    fn shown(version: &str, join_rule: &str, visibility: &str) -> String {
        let rules = RoomRules::named(version).unwrap();
        let doors = Doors::of(rules, &summary(join_rule, visibility));
        let memberships = [
            (Some(Membership::Join), false),
            (Some(Membership::Invite), false),
            (Some(Membership::Ban), true),
            (Some(Membership::Leave), false),
            (None, false),
            (None, true),
        ];
        let letters = memberships.map(|(membership, elsewhere)| {
            let may = may_preview(membership, &doors, |_| elsewhere);
            if may { 'x' } else { '-' }
        });
        letters.iter().collect()
    }

    #[test]
    fn who_is_or_may_come_in_is_told_and_who_may_read() {
        for (version, join_rule, visibility, expected) in [
            ("12", "public", "shared", "xx-xxx"),
            ("12", "invite", "shared", "xx----"),
            ("12", "private", "shared", "xx----"),
            ("12", "org.unknown", "shared", "xx----"),
            ("12", "invite", "world_readable", "xxxxxx"),
            ("12", "knock", "joined", "xx-xxx"),
            ("6", "knock", "joined", "xx----"),
            ("12", "restricted", "shared", "xx---x"),
            ("7", "restricted", "shared", "xx----"),
            ("12", "knock_restricted", "shared", "xx-xxx"),
            ("9", "knock_restricted", "shared", "xx----"),
        ] {
            assert_eq!(
                shown(version, join_rule, visibility),
                expected,
                "{join_rule} {visibility} in {version}"
            );
        }
    }

    #[test]
    fn what_another_server_says_of_its_doors_counts_for_its_rooms() {
        let allowed = [owned_room_id!("!allowed:x")];
        let doors = Doors::told("restricted", false, &allowed);
        assert!(!doors.are_open_to_all());
        assert!(may_preview(None, &doors, |room| *room == allowed[0]));
        let doors = Doors::told("invite", false, &allowed);
        assert!(!may_preview(None, &doors, |_| true));
        assert!(Doors::told("knock_restricted", false, &allowed).are_open_to_all());
    }
}
