//! Pixels from files.

mod canvas;
mod gif;
mod jpeg;
mod png;
mod webp;

use super::frame::Pixels;
use super::{Format, Probe};
use crate::{Fault, Limits};

/// A file's pictures, one after the other.
pub(super) trait Frames {
    /// Decodes the next picture: for how many milliseconds it is shown, or `None` after the last.
    fn advance(&mut self) -> Result<Option<u32>, Fault>;
    /// The picture that was decoded, whole and as the file has it turned.
    fn picture(&self) -> &Pixels;
    /// The file's colour profile.
    fn profile(&mut self) -> Option<Vec<u8>> {
        None
    }
    /// How often an animation is shown; 0 is for ever.
    fn plays(&self) -> u16 {
        0
    }
}

/// Opens a file that was probed. `moving`: all pictures of an animation are wanted, not only the first.
pub(super) fn open<'a>(
    file: &'a [u8],
    probe: &Probe,
    moving: bool,
    limits: &Limits,
) -> Result<Box<dyn Frames + 'a>, Fault> {
    Ok(match probe.format {
        Format::Jpeg => Box::new(jpeg::Jpeg::open(file, limits)?),
        Format::Png => Box::new(png::Png::open(file, moving, limits)?),
        Format::Gif => Box::new(gif::Gif::open(file, limits)?),
        Format::Webp => Box::new(webp::Webp::open(file, limits)?),
    })
}
