use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures_util::future::BoxFuture;
use rhizome_media::{
    Format, Made, MediaError, Method, NewFile, PictureError, Pictures, Reading, UploadError, Wanted,
};
use rhizome_protocol::Refusal as _;
use rhizome_storage::testing::eventually;
use tokio::io::{AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio_util::sync::CancellationToken;

use crate::world::{ALICE, World, body, each_with, lay, read};

/// Makes pictures that say what they are, of what begins as a PNG does.
#[derive(Default)]
struct Painter {
    made: AtomicUsize,
}

const PNG: &[u8] = b"\x89PNG\r\n\x1a\n and the rest";

impl Pictures for Painter {
    fn most_bytes(&self) -> u64 {
        1_000
    }

    fn thumbnails<'a>(
        &'a self,
        mut file: Reading,
        wanted: &'a [Wanted],
    ) -> BoxFuture<'a, Result<Vec<Made>, PictureError>> {
        Box::pin(async move {
            self.made.fetch_add(wanted.len(), Ordering::SeqCst);
            let mut bytes = Vec::new();
            file.read_to_end(&mut bytes).await.unwrap();
            if !bytes.starts_with(b"\x89PNG") {
                return Err(PictureError::NotAPicture);
            }
            if wanted.iter().any(|wanted| wanted.width == 13) {
                return Err(PictureError::Failed("it takes too long".to_owned()));
            }
            let made = wanted.iter().map(|wanted| Made {
                bytes: (wanted.width < 2_000).then(|| {
                    format!("{}x{} {:?}", wanted.width, wanted.height, wanted.method).into()
                }),
                content_type: "image/jpeg".to_owned(),
            });
            Ok(made.collect())
        })
    }

    fn strip<'a>(
        &'a self,
        mut file: Reading,
        into: &'a mut (dyn AsyncWrite + Send + Unpin),
    ) -> BoxFuture<'a, Result<(), PictureError>> {
        Box::pin(async move {
            let mut bytes = Vec::new();
            file.read_to_end(&mut bytes).await.unwrap();
            if bytes.ends_with(b" slow") {
                return Err(PictureError::Failed("it takes too long".to_owned()));
            } else if bytes.ends_with(b" broken") {
                return Err(PictureError::NotAPicture);
            }
            let kept = bytes.strip_suffix(b" GPS").unwrap_or(&bytes);
            for piece in kept.chunks(7) {
                into.write_all(piece).await.unwrap();
            }
            into.flush().await.unwrap();
            Ok(())
        })
    }
}

fn wanted(width: u32, height: u32, method: Method) -> Wanted {
    Wanted {
        width,
        height,
        method,
        animated: false,
        format: Format::Plain,
    }
}

async fn upload(world: &World, bytes: &[u8]) -> rhizome_media::Content {
    let file = NewFile {
        content_type: Some("image/png"),
        ..NewFile::default()
    };
    let uploaded = world
        .media
        .upload(Some(ALICE), file, body(bytes))
        .await
        .unwrap();
    world.find(&uploaded.media_id).await.unwrap()
}

#[tokio::test]
async fn a_picture_is_made_once_and_kept() {
    let painter = Arc::new(Painter::default());
    each_with(
        |_| {},
        painter.clone(),
        async |world| {
            painter.made.store(0, Ordering::SeqCst);
            let content = upload(world, PNG).await;
            let want = || {
                world
                    .media
                    .thumbnail(&content, wanted(50, 40, Method::Crop))
            };
            let (first, second, third) = tokio::join!(want(), want(), want());
            for made in [first, second, third, want().await] {
                let made = made.unwrap();
                assert_eq!(read(&made).await, b"50x40 Crop");
                assert_eq!(made.info.content_type.as_deref(), Some("image/jpeg"));
                assert_eq!(made.info.size, Some(10));
            }
            assert_eq!(painter.made.load(Ordering::SeqCst), 1);
            // The same bytes under another name have it, too.
            let same = upload(world, PNG).await;
            let made = world
                .media
                .thumbnail(&same, wanted(50, 40, Method::Crop))
                .await;
            assert_eq!(read(&made.unwrap()).await, b"50x40 Crop");
            assert_eq!(painter.made.load(Ordering::SeqCst), 1);
            // What is no larger than what is wanted is its own picture.
            let own = world
                .media
                .thumbnail(&same, wanted(2_000, 2_000, Method::Scale))
                .await
                .unwrap();
            assert_eq!(read(&own).await, PNG);
            let own = world
                .media
                .thumbnail(&same, wanted(2_000, 2_000, Method::Scale))
                .await
                .unwrap();
            assert_eq!(own.info.content_type.as_deref(), Some("image/jpeg"));
            assert_eq!(painter.made.load(Ordering::SeqCst), 2);
            // What goes takes its pictures along.
            let rows = world
                .media
                .delete_all(&rhizome_storage::MediaQuery::default())
                .await;
            assert_eq!(rows.unwrap(), 2);
            world.clock.advance(std::time::Duration::from_hours(2));
            let swept = world.media.sweep().await.unwrap().unwrap();
            assert_eq!((swept.thumbnails, swept.blobs), (2, 2));
            assert_eq!(world.files().await.map(|files| files.len()), [0, 0]);
        },
    )
    .await;
}

