//! Services make what is theirs while somebody waits for it.

use std::sync::{Arc, Mutex};

use futures_util::FutureExt as _;
use http::{Method, StatusCode};
use serde_json::json;

use super::{Acting, World, each, irc, side::Side};
use crate::harness::{User, esc};

const ALIAS: &str = "#irc_rain:here";
const GHOST: &str = "@irc_bea:here";

/// What the bridge makes of what it is asked for.
fn makes_rooms_and_users(world: &World) {
    let bot = Acting::of(&world.server, "irc-token");
    world.irc().makes(move |id| {
        let bot = bot.clone();
        async move {
            let name = id
                .strip_suffix(":here")
                .unwrap()
                .get(1..)
                .unwrap()
                .to_owned();
            if id.starts_with('#') {
                let body = json!({ "preset": "public_chat", "room_alias_name": name });
                bot.ok(Method::POST, "/createRoom", body).await;
            } else {
                bot.makes(&name).await;
            }
        }
        .boxed()
    });
}

fn asked(side: &Side, kind: &str, id: &str) -> usize {
    side.asked(&format!("v1/{kind}/{id}")).len()
}

async fn join(user: &User, alias: &str) -> (StatusCode, serde_json::Value) {
    let path = format!("/join/{}", esc(alias));
    user.call(Method::POST, &path, Some(json!({}))).await
}

#[tokio::test]
async fn a_room_is_made_while_somebody_waits_to_join_it() {
    each(&[irc], async |world| {
        makes_rooms_and_users(world);
        let (ada, bob) = (
            world.server.register("ada").await,
            world.server.register("bob").await,
        );
        // It may say no, which is remembered for a moment.
        let (status, answer) = join(&ada, ALIAS).await;
        assert_eq!(
            (status.as_u16(), &answer["errcode"]),
            (404, &json!("M_NOT_FOUND"))
        );
        join(&ada, ALIAS).await;
        assert_eq!(asked(world.irc(), "rooms", ALIAS), 1);
        world.clock.advance(std::time::Duration::from_secs(11));
        world
            .irc()
            .says(&format!("v1/rooms/{ALIAS}"), 200, json!({}));
        let both = tokio::join!(join(&ada, ALIAS), join(&bob, ALIAS));
        let room = both.0.1["room_id"].clone();
        assert_eq!(
            (both.0.0.as_u16(), both.1.0.as_u16()),
            (200, 200),
            "{both:?}"
        );
        assert_eq!(both.1.1["room_id"], room);
        assert_eq!(asked(world.irc(), "rooms", ALIAS), 2, "once for both");
        // What is there nobody is asked for, and what isn't its it isn't asked.
        let path = format!("/directory/room/{}", esc(ALIAS));
        assert_eq!(ada.read(&path).await["room_id"], room);
        let other = format!("/directory/room/{}", esc("#other:here"));
        assert_eq!(ada.get(&other).await.0, 404);
        assert_eq!(asked(world.irc(), "rooms", ALIAS), 2);
        assert_eq!(asked(world.irc(), "rooms", "#other:here"), 0);
    })
    .await;
}

#[tokio::test]
async fn no_answer_is_no_no() {
    each(&[irc], async |world| {
        makes_rooms_and_users(world);
        let ada = world.server.register("ada").await;
        world
            .irc()
            .says(&format!("v1/rooms/{ALIAS}"), 500, json!({}));
        let (status, answer) = join(&ada, ALIAS).await;
        assert_eq!(status.as_u16(), 408, "{answer}");
        assert!(
            asked(world.irc(), "rooms", ALIAS) > 1,
            "it is asked again before that"
        );
        // Nothing of that is remembered.
        world
            .irc()
            .says(&format!("v1/rooms/{ALIAS}"), 200, json!({}));
        assert_eq!(join(&ada, ALIAS).await.0, 200);
    })
    .await;
}

#[tokio::test]
async fn users_are_made_when_they_are_invited_or_looked_for() {
    each(&[irc], async |world| {
        let made = Arc::new(Mutex::new(Vec::new()));
        let bot = Acting::of(&world.server, "irc-token");
        let seen = made.clone();
        world.irc().makes(move |id| {
            let bot = bot.clone();
            seen.lock().unwrap().push(id.clone());
            async move {
                let name = id
                    .strip_suffix(":here")
                    .unwrap()
                    .get(1..)
                    .unwrap()
                    .to_owned();
                let own = bot.makes(&name).await;
                let path = format!("/profile/{}/displayname", esc(&id));
                own.ok(Method::PUT, &path, json!({ "displayname": "Bea" }))
                    .await;
            }
            .boxed()
        });
        let ada = world.server.register("ada").await;
        let profile = format!("/profile/{}", esc(GHOST));
        assert_eq!(ada.get(&profile).await.0, 404);
        world.clock.advance(std::time::Duration::from_secs(11));
        world
            .irc()
            .says(&format!("v1/users/{GHOST}"), 200, json!({}));
        let room = ada.create_public().await;
        let path = format!("/rooms/{}/invite", esc(&room));
        ada.ok(Method::POST, &path, json!({ "user_id": GHOST }))
            .await;
        assert_eq!(*made.lock().unwrap(), [GHOST]);
        // The invite says what they are called by now.
        let member = format!("/rooms/{}/state/m.room.member/{}", esc(&room), esc(GHOST));
        assert_eq!(ada.read(&member).await["displayname"], "Bea");
        let other = "@irc_cleo:here";
        world
            .irc()
            .says(&format!("v1/users/{other}"), 200, json!({}));
        let path = format!("/profile/{}", esc(other));
        assert_eq!(ada.read(&path).await["displayname"], "Bea");
        // To look is not to make: whoever says yes and makes nothing has made nothing.
        world.irc().makes(|_| async {}.boxed());
        let nobody = "@irc_dan:here";
        world
            .irc()
            .says(&format!("v1/users/{nobody}"), 200, json!({}));
        assert_eq!(ada.get(&format!("/profile/{}", esc(nobody))).await.0, 404);
        let unknown = nobody.try_into().unwrap();
        assert!(world.server.store.account(unknown).await.unwrap().is_none());
    })
    .await;
}

#[tokio::test]
async fn a_service_that_acts_isnt_asked_for_whom_it_invites() {
    each(&[irc], async |world| {
        let (_, ann) = world.bridge().await;
        let room = ann.ok(Method::POST, "/createRoom", json!({})).await["room_id"].clone();
        let path = format!("/rooms/{}/invite", esc(room.as_str().unwrap()));
        ann.ok(Method::POST, &path, json!({ "user_id": GHOST }))
            .await;
        assert_eq!(asked(world.irc(), "users", GHOST), 0);
    })
    .await;
}
