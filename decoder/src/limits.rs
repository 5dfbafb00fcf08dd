//! How much a file may want.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{Excess, Fault};

/// How much a file may want. What headers say is held against them before anything is allocated.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Bytes of a file that is decoded, which is held in the child's memory. Stripping holds no file and
    /// has no such limit.
    pub input: u64,
    /// The longest side. More than 65,535 has no thumbnail, whatever is set here.
    pub side: u32,
    /// Width by height. The default takes what phones' cameras make (8192 × 6144 is "50 megapixels"); such
    /// a picture takes 200 MiB decoded.
    pub pixels: u64,
    /// Width by height by frames of an animation that is thumbnailed as one; what has more is still.
    pub animated_pixels: u64,
    /// Frames of an animation that is thumbnailed as one; what has more is still.
    pub frames: u32,
    /// Bytes of one picture that is made.
    pub output: u32,
    /// Bytes that the child may allocate.
    pub memory: u64,
    /// Seconds of processor time that the child may take.
    pub cpu: u32,
    /// How long the child may take from its start to its answer, waiting for the file included.
    pub wall: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            input: 50 << 20,
            side: 65_535,
            pixels: 50 << 20,
            animated_pixels: 200 << 20,
            frames: 500,
            output: 4 << 20,
            memory: 512 << 20,
            cpu: 10,
            wall: Duration::from_secs(60),
        }
    }
}

impl Limits {
    /// Whether a picture of this size may be decoded.
    pub(crate) fn check_size(&self, width: u32, height: u32) -> Result<(), Fault> {
        if width == 0 || height == 0 {
            return Err(Fault::broken("it has no pixels"));
        }
        if width.max(height) > self.side.min(65_535) {
            return Err(Fault::TooLarge(Excess::Side));
        }
        self.check_pixels(u64::from(width) * u64::from(height))
    }

    /// Whether so many pixels may be decoded. A pixel takes 4 bytes; what comes beside it (coefficients, planes,
    /// a second canvas) as much again.
    pub(crate) fn check_pixels(&self, pixels: u64) -> Result<(), Fault> {
        if pixels > self.pixels {
            return Err(Fault::TooLarge(Excess::Pixels));
        }
        if pixels.saturating_mul(8) > self.memory {
            return Err(Fault::TooLarge(Excess::Memory));
        }
        Ok(())
    }

    /// Whether an animation may be thumbnailed as one.
    pub(crate) fn may_move(&self, width: u32, height: u32, frames: u32) -> bool {
        let pixels = u64::from(width) * u64::from(height);
        let all = pixels.saturating_mul(u64::from(frames));
        // Canvases, what is to be restored on them and parts lie beside each other.
        let fits = pixels.saturating_mul(32) <= self.memory;
        fits && frames <= self.frames && all <= self.animated_pixels
    }
}
