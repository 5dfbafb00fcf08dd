//! PNG and APNG.

use std::io::Cursor;

use png::{BlendOp, ColorType, Decoder, DisposeOp, Reader, Transformations};

use super::Frames;
use super::canvas::{Canvas, Dispose, Place};
use crate::picture::frame::Pixels;
use crate::{Excess, Fault, Limits};

pub(super) struct Png<'a> {
    reader: Reader<Cursor<&'a [u8]>>,
    /// The pictures of an animation are drawn on it; `None` where only the first is wanted.
    canvas: Option<Canvas>,
    picture: Pixels,
    left: u32,
}

impl<'a> Png<'a> {
    pub(super) fn open(file: &'a [u8], moving: bool, limits: &Limits) -> Result<Self, Fault> {
        let bytes = usize::try_from(limits.memory).unwrap_or(usize::MAX);
        let mut decoder = Decoder::new_with_limits(Cursor::new(file), png::Limits { bytes });
        decoder.set_transformations(Transformations::normalize_to_color8());
        decoder.set_ignore_text_chunk(true);
        let reader = decoder.read_info().map_err(fault)?;
        let info = reader.info();
        let (width, height) = info.size();
        limits.check_size(width, height)?;
        let animation = info.animation_control.filter(|_| moving);
        let canvas = animation.is_some().then(|| Canvas::new(width, height));
        let left = animation.map_or(1, |animation| animation.num_frames);
        let picture = Pixels {
            width,
            height,
            channels: 3,
            data: Vec::new(),
        };
        Ok(Self {
            reader,
            canvas,
            picture,
            left,
        })
    }

    /// Decodes what comes next in the file: a whole picture, or a part of an animation's.
    fn decode(&mut self) -> Result<Pixels, Fault> {
        let size = self
            .reader
            .output_buffer_size()
            .ok_or(Fault::TooLarge(Excess::Memory))?;
        let mut data = vec![0; size];
        let info = self.reader.next_frame(&mut data).map_err(fault)?;
        data.truncate(info.buffer_size());
        let (channels, data) = match info.color_type {
            ColorType::Rgb => (3, data),
            ColorType::Rgba => (4, data),
            ColorType::Grayscale => (3, data.iter().flat_map(|&grey| [grey; 3]).collect()),
            ColorType::GrayscaleAlpha => {
                let pixels = data
                    .chunks_exact(2)
                    .flat_map(|pixel| [pixel[0], pixel[0], pixel[0], pixel[1]]);
                (4, pixels.collect())
            }
            ColorType::Indexed => return Err(Fault::broken("its palette is missing")),
        };
        let (width, height) = (info.width, info.height);
        if data.len() != width as usize * height as usize * channels {
            return Err(Fault::broken("its lines are cut short"));
        }
        Ok(Pixels {
            width,
            height,
            channels,
            data,
        })
    }
}

impl Frames for Png<'_> {
    fn advance(&mut self) -> Result<Option<u32>, Fault> {
        if self.left == 0 {
            return Ok(None);
        }
        self.left -= 1;
        if self.canvas.is_none() {
            self.picture = self.decode()?;
            return Ok(Some(0));
        }
        let mut part = self.decode()?;
        // Without a frame's control the first picture is for those who know no animations.
        if self.reader.info().frame_control().is_none() {
            part = self.decode()?;
        }
        let Some(control) = self.reader.info().frame_control().copied() else {
            return Err(Fault::broken("a frame has no control"));
        };
        let place = Place {
            x: control.x_offset,
            y: control.y_offset,
        };
        let dispose = match control.dispose_op {
            DisposeOp::None => Dispose::Keep,
            DisposeOp::Background => Dispose::Clear,
            DisposeOp::Previous => Dispose::Previous,
        };
        if let Some(canvas) = &mut self.canvas {
            canvas.draw(&part, place, control.blend_op == BlendOp::Over, dispose);
        }
        let parts = match control.delay_den {
            0 => 100,
            parts => u32::from(parts),
        };
        Ok(Some(u32::from(control.delay_num) * 1000 / parts))
    }

    fn picture(&self) -> &Pixels {
        self.canvas.as_ref().map_or(&self.picture, Canvas::picture)
    }

    fn profile(&mut self) -> Option<Vec<u8>> {
        self.reader
            .info()
            .icc_profile
            .as_ref()
            .map(|profile| profile.to_vec())
    }

    fn plays(&self) -> u16 {
        let plays = self
            .reader
            .info()
            .animation_control
            .map_or(0, |animation| animation.num_plays);
        u16::try_from(plays).unwrap_or(0)
    }
}

fn fault(error: png::DecodingError) -> Fault {
    match error {
        png::DecodingError::LimitsExceeded => Fault::TooLarge(Excess::Memory),
        other => Fault::broken(other),
    }
}
