//! What pictures look like from far away, by the decoder itself.

use std::sync::Arc;

use rhizome_decoder::Decoders;
use rhizome_media::MediaError;

use crate::world::each_with;

/// Four by four red pixels.
const RED: &[u8] = b"\x89\x50\x4e\x47\x0d\x0a\x1a\x0a\x00\x00\x00\x0d\x49\x48\x44\x52\x00\x00\x00\x04\x00\x00\x00\x04\x08\x02\x00\x00\x00\x26\x93\x09\x29\x00\x00\x00\x10\x49\x44\x41\x54\x78\x9c\x63\x38\xa1\xa1\x01\x47\x0c\xc4\x71\x00\xd1\x43\x11\x81\x48\xd2\xc1\xeb\x00\x00\x00\x00\x49\x45\x4e\x44\xae\x42\x60\x82";

#[tokio::test]
async fn a_picture_has_a_blur() {
    each_with(
        |_| {},
        Arc::new(Decoders::in_process()),
        async |world| {
            let picture = world.upload(RED).await;
            let picture = world.find(&picture).await.unwrap();
            let blur = world.media.blurhash(&picture).await.unwrap();
            // How many waves, how strong, and of which colour; all of one colour, so of no waves.
            assert!(blur.len() >= 6 && blur.is_ascii(), "{blur}");
            let text = world.upload(b"no picture").await;
            let text = world.find(&text).await.unwrap();
            let none = world.media.blurhash(&text).await;
            assert!(matches!(none, Err(MediaError::NoThumbnail)), "{none:?}");
        },
    )
    .await;
}
