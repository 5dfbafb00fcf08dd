//! Rows of current state and of what follows from it: members, and how many a server has.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use rhizome_protocol::Membership;

use super::decide::Known;
use super::gather::MemberChange;
use super::group::Uses;
use super::rows::{Maker, OldMember, Planned};
use crate::rooms::members::code;
use crate::{EventNo, Fact, KeyNo, Result, RoomNo, ServerNo, StateChange, UserNo};

/// A change of state at its offset, and the membership that it changes.
type Change = (i64, (RoomNo, StateChange, Option<MemberChange>));

impl Maker<'_> {
    pub(super) fn state(&mut self, known: &mut Known) -> Result<()> {
        let changes = self.planned(|planned| match planned {
            Planned::State { job, room, change } => {
                let job = self.job(*job)?;
                let write = job.set.rooms.get(*room)?;
                let member = job.gathered.rooms.get(*room)?.members.get(*change)?;
                let change = write.current.as_ref()?.changes.get(*change)?;
                Some((write.room, *change, *member))
            }
            _ => None,
        });
        let given = self.given();
        let mut rows = Vec::with_capacity(changes.len());
        let mut current: BTreeMap<(RoomNo, KeyNo), (Option<EventNo>, i64)> = BTreeMap::new();
        for (offset, (room, change, member)) in &changes {
            let user = member.map(|member| member.user);
            let what = member.map(|member| code(member.membership));
            rows.push((offset, room, change.key, change.old, change.new, user, what));
            current.insert((*room, change.key), (change.new, *offset));
        }
        for (offset, (room, change, _)) in &given {
            current.insert((*room, change.key), (change.new, *offset));
        }
        self.after(
            "INSERT INTO state_change (pos, room, state_key, old_event, new_event, member, membership) \
             SELECT CAST(value ->> 0 AS BIGINT) + $2, CAST(value ->> 1 AS BIGINT), \
             CAST(value ->> 2 AS BIGINT), CAST(value ->> 3 AS BIGINT), \
             CAST(value ->> 4 AS BIGINT), CAST(value ->> 5 AS BIGINT), \
             CAST(value ->> 6 AS BIGINT) FROM EACH($1)",
            &rows,
            Uses::Base,
        )?;
        let set: Vec<_> = current
            .iter()
            .filter_map(|((room, key), (event, offset))| Some((room, key, (*event)?, offset)))
            .collect();
        self.after(
            "INSERT INTO current_state (room, state_key, event, pos) \
             SELECT CAST(value ->> 0 AS BIGINT), CAST(value ->> 1 AS BIGINT), \
             CAST(value ->> 2 AS BIGINT), CAST(value ->> 3 AS BIGINT) + $2 FROM EACH($1) \
             WHERE true ON CONFLICT (room, state_key) \
             DO UPDATE SET event = excluded.event, pos = excluded.pos",
            &set,
            Uses::Base,
        )?;
        let gone: Vec<_> = current
            .iter()
            .filter(|(_, (event, _))| event.is_none())
            .map(|((room, key), _)| (room, key))
            .collect();
        self.after(
            "DELETE FROM current_state WHERE (room, state_key) IN (\
             SELECT CAST(value ->> 0 AS BIGINT), CAST(value ->> 1 AS BIGINT) FROM EACH($1))",
            &gone,
            Uses::Rows,
        )?;
        self.members(changes.iter().chain(&given), known)
    }

    /// What is given without positions of its own, at the last offset of its write.
    fn given(&self) -> Vec<Change> {
        let mut last: BTreeMap<(usize, usize), i64> = BTreeMap::new();
        for (offset, at) in self.planned(|planned| match planned {
            Planned::Event { job, room, .. } | Planned::State { job, room, .. } => {
                Some((*job, *room))
            }
            Planned::Restored { .. } | Planned::Fact { .. } => None,
        }) {
            last.insert(at, offset);
        }
        let mut given = Vec::new();
        for (index, job) in self.accepted {
            let writes = job.set.rooms.iter().zip(&job.gathered.rooms).enumerate();
            for (room, (write, gathered)) in writes {
                let offset = last.get(&(*index, room)).copied().unwrap_or_default();
                let changes = write.given.iter().zip(&gathered.given);
                given.extend(
                    changes.map(|(change, member)| (offset, (write.room, *change, *member))),
                );
            }
        }
        given
    }

    fn members<'c>(
        &mut self,
        changes: impl Iterator<Item = &'c Change>,
        known: &mut Known,
    ) -> Result<()> {
        let mut members = Members {
            old: self.found.members.clone(),
            rows: BTreeMap::new(),
            servers: BTreeMap::new(),
            overtaken: BTreeSet::new(),
        };
        for (offset, (room, change, member)) in changes {
            if let Some(member) = member {
                let head = known.rooms.get_mut(room).and_then(Option::as_mut);
                let counts = members.change(*room, *member, change.new, *offset);
                if let Some(head) = head {
                    head.joined += counts.0;
                    head.invited += counts.1;
                }
            }
        }
        for (offset, (user, room, new)) in self.planned(|planned| self.invite_of(planned)) {
            members.invite(user, room, new, offset);
        }
        let rows: Vec<_> = members
            .rows
            .iter()
            .map(|((user, room), row)| {
                let (since, since_offset) = row.since;
                let what = code(row.membership);
                (
                    user,
                    room,
                    what,
                    row.event,
                    row.offset,
                    since,
                    since_offset,
                    row.forgotten,
                )
            })
            .collect();
        self.after(
            "INSERT INTO membership (user_no, room, membership, event, pos, since, forgotten) \
             SELECT CAST(value ->> 0 AS BIGINT), CAST(value ->> 1 AS BIGINT), \
             CAST(value ->> 2 AS BIGINT), CAST(value ->> 3 AS BIGINT), \
             CAST(value ->> 4 AS BIGINT) + $2, \
             COALESCE(CAST(value ->> 5 AS BIGINT), CAST(value ->> 6 AS BIGINT) + $2), \
             CAST(value ->> 7 AS BIGINT) FROM EACH($1) WHERE true \
             ON CONFLICT (user_no, room) DO UPDATE SET membership = excluded.membership, \
             event = excluded.event, pos = excluded.pos, since = excluded.since, \
             forgotten = excluded.forgotten",
            &rows,
            Uses::Base,
        )?;
        let overtaken: Vec<_> = members.overtaken.iter().collect();
        self.after(
            "UPDATE invite SET gone = 1, stripped_state = '[]' WHERE (user_no, room) IN (\
             SELECT CAST(value ->> 0 AS BIGINT), CAST(value ->> 1 AS BIGINT) FROM EACH($1))",
            &overtaken,
            Uses::Rows,
        )?;
        let servers: Vec<_> = members
            .servers
            .iter()
            .filter(|(_, by)| **by != 0)
            .map(|((room, server), by)| (room, server, by))
            .collect();
        self.after(
            "INSERT INTO room_server (room, server, joined) \
             SELECT CAST(value ->> 0 AS BIGINT), CAST(value ->> 1 AS BIGINT), \
             CAST(value ->> 2 AS BIGINT) FROM EACH($1) WHERE true \
             ON CONFLICT (room, server) DO UPDATE SET joined = room_server.joined + excluded.joined",
            &servers,
            Uses::Rows,
        )
    }

    /// An invite or a knock that came or, as `None`, is gone.
    fn invite_of(&self, planned: &Planned) -> Option<(UserNo, RoomNo, Option<Membership>)> {
        let Planned::Fact { job, fact } = planned else {
            return None;
        };
        let job = self.job(*job)?;
        let room = (*job.gathered.fact_rooms.get(*fact)?)?;
        match job.set.facts.get(*fact)? {
            Fact::RemoteInvite {
                user, membership, ..
            } => Some((*user, room, Some(*membership))),
            Fact::RemoteInviteGone { user, .. } => Some((*user, room, None)),
            _ => None,
        }
    }
}

