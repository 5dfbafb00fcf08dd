//! Rules 2 and 3: what an event names as its auth events.

use std::{collections::HashSet, sync::Arc};

use super::{deny, selection::auth_keys_of};
use crate::{Pdu, Rejection};

/// The rules about the auth events that an event names (2 and 3). `auth_events` holds each with whether it
/// was rejected, in any order; in v12 it may hold the implied create event, whose rejection counts too.
pub fn check_auth_events(event: &Pdu, auth_events: &[(Arc<Pdu>, bool)]) -> Result<(), Rejection> {
    if event.kind() == "m.room.create" {
        return Ok(());
    }
    let implied_create = event.implied_create();
    let expected = auth_keys_of(event);
    let mut seen = HashSet::with_capacity(auth_events.len());
    let mut has_create = implied_create.is_some();
    for (auth_event, rejected) in auth_events {
        let id = auth_event.event_id();
        let is_create = auth_event.is_state("m.room.create", "");
        // 2. The room id names an accepted create event.
        if implied_create.as_deref() == Some(id) {
            if !is_create || *rejected {
                return deny(
                    "auth 2",
                    format!("{id}, which the room id implies, is no accepted create event"),
                );
            }
            continue;
        }
        let key = (
            auth_event.kind(),
            auth_event.state_key().unwrap_or_default(),
        );
        // 3.1. No duplicates.
        if !seen.insert(key) {
            return deny(
                "auth 3.1",
                format!("the auth events name ({}, {:?}) twice", key.0, key.1),
            );
        }
        // 3.2. None but those that the selection names.
        if auth_event.state_key().is_none() || !expected.contains(&key) {
            return deny(
                "auth 3.2",
                format!(
                    "({}, {:?}) doesn't belong into the auth events",
                    key.0, key.1
                ),
            );
        }
        // 3.3. None that was rejected.
        if *rejected {
            return deny("auth 3.3", format!("the auth event {id} was rejected"));
        }
        // 3.5. All of the same room.
        if auth_event.room_id() != event.room_id() {
            return deny(
                "auth 3.5",
                format!("the auth event {id} is of another room"),
            );
        }
        has_create |= is_create;
    }
    // 2.4 of versions up to 11: the create event is among them.
    if !has_create {
        return deny("auth 3.4", "there is no create event among the auth events");
    }
    Ok(())
}
