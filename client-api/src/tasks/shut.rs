//! A room is shut for the users of this server: all of them leave it, those who are invited or knock as well, and forget it. If
//! that is wanted, nobody here comes into it any more, and they come into a room where it is said why. The room's events stay.
//!
//! What is done is written down before it is done, so that a task which goes on after a crash leaves nobody out.

use std::collections::HashMap;

use rhizome_edge::MatrixError;
use rhizome_federation::{
    local,
    membership::{join, leave},
};
use rhizome_protocol::{Object, draft::Draft};
use rhizome_rooms::{
    create::{
        self,
        plan::{CreateRoom, Policy, Preset},
    },
    membership,
    send::SendOptions,
};
use rhizome_storage::{
    AliasesMoved, Block, Fact, Listing, RoomNo, Task, TaskRoom, TxnKey, UserNo, WriteSet,
};
use ruma::{OwnedRoomAliasId, OwnedRoomId, OwnedUserId, RoomId, RoomOrAliasId, UserId};
use serde::{Deserialize, Serialize};

use super::Step;
use crate::{App, auth::shadow, member::member_content};

/// So many users leave at a time.
const TOGETHER: usize = 5;
/// Of so many users, and aliases, it is told what became of them.
const TOLD: usize = 1_000;
/// What the room is called in which it is said why, if nothing else is wanted.
const NAME: &str = "A room was closed";
/// What is said there, likewise.
const MESSAGE: &str = "The administrators of this server have closed a room that you were in.";

/// What exactly is to become of a room, and who wants it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ShutRequest {
    /// The administrator who wants it.
    pub by: OwnedUserId,
    /// Who makes the room into which the users come; without them there is none.
    pub new_room_user_id: Option<OwnedUserId>,
    /// What it is called.
    pub room_name: Option<String>,
    /// What is said there.
    pub message: Option<String>,
    /// Whether nobody here comes into the old room any more.
    #[serde(default)]
    pub block: bool,
    /// Whether its aliases are deleted if there is no new one to which they could lead.
    #[serde(default)]
    pub purge: bool,
}

/// What has come of it, as it is told.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShutResult {
    /// Who has left.
    pub kicked_users: Vec<OwnedUserId>,
    /// Who couldn't leave.
    pub failed_to_kick_users: Vec<OwnedUserId>,
    /// The aliases of this server that the room had.
    pub local_aliases: Vec<OwnedRoomAliasId>,
    /// The room into which they have come.
    pub new_room_id: Option<OwnedRoomId>,
}

impl ShutResult {
    /// What is known of it so far.
    pub fn of(task: &Task) -> Self {
        let text = task.result.as_deref();
        let known = text.and_then(|text| serde_json::from_str(text).ok());
        known.unwrap_or_default()
    }
}

/// Keeps everybody here out of a room.
///
/// # Errors
/// The database fails.
pub async fn block(app: &App, room_id: &RoomId, by: &UserId) -> Result<(), MatrixError> {
    let block = Block {
        kind: Block::ROOM.to_owned(),
        what: room_id.to_string(),
        way: String::new(),
        reason: format!("{BY}{by}"),
        since_ms: app.store.clock().now_ms(),
        blocked: true,
    };
    Ok(app.store.block(block).await?)
}

/// What the reason begins with of what an administrator has blocked, before who they are.
pub const BY: &str = "by ";

/// Goes on with a room.
///
/// # Errors
/// What is to be tried again.
pub(super) async fn step(app: &App, task: &Task, is_last: bool) -> Result<Step, MatrixError> {
    let invalid = |why: String| MatrixError::invalid_param(why);
    let room_id = RoomId::parse(task.what.as_str()).map_err(|error| invalid(error.to_string()))?;
    let request = task.request.as_deref().unwrap_or_default();
    let request = serde_json::from_str(request).map_err(|error| invalid(error.to_string()))?;
    let room = app.store.known_room(&room_id).await?;
    let shutting = Shutting {
        app,
        task,
        room_id,
        room,
        request,
    };
    match Place::of(&task.place) {
        Place::Begun => shutting.begin().await,
        Place::Open => shutting.close().await,
        Place::After(user) => shutting.choose(user).await,
        Place::These(users) => shutting.put_out(&users, is_last).await,
    }
}

