//! An event in one line, and the reason why it was refused.

use std::collections::HashMap;

use rhizome_protocol::{Rejection, StateKey};
use rhizome_storage::{Placement, Status, Store, StoredEvent};
use ruma::{EventId, OwnedEventId, OwnedUserId};
use serde::Serialize;

use crate::Result;

/// What every report says about an event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct EventLine {
    /// Its id.
    pub event_id: OwnedEventId,
    /// Its type.
    #[serde(rename = "type")]
    pub kind: String,
    /// Its state key, if it is a state event.
    pub state_key: Option<String>,
    /// Who sent it.
    pub sender: OwnedUserId,
    /// Its depth.
    pub depth: i64,
    /// `accepted`, `soft-failed` or `rejected`.
    pub status: &'static str,
    /// `live`, `backfilled` or `outlier`.
    pub placement: &'static str,
    /// Why it isn't accepted.
    pub reason: Option<Reason>,
}

impl EventLine {
    /// The line of a stored event.
    pub fn of(event: &StoredEvent) -> Self {
        Self {
            event_id: event.pdu.event_id().to_owned(),
            kind: event.pdu.kind().to_owned(),
            state_key: event.pdu.state_key().map(str::to_owned),
            sender: event.pdu.sender().to_owned(),
            depth: event.depth,
            status: status(event.status),
            placement: placement(event.placement),
            reason: event.reason.as_deref().map(Reason::stored),
        }
    }
}

pub(crate) fn status(status: Status) -> &'static str {
    match status {
        Status::Accepted => "accepted",
        Status::SoftFailed => "soft-failed",
        Status::Rejected => "rejected",
    }
}

pub(crate) fn placement(placement: Placement) -> &'static str {
    match placement {
        Placement::Live => "live",
        Placement::Backfilled => "backfilled",
        Placement::Outlier => "outlier",
    }
}

/// An event that another one names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Mention {
    /// Its id.
    pub event_id: OwnedEventId,
    /// What we know of it; `None` if it isn't stored.
    pub stored: Option<EventLine>,
}

/// The events with these ids, in their order.
pub(crate) async fn mentions(store: &Store, ids: &[OwnedEventId]) -> Result<Vec<Mention>> {
    let found = store.events(ids).await?;
    let found: HashMap<&EventId, &StoredEvent> = found
        .iter()
        .map(|event| (event.pdu.event_id(), &**event))
        .collect();
    let mention = |id: &OwnedEventId| Mention {
        event_id: id.clone(),
        stored: found.get(&**id).map(|event| EventLine::of(event)),
    };
    Ok(ids.iter().map(mention).collect())
}

/// Why an event was refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Reason {
    /// A sentence that says what is wrong with it.
    pub text: String,
    /// The rule of the specification: `auth 5.3.3` is step 5.3.3 of the authorisation rules.
    pub rule: Option<String>,
    /// Where that rule is written.
    pub reference: Option<&'static str>,
}

impl Reason {
    /// Of what is stored with the event: a [`Rejection`] as it displays itself.
    pub fn stored(text: &str) -> Self {
        let parts = text
            .strip_suffix(')')
            .and_then(|text| text.rsplit_once(" ("));
        match parts {
            Some((text, rule)) => Self::new(text, rule),
            None => Self {
                text: text.to_owned(),
                rule: None,
                reference: None,
            },
        }
    }

    fn new(text: &str, rule: &str) -> Self {
        Self {
            text: text.to_owned(),
            rule: Some(rule.to_owned()),
            reference: reference(rule),
        }
    }
}

impl From<&Rejection> for Reason {
    fn from(rejection: &Rejection) -> Self {
        Self::new(&rejection.reason, rejection.rule)
    }
}

/// Rules are named by the steps of room version 12, those that only older versions have by version 1's.
fn reference(rule: &str) -> Option<&'static str> {
    if rule.starts_with("auth ") && rule.ends_with(" of v1") {
        Some("https://spec.matrix.org/v1.19/rooms/v1/#authorization-rules")
    } else if rule.starts_with("auth ") {
        Some("https://spec.matrix.org/v1.19/rooms/v12/#authorization-rules")
    } else if rule == "PDU format" {
        Some("https://spec.matrix.org/v1.19/rooms/v12/#event-format")
    } else if rule == Rejection::SIZE {
        Some("https://spec.matrix.org/v1.19/client-server-api/#size-limits")
    } else {
        None
    }
}

/// The two halves of a key, for reports.
pub(crate) fn halves(key: &StateKey) -> (String, String) {
    (key.kind.clone(), key.key.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stored_reason_is_a_rejection_again() {
        let rejection = Rejection::new("auth 5.3.3", "the user (an example) is banned");
        assert_eq!(
            Reason::stored(&rejection.to_string()),
            Reason::from(&rejection)
        );
        let old = Reason::stored("no rule is told");
        assert_eq!((old.rule, old.text.as_str()), (None, "no rule is told"));
    }

    #[test]
    fn rules_of_version_1_are_found_there() {
        assert!(reference("auth 4 of v1").is_some_and(|at| at.contains("/v1/")));
        assert!(reference("auth 5.3").is_some_and(|at| at.contains("/v12/")));
        assert_eq!(reference("event id"), None);
    }
}
