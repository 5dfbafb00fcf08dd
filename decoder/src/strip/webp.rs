//! WebP (RIFF container): chunks, of which the first says which others there are.

use std::io::{Read, Write};

use super::copy::Copier;
use super::{EXIF, PROFILE, Result, WEBP, is_profile, orientation_block};
use crate::picture::orientation;
use crate::{Excess, Fault};

/// Flags of `VP8X`.
const ICC_FLAG: u8 = 0x20;
const EXIF_FLAG: u8 = 0x08;
const XMP_FLAG: u8 = 0x04;

pub(super) fn strip<R: Read, W: Write>(copier: &mut Copier<R, W>) -> Result<()> {
    let [_, _, _, _, length @ .., _, _, _, _] = copier.take::<12>()?;
    let end = match u32::from_le_bytes(length) {
        // Who wrote it as it came didn't know.
        0 => u64::MAX,
        length => u64::from(length) + 8,
    };
    let mut kept = Kept::default();
    match chunks(copier, end, &mut kept) {
        // Cut off, or followed by nonsense: viewers show what is there by then.
        Err(error) if error.is_broken() && kept.pixels => {}
        Err(error) => return Err(error),
        Ok(()) => {}
    }
    let file = kept.finish()?;
    copier.write(b"RIFF")?;
    copier.write(
        &u32::try_from(file.len() + 4)
            .unwrap_or(u32::MAX)
            .to_le_bytes(),
    )?;
    copier.write(b"WEBP")?;
    copier.write(&file)
}

/// Every chunk up to what is said to be the end, or is.
fn chunks<R: Read, W: Write>(copier: &mut Copier<R, W>, end: u64, kept: &mut Kept) -> Result<()> {
    while copier.read().saturating_add(8) <= end && !copier.ended()? {
        let kind = copier.take()?;
        let length = u64::from(u32::from_le_bytes(copier.take()?));
        let there = length.min(end - copier.read());
        chunk(copier, kind, there, kept)?;
        if kept.chunks.len() as u64 > WEBP {
            return Err(Fault::TooLarge(Excess::Bytes).into());
        }
        // A last byte that fills up may be missing.
        if length % 2 == 1 && copier.read() < end && !copier.ended()? {
            copier.skip(1)?;
        }
    }
    Ok(())
}

/// So much of a chunk's content as is there.
fn content<R: Read, W: Write>(
    copier: &mut Copier<R, W>,
    length: u64,
    kept: &Kept,
) -> Result<Vec<u8>> {
    let room = WEBP.saturating_sub(kept.chunks.len() as u64);
    let content = copier.take_most(length.min(room + 1))?;
    if content.len() as u64 > room {
        return Err(Fault::TooLarge(Excess::Bytes).into());
    }
    Ok(content)
}

/// Chunks that stay.
#[derive(Default)]
struct Kept {
    chunks: Vec<u8>,
    /// Whether the first one is `VP8X`, whose flags are at the ninth byte.
    extended: bool,
    profile: bool,
    turned: Option<u8>,
    pixels: bool,
}

fn chunk<R: Read, W: Write>(
    copier: &mut Copier<R, W>,
    kind: [u8; 4],
    length: u64,
    kept: &mut Kept,
) -> Result<()> {
    match &kind {
        b"VP8X" if kept.chunks.is_empty() && length >= 10 => {
            let canvas: [u8; 10] = copier.take()?;
            kept.add(kind, &canvas);
            kept.extended = true;
            copier.skip(length - 10)
        }
        b"VP8 " | b"VP8L" | b"ALPH" => {
            let content = content(copier, length, kept)?;
            kept.pixels |= &kind != b"ALPH";
            kept.add(kind, &content);
            Ok(())
        }
        b"ANIM" if length >= 6 => {
            let animation: [u8; 6] = copier.take()?;
            kept.add(kind, &animation);
            copier.skip(length - 6)
        }
        b"ANMF" if length >= 16 => {
            let content = content(copier, length, kept)?;
            let frame = frame(&content)?;
            kept.pixels = true;
            kept.add(kind, &frame);
            Ok(())
        }
        // Only an extended file may have one.
        b"ICCP" if length <= PROFILE && kept.extended && !kept.profile => {
            let profile = copier.take_all(length)?;
            if is_profile(&profile, length) {
                kept.profile = true;
                kept.add(kind, &profile);
            }
            Ok(())
        }
        b"EXIF" if length <= EXIF => {
            let block = copier.take_all(length)?;
            kept.turned = kept.turned.or(orientation(&block));
            Ok(())
        }
        b"VP8X" if kept.chunks.is_empty() => Err(Fault::broken("it doesn't say its size").into()),
        _ => copier.skip(length),
    }
}

/// A frame of an animation, so much as is there, without chunks that aren't pixels.
fn frame(content: &[u8]) -> Result<Vec<u8>> {
    let broken = || Fault::broken("a frame is cut short");
    let (head, mut rest) = content.split_at_checked(16).ok_or_else(broken)?;
    let mut kept = Kept {
        chunks: head.to_vec(),
        ..Kept::default()
    };
    while rest.len() >= 8 {
        let (head, after) = rest.split_at_checked(8).ok_or_else(broken)?;
        let (kind, length) = head.split_at(4);
        let length = length
            .try_into()
            .map(u32::from_le_bytes)
            .map_err(|_| broken())? as usize;
        let (data, after) = after.split_at_checked(length).unwrap_or((after, &[]));
        if let b"VP8 " | b"VP8L" | b"ALPH" = kind {
            kept.add(kind.try_into().map_err(|_| broken())?, data);
        }
        rest = after.get(length % 2..).unwrap_or_default();
    }
    Ok(kept.chunks)
}

impl Kept {
    fn add(&mut self, kind: [u8; 4], content: &[u8]) {
        self.chunks.extend_from_slice(&kind);
        self.chunks.extend_from_slice(
            &u32::try_from(content.len())
                .unwrap_or(u32::MAX)
                .to_le_bytes(),
        );
        self.chunks.extend_from_slice(content);
        if content.len() % 2 == 1 {
            self.chunks.push(0);
        }
    }

    fn finish(mut self) -> Result<Vec<u8>> {
        if !self.pixels {
            return Err(Fault::broken("it has no pixels").into());
        }
        let turned = self.turned.filter(|turned| (2..=8).contains(turned));
        if !self.extended {
            // Only an extended file may say more.
            return Ok(self.chunks);
        }
        if let Some(turned) = turned {
            self.add(*b"EXIF", &orientation_block(turned));
        }
        let flags = &mut self.chunks[8];
        *flags &= !(ICC_FLAG | EXIF_FLAG | XMP_FLAG);
        if self.profile {
            *flags |= ICC_FLAG;
        }
        if turned.is_some() {
            *flags |= EXIF_FLAG;
        }
        Ok(self.chunks)
    }
}
