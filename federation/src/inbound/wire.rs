//! Large answers, written straight from the events' stored text, piece by piece.
//!
//! What an answer consists of is known in numbers before it begins; the events are loaded as far as the
//! other server has read. What goes wrong up to the first piece is a Matrix error as everywhere; after that
//! the connection breaks off, so that nobody takes a part for the whole.

use std::collections::VecDeque;

use axum::body::Bytes;
use futures_util::stream;
use http::HeaderValue;
use rhizome_edge::Content;
use rhizome_protocol::Pdu;
use rhizome_storage::{EventNo, Store};
use serde::Serialize;
use serde_json::value::RawValue;

use crate::MatrixError;

/// How many events are loaded at a time.
const CHUNK: usize = 256;
/// What the answers are, whole or streamed.
const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// A JSON object whose members are written one by one.
#[derive(Default)]
pub(super) struct Writer {
    parts: VecDeque<Part>,
    /// What comes after the last of the parts.
    text: String,
    members: usize,
    end: &'static str,
}

/// A part of an answer.
enum Part {
    Text(String),
    /// Events, or their ids, separated by commas.
    List {
        nos: Vec<EventNo>,
        ids: bool,
    },
}

impl Writer {
    pub(super) fn new() -> Self {
        Self {
            text: "{".to_owned(),
            ..Self::default()
        }
    }

    fn key(&mut self, key: &'static str) {
        if self.members > 0 {
            self.text.push(',');
        }
        self.members += 1;
        // Keys are ours: plain names that need no escapes.
        self.text.push('"');
        self.text.push_str(key);
        self.text.push_str("\":");
    }

    /// A member of any serialisable value.
    pub(super) fn value(
        mut self,
        key: &'static str,
        value: &impl Serialize,
    ) -> Result<Self, MatrixError> {
        self.key(key);
        let value = serde_json::to_string(value).map_err(|error| {
            tracing::error!(%error, key, "a response can't be encoded");
            MatrixError::internal()
        })?;
        self.text.push_str(&value);
        Ok(self)
    }

    /// A member that is an event.
    pub(super) fn event(mut self, key: &'static str, pdu: &Pdu) -> Self {
        self.key(key);
        self.text.push_str(pdu.json());
        self
    }

    /// A member that is a list of events.
    pub(super) fn events(self, key: &'static str, nos: Vec<EventNo>) -> Self {
        self.list(key, nos, false)
    }

    /// A member that is a list of events' ids.
    pub(super) fn ids(self, key: &'static str, nos: Vec<EventNo>) -> Self {
        self.list(key, nos, true)
    }

    fn list(mut self, key: &'static str, nos: Vec<EventNo>, ids: bool) -> Self {
        self.key(key);
        self.text.push('[');
        self.parts
            .push_back(Part::Text(std::mem::take(&mut self.text)));
        self.parts.push_back(Part::List { nos, ids });
        self.text.push(']');
        self
    }

    /// The object between these texts.
    pub(super) fn within(mut self, before: &'static str, after: &'static str) -> Self {
        self.parts.push_front(Part::Text(before.to_owned()));
        self.end = after;
        self
    }

    /// The whole object. Its first piece is read now.
    ///
    /// # Errors
    /// The database's.
    pub(super) async fn finish(mut self, store: &Store) -> Result<Content, MatrixError> {
        self.text.push('}');
        self.text.push_str(self.end);
        self.parts.push_back(Part::Text(self.text));
        let mut pieces = Pieces {
            store: store.clone(),
            parts: self.parts,
            at: 0,
        };
        let first = pieces.next().await?;
        if pieces.parts.is_empty() {
            return Ok(Content::of_bytes(JSON, first));
        }
        let first = stream::iter([Ok(first)]);
        let rest = stream::unfold(pieces, async |mut pieces| {
            if pieces.parts.is_empty() {
                return None;
            }
            let piece = pieces.next().await;
            if let Err(error) = &piece {
                tracing::warn!(%error, "an answer breaks off");
                pieces.parts.clear();
            }
            Some((piece, pieces))
        });
        let pieces = stream::StreamExt::chain(first, rest);
        Ok(Content::streamed(JSON, None, pieces))
    }
}

/// What of an answer is yet to be written.
struct Pieces {
    store: Store,
    parts: VecDeque<Part>,
    /// How many of the first part's events are written.
    at: usize,
}

impl Pieces {
    /// The next piece: all up to the next events, and some of those.
    async fn next(&mut self) -> Result<Bytes, MatrixError> {
        let mut out = String::new();
        let mut left = CHUNK;
        while let Some(part) = self.parts.front() {
            let (nos, ids) = match part {
                Part::Text(text) => {
                    out.push_str(text);
                    self.parts.pop_front();
                    continue;
                }
                Part::List { nos, ids } => (nos, *ids),
            };
            if left == 0 && self.at < nos.len() {
                break;
            }
            let upto = nos.len().min(self.at + left);
            write(&self.store, &nos[self.at..upto], ids, self.at > 0, &mut out).await?;
            left -= upto - self.at;
            self.at = upto;
            if upto == nos.len() {
                self.parts.pop_front();
                self.at = 0;
            }
        }
        Ok(out.into())
    }
}

