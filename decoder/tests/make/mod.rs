//! Pictures for tests, made here so that they can be read in the tests.

#![allow(dead_code, clippy::unwrap_used, clippy::cast_possible_truncation)]

pub mod jpeg;
pub mod moving;
pub mod png;

/// What nobody may find in a file that was stripped.
pub const SECRET: &[u8] = b"52.5N 13.4E SECRET";

/// Smooth colours with some noise, of 1 to 4 channels; the last of an even number is transparency.
pub fn colours(width: u32, height: u32, channels: u32) -> Vec<u8> {
    let mut noise = 1_u32;
    let mut data = Vec::new();
    for y in 0..height {
        for x in 0..width {
            for channel in 0..channels {
                noise = noise.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                let value = x * (channel + 2) + y * 3 + (noise >> 29);
                let alpha = channels % 2 == 0 && channel == channels - 1;
                data.push(if alpha {
                    (x * 255 / width.max(1)) as u8
                } else {
                    value as u8
                });
            }
        }
    }
    data
}

/// An EXIF block with an orientation, a place, and a small picture's worth of secret.
pub fn exif(orientation: u8) -> Vec<u8> {
    let mut block = b"II*\0\x08\0\0\0\x02\0".to_vec();
    block.extend_from_slice(&[0x12, 1, 3, 0, 1, 0, 0, 0, orientation, 0, 0, 0]);
    // The directory of the place, of one entry.
    block.extend_from_slice(&[0x25, 0x88, 4, 0, 1, 0, 0, 0, 38, 0, 0, 0, 0, 0, 0, 0]);
    block.extend_from_slice(&[
        1,
        0,
        0x1b,
        0,
        7,
        0,
        SECRET.len() as u8,
        0,
        0,
        0,
        56,
        0,
        0,
        0,
        0,
        0,
        0,
        0,
    ]);
    block.extend_from_slice(SECRET);
    block
}

/// A colour profile of a length, as far as anybody looks.
pub fn profile(length: usize) -> Vec<u8> {
    let mut profile = vec![7; length.max(132)];
    let says = (profile.len() as u32).to_be_bytes();
    profile[..4].copy_from_slice(&says);
    profile[16..20].copy_from_slice(b"RGB ");
    profile[36..40].copy_from_slice(b"acsp");
    profile
}

/// Whether bytes are in a file.
pub fn has(file: &[u8], what: &[u8]) -> bool {
    file.windows(what.len()).any(|window| window == what)
}

/// The pixels of a file by decoders alone.
pub fn pixels(file: &[u8]) -> Vec<Vec<u8>> {
    match file {
        [0xff, ..] => vec![jpeg::pixels(file)],
        [0x89, ..] => png::pixels(file),
        _ => moving::webp_pixels(file),
    }
}

/// One valid file of each kind, small, with everything in it that may be said beside pixels.
pub fn talkative() -> Vec<(&'static str, Vec<u8>)> {
    let profile = profile(600);
    vec![
        (
            "jpeg",
            jpeg::talkative(&jpeg::jpeg(37, 23, false), 6, &profile),
        ),
        (
            "progressive jpeg",
            jpeg::talkative(&jpeg::jpeg(64, 48, true), 3, &profile),
        ),
        ("png", png::talkative(&png::png(19, 31, 4), 8, &profile)),
        ("grey png", png::talkative(&png::png(5, 3, 1), 1, &profile)),
        (
            "apng",
            png::talkative(&moving::apng(16, 12, 4), 5, &profile),
        ),
        (
            "webp",
            moving::talkative_webp(&moving::still_webp(21, 13), 6, &profile),
        ),
        (
            "moving webp",
            moving::talkative_webp(&moving::webp(16, 12, 3), 2, &profile),
        ),
    ]
}
