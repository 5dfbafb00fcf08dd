//! Typing, receipts and presence, for those that want them.

use http::Method;
use rhizome_storage::testing::eventually;
use serde_json::{Value, json};

use super::{World, bridged, each, irc, joins, plain};
use crate::harness::{User, esc};

const NAMES: [&str; 2] = ["ephemeral", "de.sorunome.msc2409.ephemeral"];

/// What the bridge was told of this kind.
fn told(world: &World, kind: &str) -> Vec<Value> {
    let [told, older] = NAMES.map(|name| world.irc().told(name));
    assert_eq!(told, older);
    told.into_iter()
        .filter(|event| event["type"] == kind)
        .collect()
}

async fn types(user: &User, room: &str, typing: bool) {
    let path = format!("/rooms/{}/typing/{}", esc(room), esc(&user.id));
    let body = json!({ "typing": typing, "timeout": 30_000 });
    user.ok(Method::PUT, &path, body).await;
}

async fn reads(user: &User, room: &str, kind: &str, event: &str) {
    let path = format!("/rooms/{}/receipt/{kind}/{}", esc(room), esc(event));
    user.ok(Method::POST, &path, json!({})).await;
}

#[tokio::test]
async fn who_types_is_told_with_the_room() {
    each(&[irc, plain], async |world| {
        let (_, ann) = world.bridge().await;
        let ada = world.server.register("ada").await;
        let (room, other) = (bridged(&ada, &ann).await, ada.create_public().await);
        types(&ada, &other, true).await;
        types(&ada, &room, true).await;
        let typing = |users: Value| {
            json!({ "type": "m.typing", "room_id": room, "content": { "user_ids": users } })
        };
        eventually("typing is told", async || !told(world, "m.typing").is_empty()).await;
        assert_eq!(told(world, "m.typing"), [typing(json!([ada.id]))]);
        types(&ada, &room, false).await;
        eventually("its end is told", async || told(world, "m.typing").len() == 2).await;
        assert_eq!(told(world, "m.typing")[1], typing(json!([])));
        // Who hasn't asked for it isn't told.
        let event = ada.say(&room, "done").await;
        world.sides[1].hears(&event).await;
        assert_eq!(world.sides[1].told("ephemeral"), [Value::Null; 0]);
    })
    .await;
}

#[tokio::test]
async fn receipts_are_told_and_private_ones_of_its_own_users_alone() {
    each(&[irc], async |world| {
        let (_, ann) = world.bridge().await;
        let (ada, bob) = (
            world.server.register("ada").await,
            world.server.register("bob").await,
        );
        let room = bridged(&ada, &ann).await;
        bob.join(&room).await;
        let event = ada.say(&room, "read me").await;
        reads(&ada, &room, "m.read.private", &event).await;
        let path = format!(
            "/rooms/{}/receipt/m.read.private/{}",
            esc(&room),
            esc(&event)
        );
        ann.ok(Method::POST, &path, json!({})).await;
        reads(&bob, &room, "m.read", &event).await;
        let seen = || {
            let mut seen = Vec::new();
            for receipt in told(world, "m.receipt") {
                assert_eq!(receipt["room_id"], room.as_str());
                for (kind, users) in receipt["content"][&event].as_object().unwrap() {
                    for (user, said) in users.as_object().unwrap() {
                        assert!(said["ts"].is_i64());
                        seen.push((kind.clone(), user.clone()));
                    }
                }
            }
            seen
        };
        eventually("the last is told", async || {
            seen().contains(&("m.read".to_owned(), bob.id.clone()))
        })
        .await;
        let own = ("m.read.private".to_owned(), "@irc_ann:here".to_owned());
        assert_eq!(seen().len(), 2);
        assert!(seen().contains(&own));
    })
    .await;
}

#[tokio::test]
async fn who_is_there_is_told_of_those_who_share_rooms() {
    each(&[irc], async |world| {
        let (_, ann) = world.bridge().await;
        let (ada, eve) = (
            world.server.register("ada").await,
            world.server.register("eve").await,
        );
        let room = bridged(&ada, &ann).await;
        world.irc().hears(&ada.say(&room, "hello").await).await;
        for user in [&eve, &ada] {
            let path = format!("/presence/{}/status", esc(&user.id));
            let body = json!({ "presence": "online", "status_msg": "at work" });
            user.ok(Method::PUT, &path, body).await;
        }
        let of_ada = || {
            let told = told(world, "m.presence").into_iter();
            told.filter(|event| event["sender"] == ada.id.as_str())
                .collect::<Vec<_>>()
        };
        eventually("presence is told", async || {
            of_ada()
                .iter()
                .any(|event| event["content"]["status_msg"] == "at work")
        })
        .await;
        let told = told(world, "m.presence");
        assert!(
            told.iter().all(|event| event["sender"] != eve.id.as_str()),
            "{told:#?}"
        );
        assert_eq!(of_ada().last().unwrap()["content"]["presence"], "online");
    })
    .await;
}

#[tokio::test]
async fn who_types_while_a_service_is_away_isnt_told_later() {
    each(&[irc], async |world| {
        let (bot, ann) = world.bridge().await;
        let ada = world.server.register("ada").await;
        let room = bridged(&ada, &ann).await;
        world.irc().hears(&ada.say(&room, "hello").await).await;
        world.server.store.pause_service("irc", true).await.unwrap();
        let other = bot.makes("irc_bea").await;
        joins(&other, &room).await;
        types(&ada, &room, true).await;
        types(&ada, &room, false).await;
        world
            .server
            .store
            .pause_service("irc", false)
            .await
            .unwrap();
        world.irc().hears(&ada.say(&room, "again").await).await;
        // Of typing only what is so then could have been told.
        for event in told(world, "m.typing") {
            assert_eq!(event["content"]["user_ids"], json!([]));
        }
    })
    .await;
}
