//! Pictures by the decoder: a process of its own for each.

use futures_util::future::BoxFuture;
use rhizome_decoder::picture::{self, Accepts, Ask};
use rhizome_decoder::{Decoders, Error, Excess, Fault};
use tokio::io::AsyncWrite;

use crate::pictures::{Format, Made, Method, PictureError, Pictures, Reading, Wanted};

impl Pictures for Decoders {
    fn most_bytes(&self) -> u64 {
        self.limits().input
    }

    fn thumbnails<'a>(
        &'a self,
        file: Reading,
        wanted: &'a [Wanted],
    ) -> BoxFuture<'a, Result<Vec<Made>, PictureError>> {
        Box::pin(async move {
            let asks: Vec<Ask> = wanted.iter().map(ask).collect();
            let all = Self::thumbnails(self, file, &asks, false).await?;
            let source = all.source.format.content_type();
            let made = all.made.into_iter().map(|made| match made {
                picture::Made::Original => Made {
                    bytes: None,
                    content_type: source.to_owned(),
                },
                picture::Made::Thumbnail(made) => Made {
                    bytes: Some(made.bytes),
                    content_type: made.format.content_type().to_owned(),
                },
            });
            Ok(made.collect())
        })
    }

    fn blurhash(&self, file: Reading) -> BoxFuture<'_, Result<String, PictureError>> {
        Box::pin(async move {
            let all = Self::thumbnails(self, file, &[], true).await?;
            all.blurhash.ok_or(PictureError::NotAPicture)
        })
    }

    fn strip<'a>(
        &'a self,
        file: Reading,
        into: &'a mut (dyn AsyncWrite + Send + Unpin),
    ) -> BoxFuture<'a, Result<(), PictureError>> {
        Box::pin(async move {
            Self::strip(self, file, into).await?;
            Ok(())
        })
    }
}

fn ask(wanted: &Wanted) -> Ask {
    Ask {
        width: wanted.width,
        height: wanted.height,
        method: match wanted.method {
            Method::Scale => picture::Method::Scale,
            Method::Crop => picture::Method::Crop,
        },
        animated: wanted.animated,
        accepts: Accepts {
            webp: wanted.format == Format::Webp,
            ..Accepts::default()
        },
    }
}

impl From<Error> for PictureError {
    fn from(error: Error) -> Self {
        match error {
            Error::Busy => Self::Busy,
            // In another size it may be less.
            Error::Fault(Fault::TooLarge(Excess::Answer | Excess::Memory)) => {
                Self::Failed(error.to_string())
            }
            Error::Fault(Fault::TooLarge(_)) => Self::TooLarge,
            Error::Fault(Fault::NotAPicture | Fault::Broken(_)) => Self::NotAPicture,
            // The files are ours: this isn't the picture's doing.
            Error::Start(_) | Error::Read(_) | Error::Write(_) => {
                tracing::error!(%error, "a picture couldn't be looked at");
                Self::Busy
            }
            error => Self::Failed(error.to_string()),
        }
    }
}
