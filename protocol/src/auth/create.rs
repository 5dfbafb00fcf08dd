//! Rule 1: `m.room.create`.

use ruma::UserId;
use serde_json::Value;

use super::deny;
use crate::{Pdu, Rejection, RoomRules};

/// 1. Create events.
pub(super) fn check(event: &Pdu) -> Result<(), Rejection> {
    let (rules, content) = (event.rules(), event.content());
    // 1.1. Nothing comes before it.
    if !event.prev_events().is_empty() {
        return deny("auth 1.1", "a create event has no previous events");
    }
    // 1.2. Up to v11, the room id is of the sender's domain. (That v12's has none, parsing checks.)
    if !rules.format.room_id_is_create_hash
        && event
            .room_id()
            .as_str()
            .split_once(':')
            .map(|(_, domain)| domain)
            != Some(event.sender().server_name().as_str())
    {
        return deny("auth 1.2", "the room id is not of the sender's server");
    }
    // 1.3. A version that is known, and the one that the event is read by.
    match content.get("room_version") {
        None => {}
        Some(version) if version.as_str().and_then(RoomRules::named).is_some() => {}
        Some(version) => {
            return deny(
                "auth 1.3",
                format!("the room version {version} is not known"),
            );
        }
    }
    // 1.4 of versions up to 10: `creator`.
    if rules.format.creator_in_content && !content.contains_key("creator") {
        return deny("auth 1.4", "a create event of this version needs `creator`");
    }
    // 1.4 of v12: `additional_creators` are user ids.
    if rules.auth.privileged_creators
        && let Some(creators) = content.get("additional_creators")
    {
        let user_id = |value: &Value| value.as_str().is_some_and(|id| UserId::parse(id).is_ok());
        if !creators
            .as_array()
            .is_some_and(|creators| creators.iter().all(user_id))
        {
            return deny(
                "auth 1.4",
                "`additional_creators` must be an array of user ids",
            );
        }
    }
    // 1.5. Otherwise, allow.
    Ok(())
}
