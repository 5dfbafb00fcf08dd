//! Keys that a client puts into a backup, borrowed from the body in which they came.

use std::{borrow::Cow, fmt, marker::PhantomData};

use rhizome_protocol::canonical::{MAX_INT, parse_object};
use rhizome_storage::BackupSession;
use ruma::RoomId;
use serde::{
    Deserialize, Deserializer,
    de::{Error as _, MapAccess, Visitor, value::MapAccessDeserializer},
};
use serde_json::value::RawValue;

use crate::MatrixError;

/// The longest id of a room or a session, in bytes.
const MAX_ID: usize = 255;
/// The most bytes of a session's data, which have about a thousand.
const MAX_DATA: usize = 64 << 10;
/// The most rooms, or sessions of a room, that a body names: what is nearly empty takes more room in memory than in
/// the body.
const MOST_NAMES: usize = 100_000;

/// What the keys of a body are for.
#[derive(Debug, Clone)]
pub(super) enum For {
    /// Rooms that it names.
    Rooms,
    /// Sessions, that it names, of this room.
    Room(String),
    /// This session of this room.
    Session(String, String),
}

/// The keys of a body: rooms, with sessions, as they came. What is there twice is there twice.
#[derive(Debug)]
pub(super) struct Keys<'a>(Vec<(Cow<'a, str>, Sessions<'a>)>);

type Sessions<'a> = Vec<(Cow<'a, str>, Object<Key<'a>>)>;

/// A key (`KeyBackupData` in the specification).
#[derive(Debug, Deserialize)]
struct Key<'a> {
    first_message_index: u64,
    forwarded_count: u64,
    is_verified: bool,
    #[serde(borrow)]
    session_data: &'a RawValue,
}

#[derive(Deserialize)]
struct RoomsBody<'a> {
    #[serde(borrow)]
    rooms: Pairs<'a, Object<RoomBody<'a>>>,
}

#[derive(Deserialize)]
struct RoomBody<'a> {
    #[serde(borrow)]
    sessions: Pairs<'a, Object<Key<'a>>>,
}

impl<'a> Keys<'a> {
    /// What a body says.
    ///
    /// # Errors
    /// 400 for what isn't of the form that the specification gives.
    pub(super) fn parse(whose: &'a For, body: &'a [u8]) -> Result<Self, MatrixError> {
        let parsed = match whose {
            For::Rooms => serde_json::from_slice(body).map(|Object(RoomsBody { rooms })| {
                let rooms = rooms.0.into_iter();
                rooms
                    .map(|(id, Object(room))| (id, room.sessions.0))
                    .collect()
            }),
            For::Room(id) => serde_json::from_slice(body)
                .map(|Object(RoomBody { sessions })| vec![(id.into(), sessions.0)]),
            For::Session(room, session) => serde_json::from_slice(body)
                .map(|key| vec![(room.into(), vec![(session.into(), key)])]),
        };
        parsed
            .map(Self)
            .map_err(|error| MatrixError::of_json(&error))
    }

    /// The keys, each of which has been looked at.
    ///
    /// # Errors
    /// 400 for what isn't the id of a room or a session, for numbers beyond those of JSON in Matrix, for data that
    /// is too large or no object that every client can read.
    pub(super) fn checked(&self) -> Result<Vec<BackupSession<'_>>, MatrixError> {
        let count = self.0.iter().map(|(_, sessions)| sessions.len()).sum();
        let mut checked = Vec::with_capacity(count);
        for (room_id, sessions) in &self.0 {
            if room_id.len() > MAX_ID || RoomId::parse(room_id).is_err() {
                return Err(MatrixError::invalid_param(format!(
                    "{:?} is not the id of a room",
                    start(room_id)
                )));
            }
            for (session_id, Object(key)) in sessions {
                checked.push(session(room_id, session_id, key)?);
            }
        }
        Ok(checked)
    }
}

