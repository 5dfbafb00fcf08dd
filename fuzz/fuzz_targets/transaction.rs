//! Bytes as the body of a transaction: what is signed of it, and each of its events as one of every room
//! version, checked with keys that sign nothing.
#![no_main]

use libfuzzer_sys::fuzz_target;
use rhizome_federation::xmatrix::Signed;
use rhizome_protocol::{
    Incoming, Membership, RoomRules,
    receive::{KeyLookup, Keys, event_id, servers_to_sign, verify},
};
use serde_json::value::RawValue;

const TARGET: &str = "/_matrix/federation/v1/send/1";

struct AnyKey;

impl Keys for AnyKey {
    fn key(&self, _: &ruma::ServerName, key_id: &str, _: i64) -> KeyLookup {
        match key_id.len() % 3 {
            0 => KeyLookup::Unknown,
            1 => KeyLookup::Expired,
            _ => KeyLookup::Found([2; 32]),
        }
    }
}

/// The texts of the events, as the server takes them out of the body.
fn events(bytes: &[u8]) -> Vec<Box<RawValue>> {
    let body: std::collections::BTreeMap<String, Box<RawValue>> =
        serde_json::from_slice(bytes).unwrap_or_default();
    let pdus = body.get("pdus").map_or("[]", |pdus| pdus.get());
    serde_json::from_str(pdus).unwrap_or_default()
}

fuzz_target!(|bytes: &[u8]| {
    let readings: Vec<_> = Signed::readings("PUT", TARGET, bytes).collect();
    let Ok(signed) = Signed::new("PUT", TARGET, bytes) else {
        return;
    };
    // No event makes the request around it unreadable.
    assert!(readings.iter().all(Result::is_ok));
    let content = signed.into_content().unwrap_or_default();
    let again = Signed::new("PUT", TARGET, content.as_bytes());
    assert_eq!(again.unwrap().into_content().unwrap_or_default(), content);
    for raw in events(bytes).iter().take(50) {
        let Ok(event) = Incoming::parse(raw.get().as_bytes()) else {
            continue;
        };
        for rules in RoomRules::supported() {
            servers_to_sign(rules, &event);
            let id = event_id(rules, &event);
            let Ok(pdu) = verify(rules, event.clone(), &AnyKey) else {
                continue;
            };
            assert_eq!(id.as_deref(), Some(pdu.event_id()));
            // Nobody signed this, so it must still say what excuses that.
            assert_eq!(pdu.membership(), Some(Membership::Invite));
            assert!(pdu.content()["third_party_invite"].is_object());
            let again = Incoming::parse(pdu.json().as_bytes()).unwrap();
            assert_eq!(verify(rules, again, &AnyKey), Ok(pdu));
        }
    }
});
