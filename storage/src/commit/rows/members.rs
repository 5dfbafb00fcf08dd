//! Rows of current state and of what follows from it: members, and how many a server has.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use rhizome_protocol::Membership;

use super::servers::{self, Moves};
use super::{Maker, OldMember, Planned};
use crate::commit::decide::GroupState;
use crate::commit::gather::MemberChange;
use crate::engine::sql::rows;
use crate::{EventNo, Fact, KeyNo, Result, RoomNo, RoomWrite, ServerNo, StateChange, UserNo};

/// A change of state at its offset, and the membership that it changes.
type PlacedChange = (i64, (RoomNo, StateChange, Option<MemberChange>));

impl Maker<'_> {
    pub(super) fn state(&mut self, known: &mut GroupState) -> Result<()> {
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
        let (given, begun) = self.given();
        let rows: Vec<_> = (changes.iter())
            .map(|(pos, (room, change, member))| ChangeRow {
                pos: *pos,
                room: *room,
                state_key: change.key,
                old_event: change.old,
                new_event: change.new,
                member: member.map(|member| member.user),
                membership: member.map(|member| member.membership),
            })
            .collect();
        self.plan.statements.after(
            "INSERT INTO state_change (pos, room, state_key, old_event, new_event, member, membership) \
             SELECT pos + $2, room, state_key, old_event, new_event, member, membership \
             FROM ROWS($1) AS x",
            &rows,
        )?;
        self.current_state(changes.iter().chain(&given))?;
        // A server that was there when we came in was there before whoever came in with us.
        let given = given.iter().map(|change| (change, begun.get(&change.1.0)));
        let changes = changes.iter().map(|change| (change, None));
        self.members(changes.chain(given), known)
    }

    /// What each entry of the rooms' states is after the group.
    fn current_state<'c>(&mut self, changes: impl Iterator<Item = &'c PlacedChange>) -> Result<()> {
        let mut current: BTreeMap<(RoomNo, KeyNo), (Option<EventNo>, i64, bool)> = BTreeMap::new();
        for (pos, (room, change, member)) in changes {
            let last = (change.new, *pos, member.is_some());
            current.insert((*room, change.key), last);
        }
        let (mut set, mut gone) = (Vec::new(), Vec::new());
        for ((room, state_key), (event, pos, member)) in current {
            match event {
                Some(event) => set.push(StateRow {
                    room,
                    state_key,
                    event,
                    pos,
                    member,
                }),
                None => gone.push(GoneRow { room, state_key }),
            }
        }
        self.plan.statements.after(
            "INSERT INTO current_state (room, state_key, event, pos, member) \
             SELECT room, state_key, event, pos + $2, member FROM ROWS($1) AS x WHERE true \
             ON CONFLICT (room, state_key) DO UPDATE SET event = excluded.event, pos = excluded.pos",
            &set,
        )?;
        self.plan.statements.after(
            "DELETE FROM current_state WHERE (room, state_key) IN \
             (SELECT room, state_key FROM ROWS($1) AS x)",
            &gone,
        )
    }

    /// What is given without positions of its own, at the last offset of its write; and the first of each room's.
    fn given(&self) -> (Vec<PlacedChange>, BTreeMap<RoomNo, i64>) {
        let mut ends: BTreeMap<(usize, usize), (i64, i64)> = BTreeMap::new();
        for (offset, at) in self.planned(|planned| match planned {
            Planned::Event { job, room, .. } | Planned::State { job, room, .. } => {
                Some((*job, *room))
            }
            Planned::Restored { .. } | Planned::Fact { .. } => None,
        }) {
            ends.entry(at).or_insert((offset, offset)).1 = offset;
        }
        // Those of a room that is completed come when it is said that they are known.
        for (offset, at) in self.planned(|planned| self.members_known(planned)) {
            ends.insert(at, (offset, offset));
        }
        let (mut given, mut begun) = (Vec::new(), BTreeMap::new());
        for (index, job) in self.accepted {
            let writes = job.set.rooms.iter().zip(&job.gathered.rooms).enumerate();
            for (room, (write, gathered)) in writes {
                let (first, offset) = ends.get(&(*index, room)).copied().unwrap_or_default();
                let changes = write.given.iter().zip(&gathered.given);
                given.extend(
                    changes.map(|(change, member)| (offset, (write.room, *change, *member))),
                );
                if !write.given.is_empty() {
                    begun.insert(write.room, first);
                }
            }
        }
        (given, begun)
    }

    /// The write whose room's members this says are known.
    fn members_known(&self, planned: &Planned) -> Option<(usize, usize)> {
        let Planned::Fact { job, fact } = *planned else {
            return None;
        };
        let set = &self.job(job)?.set;
        let Fact::MembersKnown(known) = set.facts.get(fact)? else {
            return None;
        };
        let of = |write: &RoomWrite| write.room == known.room && write.completes().is_some();
        Some((job, set.rooms.iter().position(of)?))
    }

    fn members<'c>(
        &mut self,
        changes: impl Iterator<Item = (&'c PlacedChange, Option<&'c i64>)>,
        known: &mut GroupState,
    ) -> Result<()> {
        let mut members = Members {
            old: self.found.members.clone(),
            rows: BTreeMap::new(),
            servers: BTreeMap::new(),
            overtaken: BTreeSet::new(),
        };
        for ((offset, (room, change, member)), begun) in changes {
            if let Some(member) = member {
                let head = known.rooms.get_mut(room).and_then(Option::as_mut);
                let counts = members.change(
                    *room,
                    *member,
                    change.new,
                    (*offset, *begun.unwrap_or(offset)),
                );
                if let Some(head) = head {
                    head.joined += counts.0;
                    head.invited += counts.1;
                }
            }
        }
        for (offset, (user, room, new)) in self.planned(|planned| self.invite_of(planned)) {
            members.invite(user, room, new, offset);
        }
        members.write(self)
    }

    /// An invite or a knock that came or, as `None`, is gone.
    fn invite_of(&self, planned: &Planned) -> Option<(UserNo, RoomNo, Option<Membership>)> {
        let Planned::Fact { job, fact } = planned else {
            return None;
        };
        self.job(*job)?.set.facts.get(*fact)?.outside_membership()
    }
}

