//! Bytes as an event of each room version: an event or a reason, and an event stays itself when it is
//! stored, read back, or redacted.
#![no_main]

use libfuzzer_sys::fuzz_target;
use rhizome_protocol::{Incoming, Pdu, RoomRules};

fuzz_target!(|bytes: &[u8]| {
    let Ok(event) = Incoming::parse(bytes) else {
        return;
    };
    for rules in RoomRules::supported() {
        let Ok(pdu) = Pdu::parse(rules, event.clone()) else {
            continue;
        };
        let id = pdu.event_id().to_owned();
        let stored = Pdu::from_stored(rules, id, pdu.json().clone()).unwrap();
        assert_eq!(stored, pdu);
        assert_eq!(stored.content(), pdu.content());
        assert_eq!(stored.raw_content(), pdu.raw_content());
        let again = Incoming::parse(pdu.json().as_bytes()).unwrap();
        assert_eq!(Pdu::parse(rules, again).unwrap(), pdu);
        let redacted = pdu.redacted();
        assert_eq!(redacted.reference_hash(), pdu.reference_hash());
        assert_eq!(redacted.redacted(), redacted);
        let again = Incoming::parse(redacted.json().as_bytes()).unwrap();
        assert_eq!(Pdu::parse(rules, again).unwrap().event_id(), pdu.event_id());
        // One hash has one content.
        assert!(redacted == pdu || !redacted.is_whole() || !pdu.is_whole());
    }
});
