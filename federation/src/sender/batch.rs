//! What one transaction holds
//! (<https://spec.matrix.org/v1.19/server-server-api/#transactions>).

use std::collections::{BTreeMap, BTreeSet};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use rhizome_storage::{OutboundReceipt, Pos, StoredEvent, UserNo};
use ruma::{OwnedRoomId, OwnedUserId, RoomId, ServerName, UserId};
use serde_json::{Map, Value, json};
use std::sync::Arc;

use crate::xmatrix::canonical_text;

/// The most events of a transaction.
pub(crate) const MAX_PDUS: usize = 50;
/// The most ephemeral data units of a transaction.
pub(crate) const MAX_EDUS: usize = 100;
/// Of these, for receipts: more than one is only needed for one user's receipts in several threads.
pub(crate) const MAX_RECEIPT_EDUS: usize = 20;
/// Of these, for messages to devices, so that neither takes the other's place, nor that of typing.
pub(crate) const MAX_TO_DEVICE: usize = 50;
/// The most bytes of these; one is always taken.
pub(crate) const MAX_TO_DEVICE_BYTES: usize = 2 << 20;

/// One transaction's content.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    /// Events, in log order.
    pub(crate) events: Vec<Arc<StoredEvent>>,
    /// Sticky events from before the destination came into a room, with where they were told to be so. They come alone.
    pub(crate) sticky: Vec<(Pos, Arc<StoredEvent>)>,
    /// Events of one room that a run has passed over and that are sent after all. They come alone, too.
    pub(crate) passed_over: Vec<(Pos, Arc<StoredEvent>)>,
    /// Messages to devices with their positions, in log order: canonical JSON of data units.
    pub(crate) to_device: Vec<(Pos, Arc<str>)>,
    /// Canonical JSON of ephemeral data units.
    pub(crate) edus: Vec<String>,
    /// Whose presence these tell.
    pub(crate) presence: Vec<UserNo>,
    /// Where that stands of which these tell and which must not get lost: receipts, and changes of devices.
    pub(crate) told: Vec<Pos>,
    /// When this is delivered, everything up to here is.
    pub(crate) upto: Pos,
}

impl Batch {
    pub(crate) fn is_empty(&self) -> bool {
        self.events.is_empty()
            && self.sticky.is_empty()
            && self.passed_over.is_empty()
            && self.to_device.is_empty()
            && self.edus.is_empty()
    }

    /// How many things there are in it that must not get lost; those of one position are one.
    pub(crate) fn items(&self) -> usize {
        self.places().len()
    }

    /// Whether it is one event or message, and what is told beside.
    pub(crate) fn is_mixed(&self) -> bool {
        let is_one = self.all_events().next().is_some() || !self.to_device.is_empty();
        self.items() == 1 && is_one && !self.edus.is_empty()
    }

    fn places(&self) -> BTreeSet<Pos> {
        let events = self.events.iter().filter_map(|event| event.pos());
        let to_device = self.to_device.iter().map(|(pos, _)| *pos);
        let told = self.told.iter().copied();
        let earlier = self.sticky.iter().chain(&self.passed_over);
        let earlier = earlier.map(|(pos, _)| *pos);
        events.chain(earlier).chain(to_device).chain(told).collect()
    }

    /// Keeps what stands up to a position, up to which everything is then delivered.
    pub(crate) fn cut(&mut self, upto: Pos) {
        self.upto = upto;
        let stays = |event: &Arc<StoredEvent>| event.pos().is_none_or(|pos| pos <= upto);
        self.events.retain(stays);
        self.to_device.retain(|(pos, _)| *pos <= upto);
        self.told.retain(|pos| *pos <= upto);
    }

    /// Keeps so many of the things that must not get lost, the first in the log.
    pub(crate) fn first(&mut self, most: usize) {
        let places = self.places();
        let last = most.checked_sub(1);
        if let Some(last) = last.and_then(|last| places.iter().nth(last))
            && places.len() > most
        {
            self.cut(*last);
        }
    }

