//! Bytes as a picture: thumbnails of the sizes that are asked for, or a reason; never more than the limits allow.
#![no_main]

use libfuzzer_sys::fuzz_target;
use rhizome_decoder::Limits;
use rhizome_decoder::picture::{Accepts, Ask, Format, Made, Method, probe, thumbnails};

fuzz_target!(|bytes: &[u8]| {
    let limits = Limits {
        pixels: 1 << 20,
        animated_pixels: 4 << 20,
        memory: 64 << 20,
        ..Limits::default()
    };
    let accepts = Accepts { webp: true, jpeg: true, png: true, gif: true };
    let ask = |width, height, method, webp| Ask {
        width,
        height,
        method,
        animated: true,
        accepts: Accepts { webp, ..accepts },
    };
    let asks = [
        ask(32, 32, Method::Crop, true),
        ask(40, 7, Method::Scale, false),
    ];
    let told = probe(bytes, &limits);
    let Ok(all) = thumbnails(bytes, &asks, true, &limits) else {
        return;
    };
    assert_eq!(told.as_ref(), Ok(&all.source));
    for made in all.made {
        if let Made::Thumbnail(made) = made {
            assert_eq!(Format::of(&made.bytes), Some(made.format));
            assert!(made.width <= all.source.width && made.height <= all.source.height);
        }
    }
});