/// How far it is.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Place {
    /// Nothing is done.
    Begun,
    /// What takes the room's place is there.
    Open,
    /// Everybody up to this user has left.
    After(UserNo),
    /// These are leaving.
    These(Vec<UserNo>),
}

impl Place {
    fn of(text: &str) -> Self {
        let number = |text: &str| text.parse().map(UserNo).ok();
        let parse = || {
            Some(match text.split_once(' ') {
                None if text == "open" => Self::Open,
                Some(("after", user)) => Self::After(number(user)?),
                Some(("these", users)) => {
                    Self::These(users.split(' ').map(number).collect::<Option<_>>()?)
                }
                _ => return None,
            })
        };
        // From the beginning once more: what is done already does no harm.
        parse().unwrap_or(Self::Begun)
    }

    fn text(&self) -> String {
        match self {
            Self::Begun => super::BEGUN.to_owned(),
            Self::Open => "open".to_owned(),
            Self::After(user) => format!("after {}", user.0),
            Self::These(users) => {
                let users: Vec<_> = users.iter().map(|user| user.0.to_string()).collect();
                format!("these {}", users.join(" "))
            }
        }
    }
}

/// A room that is being shut.
struct Shutting<'a> {
    app: &'a App,
    task: &'a Task,
    room_id: OwnedRoomId,
    /// `None`: this server has never heard of it.
    room: Option<RoomNo>,
    request: ShutRequest,
}

