//! Which rooms an answer has, and in which section.

use std::{collections::HashSet, sync::Arc};

use rhizome_protocol::Membership;
use rhizome_rooms::{access::Standing, state::stripped_keys};
use rhizome_storage::{AccountData, Logged, MembershipRow, Pos, RoomNo, Store, StoredEvent};
use ruma::{OwnedRoomId, RoomId, UserId};

use super::{News, Summons, left::of_outside, room::Loader, window::Window, write};
use crate::{
    MatrixError, account_data,
    place::token::Token,
    push::rules,
    view::{dress, filter, seen::Seen},
};

/// What is told of a room together with an event that invites somebody, or by which they knock: the state that says what it
/// is, without that event.
pub(crate) async fn told_with(
    store: &Store,
    own: &StoredEvent,
) -> Result<Vec<Arc<StoredEvent>>, MatrixError> {
    let Some(at) = own.state_before.or(own.state_after) else {
        return Ok(Vec::new());
    };
    let keys = stripped_keys(Some(own.pdu.sender()));
    let nos = store.state_entries(at, &keys).await?;
    let nos: Vec<_> = nos.into_iter().flatten().collect();
    let mut events = store.events_by_no(&nos).await?;
    events.retain(|event| event.no != own.no);
    Ok(events)
}

impl Loader<'_> {
    pub(super) async fn rooms(
        &self,
        rows: &[MembershipRow],
        window: &Window,
        next: Token,
    ) -> Result<News, MatrixError> {
        let mut news = News::at(next);
        let typing = self.typing(rows);
        let recounts = window.changes_counts();
        if self.after.is_none() {
            self.look_first(rows).await?;
        }
        let mut told = Vec::new();
        for row in rows {
            // Other devices of the user still have to hear that a forgotten room was left.
            let recent = self.after.is_some_and(|after| row.pos > after);
            if row.forgotten && !recent {
                continue;
            }
            let fresh = self.after.is_none_or(|after| row.since > after);
            let touched = fresh
                || recounts
                || window.rooms.contains_key(&row.room)
                || typing.contains(&row.room)
                || self.sticky.contains_key(&row.room);
            match row.membership {
                Membership::Join if touched || self.ask.full_state => {
                    let Some(room_id) = self.shown(row.room).await? else {
                        continue;
                    };
                    let mut part = self.joined(row, window.rooms.get(&row.room)).await?;
                    part.always |= recounts;
                    if !part.is_empty() {
                        told.push(row);
                        news.join.push((room_id, part));
                    }
                }
                Membership::Invite | Membership::Knock if fresh || recent => {
                    let Some(room_id) = self.wanted(row.room).await? else {
                        continue;
                    };
                    let Some(stripped) = self.stripped(row).await? else {
                        continue;
                    };
                    let event = self.summoning(row).await?;
                    let summons = Summons { stripped, event };
                    let list = if row.membership == Membership::Invite {
                        &mut news.invite
                    } else {
                        &mut news.knock
                    };
                    list.push((room_id, summons));
                }
                Membership::Leave | Membership::Ban
                    if fresh || window.rooms.contains_key(&row.room) =>
                {
                    let tell = match self.after {
                        None => {
                            let first = self.first.get();
                            self.ask.filter.room.include_leave
                                || first.is_some_and(|first| first.was_put_out(row.room))
                        }
                        Some(after) => row.pos > after,
                    };
                    if !tell || self.was_never_shown(row).await? {
                        continue;
                    }
                    let Some(room_id) = self.wanted(row.room).await? else {
                        continue;
                    };
                    news.leave.push((room_id, self.left(row).await?));
                }
                _ => {}
            }
        }
        let parts = news.join.iter_mut().chain(&mut news.leave);
        self.bundle(parts.map(|(_, part)| &mut part.timeline))
            .await?;
        let (user, upto) = (self.viewer.user, self.upto);
        let mut counts = self.counts.of(self.store, user, &told, upto).await?;
        for ((_, part), row) in news.join.iter_mut().zip(told) {
            part.unread = counts.remove(&row.room);
        }
        Ok(news)
    }

    /// A room that the reader is in, if it is to be told. Who wants all members of a room is told of it when they are known,
    /// as a whole.
    async fn shown(&self, room: RoomNo) -> Result<Option<OwnedRoomId>, MatrixError> {
        let Some(room_id) = self.wanted(room).await? else {
            return Ok(None);
        };
        let head = self.store.room_by_no(room).await?;
        let is_partial = head.is_some_and(|head| head.partial.is_some());
        let waits = is_partial && filter::wants_members(&self.ask.filter.room.state);
        Ok((!waits).then_some(room_id))
    }

    /// Rooms in which who types has changed since the reader's position.
    fn typing(&self, rows: &[MembershipRow]) -> HashSet<RoomNo> {
        if self.after.is_none() {
            return HashSet::new();
        }
        let rooms: Vec<RoomNo> = rows.iter().map(|row| row.room).collect();
        let changed = self.store.ephemeral().changed(&rooms, &self.heard);
        changed.into_iter().collect()
    }

    pub(super) async fn wanted(&self, room: RoomNo) -> Result<Option<OwnedRoomId>, MatrixError> {
        let room_id = self.store.room_id(room).await?;
        Ok(filter::room_wanted(&self.ask.filter.room, &room_id).then_some(room_id))
    }

    pub(super) async fn global_account_data(
        &self,
        window: &Window,
    ) -> Result<Vec<Arc<Logged<AccountData>>>, MatrixError> {
        let mut data: Vec<_> = if self.after.is_some() {
            window.account_data.clone()
        } else {
            let load = || {
                self.store
                    .account_data_since(self.viewer.user, Pos(0), self.upto)
            };
            let all = self.all_account_data.get_or_try_init(load).await?;
            all.iter()
                .filter(|data| data.room.is_none() && account_data::stands(data))
                .cloned()
                .collect()
        };
        data.retain(|data| filter::wants_global(&self.ask.filter.account_data, &data.kind));
        self.complete_push_rules(&mut data)?;
        Ok(data)
    }

    /// Push rules are told as they are in force: with the server's defaults of today, which are all
    /// there is for a user who never changed one. Clients wait for them in the first answer.
    fn complete_push_rules(
        &self,
        data: &mut Vec<Arc<Logged<AccountData>>>,
    ) -> Result<(), MatrixError> {
        let stored = data.iter().position(|data| data.kind == rules::KIND);
        let wanted = filter::wants_global(&self.ask.filter.account_data, rules::KIND);
        if stored.is_none() && (self.after.is_some() || !wanted) {
            return Ok(());
        }
        let stored = stored.map(|index| data.remove(index));
        data.push(Arc::new(Logged {
            pos: stored.as_ref().map_or(Pos(0), |stored| stored.pos),
            fact: AccountData {
                user: self.viewer.user,
                room: None,
                kind: rules::KIND.to_owned(),
                content: rules::account_data(&self.viewer.user_id, stored.as_deref())?,
            },
        }));
        Ok(())
    }

    /// The stripped state of a room that the reader is invited to or knocks on, as a JSON array.
    /// `None` for someone's invite that isn't wanted.
    pub(super) async fn stripped(
        &self,
        row: &MembershipRow,
    ) -> Result<Option<String>, MatrixError> {
        if let Some(invite) = self.store.remote_invite(self.viewer.user, row.room).await? {
            let shown = !self.hides_outside(&invite.sender, row.room).await?;
            return Ok(shown.then(|| write::remote_stripped(&invite)));
        }
        let Some(own) = row.event else {
            return Ok(None);
        };
        let Some(own) = self.store.event_by_no(own).await? else {
            return Ok(None);
        };
        if self.hides(own.pdu.sender(), own.pdu.room_id()) {
            return Ok(None);
        }
        let mut events = told_with(self.store, &own).await?;
        events.push(own);
        Ok(Some(write::stripped(&events)))
    }

    /// Whether the reader isn't shown invites of this user to a room; their own knocks they are.
    fn hides(&self, by: &UserId, room: &RoomId) -> bool {
        by != self.viewer.user_id && self.ignored.hides_invite_to(by, room)
    }

    /// The same for a room that this server isn't in.
    async fn hides_outside(&self, by: &UserId, room: RoomNo) -> Result<bool, MatrixError> {
        if by == self.viewer.user_id {
            return Ok(false);
        }
        self.ignored.hides_invite_into(self.store, by, room).await
    }

    /// Whether a room was left only in that an invite ended which the reader wasn't shown, so that they aren't told
    /// of that either. One that a client was perhaps shown before is told to have ended.
    async fn was_never_shown(&self, row: &MembershipRow) -> Result<bool, MatrixError> {
        if row.membership != Membership::Leave {
            return Ok(false);
        }
        let (store, user) = (self.store, &self.viewer.user_id);
        let Some(own) = row.event else {
            if self.after.is_some() {
                return Ok(false);
            }
            let ended = store
                .ended_remote_invite(self.viewer.user, row.room)
                .await?;
            return match ended {
                Some(ended) => self.hides_outside(&ended.sender, row.room).await,
                None => Ok(false),
            };
        };
        let own = store.event_by_no(own).await?;
        let Some(own) = own.filter(|own| self.hides(own.pdu.sender(), own.pdu.room_id())) else {
            return Ok(false);
        };
        let ended = match own.state_before {
            Some(before) => {
                store
                    .state_event(before, "m.room.member", user.as_str())
                    .await?
            }
            None => None,
        };
        let Some(ended) = ended.filter(|it| it.pdu.membership() == Some(Membership::Invite)) else {
            return Ok(false);
        };
        let before = |after: Pos| ended.pos().is_none_or(|pos| pos <= after);
        Ok(!self.after.is_some_and(before))
    }

    /// The event that invites the reader, or by which they knock.
    async fn summoning(&self, row: &MembershipRow) -> Result<Option<Seen>, MatrixError> {
        if let Some(invite) = self.store.remote_invite(self.viewer.user, row.room).await? {
            let event = of_outside(&invite, &[Membership::Invite, Membership::Knock]);
            let seen = dress::as_state(self.store, event.into_iter().collect()).await?;
            return Ok(seen.into_iter().next());
        }
        let own = match row.event {
            Some(own) => self.store.event_by_no(own).await?,
            None => None,
        };
        let own = own.into_iter().collect();
        let standing = Standing::left(row.membership, None);
        let seen = dress::visible(self.store, self.viewer, &standing, own).await?;
        Ok(seen.into_iter().next())
    }
}
