//! PNG (third edition, 5.3): chunks, each with a checksum.

use std::io::{Read, Write};

use miniz_oxide::inflate::decompress_to_vec_zlib_with_limit;

use super::copy::Copier;
use super::{EXIF, PROFILE, Result, is_profile, orientation_block};
use crate::Fault;
use crate::picture::orientation;

pub(super) fn strip<R: Read, W: Write>(copier: &mut Copier<R, W>) -> Result<()> {
    copier.copy(8, |_| {})?;
    let (mut first, mut data, mut turned) = (true, false, false);
    loop {
        let length = u64::from(u32::from_be_bytes(copier.take()?));
        let kind: [u8; 4] = copier.take()?;
        if first != (&kind == b"IHDR") {
            return Err(Fault::broken("its header isn't first").into());
        }
        first = false;
        match &kind {
            b"eXIf" if length <= EXIF => {
                let block = take_checked(copier, kind, length)?;
                if let Some(said @ 2..=8) = orientation(&block)
                    && !turned
                {
                    turned = true;
                    write(copier, *b"eXIf", &orientation_block(said))?;
                }
            }
            b"iCCP" if length <= PROFILE => {
                let content = take_checked(copier, kind, length)?;
                if let Some(content) = profile(&content) {
                    write(copier, kind, &content)?;
                }
            }
            _ => match longest(kind) {
                Some(longest) if length <= longest => copy(copier, kind, length)?,
                Some(_) => return Err(Fault::broken("a chunk is longer than it can be").into()),
                None => skip(copier, kind, length)?,
            },
        }
        match &kind {
            b"IDAT" => data = true,
            b"IEND" if data => return Ok(()),
            b"IEND" => return Err(Fault::broken("it has no pixels").into()),
            _ => {}
        }
    }
}

/// The longest content of a chunk that is kept: what says pixels, colours, moving, and of what size a pixel is.
fn longest(kind: [u8; 4]) -> Option<u64> {
    Some(match &kind {
        b"IDAT" | b"fdAT" => i32::MAX as u64,
        b"IHDR" => 13,
        b"IEND" => 0,
        b"PLTE" => 768,
        b"tRNS" => 256,
        b"cHRM" => 32,
        b"gAMA" | b"cICP" | b"sBIT" => 4,
        b"sRGB" => 1,
        b"mDCV" => 24,
        b"cLLI" | b"acTL" => 8,
        b"bKGD" => 6,
        b"pHYs" => 9,
        b"fcTL" => 26,
        _ => return None,
    })
}

fn check(given: [u8; 4], computed: crc32fast::Hasher) -> Result<()> {
    if given == computed.finalize().to_be_bytes() {
        Ok(())
    } else {
        Err(Fault::broken("a checksum is wrong").into())
    }
}

fn hasher(kind: [u8; 4]) -> crc32fast::Hasher {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&kind);
    hasher
}

fn copy<R: Read, W: Write>(copier: &mut Copier<R, W>, kind: [u8; 4], length: u64) -> Result<()> {
    let mut hasher = hasher(kind);
    copier.write(&u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes())?;
    copier.write(&kind)?;
    copier.copy(length, |piece| hasher.update(piece))?;
    let sum = copier.take()?;
    check(sum, hasher)?;
    copier.write(&sum)
}

/// Leaves a chunk out, unless pixels can't be shown without.
fn skip<R: Read, W: Write>(copier: &mut Copier<R, W>, kind: [u8; 4], length: u64) -> Result<()> {
    if !kind.iter().all(u8::is_ascii_alphabetic) || kind[0].is_ascii_uppercase() {
        return Err(Fault::broken("it has a chunk of an unknown kind").into());
    }
    copier.skip(length + 4)
}

fn take_checked<R: Read, W: Write>(
    copier: &mut Copier<R, W>,
    kind: [u8; 4],
    length: u64,
) -> Result<Vec<u8>> {
    let content = copier.take_all(length)?;
    let mut hasher = hasher(kind);
    hasher.update(&content);
    check(copier.take()?, hasher)?;
    Ok(content)
}

fn write<R: Read, W: Write>(
    copier: &mut Copier<R, W>,
    kind: [u8; 4],
    content: &[u8],
) -> Result<()> {
    let mut hasher = hasher(kind);
    hasher.update(content);
    copier.write(
        &u32::try_from(content.len())
            .unwrap_or(u32::MAX)
            .to_be_bytes(),
    )?;
    copier.write(&kind)?;
    copier.write(content)?;
    copier.write(&hasher.finalize().to_be_bytes())
}

/// A colour profile, if it is one, under a name that says nothing.
fn profile(content: &[u8]) -> Option<Vec<u8>> {
    let name = content.iter().take(80).position(|byte| *byte == 0)?;
    let compressed = content.get(name + 1..)?.strip_prefix(&[0])?;
    let limit = usize::try_from(PROFILE).unwrap_or(usize::MAX);
    let profile = decompress_to_vec_zlib_with_limit(compressed, limit).ok()?;
    is_profile(&profile, profile.len() as u64).then(|| [b"icc\0\0", compressed].concat())
}
