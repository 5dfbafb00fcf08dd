//! Pictures: what one is, smaller ones of it, a blur of it.

mod blurhash;
mod decode;
mod encode;
mod exif;
mod format;
mod frame;
mod headers;
mod plan;
mod resize;
mod thumbnail;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

pub use format::Format;
pub use headers::probe;
pub use thumbnail::thumbnails;

pub(crate) use exif::orientation;

use crate::{Fault, Limits};

/// What a file is, by its content.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Probe {
    /// Its format.
    pub format: Format,
    /// The width as it is shown: after its orientation.
    pub width: u32,
    /// The height as it is shown.
    pub height: u32,
    /// How many pictures it has; more than one in an animation.
    pub frames: u32,
    /// How it is to be turned, as EXIF counts it: 1 (not at all) to 8.
    pub orientation: u8,
}

/// How a thumbnail is made from what is larger.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Method {
    /// As asked, what sticks out cut away on both sides.
    Crop,
    /// The smallest with the picture's own ratio that is in neither direction smaller than asked.
    Scale,
}

/// Formats that whoever asks can show.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Accepts {
    /// `image/webp`
    pub webp: bool,
    /// `image/jpeg`
    pub jpeg: bool,
    /// `image/png`
    pub png: bool,
    /// `image/gif`, which only animations become.
    pub gif: bool,
}

impl Default for Accepts {
    /// What everything shows.
    fn default() -> Self {
        Self {
            webp: false,
            jpeg: true,
            png: true,
            gif: true,
        }
    }
}

/// A thumbnail that is wanted (client-server API, `GET /_matrix/client/v1/media/thumbnail`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Ask {
    /// The least width.
    pub width: u32,
    /// The least height.
    pub height: u32,
    /// How.
    pub method: Method,
    /// Whether it shall move if the source does.
    pub animated: bool,
    /// In which formats.
    pub accepts: Accepts,
}

/// What became of an [`Ask`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Made {
    /// The source is no larger than what was asked: it is its own thumbnail.
    Original,
    /// A smaller picture.
    Thumbnail(Thumbnail),
}

/// A picture that was made here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Thumbnail {
    /// Its format.
    pub format: Format,
    /// Its width.
    pub width: u32,
    /// Its height.
    pub height: u32,
    /// Whether it moves.
    pub animated: bool,
    /// The file.
    pub bytes: Bytes,
}

/// Everything that is made of one decoding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Thumbnails {
    /// What the source is.
    pub source: Probe,
    /// What became of each ask, in their order.
    pub made: Vec<Made>,
    /// A blur in some twenty letters, if asked for (MSC2448).
    pub blurhash: Option<String>,
}

/// One thumbnail; see [`thumbnails`] for several.
pub fn thumbnail(file: &[u8], ask: &Ask, limits: &Limits) -> Result<Made, Fault> {
    let mut all = thumbnails(file, std::slice::from_ref(ask), false, limits)?;
    all.made.pop().ok_or(Fault::NotAPicture)
}

/// A picture's blur (MSC2448): a few colours as text, to be shown until the picture is there.
pub fn blurhash(file: &[u8], limits: &Limits) -> Result<String, Fault> {
    let all = thumbnails(file, &[], true, limits)?;
    all.blurhash.ok_or(Fault::NotAPicture)
}
