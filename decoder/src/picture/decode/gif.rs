//! GIF.

use std::num::NonZeroU64;

use gif::{
    ColorOutput, DecodeOptions, Decoder, DecodingError, DisposalMethod, MemoryLimit, Repeat,
};

use super::Frames;
use super::canvas::{Canvas, Dispose, Place};
use crate::picture::frame::Pixels;
use crate::{Excess, Fault, Limits};

pub(super) struct Gif<'a> {
    decoder: Decoder<&'a [u8]>,
    canvas: Canvas,
}

impl<'a> Gif<'a> {
    pub(super) fn open(file: &'a [u8], limits: &Limits) -> Result<Self, Fault> {
        let mut options = DecodeOptions::new();
        options.set_color_output(ColorOutput::RGBA);
        // A frame may say that it is larger than the screen.
        let frame = NonZeroU64::new(limits.pixels.saturating_mul(4).min(limits.memory / 2))
            .unwrap_or(NonZeroU64::MIN);
        options.set_memory_limit(MemoryLimit::Bytes(frame));
        let decoder = options.read_info(file).map_err(|error| fault(&error))?;
        let (width, height) = (u32::from(decoder.width()), u32::from(decoder.height()));
        limits.check_size(width, height)?;
        Ok(Self {
            decoder,
            canvas: Canvas::new(width, height),
        })
    }
}

impl Frames for Gif<'_> {
    fn advance(&mut self) -> Result<Option<u32>, Fault> {
        let Some(frame) = self
            .decoder
            .read_next_frame()
            .map_err(|error| fault(&error))?
        else {
            return Ok(None);
        };
        let dispose = match frame.dispose {
            DisposalMethod::Any | DisposalMethod::Keep => Dispose::Keep,
            DisposalMethod::Background => Dispose::Clear,
            DisposalMethod::Previous => Dispose::Previous,
        };
        let (width, height) = (u32::from(frame.width), u32::from(frame.height));
        let place = Place {
            x: u32::from(frame.left),
            y: u32::from(frame.top),
        };
        self.canvas
            .draw_rgba(&frame.buffer, (width, height), place, true, dispose);
        Ok(Some(u32::from(frame.delay) * 10))
    }

    fn picture(&self) -> &Pixels {
        self.canvas.picture()
    }

    fn plays(&self) -> u16 {
        match self.decoder.repeat() {
            Repeat::Infinite => 0,
            Repeat::Finite(more) => more.saturating_add(1),
        }
    }
}

fn fault(error: &DecodingError) -> Fault {
    match error {
        DecodingError::MemoryLimit | DecodingError::OutOfMemory => Fault::TooLarge(Excess::Memory),
        other => Fault::broken(other),
    }
}