    fn all_events(&self) -> impl Iterator<Item = &Arc<StoredEvent>> {
        let earlier = self.sticky.iter().chain(&self.passed_over);
        earlier.map(|(_, event)| event).chain(&self.events)
    }

    fn all_edus(&self) -> impl Iterator<Item = &str> {
        let to_device = self.to_device.iter().map(|(_, edu)| &**edu);
        to_device.chain(self.edus.iter().map(String::as_str))
    }

    /// The body, canonical as it stands here. `now` in ms.
    pub(crate) fn body(&self, origin: &ServerName, now: i64) -> String {
        let events = self.all_events().map(|event| event.pdu.json().len() + 1);
        let to_device = self.to_device.iter().map(|(_, edu)| edu.len() + 1);
        let size: usize = events.chain(to_device).sum();
        let mut body = String::with_capacity(size + 1024);
        body.push_str("{\"edus\":[");
        join(&mut body, self.all_edus());
        body.push_str("],\"origin\":");
        body.push_str(&Value::from(origin.as_str()).to_string());
        body.push_str(",\"origin_server_ts\":");
        body.push_str(&now.to_string());
        body.push_str(",\"pdus\":[");
        join(
            &mut body,
            self.all_events().map(|event| &**event.pdu.json()),
        );
        body.push_str("]}");
        body
    }

    /// A transaction id: the same for the same content as long as `round` is the same, so that a
    /// repeated attempt is known as such.
    pub(crate) fn id(&self, round: &str) -> String {
        let mut digest = ring::digest::Context::new(&ring::digest::SHA256);
        digest.update(round.as_bytes());
        for event in self.all_events() {
            digest.update(b"\0");
            digest.update(event.pdu.event_id().as_bytes());
        }
        for edu in self.all_edus() {
            digest.update(b"\0");
            digest.update(edu.as_bytes());
        }
        URL_SAFE_NO_PAD.encode(&digest.finish().as_ref()[..16])
    }
}

fn join<'a>(out: &mut String, parts: impl Iterator<Item = &'a str>) {
    for (at, part) in parts.enumerate() {
        if at > 0 {
            out.push(',');
        }
        out.push_str(part);
    }
}

/// An ephemeral data unit as canonical JSON.
pub(crate) fn edu(kind: &str, content: &Value) -> String {
    canonical_text(&json!({ "content": content, "edu_type": kind }))
}

/// `m.typing` as an EDU.
pub(crate) fn typing_edu(room: &RoomId, user: &UserId, typing: bool) -> String {
    edu(
        "m.typing",
        &json!({ "room_id": room, "user_id": user, "typing": typing }),
    )
}

/// What one unit of receipts has: by room, type and user.
type Unit = BTreeMap<OwnedRoomId, BTreeMap<String, BTreeMap<OwnedUserId, Value>>>;