/// Writes events or their ids; `more`: after others.
async fn write(
    store: &Store,
    nos: &[EventNo],
    ids: bool,
    mut more: bool,
    out: &mut String,
) -> Result<(), MatrixError> {
    let mut add = |text: &str| {
        if std::mem::replace(&mut more, true) {
            out.push(',');
        }
        out.push_str(text);
    };
    if ids {
        for id in store.event_ids_of(nos).await? {
            add(&serde_json::Value::from(id.as_str()).to_string());
        }
    } else {
        for text in store.event_texts(nos).await? {
            add(&text);
        }
    }
    Ok(())
}

/// An event as ruma's response types want it.
pub(super) fn raw(pdu: &Pdu) -> Result<Box<RawValue>, MatrixError> {
    RawValue::from_string(pdu.json().to_string()).map_err(|error| {
        tracing::error!(%error, event = %pdu.event_id(), "a stored event isn't JSON");
        MatrixError::internal()
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use rhizome_edge::Reply as _;
    use rhizome_protocol::{Object, sign::KeyPair};
    use rhizome_rooms::{
        Rooms,
        create::{
            create,
            plan::{CreateRoom, Policy, Preset},
        },
    };
    use rhizome_storage::testing::TestDatabase;
    use ruma::{RoomVersionId, server_name, user_id};

    use super::*;

    async fn body_of(content: Content) -> Result<Vec<u8>, axum::Error> {
        let whole = axum::body::to_bytes(content.reply().into_body(), usize::MAX).await;
        whole.map(|bytes| bytes.to_vec())
    }

    #[tokio::test]
    async fn members_are_separated() {
        let database = TestDatabase::sqlite();
        let store = database.open().await;
        let answer = || {
            Writer::new()
                .events("state", Vec::new())
                .value("n", &1)
                .unwrap()
                .ids("ids", Vec::new())
                .value("s", &"\"")
                .unwrap()
        };
        let whole = answer().finish(&store).await.unwrap();
        let text = br#"{"state":[],"n":1,"ids":[],"s":"\""}"#;
        assert_eq!(body_of(whole).await.unwrap(), text);
        let wrapped = answer().within("[200,", "]").finish(&store).await.unwrap();
        let text = [b"[200,", &text[..], b"]"].concat();
        assert_eq!(body_of(wrapped).await.unwrap(), text);
        let empty = Writer::new().finish(&store).await.unwrap();
        assert_eq!(body_of(empty).await.unwrap(), b"{}");
    }

    #[tokio::test]
    async fn what_fails_before_the_first_byte_is_an_error_and_later_a_broken_answer() {
        let database = TestDatabase::sqlite();
        let store = database.open().await;
        // Such an event isn't stored.
        let missing = vec![EventNo(77)];
        let early = Writer::new().events("state", missing.clone());
        let error = early.finish(&store).await.err().unwrap();
        assert_eq!((error.status.as_u16(), &*error.errcode), (500, "M_UNKNOWN"));
    }

    #[tokio::test]
    async fn what_fails_later_breaks_off() {
        let database = TestDatabase::sqlite();
        let store = database.open().await;
        let key = KeyPair::from_seed("a", &[1; 32]).unwrap();
        let here = server_name!("a.example").to_owned();
        let rooms = Rooms::new(store.clone(), here, Arc::new(key));
        let request = CreateRoom {
            creator: user_id!("@alice:a.example").to_owned(),
            creator_profile: Object::new(),
            version: RoomVersionId::V11,
            public: false,
            preset: Preset::PublicChat,
            name: None,
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
        };
        let room = create(&rooms, &request).await.unwrap().room_id;
        let head = store.room(&room).await.unwrap().unwrap();
        let stored = head.extremities[0].no;
        let mut nos = vec![stored; 3 * CHUNK];
        let whole = Writer::new().events("state", nos.clone());
        let whole = body_of(whole.finish(&store).await.unwrap()).await.unwrap();
        let whole: serde_json::Value = serde_json::from_slice(&whole).unwrap();
        assert_eq!(whole["state"].as_array().unwrap().len(), nos.len());
        assert_eq!(whole["state"][0], whole["state"][3 * CHUNK - 1]);

        nos.push(EventNo(i64::MAX));
        let broken = Writer::new().events("state", nos).finish(&store).await;
        assert!(body_of(broken.unwrap()).await.is_err());
    }
}
