//! Pixels in memory.

/// A picture's pixels, 8 bits a channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Pixels {
    pub(crate) width: u32,
    pub(crate) height: u32,
    /// 3 (RGB) or 4 (RGBA, not premultiplied).
    pub(crate) channels: usize,
    pub(crate) data: Vec<u8>,
}

impl Pixels {
    /// Transparent everywhere.
    pub(crate) fn clear(width: u32, height: u32) -> Self {
        let data = vec![0; width as usize * height as usize * 4];
        Self {
            width,
            height,
            channels: 4,
            data,
        }
    }

    /// Without the channel for transparency, if nothing is.
    pub(crate) fn opaque_if_so(self) -> Self {
        if self.channels == 3 || self.data.chunks_exact(4).any(|pixel| pixel[3] != 255) {
            return self;
        }
        self.without_alpha(|pixel| [pixel[0], pixel[1], pixel[2]])
    }

    /// With the channel for transparency.
    pub(crate) fn with_alpha(self) -> Self {
        if self.channels == 4 {
            return self;
        }
        let data = self
            .data
            .chunks_exact(3)
            .flat_map(|pixel| [pixel[0], pixel[1], pixel[2], 255]);
        Self {
            channels: 4,
            data: data.collect(),
            ..self
        }
    }

    /// On white.
    pub(crate) fn flat(self) -> Self {
        if self.channels == 3 {
            return self;
        }
        self.without_alpha(|pixel| {
            let over = |value: u8| {
                let alpha = u32::from(pixel[3]);
                ((u32::from(value) * alpha + 255 * (255 - alpha) + 127) / 255).to_le_bytes()[0]
            };
            [over(pixel[0]), over(pixel[1]), over(pixel[2])]
        })
    }

    fn without_alpha(self, colour: impl Fn(&[u8]) -> [u8; 3]) -> Self {
        let data = self.data.chunks_exact(4).flat_map(colour).collect();
        Self {
            channels: 3,
            data,
            ..self
        }
    }

    /// Turned as EXIF's orientation says.
    pub(crate) fn turned(self, orientation: u8) -> Self {
        if !(2..=8).contains(&orientation) {
            return self;
        }
        let (width, height) = (self.width as usize, self.height as usize);
        let (new_width, new_height) = if orientation > 4 {
            (height, width)
        } else {
            (width, height)
        };
        let mut data = Vec::with_capacity(self.data.len());
        for y in 0..new_height {
            for x in 0..new_width {
                let (from_x, from_y) = match orientation {
                    2 => (width - 1 - x, y),
                    3 => (width - 1 - x, height - 1 - y),
                    4 => (x, height - 1 - y),
                    5 => (y, x),
                    6 => (y, height - 1 - x),
                    7 => (width - 1 - y, height - 1 - x),
                    _ => (width - 1 - y, x),
                };
                let at = (from_y * width + from_x) * self.channels;
                data.extend_from_slice(&self.data[at..at + self.channels]);
            }
        }
        let (width, height) = if orientation > 4 {
            (self.height, self.width)
        } else {
            (self.width, self.height)
        };
        Self {
            width,
            height,
            data,
            ..self
        }
    }
}

/// One picture of an animation, whole.
#[derive(Clone, Debug)]
pub(crate) struct Frame {
    pub(crate) pixels: Pixels,
    /// For how many milliseconds it is shown.
    pub(crate) shown: u32,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_orientation_turns_back_what_a_camera_turned() {
        // 1 2 3
        // 4 5 6
        let data: Vec<u8> = (1..=6).flat_map(|n| [n, n, n]).collect();
        let picture = Pixels {
            width: 3,
            height: 2,
            channels: 3,
            data,
        };
        let seen = |orientation| -> (u32, Vec<u8>) {
            let turned = picture.clone().turned(orientation);
            (
                turned.width,
                turned.data.iter().step_by(3).copied().collect(),
            )
        };
        assert_eq!(seen(1), (3, vec![1, 2, 3, 4, 5, 6]));
        assert_eq!(seen(2), (3, vec![3, 2, 1, 6, 5, 4]));
        assert_eq!(seen(3), (3, vec![6, 5, 4, 3, 2, 1]));
        assert_eq!(seen(4), (3, vec![4, 5, 6, 1, 2, 3]));
        assert_eq!(seen(5), (2, vec![1, 4, 2, 5, 3, 6]));
        assert_eq!(seen(6), (2, vec![4, 1, 5, 2, 6, 3]));
        assert_eq!(seen(7), (2, vec![6, 3, 5, 2, 4, 1]));
        assert_eq!(seen(8), (2, vec![3, 6, 2, 5, 1, 4]));
    }
}
