//! What a file's headers say, read without decoding anything.

use super::{Format, Probe, exif};
use crate::{Fault, Limits};

/// What the file is. Its headers are held against the limits; that its pixels are whole isn't said.
pub fn probe(file: &[u8], limits: &Limits) -> Result<Probe, Fault> {
    if file.len() as u64 > limits.input {
        return Err(Fault::TooLarge(crate::Excess::Bytes));
    }
    let format = Format::of(file).ok_or(Fault::NotAPicture)?;
    let headers = match format {
        Format::Png => png(file),
        Format::Jpeg => jpeg(file),
        Format::Gif => gif(file),
        Format::Webp => webp(file),
    };
    let Headers {
        width,
        height,
        frames,
        orientation,
    } = headers.ok_or_else(|| Fault::broken("its headers are cut short"))?;
    limits.check_size(width, height)?;
    let (width, height) = if orientation > 4 {
        (height, width)
    } else {
        (width, height)
    };
    Ok(Probe {
        format,
        width,
        height,
        frames,
        orientation,
    })
}

struct Headers {
    width: u32,
    height: u32,
    frames: u32,
    orientation: u8,
}

fn big(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(
        bytes.get(at..at.checked_add(4)?)?.try_into().ok()?,
    ))
}

fn little(bytes: &[u8], at: usize, length: usize) -> Option<u32> {
    let bytes = bytes.get(at..at.checked_add(length)?)?;
    Some(
        bytes
            .iter()
            .rev()
            .fold(0, |all, byte| all << 8 | u32::from(*byte)),
    )
}

/// Chunks (PNG specification, 5.3): the header, how many frames, the orientation. A chunk that is cut short
/// ends the search.
fn png(file: &[u8]) -> Option<Headers> {
    if file.get(12..16)? != b"IHDR" {
        return None;
    }
    let mut headers = Headers {
        width: big(file, 16)?,
        height: big(file, 20)?,
        frames: 1,
        orientation: 1,
    };
    let mut at = 8;
    while let (Some(length), Some(kind)) = (big(file, at), file.get(at + 4..at + 8)) {
        let data = at + 8;
        let Some(content) = file.get(data..data.saturating_add(length as usize)) else {
            break;
        };
        match kind {
            b"acTL" => headers.frames = big(content, 0).unwrap_or(1).max(1),
            b"eXIf" => headers.orientation = exif::orientation(content).unwrap_or(1),
            b"IEND" => break,
            _ => {}
        }
        at = data + content.len() + 4;
    }
    Some(headers)
}

/// Segments up to the scan (ITU T.81, B.1): the frame's header, and EXIF's.
fn jpeg(file: &[u8]) -> Option<Headers> {
    let (mut at, mut orientation) = (2, None);
    loop {
        if *file.get(at)? != 0xff {
            return None;
        }
        let marker = *file.get(at + 1)?;
        // Fill bytes, and markers without a segment.
        if marker == 0xff {
            at += 1;
            continue;
        }
        if matches!(marker, 0x01 | 0xd0..=0xd8) {
            at += 2;
            continue;
        }
        let length = usize::from(u16::from_be_bytes([*file.get(at + 2)?, *file.get(at + 3)?]));
        let content = file.get(at + 4..at + 2 + length)?;
        match marker {
            // The frame follows EXIF's segment, which has to be near the start.
            0xc0..=0xc3 | 0xc5..=0xc7 | 0xc9..=0xcb | 0xcd..=0xcf => {
                let side = |at: usize| {
                    Some(u32::from(u16::from_be_bytes([
                        *content.get(at)?,
                        *content.get(at + 1)?,
                    ])))
                };
                return Some(Headers {
                    width: side(3)?,
                    height: side(1)?,
                    frames: 1,
                    orientation: orientation.unwrap_or(1),
                });
            }
            0xe1 if orientation.is_none() => {
                orientation = content
                    .strip_prefix(b"Exif\0\0")
                    .and_then(exif::orientation)
            }
            0xd9 | 0xda => return None,
            _ => {}
        }
        at += 2 + length;
    }
}

/// Blocks (GIF89a, 18 to 27): the screen, and how many pictures.
fn gif(file: &[u8]) -> Option<Headers> {
    let mut headers = Headers {
        width: little(file, 6, 2)?,
        height: little(file, 8, 2)?,
        frames: 0,
        orientation: 1,
    };
    let colours = |flags: u8| {
        if flags & 0x80 == 0 {
            0
        } else {
            3 << ((flags & 7) + 1)
        }
    };
    let mut at = 13 + colours(*file.get(10)?);
    // What is cut short after the first picture has the pictures up to there.
    while let Some(block) = file.get(at) {
        at += match block {
            0x21 => 2,
            0x2c => {
                headers.frames += 1;
                let Some(flags) = file.get(at + 9) else { break };
                10 + colours(*flags) + 1
            }
            _ => break,
        };
        while let Some(length) = file.get(at) {
            at += 1 + usize::from(*length);
            if *length == 0 {
                break;
            }
        }
    }
    (headers.frames > 0).then_some(headers)
}

/// Chunks (WebP container specification): the canvas or the frame's own header, and how many frames.
fn webp(file: &[u8]) -> Option<Headers> {
    let (kind, data) = (file.get(12..16)?, file.get(20..)?);
    match kind {
        b"VP8 " => {
            let (width, height) = (little(data, 6, 2)? & 0x3fff, little(data, 8, 2)? & 0x3fff);
            Some(Headers {
                width,
                height,
                frames: 1,
                orientation: 1,
            })
        }
        b"VP8L" => {
            let bits = little(data, 1, 4)?;
            Some(Headers {
                width: (bits & 0x3fff) + 1,
                height: (bits >> 14 & 0x3fff) + 1,
                frames: 1,
                orientation: 1,
            })
        }
        b"VP8X" => {
            let (width, height) = (little(data, 4, 3)? + 1, little(data, 7, 3)? + 1);
            let mut headers = Headers {
                width,
                height,
                frames: 0,
                orientation: 1,
            };
            let mut at: usize = 12;
            while let (Some(kind), Some(length)) = (file.get(at..at + 4), little(file, at + 4, 4)) {
                let length = length as usize;
                match kind {
                    b"ANMF" => headers.frames += 1,
                    b"EXIF" => {
                        let block = file.get(at + 8..(at + 8).saturating_add(length));
                        headers.orientation = block.and_then(exif::orientation).unwrap_or(1);
                    }
                    _ => {}
                }
                at = at.saturating_add(8 + length + length % 2);
            }
            headers.frames = headers.frames.max(1);
            Some(headers)
        }
        _ => None,
    }
}
