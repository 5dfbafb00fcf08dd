//! Invites to rooms that this server is not in, and knocks on them: one per (user, room), also when it is
//! gone, with what ended it. It is the user's membership of the room as well.

use std::collections::BTreeMap;
use std::sync::Arc;

use rhizome_protocol::{Membership, RoomRules};

use super::{Audience, Kind, LoggedKind, Stored};
use crate::engine::sql::statement::Statements;
use crate::engine::sql::{Columns as _, ReadRow, rows};
use crate::{Result, RoomNo, Store, UserNo};

/// A local user's invite to a room that this server is not in, or the user's knock on it.
#[derive(Debug, Clone)]
pub struct Invite {
    /// Who is invited, or knocks.
    pub user: UserNo,
    /// To which room.
    pub room: RoomNo,
    /// What becomes of it.
    pub change: InviteChange,
}

/// What becomes of an invite or a knock.
#[derive(Debug, Clone)]
pub enum InviteChange {
    /// It is there. Also makes that the user's membership.
    Came {
        /// `invite` or `knock`.
        membership: Membership,
        /// Who invites; of a knock, the user.
        sender: UserNo,
        /// The room's version.
        rules: &'static RoomRules,
        /// The invite event's JSON.
        event: Arc<str>,
        /// The stripped state: the text of a JSON array.
        stripped_state: Arc<str>,
        /// The room's state version that this was decided on, as this server isn't in it; `None`: nothing was known of it.
        expect: Option<i64>,
    },
    /// The invite is rejected or withdrawn, the knock denied or taken back. The user's membership becomes
    /// `leave`, unless they joined.
    Gone {
        /// The event's JSON that ended it: the room itself is unknown here, so nothing else tells of it.
        event: Arc<str>,
    },
}

/// An invite or a knock has come or is gone: what the log says of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InviteEntry {
    /// Whose.
    pub user: UserNo,
    /// To which room.
    pub room: RoomNo,
    /// Whether it is gone.
    pub gone: bool,
}

rows! {
    struct CameRow<'a> {
        user_no: UserNo,
        room: RoomNo,
        sender: UserNo,
        version: &'a RoomRules,
        event: &'a str,
        stripped_state: &'a str,
        gone: bool,
        pos: i64,
    }
}

rows! {
    struct GoneRow<'a> {
        user_no: UserNo,
        room: RoomNo,
        event: &'a str,
        pos: i64,
    }
}

/// What is stored of an invite that is gone: nobody is shown any more what the room is.
const NO_STATE: &str = "[]";

/// Rows by key: what comes later in a group takes the place of what came before.
#[derive(Default)]
struct InviteRows<'a> {
    came: BTreeMap<(UserNo, RoomNo), CameRow<'a>>,
    /// Invites from earlier groups.
    gone: BTreeMap<(UserNo, RoomNo), GoneRow<'a>>,
}

impl<'a> InviteRows<'a> {
    fn add(&mut self, pos: i64, invite: &'a Invite) {
        let (user_no, room) = (invite.user, invite.room);
        match &invite.change {
            InviteChange::Came {
                sender,
                rules,
                event,
                stripped_state,
                ..
            } => {
                let row = CameRow {
                    user_no,
                    room,
                    sender: *sender,
                    version: rules,
                    event,
                    stripped_state,
                    gone: false,
                    pos,
                };
                self.gone.remove(&(user_no, room));
                self.came.insert((user_no, room), row);
            }
            InviteChange::Gone { event } => {
                if let Some(row) = self.came.get_mut(&(user_no, room)) {
                    (row.gone, row.event, row.pos) = (true, event, pos);
                    row.stripped_state = NO_STATE;
                } else {
                    let row = GoneRow {
                        user_no,
                        room,
                        event,
                        pos,
                    };
                    self.gone.insert((user_no, room), row);
                }
            }
        }
    }
}

impl Kind for Invite {
    type Basis = ();

    fn outside_membership(&self) -> Option<(UserNo, RoomNo, Option<Membership>)> {
        let membership = match &self.change {
            InviteChange::Came { membership, .. } => Some(*membership),
            InviteChange::Gone { .. } => None,
        };
        Some((self.user, self.room, membership))
    }

    fn decided_on(&self) -> Option<(RoomNo, Option<i64>)> {
        match &self.change {
            InviteChange::Came { expect, .. } => Some((self.room, *expect)),
            InviteChange::Gone { .. } => None,
        }
    }

    fn write(facts: &[(i64, &Self)], (): &(), statements: &mut Statements) -> Result<()> {
        let mut rows = InviteRows::default();
        for (pos, invite) in facts {
            rows.add(*pos, invite);
        }
        statements.after(
            "INSERT INTO invite (user_no, room, sender, version, event, stripped_state, gone, pos) \
             SELECT user_no, room, sender, version, event, stripped_state, gone, pos + $2 \
             FROM ROWS($1) AS x WHERE true ON CONFLICT (user_no, room) DO UPDATE SET \
             sender = excluded.sender, version = excluded.version, event = excluded.event, \
             stripped_state = excluded.stripped_state, gone = excluded.gone, pos = excluded.pos",
            &rows.came.into_values().collect::<Vec<_>>(),
        )?;
        statements.after(
            "UPDATE invite SET gone = 1, event = x.event, stripped_state = '[]', pos = x.pos + $2 \
             FROM ROWS($1) AS x WHERE invite.user_no = x.user_no AND invite.room = x.room",
            &rows.gone.into_values().collect::<Vec<_>>(),
        )
    }
}

impl LoggedKind for Invite {
    type Entry = InviteEntry;

    fn entry(&self) -> InviteEntry {
        InviteEntry {
            user: self.user,
            room: self.room,
            gone: matches!(self.change, InviteChange::Gone { .. }),
        }
    }

    fn audience(entry: &InviteEntry) -> Audience {
        Audience::User(entry.user)
    }

    fn room(entry: &InviteEntry) -> Option<RoomNo> {
        Some(entry.room)
    }

    fn forget(entry: &InviteEntry, store: &Store) {
        store.core.caches.memberships.remove(&entry.user);
    }

    #[cfg(test)]
    fn sample(world: &super::tests::World) -> Self {
        Self {
            user: world.user,
            room: world.outside,
            change: InviteChange::Came {
                membership: Membership::Invite,
                sender: world.user,
                rules: world.rules,
                event: "{}".into(),
                stripped_state: "[]".into(),
                expect: None,
            },
        }
    }

    #[cfg(test)]
    async fn view(world: &super::tests::World, store: &Store) -> Result<String> {
        let memberships = store.memberships_of(world.user).await?;
        let invite = store.remote_invite(world.user, world.outside).await?;
        Ok(format!(
            "{memberships:?} {:?}",
            invite.map(|invite| invite.pos)
        ))
    }
}

impl Stored for InviteEntry {
    const TABLE: &'static str = "invite";
    const COLUMNS: &'static str = "pos, user_no, room, gone";

    fn read(row: &ReadRow) -> Result<Self> {
        Ok(Self {
            user: row.get("user_no")?,
            room: row.get("room")?,
            gone: row.get("gone")?,
        })
    }
}
