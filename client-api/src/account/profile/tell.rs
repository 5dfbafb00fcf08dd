//! Telling rooms of changed profiles: what a user's member events say is renewed in every room that they are in, after
//! the change was answered.
//!
//! What is to be told is written down with the change; a room that says so already is left alone, so that all of it may be
//! done again after a crash, and a room hears the newest only, however many changes there were on the way to it. A room that
//! somebody was about to join meanwhile, with the profile as it was, is told when they have come. One that can't be told is
//! remembered, and told later, so that it holds nobody up.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures_util::{FutureExt as _, StreamExt as _, stream};
use rhizome_federation::{Federation, local};
use rhizome_protocol::{Membership, Object, draft::Draft};
use rhizome_rooms::{Error, send::SendOptions};
use rhizome_storage::{
    Block, EntryKind, Failure, Lease, LogWork, MembershipRow, Pos, RoomNo, Store, StoredEvent,
    Stretch, Untold, UserNo,
};
use ruma::UserId;

use super::rooms::{changed, meanwhile};
use crate::MatrixError;

/// Rooms that are told at once, of one user.
const ROOMS_AT_ONCE: usize = 8;
/// Users whose rooms are told at once.
const USERS_AT_ONCE: usize = 4;
/// Attempts at one stretch of the log, before the rooms that can't be told are left for later.
const ATTEMPTS: u32 = 3;
/// For so long the others wait for one room.
const ROOM_PATIENCE: Duration = Duration::from_secs(10);
/// Attempts at a room in which the user does something at the same time.
const TURNS: usize = 4;
/// So many rooms that were left for later are told with one stretch of the log,
const LATER_AT_ONCE: usize = 32;
/// and so long after the last, at least.
const LATER_MS: i64 = 1_000;

/// Tells rooms, as the work of a [`LogReader`](rhizome_storage::LogReader).
pub struct TellProfiles {
    federation: Federation,
    /// When rooms that were left for later were told last, in milliseconds since 1970.
    later_ms: Mutex<i64>,
}

/// Whose profile a room is to be told, and of it what.
#[derive(Clone, Copy)]
enum News {
    /// What has changed after this position.
    After(Pos),
    /// What has changed while the user was about to join, which they have here.
    Joined(Pos),
}

/// What became of a room.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Told {
    /// It knows everything, or doesn't want to.
    Done,
    /// Something is wrong here.
    Failed,
    /// It took too long, or the user is kept from telling anybody anything.
    Later,
}

impl TellProfiles {
    /// Of all users here.
    pub fn new(federation: &Federation) -> Self {
        Self {
            federation: federation.clone(),
            later_ms: Mutex::default(),
        }
    }

    fn store(&self) -> &Store {
        self.federation.store()
    }

    /// Tells all rooms of a user what has changed after a position. Gives how many couldn't be told as something is
    /// wrong here; `last`: these are remembered, so that there are none.
    async fn tell(&self, user: UserNo, after: Pos, last: bool) -> Result<usize, MatrixError> {
        // Who has ended their account has nothing to tell.
        if self.store().profile_spreads(user, after).await?.is_empty() {
            return Ok(0);
        }
        let memberships = self.store().memberships_of(user).await?;
        let joined = memberships
            .iter()
            .filter(|row| row.membership == Membership::Join);
        let rooms: Vec<RoomNo> = joined.map(|row| row.room).collect();
        let mut told = stream::iter(rooms)
            .map(|room| async move {
                let told = self.tell_in_time((user, room), News::After(after)).await;
                (room, told)
            })
            .buffer_unordered(ROOMS_AT_ONCE);
        let mut failed = 0;
        while let Some((room, told)) = told.next().await {
            if told == Told::Later || (told == Told::Failed && last) {
                let since = after;
                let untold = Untold { user, room, since };
                self.store().remember_untold(untold).await?;
            } else {
                failed += usize::from(told == Told::Failed);
            }
        }
        Ok(failed)
    }

    async fn tell_in_time(&self, (user, room): (UserNo, RoomNo), news: News) -> Told {
        let telling = self.tell_room((user, room), news).boxed();
        match tokio::time::timeout(ROOM_PATIENCE, telling).await {
            Ok(Ok(true)) => Told::Done,
            Ok(Ok(false)) => Told::Later,
            Ok(Err(error)) => {
                tracing::warn!(%room, %error, "a room wasn't told of a new profile");
                if error.status.is_server_error() {
                    Told::Failed
                } else {
                    Told::Done
                }
            }
            Err(_) => {
                tracing::warn!(%room, "a room wasn't told of a new profile in time");
                Told::Later
            }
        }
    }

    /// `false`: not now.
    async fn tell_room(&self, whom: (UserNo, RoomNo), news: News) -> Result<bool, MatrixError> {
        let user_id = self.store().user(whom.0).await?;
        let shadowed = self.store().blocks().await?.user(&user_id);
        for _ in 0..TURNS {
            // What is so by now: the user may have changed it again, or left, since this began.
            let Some((event, content)) = self.to_tell(&user_id, whom, news).await? else {
                return Ok(true);
            };
            if shadowed {
                return Ok(false);
            }
            let draft = Draft {
                room_id: Some(event.pdu.room_id().to_owned()),
                sender: user_id.clone(),
                kind: "m.room.member".into(),
                state_key: Some(user_id.to_string()),
                content,
                redacts: None,
            };
            // Who leaves, or is put out, at this moment doesn't come back by it.
            let options = SendOptions {
                replaces: Some(event.pdu.event_id().to_owned()),
                ..SendOptions::default()
            };
            let sent = local::send(&self.federation, draft, options).await;
            match sent {
                Err(error) if error.status.as_u16() == Error::Replaced.status() => {}
                sent => return sent.map(|_| true),
            }
        }
        Err(Error::Contended.into())
    }

