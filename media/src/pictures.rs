//! What is done with pictures, by somebody else: strangers' bytes are never parsed in this crate.

use bytes::Bytes;
use futures_util::future::BoxFuture;

/// How a picture is made smaller
/// (<https://spec.matrix.org/v1.19/client-server-api/#thumbnails>).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Method {
    /// To fit inside of the size, keeping its proportions.
    Scale,
    /// To fill the size, cutting off what stands over.
    Crop,
}

impl Method {
    /// Its name in the specification.
    pub fn name(self) -> &'static str {
        match self {
            Self::Scale => "scale",
            Self::Crop => "crop",
        }
    }
}

/// What a thumbnail is made as.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Format {
    /// PNG where the source may have transparent parts, else JPEG: what every client reads.
    Plain,
    /// WebP.
    Webp,
}

/// Which thumbnail.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Wanted {
    /// The width, in pixels.
    pub width: u32,
    /// The height, in pixels.
    pub height: u32,
    /// How.
    pub method: Method,
    /// Whether it is to move if the source does.
    pub animated: bool,
    /// As what.
    pub format: Format,
}

/// A picture that was made.
#[derive(Debug, Clone)]
pub struct Made {
    /// The file.
    pub bytes: Bytes,
    /// What it is.
    pub content_type: String,
}

/// Why no picture was made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PictureError {
    /// It is no picture, or none that is understood.
    #[error("it is no picture that is understood")]
    NotAPicture,
    /// It has too many bytes, pixels or frames.
    #[error("the picture is too large")]
    TooLarge,
    /// Too many are being made.
    #[error("too many pictures are being made")]
    Busy,
    /// It took too long, or too much memory.
    #[error("the picture can't be made: {0}")]
    Failed(String),
}

/// Makes pictures of strangers' bytes.
pub trait Pictures: Send + Sync + 'static {
    /// A file of at most this many bytes is given to it.
    fn most_bytes(&self) -> u64;

    /// A picture in another size.
    fn thumbnail(&self, file: Bytes, wanted: Wanted) -> BoxFuture<'_, Result<Made, PictureError>>;

    /// The file without what says where, when and by what it was made; its pixels are as they were. `None`: there is
    /// nothing to be taken off.
    fn strip(&self, file: Bytes) -> BoxFuture<'_, Result<Option<Bytes>, PictureError>>;
}

/// Makes none: where pictures are switched off.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoPictures;

impl Pictures for NoPictures {
    fn most_bytes(&self) -> u64 {
        0
    }

    fn thumbnail(&self, _: Bytes, _: Wanted) -> BoxFuture<'_, Result<Made, PictureError>> {
        Box::pin(async { Err(PictureError::NotAPicture) })
    }

    fn strip(&self, _: Bytes) -> BoxFuture<'_, Result<Option<Bytes>, PictureError>> {
        Box::pin(async { Ok(None) })
    }
}
