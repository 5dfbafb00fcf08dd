//! Who isn't found, or isn't any more, although their names are written down.

use rhizome_storage::{AccountFlag, Block, testing::eventually};
use serde_json::json;

use super::{find, finds, following, people, search};
use crate::harness::story;

#[tokio::test(flavor = "multi_thread")]
async fn who_has_left_is_not_found_before_that_is_written_down() {
    story(async |server| {
        let ada = server.register("ada").await;
        let bob = server.register("bob").await;
        let carl = server.register("carl").await;
        let eve = server.register("eve").await;
        let (bobs, carls) = (bob.create_public().await, carl.create_public().await);
        let adas = ada.create_public().await;
        carl.join(&adas).await;
        ada.join(&bobs).await;
        following(&server, async {
            find(&eve, "bob", &[(&bob, None)]).await;
            find(&eve, "carl", &[(&carl, None)]).await;
            find(&eve, "ada", &[(&ada, None)]).await;
        })
        .await;
        // From here on nobody writes anything down.
        bob.leave(&bobs).await;
        assert!(finds(&eve, "bob").await.is_empty());
        let rule = json!({ "join_rule": "invite" });
        carl.set_state(&carls, "m.room.join_rules", "", rule.clone())
            .await;
        assert_eq!(finds(&eve, "carl").await.len(), 1, "he is in another, too");
        ada.set_state(&adas, "m.room.join_rules", "", rule).await;
        assert!(finds(&eve, "carl").await.is_empty());
        assert_eq!(finds(&eve, "ada").await.len(), 1);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_locked_or_shown_to_nobody_is_not_found() {
    people(async |server| {
        let bob = server.register("bob").await;
        let eve = server.register("eve").await;
        bob.create_public().await;
        let found = [(&bob, None)];
        find(&eve, "bob", &found).await;
        let no = server.store.user_no((&*bob.id).try_into().unwrap());
        let no = no.await.unwrap();
        for on in [true, false] {
            let set = server.store.set_account_flag(no, AccountFlag::Locked, on);
            assert!(set.await.unwrap());
            assert_eq!(finds(&eve, "bob").await.is_empty(), on);
        }
        let block = Block {
            kind: Block::SHADOW.into(),
            what: bob.id.clone(),
            way: String::new(),
            reason: String::new(),
            since_ms: 0,
            blocked: true,
        };
        server.store.block(block).await.unwrap();
        assert!(finds(&eve, "bob").await.is_empty());
        let undone = server.store.unblock(Block::SHADOW, &bob.id).await;
        assert!(undone.unwrap());
        find(&eve, "bob", &found).await;
    })
    .await;
}

/// More strangers than are looked at don't push out whom one knows.
#[tokio::test(flavor = "multi_thread")]
async fn whom_one_shares_a_room_with_is_found_among_many() {
    story(async |server| {
        let ada = server.register("ada").await;
        let hall = ada.create_public().await;
        for n in 0..205 {
            let one = server.register(&format!("sam{n:03}")).await;
            one.join(&hall).await;
        }
        // By order of words he is the last.
        let friend = server.register("samzoe").await;
        let eve = server.register("eve").await;
        let room = friend.create_public().await;
        eve.join(&room).await;
        following(&server, async {
            eventually("the friend comes first", async || {
                let body = json!({ "search_term": "sam", "limit": 5 });
                let answer = search(&eve, body).await;
                answer["results"][0]["user_id"] == friend.id.as_str()
                    && answer["limited"] == true
                    && answer["results"].as_array().unwrap().len() == 5
            })
            .await;
        })
        .await;
    })
    .await;
}