#[tokio::test]
async fn what_is_no_picture_is_tried_once() {
    let painter = Arc::new(Painter::default());
    each_with(
        |_| {},
        painter.clone(),
        async |world| {
            painter.made.store(0, Ordering::SeqCst);
            let text = upload(world, b"text").await;
            for _ in 0..3 {
                let made = world
                    .media
                    .thumbnail(&text, wanted(1, 1, Method::Scale))
                    .await;
                assert!(matches!(made, Err(MediaError::NoThumbnail)));
            }
            assert_eq!(painter.made.load(Ordering::SeqCst), 1);
            let large = upload(world, &[0; 1_001]).await;
            let made = world
                .media
                .thumbnail(&large, wanted(1, 1, Method::Scale))
                .await;
            assert!(matches!(made, Err(MediaError::PictureTooLarge)));
        },
    )
    .await;
}

#[tokio::test]
async fn the_specified_sizes_are_made_after_an_upload() {
    let painter = Arc::new(Painter::default());
    each_with(
        |_| {},
        painter.clone(),
        async |world| {
            painter.made.store(0, Ordering::SeqCst);
            let stop = CancellationToken::new();
            let media = world.media.clone();
            let running = tokio::spawn({
                let stop = stop.clone();
                async move { media.run(stop).await }
            });
            upload(world, PNG).await;
            eventually("all are made", async || {
                painter.made.load(Ordering::SeqCst) == world.media.config().thumbnails.len()
            })
            .await;
            stop.cancel();
            running.await.unwrap();
        },
    )
    .await;
}

#[tokio::test]
async fn sizes_are_few_where_they_are_to_be() {
    let painter = Arc::new(Painter::default());
    let settings = |config: &mut rhizome_media::MediaConfig| config.any_thumbnail = false;
    each_with(settings, painter, async |world| {
        let content = upload(world, PNG).await;
        for (size, method, made) in [
            ((10, 10), Method::Crop, "32x32 Crop"),
            ((33, 20), Method::Crop, "96x96 Crop"),
            ((500, 500), Method::Crop, "96x96 Crop"),
            ((400, 300), Method::Scale, "640x480 Scale"),
            ((4_000, 3_000), Method::Scale, "800x600 Scale"),
        ] {
            let picture = world
                .media
                .thumbnail(&content, wanted(size.0, size.1, method))
                .await;
            assert_eq!(read(&picture.unwrap()).await, made.as_bytes());
        }
    })
    .await;
}

#[tokio::test]
async fn where_a_picture_was_taken_is_taken_off() {
    let painter = Arc::new(Painter::default());
    each_with(
        |_| {},
        painter,
        async |world| {
            let with = [PNG, b" GPS"].concat();
            let content = upload(world, &with).await;
            assert_eq!(read(&content).await, PNG);
            assert_eq!(content.info.size, Some(PNG.len() as u64));
            let text = upload(world, b"text about GPS").await;
            assert_eq!(read(&text).await, b"text about GPS");
            assert_eq!(world.files().await[1].len(), 0);
            // Even of what is too large for pictures.
            let large = [PNG, &[0; 2_000]].concat();
            let content = upload(world, &[&large[..], b" GPS"].concat()).await;
            assert_eq!(read(&content).await, large);
            // What can't be stripped isn't taken, unless it is broken and tells nothing.
            let broken = [PNG, b" broken"].concat();
            let content = upload(world, &broken).await;
            assert_eq!(read(&content).await, broken);
            let files = world.files().await[0].len();
            for (middle, end, status) in [
                (&b""[..], &b" slow"[..], 503),
                (b" Exif\0\0", b" broken", 400),
                (b" eXIf", b" broken", 400),
                (b" http://ns.adobe.com/xap/1.0/", b" broken", 400),
            ] {
                // It stands between two pieces.
                let padding = vec![b'.'; 65_536 - PNG.len() - 3];
                let file = [PNG, &padding, middle, end].concat();
                let refused = world
                    .media
                    .upload(Some(ALICE), NewFile::default(), body(&file))
                    .await;
                let Err(UploadError::Media(error)) = refused else {
                    panic!("{refused:?}");
                };
                assert_eq!(error.status(), status, "{error}");
            }
            assert_eq!(world.files().await.map(|files| files.len()), [files, 0]);
        },
    )
    .await;
}