fn session<'a>(
    room_id: &'a str,
    session_id: &'a str,
    key: &Key<'a>,
) -> Result<BackupSession<'a>, MatrixError> {
    let named = || format!("session {:?} of {room_id}", start(session_id));
    if session_id.is_empty() || session_id.len() > MAX_ID {
        return Err(MatrixError::invalid_param(format!(
            "{}: its id has 1 to {MAX_ID} bytes",
            named()
        )));
    }
    let number = |number: u64| {
        let number = i64::try_from(number).ok();
        let number = number.filter(|number| *number <= MAX_INT);
        number.ok_or_else(|| MatrixError::bad_json(format!("{}: a number too large", named())))
    };
    let session_data = key.session_data.get();
    if session_data.len() > MAX_DATA {
        return Err(MatrixError::too_large(format!(
            "{}: its data has at most {MAX_DATA} bytes",
            named()
        )));
    }
    parse_object(session_data.as_bytes())
        .map_err(|error| MatrixError::bad_json(format!("{}: {error}", named())))?;
    Ok(BackupSession {
        room_id,
        session_id,
        first_message_index: number(key.first_message_index)?,
        forwarded_count: number(key.forwarded_count)?,
        is_verified: key.is_verified,
        session_data,
    })
}

/// As much of an id as an answer repeats.
fn start(id: &str) -> String {
    id.chars().take(64).collect()
}

/// What is written as an object: serde takes a list of the fields' values as well.
#[derive(Debug)]
struct Object<T>(T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(parser: D) -> Result<Self, D::Error> {
        parser.deserialize_map(ObjectVisitor(PhantomData))
    }
}

struct ObjectVisitor<T>(PhantomData<fn() -> T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for ObjectVisitor<T> {
    type Value = Object<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
        T::deserialize(MapAccessDeserializer::new(map)).map(Object)
    }
}

/// The members of an object in their order.
#[derive(Debug)]
struct Pairs<'a, V>(Vec<(Cow<'a, str>, V)>);

/// A name that is borrowed unless it is written with escapes.
#[derive(Deserialize)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

impl<'de: 'a, 'a, V: Deserialize<'de>> Deserialize<'de> for Pairs<'a, V> {
    fn deserialize<D: Deserializer<'de>>(parser: D) -> Result<Self, D::Error> {
        parser.deserialize_map(PairsVisitor(PhantomData))
    }
}

struct PairsVisitor<'a, V>(PhantomData<fn() -> Pairs<'a, V>>);

impl<'de: 'a, 'a, V: Deserialize<'de>> Visitor<'de> for PairsVisitor<'a, V> {
    type Value = Pairs<'a, V>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut pairs = Vec::new();
        while let Some((Name(name), value)) = map.next_entry()? {
            if pairs.len() >= MOST_NAMES {
                return Err(A::Error::custom(format_args!(
                    "more than {MOST_NAMES} of them"
                )));
            }
            pairs.push((name, value));
        }
        Ok(Pairs(pairs))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(whose: &For, body: &str) -> Result<Vec<String>, String> {
        let keys = Keys::parse(whose, body.as_bytes()).map_err(|error| error.errcode)?;
        let keys = keys.checked().map_err(|error| error.errcode)?;
        let told = keys.iter().map(|key| {
            let BackupSession {
                room_id,
                session_id,
                first_message_index: index,
                forwarded_count: count,
                is_verified,
                session_data,
            } = key;
            format!("{room_id} {session_id} {index} {count} {is_verified} {session_data}")
        });
        Ok(told.collect())
    }

    fn key(data: &str) -> String {
        format!(
            r#"{{"x":[1.5],"first_message_index":1,"forwarded_count":2,"is_verified":true,"session_data":{data}}}"#
        )
    }

