//! Whose messages a user doesn't want to see (client-server API, "Ignoring users"), and whose invites.

use std::{collections::HashSet, ops::Deref, sync::Arc};

use rhizome_rooms::invites::{InviteRules, Verdict};
use rhizome_storage::{AccountData, Blocked, INVITE_RULES, Logged, RoomNo, Store, UserNo};
use ruma::{OwnedUserId, RoomId, UserId};

use crate::MatrixError;

/// The account data that holds the list.
pub const KIND: &str = "m.ignored_user_list";

/// Whom a user ignores: nothing that they say is told. Of others it may be their invites alone.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Unwanted {
    users: HashSet<OwnedUserId>,
    invites: InviteRules,
    /// Which rooms nobody comes into.
    closed: Arc<Blocked>,
}

impl Deref for Unwanted {
    type Target = HashSet<OwnedUserId>;

    fn deref(&self) -> &Self::Target {
        &self.users
    }
}

impl Unwanted {
    /// What a user's account data says.
    pub fn of<'a, T>(data: impl IntoIterator<Item = &'a T>) -> Self
    where
        T: Deref<Target = Logged<AccountData>> + 'a,
    {
        let data: Vec<&Logged<AccountData>> = data.into_iter().map(Deref::deref).collect();
        let list = data.iter().find(|data| data.kind == KIND);
        Self {
            users: list.map(|list| parse(list)).unwrap_or_default(),
            invites: InviteRules::of(data.iter().map(|data| &***data)),
            closed: Arc::default(),
        }
    }

    /// The same with what the operator keeps out now.
    pub async fn with_blocks(self: Arc<Self>, store: &Store) -> Result<Arc<Self>, MatrixError> {
        let closed = store.blocks().await?;
        if Arc::ptr_eq(&closed, &self.closed) {
            return Ok(self);
        }
        let same = Self::clone(&self);
        Ok(Arc::new(Self { closed, ..same }))
    }

    /// [`Unwanted::hides_invite_to`], for a room whose name is looked up only if that says something.
    pub async fn hides_invite_into(
        &self,
        store: &Store,
        by: &UserId,
        room: RoomNo,
    ) -> Result<bool, MatrixError> {
        if !self.closed.has_rooms() {
            return Ok(self.hides_invite(by));
        }
        Ok(self.hides_invite_to(by, &store.room_id(room).await?))
    }

    /// Whether the user isn't told of an invite by this one to this room: nobody comes into one that is blocked.
    pub fn hides_invite_to(&self, by: &UserId, room: &RoomId) -> bool {
        self.hides_invite(by) || self.closed.room(room)
    }

    /// Whether the user isn't told of an invite by this one.
    pub fn hides_invite(&self, by: &UserId) -> bool {
        self.users.contains(by) || self.invites.judge(by) != Verdict::Shown
    }
}

/// Whether account data says whom its user ignores, or whose invites.
pub fn is_of(data: &AccountData) -> bool {
    data.room.is_none() && data.kind == KIND || hides_invites(data)
}

/// Whether account data says whose invites its user doesn't want.
pub fn hides_invites(data: &AccountData) -> bool {
    data.room.is_none() && INVITE_RULES.contains(&data.kind.as_str())
}

/// Whom a user ignores, as the database has it.
pub async fn read(store: &Store, user: UserNo) -> Result<Unwanted, MatrixError> {
    let kinds: Vec<&str> = INVITE_RULES.into_iter().chain([KIND]).collect();
    let unwanted = Unwanted::of(&store.global_data_of(user, &kinds).await?);
    let closed = store.blocks().await?;
    Ok(Unwanted { closed, ..unwanted })
}

/// The users' numbers; who has none has sent nothing.
pub async fn numbers(
    store: &Store,
    users: &HashSet<OwnedUserId>,
) -> Result<Vec<UserNo>, MatrixError> {
    if users.is_empty() {
        return Ok(Vec::new());
    }
    let users: Vec<OwnedUserId> = users.iter().cloned().collect();
    Ok(store.known_users(&users).await?.into_values().collect())
}

/// The list that account data holds.
fn parse(data: &AccountData) -> HashSet<OwnedUserId> {
    let content: Option<serde_json::Value> = serde_json::from_str(&data.content).ok();
    let users = content
        .as_ref()
        .and_then(|content| content.get("ignored_users")?.as_object());
    users
        .map(|users| {
            users
                .keys()
                .filter_map(|user| user.as_str().try_into().ok())
                .collect()
        })
        .unwrap_or_default()
}
