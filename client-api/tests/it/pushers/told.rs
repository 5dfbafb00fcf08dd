//! What a gateway is told.

use std::time::Duration;

use http::Method;
use rhizome_storage::testing::eventually;
use serde_json::{Value, json};

use super::{World, each, each_with, keys, pusher, set, waits};
use crate::{
    harness::{User, esc, next},
    unread::{message, read},
};

/// Ada has a phone; Bob writes to her.
pub async fn two(world: &World) -> (User, User, String) {
    let (ada, bob) = (
        world.server.register("ada").await,
        world.server.register("bob").await,
    );
    let name = format!("/profile/{}/displayname", esc(&bob.id));
    let named = json!({ "displayname": "Bob" });
    bob.ok(Method::PUT, &name, named).await;
    set(&ada, pusher("phone", json!({}))).await;
    let room = bob
        .create(json!({ "preset": "public_chat", "name": "Kitchen" }))
        .await;
    ada.join(&room).await;
    (ada, bob, room)
}

#[tokio::test]
async fn a_message_is_told_and_the_number_goes_when_it_is_read() {
    each(async |world| {
        let (ada, bob, room) = two(world).await;
        let event = bob.say(&room, "soup is ready").await;
        let told = world.gateway.told(1).await.remove(0);
        assert_eq!(told["event_id"], json!(event));
        assert_eq!(told["room_id"], json!(room));
        assert_eq!(told["type"], "m.room.message");
        assert_eq!(told["sender"], json!(bob.id));
        assert_eq!(told["sender_display_name"], "Bob");
        assert_eq!(told["room_name"], "Kitchen");
        assert_eq!(told["content"]["body"], "soup is ready");
        assert_eq!(told["counts"]["unread"], 1);
        let device = &told["devices"][0];
        assert_eq!(
            (&device["app_id"], &device["pushkey"]),
            (&json!("org.example.app"), &json!("phone"))
        );
        assert!(device["data"].get("url").is_none());
        // Who is named is told at once, and louder.
        let mention = json!({ "m.mentions": { "user_ids": [ada.id] } });
        let mention = bob
            .send(&room, "m.room.message", message("ada!", mention))
            .await;
        let told = world.gateway.told(2).await.remove(1);
        assert_eq!(
            (&told["event_id"], &told["prio"]),
            (&json!(mention), &json!("high"))
        );
        assert_eq!(told["devices"][0]["tweaks"]["highlight"], true);
        assert_eq!(told["counts"]["unread"], 2);
        // Another device reads: the number on the phone goes.
        read(&ada, &room, "m.read", &mention, None).await;
        let told = world.gateway.told(3).await.remove(2);
        assert!(told.get("event_id").is_none());
        assert_eq!(told["counts"]["unread"], 0);
        // Her own messages aren't told.
        let own = ada.say(&room, "I come").await;
        let last = bob.say(&room, "hurry").await;
        let is_told = |event: &str| {
            world
                .gateway
                .got()
                .iter()
                .any(|told| told["event_id"] == event)
        };
        eventually("it is told", async || is_told(&last)).await;
        let told = world.gateway.got().pop().unwrap();
        assert_eq!(
            (&told["event_id"], &told["counts"]["unread"]),
            (&json!(last), &json!(1))
        );
        assert!(!is_told(&own));
    })
    .await;
}

#[tokio::test]
async fn who_wants_ids_alone_gets_those() {
    each(async |world| {
        let (ada, bob, room) = two(world).await;
        let data =
            json!({ "url": "https://push/_matrix/push/v1/notify", "format": "event_id_only" });
        set(&ada, pusher("phone", json!({ "data": data }))).await;
        let event = bob.say(&room, "secret").await;
        let told = world.gateway.told(1).await.remove(0);
        assert_eq!(
            (&told["event_id"], &told["room_id"]),
            (&json!(event), &json!(room))
        );
        assert_eq!(told["counts"]["unread"], 1);
        for field in [
            "content",
            "sender",
            "room_name",
            "sender_display_name",
            "type",
        ] {
            assert!(told.get(field).is_none(), "{field}");
        }
    })
    .await;
}

#[tokio::test]
async fn an_invite_is_told() {
    each(async |world| {
        let (ada, bob, _) = two(world).await;
        let room = bob
            .create(json!({ "preset": "private_chat", "name": "Cellar" }))
            .await;
        bob.invite(&room, &ada).await;
        let told = world.gateway.told(1).await.remove(0);
        assert_eq!(
            (&told["type"], &told["membership"]),
            (&json!("m.room.member"), &json!("invite"))
        );
        assert_eq!(
            (&told["user_is_target"], &told["room_name"]),
            (&json!(true), &json!("Cellar"))
        );
        assert_eq!(told["counts"]["unread"], 1);
        ada.join(&room).await;
        let told = world.gateway.told(2).await.remove(1);
        assert_eq!(told["counts"]["unread"], 0);
    })
    .await;
}

