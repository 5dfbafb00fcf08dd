//! JPEGs.

use jpeg_encoder::{ColorType, Encoder, SamplingFactor};
use zune_core::bytestream::ZCursor;
use zune_jpeg::JpegDecoder;

use super::{SECRET, colours, exif};

pub fn jpeg(width: u16, height: u16, progressive: bool) -> Vec<u8> {
    let mut file = Vec::new();
    let mut encoder = Encoder::new(&mut file, 85);
    encoder.set_progressive(progressive);
    encoder.set_sampling_factor(SamplingFactor::F_2_2);
    encoder.set_restart_interval(2);
    let data = colours(width.into(), height.into(), 3);
    encoder
        .encode(&data, width, height, ColorType::Rgb)
        .unwrap();
    file
}

pub fn segment(marker: u8, content: &[u8]) -> Vec<u8> {
    let length = u16::try_from(content.len() + 2).unwrap().to_be_bytes();
    [&[0xff, marker], &length[..], content].concat()
}

/// Puts segments behind the first marker.
pub fn with(file: &[u8], segments: &[Vec<u8>]) -> Vec<u8> {
    [&file[..2], &segments.concat(), &file[2..]].concat()
}

pub fn exif_segment(block: &[u8]) -> Vec<u8> {
    segment(0xe1, &[b"Exif\0\0", block].concat())
}

pub fn icc_segments(profile: &[u8], parts: usize) -> Vec<Vec<u8>> {
    let size = profile.len().div_ceil(parts);
    let parts = profile.chunks(size).enumerate();
    let of = u8::try_from(profile.len().div_ceil(size)).unwrap();
    parts
        .map(|(number, part)| {
            let number = u8::try_from(number + 1).unwrap();
            segment(0xe2, &[&b"ICC_PROFILE\0"[..], &[number, of], part].concat())
        })
        .collect()
}

/// With everything that a camera, an editor and a smuggler add.
pub fn talkative(file: &[u8], orientation: u8, profile: &[u8]) -> Vec<u8> {
    let mut segments = vec![
        exif_segment(&exif(orientation)),
        segment(0xe1, &[b"http://ns.adobe.com/xap/1.0/\0", SECRET].concat()),
        segment(0xed, &[b"Photoshop 3.0\x008BIM", SECRET].concat()),
        segment(0xfe, SECRET),
        segment(0xe2, &[b"MPF\0", SECRET].concat()),
        segment(0xef, SECRET),
        segment(0xe0, &[b"JFXX\0\x13", SECRET].concat()),
    ];
    segments.extend(icc_segments(profile, 2));
    [&with(file, &segments), &b"PK\x03\x04"[..], SECRET].concat()
}

pub fn pixels(file: &[u8]) -> Vec<u8> {
    JpegDecoder::new(ZCursor::new(file)).decode().unwrap()
}

/// A header that promises pixels, and a scan of nothing.
pub fn promise(width: u16, height: u16) -> Vec<u8> {
    let file = jpeg(16, 16, false);
    let mut file = with(&file, &[]);
    let frame = file
        .windows(2)
        .position(|marker| marker == [0xff, 0xc0])
        .unwrap();
    file[frame + 5..frame + 7].copy_from_slice(&height.to_be_bytes());
    file[frame + 7..frame + 9].copy_from_slice(&width.to_be_bytes());
    file
}
