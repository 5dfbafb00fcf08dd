//! Animations, and WebP.

use std::io::Cursor;

use super::{SECRET, colours, exif, png::colour_type, profile};

/// Pictures of an animation: the same, shifted.
fn frames(width: u32, height: u32, count: u32) -> impl Iterator<Item = Vec<u8>> {
    let all = colours(width, height + count, 4);
    let line = width as usize * 4;
    (0..count as usize).map(move |frame| {
        let mut data = all[frame * line..][..height as usize * line].to_vec();
        for (x, pixel) in data.chunks_exact_mut(4).enumerate() {
            pixel[3] = if (x + frame) % 5 == 0 { 0 } else { 255 };
        }
        data
    })
}

pub fn apng(width: u32, height: u32, count: u32) -> Vec<u8> {
    let mut file = Vec::new();
    let mut encoder = png::Encoder::new(&mut file, width, height);
    encoder.set_color(colour_type(4));
    encoder.set_animated(count, 0).unwrap();
    encoder.set_frame_delay(1, 10).unwrap();
    let mut writer = encoder.write_header().unwrap();
    for frame in frames(width, height, count) {
        writer.write_image_data(&frame).unwrap();
    }
    writer.finish().unwrap();
    file
}

pub fn gif(width: u16, height: u16, count: u32) -> Vec<u8> {
    let mut encoder = gif::Encoder::new(Vec::new(), width, height, &[]).unwrap();
    encoder.set_repeat(gif::Repeat::Infinite).unwrap();
    for mut data in frames(width.into(), height.into(), count) {
        let mut frame = gif::Frame::from_rgba_speed(width, height, &mut data, 30);
        frame.delay = 10;
        frame.dispose = gif::DisposalMethod::Background;
        encoder.write_frame(&frame).unwrap();
    }
    encoder.into_inner().unwrap()
}

pub fn still_webp(width: u32, height: u32) -> Vec<u8> {
    let mut file = Vec::new();
    let mut encoder = image_webp::WebPEncoder::new(&mut file);
    encoder.set_icc_profile(profile(132));
    encoder
        .encode(
            &colours(width, height, 4),
            width,
            height,
            image_webp::ColorType::Rgba8,
        )
        .unwrap();
    file
}

pub fn plain_webp(width: u32, height: u32) -> Vec<u8> {
    let mut file = Vec::new();
    let encoder = image_webp::WebPEncoder::new(&mut file);
    encoder
        .encode(
            &colours(width, height, 3),
            width,
            height,
            image_webp::ColorType::Rgb8,
        )
        .unwrap();
    file
}

pub fn riff(chunks: &[Vec<u8>]) -> Vec<u8> {
    let chunks = chunks.concat();
    let length = u32::try_from(chunks.len() + 4).unwrap().to_le_bytes();
    [b"RIFF", &length[..], b"WEBP", &chunks].concat()
}

pub fn chunk(kind: &[u8; 4], content: &[u8]) -> Vec<u8> {
    let length = u32::try_from(content.len()).unwrap().to_le_bytes();
    let mut chunk = [&kind[..], &length, content].concat();
    chunk.resize(chunk.len().next_multiple_of(2), 0);
    chunk
}

pub fn canvas(width: u32, height: u32, flags: u8) -> Vec<u8> {
    let side = |length: u32| (length - 1).to_le_bytes();
    chunk(
        b"VP8X",
        &[&[flags, 0, 0, 0], &side(width)[..3], &side(height)[..3]].concat(),
    )
}

pub fn webp(width: u32, height: u32, count: u32) -> Vec<u8> {
    let mut chunks = vec![canvas(width, height, 0b0001_0010), chunk(b"ANIM", &[0; 6])];
    for data in frames(width, height, count) {
        let mut picture = Vec::new();
        let encoder = image_webp::WebPEncoder::new(&mut picture);
        encoder
            .encode(&data, width, height, image_webp::ColorType::Rgba8)
            .unwrap();
        let mut frame = [0; 16];
        frame[6..9].copy_from_slice(&(width - 1).to_le_bytes()[..3]);
        frame[9..12].copy_from_slice(&(height - 1).to_le_bytes()[..3]);
        frame[12] = 100;
        frame[15] = 2;
        let secret = chunk(b"UNKN", SECRET);
        chunks.push(chunk(b"ANMF", &[&frame, &picture[12..], &secret].concat()));
    }
    riff(&chunks)
}

/// With everything that an editor and a smuggler add. The file has to be an extended one.
pub fn talkative_webp(file: &[u8], orientation: u8, profile: &[u8]) -> Vec<u8> {
    let mut first = file[12..30].to_vec();
    first[8] |= 0x2c;
    let mut rest = &file[30..];
    if rest.starts_with(b"ICCP") {
        rest = &rest[8 + 132..];
    }
    let chunks = [
        first,
        chunk(b"ICCP", profile),
        rest.to_vec(),
        chunk(b"EXIF", &exif(orientation)),
        chunk(b"XMP ", SECRET),
        chunk(b"JUNK", SECRET),
    ];
    [&riff(&chunks), SECRET].concat()
}

/// Every picture's pixels.
pub fn webp_pixels(file: &[u8]) -> Vec<Vec<u8>> {
    let mut decoder = image_webp::WebPDecoder::new(Cursor::new(file)).unwrap();
    let mut data = vec![0; decoder.output_buffer_size().unwrap()];
    if !decoder.is_animated() {
        decoder.read_image(&mut data).unwrap();
        return vec![data];
    }
    let count = decoder.num_frames();
    let one = |_| {
        decoder.read_frame(&mut data).unwrap();
        data.clone()
    };
    (0..count).map(one).collect()
}
