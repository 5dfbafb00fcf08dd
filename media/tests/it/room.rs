//! Other servers' files stay within their room.

use std::sync::Arc;
use std::time::Duration;

use rhizome_media::{MediaConfig, NoPictures};
use rhizome_storage::testing::eventually;
use rhizome_storage::{Blob, Keep, NewMedia};
use tokio_util::sync::CancellationToken;

use crate::remote::fetch_whole;
use crate::world::{World, each_with, noise};

fn small(config: &mut MediaConfig) {
    config.remote.cache_size = 2_500;
}

async fn kept(world: &World) -> u64 {
    world.store.remote_media_size().await.unwrap()
}

#[tokio::test]
async fn too_many_wake_the_sweep_and_their_bytes_go_soon() {
    each_with(small, Arc::new(NoPictures), async |world| {
        let stop = CancellationToken::new();
        let sweeping = tokio::spawn({
            let (media, stop) = (world.media.clone(), stop.clone());
            async move { media.sweep_now_and_then(stop).await }
        });
        for (index, id) in ["one", "two", "three"].into_iter().enumerate() {
            fetch_whole(world, id, &noise(1_000, 50 + u32::try_from(index).unwrap())).await;
        }
        eventually("one goes", async || {
            // Less than it would take without a reason.
            world.clock.advance(Duration::from_millis(100));
            kept(world).await == 2_000
        })
        .await;
        assert_eq!(world.files().await[0].len(), 3);
        // Not after the hour for which bytes stay, nor at the next sweep of all.
        let before = world.clock.now_ms();
        eventually("its bytes go", async || {
            world.clock.advance(Duration::from_secs(10));
            world.files().await[0].len() == 2
        })
        .await;
        let took = world.clock.now_ms() - before;
        assert!(took < 3_600_000, "{took}");
        stop.cancel();
        sweeping.await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn any_number_of_empty_files_does_not_keep_the_rest() {
    each_with(small, Arc::new(NoPictures), async |world| {
        let blob = |key: &str, size| Blob {
            key: key.to_owned(),
            sha256: key.to_owned(),
            size,
            store: "local".to_owned(),
            seal: None,
        };
        let add = async |media_id: &str, blob: &Blob| {
            let new = NewMedia {
                origin: "there.example",
                media_id,
                remote: true,
                owner: None,
                content_type: None,
                name: None,
                size: blob.size,
            };
            let added = world.store.add_media(&new, Keep::New(blob)).await;
            assert!(added.unwrap().is_some());
        };
        let (empty, large) = (blob("aaaa-1", 0), blob("bbbb-1", 5_000));
        for index in 0..501 {
            add(&format!("empty{index}"), &empty).await;
        }
        world.clock.advance(Duration::from_millis(5));
        add("large", &large).await;
        let swept = world.media.sweep().await.unwrap().unwrap();
        assert_eq!((swept.remote, kept(world).await), (502, 0));
    })
    .await;
}
