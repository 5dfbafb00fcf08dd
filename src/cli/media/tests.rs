use std::{convert::Infallible, sync::Arc};

use axum::body::Bytes;
use futures_util::stream;
use rhizome_decoder::Decoders;
use rhizome_media::{MediaConfig, NewFile};
use rhizome_storage::testing::TestDatabase;
use ruma::server_name;

use super::*;

/// All files of this server.
fn ours() -> Chosen {
    Chosen {
        files: Vec::new(),
        which: Which {
            user: None,
            server: Some("here.test".to_owned()),
            room: None,
            older_than: None,
            unused_for: None,
        },
    }
}

#[tokio::test]
async fn what_is_protected_may_be_so_no_longer_without_being_named() {
    for database in TestDatabase::both().await {
        let store = Store::open(database.options()).await.unwrap();
        let folder = tempfile::tempdir().unwrap();
        let name = server_name!("here.test").to_owned();
        let config = MediaConfig::new(name, folder.path());
        let decoders = Arc::new(Decoders::in_process());
        let media = Media::open(store.clone(), config, decoders).unwrap();
        media.claim().await.unwrap();
        let file = NewFile {
            content_type: Some("x/y"),
            name: None,
            announced: None,
        };
        let body = stream::iter([Ok::<_, Infallible>(Bytes::from_static(b"a file"))]);
        let id = media.upload(None, file, body).await.unwrap().media_id;
        let at = Desk {
            store: &store,
            media: &media,
        };
        for protected in [true, false] {
            let one = async |name: (&str, &str)| Ok(media.protect(name, protected).await?);
            at.one_by_one(&ours(), true, one, "").await.unwrap();
            let row = media.row("here.test", &id).await.unwrap().unwrap();
            assert_eq!(row.protected, protected);
        }
        media.protect(("here.test", &id), true).await.unwrap();
        let delete = async |names: &[(&str, &str)]| Ok(media.delete(names).await?);
        assert_eq!(at.each(&ours(), false, delete).await.unwrap(), 0);
        assert_eq!(at.each(&ours(), true, delete).await.unwrap(), 1);
        store.close().await;
        database.remove().await;
    }
}
