//! Which part of a picture becomes a thumbnail, and of what size.

use super::{Ask, Method};

/// Which part of a picture becomes a thumbnail, and of what size.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Plan {
    /// The part's left edge, upper edge, width, height.
    pub(crate) part: [f64; 4],
    pub(crate) width: u32,
    pub(crate) height: u32,
}

impl Plan {
    /// All of a picture, as it is.
    pub(crate) fn whole(width: u32, height: u32) -> Self {
        Self {
            part: [0.0, 0.0, f64::from(width), f64::from(height)],
            width,
            height,
        }
    }

    /// How to make a thumbnail of a picture of this size; `None` if there is nothing to make smaller: "Servers
    /// MUST NOT upscale thumbnails under any circumstance. Servers MUST NOT return a smaller thumbnail than
    /// requested, unless the original content makes that impossible" (client-server API, Thumbnails).
    pub(crate) fn of(width: u32, height: u32, ask: &Ask) -> Option<Self> {
        let (least_width, least_height) = (ask.width.max(1), ask.height.max(1));
        // The ratio that covers what is asked, as a fraction: the larger one of both sides'.
        let by_width = u64::from(least_width) * u64::from(height)
            >= u64::from(least_height) * u64::from(width);
        let (part, of) = if by_width {
            (least_width, width)
        } else {
            (least_height, height)
        };
        // Nothing becomes larger.
        let (part, of) = if part >= of { (1, 1) } else { (part, of) };
        let scaled = |side: u32| -> u32 {
            let side = (u64::from(side) * u64::from(part)).div_ceil(u64::from(of));
            u32::try_from(side).unwrap_or(u32::MAX)
        };
        let (all_width, all_height) = (scaled(width), scaled(height));
        let plan = match ask.method {
            Method::Scale => Self {
                width: all_width,
                height: all_height,
                ..Self::whole(width, height)
            },
            Method::Crop => {
                let (thumb_width, thumb_height) =
                    (least_width.min(all_width), least_height.min(all_height));
                let ratio = f64::from(of) / f64::from(part);
                let taken = |thumb: u32, side: u32| (f64::from(thumb) * ratio).min(f64::from(side));
                let (part_width, part_height) =
                    (taken(thumb_width, width), taken(thumb_height, height));
                let (x, y) = (
                    (f64::from(width) - part_width) / 2.0,
                    (f64::from(height) - part_height) / 2.0,
                );
                Self {
                    part: [x, y, part_width, part_height],
                    width: thumb_width,
                    height: thumb_height,
                }
            }
        };
        (plan.width < width || plan.height < height).then_some(plan)
    }

    /// The same for a picture that isn't turned yet.
    pub(crate) fn of_turned(width: u32, height: u32, orientation: u8, ask: &Ask) -> Option<Self> {
        let mut ask = *ask;
        if orientation > 4 {
            (ask.width, ask.height) = (ask.height, ask.width);
        }
        Self::of(width, height, &ask)
    }

    /// The same part in a picture of another size.
    pub(crate) fn within(self, from: (u32, u32), into: (u32, u32)) -> Self {
        let (x, y) = (
            f64::from(into.0) / f64::from(from.0),
            f64::from(into.1) / f64::from(from.1),
        );
        let [left, top, width, height] = self.part;
        Self {
            part: [left * x, top * y, width * x, height * y],
            ..self
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::picture::Accepts;

    fn ask(width: u32, height: u32, method: Method) -> Ask {
        Ask {
            width,
            height,
            method,
            animated: false,
            accepts: Accepts::default(),
        }
    }

    fn size(source: (u32, u32), width: u32, height: u32, method: Method) -> Option<(u32, u32)> {
        Plan::of(source.0, source.1, &ask(width, height, method))
            .map(|plan| (plan.width, plan.height))
    }

    #[test]
    fn the_specified_sizes() {
        use Method::{Crop, Scale};
        let photo = (4000, 3000);
        assert_eq!(size(photo, 32, 32, Crop), Some((32, 32)));
        assert_eq!(size(photo, 96, 96, Crop), Some((96, 96)));
        assert_eq!(size(photo, 320, 240, Scale), Some((320, 240)));
        assert_eq!(size(photo, 800, 600, Scale), Some((800, 600)));
        // Upright: neither side is smaller than asked.
        assert_eq!(size((3000, 4000), 320, 240, Scale), Some((320, 427)));
        // As large as asked, smaller, or smaller in one direction.
        assert_eq!(size((320, 240), 320, 240, Scale), None);
        assert_eq!(size((31, 31), 32, 32, Crop), None);
        assert_eq!(size((1000, 20), 32, 32, Scale), None);
        assert_eq!(size((1000, 20), 96, 96, Crop), Some((96, 20)));
        assert_eq!(size((1, 65_535), 32, 32, Crop), Some((1, 32)));
        assert_eq!(size((65_535, 65_535), 0, 0, Crop), Some((1, 1)));
    }

    #[test]
    fn a_crop_takes_the_middle() {
        let plan = Plan::of(400, 200, &ask(100, 100, Method::Crop)).unwrap();
        assert_eq!(plan.part, [100.0, 0.0, 200.0, 200.0]);
    }

    proptest! {
        #[test]
        fn never_larger_never_smaller_than_must_be(
            width in 1u32..=65_535, height in 1u32..=65_535, wide in 0u32..=70_000, high in 0u32..=70_000, crop: bool,
        ) {
            let method = if crop { Method::Crop } else { Method::Scale };
            if let Some(plan) = Plan::of(width, height, &ask(wide, high, method)) {
                prop_assert!(plan.width <= width && plan.height <= height);
                prop_assert!(plan.width >= wide.min(width) && plan.height >= high.min(height));
                prop_assert!(plan.width > 0 && plan.height > 0);
                let [x, y, w, h] = plan.part;
                prop_assert!(x >= 0.0 && y >= 0.0 && w > 0.0 && h > 0.0);
                prop_assert!(x + w <= f64::from(width) + 1e-6 && y + h <= f64::from(height) + 1e-6);
            } else {
                prop_assert!(width <= wide.max(1) || height <= high.max(1));
            }
        }
    }
}
