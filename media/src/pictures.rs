//! What is done with pictures, by somebody else: strangers' bytes are never parsed in this crate.

use std::pin::Pin;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use tokio::io::{AsyncRead, AsyncWrite};

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

/// What became of a picture.
#[derive(Debug, Clone)]
pub struct Made {
    /// The file; `None` if the source is no larger than what was wanted, so that it is its own thumbnail.
    pub bytes: Option<Bytes>,
    /// What it is, by its bytes.
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

/// A file that is read.
pub type Reading = Pin<Box<dyn AsyncRead + Send>>;

/// Makes pictures of strangers' bytes.
pub trait Pictures: Send + Sync + 'static {
    /// A file of at most this many bytes is given to it.
    fn most_bytes(&self) -> u64;

    /// A picture in other sizes: one for each, in their order.
    fn thumbnails<'a>(
        &'a self,
        file: Reading,
        wanted: &'a [Wanted],
    ) -> BoxFuture<'a, Result<Vec<Made>, PictureError>>;

    /// What a picture looks like from far away
    /// ([MSC2448](https://github.com/matrix-org/matrix-spec-proposals/pull/2448)).
    fn blurhash(&self, _file: Reading) -> BoxFuture<'_, Result<String, PictureError>> {
        Box::pin(async { Err(PictureError::NotAPicture) })
    }

    /// Copies a file without what says where, when and by what it was made; its pixels are as they were. After an error
    /// what was written is thrown away, and the file kept as it came.
    fn strip<'a>(
        &'a self,
        file: Reading,
        into: &'a mut (dyn AsyncWrite + Send + Unpin),
    ) -> BoxFuture<'a, Result<(), PictureError>>;
}

/// Makes none: where pictures are switched off.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoPictures;

impl Pictures for NoPictures {
    fn most_bytes(&self) -> u64 {
        0
    }

    fn thumbnails<'a>(
        &'a self,
        _: Reading,
        _: &'a [Wanted],
    ) -> BoxFuture<'a, Result<Vec<Made>, PictureError>> {
        Box::pin(async { Err(PictureError::NotAPicture) })
    }

    fn strip<'a>(
        &'a self,
        _: Reading,
        _: &'a mut (dyn AsyncWrite + Send + Unpin),
    ) -> BoxFuture<'a, Result<(), PictureError>> {
        Box::pin(async { Err(PictureError::NotAPicture) })
    }
}
