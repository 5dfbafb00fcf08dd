//! Who is locked out is told nothing.

use rhizome_storage::AccountFlag;
use ruma::UserId;
use serde_json::json;

use super::{each, pusher, set, told::two};

#[tokio::test]
async fn who_is_locked_is_told_nothing_and_later_what_comes_then() {
    each(async |world| {
        let (ada, bob, room) = two(world).await;
        let carol = world.server.register("carol").await;
        carol.join(&room).await;
        set(&carol, pusher("tablet", json!({}))).await;
        let store = &world.server.store;
        let id = <&UserId>::try_from(ada.id.as_str()).unwrap();
        let user = store.user_no(id).await.unwrap();
        let lock = async |on| store.set_account_flag(user, AccountFlag::Locked, on).await;
        assert!(lock(true).await.unwrap());
        let first = bob.say(&room, "unheard").await;
        let told = world.gateway.told(1).await.remove(0);
        assert_eq!(told["event_id"], json!(first));
        assert_eq!(told["devices"][0]["pushkey"], "tablet");
        // By now it was looked at for everybody.
        assert!(lock(false).await.unwrap());
        let second = bob.say(&room, "heard").await;
        let told = world.gateway.told(3).await.split_off(1);
        let mut keys: Vec<_> = told
            .iter()
            .map(|one| &one["devices"][0]["pushkey"])
            .collect();
        keys.sort_by_key(ToString::to_string);
        assert_eq!(keys, [&json!("phone"), &json!("tablet")]);
        assert!(told.iter().all(|one| one["event_id"] == json!(second)));
    })
    .await;
}