    #[test]
    fn data_stays_as_it_came() {
        let data = r#"{ "b":1.50, "a" : "\u00e9" }"#;
        let key = key(data);
        let room = format!(r#"{{"sessions":{{"s\u0000":{key},"t":{key},"t":{key}}}}}"#);
        let rooms = format!(r#"{{"rooms":{{"!\u0061:x":{room},"!b:x":{{"sessions":{{}}}}}}}}"#);
        let wanted = |of: &str, id: &str| format!("{of} {id} 1 2 true {data}");
        assert_eq!(
            told(&For::Rooms, &rooms).unwrap(),
            ["s\u{0}", "t", "t"].map(|id| wanted("!a:x", id))
        );
        let here = For::Room("!c:x".into());
        assert_eq!(
            told(&here, &room).unwrap(),
            ["s\u{0}", "t", "t"].map(|id| wanted("!c:x", id))
        );
        let here = For::Session("!c:x".into(), "u".into());
        assert_eq!(told(&here, &key).unwrap(), [wanted("!c:x", "u")]);
    }

    #[test]
    fn there_are_only_so_many_rooms() {
        let body = |rooms: usize| {
            let rooms: Vec<_> = (0..rooms)
                .map(|n| format!(r#""!{n}:x":{{"sessions":{{}}}}"#))
                .collect();
            format!(r#"{{"rooms":{{{}}}}}"#, rooms.join(","))
        };
        assert!(told(&For::Rooms, &body(MOST_NAMES)).unwrap().is_empty());
        let refused = told(&For::Rooms, &body(MOST_NAMES + 1));
        assert_eq!(refused.unwrap_err(), "M_BAD_JSON");
    }

    #[test]
    fn what_is_odd_is_refused() {
        let one = For::Session("!c:x".into(), "u".into());
        let with = |index: &str, verified: &str, data: &str| {
            format!(
                r#"{{"first_message_index":{index},"forwarded_count":0,"is_verified":{verified},"session_data":{data}}}"#
            )
        };
        assert!(told(&one, &with("9007199254740991", "false", "{}")).is_ok());
        let deep = format!("{}1{}", "{\"a\":".repeat(101), "}".repeat(101));
        let large = format!("{{\"a\":\"{}\"}}", "x".repeat(MAX_DATA));
        for (body, errcode) in [
            (with("-1", "false", "{}"), "M_BAD_JSON"),
            (with("1.5", "false", "{}"), "M_BAD_JSON"),
            (with("\"1\"", "false", "{}"), "M_BAD_JSON"),
            (with("9007199254740992", "false", "{}"), "M_BAD_JSON"),
            (with("99999999999999999999", "false", "{}"), "M_BAD_JSON"),
            (with("1e999", "false", "{}"), "M_NOT_JSON"),
            (with("1", "0", "{}"), "M_BAD_JSON"),
            (with("1", "null", "{}"), "M_BAD_JSON"),
            (with("1", "false", "[]"), "M_BAD_JSON"),
            (with("1", "false", "\"{}\""), "M_BAD_JSON"),
            (with("1", "false", "null"), "M_BAD_JSON"),
            (with("1", "false", r#"{"a":1,"a":2}"#), "M_BAD_JSON"),
            (with("1", "false", r#"{"a":"\ud800"}"#), "M_BAD_JSON"),
            (with("1", "false", &deep), "M_BAD_JSON"),
            (with("1", "false", &large), "M_TOO_LARGE"),
            (with("1", "false", "{"), "M_NOT_JSON"),
            ("[]".into(), "M_BAD_JSON"),
            (String::new(), "M_NOT_JSON"),
            ("{}".into(), "M_BAD_JSON"),
            (format!("{} x", with("1", "false", "{}")), "M_NOT_JSON"),
            (
                r#"{"first_message_index":1,"first_message_index":1}"#.into(),
                "M_BAD_JSON",
            ),
        ] {
            assert_eq!(told(&one, &body).unwrap_err(), errcode, "{body:.200}");
        }
        let long = format!("!{}", "x".repeat(MAX_ID));
        for room in ["", "c:x", "#c:x", "@c:x", &long] {
            let here = For::Session(room.into(), "u".into());
            let refused = told(&here, &with("1", "false", "{}"));
            assert_eq!(refused.unwrap_err(), "M_INVALID_PARAM", "{room}");
        }
        for session in ["", &long] {
            let here = For::Session("!c:x".into(), session.into());
            let refused = told(&here, &with("1", "false", "{}"));
            assert_eq!(refused.unwrap_err(), "M_INVALID_PARAM", "{session}");
        }
        for body in [
            r#"{"rooms":[]}"#,
            r#"{"rooms":{"!a:x":[]}}"#,
            r#"{"rooms":{"!a:x":{}}}"#,
            r#"{"rooms":{"!a:x":{"sessions":[]}}}"#,
            r#"{"rooms":{},"rooms":{}}"#,
            "{}",
            "[{}]",
            r#"{"rooms":{"!a:x":[{}]}}"#,
            r#"{"rooms":{"!a:x":{"sessions":{"s":[1,1,true,{}]}}}}"#,
        ] {
            assert_eq!(told(&For::Rooms, body).unwrap_err(), "M_BAD_JSON", "{body}");
        }
    }
}