/// The memberships that change, in order; the last of each (user, room) is written.
struct Members {
    old: HashMap<(UserNo, RoomNo), OldMember>,
    rows: BTreeMap<(UserNo, RoomNo), MemberRow>,
    servers: BTreeMap<(RoomNo, ServerNo), i64>,
    /// Whose invite from outside is over: the room's own state speaks now.
    overtaken: BTreeSet<(UserNo, RoomNo)>,
}

struct MemberRow {
    membership: Membership,
    event: Option<EventNo>,
    offset: i64,
    /// A position of before, or an offset.
    since: (Option<i64>, Option<i64>),
    forgotten: i64,
}

impl Members {
    /// Gives the changes of the numbers of joined and invited members.
    fn change(
        &mut self,
        room: RoomNo,
        new: MemberChange,
        event: Option<EventNo>,
        offset: i64,
    ) -> (i64, i64) {
        let key = (new.user, room);
        let before = self.old.get(&key).copied();
        if before.is_some_and(|old| !old.counted) {
            self.overtaken.insert(key);
        }
        let counted = before.filter(|old| old.counted).map(|old| old.membership);
        let delta = |which| i64::from(new.membership == which) - i64::from(counted == Some(which));
        let (joined, invited) = (delta(Membership::Join), delta(Membership::Invite));
        *self.servers.entry((room, new.server)).or_default() += joined;
        self.put(key, before, new.membership, event, offset, true);
        (joined, invited)
    }

    fn invite(&mut self, user: UserNo, room: RoomNo, new: Option<Membership>, offset: i64) {
        let key = (user, room);
        let before = self.old.get(&key).copied();
        // We are in the room: its state says what the user's membership is.
        let is_ours = before.is_some_and(|old| {
            old.counted && matches!(old.membership, Membership::Join | Membership::Invite)
        });
        let is_invited = before
            .is_some_and(|old| matches!(old.membership, Membership::Invite | Membership::Knock));
        if is_ours || (new.is_none() && !is_invited) {
            return;
        }
        let membership = new.unwrap_or(Membership::Leave);
        self.put(key, before, membership, None, offset, false);
    }

    fn put(
        &mut self,
        key: (UserNo, RoomNo),
        before: Option<OldMember>,
        membership: Membership,
        event: Option<EventNo>,
        offset: i64,
        counted: bool,
    ) {
        let same = before.filter(|old| old.membership == membership);
        let since = match (same, self.rows.get(&key)) {
            (Some(_), Some(row)) => row.since,
            (Some(old), None) => (Some(old.since), None),
            (None, _) => (None, Some(offset)),
        };
        let forgotten = same.map_or(0, |old| old.forgotten);
        self.rows.insert(
            key,
            MemberRow {
                membership,
                event,
                offset,
                since,
                forgotten,
            },
        );
        let old = OldMember {
            membership,
            counted,
            since: since.0.unwrap_or_default(),
            forgotten,
        };
        self.old.insert(key, old);
    }
}
