//! PNG (third edition, 5.3): chunks, each with a checksum.

use std::io::{Read, Write};

use miniz_oxide::inflate::stream::{InflateState, inflate};
use miniz_oxide::{DataFormat, MZFlush, MZStatus};

use super::copy::Copier;
use super::{EXIF, PROFILE, Result, is_profile, orientation_block};
use crate::Fault;
use crate::picture::orientation;

pub(super) fn strip<R: Read, W: Write>(copier: &mut Copier<R, W>) -> Result<()> {
    copier.copy(8, |_| {})?;
    let mut state = State::default();
    match chunks(copier, &mut state) {
        // Cut off, or followed by nonsense: viewers show what is there by then.
        Err(error) if error.is_broken() && state.data => {}
        Err(error) => return Err(error),
        Ok(()) => {}
    }
    if state.cut {
        return Ok(());
    }
    write(copier, *b"IEND", &[])
}

#[derive(Default)]
struct State {
    header: bool,
    /// Pixels have begun.
    data: bool,
    /// What was written ends within a chunk.
    cut: bool,
    turned: bool,
    profile: bool,
    program: bool,
}

/// The longest text that names a program.
const PROGRAM: u64 = 64;

/// Programs that draw, as they call themselves: cameras and phones write theirs into the same place.
const DRAWING: [&[u8]; 12] = [
    b"Adobe Fireworks",
    b"Adobe Illustrator",
    b"Adobe ImageReady",
    b"Adobe Photoshop",
    b"GIMP",
    b"Inkscape",
    b"Krita",
    b"Matplotlib version",
    b"Paint.NET",
    b"gnome-screenshot",
    b"paint.net",
    b"www.inkscape.org",
];
/// How much more such a name may say: a version.
const VERSION: usize = 24;

/// Whether a text names a program that draws (PNG, 11.3.3.2), and says no more of it than its version.
fn names_program(text: &[u8]) -> bool {
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b" .,-_()/".contains(byte);
    let is_version = |rest: &[u8]| rest.len() <= VERSION && rest.iter().all(plain);
    let Some(name) = text.strip_prefix(b"Software\0") else {
        return false;
    };
    let mut rests = DRAWING.iter().filter_map(|known| name.strip_prefix(*known));
    rests.any(is_version)
}

/// Every chunk up to the last, which isn't written.
fn chunks<R: Read, W: Write>(copier: &mut Copier<R, W>, state: &mut State) -> Result<()> {
    loop {
        let length = u64::from(u32::from_be_bytes(copier.take()?));
        let kind: [u8; 4] = copier.take()?;
        // Apple's, which comes before the header.
        if !state.header && &kind != b"CgBI" && &kind != b"IHDR" {
            return Err(Fault::broken("its header isn't first").into());
        }
        match &kind {
            b"IEND" if state.data => return Ok(()),
            b"IEND" => return Err(Fault::broken("it has no pixels").into()),
            b"IHDR" if state.header || length != 13 => {
                return Err(Fault::broken("its header is none").into());
            }
            b"IHDR" => state.header = true,
            b"IDAT" => state.data = true,
            _ => {}
        }
        chunk(copier, kind, length, state)?;
    }
}

fn chunk<R: Read, W: Write>(
    copier: &mut Copier<R, W>,
    kind: [u8; 4],
    length: u64,
    state: &mut State,
) -> Result<()> {
    match &kind {
        b"eXIf" if length <= EXIF && !state.turned => {
            let block = take_checked(copier, kind, length)?;
            let Some(said) = block.as_deref().and_then(orientation) else {
                return Ok(());
            };
            state.turned = true;
            if said > 1 {
                write(copier, *b"eXIf", &orientation_block(said))?;
            }
            Ok(())
        }
        // More than one would make the file grow.
        b"iCCP" if length <= PROFILE && !state.profile => {
            let content = take_checked(copier, kind, length)?;
            let Some(content) = content.as_deref().and_then(profile) else {
                return Ok(());
            };
            state.profile = true;
            write(copier, kind, &content)
        }
        // Which program drew it tells of nobody, and without it many a drawing wouldn't come back as it went.
        b"tEXt" if length <= PROGRAM && !state.program => {
            let content = take_checked(copier, kind, length)?;
            let Some(content) = content.filter(|content| names_program(content)) else {
                return Ok(());
            };
            state.program = true;
            write(copier, kind, &content)
        }
        // What makes it move can't be left out either.
        b"acTL" if length == 8 => copy(copier, kind, length, state),
        b"fcTL" if length == 26 => copy(copier, kind, length, state),
        b"fdAT" => copy(copier, kind, length, state),
        b"PLTE" if length > 768 => Err(Fault::broken("a chunk is longer than it can be").into()),
        _ if !kind.iter().all(u8::is_ascii_alphabetic) || length > i32::MAX as u64 => {
            Err(Fault::broken("it has a chunk that is none").into())
        }
        // Pixels may not be shown without.
        _ if kind[0].is_ascii_uppercase() => copy(copier, kind, length, state),
        _ if longest(kind).is_some_and(|longest| length <= longest) => {
            match take_checked(copier, kind, length)? {
                Some(content) => write(copier, kind, &content),
                None => Ok(()),
            }
        }
        _ => copier.skip(length + 4),
    }
}

