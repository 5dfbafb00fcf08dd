//! JPEG (ITU T.81, annex B): segments, and scans between them.

use std::io::{Read, Write};

use super::copy::Copier;
use super::{EXIF, PROFILE, Result, is_profile, orientation_block};
use crate::Fault;
use crate::picture::orientation;

/// What precedes each part of a colour profile (ICC.1, B.4): after it its number from 1 on, and of how many.
const ICC: &[u8] = b"ICC_PROFILE\0";

pub(super) fn strip<R: Read, W: Write>(copier: &mut Copier<R, W>) -> Result<()> {
    copier.copy(2, |_| {})?;
    let mut state = State::default();
    match segments(copier, &mut state) {
        // Cut off, or followed by nonsense: viewers show what is there by then.
        Err(error) if error.is_broken() && state.scans > 0 => {}
        Err(error) => return Err(error),
        Ok(()) => {}
    }
    copier.write(&[0xff, 0xd9])
}

/// Everything up to EOI. A segment is written when it is there as a whole.
fn segments<R: Read, W: Write>(copier: &mut Copier<R, W>, state: &mut State) -> Result<()> {
    let mut marker = next_marker(copier)?;
    loop {
        marker = match marker {
            // EOI: what follows is no part of the picture.
            0xd9 if state.scans > 0 => return Ok(()),
            0xd8 | 0xd9 => {
                return Err(Fault::broken("a marker is where none may be").into());
            }
            // They have no content, and mean nothing here.
            0x01 | 0xd0..=0xd7 => next_marker(copier)?,
            0xda => {
                state.write_profile(copier)?;
                if !state.frame {
                    return Err(Fault::broken("a scan comes before the frame").into());
                }
                copy_segment(copier, marker)?;
                state.scans += 1;
                scan(copier)?
            }
            _ => {
                segment(copier, marker, state)?;
                next_marker(copier)?
            }
        };
    }
}

#[derive(Default)]
struct State {
    frame: bool,
    scans: usize,
    /// JFIF's segment was written; others would make the file grow.
    jfif: bool,
    turned: bool,
    profile: Profile,
}

/// Parts of a colour profile in their order.
#[derive(Default)]
struct Profile {
    parts: Vec<Vec<u8>>,
    of: u8,
    length: u64,
    /// It was written, or is none.
    over: bool,
}

fn segment<R: Read, W: Write>(
    copier: &mut Copier<R, W>,
    marker: u8,
    state: &mut State,
) -> Result<()> {
    match marker {
        // Frames, tables, restarts; what else is between C0 and CF defines codes or lengths.
        0xc0..=0xc7 | 0xc9..=0xcf | 0xdb..=0xdf => {
            if !matches!(marker, 0xc4 | 0xcc | 0xdb..=0xdf) {
                state.write_profile(copier)?;
                state.frame = true;
            }
            copy_segment(copier, marker)
        }
        0xe0 => jfif(copier, state),
        0xe1 => exif(copier, state),
        0xe2 => profile(copier, state),
        0xee => adobe(copier),
        _ => {
            let length = length(copier)?;
            copier.skip(length)
        }
    }
}

/// The marker that is next. Stray bytes before it go.
fn next_marker<R: Read, W: Write>(copier: &mut Copier<R, W>) -> Result<u8> {
    loop {
        while copier.take::<1>()? != [0xff] {}
        match after_fill(copier)? {
            0x00 => {}
            marker => return Ok(marker),
        }
    }
}

/// What follows one 0xff or more.
fn after_fill<R: Read, W: Write>(copier: &mut Copier<R, W>) -> Result<u8> {
    loop {
        let [marker] = copier.take()?;
        if marker != 0xff {
            return Ok(marker);
        }
    }
}

/// The length of a segment's content.
fn length<R: Read, W: Write>(copier: &mut Copier<R, W>) -> Result<u64> {
    let length = u64::from(u16::from_be_bytes(copier.take()?));
    length
        .checked_sub(2)
        .ok_or_else(|| Fault::broken("a segment is shorter than nothing").into())
}

fn copy_segment<R: Read, W: Write>(copier: &mut Copier<R, W>, marker: u8) -> Result<()> {
    let length = length(copier)?;
    let content = copier.take_all(length)?;
    write_segment(copier, marker, &[&content])
}

fn head<R: Read, W: Write>(copier: &mut Copier<R, W>, marker: u8, length: u64) -> Result<()> {
    let [high, low] = u16::try_from(length + 2).unwrap_or(u16::MAX).to_be_bytes();
    copier.write(&[0xff, marker, high, low])
}

