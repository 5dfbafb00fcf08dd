//! Telling rooms of changed profiles: what a user's member events say is renewed in every room that they are in, after
//! the change was answered.
//!
//! What is to be told is written down with the change; a room that says so already is left alone, so that all of it may be
//! done again after a crash, and a room hears the newest only, however many changes there were on the way to it.

use std::{collections::BTreeSet, sync::Arc};

use futures_util::{FutureExt as _, StreamExt as _, stream};
use rhizome_federation::{Federation, local};
use rhizome_protocol::{Membership, Object, draft::Draft};
use rhizome_rooms::{membership::restricted::AUTHORISED_VIA, send::SendOptions};
use rhizome_storage::{
    EntryKind, Failure, Lease, LogWork, Logged, Pos, ProfileSpread, RoomNo, Store, Stretch, UserNo,
};
use ruma::UserId;
use serde_json::Value;

use crate::MatrixError;

/// Rooms that are told at once, of one user.
const ROOMS_AT_ONCE: usize = 8;
/// Users whose rooms are told at once.
const USERS_AT_ONCE: usize = 4;
/// Attempts at one stretch of the log.
const ATTEMPTS: u32 = 3;

/// Tells rooms, as the work of a [`LogReader`](rhizome_storage::LogReader).
pub struct TellProfiles {
    federation: Federation,
}

impl TellProfiles {
    /// Of all users here.
    pub fn new(federation: &Federation) -> Self {
        Self {
            federation: federation.clone(),
        }
    }

    fn store(&self) -> &Store {
        self.federation.store()
    }

    /// Tells all rooms of a user what has changed after a position. Gives how many couldn't be told as something is
    /// wrong here.
    async fn tell(&self, user: UserNo, after: Pos) -> Result<usize, MatrixError> {
        let user_id = self.store().user(user).await?;
        if self.store().blocks().await?.user(&user_id) {
            return Ok(0);
        }
        let memberships = self.store().memberships_of(user).await?;
        let joined = memberships
            .iter()
            .filter(|row| row.membership == Membership::Join);
        let rooms: Vec<RoomNo> = joined.map(|row| row.room).collect();
        let failed = stream::iter(rooms)
            .map(|room| {
                let user_id = &user_id;
                async move {
                    let told = self.tell_room(user_id, (user, room), after).await;
                    let Err(error) = told else { return 0 };
                    tracing::warn!(%room, %error, "a room wasn't told of a new profile");
                    usize::from(error.status.is_server_error())
                }
            })
            .buffer_unordered(ROOMS_AT_ONCE)
            .fold(0, |sum, failed| async move { sum + failed });
        Ok(failed.await)
    }

    async fn tell_room(
        &self,
        user_id: &UserId,
        (user, room): (UserNo, RoomNo),
        after: Pos,
    ) -> Result<(), MatrixError> {
        let store = self.store();
        // What is so by now: the user may have changed it again, or left, since this began.
        let spreads = store.profile_spreads(user, after).await?;
        let row = store.membership(user, room).await?;
        let row = row.filter(|row| row.membership == Membership::Join);
        let Some(no) = row.and_then(|row| row.event) else {
            return Ok(());
        };
        let Some(event) = store.event_by_no(no).await? else {
            return Ok(());
        };
        let Some(content) = changed(event.pdu.content(), &spreads) else {
            return Ok(());
        };
        let draft = Draft {
            room_id: Some(event.pdu.room_id().to_owned()),
            sender: user_id.to_owned(),
            kind: "m.room.member".into(),
            state_key: Some(user_id.to_string()),
            content,
            redacts: None,
        };
        local::send(&self.federation, draft, SendOptions::default()).await?;
        Ok(())
    }
}

/// A member event's content as it is to be; `None` if it says all that already.
fn changed(content: &Object, spreads: &[Arc<Logged<ProfileSpread>>]) -> Option<Object> {
    let mut new = content.clone();
    for spread in spreads {
        let field = spread.field.as_str();
        let told = new.get(field).unwrap_or(&Value::Null);
        let was: Option<Value> = spread
            .was
            .as_ref()
            .and_then(|was| serde_json::from_str(was).ok());
        if was.is_some_and(|was| was != *told) {
            continue;
        }
        match &spread.value {
            Some(value) => new.insert(field.to_owned(), value.as_str().into()),
            None => new.remove(field),
        };
    }
    if new == *content {
        return None;
    }
    // These belong to the one act of joining, not to the membership.
    new.remove(AUTHORISED_VIA);
    new.remove("reason");
    Some(new)
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
        let users = stretch
            .entries
            .iter()
            .filter_map(|entry| match &entry.kind {
                EntryKind::ProfileSpread(spread) => Some(spread.user),
                _ => None,
            });
        let users: BTreeSet<UserNo> = users.collect();
        let mut told = stream::iter(users)
            .map(|user| self.tell(user, stretch.after).boxed())
            .buffer_unordered(USERS_AT_ONCE);
        let mut failed = 0;
        while let Some(one) = told.next().await {
            failed += one?;
        }
        if failed > 0 && stretch.failures < ATTEMPTS {
            return Err(format!("{failed} rooms weren't told of new profiles").into());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn spread(field: &str, value: Option<&str>, was: Option<&Value>) -> Arc<Logged<ProfileSpread>> {
        let fact = ProfileSpread {
            user: UserNo(1),
            field: field.to_owned(),
            value: value.map(ToOwned::to_owned),
            was: was.map(Value::to_string),
        };
        Arc::new(Logged { pos: Pos(1), fact })
    }

    fn after(content: &Value, spreads: &[Arc<Logged<ProfileSpread>>]) -> Option<Value> {
        changed(content.as_object().unwrap(), spreads).map(Value::Object)
    }

    #[test]
    fn a_room_is_told_what_it_does_not_know() {
        let content =
            json!({ "membership": "join", "displayname": "A", "reason": "x", "org.x": 1 });
        let named = json!({ "membership": "join", "displayname": "B", "org.x": 1 });
        assert_eq!(after(&content, &[]), None);
        assert_eq!(
            after(&content, &[spread("displayname", Some("A"), None)]),
            None
        );
        assert_eq!(
            after(&content, &[spread("displayname", Some("B"), None)]),
            Some(named)
        );
        let both = [
            spread("displayname", None, None),
            spread("avatar_url", Some("mxc://a/b"), None),
        ];
        let told = json!({ "membership": "join", "avatar_url": "mxc://a/b", "org.x": 1 });
        assert_eq!(after(&content, &both), Some(told));
    }

    #[test]
    fn a_room_with_a_name_of_its_own_is_left_alone_if_that_is_wanted() {
        let content = json!({ "membership": "join", "displayname": "A" });
        let without = json!({ "membership": "join" });
        let unchanged = |was: Value| [spread("displayname", Some("B"), Some(&was))];
        assert!(after(&content, &unchanged("A".into())).is_some());
        assert_eq!(after(&content, &unchanged("C".into())), None);
        assert_eq!(after(&content, &unchanged(Value::Null)), None);
        assert!(after(&without, &unchanged(Value::Null)).is_some());
        assert_eq!(after(&without, &unchanged("A".into())), None);
    }
}
