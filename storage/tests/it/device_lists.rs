//! Changes of devices, as other servers and late readers are told.

use rhizome_storage::testing::each_database;
use rhizome_storage::{DeviceList, Pos, Store, UserNo, WriteSet};

use crate::factory::user;

async fn change(store: &Store, user: UserNo, devices: &[Option<&str>]) -> Pos {
    let lists = devices.iter().map(|device| {
        let device = device.map(Into::into);
        DeviceList { user, device }.into()
    });
    let set = WriteSet::from(lists.collect::<Vec<_>>());
    store.commit(set).await.unwrap().last
}

#[tokio::test]
async fn the_stream_of_a_user_is_where_a_device_changed_last() {
    each_database(|store| async move {
        let ada = store.user_no(&user("ada")).await.unwrap();
        let eve = store.user_no(&user("eve")).await.unwrap();
        assert_eq!(store.device_stream(ada).await.unwrap(), Pos(0));
        let first = change(&store, ada, &[Some("A")]).await;
        assert_eq!(store.device_stream(ada).await.unwrap(), first);
        // Cross-signing keys aren't part of it.
        let keys = change(&store, ada, &[None]).await;
        assert_eq!(store.device_stream(ada).await.unwrap(), first);
        let several = change(&store, ada, &[Some("A"), Some("B"), None]).await;
        assert_eq!(store.device_stream(ada).await.unwrap(), Pos(several.0 - 1));
        // A user hears of themselves, and of nobody with whom they share no room.
        assert_eq!(store.device_lists_since(ada, keys).await.unwrap(), [ada]);
        assert!(
            store
                .device_lists_since(ada, several)
                .await
                .unwrap()
                .is_empty()
        );
        assert!(
            store
                .device_lists_since(eve, Pos(0))
                .await
                .unwrap()
                .is_empty()
        );
    })
    .await;
}