/// Receipts as few `m.receipt` units: each holds one receipt per room, type and user. If there is no room for
/// all, says before which position it stopped.
pub(crate) fn receipt_edus(receipts: &[OutboundReceipt], max: usize) -> (Vec<String>, Option<Pos>) {
    let mut units: Vec<Unit> = Vec::new();
    let mut stopped = None;
    for receipt in receipts {
        let mut data = Map::from_iter([("ts".to_owned(), Value::from(receipt.ts))]);
        if let Some(thread) = &receipt.thread {
            data.insert("thread_id".to_owned(), Value::from(thread.as_str()));
        }
        let value = json!({ "data": data, "event_ids": [receipt.event_id] });
        let free = units.iter().position(|unit| {
            !unit
                .get(&receipt.room_id)
                .and_then(|kinds| kinds.get(&receipt.kind))
                .is_some_and(|users| users.contains_key(&receipt.user_id))
        });
        let index = match free {
            Some(index) => index,
            None if units.len() < max => {
                units.push(BTreeMap::new());
                units.len() - 1
            }
            None => {
                stopped = Some(receipt.pos);
                break;
            }
        };
        units[index]
            .entry(receipt.room_id.clone())
            .or_default()
            .entry(receipt.kind.clone())
            .or_default()
            .insert(receipt.user_id.clone(), value);
    }
    let edus = units.into_iter().map(|unit| {
        let rooms: Map<String, Value> = unit
            .into_iter()
            .map(|(room, kinds)| (room.to_string(), json!(kinds)))
            .collect();
        edu("m.receipt", &Value::Object(rooms))
    });
    (edus.collect(), stopped)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn receipt(pos: i64, room: &str, user: &str, thread: Option<&str>) -> OutboundReceipt {
        OutboundReceipt {
            pos: Pos(pos),
            room_id: room.try_into().unwrap(),
            user_id: user.try_into().unwrap(),
            kind: "m.read".to_owned(),
            event_id: "$e".try_into().unwrap(),
            thread: thread.map(str::to_owned),
            ts: 7,
        }
    }

    #[test]
    fn receipts_are_joined_and_threads_kept_apart() {
        let receipts = [
            receipt(1, "!a:x", "@u:x", None),
            receipt(2, "!a:x", "@v:x", None),
            receipt(3, "!b:x", "@u:x", None),
            receipt(4, "!a:x", "@u:x", Some("main")),
        ];
        let (edus, stopped) = receipt_edus(&receipts, 10);
        assert_eq!(stopped, None);
        assert_eq!(
            edus,
            [
                concat!(
                    r#"{"content":{"!a:x":{"m.read":{"@u:x":{"data":{"ts":7},"event_ids":["$e"]},"#,
                    r#""@v:x":{"data":{"ts":7},"event_ids":["$e"]}}},"!b:x":{"m.read":{"@u:x":"#,
                    r#"{"data":{"ts":7},"event_ids":["$e"]}}}},"edu_type":"m.receipt"}"#
                ),
                concat!(
                    r#"{"content":{"!a:x":{"m.read":{"@u:x":{"data":{"thread_id":"main","ts":7},"#,
                    r#""event_ids":["$e"]}}}},"edu_type":"m.receipt"}"#
                ),
            ]
        );
        let (edus, stopped) = receipt_edus(&receipts, 1);
        assert_eq!((edus.len(), stopped), (1, Some(Pos(4))));
    }

    #[test]
    fn halves_are_of_all_that_must_not_get_lost() {
        let mut batch = Batch {
            to_device: (3..9).map(|pos| (Pos(pos), "{}".into())).collect(),
            upto: Pos(20),
            ..Batch::default()
        };
        batch.first(6);
        assert_eq!((batch.items(), batch.upto), (6, Pos(20)));
        batch.first(3);
        assert_eq!((batch.items(), batch.upto), (3, Pos(5)));
        batch.first(1);
        assert_eq!((batch.items(), batch.upto), (1, Pos(3)));
        // What else stands there goes with it; what comes before it is one more.
        batch.told = vec![Pos(2), Pos(2), Pos(3)];
        assert_eq!(batch.items(), 2);
        batch.first(1);
        assert_eq!((batch.items(), batch.upto), (1, Pos(2)));
        assert_eq!((batch.told.len(), batch.to_device.len()), (2, 0));
    }

    #[test]
    fn the_body_is_canonical_and_the_id_follows_the_content() {
        let mut batch = Batch {
            edus: vec![edu("m.typing", &json!({"b": 1, "a": 2}))],
            ..Batch::default()
        };
        let body = batch.body("a.example".try_into().unwrap(), 5);
        let object = rhizome_protocol::canonical::parse_object(body.as_bytes()).unwrap();
        assert_eq!(
            rhizome_protocol::canonical::to_canonical(&object).unwrap(),
            body
        );
        let id = batch.id("r1");
        assert_eq!(id, batch.id("r1"));
        assert_ne!(id, batch.id("r2"));
        batch.edus.push(edu("m.x", &json!({})));
        assert_ne!(id, batch.id("r1"));
    }
}
