//! Finding who is to be told of what: the work of a reader of the log.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, PoisonError},
};

use rhizome_protocol::Membership;
use rhizome_storage::{
    About, DELIVERED, Entry, EntryKind, Failure, InviteEntry, Lease, LiveEvent, LogWork,
    MembershipRow, NewPush, Pos, RoomNo, StateChanged, StoredEvent, Stretch, UserNo,
};

use super::{
    invites::{event_of, of_invite},
    tell::Teller,
};
use crate::{
    App, MatrixError,
    push::{
        evaluate::Alert,
        wishes::{self, Shared},
    },
    sync::counts::{crowd::Crowd, event::Effect},
    view::ignored,
};

/// Members with pushers that are remembered, of all rooms; beyond it all are looked up anew.
const MAX_MEMBERS: usize = 1_000_000;
/// So much is written down at once, or what one event brings.
const AT_ONCE: usize = 5_000;
/// See the module.
pub struct FindPushes {
    app: App,
    teller: Arc<Teller>,
    reading: Mutex<Reading>,
}

/// What is known while this process reads.
#[derive(Default)]
struct Reading {
    lease: Option<Lease>,
    /// Who has pushers, or had.
    having: HashSet<UserNo>,
    /// Those of them who are in a room, and since when.
    rooms: HashMap<RoomNo, Arc<Members>>,
    /// How many that are.
    members: usize,
}

/// The members of a room who have pushers.
#[derive(Default, Clone)]
struct Members {
    /// Since when they are in it, by their numbers.
    since: HashMap<UserNo, Pos>,
    crowd: Crowd,
}

impl Reading {
    fn forget_rooms(&mut self) {
        self.rooms.clear();
        self.members = 0;
    }

    fn forget(&mut self, room: RoomNo) {
        if let Some(gone) = self.rooms.remove(&room) {
            self.members -= gone.since.len();
        }
    }

    /// A user who has pushers now may not have had any when these rooms of theirs were read.
    fn has_pushers(&mut self, user: UserNo, rooms: &[MembershipRow]) {
        self.having.insert(user);
        for row in rooms {
            let known = self.rooms.get(&row.room);
            if known.is_some_and(|members| !members.since.contains_key(&user)) {
                self.forget(row.room);
            }
        }
    }

    /// What a user wants to be notified of isn't what it was.
    fn has_rules(&mut self, user: UserNo, rules: &Arc<Shared>, rooms: &[MembershipRow]) {
        for row in rooms {
            if let Some(members) = self.rooms.get_mut(&row.room)
                && members.crowd.would_move(user, rules)
            {
                Arc::make_mut(members).crowd.move_to(user, rules);
            }
        }
    }
}

impl FindPushes {
    pub fn new(app: &App, teller: Arc<Teller>) -> Self {
        Self {
            app: app.clone(),
            teller,
            reading: Mutex::default(),
        }
    }

