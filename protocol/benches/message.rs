//! What the core does for one message: made here, and received from another server.
//!
//! `cargo bench -p rhizome-protocol --bench message`
#![allow(clippy::unwrap_used, missing_docs)]

use std::{
    collections::{BTreeMap, HashMap},
    hint::black_box,
    sync::Arc,
};

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use rhizome_protocol::{
    Object, Pdu, RoomRules, StateKey,
    auth::{auth_keys, authorize},
    canonical::{parse_object, to_canonical},
    draft::{Draft, Place, build},
    hash::{content_hash, reference_hash},
    receive::{self, KeyLookup, Keys},
    sign::{KeyPair, sign_pdu},
};
use ruma::{OwnedEventId, OwnedRoomId, ServerName, owned_room_id, server_name, user_id};
use serde_json::{Value, json};

struct OneKey([u8; 32]);

impl Keys for OneKey {
    fn key(&self, _: &ServerName, _: &str, _: i64) -> KeyLookup {
        KeyLookup::Found(self.0)
    }
}

/// A room of version 11 with what a message is decided on.
struct Room {
    rules: &'static RoomRules,
    key: KeyPair,
    id: OwnedRoomId,
    state: HashMap<StateKey, Arc<Pdu>>,
    last: Vec<OwnedEventId>,
}

fn object(value: Value) -> Object {
    match value {
        Value::Object(object) => object,
        other => panic!("{other} is no object"),
    }
}

impl Room {
    fn new() -> Self {
        let mut room = Self {
            rules: RoomRules::named("11").unwrap(),
            key: KeyPair::from_seed("a_1", &[1; 32]).unwrap(),
            id: owned_room_id!("!room:one.example"),
            state: HashMap::new(),
            last: Vec::new(),
        };
        let alice = "@alice:one.example";
        for (kind, key, content) in [
            ("m.room.create", "", json!({ "room_version": "11" })),
            ("m.room.member", alice, json!({ "membership": "join" })),
            (
                "m.room.power_levels",
                "",
                json!({ "users": { alice: 100 } }),
            ),
            ("m.room.join_rules", "", json!({ "join_rule": "public" })),
        ] {
            let event = room.build(&room.draft(kind, Some(key), content));
            room.last = vec![event.event_id().to_owned()];
            room.state.insert(StateKey::new(kind, key), Arc::new(event));
        }
        room
    }

    fn draft(&self, kind: &str, state_key: Option<&str>, content: Value) -> Draft {
        Draft {
            room_id: Some(self.id.clone()),
            sender: user_id!("@alice:one.example").to_owned(),
            kind: kind.to_owned(),
            state_key: state_key.map(str::to_owned),
            content: object(content),
            redacts: None,
        }
    }

    fn message(&self) -> Draft {
        let content = json!({ "msgtype": "m.text", "body": "some words that people might say" });
        self.draft("m.room.message", None, content)
    }

    fn build(&self, draft: &Draft) -> Pdu {
        let keys = auth_keys(
            self.rules,
            &draft.kind,
            &draft.sender,
            draft.state_key.as_deref(),
            &draft.content,
        );
        let auth = keys
            .iter()
            .filter_map(|(kind, key)| self.state.get(&StateKey::new(kind, key)));
        let place = Place {
            prev_events: self.last.clone(),
            auth_events: auth.map(|event| event.event_id().to_owned()).collect(),
            depth: 10,
            origin_server_ts: 1_700_000_000_000,
            hashes: BTreeMap::new(),
            sticky_ms: None,
        };
        let server = server_name!("one.example");
        build(self.rules, draft, &place, server, &self.key).unwrap()
    }
}

fn message(criterion: &mut Criterion) {
    let room = Room::new();
    let draft = room.message();
    let event = room.build(&draft);
    let json = event.json().to_string();
    let parsed = parse_object(json.as_bytes()).unwrap();
    let keys = OneKey(room.key.public());
    let server = server_name!("one.example");

    let mut group = criterion.benchmark_group("message");
    group.bench_function("parse", |b| {
        b.iter(|| parse_object(black_box(json.as_bytes())).unwrap());
    });
    group.bench_function("canonical", |b| {
        b.iter(|| to_canonical(black_box(&parsed)).unwrap());
    });
    group.bench_function("content_hash", |b| {
        b.iter(|| content_hash(room.rules, black_box(&parsed)).unwrap());
    });
    group.bench_function("reference_hash", |b| {
        b.iter(|| reference_hash(room.rules, black_box(&parsed)).unwrap());
    });
    group.bench_function("sign", |b| {
        b.iter_batched(
            || parsed.clone(),
            |mut object| sign_pdu(room.rules, &mut object, server, &room.key).unwrap(),
            BatchSize::SmallInput,
        );
    });
    group.bench_function("authorize", |b| {
        b.iter(|| authorize(black_box(&event), black_box(&room.state)).unwrap());
    });
    group.bench_function("build", |b| b.iter(|| room.build(black_box(&draft))));
    group.bench_function("receive", |b| {
        b.iter(|| {
            let object = parse_object(black_box(json.as_bytes())).unwrap();
            receive::verify(room.rules, object, &keys).unwrap()
        });
    });
    group.finish();
}

criterion_group!(benches, message);
criterion_main!(benches);
