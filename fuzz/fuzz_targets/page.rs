//! Bytes as a web page: what it says of itself is bounded, and the same when it is bounded again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use rhizome_decoder::page::{Page, read};

fuzz_target!(|bytes: &[u8]| {
    for content_type in [None, Some("text/html; charset=shift_jis"), Some("text/html; charset=utf-16")] {
        check(&read(bytes, content_type));
    }
});

fn check(page: &Page) {
    let texts = [
        (&page.title, 500),
        (&page.description, 1_500),
        (&page.site_name, 200),
        (&page.kind, 100),
        (&page.url, 2_000),
        (&page.image, 2_000),
        (&page.image_alt, 500),
        (&page.base, 2_000),
        (&page.oembed, 2_000),
    ];
    for (text, most) in texts {
        let Some(text) = text else { continue };
        assert!((1..=most).contains(&text.len()));
        assert!(!text.contains(char::is_control));
    }
    // Whoever asks takes no more for an answer.
    let json = serde_json::to_vec(page).expect("texts are JSON");
    assert!(json.len() <= 16 << 10);
}
