//! What users have set up for a room goes along when it is upgraded (client-server API, "Room Upgrades"): push rules
//! and tags.
//!
//! A reader of the log does it, whoever upgraded the room and whichever came first, the tombstone or the users. Only
//! where both rooms name each other: else anybody could make a room that takes another's place.

use std::sync::Arc;

use rhizome_protocol::Membership;
use rhizome_storage::{
    AccountData, CommitError, DataChange, EntryKind, Fact, Failure, Lease, LiveEvent, LogWork, Pos,
    RoomNo, Store, StoredEvent, Stretch, UserNo,
};
use ruma::{OwnedRoomId, OwnedServerName, OwnedUserId, RoomId, UserId};

use crate::{MatrixError, account::tags, account_data, push::rules};

/// Users of a room who are looked at together.
const TOGETHER: usize = 500;
/// Attempts at one stretch.
const ATTEMPTS: u32 = 3;

/// Carries settings over, as the work of a [`rhizome_storage::LogReader`].
#[derive(Debug)]
pub struct CarrySettings {
    store: Store,
    server: OwnedServerName,
}

/// A room and what it replaces.
struct Upgrade {
    old: RoomNo,
    old_id: OwnedRoomId,
    new: RoomNo,
    new_id: OwnedRoomId,
}

impl CarrySettings {
    /// For the users of `server`.
    pub fn new(store: &Store, server: OwnedServerName) -> Self {
        Self {
            store: store.clone(),
            server,
        }
    }

    /// Somebody has come into a room.
    async fn joined(&self, event: &StoredEvent) -> Result<(), MatrixError> {
        let user_id = event
            .pdu
            .state_key()
            .and_then(|key| UserId::parse(key).ok());
        let user_id = user_id.filter(|user_id| user_id.server_name() == self.server);
        let (Some(user_id), Some(Membership::Join)) = (user_id, event.pdu.membership()) else {
            return Ok(());
        };
        let Some(user) = self.store.known_user(&user_id).await? else {
            return Ok(());
        };
        // A change of name isn't coming.
        let row = self.store.membership(user, event.room).await?;
        let came = event.pos().unwrap_or(Pos(i64::MAX));
        let stay = row.filter(|row| row.membership == Membership::Join && came <= row.since);
        if stay.is_none() {
            return Ok(());
        }
        match self.upgrade_to(event.room).await? {
            Some(upgrade) => self.carry(&upgrade, &[(user, user_id)]).await,
            None => Ok(()),
        }
    }

    /// A room says what replaces it.
    async fn replaced(&self, event: &StoredEvent) -> Result<(), MatrixError> {
        let replacement = event.pdu.content().get("replacement_room");
        let replacement = replacement.and_then(|id| RoomId::parse(id.as_str()?).ok());
        let Some(replacement) = replacement.filter(|_| event.pdu.state_key() == Some("")) else {
            return Ok(());
        };
        let Some(new) = self.store.known_room(&replacement).await? else {
            return Ok(());
        };
        let upgrade = self.upgrade_to(new).await?;
        let Some(upgrade) = upgrade.filter(|upgrade| upgrade.old == event.room) else {
            return Ok(());
        };
        let mut after = UserNo(0);
        loop {
            let page = self.store.joined_here(new, &self.server, after, TOGETHER);
            let users: Vec<UserNo> = page.await?.into_iter().map(|(user, _)| user).collect();
            let Some(last) = users.last() else {
                return Ok(());
            };
            after = *last;
            let names = self.store.users(&users).await?;
            let users: Vec<_> = users.into_iter().zip(names).collect();
            self.carry(&upgrade, &users).await?;
        }
    }

    /// What a room replaces, if that says so, too.
    async fn upgrade_to(&self, new: RoomNo) -> Result<Option<Upgrade>, MatrixError> {
        let Some(head) = self.store.room_by_no(new).await? else {
            return Ok(None);
        };
        let Some(at) = head.snapshot else {
            return Ok(None);
        };
        let create = self.store.state_event(at, "m.room.create", "").await?;
        let old_id = create.as_ref().and_then(|create| {
            let predecessor = create.pdu.content().get("predecessor")?;
            RoomId::parse(predecessor.get("room_id")?.as_str()?).ok()
        });
        let Some(old_id) = old_id else {
            return Ok(None);
        };
        let Some(old) = self.store.known_room(&old_id).await? else {
            return Ok(None);
        };
        let summary = self.store.room_summary(old).await?;
        let mutual = old != new && summary.replacement.as_deref() == Some(head.room_id.as_str());
        Ok(mutual.then(|| Upgrade {
            old,
            old_id,
            new,
            new_id: head.room_id.clone(),
        }))
    }

    async fn carry(
        &self,
        upgrade: &Upgrade,
        users: &[(UserNo, OwnedUserId)],
    ) -> Result<(), MatrixError> {
        let numbers: Vec<UserNo> = users.iter().map(|(user, _)| *user).collect();
        let data = self.store.notifying(&numbers).await?;
        for ((user, user_id), data) in users.iter().zip(data) {
            let of_room = |rules: &AccountData| rules.content.contains(upgrade.old_id.as_str());
            if data.rules.as_ref().is_some_and(|rules| of_room(rules)) {
                let (old, new) = (&*upgrade.old_id, &*upgrade.new_id);
                rules::carry(&self.store, (*user, user_id), old, new).await?;
            }
            self.carry_tags(upgrade, *user).await?;
        }
        Ok(())
    }

    async fn carry_tags(&self, upgrade: &Upgrade, user: UserNo) -> Result<(), MatrixError> {
        let tags = self.store.account_data(user, Some(upgrade.old), tags::KIND);
        let tags = tags.await?.filter(|tags| account_data::stands(tags));
        let Some(tags) = tags else {
            return Ok(());
        };
        let fact = Fact::AccountData(DataChange {
            data: AccountData {
                room: Some(upgrade.new),
                ..AccountData::clone(&tags)
            },
            // Who has tagged the new room has done so since.
            expect: Some(Pos(0)),
        });
        match self.store.commit(vec![fact].into()).await {
            Ok(_) | Err(CommitError::DataMoved { .. }) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    async fn look(&self, event: &Arc<StoredEvent>) -> Result<(), MatrixError> {
        match event.pdu.kind() {
            "m.room.member" => self.joined(event).await,
            "m.room.tombstone" => self.replaced(event).await,
            _ => Ok(()),
        }
    }
}

impl LogWork for CarrySettings {
    async fn begin(&self, _: &Lease, done: Pos) -> Result<Pos, Failure> {
        let head = self.store.log().head();
        Ok(if done == Pos(0) { head } else { done })
    }

    async fn work(&self, stretch: &Stretch) -> Result<(), Failure> {
        if stretch.failures >= ATTEMPTS {
            tracing::warn!(after = %stretch.after, "settings aren't carried to upgraded rooms here");
            return Ok(());
        }
        for entry in &stretch.entries {
            if let EntryKind::Event(LiveEvent { event, .. }) = &entry.kind {
                self.look(event).await?;
            }
        }
        Ok(())
    }
}
