//! Animations, made picture by picture: what changed from one to the next.

use std::borrow::Cow;

use bytes::Bytes;
use gif::{DisposalMethod, Repeat};

use super::webp;
use crate::picture::frame::{Frame, Pixels};
use crate::picture::{Accepts, Format, Thumbnail};
use crate::{Excess, Fault, Limits};

/// How fast colours are chosen for a GIF, of 1 (best) to 30.
const SPEED: i32 = 10;

/// An animation in the making.
pub(in crate::picture) struct Animation {
    width: u32,
    height: u32,
    file: File,
    /// The picture before, and for how long it is shown: known when the next one turns out to be another.
    pending: Option<Frame>,
    /// The pixels as of the last one written.
    written: Option<Pixels>,
    limit: usize,
}

enum File {
    Webp(Vec<u8>),
    Gif(gif::Encoder<Vec<u8>>),
}

impl Animation {
    /// In a format that is accepted: "Servers SHOULD prefer to return `image/webp` thumbnails when supporting
    /// animation." `None` if none of them moves.
    pub(in crate::picture) fn new(
        width: u32,
        height: u32,
        plays: u16,
        accepts: Accepts,
        limits: &Limits,
    ) -> Result<Option<Self>, Fault> {
        let file = if accepts.webp {
            File::Webp(webp::start(width, height, plays))
        } else if accepts.gif {
            let side = |length| u16::try_from(length).map_err(|_| Fault::TooLarge(Excess::Side));
            let mut encoder = gif::Encoder::new(Vec::new(), side(width)?, side(height)?, &[])
                .map_err(Fault::broken)?;
            let repeat = match plays {
                0 => Some(Repeat::Infinite),
                1 => None,
                times => Some(Repeat::Finite(times - 1)),
            };
            if let Some(repeat) = repeat {
                encoder.set_repeat(repeat).map_err(Fault::broken)?;
            }
            File::Gif(encoder)
        } else {
            return Ok(None);
        };
        let limit = limits.output as usize;
        Ok(Some(Self {
            width,
            height,
            file,
            pending: None,
            written: None,
            limit,
        }))
    }

    /// Adds a picture, with four channels and of the animation's size.
    pub(in crate::picture) fn add(&mut self, mut frame: Frame) -> Result<(), Fault> {
        if matches!(self.file, File::Gif(_)) {
            for pixel in frame.pixels.data.chunks_exact_mut(4) {
                // A GIF knows no half transparency.
                if pixel[3] < 128 {
                    pixel.fill(0);
                } else {
                    pixel[3] = 255;
                }
            }
        }
        if let Some(before) = &mut self.pending {
            if before.pixels == frame.pixels {
                before.shown = before.shown.saturating_add(frame.shown);
                return Ok(());
            }
        }
        match self.pending.take() {
            Some(before) => self.write(before, Some(&frame.pixels))?,
            None => {}
        }
        self.pending = Some(frame);
        Ok(())
    }

    fn write(&mut self, frame: Frame, next: Option<&Pixels>) -> Result<(), Fault> {
        // A GIF's pixels become transparent by disposal alone, which clears what this part has drawn.
        let clears = matches!(self.file, File::Gif(_))
            && next.is_some_and(|next| vanishes(&frame.pixels, next));
        let written = self.written.take().filter(|_| !clears);
        let (corner, part) = match &written {
            None => ((0, 0), Cow::Borrowed(&frame.pixels)),
            Some(before) => changed(before, &frame.pixels),
        };
        let length = match &mut self.file {
            File::Webp(file) => {
                webp::add(file, &part, corner, frame.shown)?;
                file.len()
            }
            File::Gif(encoder) => {
                write_gif(encoder, part.into_owned(), corner, (frame.shown, clears))?;
                encoder.get_ref().len()
            }
        };
        if length > self.limit {
            return Err(Fault::TooLarge(Excess::Answer));
        }
        self.written = (!clears).then_some(frame.pixels);
        Ok(())
    }

    /// The file.
    pub(in crate::picture) fn finish(mut self) -> Result<Thumbnail, Fault> {
        if let Some(last) = self.pending.take() {
            self.write(last, None)?;
        }
        let (format, bytes) = match self.file {
            File::Webp(file) => (Format::Webp, webp::finish(file)),
            File::Gif(encoder) => (Format::Gif, encoder.into_inner().map_err(Fault::broken)?),
        };
        Ok(Thumbnail {
            format,
            width: self.width,
            height: self.height,
            animated: true,
            bytes: Bytes::from(bytes),
        })
    }
}

/// Whether something that is there isn't any more.
fn vanishes(now: &Pixels, next: &Pixels) -> bool {
    let mut pairs = now.data.chunks_exact(4).zip(next.data.chunks_exact(4));
    pairs.any(|(now, next)| now[3] != 0 && next[3] == 0)
}

fn write_gif(
    encoder: &mut gif::Encoder<Vec<u8>>,
    mut part: Pixels,
    (x, y): (u32, u32),
    (shown, clears): (u32, bool),
) -> Result<(), Fault> {
    let side = |length| u16::try_from(length).map_err(|_| Fault::TooLarge(Excess::Side));
    let (width, height) = (side(part.width)?, side(part.height)?);
    let mut frame = gif::Frame::from_rgba_speed(width, height, &mut part.data, SPEED);
    frame.left = side(x)?;
    frame.top = side(y)?;
    frame.delay = u16::try_from(shown / 10).unwrap_or(u16::MAX);
    frame.dispose = if clears {
        DisposalMethod::Background
    } else {
        DisposalMethod::Keep
    };
    encoder.write_frame(&frame).map_err(Fault::broken)
}

/// The smallest rectangle in which pictures of one size differ, from an even corner on, and what is there now.
fn changed<'a>(before: &Pixels, now: &'a Pixels) -> ((u32, u32), Cow<'a, Pixels>) {
    let width = now.width as usize;
    let line = width * 4;
    let (mut top, mut bottom, mut left, mut right) = (usize::MAX, 0, width, 0);
    for (y, (old, new)) in before
        .data
        .chunks_exact(line)
        .zip(now.data.chunks_exact(line))
        .enumerate()
    {
        let differs = |x: &usize| old[x * 4..][..4] != new[x * 4..][..4];
        let Some(first) = (0..width).find(differs) else {
            continue;
        };
        let last = (0..width).rfind(differs).unwrap_or(first);
        (top, bottom) = (top.min(y), y);
        (left, right) = (left.min(first), right.max(last));
    }
    if top == usize::MAX {
        return ((0, 0), Cow::Borrowed(now));
    }
    let (top, left) = (top & !1, left & !1);
    let mut data = Vec::with_capacity((bottom + 1 - top) * (right + 1 - left) * 4);
    for y in top..=bottom {
        data.extend_from_slice(&now.data[y * line + left * 4..y * line + (right + 1) * 4]);
    }
    let side = |length: usize| u32::try_from(length).unwrap_or(u32::MAX);
    let part = Pixels {
        width: side(right + 1 - left),
        height: side(bottom + 1 - top),
        channels: 4,
        data,
    };
    ((side(left), side(top)), Cow::Owned(part))
}