/// The memberships that change, in order; the last of each (user, room) is written.
struct Members {
    old: HashMap<(UserNo, RoomNo), OldMember>,
    rows: BTreeMap<(UserNo, RoomNo), NewMember>,
    servers: BTreeMap<(RoomNo, ServerNo), Moves>,
    /// Whose invite from outside is over: the room's own state speaks now.
    overtaken: BTreeSet<(UserNo, RoomNo)>,
}

struct NewMember {
    membership: Membership,
    event: Option<EventNo>,
    offset: i64,
    /// A position of before, or an offset.
    since: (Option<i64>, Option<i64>),
    forgotten: bool,
}

rows! {
    struct ChangeRow {
        pos: i64,
        room: RoomNo,
        state_key: KeyNo,
        old_event: Option<EventNo>,
        new_event: Option<EventNo>,
        member: Option<UserNo>,
        membership: Option<Membership>,
    }
}

rows! {
    struct StateRow {
        room: RoomNo,
        state_key: KeyNo,
        event: EventNo,
        pos: i64,
        member: bool,
    }
}

rows! {
    struct GoneRow {
        room: RoomNo,
        state_key: KeyNo,
    }
}

rows! {
    struct MemberRow {
        user_no: UserNo,
        room: RoomNo,
        membership: Membership,
        event: Option<EventNo>,
        pos: i64,
        since: Option<i64>,
        since_offset: Option<i64>,
        forgotten: bool,
    }
}

rows! {
    struct InviteRow {
        user_no: UserNo,
        room: RoomNo,
    }
}

impl Members {
    fn write(&self, maker: &mut Maker<'_>) -> Result<()> {
        let rows: Vec<_> = (self.rows.iter())
            .map(|((user_no, room), new)| MemberRow {
                user_no: *user_no,
                room: *room,
                membership: new.membership,
                event: new.event,
                pos: new.offset,
                since: new.since.0,
                since_offset: new.since.1,
                forgotten: new.forgotten,
            })
            .collect();
        maker.plan.statements.after(
            "INSERT INTO membership (user_no, room, membership, event, pos, since, forgotten) \
             SELECT user_no, room, membership, event, pos + $2, \
             COALESCE(since, since_offset + $2), forgotten FROM ROWS($1) AS x WHERE true \
             ON CONFLICT (user_no, room) DO UPDATE SET membership = excluded.membership, \
             event = excluded.event, pos = excluded.pos, since = excluded.since, \
             forgotten = excluded.forgotten",
            &rows,
        )?;
        let overtaken: Vec<_> = (self.overtaken.iter())
            .map(|(user_no, room)| InviteRow {
                user_no: *user_no,
                room: *room,
            })
            .collect();
        maker.plan.statements.after(
            "UPDATE invite SET gone = 1, stripped_state = '[]' WHERE (user_no, room) IN \
             (SELECT user_no, room FROM ROWS($1) AS x)",
            &overtaken,
        )?;
        servers::write(&self.servers, maker)
    }

    /// Gives the changes of the numbers of joined and invited members. `begun`: since when the member's server is there,
    /// if it comes with this.
    fn change(
        &mut self,
        room: RoomNo,
        new: MemberChange,
        event: Option<EventNo>,
        (offset, begun): (i64, i64),
    ) -> (i64, i64) {
        let key = (new.user, room);
        let before = self.old.get(&key).copied();
        if before.is_some_and(|old| !old.counted) {
            self.overtaken.insert(key);
        }
        let counted = before.filter(|old| old.counted).map(|old| old.membership);
        let delta = |which| i64::from(new.membership == which) - i64::from(counted == Some(which));
        let (joined, invited) = (delta(Membership::Join), delta(Membership::Invite));
        if joined != 0 {
            let moves = self.servers.entry((room, new.server)).or_default();
            moves.add(joined, begun);
        }
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
        let forgotten = same.is_some_and(|old| old.forgotten);
        self.rows.insert(
            key,
            NewMember {
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
