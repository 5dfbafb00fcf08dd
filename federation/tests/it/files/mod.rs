//! Files between servers: ours for others, others' for us; `odd` has servers that are old, lie, or break off,
//! `bucket` one that sends others to its store.

mod bucket;
mod odd;

use std::{sync::Arc, time::Duration};

use axum::body::{Body, Bytes};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use futures_util::{TryStreamExt as _, future::join_all, stream};
use http::{Request, StatusCode};
use rhizome_decoder::Decoders;
use rhizome_federation::{
    Federation,
    media::{download, thumbnail},
};
use rhizome_media::{Content, FetchError, Format, MediaError, Method, NewFile, Wanted};
use rhizome_storage::testing::{eventually, soon};
use ruma::{OwnedServerName, ServerName};

use crate::world::{Server, World, each, still};

/// A picture of one pixel.
const PIXEL: &str = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==";

pub fn pixel() -> Bytes {
    STANDARD.decode(PIXEL).unwrap().into()
}

const WAIT: Duration = Duration::from_secs(5);

/// Bytes of all values, and line breaks with dashes among them.
fn some(length: usize) -> Vec<u8> {
    let mut state = 1_u32;
    let mut bytes: Vec<u8> = (0..length)
        .map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            state.to_be_bytes()[0]
        })
        .collect();
    for at in (0..length.saturating_sub(4)).step_by(997) {
        bytes[at..at + 4].copy_from_slice(b"\r\n--");
    }
    bytes
}

async fn upload(fed: &Federation, content_type: &str, name: &str, bytes: &[u8]) -> String {
    let file = NewFile {
        content_type: Some(content_type),
        name: Some(name),
        announced: None,
    };
    let pieces: Vec<Result<Bytes, std::io::Error>> = bytes
        .chunks(10_000)
        .map(|piece| Ok(Bytes::copy_from_slice(piece)))
        .collect();
    let uploaded = fed.media().upload(None, file, stream::iter(pieces)).await;
    uploaded.unwrap().media_id
}

async fn bytes(content: &Content) -> Result<Vec<u8>, MediaError> {
    let pieces = content.read(None).await?;
    let all = pieces.try_fold(Vec::new(), async |mut all, piece| {
        all.extend_from_slice(&piece);
        Ok(all)
    });
    soon("the bytes come", all).await
}

async fn get_file(to: &Server, from: &ServerName, id: &str) -> Result<Content, MediaError> {
    soon("the file", download(&to.fed, from, id, WAIT)).await
}

fn failed(outcome: &Result<Content, MediaError>) -> bool {
    matches!(outcome, Err(MediaError::Remote(FetchError::Failed(_))))
}

/// How often a server was asked for what has this in its target.
fn asked(world: &World, server: &ServerName, what: &str) -> usize {
    let requests = world.network.requests();
    let about = |(to, line): &&(OwnedServerName, String)| to == server && line.contains(what);
    requests.iter().filter(about).count()
}

#[tokio::test]
async fn a_file_goes_across_once() {
    each(2, async |world| {
        let (a, b) = world.two();
        let file = some(300_000);
        let id = upload(&a.fed, "image/png", "Größe \"1\".png", &file).await;
        let got = join_all((0..10).map(|_| get_file(b, &a.name, &id))).await;
        for content in got {
            let content = content.unwrap();
            assert_eq!(content.info.content_type.as_deref(), Some("image/png"));
            assert_eq!(content.info.name.as_deref(), Some("Größe \"1\".png"));
            assert_eq!(content.info.size, Some(300_000));
            assert!(bytes(&content).await.unwrap() == file);
        }
        let again = get_file(b, &a.name, &id).await.unwrap();
        assert!(bytes(&again).await.unwrap() == file);
        assert_eq!(asked(&world, &a.name, "/media/"), 1);
        // What is kept of others isn't given to others.
        let path = format!("/_matrix/federation/v1/media/download/{id}");
        let error = a.get(b, &path).await.unwrap_err();
        assert_eq!(
            (error.status.as_u16(), &*error.errcode),
            (404, "M_NOT_FOUND")
        );
        // Ours is had without anybody else.
        let own = get_file(a, &a.name, &id).await.unwrap();
        assert!(bytes(&own).await.unwrap() == file);
        let empty = upload(&a.fed, "text/plain", "empty", b"").await;
        let content = get_file(b, &a.name, &empty).await.unwrap();
        assert_eq!(bytes(&content).await.unwrap(), b"");
    })
    .await;
}