/// The longest content of a chunk that is kept though pixels are there without: what says colours, and of what size a
/// pixel is. Others have none.
fn longest(kind: [u8; 4]) -> Option<u64> {
    Some(match &kind {
        b"tRNS" => 256,
        b"cHRM" => 32,
        b"gAMA" | b"cICP" | b"sBIT" => 4,
        b"sRGB" => 1,
        b"mDCV" => 24,
        b"cLLI" => 8,
        b"bKGD" => 6,
        b"pHYs" => 9,
        _ => return None,
    })
}

fn sum(kind: [u8; 4], content: &[u8]) -> [u8; 4] {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&kind);
    hasher.update(content);
    hasher.finalize().to_be_bytes()
}

/// Passes a chunk as it is, with its checksum: whether that is right is for decoders to judge.
fn copy<R: Read, W: Write>(
    copier: &mut Copier<R, W>,
    kind: [u8; 4],
    length: u64,
    state: &mut State,
) -> Result<()> {
    copier.write(&u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes())?;
    copier.write(&kind)?;
    state.cut = true;
    copier.copy(length + 4, |_| {})?;
    state.cut = false;
    Ok(())
}

/// A chunk's content, if its checksum is right.
fn take_checked<R: Read, W: Write>(
    copier: &mut Copier<R, W>,
    kind: [u8; 4],
    length: u64,
) -> Result<Option<Vec<u8>>> {
    let content = copier.take_all(length)?;
    let right = copier.take()? == sum(kind, &content);
    Ok(right.then_some(content))
}

fn write<R: Read, W: Write>(
    copier: &mut Copier<R, W>,
    kind: [u8; 4],
    content: &[u8],
) -> Result<()> {
    copier.write(
        &u32::try_from(content.len())
            .unwrap_or(u32::MAX)
            .to_be_bytes(),
    )?;
    copier.write(&kind)?;
    copier.write(content)?;
    copier.write(&sum(kind, content))
}

/// A colour profile, if it is one, under a name that says nothing and with nothing behind it.
fn profile(content: &[u8]) -> Option<Vec<u8>> {
    let name = content.iter().take(80).position(|byte| *byte == 0)?;
    let compressed = content.get(name + 1..)?.strip_prefix(&[0])?;
    let compressed = compressed.get(..profile_length(compressed)?)?;
    Some([b"icc\0\0", compressed].concat())
}

/// How long a compressed colour profile is, if it is one.
fn profile_length(compressed: &[u8]) -> Option<usize> {
    let mut state = InflateState::new_boxed(DataFormat::Zlib);
    let mut piece = vec![0; 32 << 10];
    let (mut start, mut read, mut length) = (Vec::new(), 0, 0_u64);
    loop {
        let rest = compressed.get(read..)?;
        let made = inflate(&mut state, rest, &mut piece, MZFlush::None);
        read += made.bytes_consumed;
        length += made.bytes_written as u64;
        if start.is_empty() {
            start = piece.get(..made.bytes_written)?.to_vec();
        }
        match made.status.ok()? {
            MZStatus::StreamEnd => return is_profile(&start, length).then_some(read),
            _ if length > PROFILE || made.bytes_consumed + made.bytes_written == 0 => return None,
            _ => {}
        }
    }
}
