//! A list of events as a room: whatever their content, the rules decide, and states merge to the same
//! whatever their order.
#![no_main]

use std::{collections::HashMap, sync::Arc};

use libfuzzer_sys::fuzz_target;
use rhizome_protocol::{
    Object, Pdu, RoomRules, StateKey,
    auth::{authorize, check_auth_events},
    resolve::{Events, StateMap, resolve},
};
use serde_json::Value;

struct All(HashMap<String, Arc<Pdu>>);

impl Events for All {
    fn event(&self, id: &ruma::EventId) -> Option<Arc<Pdu>> {
        self.0.get(id.as_str()).cloned()
    }
    fn rejected(&self, _: &ruma::EventId) -> bool {
        false
    }
}

/// The fields that every event has, where the input doesn't say otherwise.
fn whole(mut event: Object, rules: &RoomRules) -> Object {
    let mut put = |key: &str, value: Value| drop(event.entry(key).or_insert(value));
    put("type", "m.room.member".into());
    put("sender", "@a:b".into());
    put("room_id", "!r:b".into());
    put("event_id", "$x:b".into());
    put("content", Object::new().into());
    put("depth", 1.into());
    put("origin_server_ts", 1.into());
    put("prev_events", Vec::<Value>::new().into());
    put("auth_events", Vec::<Value>::new().into());
    put("signatures", Object::new().into());
    put("hashes", serde_json::json!({ "sha256": "x" }));
    if rules.format.room_id_is_create_hash && event["type"] == "m.room.create" {
        event.remove("room_id");
    }
    event
}

fuzz_target!(|bytes: &[u8]| {
    let Ok(events) = serde_json::from_slice::<Vec<Object>>(bytes) else {
        return;
    };
    for rules in RoomRules::supported() {
        let parsed = events.iter().take(20);
        let parsed = parsed.filter_map(|event| Pdu::parse(rules, whole(event.clone(), rules)).ok());
        let parsed: Vec<_> = parsed.map(Arc::new).collect();
        let all = All(parsed
            .iter()
            .map(|event| (event.event_id().to_string(), event.clone()))
            .collect());
        let named: Vec<_> = parsed.iter().map(|event| (event.clone(), false)).collect();
        for event in &parsed {
            let _ = check_auth_events(event, &named);
            let _ = authorize(event, &parsed);
        }
        let fork = |events: &mut dyn Iterator<Item = &Arc<Pdu>>| -> StateMap {
            let entry = |event: &Arc<Pdu>| {
                let key = StateKey::new(event.kind(), event.state_key()?);
                Some((key, event.event_id().to_owned()))
            };
            events.filter_map(entry).collect()
        };
        let mut forks = vec![
            fork(&mut parsed.iter()),
            fork(&mut parsed.iter().rev()),
            fork(&mut parsed.iter().step_by(2)),
        ];
        let merged = resolve(rules, &forks, &all);
        forks.reverse();
        assert_eq!(resolve(rules, &forks, &all), merged);
    }
});
