//! Inviting somebody by an e-mail address (client-server API, "Third-party invites").
//!
//! An identity server that the client names may know whose it is: then they are invited like anybody else. Otherwise it
//! keeps the invitation and writes to the address, and the room is told of it. Who shows there that the address is theirs
//! is invited then (`rhizome_federation`, `inbound/third_party.rs`).

use rhizome_edge::MatrixError;
use rhizome_federation::{
    identity::{IdentityServer, Invitation, StoredInvite},
    local,
};
use rhizome_protocol::{Object, draft::Draft};
use rhizome_rooms::send::{self, SendOptions};
use ruma::{OwnedUserId, RoomId, api::client::membership::Invite3pid};
use serde_json::{Map, Value, json};

use crate::{
    App, Caller,
    auth::validated::{ThirdParty, third_party},
    identity,
};

/// What the room is told of an invitation.
const KIND: &str = "m.room.third_party_invite";

/// An invitation by an address that can be made, as far as can be said before anybody is asked.
pub(super) struct ByAddress {
    server: IdentityServer,
    token: String,
    third_party: ThirdParty,
}

impl ByAddress {
    /// What a client asks for.
    ///
    /// # Errors
    /// 400 `M_INVALID_PARAM`, `M_SERVER_NOT_TRUSTED`.
    pub(super) fn read(app: &App, asked: Invite3pid) -> Result<Self, MatrixError> {
        Ok(Self {
            server: identity::server(app, &asked.id_server)?,
            token: asked.id_access_token,
            third_party: third_party(asked.medium.as_str(), &asked.address)?,
        })
    }

    /// Whom to invite, if the identity server knows; otherwise the invitation is kept there, and the room is told.
    ///
    /// # Errors
    /// What the room or the identity server has against it.
    pub(super) async fn invited(
        &self,
        app: &App,
        who: &Caller,
        room_id: &RoomId,
    ) -> Result<Option<OwnedUserId>, MatrixError> {
        // Before anybody is written to in the user's name.
        let mut draft = Draft {
            room_id: Some(room_id.to_owned()),
            sender: who.user_id.clone(),
            kind: KIND.to_owned(),
            state_key: Some("-".to_owned()),
            content: Object::new(),
            redacts: None,
        };
        send::prepare(&app.rooms, &draft).await?;
        let known = self.server.lookup(&self.token, &self.third_party).await?;
        if known.is_some() {
            return Ok(known);
        }
        let invitation = self.invitation(app, who, room_id).await?;
        let stored = self.server.store_invite(&self.token, &invitation).await?;
        draft.state_key = Some(stored.token.clone());
        draft.content = content(&stored);
        local::send(&app.federation, draft, SendOptions::default()).await?;
        Ok(None)
    }

    /// What the letter may say of the room and of who invites.
    async fn invitation(
        &self,
        app: &App,
        who: &Caller,
        room_id: &RoomId,
    ) -> Result<Invitation, MatrixError> {
        let mut more = Map::new();
        let mut say = |key: &str, value: Option<String>| {
            if let Some(value) = value {
                more.insert(key.to_owned(), value.into());
            }
        };
        if let Some(room) = app.store.known_room(room_id).await? {
            let summary = app.store.room_summary(room).await?;
            say("room_name", summary.name.clone());
            say("room_alias", summary.alias.clone());
            say("room_avatar_url", summary.avatar.clone());
            say("room_type", summary.room_type.clone());
            say("room_join_rules", summary.join_rule.clone());
        }
        let profile = app.store.profile(&who.user_id).await?.unwrap_or_default();
        let of_profile = |key: &str| profile.get(key)?.as_str().map(str::to_owned);
        say("sender_display_name", of_profile("displayname"));
        say("sender_avatar_url", of_profile("avatar_url"));
        Ok(Invitation {
            medium: self.third_party.medium.as_str(),
            address: self.third_party.address.clone(),
            room_id: room_id.to_string(),
            sender: who.user_id.to_string(),
            more,
        })
    }
}

/// What the room is told: nothing of the address but what the identity server shows of it.
fn content(stored: &StoredInvite) -> Object {
    let first = stored.public_keys.first();
    let mut content = Object::from_iter([
        (
            "display_name".to_owned(),
            Value::from(stored.display_name.clone()),
        ),
        ("public_keys".to_owned(), json!(stored.public_keys)),
    ]);
    // Once there was one key only, and these are still required.
    if let Some(key) = first {
        content.insert("public_key".to_owned(), key.public_key.clone().into());
        content.insert(
            "key_validity_url".to_owned(),
            key.key_validity_url.clone().into(),
        );
    }
    content
}
