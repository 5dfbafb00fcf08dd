//! However large a file, little of it is in memory.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering::SeqCst},
};

use axum::body::Body;
use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use http::Method;
use tower::ServiceExt as _;

use super::world::{UPLOAD, download, each, request, with_body};

/// How large the pieces are in which a connection gives a body.
const PIECE: usize = 16 << 10;
const PIECES: usize = 1_000;
/// What may be in memory of a transfer.
const MOST: usize = 256 << 10;

/// A piece that says when it goes.
struct Piece {
    bytes: Vec<u8>,
    alive: Arc<AtomicUsize>,
}

impl AsRef<[u8]> for Piece {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Piece {
    fn drop(&mut self) {
        self.alive.fetch_sub(self.bytes.len(), SeqCst);
    }
}

#[tokio::test]
async fn a_transfer_holds_a_few_pieces() {
    each(async |world| {
        let ada = world.register("ada").await;
        // The watch would hold all of it.
        let router = rhizome_client_api::router(world.app.clone());
        let (alive, most) = (Arc::<AtomicUsize>::default(), Arc::<AtomicUsize>::default());
        let pieces = {
            let (alive, most) = (alive.clone(), most.clone());
            stream::iter(0..PIECES).map(move |n| {
                let now = alive.fetch_add(PIECE, SeqCst) + PIECE;
                most.fetch_max(now, SeqCst);
                let bytes = vec![n.to_le_bytes()[0]; PIECE];
                let alive = alive.clone();
                Ok::<_, std::io::Error>(Bytes::from_owner(Piece { bytes, alive }))
            })
        };
        let upload = with_body(
            Method::POST,
            UPLOAD,
            Some(&ada),
            &[],
            Body::from_stream(pieces),
        );
        let answer = router.clone().oneshot(upload).await.unwrap();
        let uri = axum::body::to_bytes(answer.into_body(), 1_000)
            .await
            .unwrap();
        let uri: serde_json::Value = serde_json::from_slice(&uri).unwrap();
        let id = uri["content_uri"]
            .as_str()
            .unwrap()
            .rsplit('/')
            .next()
            .unwrap();
        assert_eq!(alive.load(SeqCst), 0);
        let most = most.load(SeqCst);
        assert!(most <= MOST, "{most} bytes of an upload were in memory");

        let asked = request(Method::GET, &download(id), Some(&ada), &[]);
        let answer = router.oneshot(asked).await.unwrap();
        let mut body = answer.into_body().into_data_stream();
        let (mut size, mut largest) = (0, 0);
        while let Some(piece) = body.next().await {
            let length = piece.unwrap().len();
            (size, largest) = (size + length, largest.max(length));
        }
        assert_eq!(size, PIECE * PIECES);
        assert!(largest <= MOST, "a piece has {largest} bytes");
    })
    .await;
}