#[tokio::test]
async fn after_twenty_sizes_the_next_of_the_configured_is_given() {
    let painter = Arc::new(Painter::default());
    each_with(
        |_| {},
        painter.clone(),
        async |world| {
            painter.made.store(0, Ordering::SeqCst);
            let content = upload(world, PNG).await;
            let ask = |width| {
                let wanted = wanted(width, 50, Method::Crop);
                world.media.thumbnail(&content, wanted)
            };
            let all = futures_util::future::join_all((40..80).map(ask)).await;
            assert!(all.iter().all(Result::is_ok));
            let first = painter.made.load(Ordering::SeqCst);
            assert!(first <= 21, "{first}");
            // Side by side all of them count, so that there may be fewer: one after another they fill up.
            for width in 80..110 {
                assert!(ask(width).await.is_ok());
            }
            for width in 110..115 {
                assert_eq!(read(&ask(width).await.unwrap()).await, b"96x96 Crop");
            }
            // It isn't made each time.
            assert!(painter.made.load(Ordering::SeqCst) <= 21);
            // Of what is its own picture there is one.
            let key = content.info.media_id.clone();
            let own = upload(world, &[PNG, b" another"].concat()).await;
            for width in [2_000, 3_000, 2_500, 2_001] {
                let wanted = wanted(width, 2_000, Method::Scale);
                let picture = world.media.thumbnail(&own, wanted).await.unwrap();
                assert_eq!(read(&picture).await, read(&own).await);
            }
            let row = world.media.row("here.example", &own.info.media_id).await;
            let source = row.unwrap().unwrap().blob.unwrap().key;
            assert_eq!(world.store.thumbnail_count(&source).await.unwrap(), 1);
            let row = world.media.row("here.example", &key).await;
            let source = row.unwrap().unwrap().blob.unwrap().key;
            assert!(world.store.thumbnail_count(&source).await.unwrap() <= 21);
        },
    )
    .await;
}

#[tokio::test]
async fn what_fails_for_now_is_tried_again_and_other_sizes_at_once() {
    let painter = Arc::new(Painter::default());
    each_with(
        |_| {},
        painter.clone(),
        async |world| {
            painter.made.store(0, Ordering::SeqCst);
            let content = upload(world, PNG).await;
            let ask = |width| {
                let wanted = wanted(width, 50, Method::Crop);
                world.media.thumbnail(&content, wanted)
            };
            assert!(ask(13).await.is_err() && ask(13).await.is_err());
            assert_eq!(painter.made.load(Ordering::SeqCst), 1);
            assert!(ask(14).await.is_ok());
            world.clock.advance(std::time::Duration::from_mins(2));
            assert!(ask(13).await.is_err());
            assert_eq!(painter.made.load(Ordering::SeqCst), 3);
        },
    )
    .await;
}

#[tokio::test]
async fn a_picture_that_is_lost_is_made_again() {
    each_with(
        |_| {},
        Arc::new(Painter::default()),
        async |world| {
            let content = upload(world, PNG).await;
            let ask = || {
                world
                    .media
                    .thumbnail(&content, wanted(50, 40, Method::Crop))
            };
            let known = world.files().await[0].clone();
            let made = ask().await.unwrap();
            let mut files = world.files().await[0].clone();
            files.retain(|file| !known.contains(file));
            lay(world.place(), &files[0].key, None).await;
            assert!(made.read(None).await.is_err());
            assert_eq!(read(&ask().await.unwrap()).await, b"50x40 Crop");
            assert_eq!(read(&content).await, PNG);
        },
    )
    .await;
}
