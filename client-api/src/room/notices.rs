//! What the operator has to tell users (<https://spec.matrix.org/v1.19/client-server-api/#server-notices>): a user of
//! this server invites each into a room of their own, which they can't refuse, and speaks there.

use std::collections::HashMap;

use axum::extract::State;
use http::StatusCode;
use rhizome_edge::{AdministratorToken, Body, MatrixError, RawJson, Undecoded};
use rhizome_federation::local;
use rhizome_protocol::{Membership, Object, draft::Draft};
use rhizome_rooms::{
    Error,
    create::{
        self,
        plan::{CreateRoom, InitialState, Policy, Preset},
    },
    membership::{self, Action, MembershipChange},
    send::{self as sending, SendOptions},
};
use rhizome_storage::{
    AccountData, DataChange, Fact, NewAccount, NoticeRoom, RoomNo, Store, TxnKey, UserNo,
};
use ruma::{OwnedRoomId, OwnedUserId, RoomId, metadata};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{App, Caller, Ruma, account::tags, config::Notices, content, member::member_content};

/// The tag by which clients know the room.
const TAG: &str = "m.server_notice";

/// `POST`: sends a notice.
pub struct Post;
metadata! {
    @for Post,
    method: POST,
    rate_limited: true,
    authentication: AdministratorToken,
    path: "/_synapse/admin/v1/send_server_notice",
}

/// `PUT`: the same, once for each transaction.
pub struct Put;
metadata! {
    @for Put,
    method: PUT,
    rate_limited: true,
    authentication: AdministratorToken,
    path: "/_synapse/admin/v1/send_server_notice/{txn_id}",
}

/// A notice, as tools for administrators already write it.
#[derive(Debug, Deserialize)]
pub struct Notice {
    user_id: OwnedUserId,
    content: Object,
    #[serde(rename = "type", default = "message")]
    kind: String,
    state_key: Option<String>,
}

fn message() -> String {
    "m.room.message".to_owned()
}

/// `POST /_synapse/admin/v1/send_server_notice`
pub async fn post(
    State(app): State<App>,
    Ruma { req, .. }: Ruma<Body<Post, Notice>>,
) -> Result<RawJson, MatrixError> {
    send(&app, req.body, None).await
}

/// `PUT /_synapse/admin/v1/send_server_notice/{txnId}`
pub async fn put(
    State(app): State<App>,
    Ruma { who, req, body, .. }: Ruma<Undecoded<Put>>,
) -> Result<RawJson, MatrixError> {
    let notice = serde_json::from_slice(&body).map_err(|error| MatrixError::of_json(&error))?;
    let txn = content::txn_key(&who, "send_server_notice".to_owned(), req.part(0))?;
    send(&app, notice, Some(txn)).await
}

async fn send(app: &App, notice: Notice, txn: Option<TxnKey>) -> Result<RawJson, MatrixError> {
    let Some(settings) = &app.config.notices else {
        return Err(MatrixError::new(
            StatusCode::BAD_REQUEST,
            "M_UNKNOWN",
            "Server notices aren't switched on: set server_notices.localpart",
        ));
    };
    if let Some(txn) = &txn
        && let Some(done) = app.store.transaction(txn).await?
    {
        return RawJson::of(&json!({ "event_id": done }));
    }
    if notice.user_id.server_name() != app.config.server_name {
        return Err(MatrixError::invalid_param(
            "Only users of this server get its notices",
        ));
    }
    let account = app.store.account(&notice.user_id).await?;
    let Some(account) = account.filter(|account| !account.deactivated) else {
        return Err(MatrixError::not_found("There is no such user"));
    };
    speaker(&app.store, settings).await?;
    let desk = Desk {
        app,
        settings,
        user: account.user,
        user_id: notice.user_id,
    };
    let room_id = desk.room().await?;
    let draft = Draft {
        room_id: Some(room_id),
        sender: settings.user.clone(),
        kind: notice.kind,
        state_key: notice.state_key,
        content: notice.content,
        redacts: None,
    };
    let options = SendOptions {
        txn,
        ..SendOptions::default()
    };
    let sent = local::send(&app.federation, draft, options).await?;
    RawJson::of(&json!({ "event_id": sent.event_id }))
}

/// Sees to it that there is the user who speaks, so that nobody else takes the name; nobody can log in as them.
///
/// # Errors
/// Those of the database.
pub async fn speaker(store: &Store, settings: &Notices) -> Result<(), MatrixError> {
    if store.account(&settings.user).await?.is_none() {
        let account = NewAccount {
            created_ms: store.clock().now_ms(),
            ..NewAccount::default()
        };
        // Another process may be as quick.
        store.create_account(&settings.user, account, None).await?;
    }
    let account = store.user_no(&settings.user).await?;
    let known = store.profile(&settings.user).await?.unwrap_or_default();
    for (field, value) in [
        ("displayname", &settings.display_name),
        ("avatar_url", &settings.avatar_url),
    ] {
        let value = value.as_deref().map(Value::from);
        if known.get(field) != value.as_ref() {
            store.set_profile_field(account, field, value).await?;
        }
    }
    Ok(())
}

