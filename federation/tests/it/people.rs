//! What a server's users do, and what they see.

use rhizome_federation::{
    MatrixError,
    fetch::backfill,
    local,
    membership::{join, leave},
};
use rhizome_protocol::{Membership, Object, draft::Draft};
use rhizome_rooms::{
    create::{
        create,
        plan::{CreateRoom, Policy, Preset},
    },
    membership::{self, Action, MembershipChange},
    send::SendOptions,
};
use rhizome_storage::{Pos, StoredEvent};
use ruma::{EventId, OwnedEventId, OwnedRoomId, RoomId, RoomVersionId, UserId};
use serde_json::{Value, json};
use std::{collections::BTreeMap, sync::Arc};

use crate::world::Server;

impl Server {
    /// A public room.
    pub async fn create(&self, creator: &UserId, version: &RoomVersionId) -> OwnedRoomId {
        self.create_with(creator, version, Preset::PublicChat).await
    }

    /// A public room in the directory.
    pub async fn create_listed(&self, creator: &UserId, version: &RoomVersionId) -> OwnedRoomId {
        let request = CreateRoom {
            public: true,
            ..Self::request_of(creator, version, Preset::PublicChat)
        };
        create(self.fed.rooms(), &request).await.unwrap().room_id
    }

    pub async fn create_with(
        &self,
        creator: &UserId,
        version: &RoomVersionId,
        preset: Preset,
    ) -> OwnedRoomId {
        let request = Self::request_of(creator, version, preset);
        create(self.fed.rooms(), &request).await.unwrap().room_id
    }

    /// A request for a room with nothing special about it.
    pub fn request_of(creator: &UserId, version: &RoomVersionId, preset: Preset) -> CreateRoom {
        CreateRoom {
            creator: creator.to_owned(),
            creator_profile: Object::new(),
            version: version.clone(),
            public: false,
            preset,
            name: Some("A room".to_owned()),
            topic: None,
            alias: None,
            creation_content: Object::new(),
            initial_state: Vec::new(),
            power_level_content_override: Object::new(),
            invite: Vec::new(),
            is_direct: false,
            invited_profiles: std::collections::HashMap::new(),
            encrypted: false,
            policy: Policy::default(),
        }
    }

    pub async fn join(
        &self,
        user: &UserId,
        room: &RoomId,
        via: &Server,
    ) -> Result<OwnedRoomId, MatrixError> {
        join::join(
            &self.fed,
            user,
            room.into(),
            std::slice::from_ref(&via.name),
            Object::new(),
        )
        .await
    }

    pub async fn leave(&self, user: &UserId, room: &RoomId) -> Result<(), MatrixError> {
        leave::leave(&self.fed, user, room, Some("bye".to_owned())).await
    }

    /// Invite, kick, ban, unban.
    pub async fn change(
        &self,
        sender: &UserId,
        room: &RoomId,
        target: &UserId,
        action: Action,
    ) -> Result<(), MatrixError> {
        let change = MembershipChange {
            room_id: room.to_owned(),
            sender: sender.to_owned(),
            target: target.to_owned(),
            action,
            reason: None,
            extra: Object::new(),
        };
        if let Some(draft) = membership::prepare(self.fed.rooms(), change).await? {
            local::send(&self.fed, draft, SendOptions::default()).await?;
        }
        Ok(())
    }

    pub async fn send(
        &self,
        sender: &UserId,
        room: &RoomId,
        kind: &str,
        state_key: Option<&str>,
        content: Value,
    ) -> Result<OwnedEventId, MatrixError> {
        let draft = Draft {
            room_id: Some(room.to_owned()),
            sender: sender.to_owned(),
            kind: kind.to_owned(),
            state_key: state_key.map(ToOwned::to_owned),
            content: content.as_object().unwrap().clone(),
            redacts: None,
        };
        Ok(local::send(&self.fed, draft, SendOptions::default())
            .await?
            .event_id)
    }

    pub async fn say(&self, sender: &UserId, room: &RoomId, text: &str) -> OwnedEventId {
        let content = json!({ "msgtype": "m.text", "body": text });
        self.send(sender, room, "m.room.message", None, content)
            .await
            .unwrap()
    }

    pub async fn event(&self, id: &EventId) -> Option<Arc<StoredEvent>> {
        self.store().event(id).await.unwrap()
    }

    /// The texts of the room's live messages, oldest first.
    pub async fn heard(&self, room: &RoomId) -> Vec<String> {
        let Some(head) = self.store().room(room).await.unwrap() else {
            return Vec::new();
        };
        let upto = self.store().log().head();
        let events = self
            .store()
            .room_timeline(head.room, Pos(0), upto, 1000)
            .await
            .unwrap();
        events
            .iter()
            .filter_map(|event| Some(event.pdu.content().get("body")?.as_str()?.to_owned()))
            .collect()
    }

    /// The current state: key → event.
    pub async fn state(&self, room: &RoomId) -> BTreeMap<(String, String), OwnedEventId> {
        let Some(head) = self.store().room(room).await.unwrap() else {
            return BTreeMap::new();
        };
        let Some(snapshot) = head.snapshot else {
            return BTreeMap::new();
        };
        let entries = self.store().state_all(snapshot).await.unwrap();
        let numbers: Vec<_> = entries.iter().map(|(_, event)| *event).collect();
        let events = self.store().events_by_no(&numbers).await.unwrap();
        events
            .iter()
            .map(|event| {
                let key = (
                    event.pdu.kind().to_owned(),
                    event.pdu.state_key().unwrap().to_owned(),
                );
                (key, event.pdu.event_id().to_owned())
            })
            .collect()
    }

    pub async fn membership(&self, room: &RoomId, user: &UserId) -> Option<Membership> {
        let user = self.store().known_user(user).await.unwrap()?;
        let room = self.store().known_room(room).await.unwrap()?;
        Some(
            self.store()
                .membership(user, room)
                .await
                .unwrap()?
                .membership,
        )
    }

    pub async fn backfill(&self, room: &RoomId, limit: usize) -> bool {
        let no = self.store().known_room(room).await.unwrap().unwrap();
        let missing = self.store().missing_prev_events(no, 10).await.unwrap();
        let holes: Vec<_> = missing.into_iter().map(|(id, _)| id).collect();
        backfill::before(&self.fed, room, &holes, limit)
            .await
            .unwrap()
    }
}
