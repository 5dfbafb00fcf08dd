//! Fewer pixels.

use fast_image_resize::images::{Image, ImageRef};
use fast_image_resize::{FilterType, PixelType, ResizeAlg, ResizeOptions, Resizer};

use super::frame::Pixels;
use super::plan::Plan;
use crate::Fault;

/// A part of a picture, smaller. Transparent pixels lend no colour to their neighbours.
pub(crate) fn resized(picture: &Pixels, plan: &Plan) -> Result<Pixels, Fault> {
    let Plan {
        part: [left, top, width, height],
        ..
    } = *plan;
    if *plan == Plan::whole(picture.width, picture.height) {
        return Ok(picture.clone());
    }
    let kind = if picture.channels == 4 {
        PixelType::U8x4
    } else {
        PixelType::U8x3
    };
    let from =
        ImageRef::new(picture.width, picture.height, &picture.data, kind).map_err(Fault::broken)?;
    let mut into = Image::new(plan.width, plan.height, kind);
    // What rounding lets stick out.
    let width = width.min(f64::from(picture.width) - left);
    let height = height.min(f64::from(picture.height) - top);
    let options = ResizeOptions::new()
        .crop(left, top, width, height)
        .resize_alg(ResizeAlg::Convolution(FilterType::CatmullRom));
    Resizer::new()
        .resize(&from, &mut into, &options)
        .map_err(Fault::broken)?;
    Ok(Pixels {
        width: plan.width,
        height: plan.height,
        channels: picture.channels,
        data: into.into_vec(),
    })
}
