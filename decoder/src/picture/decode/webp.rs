//! WebP.

use std::io::Cursor;

use image_webp::{DecodingError, LoopCount, WebPDecoder};

use super::Frames;
use crate::picture::frame::Pixels;
use crate::{Excess, Fault, Limits};

pub(super) struct Webp<'a> {
    decoder: WebPDecoder<Cursor<&'a [u8]>>,
    picture: Pixels,
    left: u32,
}

impl<'a> Webp<'a> {
    pub(super) fn open(file: &'a [u8], limits: &Limits) -> Result<Self, Fault> {
        let mut decoder = WebPDecoder::new(Cursor::new(file)).map_err(|error| fault(&error))?;
        decoder.set_memory_limit(usize::try_from(limits.memory / 2).unwrap_or(usize::MAX));
        let (width, height) = decoder.dimensions();
        limits.check_size(width, height)?;
        if decoder.is_animated() {
            // The decoder's canvas and the frame come beside the picture.
            limits.check_pixels(2 * u64::from(width) * u64::from(height))?;
        }
        let size = decoder
            .output_buffer_size()
            .ok_or(Fault::TooLarge(Excess::Memory))?;
        let channels = if decoder.has_alpha() { 4 } else { 3 };
        let left = if decoder.is_animated() {
            decoder.num_frames()
        } else {
            1
        };
        let picture = Pixels {
            width,
            height,
            channels,
            data: vec![0; size],
        };
        Ok(Self {
            decoder,
            picture,
            left,
        })
    }
}

impl Frames for Webp<'_> {
    fn advance(&mut self) -> Result<Option<u32>, Fault> {
        if self.left == 0 {
            return Ok(None);
        }
        self.left -= 1;
        let data = &mut self.picture.data;
        let shown = if self.decoder.is_animated() {
            self.decoder.read_frame(data)
        } else {
            self.decoder.read_image(data).map(|()| 0)
        };
        shown.map(Some).map_err(|error| fault(&error))
    }

    fn picture(&self) -> &Pixels {
        &self.picture
    }

    fn profile(&mut self) -> Option<Vec<u8>> {
        self.decoder.icc_profile().ok().flatten()
    }

    fn plays(&self) -> u16 {
        match self.decoder.loop_count() {
            LoopCount::Forever => 0,
            LoopCount::Times(times) => times.get(),
        }
    }
}

fn fault(error: &DecodingError) -> Fault {
    match error {
        DecodingError::ImageTooLarge | DecodingError::MemoryLimitExceeded => {
            Fault::TooLarge(Excess::Memory)
        }
        other => Fault::broken(other),
    }
}