fn write_segment<R: Read, W: Write>(
    copier: &mut Copier<R, W>,
    marker: u8,
    parts: &[&[u8]],
) -> Result<()> {
    head(
        copier,
        marker,
        parts.iter().map(|part| part.len() as u64).sum(),
    )?;
    parts.iter().try_for_each(|part| copier.write(part))
}

/// The first of a segment's bytes; the others are left out.
fn first<R: Read, W: Write>(copier: &mut Copier<R, W>, most: u64) -> Result<Vec<u8>> {
    let length = length(copier)?;
    let first = copier.take_all(length.min(most))?;
    copier.skip(length - first.len() as u64)?;
    Ok(first)
}

/// JFIF's density without its small picture.
fn jfif<R: Read, W: Write>(copier: &mut Copier<R, W>, state: &mut State) -> Result<()> {
    let first = first(copier, 12)?;
    if first.len() == 12 && first.starts_with(b"JFIF\0") && !state.jfif {
        state.jfif = true;
        write_segment(copier, 0xe0, &[&first, &[0, 0]])?;
    }
    Ok(())
}

/// How the picture is to be turned, as the first block says that says it.
fn exif<R: Read, W: Write>(copier: &mut Copier<R, W>, state: &mut State) -> Result<()> {
    let block = first(copier, EXIF)?;
    let said = block.strip_prefix(b"Exif\0\0").and_then(orientation);
    let Some(said) = said.filter(|_| !state.turned) else {
        return Ok(());
    };
    state.turned = true;
    if said == 1 {
        return Ok(());
    }
    write_segment(copier, 0xe1, &[b"Exif\0\0", &orientation_block(said)])
}

/// Adobe's segment says how colours are coded, in twelve bytes.
fn adobe<R: Read, W: Write>(copier: &mut Copier<R, W>) -> Result<()> {
    let first = first(copier, 12)?;
    if first.len() == 12 && first.starts_with(b"Adobe") {
        write_segment(copier, 0xee, &[&first])?;
    }
    Ok(())
}

/// A part of a colour profile is held until all are there.
fn profile<R: Read, W: Write>(copier: &mut Copier<R, W>, state: &mut State) -> Result<()> {
    let part = first(copier, u64::from(u16::MAX))?;
    let Some([number, of, ..]) = part.strip_prefix(ICC) else {
        return Ok(());
    };
    let profile = &mut state.profile;
    let next = profile.parts.len() + 1;
    profile.length += part.len() as u64;
    let first = profile.parts.is_empty();
    let fits =
        usize::from(*number) == next && (first || *of == profile.of) && profile.length <= PROFILE;
    if profile.over || !fits {
        *profile = Profile {
            over: true,
            ..Profile::default()
        };
        return Ok(());
    }
    profile.of = *of;
    profile.parts.push(part);
    Ok(())
}

impl State {
    /// Before the frame is the last place for a colour profile. One that isn't whole is none.
    fn write_profile<R: Read, W: Write>(&mut self, copier: &mut Copier<R, W>) -> Result<()> {
        let Profile {
            parts, of, over, ..
        } = std::mem::replace(
            &mut self.profile,
            Profile {
                over: true,
                ..Profile::default()
            },
        );
        let data = |part: &[u8]| part.len().saturating_sub(ICC.len() + 2) as u64;
        let length = parts.iter().map(|part| data(part)).sum();
        let start = parts
            .first()
            .and_then(|part| part.get(ICC.len() + 2..))
            .unwrap_or_default();
        if over || parts.len() != usize::from(of) || !is_profile(start, length) {
            return Ok(());
        }
        parts
            .iter()
            .try_for_each(|part| write_segment(copier, 0xe2, &[part]))
    }
}

/// Copies a scan's bytes, and gives the marker that ends it; EOI if the file does.
fn scan<R: Read, W: Write>(copier: &mut Copier<R, W>) -> Result<u8> {
    loop {
        let piece = copier.piece()?;
        if piece.is_empty() {
            return Ok(0xd9);
        }
        match piece.iter().position(|byte| *byte == 0xff) {
            None => {
                let all = piece.len();
                copier.pass(all)?;
            }
            Some(0) => match after_fill(copier)? {
                // 0xff itself, and restarts.
                inside @ (0x00 | 0xd0..=0xd7) => copier.write(&[0xff, inside])?,
                marker => return Ok(marker),
            },
            Some(before) => copier.pass(before)?,
        }
    }
}
