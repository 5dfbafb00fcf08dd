//! Bytes as an `Authorization` header: an X-Matrix header, another scheme, or a reason; and never a valid
//! signature.
#![no_main]

use libfuzzer_sys::fuzz_target;
use rhizome_federation::xmatrix::{Signed, XMatrix};
use ruma::server_name;

fuzz_target!(|bytes: &[u8]| {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    let Ok(Some(header)) = XMatrix::parse(text) else {
        return;
    };
    assert_eq!(header.signature.len(), 64);
    // Written down again it is the same.
    let destination = header.destination.as_ref();
    let destination = destination.map_or(String::new(), |name| format!("destination=\"{name}\","));
    let quote = |text: &str| text.replace('\\', "\\\\").replace('"', "\\\"");
    let again = format!(
        "X-Matrix origin=\"{}\",{destination}key=\"{}\",sig=\"{}\"",
        header.origin,
        quote(&header.key_id),
        base64(&header.signature),
    );
    if again.len() < 4096 {
        assert_eq!(XMatrix::parse(&again), Ok(Some(header.clone())));
    }
    let request = Signed::new("GET", "/", b"").unwrap();
    assert!(!header.verifies(&[1; 32], server_name!("here.example"), &request));
});

fn base64(bytes: &[u8]) -> String {
    ruma::serde::Base64::<ruma::serde::base64::Standard, _>::new(bytes).to_string()
}