/// Whether a room is where its user gets notices: an invite there can't be refused.
///
/// # Errors
/// 403 `M_CANNOT_LEAVE_SERVER_NOTICE_ROOM` if the user is invited to it.
pub async fn may_leave(app: &App, who: &Caller, room_id: &RoomId) -> Result<(), MatrixError> {
    let Some(room) = app.store.notice_room(who.user).await? else {
        return Ok(());
    };
    if app.store.known_room(room_id).await? != Some(room) {
        return Ok(());
    }
    let row = app.store.membership(who.user, room).await?;
    if row.is_some_and(|row| row.membership == Membership::Invite) {
        return Err(MatrixError::new(
            StatusCode::FORBIDDEN,
            "M_CANNOT_LEAVE_SERVER_NOTICE_ROOM",
            "You can't refuse to get notices of this server",
        ));
    }
    Ok(())
}

/// Where one user's notices are written.
struct Desk<'a> {
    app: &'a App,
    settings: &'a Notices,
    user: UserNo,
    user_id: OwnedUserId,
}

impl Desk<'_> {
    /// The user's room, in which they are or to which they are invited.
    async fn room(&self) -> Result<OwnedRoomId, MatrixError> {
        let store = &self.app.store;
        let before = store.notice_room(self.user).await?;
        let room = match self.usable(before).await? {
            Some(room) => room,
            None => match self.create(&self.request().await?, before).await {
                Ok(room_id) => return Ok(room_id),
                // Another notice was quicker.
                Err(Error::Taken(_)) => {
                    let room = store.notice_room(self.user).await?;
                    room.ok_or_else(MatrixError::internal)?
                }
                Err(error) => return Err(error.into()),
            },
        };
        let room_id = store.room_id(room).await?;
        self.invite(&room_id, room).await?;
        Ok(room_id)
    }

    /// The room, if who speaks is in it: after `server_notices.localpart` has changed it is somebody else's.
    async fn usable(&self, room: Option<RoomNo>) -> Result<Option<RoomNo>, MatrixError> {
        let Some(room) = room else { return Ok(None) };
        let store = &self.app.store;
        let speaker = store.user_no(&self.settings.user).await?;
        let row = store.membership(speaker, room).await?;
        let speaks = row.is_some_and(|row| row.membership == Membership::Join);
        Ok(speaks.then_some(room))
    }

    /// A room for the user's notices.
    async fn request(&self) -> Result<CreateRoom, MatrixError> {
        let app = self.app;
        let invited = member_content(app, &self.user_id).await?;
        let avatar = self.settings.avatar_url.as_ref();
        let mut levels = Object::new();
        // Only the server speaks there.
        levels.insert("users_default".into(), (-10).into());
        let mut creation_content = Object::new();
        creation_content.insert("m.federate".into(), false.into());
        Ok(CreateRoom {
            creator: self.settings.user.clone(),
            creator_profile: member_content(app, &self.settings.user).await?,
            version: app.config.default_room_version.clone(),
            public: false,
            preset: Preset::PrivateChat,
            name: self.settings.room_name.clone(),
            topic: None,
            alias: None,
            creation_content,
            initial_state: avatar.into_iter().map(|url| avatar_of(url)).collect(),
            power_level_content_override: levels,
            invite: vec![self.user_id.clone()],
            is_direct: false,
            invited_profiles: HashMap::from([(self.user_id.clone(), invited)]),
            encrypted: false,
            policy: Policy::default(),
        })
    }

    async fn create(
        &self,
        request: &CreateRoom,
        replaces: Option<RoomNo>,
    ) -> Result<OwnedRoomId, Error> {
        let user = self.user;
        let facts = |room: RoomNo| {
            let tag = AccountData {
                user,
                room: Some(room),
                kind: tags::KIND.to_owned(),
                content: json!({ "tags": { TAG: {} } }).to_string().into(),
            };
            let tag = DataChange {
                data: tag,
                expect: None,
            };
            let notices = NoticeRoom {
                user,
                room,
                replaces,
            };
            vec![Fact::from(notices), Fact::from(tag)]
        };
        let created = create::create_with(&self.app.rooms, request, facts).await?;
        tracing::info!(room.id = %created.room_id, user = %self.user_id, "a room for notices");
        Ok(created.room_id)
    }

    /// Whoever has left is asked again.
    async fn invite(&self, room_id: &OwnedRoomId, room: RoomNo) -> Result<(), MatrixError> {
        let row = self.app.store.membership(self.user, room).await?;
        let here = |membership| matches!(membership, Membership::Join | Membership::Invite);
        if row.is_some_and(|row| here(row.membership)) {
            return Ok(());
        }
        tags::add(self.app, self.user, room, TAG).await?;
        let change = MembershipChange {
            room_id: room_id.clone(),
            sender: self.settings.user.clone(),
            target: self.user_id.clone(),
            action: Action::Invite,
            reason: None,
            extra: member_content(self.app, &self.user_id).await?,
        };
        if let Some(draft) = membership::prepare(&self.app.rooms, change).await? {
            // Past the door that asks whether they want to be invited: the operator's word isn't a stranger's.
            sending::send(&self.app.rooms, draft, SendOptions::default()).await?;
        }
        Ok(())
    }
}

fn avatar_of(url: &str) -> InitialState {
    let mut content = Object::new();
    content.insert("url".into(), url.into());
    InitialState {
        kind: "m.room.avatar".into(),
        state_key: String::new(),
        content,
    }
}
