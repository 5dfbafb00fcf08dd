//! Users who say two things in one place: two events of one sender that are alike in everything that places an event, or two
//! with one id where servers choose the ids.
//!
//! A server that tells some one thing and others another may want rooms to fall apart. They don't (both events are decided as
//! what they are), so nothing follows but that the operator is told. Where a server works on a room in several processes it
//! happens in all innocence.

use std::{
    collections::{HashMap, VecDeque},
    hash::{BuildHasher as _, RandomState},
    sync::{Mutex, PoisonError},
};

use rhizome_protocol::{Pdu, rules::EventIdFormat};
use ruma::OwnedEventId;

/// Of so many events, the last that came, it is known where they stand.
const REMEMBERED: usize = 20_000;

/// Where events stand that came lately.
#[derive(Debug, Default)]
pub(crate) struct Places {
    hasher: RandomState,
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    /// What stands in a place. By hashes with a random key, so that nobody can aim for one.
    at: HashMap<u64, Standing>,
    /// The places in the order in which they were taken.
    order: VecDeque<u64>,
}

#[derive(Debug)]
struct Standing {
    id: OwnedEventId,
    /// What the event says, where its id doesn't tell.
    says: u64,
    /// That something else was there, too, is told once.
    told: bool,
}

impl Places {
    /// Notes where a verified event stands. If another one stands there, and for the first time: which.
    pub(crate) fn note(&self, pdu: &Pdu) -> Option<OwnedEventId> {
        let explicit = pdu.rules().format.event_id == EventIdFormat::Explicit;
        if explicit && let Some(says) = claimed_hash(pdu) {
            let place = self.hasher.hash_one((pdu.room_id(), pdu.event_id()));
            let found = self.stand(place, pdu, self.hasher.hash_one(says));
            if found.is_some() {
                return found;
            }
        }
        let place = (
            (pdu.room_id(), pdu.sender(), pdu.kind(), pdu.state_key()),
            (pdu.depth(), pdu.prev_events()),
        );
        self.stand(self.hasher.hash_one(place), pdu, 0)
    }

    fn stand(&self, place: u64, pdu: &Pdu, says: u64) -> Option<OwnedEventId> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(standing) = known.at.get_mut(&place) {
            let is_same = *standing.id == *pdu.event_id() && standing.says == says;
            if is_same || standing.told {
                return None;
            }
            standing.told = true;
            return Some(standing.id.clone());
        }
        if known.order.len() >= REMEMBERED
            && let Some(oldest) = known.order.pop_front()
        {
            known.at.remove(&oldest);
        }
        known.order.push_back(place);
        let id = pdu.event_id().to_owned();
        let standing = Standing {
            id,
            says,
            told: false,
        };
        known.at.insert(place, standing);
        None
    }
}

/// The content hash that an event names, as it stands in its text: all that the event says, the same whether its content has
/// come or not. What comes after it and would look alike isn't there: an event whose hash doesn't hold has lost it.
fn claimed_hash(pdu: &Pdu) -> Option<&str> {
    let (_, after) = pdu.json().rsplit_once("\"hashes\":{\"sha256\":\"")?;
    after.split('"').next()
}

#[cfg(test)]
mod tests {
    use rhizome_protocol::{
        Object, RoomRules,
        canonical::{parse_object, to_canonical_tolerant},
        draft,
        sign::{KeyPair, hash_and_sign_pdu},
    };
    use ruma::server_name;
    use serde_json::{Value, json};

    use super::*;

    fn object(body: &str, change: &[(&str, Value)]) -> Object {
        let mut event = json!({ "type": "m.room.message", "sender": "@a:one.org", "room_id": "!r:one.org",
            "content": { "body": body }, "depth": 7, "origin_server_ts": 1, "prev_events": [], "auth_events": [] });
        for (key, value) in change {
            event[*key] = value.clone();
        }
        parse_object(event.to_string().as_bytes()).unwrap()
    }

    fn key() -> KeyPair {
        KeyPair::from_seed("k", &[1; 32]).unwrap()
    }

    fn event(body: &str, change: &[(&str, Value)]) -> Pdu {
        let rules = RoomRules::named("11").unwrap();
        let object = object(body, change);
        draft::finish(rules, object, server_name!("one.org"), &key()).unwrap()
    }

    /// Of a version in which servers choose the ids.
    fn called(id: &str, body: &str, depth: i64) -> Pdu {
        let rules = RoomRules::named("1").unwrap();
        let mut object = object(body, &[("event_id", json!(id)), ("depth", json!(depth))]);
        hash_and_sign_pdu(rules, &mut object, server_name!("one.org"), &key()).unwrap();
        let json = to_canonical_tolerant(&object).unwrap();
        Pdu::from_stored(rules, id.try_into().unwrap(), json.into()).unwrap()
    }

    #[test]
    fn another_event_in_the_same_place_is_told_once() {
        let places = Places::default();
        let (one, two) = (event("one", &[]), event("two", &[]));
        let three = event("three", &[]);
        assert_eq!(places.note(&one), None);
        assert_eq!(places.note(&one), None, "it has come again");
        assert_eq!(places.note(&two).as_deref(), Some(one.event_id()));
        for again in [&two, &one, &three] {
            assert_eq!(places.note(again), None);
        }
        // What stands elsewhere is no contradiction.
        for change in [
            ("depth", json!(8)),
            ("type", json!("m.sticker")),
            ("sender", json!("@b:one.org")),
            ("room_id", json!("!s:one.org")),
            ("state_key", json!("")),
        ] {
            assert_eq!(places.note(&event("other", &[change])), None);
        }
        // One that came without its content has the same id.
        let whole = event("whole", &[("depth", json!(9))]);
        assert_eq!(places.note(&whole), None);
        assert_eq!(places.note(&whole.redacted()), None);
    }

    #[test]
    fn where_ids_are_chosen_two_events_may_have_one() {
        let places = Places::default();
        let (one, other) = (
            called("$x:one.org", "one", 7),
            called("$x:one.org", "two", 8),
        );
        assert_eq!(places.note(&one), None);
        assert_eq!(places.note(&one), None);
        assert_eq!(places.note(&one.redacted()), None, "it says the same");
        assert_eq!(places.note(&other).as_deref(), Some(one.event_id()));
        assert_eq!(places.note(&other), None);
    }

    #[test]
    fn so_many_are_remembered() {
        let places = Places::default();
        let first = event("first", &[]);
        places.note(&first);
        for place in 0..REMEMBERED as u64 {
            places.stand(place, &first, 0);
        }
        let known = places.known.lock().unwrap();
        assert_eq!(
            (known.at.len(), known.order.len()),
            (REMEMBERED, REMEMBERED)
        );
        drop(known);
        assert_eq!(places.note(&event("second", &[])), None, "it was forgotten");
    }
}
