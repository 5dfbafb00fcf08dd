//! JPEG, by zune-jpeg.

use zune_core::bytestream::ZCursor;
use zune_core::colorspace::ColorSpace;
use zune_core::options::DecoderOptions;
use zune_jpeg::JpegDecoder;

use super::Frames;
use crate::picture::frame::Pixels;
use crate::{Fault, Limits};

/// Scans of a progressive picture; encoders make some ten.
const SCANS: usize = 64;

pub(super) struct Jpeg<'a> {
    decoder: JpegDecoder<ZCursor<&'a [u8]>>,
    picture: Pixels,
    done: bool,
}

impl<'a> Jpeg<'a> {
    pub(super) fn open(file: &'a [u8], limits: &Limits) -> Result<Self, Fault> {
        let options = DecoderOptions::default()
            .jpeg_set_out_colorspace(ColorSpace::RGB)
            .jpeg_set_max_scans(SCANS)
            .set_max_width(limits.side as usize)
            .set_max_height(limits.side as usize);
        let mut decoder = JpegDecoder::new_with_options(ZCursor::new(file), options);
        decoder.decode_headers().map_err(Fault::broken)?;
        let (width, height) = decoder
            .dimensions()
            .ok_or_else(|| Fault::broken("it has no size"))?;
        let side = |length| u32::try_from(length).unwrap_or(u32::MAX);
        let (width, height) = (side(width), side(height));
        limits.check_size(width, height)?;
        let picture = Pixels {
            width,
            height,
            channels: 3,
            data: Vec::new(),
        };
        Ok(Self {
            decoder,
            picture,
            done: false,
        })
    }
}

impl Frames for Jpeg<'_> {
    fn advance(&mut self) -> Result<Option<u32>, Fault> {
        if std::mem::replace(&mut self.done, true) {
            return Ok(None);
        }
        self.picture.data = self.decoder.decode().map_err(Fault::broken)?;
        let Pixels {
            width,
            height,
            ref data,
            ..
        } = self.picture;
        let pixels = width as usize * height as usize;
        if self.decoder.output_colorspace() != Some(ColorSpace::RGB) || data.len() != 3 * pixels {
            return Err(Fault::broken("its colours are of an unknown kind"));
        }
        Ok(Some(0))
    }

    fn picture(&self) -> &Pixels {
        &self.picture
    }

    fn profile(&mut self) -> Option<Vec<u8>> {
        self.decoder.icc_profile()
    }
}
