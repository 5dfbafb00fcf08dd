//! Bytes as the body of a transaction: what is signed of it, and each of its events as one of every room
//! version, checked with keys that sign nothing.
#![no_main]

use libfuzzer_sys::fuzz_target;
use rhizome_federation::xmatrix::Signed;
use rhizome_protocol::{
    RoomRules,
    canonical::parse_object,
    receive::{KeyLookup, Keys, servers_to_sign, verify},
};

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

fuzz_target!(|bytes: &[u8]| {
    let Ok(signed) = Signed::new("PUT", "/_matrix/federation/v1/send/1", bytes) else {
        return;
    };
    let content = signed.into_content().unwrap_or_default();
    let again = Signed::new("PUT", "/_matrix/federation/v1/send/1", content.as_bytes());
    assert_eq!(again.unwrap().into_content().unwrap_or_default(), content);
    let Ok(body) = parse_object(bytes) else {
        return;
    };
    let pdus = body.get("pdus").and_then(|pdus| pdus.as_array());
    let pdus = pdus.into_iter().flatten().take(50);
    for pdu in pdus.filter_map(|pdu| pdu.as_object()) {
        for rules in RoomRules::supported() {
            servers_to_sign(rules, pdu);
            assert!(verify(rules, pdu.clone(), &AnyKey).is_err(), "nobody signed this");
        }
    }
});