#[tokio::test]
async fn what_a_gateway_does_not_take_comes_again() {
    each(async |world| {
        let (ada, bob, room) = two(world).await;
        world.gateway.answers(502, json!({}));
        world.gateway.answers(429, json!({}));
        let first = bob.say(&room, "one").await;
        world.gateway.told(1).await;
        let second = bob.say(&room, "two").await;
        eventually("it comes again, and then the next", async || {
            world.clock.advance(Duration::from_secs(1));
            world.gateway.got().len() >= 4
        })
        .await;
        let told = world.gateway.told(4).await;
        let ids = told
            .iter()
            .map(|told| &told["event_id"])
            .collect::<Vec<_>>();
        let (first, second) = (json!(first), json!(second));
        assert_eq!(ids, [&first, &first, &first, &second]);
        // What was read meanwhile isn't told, nor what waits for too long.
        world.gateway.answers(502, json!({}));
        let third = bob.say(&room, "three").await;
        world.gateway.told(5).await;
        read(&ada, &room, "m.read", &third, None).await;
        eventually("the number goes", async || {
            world.clock.advance(Duration::from_secs(1));
            world.gateway.got().len() >= 6
        })
        .await;
        let told = world.gateway.told(6).await.remove(5);
        assert!(told.get("event_id").is_none());
        assert_eq!(told["counts"]["unread"], 0);
    })
    .await;
}

/// The lease is over and taken anew while a task waits for its next try: it goes on with what the new one finds.
#[tokio::test]
async fn what_is_tried_again_outlives_a_lease() {
    each(async |world| {
        let (_, bob, room) = two(world).await;
        (0..5).for_each(|_| world.gateway.answers(502, json!({})));
        let first = bob.say(&room, "one").await;
        eventually("it was tried five times", async || {
            world.clock.advance(Duration::from_secs(1));
            world.gateway.got().len() >= 5
        })
        .await;
        // Now it waits for sixteen seconds at least, and the lease lasts for six.
        world.clock.advance(Duration::from_secs(8));
        let second = bob.say(&room, "two").await;
        waits(world, 2).await;
        eventually("both are told", async || {
            world.clock.advance(Duration::from_secs(1));
            world.gateway.got().len() >= 7
        })
        .await;
        let told = world.gateway.told(7).await;
        assert_eq!(told[5]["event_id"], json!(first));
        assert_eq!(told[6]["event_id"], json!(second));
    })
    .await;
}

#[tokio::test]
async fn a_pusher_that_is_set_anew_is_tried_at_once() {
    each(async |world| {
        let (ada, bob, room) = two(world).await;
        world.gateway.answers(500, json!({}));
        let event = bob.say(&room, "one").await;
        world.gateway.told(1).await;
        // The time stands.
        set(&ada, pusher("phone", json!({}))).await;
        let told = world.gateway.told(2).await.remove(1);
        assert_eq!(told["event_id"], json!(event));
    })
    .await;
}

#[tokio::test]
async fn a_rejected_key_is_forgotten() {
    each(async |world| {
        let (ada, bob, room) = two(world).await;
        set(&ada, pusher("tablet", json!({}))).await;
        world.gateway.answers(200, json!({ "rejected": ["phone"] }));
        world.gateway.answers(200, json!({ "rejected": ["phone"] }));
        bob.say(&room, "one").await;
        world.gateway.told(2).await;
        eventually("it is forgotten", async || keys(&ada).await == ["tablet"]).await;
        bob.say(&room, "two").await;
        let told = world.gateway.told(3).await.remove(2);
        assert_eq!(told["devices"][0]["pushkey"], "tablet");
    })
    .await;
}

/// A stop is as good as a crash: what is written down is what counts.
#[tokio::test]
async fn nothing_is_lost_nor_told_twice_when_the_process_ends() {
    each(async |world| {
        let (ada, bob, room) = two(world).await;
        bob.say(&room, "one").await;
        world.gateway.told(1).await;
        let store = &world.server.store;
        eventually("it is acknowledged", async || {
            let first = rhizome_storage::PusherKey::default();
            store.pushers_waiting(&first, 1).await.unwrap().is_empty()
        })
        .await;
        // Two come while nobody tells; the first isn't taken at first.
        world.end().await;
        let second = bob.say(&room, "two").await;
        world.gateway.answers(500, json!({}));
        world.begin();
        world.gateway.told(2).await;
        world.end().await;
        let third = bob.say(&room, "three").await;
        world.begin();
        let told = world.gateway.told(4).await;
        let ids = told[1..].iter().map(|told| &told["event_id"]);
        let (second, third) = (json!(second), json!(third));
        assert_eq!(ids.collect::<Vec<_>>(), [&second, &second, &third]);
        drop(ada);
    })
    .await;
}

