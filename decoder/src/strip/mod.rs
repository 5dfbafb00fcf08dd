//! What a picture needn't say, taken away without touching its pixels.
//!
//! Places, dates, cameras, comments, small pictures of before it was cut, and whatever follows the picture in
//! its file: what isn't known to be needed for showing it goes. How it is to be turned stays, as an EXIF
//! block that says nothing else; so does a colour profile, if it is one and not too long.
//!
//! A file that viewers show in spite of what is wrong with it isn't refused: once there are pixels, what can't be
//! understood is where the picture ends. What is wrong with the pixels themselves is for decoders to judge.
//!
//! Files go through in pieces, with a colour profile held at most; but a WebP says in its first bytes how long it
//! is, so what is kept of it is held until its end.

mod copy;
mod jpeg;
mod png;
mod webp;

use std::io::{self, Read, Write};

use serde::{Deserialize, Serialize};

use crate::Fault;
use crate::picture::{Format, LONGEST_EXIF};
use copy::Copier;

/// The longest colour profile that is kept. Those of printers have half a megabyte; one of more is no profile.
const PROFILE: u64 = 1 << 20;

/// The longest WebP, as it is held.
const WEBP: u64 = 64 << 20;

/// The longest EXIF block in which an orientation is looked for.
const EXIF: u64 = LONGEST_EXIF as u64;

/// What became of a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stripped {
    /// What it was; `None` if it is none of the formats that are stripped and went through as it came.
    pub format: Option<Format>,
    /// How many bytes came.
    pub read: u64,
    /// How many are left.
    pub written: u64,
}

/// Why nothing came of it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file isn't what it says. What was written is to be thrown away.
    #[error(transparent)]
    Fault(#[from] Fault),
    /// It couldn't be read or written.
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl Error {
    fn is_broken(&self) -> bool {
        matches!(self, Self::Fault(Fault::Broken(_)))
    }
}

pub(crate) type Result<T> = std::result::Result<T, Error>;

/// Copies a file without what needn't be told; one that is no JPEG, PNG or WebP as it is. After an error, what was
/// written is to be thrown away.
pub fn strip(input: impl Read, output: impl Write) -> Result<Stripped> {
    let mut copier = Copier::new(input, output, Format::TELLING)?;
    let format = Format::of(copier.start()).filter(|format| *format != Format::Gif);
    match format {
        Some(Format::Jpeg) => jpeg::strip(&mut copier)?,
        Some(Format::Png) => png::strip(&mut copier)?,
        Some(Format::Webp) => webp::strip(&mut copier)?,
        Some(Format::Gif) | None => copier.copy_rest()?,
    }
    let (read, written) = copier.finish()?;
    Ok(Stripped {
        format,
        read,
        written,
    })
}

/// The EXIF block, from its TIFF header on, that says how a picture is to be turned and nothing else.
pub(crate) fn orientation_block(orientation: u8) -> [u8; 26] {
    let mut block = *b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\0\0\0\0\0\0\0";
    block[19] = orientation;
    block
}

/// Whether these are the first bytes of a colour profile (ICC.1, 7.2) of this length.
fn is_profile(start: &[u8], length: u64) -> bool {
    let says = start
        .get(..4)
        .and_then(|bytes| bytes.try_into().ok())
        .map(u32::from_be_bytes);
    says.map(u64::from) == Some(length) && start.get(36..40) == Some(b"acsp")
}
