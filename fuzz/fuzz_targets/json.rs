//! Bytes as JSON: what parses has one canonical form, which parses to itself.
#![no_main]

use libfuzzer_sys::fuzz_target;
use rhizome_protocol::canonical::{
    parse_object, to_canonical, to_canonical_relaxed, to_canonical_tolerant,
};

fuzz_target!(|bytes: &[u8]| {
    let Ok(object) = parse_object(bytes) else {
        return;
    };
    let tolerant = to_canonical_tolerant(&object).unwrap();
    let again = parse_object(tolerant.as_bytes()).unwrap();
    assert_eq!(to_canonical_tolerant(&again).unwrap(), tolerant);
    to_canonical_relaxed(&object).unwrap();
    if let Ok(strict) = to_canonical(&object) {
        let again = parse_object(strict.as_bytes()).unwrap();
        assert_eq!(to_canonical(&again).unwrap(), strict);
    }
});