    /// The membership in a room, and what it is to say, if that is something else.
    async fn to_tell(
        &self,
        user_id: &UserId,
        (user, room): (UserNo, RoomNo),
        news: News,
    ) -> Result<Option<(Arc<StoredEvent>, Object)>, MatrixError> {
        let store = self.store();
        let spreads = match news {
            News::After(after) => store.profile_spreads(user, after).await?,
            News::Joined(at) => {
                let spreads = store.profile_spreads(user, Pos(0)).await?;
                let profile = store.profile(user_id).await?.unwrap_or_default();
                meanwhile(spreads, at, &profile)
            }
        };
        let row = store.membership(user, room).await?;
        let row = row.filter(|row| match news {
            News::After(_) => row.membership == Membership::Join,
            News::Joined(at) => is_new(row, at),
        });
        let Some(no) = row.and_then(|row| row.event) else {
            return Ok(None);
        };
        let Some(event) = store.event_by_no(no).await? else {
            return Ok(None);
        };
        let content = changed(event.pdu.content(), &spreads);
        Ok(content.map(|content| (event, content)))
    }

    /// Tells rooms that users have come into what has changed while they were about to.
    async fn tell_joined(&self, stretch: &Stretch) -> Result<(), MatrixError> {
        let mut joined = Vec::new();
        for entry in &stretch.entries {
            if let EntryKind::State(state) = &entry.kind
                && let Some((user, Membership::Join)) = state.member
            {
                joined.push((user, state.room, entry.pos));
            }
        }
        if joined.is_empty() {
            return Ok(());
        }
        let users = joined.iter().map(|(user, ..)| *user);
        let users = self.store().with_profile_spreads(users).await?;
        joined.retain(|(user, ..)| users.contains(user));
        let mut told = stream::iter(joined)
            .map(|(user, room, at)| async move {
                let told = self.tell_in_time((user, room), News::Joined(at)).await;
                // They have no name of their own for a room that they have just come into.
                let since = Pos(0);
                (Untold { user, room, since }, told)
            })
            .buffer_unordered(ROOMS_AT_ONCE);
        let (mut failed, last) = (0, stretch.failures >= ATTEMPTS);
        while let Some((untold, told)) = told.next().await {
            if told == Told::Later || (told == Told::Failed && last) {
                self.store().remember_untold(untold).await?;
            } else {
                failed += usize::from(told == Told::Failed);
            }
        }
        if failed > 0 {
            return Err(Error::Contended.into());
        }
        Ok(())
    }

    /// Whether users may tell others something again, whose rooms were left for later.
    async fn come_back(&self, stretch: &Stretch) -> Result<bool, MatrixError> {
        let mut some = false;
        for entry in &stretch.entries {
            if let EntryKind::Block(block) = &entry.kind
                && block.kind == Block::SHADOW
                && !block.blocked
                && let Ok(user_id) = UserId::parse(block.what.as_str())
                && let Some(user) = self.store().known_user(&user_id).await?
            {
                self.store().hasten_untold(user).await?;
                some = true;
            }
        }
        Ok(some)
    }

    /// Tells some of the rooms that were left for later. `at_once`: there are some that are to be told now.
    async fn tell_later(&self, at_once: bool) -> Result<(), MatrixError> {
        let now = self.store().clock().now_ms();
        {
            let mut last = self.later_ms.lock().unwrap_or_else(PoisonError::into_inner);
            if !at_once && (*last..*last + LATER_MS).contains(&now) {
                return Ok(());
            }
            *last = now;
        }
        loop {
            let untold = self.store().untold(LATER_AT_ONCE).await?;
            let all = untold.len() < LATER_AT_ONCE;
            let mut told = stream::iter(untold)
                .map(|untold| async move {
                    let Untold { user, room, since } = untold;
                    let told = self.tell_in_time((user, room), News::After(since)).await;
                    (untold, told)
                })
                .buffer_unordered(ROOMS_AT_ONCE);
            while let Some((untold, told)) = told.next().await {
                if told == Told::Done {
                    self.store().forget_untold(untold).await?;
                } else {
                    self.store().remember_untold(untold).await?;
                }
            }
            if all || !at_once {
                return Ok(());
            }
        }
    }
}

/// Whether somebody is joined by just what became so at this position.
fn is_new(row: &MembershipRow, at: Pos) -> bool {
    row.membership == Membership::Join && row.pos == at && row.since == at
}

impl LogWork for TellProfiles {
    async fn begin(&self, _: &Lease, done: Pos) -> Result<Pos, Failure> {
        if done > Pos(0) {
            return Ok(done);
        }
        let first = self.store().first_profile_spread().await?;
        let head = self.store().log().head();
        Ok(first.map_or(head, |first| Pos(first.0 - 1)))
    }

    async fn work(&self, stretch: &Stretch) -> Result<(), Failure> {
        let at_once = self.come_back(stretch).await?;
        self.tell_later(at_once).await?;
        self.tell_joined(stretch).await?;
        let users = stretch
            .entries
            .iter()
            .filter_map(|entry| match &entry.kind {
                EntryKind::ProfileSpread(spread) => Some(spread.user),
                _ => None,
            });
        let users: BTreeSet<UserNo> = users.collect();
        let last = stretch.failures >= ATTEMPTS;
        let mut told = stream::iter(users)
            .map(|user| self.tell(user, stretch.after, last).boxed())
            .buffer_unordered(USERS_AT_ONCE);
        let mut failed = 0;
        while let Some(one) = told.next().await {
            failed += one?;
        }
        if failed > 0 {
            return Err(format!("{failed} rooms weren't told of new profiles").into());
        }
        Ok(())
    }
}
