//! Bytes as JSON: what parses has one canonical form, which parses to itself, whoever writes it.
#![no_main]

use libfuzzer_sys::fuzz_target;
use rhizome_protocol::{
    Incoming,
    as_sent::{Numbers, canonical_text},
    canonical::{parse_object, to_canonical, to_canonical_relaxed, to_canonical_tolerant},
};

fuzz_target!(|bytes: &[u8]| {
    for numbers in [Numbers::AsSent, Numbers::AsRead] {
        if let Ok(text) = canonical_text(bytes, numbers) {
            assert_eq!(canonical_text(text.as_bytes(), numbers).unwrap(), text);
        }
    }
    let Ok(object) = parse_object(bytes) else {
        return;
    };
    canonical_text(bytes, Numbers::AsSent).unwrap();
    let tolerant = to_canonical_tolerant(&object).unwrap();
    let again = parse_object(tolerant.as_bytes()).unwrap();
    assert_eq!(to_canonical_tolerant(&again).unwrap(), tolerant);
    to_canonical_relaxed(&object).unwrap();
    if let Ok(strict) = to_canonical(&object) {
        let again = parse_object(strict.as_bytes()).unwrap();
        assert_eq!(to_canonical(&again).unwrap(), strict);
        let as_sent = canonical_text(strict.as_bytes(), Numbers::AsRead);
        assert_eq!(as_sent.unwrap(), strict);
        assert_eq!(Incoming::parse(bytes).unwrap().into_object(), object);
    }
});
