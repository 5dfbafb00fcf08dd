//! Files from pixels.

mod animation;
mod webp;

use bytes::Bytes;
use jpeg_encoder::SamplingFactor;

pub(super) use animation::Animation;

use super::frame::Pixels;
use super::{Accepts, Format, Thumbnail};
use crate::{Excess, Fault, Limits};

/// At which nobody sees in a thumbnail that it is one.
const QUALITY: u8 = 82;

/// What came without loss is kept so while it is no larger than this.
const SMALL: usize = 8 << 10;

/// The longest colour profile that is put into a thumbnail: phones' have some 500 bytes, Adobe's 560 and
/// printers' half a megabyte.
const PROFILE: usize = 4 << 10;

/// The file's colour profile if it may go into its thumbnails: one for RGB, and small.
pub(super) fn sane_profile(profile: Vec<u8>) -> Option<Vec<u8>> {
    let sane = profile.len() <= PROFILE
        && profile.get(16..20)? == b"RGB "
        && profile.get(36..40)? == b"acsp";
    sane.then_some(profile)
}

/// A picture as a file: JPEG for photos, what loses nothing where something is transparent, or where the source
/// lost nothing and it costs little.
pub(super) fn still(
    pixels: Pixels,
    accepts: Accepts,
    source: Format,
    profile: Option<&[u8]>,
    limits: &Limits,
) -> Result<Thumbnail, Fault> {
    let pixels = pixels.opaque_if_so();
    let (width, height) = (pixels.width, pixels.height);
    let (format, bytes) = if pixels.channels == 4 {
        match accepts {
            Accepts { webp: true, .. } => (Format::Webp, webp::still(&pixels, profile)?),
            Accepts { png: true, .. } => (Format::Png, png(&pixels, profile)?),
            Accepts { jpeg: true, .. } => (Format::Jpeg, jpeg(&pixels.flat(), profile)?),
            _ => (Format::Png, png(&pixels, profile)?),
        }
    } else {
        opaque(&pixels, accepts, source, profile)?
    };
    if bytes.len() > limits.output as usize {
        return Err(Fault::TooLarge(Excess::Answer));
    }
    Ok(Thumbnail {
        format,
        width,
        height,
        animated: false,
        bytes: Bytes::from(bytes),
    })
}

fn opaque(
    pixels: &Pixels,
    accepts: Accepts,
    source: Format,
    profile: Option<&[u8]>,
) -> Result<(Format, Vec<u8>), Fault> {
    let lossless = |pixels| match accepts {
        Accepts { png: true, .. } => Ok((Format::Png, png(pixels, profile)?)),
        Accepts { webp: true, .. } => Ok((Format::Webp, webp::still(pixels, profile)?)),
        _ => Ok((Format::Png, png(pixels, profile)?)),
    };
    if !accepts.jpeg && (accepts.png || accepts.webp) {
        return lossless(pixels);
    }
    let photo = jpeg(pixels, profile)?;
    if matches!(source, Format::Png | Format::Gif) && accepts.png {
        // Drawings are smaller so, and better.
        let drawing = png(pixels, profile)?;
        if drawing.len() <= photo.len().max(SMALL) {
            return Ok((Format::Png, drawing));
        }
    }
    Ok((Format::Jpeg, photo))
}

fn jpeg(pixels: &Pixels, profile: Option<&[u8]>) -> Result<Vec<u8>, Fault> {
    let mut file = Vec::new();
    let mut encoder = jpeg_encoder::Encoder::new(&mut file, QUALITY);
    encoder.set_sampling_factor(SamplingFactor::F_2_2);
    encoder.set_optimized_huffman_tables(true);
    if let Some(profile) = profile {
        encoder.add_icc_profile(profile).map_err(Fault::broken)?;
    }
    let side = |length| u16::try_from(length).map_err(|_| Fault::TooLarge(Excess::Side));
    let (width, height) = (side(pixels.width)?, side(pixels.height)?);
    encoder
        .encode(&pixels.data, width, height, jpeg_encoder::ColorType::Rgb)
        .map_err(Fault::broken)?;
    Ok(file)
}

fn png(pixels: &Pixels, profile: Option<&[u8]>) -> Result<Vec<u8>, Fault> {
    let mut info = png::Info::with_size(pixels.width, pixels.height);
    info.color_type = if pixels.channels == 4 {
        png::ColorType::Rgba
    } else {
        png::ColorType::Rgb
    };
    info.bit_depth = png::BitDepth::Eight;
    info.icc_profile = profile.map(|profile| profile.to_vec().into());
    let mut file = Vec::new();
    let mut encoder = png::Encoder::with_info(&mut file, info).map_err(Fault::broken)?;
    encoder.set_compression(png::Compression::Balanced);
    let mut writer = encoder.write_header().map_err(Fault::broken)?;
    writer
        .write_image_data(&pixels.data)
        .map_err(Fault::broken)?;
    writer.finish().map_err(Fault::broken)?;
    Ok(file)
}
