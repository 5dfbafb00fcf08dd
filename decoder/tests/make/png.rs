//! PNGs.

use std::io::Cursor;

use miniz_oxide::deflate::compress_to_vec_zlib;

use super::{SECRET, colours, exif};

pub const SIGNATURE: &[u8] = b"\x89PNG\r\n\x1a\n";

pub fn colour_type(channels: u32) -> png::ColorType {
    match channels {
        1 => png::ColorType::Grayscale,
        2 => png::ColorType::GrayscaleAlpha,
        3 => png::ColorType::Rgb,
        _ => png::ColorType::Rgba,
    }
}

pub fn png(width: u32, height: u32, channels: u32) -> Vec<u8> {
    of_data(width, height, channels, &colours(width, height, channels))
}

pub fn of_data(width: u32, height: u32, channels: u32, data: &[u8]) -> Vec<u8> {
    let mut file = Vec::new();
    let mut encoder = png::Encoder::new(&mut file, width, height);
    encoder.set_color(colour_type(channels));
    encoder.set_depth(png::BitDepth::Eight);
    let mut writer = encoder.write_header().unwrap();
    writer.write_image_data(data).unwrap();
    writer.finish().unwrap();
    file
}

pub fn chunk(kind: &[u8; 4], content: &[u8]) -> Vec<u8> {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(kind);
    hasher.update(content);
    let length = u32::try_from(content.len()).unwrap().to_be_bytes();
    [&length[..], kind, content, &hasher.finalize().to_be_bytes()].concat()
}

pub fn header(width: u32, height: u32, colour: u8) -> Vec<u8> {
    let content = [
        &width.to_be_bytes()[..],
        &height.to_be_bytes(),
        &[8, colour, 0, 0, 0],
    ]
    .concat();
    [SIGNATURE, &chunk(b"IHDR", &content)].concat()
}

/// Puts chunks behind the header.
pub fn with(file: &[u8], chunks: &[Vec<u8>]) -> Vec<u8> {
    [&file[..33], &chunks.concat(), &file[33..]].concat()
}

pub fn iccp(profile: &[u8]) -> Vec<u8> {
    chunk(
        b"iCCP",
        &[SECRET, b"\0\0", &compress_to_vec_zlib(profile, 6)].concat(),
    )
}

/// With everything that an editor and a smuggler add.
pub fn talkative(file: &[u8], orientation: u8, profile: &[u8]) -> Vec<u8> {
    let chunks = [
        iccp(profile),
        chunk(b"gAMA", &45_455_u32.to_be_bytes()),
        chunk(b"eXIf", &exif(orientation)),
        chunk(b"tEXt", &[b"Comment\0", SECRET].concat()),
        chunk(
            b"zTXt",
            &[b"Comment\0\0", &*compress_to_vec_zlib(SECRET, 6)].concat(),
        ),
        chunk(b"iTXt", &[b"XML:com.adobe.xmp\0\0\0\0\0", SECRET].concat()),
        chunk(b"tIME", &[7, 0xe9, 1, 1, 1, 1, 1]),
        chunk(b"prVt", SECRET),
    ];
    [&with(file, &chunks), &b"<html><script>"[..], SECRET].concat()
}

/// Every picture's pixels; an animation's as they are in the file.
pub fn pixels(file: &[u8]) -> Vec<Vec<u8>> {
    let mut reader = png::Decoder::new(Cursor::new(file)).read_info().unwrap();
    let frames = reader
        .info()
        .animation_control
        .map_or(1, |animation| animation.num_frames);
    let size = reader.output_buffer_size().unwrap();
    let mut all = Vec::new();
    for _ in 0..frames {
        let mut data = vec![0; size];
        reader.next_frame(&mut data).unwrap();
        all.push(data);
    }
    all
}
