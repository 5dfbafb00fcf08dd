//! What concerns a service, in the order in which it happened.

use http::Method;
use serde_json::json;

use super::{Acting, bridged, each, irc, joins, leaves, plain};
use crate::harness::esc;

#[tokio::test]
async fn rooms_of_its_users_are_told_from_when_they_come_until_they_leave() {
    each(&[irc], async |world| {
        let (_, ann) = world.bridge().await;
        let ada = world.server.register("ada").await;
        let room = ada.create_public().await;
        ada.say(&room, "before").await;
        joins(&ann, &room).await;
        let first = ada.say(&room, "one").await;
        let path = format!("/rooms/{}/send/m.room.message/1", esc(&room));
        let body = json!({ "msgtype": "m.text", "body": "two" });
        ann.ok(Method::PUT, &path, body).await;
        let redact = format!("/rooms/{}/redact/{}/2", esc(&room), esc(&first));
        ada.ok(Method::PUT, &redact, json!({})).await;
        ada.set_state(&room, "m.room.topic", "", json!({ "topic": "rain" }))
            .await;
        leaves(&ann, &room).await;
        ada.say(&room, "afterwards").await;
        let other = bridged(&ada, &ann).await;
        world.irc().hears(&ada.say(&other, "last").await).await;
        let events = world.irc().events(&room);
        let kinds: Vec<_> = events
            .iter()
            .map(|event| event["type"].as_str().unwrap())
            .collect();
        assert_eq!(
            kinds,
            [
                "m.room.member",
                "m.room.message",
                "m.room.message",
                "m.room.redaction",
                "m.room.topic",
                "m.room.member"
            ]
        );
        assert_eq!(events[0]["state_key"], "@irc_ann:here");
        assert_eq!(events[0]["content"]["membership"], "join");
        assert_eq!(events[1]["event_id"], first.as_str());
        assert_eq!(events[1]["room_id"], room.as_str());
        assert_eq!(events[1]["sender"], ada.id.as_str());
        assert!(events[1]["unsigned"]["age"].is_i64(), "{}", events[1]);
        // What only servers need isn't there.
        for none in ["state_key", "auth_events", "signatures"] {
            assert!(events[1].get(none).is_none(), "{}", events[1]);
        }
        assert_eq!(events[2]["sender"], "@irc_ann:here");
        assert_eq!(events[3]["content"]["redacts"], first.as_str());
        assert_eq!(events[5]["content"]["membership"], "leave");
        assert_eq!(events[5]["unsigned"]["prev_content"]["membership"], "join");
    })
    .await;
}

#[tokio::test]
async fn a_room_concerns_a_service_by_its_alias_for_as_long_as_it_has_it() {
    each(&[irc], async |world| {
        let (bot, ann) = world.bridge().await;
        let ada = world.server.register("ada").await;
        let room = ada.create_public().await;
        let other = bridged(&ada, &ann).await;
        ada.say(&room, "before").await;
        world.irc().hears(&ada.say(&other, "1").await).await;
        let alias = format!("/directory/room/{}", esc("#irc_rain:here"));
        bot.ok(Method::PUT, &alias, json!({ "room_id": room }))
            .await;
        world.irc().hears(&ada.say(&room, "named").await).await;
        bot.ok(Method::DELETE, &alias, json!({})).await;
        ada.say(&room, "afterwards").await;
        world.irc().hears(&ada.say(&other, "2").await).await;
        assert_eq!(world.irc().said(&room), ["named"]);
    })
    .await;
}

#[tokio::test]
async fn each_service_is_told_what_concerns_it() {
    each(&[irc, plain], async |world| {
        let (_, ann) = world.bridge().await;
        let ada = world.server.register("ada").await;
        let (one, two) = (bridged(&ada, &ann).await, ada.create_public().await);
        let both = ada.say(&one, "for both").await;
        let bot = Acting::of(&world.server, "plain-token");
        joins(&bot.makes("plain_eve").await, &two).await;
        let plain_alone = ada.say(&two, "for one").await;
        world.sides[1].hears(&both).await;
        world.sides[1].hears(&plain_alone).await;
        world.irc().hears(&ada.say(&one, "last").await).await;
        assert_eq!(world.irc().said(&two), [""; 0]);
        assert_eq!(world.sides[1].said(&two), ["for one"]);
        // It hasn't asked for more than events.
        for transaction in world.sides[1].transactions() {
            let names: Vec<_> = transaction.as_object().unwrap().keys().collect();
            assert_eq!(names, ["events"]);
        }
    })
    .await;
}

#[tokio::test]
async fn nothing_of_the_other_rooms_is_told() {
    each(&[irc], async |world| {
        let (_, ann) = world.bridge().await;
        let (ada, bob) = (
            world.server.register("ada").await,
            world.server.register("bob").await,
        );
        let secret = ada.create(json!({ "preset": "private_chat" })).await;
        ada.invite(&secret, &bob).await;
        bob.join(&secret).await;
        bob.say(&secret, "among us").await;
        let room = bridged(&ada, &ann).await;
        bob.join(&room).await;
        world.irc().hears(&bob.say(&room, "for all").await).await;
        let told = world.irc().told("events");
        assert!(
            told.iter().all(|event| event["room_id"] == room.as_str()),
            "{told:#?}"
        );
    })
    .await;
}