#[tokio::test]
async fn who_has_switched_a_pusher_off_is_not_told_by_it() {
    each(async |world| {
        let (ada, bob, room) = two(world).await;
        let off = json!({ "org.matrix.msc3881.enabled": false });
        set(&ada, pusher("phone", off)).await;
        bob.say(&room, "one").await;
        set(
            &ada,
            pusher("phone", json!({ "org.matrix.msc3881.enabled": true })),
        )
        .await;
        let event = bob.say(&room, "two").await;
        let told = world.gateway.told(1).await.remove(0);
        assert_eq!(
            (&told["event_id"], &told["counts"]["unread"]),
            (&json!(event), &json!(2))
        );
    })
    .await;
}

#[tokio::test]
async fn a_phone_is_quiet_while_its_user_is_at_another_device() {
    let quiet = |config: &mut rhizome_client_api::ClientConfig| {
        config.quiet_while_active = Some(Duration::from_mins(1));
    };
    each_with(quiet, async |world| {
        let (ada, bob, room) = two(world).await;
        let desk = ada.another_device().await;
        // She is there, and then does something.
        let since = next(&desk.sync(None, "&set_presence=online").await);
        let seconds = async |seconds| {
            world.clock.advance(Duration::from_secs(seconds));
            desk.sync(Some(&since), "").await;
        };
        bob.say(&room, "you are there").await;
        waits(world, 1).await;
        seconds(20).await;
        seconds(20).await;
        desk.say(&room, "yes").await;
        bob.say(&room, "so I see").await;
        waits(world, 1).await;
        for _ in 0..3 {
            seconds(18).await;
        }
        assert!(world.gateway.got().is_empty());
        // A call rings at once, after what came before it.
        let call = json!({ "call_id": "1", "version": 0, "lifetime": 60_000, "offer": { "type": "offer", "sdp": "" } });
        bob.send(&room, "m.call.invite", call).await;
        let told = world.gateway.told(2).await;
        assert_eq!(told[0]["content"]["body"], "so I see");
        assert_eq!(told[1]["type"], "m.call.invite");
        bob.say(&room, "no answer").await;
        waits(world, 1).await;
        assert_eq!(world.gateway.got().len(), 2);
        // A minute after she did something it comes.
        seconds(10).await;
        let told = world.gateway.told(3).await.remove(2);
        assert_eq!(told["content"]["body"], "no answer");
        // What her phone itself does keeps nothing from it.
        ada.sync(None, "&set_presence=online").await;
        bob.say(&room, "good").await;
        world.gateway.told(4).await;
    })
    .await;
}

#[tokio::test]
async fn what_comes_before_the_first_crash_of_a_server_is_told() {
    each(async |world| {
        let (_, bob, room) = two(world).await;
        // Nobody was told of anything, nor is it written down how far was looked.
        world.crash().await;
        let event = bob.say(&room, "one").await;
        world.begin();
        let told = world.gateway.told(1).await.remove(0);
        assert_eq!(told["event_id"], json!(event));
    })
    .await;
}

#[tokio::test]
async fn the_number_follows_what_one_wants_to_be_notified_of() {
    each(async |world| {
        let (ada, bob, room) = two(world).await;
        bob.say(&room, "one").await;
        world.gateway.told(1).await;
        let badge = async |many: usize| {
            let told = world.gateway.told(many).await.pop().unwrap();
            assert!(told.get("event_id").is_none());
            told["counts"]["unread"].clone()
        };
        let mute = format!("/pushrules/global/room/{}", esc(&room));
        ada.ok(Method::PUT, &mute, json!({ "actions": [] })).await;
        assert_eq!(badge(2).await, 0);
        ada.ok(Method::DELETE, &mute, json!({})).await;
        assert_eq!(badge(3).await, 1);
        let ignore = async |ignored: Value| {
            let path = format!("/user/{}/account_data/m.ignored_user_list", esc(&ada.id));
            let list = json!({ "ignored_users": ignored });
            ada.ok(Method::PUT, &path, list).await;
        };
        ignore(json!({ bob.id.clone(): {} })).await;
        assert_eq!(badge(4).await, 0);
        ignore(json!({})).await;
        assert_eq!(badge(5).await, 1);
        // Of an invite that isn't shown nothing is counted.
        let private = bob.create(json!({ "preset": "private_chat" })).await;
        bob.invite(&private, &ada).await;
        let told = world.gateway.told(6).await.pop().unwrap();
        assert_eq!(told["counts"]["unread"], 2);
        ignore(json!({ bob.id.clone(): {} })).await;
        assert_eq!(badge(7).await, 0);
    })
    .await;
}
