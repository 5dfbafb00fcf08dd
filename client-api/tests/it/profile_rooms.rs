//! Which rooms are told of a changed profile, and when.

use http::Method;
use rhizome_client_api::{TellProfiles, config::ProfileFields};
use rhizome_storage::{
    LogReader, SpreadChange, SpreadTo,
    testing::{each_database, eventually},
};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::harness::{Server, User, esc, events, story};

async fn name_in(user: &User, room: &str) -> Value {
    let path = format!("/rooms/{}/state/m.room.member/{}", esc(room), esc(&user.id));
    user.read(&path).await["displayname"].clone()
}

async fn put(user: &User, field: &str, value: &str, query: &str) -> (http::StatusCode, Value) {
    let path = format!("/profile/{}/{field}{query}", esc(&user.id));
    user.call(Method::PUT, &path, Some(json!({ field: value })))
        .await
}

/// How often the user's membership was sent in a room.
async fn memberships(user: &User, room: &str) -> usize {
    let path = format!("/rooms/{}/messages?dir=b&limit=100", esc(room));
    let page = user.read(&path).await;
    let members = events(&page, &["chunk"]);
    let own = members
        .iter()
        .filter(|event| event["state_key"] == user.id.as_str());
    own.count()
}

#[tokio::test(flavor = "multi_thread")]
async fn users_say_which_rooms_are_told() {
    const MSC4466: &str = "?computer.gingershaped.msc4466.propagate_to=";
    story(async |server| {
        let ada = server.register("ada").await;
        let usual = ada.create_public().await;
        let other = ada.create_public().await;
        let own = json!({ "membership": "join", "displayname": "Countess" });
        ada.set_state(&other, "m.room.member", &ada.id, own).await;
        let names = async || (name_in(&ada, &usual).await, name_in(&ada, &other).await);
        let set = async |name: &str, query: &str| {
            let (status, answer) = put(&ada, "displayname", name, query).await;
            assert_eq!(status, 200, "{answer}");
        };
        set("Ada", &format!("{MSC4466}unchanged")).await;
        assert_eq!(names().await, (json!("Ada"), json!("Countess")));
        set("Nobody", &format!("{MSC4466}none")).await;
        set("Nobody else", "?org.matrix.msc4069.propagate=false").await;
        assert_eq!(names().await, (json!("Ada"), json!("Countess")));
        let profile = ada.read(&format!("/profile/{}", esc(&ada.id))).await;
        assert_eq!(profile["displayname"], "Nobody else");
        set("Everybody", &format!("{MSC4466}all")).await;
        assert_eq!(names().await, (json!("Everybody"), json!("Everybody")));
        let path = format!("/profile/{}/displayname{MSC4466}none", esc(&ada.id));
        ada.ok(Method::DELETE, &path, json!({})).await;
        assert_eq!(names().await, (json!("Everybody"), json!("Everybody")));
        set("Ada", "").await;
        assert_eq!(names().await, (json!("Ada"), json!("Ada")));
        let (status, answer) = put(&ada, "displayname", "x", &format!("{MSC4466}some")).await;
        assert_eq!(
            (status.as_u16(), &answer["errcode"]),
            (400, &json!("M_INVALID_PARAM"))
        );
    })
    .await;
}

/// Also what was changed while nobody told it; what is superseded is told to nobody.
#[tokio::test(flavor = "multi_thread")]
async fn rooms_are_told_once_and_after_a_restart() {
    story(async |server| {
        let ada = server.register("ada").await;
        let mut rooms = Vec::new();
        for _ in 0..12 {
            rooms.push(ada.create_public().await);
        }
        let user = server.store.user_no((&*ada.id).try_into().unwrap());
        let user = user.await.unwrap();
        let change = async |name: &str| {
            let spread = SpreadChange {
                user,
                field: "displayname".to_owned(),
                value: Some(name.to_owned()),
                to: SpreadTo::All,
            };
            server.store.spread_profile_field(spread).await.unwrap();
        };
        let told = async |name: &str| {
            let stop = CancellationToken::new();
            let work = TellProfiles::new(&server.federation);
            let reader = LogReader::new(&server.store, "profiles", work);
            let stopped = stop.clone();
            let running = tokio::spawn(async move { reader.run(&stopped).await });
            for room in &rooms {
                eventually("the room is told", async || {
                    name_in(&ada, room).await == name
                })
                .await;
            }
            stop.cancel();
            running.await.unwrap();
        };
        for room in &rooms {
            assert_eq!(memberships(&ada, room).await, 1);
        }
        change("Augusta").await;
        change("Ada").await;
        told("Ada").await;
        for room in &rooms {
            assert_eq!(memberships(&ada, room).await, 2, "the newest alone");
        }
        // What rooms know already they aren't told again.
        change("Ada").await;
        change("Lovelace").await;
        told("Lovelace").await;
        for room in &rooms {
            assert_eq!(memberships(&ada, room).await, 3);
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn fields_may_be_kept_from_users() {
    each_database(async |store| {
        let server = Server::with(store, |config| {
            config.profile_fields = ProfileFields {
                disallowed: vec!["displayname".into(), "org.x".into()],
                ..ProfileFields::default()
            };
        });
        let ada = server.register("ada").await;
        let capabilities = ada.read("/capabilities").await;
        let capabilities = &capabilities["capabilities"];
        assert_eq!(
            capabilities["m.profile_fields"],
            json!({ "enabled": true, "disallowed": ["displayname", "org.x"] })
        );
        assert_eq!(capabilities["m.set_displayname"]["enabled"], false);
        assert_eq!(capabilities["m.set_avatar_url"]["enabled"], true);
        for field in ["displayname", "org.x"] {
            let (status, answer) = put(&ada, field, "x", "").await;
            assert_eq!(
                (status.as_u16(), &answer["errcode"]),
                (403, &json!("M_FORBIDDEN"))
            );
            let path = format!("/profile/{}/{field}", esc(&ada.id));
            let (status, _) = ada.call(Method::DELETE, &path, Some(json!({}))).await;
            assert_eq!(status, 403);
        }
        assert_eq!(put(&ada, "org.y", "x", "").await.0, 200);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn names_of_fields_have_a_grammar() {
    story(async |server| {
        let ada = server.register("ada").await;
        for field in ["org.x", "m.tz", "m.status", "a_b.c_d9"] {
            assert_eq!(put(&ada, field, "x", "").await.0, 200, "{field}");
        }
        for field in ["Org.x", "9.x", "a b", "ä", "_x", "a:b", "mood"] {
            let path = format!("/profile/{}/{}", esc(&ada.id), esc(field));
            let (status, answer) = ada
                .call(Method::PUT, &path, Some(json!({ field: 1 })))
                .await;
            assert_eq!(
                (status.as_u16(), &answer["errcode"]),
                (400, &json!("M_INVALID_PARAM")),
                "{field:?}"
            );
        }
    })
    .await;
}