impl Shutting<'_> {
    fn next(&self, done: usize, place: &Place, result: &ShutResult) -> Result<Step, MatrixError> {
        let result = serde_json::to_string(result).map_err(|_| MatrixError::internal())?;
        let done = i64::try_from(done).unwrap_or(i64::MAX);
        Ok(Step {
            progress: self.task.progress.saturating_add(done),
            place: Some(place.text()),
            result: Some(result),
        })
    }

    /// Keeps everybody out, and makes what takes the room's place.
    async fn begin(&self) -> Result<Step, MatrixError> {
        if self.request.block {
            block(self.app, &self.room_id, &self.request.by).await?;
        }
        let mut result = ShutResult::default();
        if let Some(room) = self.room {
            result.local_aliases = self.app.store.aliases_of(room).await?;
            result.local_aliases.truncate(TOLD);
        }
        if let Some(creator) = &self.request.new_room_user_id {
            let new = match self.task.new_room {
                Some(room) => self.app.store.room_id(room).await?,
                None => self.create(creator).await?,
            };
            self.say_why(creator, &new).await?;
            result.new_room_id = Some(new);
        }
        self.next(0, &Place::Open, &result)
    }

    /// A room into which everybody may come, and where only who makes it speaks.
    async fn create(&self, creator: &OwnedUserId) -> Result<OwnedRoomId, MatrixError> {
        let mut levels = Object::new();
        levels.insert("users_default".into(), (-10).into());
        let name = self.request.room_name.as_deref().unwrap_or(NAME);
        let request = CreateRoom {
            creator: creator.clone(),
            creator_profile: member_content(self.app, creator).await?,
            version: self.app.config.default_room_version.clone(),
            public: false,
            preset: Preset::PublicChat,
            name: Some(name.to_owned()),
            topic: None,
            alias: None,
            creation_content: Object::new(),
            initial_state: Vec::new(),
            power_level_content_override: levels,
            invite: Vec::new(),
            is_direct: false,
            invited_profiles: HashMap::new(),
            encrypted: false,
            policy: Policy::default(),
        };
        let task = self.task.no;
        let facts = |room| vec![Fact::from(TaskRoom { task, room })];
        let created = create::create_with(&self.app.rooms, &request, facts).await?;
        Ok(created.room_id)
    }

    async fn say_why(&self, creator: &OwnedUserId, room_id: &RoomId) -> Result<(), MatrixError> {
        let text = self.request.message.as_deref().unwrap_or(MESSAGE);
        let mut content = Object::new();
        content.insert("msgtype".into(), "m.text".into());
        content.insert("body".into(), text.into());
        let draft = Draft {
            room_id: Some(room_id.to_owned()),
            sender: creator.clone(),
            kind: "m.room.message".into(),
            state_key: None,
            content,
            redacts: None,
        };
        let user = self.app.store.user_no(creator).await?;
        let options = SendOptions {
            txn: Some(TxnKey::of_task(user, self.task.no)),
            ..SendOptions::default()
        };
        local::send(&self.app.federation, draft, options).await?;
        Ok(())
    }

    /// Nothing of this server leads to the room any more.
    async fn close(&self) -> Result<Step, MatrixError> {
        let store = &self.app.store;
        let result = ShutResult::of(self.task);
        if let Some(room) = self.room {
            let is_listed = store
                .room_by_no(room)
                .await?
                .is_some_and(|head| head.public);
            let mut facts: Vec<Fact> = Vec::new();
            if is_listed {
                let public = false;
                facts.push(Fact::Listing(Listing { room, public }));
            }
            if let Some(to) = self.task.new_room {
                facts.push(Fact::from(AliasesMoved { from: room, to }));
            }
            if !facts.is_empty() {
                store.commit(WriteSet::from(facts)).await?;
            }
            if self.task.new_room.is_none() && self.request.purge {
                for alias in store.aliases_of(room).await? {
                    store.delete_alias(&alias).await?;
                }
            }
        }
        self.next(0, &Place::After(UserNo(i64::MIN)), &result)
    }

    /// Says who leaves next.
    async fn choose(&self, after: UserNo) -> Result<Step, MatrixError> {
        let Some(room) = self.room else {
            return Ok(Step::done(self.task));
        };
        let (store, here) = (&self.app.store, &self.app.config.server_name);
        let users = store.present_here(room, here, after, TOGETHER).await?;
        if users.is_empty() {
            return Ok(Step::done(self.task));
        }
        self.next(0, &Place::These(users), &ShutResult::of(self.task))
    }

    /// Lets users leave, and come into the new room.
    async fn put_out(&self, users: &[UserNo], is_last: bool) -> Result<Step, MatrixError> {
        let mut result = ShutResult::of(self.task);
        let mut done = 0;
        for user_id in self.app.store.users(users).await? {
            let list = match self.put_one_out(&user_id).await {
                Ok(()) => {
                    done += 1;
                    self.take_along(&user_id, result.new_room_id.as_deref())
                        .await;
                    &mut result.kicked_users
                }
                Err(error) if error.status.is_server_error() && !is_last => return Err(error),
                Err(error) => {
                    tracing::warn!(room = %self.room_id, user = %user_id, %error, "a user couldn't be put out of a room");
                    &mut result.failed_to_kick_users
                }
            };
            if list.len() < TOLD && !list.contains(&user_id) {
                list.push(user_id);
            }
        }
        let last = users.last().copied().unwrap_or(UserNo(i64::MIN));
        self.next(done, &Place::After(last), &result)
    }

    async fn put_one_out(&self, user_id: &UserId) -> Result<(), MatrixError> {
        leave::leave(&self.app.federation, user_id, &self.room_id, None).await?;
        if let Err(error) = membership::forget(&self.app.rooms, &self.room_id, user_id).await {
            // They have left, whatever they remember.
            tracing::info!(room = %self.room_id, user = %user_id, %error, "a room isn't forgotten");
        }
        Ok(())
    }

    async fn take_along(&self, user_id: &UserId, new: Option<&RoomId>) {
        let Some(room_id) = new else { return };
        let joining = async {
            let mut content = member_content(self.app, user_id).await?;
            shadow::quiet(self.app, user_id, &mut content).await?;
            let room = <&RoomOrAliasId>::from(room_id);
            join::join(&self.app.federation, user_id, room, &[], content).await
        };
        if let Err(error) = joining.await {
            tracing::warn!(room = %room_id, user = %user_id, %error, "a user couldn't be taken into a room");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_read_as_it_is_written() {
        for place in [
            Place::Begun,
            Place::Open,
            Place::After(UserNo(i64::MIN)),
            Place::These(vec![UserNo(3), UserNo(17)]),
        ] {
            assert_eq!(Place::of(&place.text()), place);
        }
        for first in ["", "-", "after", "after x", "these", "these 1 x", "open 1"] {
            assert_eq!(Place::of(first), Place::Begun, "{first}");
        }
    }
}
