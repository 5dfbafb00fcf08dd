//! WebP without loss, still or moving. A picture's data is image-webp's; an animation's container is made here
//! (<https://developers.google.com/speed/webp/docs/riff_container>).

use image_webp::{ColorType, WebPEncoder};

use crate::Fault;
use crate::picture::frame::Pixels;

pub(super) fn still(pixels: &Pixels, profile: Option<&[u8]>) -> Result<Vec<u8>, Fault> {
    let mut file = Vec::new();
    let mut encoder = WebPEncoder::new(&mut file);
    if let Some(profile) = profile {
        encoder.set_icc_profile(profile.to_vec());
    }
    let colours = if pixels.channels == 4 {
        ColorType::Rgba8
    } else {
        ColorType::Rgb8
    };
    encoder
        .encode(&pixels.data, pixels.width, pixels.height, colours)
        .map_err(Fault::broken)?;
    Ok(file)
}

/// The start of an animation's file: RIFF's header, the canvas, how often it is shown.
pub(super) fn start(width: u32, height: u32, plays: u16) -> Vec<u8> {
    let mut file = b"RIFF\0\0\0\0WEBP".to_vec();
    let mut canvas = vec![0b0001_0010, 0, 0, 0];
    canvas.extend_from_slice(&(width - 1).to_le_bytes()[..3]);
    canvas.extend_from_slice(&(height - 1).to_le_bytes()[..3]);
    chunk(&mut file, *b"VP8X", &canvas);
    let mut animation = vec![0; 4];
    animation.extend_from_slice(&plays.to_le_bytes());
    chunk(&mut file, *b"ANIM", &animation);
    file
}

/// Adds a picture that replaces what is at its place. Its corner is at even numbers.
pub(super) fn add(
    file: &mut Vec<u8>,
    part: &Pixels,
    (x, y): (u32, u32),
    shown: u32,
) -> Result<(), Fault> {
    let picture = still(part, None)?;
    let mut frame = Vec::with_capacity(picture.len() + 16);
    for number in [
        x / 2,
        y / 2,
        part.width - 1,
        part.height - 1,
        shown.min(0x00ff_ffff),
    ] {
        frame.extend_from_slice(&number.to_le_bytes()[..3]);
    }
    // Don't blend, don't dispose.
    frame.push(0b10);
    // Without RIFF's header, what is left is the chunk of the picture.
    frame.extend_from_slice(picture.get(12..).unwrap_or_default());
    chunk(file, *b"ANMF", &frame);
    Ok(())
}

/// Says in the header how long the file has become.
pub(super) fn finish(mut file: Vec<u8>) -> Vec<u8> {
    let length = u32::try_from(file.len() - 8).unwrap_or(u32::MAX);
    file[4..8].copy_from_slice(&length.to_le_bytes());
    file
}

fn chunk(file: &mut Vec<u8>, kind: [u8; 4], content: &[u8]) {
    file.extend_from_slice(&kind);
    file.extend_from_slice(
        &u32::try_from(content.len())
            .unwrap_or(u32::MAX)
            .to_le_bytes(),
    );
    file.extend_from_slice(content);
    if content.len() % 2 == 1 {
        file.push(0);
    }
}
