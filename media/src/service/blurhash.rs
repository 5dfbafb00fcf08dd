//! The blur of a picture, in some twenty letters
//! ([MSC2448](https://github.com/matrix-org/matrix-spec-proposals/pull/2448)).

use futures_util::TryStreamExt as _;
use tokio_util::io::StreamReader;

use super::{Media, content::Content};
use crate::error::MediaError;

impl Media {
    /// What a picture looks like from far away. It isn't kept: who shows it has it from whoever uploaded the picture.
    ///
    /// # Errors
    /// [`MediaError::NoThumbnail`] if it is no picture; [`MediaError::PictureTooLarge`].
    pub async fn blurhash(&self, of: &Content) -> Result<String, MediaError> {
        let source = of.settled().await?;
        if source.size > self.0.pictures.most_bytes() {
            return Err(MediaError::PictureTooLarge);
        }
        let pieces = of.read(None).await?.map_err(std::io::Error::other);
        let reading = Box::pin(StreamReader::new(pieces));
        Ok(self.0.pictures.blurhash(reading).await?)
    }
}