    fn reading<T>(&self, look: impl FnOnce(&mut Reading) -> T) -> T {
        look(&mut self.reading.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn has_pushers(&self, user: UserNo) -> bool {
        self.reading(|reading| reading.having.contains(&user))
    }

    /// What an entry of the log brings.
    async fn look(&self, entry: &Entry, found: &mut Vec<NewPush>) -> Result<(), MatrixError> {
        match &entry.kind {
            EntryKind::Pusher(set) => {
                self.teller.renew(&set.key());
                found.extend(set.ack.as_ref().map(|_| NewPush {
                    about: About::Activation,
                    ..badge(set.user, entry.pos, RoomNo(0))
                }));
                let rooms = self.app.store.memberships_of(set.user).await?;
                self.reading(|reading| reading.has_pushers(set.user, &rooms));
            }
            EntryKind::State(changed) => self.state(entry.pos, changed, found).await?,
            EntryKind::Event(live) => self.event(entry.pos, live, found).await?,
            EntryKind::Invite(invite) if !invite.gone => {
                found.extend(self.invite(entry.pos, invite).await?);
            }
            EntryKind::Invite(invite) if self.has_pushers(invite.user) => {
                found.push(badge(invite.user, entry.pos, invite.room));
            }
            EntryKind::Receipt(receipt)
                if receipt.kind != DELIVERED && self.has_pushers(receipt.user) =>
            {
                found.push(badge(receipt.user, entry.pos, receipt.room));
            }
            EntryKind::AccountData(data)
                if (wishes::are_in(data) || ignored::hides_invites(data))
                    && self.has_pushers(data.user) =>
            {
                if wishes::has_rules(data) {
                    self.rules(data.user).await?;
                }
                // Of no room: the number may rise, too.
                found.push(badge(data.user, entry.pos, RoomNo(0)));
            }
            _ => {}
        }
        Ok(())
    }

    /// A user's rules are set: in each room that is known they stand with those who have the same.
    async fn rules(&self, user: UserNo) -> Result<(), MatrixError> {
        let store = &self.app.store;
        let wishes = self.app.sync.counts.wishes(store, user).await?;
        let rooms = store.memberships_of(user).await?;
        self.reading(|reading| reading.has_rules(user, &wishes.rules, &rooms));
        Ok(())
    }

    /// Somebody comes, goes, or is invited.
    async fn state(
        &self,
        pos: Pos,
        changed: &StateChanged,
        found: &mut Vec<NewPush>,
    ) -> Result<(), MatrixError> {
        let Some((user, membership)) = changed.member else {
            return Ok(());
        };
        if !self.has_pushers(user) {
            return Ok(());
        }
        self.reading(|reading| reading.forget(changed.room));
        match (membership, changed.new) {
            // Who is invited isn't among the members who are asked about the event.
            (Membership::Invite, Some(event)) => {
                let event = self.app.store.event_by_no(event).await?;
                if let Some(event) = event {
                    let (store, counting) = (&self.app.store, &self.app.sync.counts);
                    let effects = counting.effects(store, &[user], &event).await?;
                    add(pos, &event, effects, found);
                }
            }
            (Membership::Join, _) if changed.old.is_none() => {}
            // An invite is answered, or a room and what is unread of it is gone.
            _ => found.push(badge(user, pos, changed.room)),
        }
        Ok(())
    }

    async fn event(
        &self,
        pos: Pos,
        live: &LiveEvent,
        found: &mut Vec<NewPush>,
    ) -> Result<(), MatrixError> {
        let members = self.members(live.room).await?;
        let (store, counting) = (&self.app.store, &self.app.sync.counts);
        let mut effects = counting
            .effects_on(store, &members.crowd, &live.event)
            .await?;
        effects.retain(|(user, _)| members.since.get(user).is_some_and(|since| *since <= pos));
        add(pos, &live.event, effects, found);
        Ok(())
    }

    /// An invite to a room that this server isn't in.
    async fn invite(&self, pos: Pos, entry: &InviteEntry) -> Result<Option<NewPush>, MatrixError> {
        if !self.has_pushers(entry.user) {
            return Ok(None);
        }
        let store = &self.app.store;
        let Some(invite) = store.remote_invite(entry.user, entry.room).await? else {
            return Ok(None);
        };
        let wishes = self.app.sync.counts.wishes(store, entry.user).await?;
        let Some(event) = event_of(&invite) else {
            return Ok(None);
        };
        if store.blocks().await?.room(event.room_id()) {
            return Ok(None);
        }
        let highlight = match of_invite(&event, &wishes) {
            Alert::Silent => return Ok(None),
            Alert::Notify => false,
            Alert::Highlight => true,
        };
        Ok(Some(NewPush {
            about: About::Invite,
            highlight,
            ..badge(entry.user, pos, entry.room)
        }))
    }

    /// The members of a room who have pushers.
    async fn members(&self, room: RoomNo) -> Result<Arc<Members>, MatrixError> {
        let known = self.reading(|reading| {
            let nobody = reading.having.is_empty().then(Arc::default);
            nobody.or_else(|| reading.rooms.get(&room).cloned())
        });
        if let Some(known) = known {
            return Ok(known);
        }
        let (store, counting) = (&self.app.store, &self.app.sync.counts);
        let since: HashMap<UserNo, Pos> = store
            .members_with_pushers(room)
            .await?
            .into_iter()
            .collect();
        let users: Vec<UserNo> = since.keys().copied().collect();
        let crowd = counting.crowd(store, &users).await?;
        let members = Arc::new(Members { since, crowd });
        self.reading(|reading| {
            if reading.members + members.since.len() + 1 > MAX_MEMBERS {
                reading.forget_rooms();
            }
            reading.forget(room);
            reading.members += members.since.len();
            reading.rooms.insert(room, members.clone());
        });
        Ok(members)
    }

    /// Writes down what was found up to there, and has it told.
    async fn write(&self, upto: Pos, found: &mut Vec<NewPush>) -> Result<(), Failure> {
        let Some(lease) = self.reading(|reading| reading.lease.clone()) else {
            return Ok(());
        };
        let queued = self.app.store.queue_pushes(&lease, upto, found).await?;
        found.clear();
        for key in queued.unwrap_or_default() {
            self.teller.ring(key, &lease);
        }
        Ok(())
    }
}

impl LogWork for FindPushes {
    /// What was there before anybody could be told isn't told any more. That nothing is written down yet doesn't say
    /// that nobody could be: whoever read before us may have ended before it was.
    async fn begin(&self, lease: &Lease, done: Pos) -> Result<Pos, Failure> {
        let store = &self.app.store;
        let head = store.log().head();
        let from = match done {
            Pos(0) => {
                let first = store.first_pusher().await?;
                first.map_or(head, |first| Pos(first.0 - 1))
            }
            done => done,
        };
        let having = store.users_with_pushers().await?;
        self.reading(|reading| {
            *reading = Reading {
                lease: Some(lease.clone()),
                having: having.into_iter().collect(),
                ..Reading::default()
            };
        });
        self.teller.ring_all(lease).await?;
        Ok(from)
    }

    async fn work(&self, stretch: &Stretch) -> Result<(), Failure> {
        let mut found = Vec::new();
        for entry in &stretch.entries {
            self.look(entry, &mut found).await?;
            if found.len() >= AT_ONCE {
                self.write(entry.pos, &mut found).await?;
            }
        }
        if !found.is_empty() {
            self.write(stretch.upto, &mut found).await?;
        }
        Ok(())
    }
}

/// What an event does to users is to be told.
fn add(pos: Pos, event: &StoredEvent, effects: Vec<(UserNo, Effect)>, found: &mut Vec<NewPush>) {
    found.extend(effects.into_iter().map(|(user, effect)| {
        let recounted = badge(user, pos, event.room);
        match effect {
            Effect::Recounts { may_rise: true } => badge(user, pos, RoomNo(0)),
            Effect::Recounts { may_rise: false } => recounted,
            Effect::Notifies { highlight } => NewPush {
                about: About::Event(event.no),
                highlight,
                ..recounted
            },
        }
    }));
}

/// Only the number of what is unread may have changed.
fn badge(user: UserNo, pos: Pos, room: RoomNo) -> NewPush {
    NewPush {
        user,
        pos,
        room,
        about: About::Badge,
        highlight: false,
    }
}
