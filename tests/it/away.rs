//! One of two servers is away, or both say something at once.

use rhizome_demo::{Person, agree};
use serde_json::{Value, json};

use crate::{
    harness::each_database,
    talk::{PATIENCE, Two, membership, two},
};

#[tokio::test(flavor = "multi_thread")]
async fn state_set_on_both_sides_at_once_is_resolved_alike() {
    each_database(|kind| async move {
        let Two {
            pair,
            ada,
            bea,
            room,
            ..
        } = two(kind).await;
        let levels = json!({
            "users": { bea.user_id.clone(): 50 },
            "state_default": 50,
        });
        ada.set_state(&room, "m.room.power_levels", "", levels)
            .await
            .unwrap();
        agree([&ada, &bea], &room).await.unwrap();
        for round in 0..5 {
            let set = |who: Person, what: &'static str| {
                let room = room.clone();
                async move {
                    let content = json!({ "topic": format!("{what} {round}") });
                    who.set_state(&room, "m.room.topic", "", content)
                        .await
                        .unwrap();
                    who.say(&room, &format!("{what} {round}")).await.unwrap();
                }
            };
            tokio::join!(set(ada.clone(), "north"), set(bea.clone(), "south"));
        }
        // One more from each side ties the forks together.
        ada.say(&room, "done").await.unwrap();
        bea.say(&room, "done").await.unwrap();
        agree([&ada, &bea], &room).await.unwrap();
        pair.stop().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_was_away_catches_up_also_both_ways() {
    each_database(|kind| async move {
        let Two {
            mut pair,
            ada,
            bea,
            room,
            ada_since,
            bea_since,
        } = two(kind).await;
        pair.south.site.stop().await;
        let mut missed = Vec::new();
        for number in 0..60 {
            missed.push(ada.say(&room, &format!("north {number}")).await.unwrap());
        }
        // North goes as well; south comes back alone and writes.
        pair.north.site.stop().await;
        pair.south.site.start_again().await.unwrap();
        let said = bea.say(&room, "alone").await.unwrap();
        pair.north.site.start_again().await.unwrap();
        ada.see(&ada_since, &room, &said, PATIENCE * 2)
            .await
            .unwrap();
        // Sixty missed messages may make the timeline limited: the last arrives in any case.
        bea.see(&bea_since, &room, &missed[59], PATIENCE * 2)
            .await
            .unwrap();
        agree([&ada, &bea], &room).await.unwrap();
        let history = bea.history(&room, 30, &mut 0).await.unwrap();
        for event in &missed {
            assert!(
                history.iter().any(|e| e["event_id"] == **event),
                "{event} is missing"
            );
        }
        pair.stop().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_said_between_two_stays_is_paged_back_to() {
    each_database(|kind| async move {
        let Two {
            pair,
            ada,
            bea,
            room,
            ada_since,
            bea_since,
        } = two(kind).await;
        let mut said = vec![bea.say(&room, "goodbye").await.unwrap()];
        ada.see(&ada_since, &room, &said[0], PATIENCE)
            .await
            .unwrap();
        bea.leave(&room).await.unwrap();
        let left = |answer: &Value| {
            (membership(answer, "join", &room, &bea.user_id)? == "leave").then_some(())
        };
        ada.sync_until(&ada_since, PATIENCE, left).await.unwrap();
        // Nobody on south is in the room: none of this gets there.
        for number in 0..25 {
            said.push(ada.say(&room, &format!("aside {number}")).await.unwrap());
        }
        ada.invite(&room, &bea.user_id).await.unwrap();
        bea.see_invite(&bea_since, &room, PATIENCE).await.unwrap();
        bea.join(&room, &[pair.north.name()]).await.unwrap();

        for page in [4, 10, 100] {
            let history = bea.history(&room, page, &mut 0).await.unwrap();
            let texts = history.iter().rev();
            let texts = texts.filter(|event| event["type"] == "m.room.message");
            let ids: Vec<_> = texts.map(|event| event["event_id"].clone()).collect();
            assert_eq!(ids, said, "{page} a page");
        }
        pair.stop().await;
    })
    .await;
}
