//! Bytes without what needn't be told: twice is once, and what can be shown before can be shown the same after.
#![no_main]

use libfuzzer_sys::fuzz_target;
use rhizome_decoder::Limits;
use rhizome_decoder::picture::{blurhash, probe};
use rhizome_decoder::strip::strip;

fuzz_target!(|bytes: &[u8]| {
    let (mut once, mut twice) = (Vec::new(), Vec::new());
    let Ok(told) = strip(bytes, &mut once) else {
        return;
    };
    assert_eq!(told.written, once.len() as u64);
    assert_eq!(strip(&*once, &mut twice).expect("what was stripped is whole"), told_again(&told));
    assert_eq!(once, twice);
    let limits = Limits {
        pixels: 1 << 18,
        memory: 64 << 20,
        ..Limits::default()
    };
    if let (Ok(before), Ok(after)) = (probe(bytes, &limits), probe(&once, &limits)) {
        assert_eq!((before.width, before.height), (after.width, after.height));
        if let Ok(blur) = blurhash(bytes, &limits) {
            assert_eq!(Ok(blur), blurhash(&once, &limits));
        }
    }
});

fn told_again(told: &rhizome_decoder::strip::Stripped) -> rhizome_decoder::strip::Stripped {
    rhizome_decoder::strip::Stripped {
        read: told.written,
        ..told.clone()
    }
}
