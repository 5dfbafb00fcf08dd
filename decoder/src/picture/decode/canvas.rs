//! What an animation's parts are drawn upon.

use crate::picture::frame::Pixels;

/// What becomes of a part when the next one comes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Dispose {
    /// It stays.
    Keep,
    /// Its place becomes transparent.
    Clear,
    /// What was there before comes back.
    Previous,
}

/// Where a part lies.
#[derive(Clone, Copy)]
pub(super) struct Place {
    pub(super) x: u32,
    pub(super) y: u32,
}

pub(super) struct Canvas {
    picture: Pixels,
    /// What is done before the next part: its rectangle gets these bytes, or none.
    undo: Option<(Rectangle, Option<Vec<u8>>)>,
}

/// A part of the canvas, surely within.
#[derive(Clone, Copy)]
struct Rectangle {
    x: usize,
    y: usize,
    width: usize,
    height: usize,
}

impl Canvas {
    pub(super) fn new(width: u32, height: u32) -> Self {
        Self {
            picture: Pixels::clear(width, height),
            undo: None,
        }
    }

    pub(super) fn picture(&self) -> &Pixels {
        &self.picture
    }

    /// Draws a part; what lies outside is cut off.
    pub(super) fn draw(&mut self, part: &Pixels, place: Place, over: bool, dispose: Dispose) {
        let size = (part.width, part.height);
        if part.channels == 4 {
            self.draw_rgba(&part.data, size, place, over, dispose);
        } else {
            let data: Vec<u8> = part
                .data
                .chunks_exact(3)
                .flat_map(|pixel| [pixel[0], pixel[1], pixel[2], 255])
                .collect();
            self.draw_rgba(&data, size, place, over, dispose);
        }
    }

    /// Draws a part whose pixels have four channels.
    pub(super) fn draw_rgba(
        &mut self,
        part: &[u8],
        (width, height): (u32, u32),
        place: Place,
        over: bool,
        dispose: Dispose,
    ) {
        self.undo();
        let within = |at: u32, length: u32, all: u32| length.min(all.saturating_sub(at)) as usize;
        let rectangle = Rectangle {
            x: place.x.min(self.picture.width) as usize,
            y: place.y.min(self.picture.height) as usize,
            width: within(place.x, width, self.picture.width),
            height: within(place.y, height, self.picture.height),
        };
        self.undo = match dispose {
            Dispose::Keep => None,
            Dispose::Clear => Some((rectangle, None)),
            Dispose::Previous => Some((rectangle, Some(self.copy(rectangle)))),
        };
        for row in 0..rectangle.height {
            let from = row * width as usize * 4;
            let Some(from) = part.get(from..from + rectangle.width * 4) else {
                break;
            };
            let into = self.row(rectangle, row);
            if over {
                for (into, from) in into.chunks_exact_mut(4).zip(from.chunks_exact(4)) {
                    blend(into, from);
                }
            } else {
                into.copy_from_slice(from);
            }
        }
    }

    fn undo(&mut self) {
        let Some((rectangle, saved)) = self.undo.take() else {
            return;
        };
        let length = rectangle.width * 4;
        for row in 0..rectangle.height {
            let into = self.row(rectangle, row);
            match &saved {
                Some(saved) => into.copy_from_slice(&saved[row * length..][..length]),
                None => into.fill(0),
            }
        }
    }

    fn row(&mut self, rectangle: Rectangle, row: usize) -> &mut [u8] {
        let at = ((rectangle.y + row) * self.picture.width as usize + rectangle.x) * 4;
        &mut self.picture.data[at..at + rectangle.width * 4]
    }

    fn copy(&mut self, rectangle: Rectangle) -> Vec<u8> {
        let mut saved = Vec::with_capacity(rectangle.width * rectangle.height * 4);
        for row in 0..rectangle.height {
            saved.extend_from_slice(self.row(rectangle, row));
        }
        saved
    }
}

/// Puts a pixel over another (APNG specification, `APNG_BLEND_OP_OVER`).
fn blend(into: &mut [u8], from: &[u8]) {
    match from[3] {
        255 => into.copy_from_slice(from),
        0 => {}
        alpha => {
            let (above, below) = (
                u32::from(alpha) * 255,
                u32::from(into[3]) * (255 - u32::from(alpha)),
            );
            let all = above + below;
            for (into, from) in into.iter_mut().zip(&from[..3]) {
                let mixed = (u32::from(*from) * above + u32::from(*into) * below + all / 2) / all;
                *into = mixed.to_le_bytes()[0];
            }
            into[3] = ((all + 127) / 255).to_le_bytes()[0];
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dot(value: u8, alpha: u8) -> Pixels {
        Pixels {
            width: 1,
            height: 1,
            channels: 4,
            data: vec![value, value, value, alpha],
        }
    }

    #[test]
    fn parts_go_as_they_say() {
        let mut canvas = Canvas::new(2, 1);
        let seen = |canvas: &Canvas| -> Vec<u8> {
            canvas.picture().data.iter().step_by(4).copied().collect()
        };
        let at = |x| Place { x, y: 0 };
        canvas.draw(&dot(1, 255), at(0), true, Dispose::Keep);
        canvas.draw(&dot(2, 255), at(1), true, Dispose::Clear);
        assert_eq!(seen(&canvas), [1, 2]);
        canvas.draw(&dot(3, 255), at(0), true, Dispose::Previous);
        assert_eq!(seen(&canvas), [3, 0]);
        canvas.draw(&dot(9, 0), at(0), true, Dispose::Keep);
        assert_eq!(seen(&canvas), [1, 0]);
        canvas.draw(&dot(9, 0), at(0), false, Dispose::Keep);
        assert_eq!(seen(&canvas), [9, 0]);
        // Outside.
        canvas.draw(
            &dot(7, 255),
            Place {
                x: u32::MAX,
                y: u32::MAX,
            },
            true,
            Dispose::Previous,
        );
        canvas.draw(&dot(7, 255), at(2), true, Dispose::Clear);
        assert_eq!(seen(&canvas), [9, 0]);
    }

    #[test]
    fn half_over_nothing_stays_half() {
        let mut into = [0, 0, 0, 0];
        blend(&mut into, &[200, 100, 0, 128]);
        assert_eq!(into, [200, 100, 0, 128]);
        let mut into = [0, 0, 0, 255];
        blend(&mut into, &[255, 255, 255, 128]);
        assert_eq!(into, [128, 128, 128, 255]);
    }
}