#[tokio::test]
async fn who_doesnt_sign_gets_nothing_and_nor_does_who_asks_for_what_isnt_given() {
    each(2, async |world| {
        let (a, b) = world.two();
        let id = upload(&a.fed, "text/plain", "a", b"hello").await;
        let path = format!("/_matrix/federation/v1/media/download/{id}");
        let unsigned = Request::get(&path).body(Body::empty()).unwrap();
        let answer = tower::ServiceExt::oneshot(a.router(), unsigned)
            .await
            .unwrap();
        assert_eq!(answer.status(), StatusCode::UNAUTHORIZED);
        let not_there = "/_matrix/federation/v1/media/download/nothing";
        for path in [
            not_there,
            "/_matrix/federation/v1/media/download/%2e%2e%2fx",
        ] {
            let error = b.get(a, path).await.unwrap_err();
            assert_eq!(
                (error.status.as_u16(), &*error.errcode),
                (404, "M_NOT_FOUND")
            );
        }
        let missing = get_file(b, &a.name, "nothing").await;
        assert!(matches!(
            missing,
            Err(MediaError::Remote(FetchError::NotFound))
        ));
        assert!(matches!(
            get_file(b, &a.name, "../x").await,
            Err(MediaError::NotFound)
        ));
        // Nobody gets what is quarantined.
        let quarantined = a.fed.media().quarantine((a.name.as_str(), &id), true).await;
        assert!(quarantined.unwrap());
        let error = b.get(a, &path).await.unwrap_err();
        assert_eq!(
            (error.status.as_u16(), &*error.errcode),
            (404, "M_NOT_FOUND")
        );
        let gone = get_file(b, &a.name, &id).await;
        assert!(matches!(
            gone,
            Err(MediaError::Remote(FetchError::NotFound))
        ));
        // Nor pictures of it, nor pictures without size.
        let picture = format!("/_matrix/federation/v1/media/thumbnail/{id}?width=0&height=1");
        assert_eq!(
            b.get(a, &picture).await.unwrap_err().errcode,
            "M_INVALID_PARAM"
        );
        let picture = format!("/_matrix/federation/v1/media/thumbnail/{id}?width=1&height=1");
        assert_eq!(b.get(a, &picture).await.unwrap_err().errcode, "M_NOT_FOUND");
    })
    .await;
}

#[tokio::test]
async fn bytes_that_havent_come_are_waited_for() {
    each(2, async |world| {
        let (a, b) = world.two();
        let alice = a.store().user_no(&a.user("alice")).await.unwrap();
        let created = a.fed.media().create(alice).await.unwrap();
        let id = created.media_id;
        let hurried = download(&b.fed, &a.name, &id, Duration::from_millis(1)).await;
        assert!(matches!(
            hurried,
            Err(MediaError::Remote(FetchError::NotYet))
        ));
        let path = format!("/_matrix/federation/v1/media/download/{id}?timeout_ms=1");
        let error = b.get(a, &path).await.unwrap_err();
        assert_eq!(
            (error.status.as_u16(), &*error.errcode),
            (504, "M_NOT_YET_UPLOADED")
        );
        let other = a.fed.media().create(alice).await.unwrap().media_id;
        let fills = async {
            let before = asked(&world, &a.name, "/media/");
            eventually("it is asked for", async || {
                asked(&world, &a.name, "/media/") > before
            })
            .await;
            let pieces = stream::iter([Ok::<_, std::io::Error>(Bytes::from_static(b"hello"))]);
            let filled = a
                .fed
                .media()
                .fill(alice, &other, NewFile::default(), pieces)
                .await;
            filled.unwrap();
        };
        let (content, ()) = tokio::join!(get_file(b, &a.name, &other), fills);
        assert_eq!(bytes(&content.unwrap()).await.unwrap(), b"hello");
    })
    .await;
}

const WANTED: Wanted = Wanted {
    width: 32,
    height: 24,
    method: Method::Crop,
    animated: false,
    format: Format::Plain,
};

#[tokio::test]
async fn pictures_go_across_where_none_can_be_made() {
    still(3, async |world| {
        let (a, b) = world.two();
        let decoders = Arc::new(Decoders::in_process());
        let painting = a.with_pictures(&world.network, decoders.clone());
        let file = pixel();
        let id = upload(&painting, "image/png", "a.png", &file).await;
        for _ in 0..2 {
            let picture = thumbnail(&b.fed, &a.name, &id, WANTED, WAIT).await.unwrap();
            assert_eq!(bytes(&picture).await.unwrap(), file);
            assert_eq!(picture.info.content_type.as_deref(), Some("image/png"));
        }
        assert_eq!(asked(&world, &a.name, "/media/download/"), 1);
        assert_eq!(asked(&world, &a.name, "/media/thumbnail/"), 1);
        // A file is none of its pictures.
        let name = format!("{id}/32x24-crop-still");
        assert!(matches!(
            get_file(b, &a.name, &name).await,
            Err(MediaError::NotFound)
        ));
        // Where they can be made, they are made.
        let able = world.server(2).with_pictures(&world.network, decoders);
        let id = upload(&painting, "image/png", "b.png", &file).await;
        let picture = thumbnail(&able, &a.name, &id, WANTED, WAIT).await.unwrap();
        assert_eq!(bytes(&picture).await.unwrap(), file);
        assert_eq!(asked(&world, &a.name, "/media/thumbnail/"), 1);
        // What is said not to be a picture isn't passed on.
        let text = upload(&a.fed, "text/plain", "c", b"some text").await;
        let none = thumbnail(&a.fed, &a.name, &text, WANTED, WAIT).await;
        assert!(matches!(
            none,
            Err(MediaError::NoThumbnail | MediaError::PictureTooLarge)
        ));
    })
    .await;
}
