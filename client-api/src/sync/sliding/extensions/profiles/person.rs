//! What is known of users: profiles of those here, memberships of the others.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use rhizome_storage::{EventNo, StoredEvent, UserNo};
use ruma::{OwnedUserId, UserId};
use serde_json::{Map, Value};

use super::super::Context;
use crate::MatrixError;

/// The fields that a membership has.
pub const OF_MEMBERS: [&str; 2] = ["displayname", "avatar_url"];

/// Users, with all that is known of them.
pub struct People {
    ids: HashMap<UserNo, OwnedUserId>,
    /// Profiles of users here.
    profiles: HashMap<UserNo, Map<String, Value>>,
    /// Memberships.
    events: HashMap<EventNo, Arc<StoredEvent>>,
    nothing: Map<String, Value>,
}

impl People {
    /// Reads some users, and these memberships; unless `all` are wanted, only of those who aren't of here.
    pub async fn read(
        context: &Context<'_>,
        people: &[(UserNo, Option<EventNo>)],
        all: bool,
    ) -> Result<Self, MatrixError> {
        let (store, here) = (context.loader.store, &context.app.config.server_name);
        let nos: BTreeSet<UserNo> = people.iter().map(|(user, _)| *user).collect();
        let nos: Vec<UserNo> = nos.into_iter().collect();
        let ids = store.users(&nos).await?;
        let ids: HashMap<UserNo, OwnedUserId> = nos.into_iter().zip(ids).collect();
        let local = |user: &UserNo| ids.get(user).is_some_and(|id| id.server_name() == here);
        let locals: Vec<UserNo> = ids.keys().copied().filter(|user| local(user)).collect();
        let read = people.iter().filter(|(user, _)| all || !local(user));
        let events: Vec<EventNo> = read.filter_map(|(_, event)| *event).collect();
        let profiles = if locals.is_empty() {
            HashMap::new()
        } else {
            let mut profiles = store.profiles(&locals).await?;
            for user in locals {
                profiles.entry(user).or_default();
            }
            profiles
        };
        let events = store.events_by_no(&events).await?;
        Ok(Self {
            ids,
            profiles,
            events: events.into_iter().map(|event| (event.no, event)).collect(),
            nothing: Map::new(),
        })
    }

    /// What a user is called.
    pub fn id(&self, user: UserNo) -> Option<&UserId> {
        self.ids.get(&user).map(AsRef::as_ref)
    }

    /// The profile of a user here.
    pub fn profile(&self, user: UserNo) -> Option<&Map<String, Value>> {
        self.profiles.get(&user)
    }

    /// What a membership says.
    pub fn member(&self, event: EventNo) -> &Map<String, Value> {
        let event = self.events.get(&event);
        event.map_or(&self.nothing, |event| event.pdu.content())
    }

    /// A user's fields with their JSON: those of a user of another server as a membership has them.
    pub fn fields(
        &self,
        user: UserNo,
        member: Option<EventNo>,
    ) -> impl Iterator<Item = (&str, String)> {
        let profile = self.profiles.get(&user);
        let member = member.filter(|_| profile.is_none());
        let of_member = member.map(|event| self.member(event)).into_iter();
        let of_member = of_member.flat_map(|content| {
            let fields = OF_MEMBERS.into_iter();
            fields.filter_map(|field| Some((field, text(content, field)?)))
        });
        let profile = profile.into_iter().flatten();
        let own = profile.map(|(field, value)| (field.as_str(), value.to_string()));
        own.chain(of_member)
    }
}

/// A field of a membership, as JSON: what isn't a text, or an empty one, is none.
pub fn text(content: &Map<String, Value>, field: &str) -> Option<String> {
    let value = content.get(field)?;
    let text = value.as_str().filter(|text| !text.is_empty())?;
    Some(Value::from(text).to_string())
}
