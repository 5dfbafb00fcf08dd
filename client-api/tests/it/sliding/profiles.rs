//! Profiles of those with whom a user shares rooms (MSC4262).

use http::Method;
use rhizome_storage::testing::soon;
use serde_json::{Value, json};

use super::client::Client;
use crate::harness::{User, esc, story};

pub const EXTENSION: &str = "org.matrix.msc4262.profiles";

/// What a client asks for that wants the profiles of all members, or of those who come up.
fn body(lazy: bool, wanted: &Value) -> Value {
    let state = if lazy {
        json!([["m.room.member", "$LAZY"]])
    } else {
        json!([])
    };
    let mut body = super::client::list(20, 5, state);
    body["extensions"] = json!({ EXTENSION: { "enabled": true } });
    for (key, value) in wanted.as_object().unwrap() {
        body["extensions"][EXTENSION][key] = value.clone();
    }
    body
}

pub fn all() -> Value {
    body(false, &json!({}))
}

pub fn told(answer: &Value) -> Value {
    answer["extensions"][EXTENSION]["users"].clone()
}

fn field(user: &User, field: &str) -> String {
    format!("/profile/{}/{}", esc(&user.id), esc(field))
}

pub async fn set(user: &User, name: &str, value: Value) {
    user.ok(Method::PUT, &field(user, name), json!({ name: value }))
        .await;
}

pub async fn unset(user: &User, name: &str) {
    user.ok(Method::DELETE, &field(user, name), json!({})).await;
}

pub fn updated(user: &User, fields: &Value) -> Value {
    json!({ &user.id: { "updated": fields } })
}

/// What is told next of profiles.
pub async fn news(client: &mut Client) -> Value {
    let found = async {
        loop {
            let found = told(&client.wait(&all(), 170_000).await);
            if !found.is_null() {
                return found;
            }
        }
    };
    soon("profiles are told", found).await
}

#[tokio::test]
async fn what_changes_in_a_profile_is_told_to_those_who_share_a_room() {
    story(|server| async move {
        let (ada, bob) = (server.register("ada").await, server.register("bob").await);
        let eve = server.register("eve").await;
        let room = ada.create_public().await;
        bob.join(&room).await;
        set(&ada, "displayname", json!("Ada")).await;
        set(&ada, "org.example.mood", json!({ "is": "fine" })).await;
        set(&eve, "displayname", json!("Eve")).await;
        let mut client = Client::of(&bob);
        let profile = json!({ "displayname": "Ada", "org.example.mood": { "is": "fine" } });
        assert_eq!(told(&client.sync(&all()).await), updated(&ada, &profile));
        assert_eq!(told(&client.sync(&all()).await), Value::Null);
        // A field of which no room hears, one that comes, and one that is null.
        let polling = client.poll(&all()).await;
        set(&ada, "org.example.mood", json!("better")).await;
        let answer = polling.await.unwrap();
        assert_eq!(
            told(&answer),
            updated(&ada, &json!({ "org.example.mood": "better" }))
        );
        let before = client.clone();
        client.pos = Some(answer["pos"].as_str().unwrap().to_owned());
        set(&ada, "org.example.nothing", Value::Null).await;
        unset(&ada, "org.example.mood").await;
        set(&eve, "displayname", json!("Eva")).await;
        let expected = json!({ &ada.id: {
            "updated": { "org.example.nothing": null },
            "removed": ["org.example.mood"],
        } });
        assert_eq!(told(&client.clone().sync(&all()).await), expected);
        // The same position again, and one from before.
        assert_eq!(told(&client.clone().sync(&all()).await), expected);
        assert_eq!(told(&before.clone().sync(&all()).await), expected);
        client.sync(&all()).await;
        // Setting what is so, and removing what isn't there, is no news to anybody.
        let head = server.store.log().head();
        set(&ada, "org.example.nothing", Value::Null).await;
        unset(&ada, "org.example.mood").await;
        assert_eq!(server.store.log().head(), head);
        // What a device has changed itself, the user's others hear.
        set(&bob, "m.tz", json!("Europe/Zurich")).await;
        let expected = updated(&bob, &json!({ "m.tz": "Europe/Zurich" }));
        assert_eq!(told(&client.sync(&all()).await), expected);
        // In the specification's name, to a client of the form that was accepted.
        let mut other = Client::accepted(&bob);
        let stable = json!({ "lists": { "all": { "timeline_limit": 1 } },
            "extensions": { "profiles": { "enabled": true, "fields": ["displayname"] } } });
        let answer = other.sync(&stable).await;
        let expected = updated(&ada, &json!({ "displayname": "Ada" }));
        assert_eq!(answer["extensions"]["profiles"]["users"], expected);
        assert_eq!(told(&answer), Value::Null);
    })
    .await;
}

#[tokio::test]
async fn who_shares_no_room_any_more_is_gone_and_who_comes_back_is_told() {
    story(|server| async move {
        let (ada, bob) = (server.register("ada").await, server.register("bob").await);
        let cleo = server.register("cleo").await;
        let (one, two) = (ada.create_public().await, ada.create_public().await);
        for room in [&one, &two] {
            bob.join(room).await;
        }
        for user in [&ada, &cleo] {
            set(user, "m.tz", json!("UTC")).await;
        }
        let mut client = Client::of(&bob);
        client.sync(&all()).await;
        ada.leave(&one).await;
        assert_eq!(
            told(&client.sync(&all()).await),
            Value::Null,
            "they share another"
        );
        ada.leave(&two).await;
        assert_eq!(told(&client.sync(&all()).await), json!({ &ada.id: null }));
        set(&ada, "m.tz", json!("Asia/Tokyo")).await;
        assert_eq!(told(&client.sync(&all()).await), Value::Null);
        // Whoever comes is told as they are.
        ada.join(&one).await;
        cleo.join(&one).await;
        let expected = json!({
            &ada.id: { "updated": { "m.tz": "Asia/Tokyo" } },
            &cleo.id: { "updated": { "m.tz": "UTC" } },
        });
        assert_eq!(told(&client.sync(&all()).await), expected);
        // Nobody who is only invited, nor who goes without having been there.
        let dora = server.register("dora").await;
        ada.invite(&one, &dora).await;
        assert_eq!(told(&client.sync(&all()).await), Value::Null);
        dora.leave(&one).await;
        assert_eq!(told(&client.sync(&all()).await), Value::Null);
        // Who leaves need not follow the others.
        bob.leave(&one).await;
        let expected = json!({ &ada.id: null, &cleo.id: null });
        assert_eq!(told(&client.sync(&all()).await), expected);
    })
    .await;
}

#[tokio::test]
async fn with_lazy_loading_those_are_told_who_come_up() {
    story(|server| async move {
        let (ada, bob) = (server.register("ada").await, server.register("bob").await);
        let cleo = server.register("cleo").await;
        let room = ada
            .create(json!({ "preset": "public_chat", "name": "r" }))
            .await;
        for user in [&ada, &bob, &cleo] {
            set(user, "m.tz", json!(&user.id)).await;
        }
        bob.join(&room).await;
        cleo.join(&room).await;
        let who = |user: &User| updated(user, &json!({ "m.tz": &user.id }));
        for n in 0..6 {
            bob.say(&room, &n.to_string()).await;
        }
        let lazily = body(true, &json!({}));
        let mut client = Client::of(&bob);
        assert_eq!(told(&client.sync(&lazily).await), who(&bob));
        cleo.say(&room, "hello").await;
        assert_eq!(told(&client.clone().sync(&lazily).await), who(&cleo));
        assert_eq!(told(&client.sync(&lazily).await), who(&cleo), "it was lost");
        cleo.say(&room, "again").await;
        bob.say(&room, "yes").await;
        assert_eq!(told(&client.sync(&lazily).await), Value::Null);
        // Of whoever hasn't come up it is told what changes.
        set(&ada, "m.tz", json!("x")).await;
        assert_eq!(
            told(&client.sync(&lazily).await),
            updated(&ada, &json!({ "m.tz": "x" }))
        );
        // A client that wants all members has them then.
        let more = told(&client.sync(&all()).await);
        assert_eq!(more[&ada.id], json!({ "updated": { "m.tz": "x" } }));
        // One that asks for profiles late hears of those who have come up.
        let mut late = Client::named(&bob, "late");
        let mut without = lazily.clone();
        without["extensions"] = json!({});
        late.sync(&without).await;
        let answer = told(&late.sync(&lazily).await);
        assert!(
            answer[&bob.id].is_object() && answer[&cleo.id].is_object(),
            "{answer}"
        );
        assert_eq!(answer.get(&ada.id), None);
        assert_eq!(told(&late.sync(&lazily).await), Value::Null);
    })
    .await;
}

#[tokio::test]
async fn fields_that_are_asked_for_later_are_told_of_all() {
    story(|server| async move {
        let (ada, bob) = (server.register("ada").await, server.register("bob").await);
        let room = ada.create_public().await;
        bob.join(&room).await;
        for name in ["org.a", "org.b"] {
            set(&ada, name, json!(1)).await;
        }
        let of = |fields: &[&str]| body(false, &json!({ "fields": fields }));
        let mut client = Client::of(&bob);
        assert_eq!(
            told(&client.sync(&of(&["org.a"])).await),
            updated(&ada, &json!({ "org.a": 1 }))
        );
        set(&ada, "org.b", json!(2)).await;
        assert_eq!(told(&client.sync(&of(&["org.a"])).await), Value::Null);
        let both = of(&["org.a", "org.b"]);
        let grown = client.clone().sync(&both).await;
        assert_eq!(
            told(&grown),
            updated(&ada, &json!({ "org.a": 1, "org.b": 2 }))
        );
        // The same again: the answer was lost.
        assert_eq!(told(&client.sync(&both).await), told(&grown));
        assert_eq!(told(&client.sync(&both).await), Value::Null);
        // What changed while fewer were asked for, or none, isn't lost.
        client.sync(&of(&["org.a"])).await;
        set(&ada, "org.b", json!(3)).await;
        client.sync(&of(&["org.a"])).await;
        assert_eq!(
            told(&client.sync(&both).await)[&ada.id]["updated"]["org.b"],
            3
        );
        let without = super::client::list(20, 5, json!([]));
        client.sync(&without).await;
        set(&ada, "org.a", json!(4)).await;
        unset(&ada, "org.b").await;
        bob.say(&room, "meanwhile").await;
        assert_eq!(told(&client.sync(&without).await), Value::Null);
        let expected = json!({ &ada.id: { "updated": { "org.a": 4 }, "removed": ["org.b"] } });
        assert_eq!(told(&client.sync(&both).await), expected);
        assert_eq!(told(&client.sync(&both).await), Value::Null);
        // Rooms that aren't asked for: what changes is told all the same.
        let nowhere = body(false, &json!({ "lists": [], "rooms": [] }));
        let mut other = Client::named(&bob, "other");
        assert_eq!(told(&other.sync(&nowhere).await), Value::Null);
        set(&ada, "org.a", json!(5)).await;
        assert_eq!(
            told(&other.sync(&nowhere).await),
            updated(&ada, &json!({ "org.a": 5 }))
        );
    })
    .await;
}

/// Who hasn't asked for profiles isn't told of any, and what they are told is no other for it.
#[tokio::test]
async fn who_does_not_ask_is_told_nothing() {
    story(|server| async move {
        let (ada, bob) = (server.register("ada").await, server.register("bob").await);
        let room = ada.create_public().await;
        bob.join(&room).await;
        let mut client = Client::of(&bob);
        let disabled = body(false, &json!({ "enabled": false }));
        let answer = client.sync(&disabled).await;
        assert_eq!(answer["extensions"], json!({}));
        assert_eq!(client.pos.as_ref().unwrap().split('.').count(), 3);
        // Nor does it wake them.
        let waiting = [
            client.poll(&disabled).await,
            bob.poll(&crate::harness::next(&bob.sync(None, "").await))
                .await,
        ];
        let woken = || server.store.counters().now().wake_ups;
        let before = woken();
        set(&ada, "m.tz", json!("UTC")).await;
        assert_eq!(woken(), before);
        ada.say(&room, "hello").await;
        assert_eq!(woken(), before + 2);
        for answer in waiting {
            answer.await.unwrap();
        }
        let without = client.clone().sync(&disabled).await;
        client.pos = Some(without["pos"].as_str().unwrap().to_owned());
        set(&ada, "m.tz", json!("Europe/Zurich")).await;
        let answer = client.sync(&disabled).await;
        assert_eq!(
            (&answer["extensions"], &answer["rooms"]),
            (&json!({}), &json!({}))
        );
        let (status, _) = client
            .ask(&body(false, &json!({ "fields": "all" })), 0)
            .await;
        assert_eq!(status.as_u16(), 400);
    })
    .await;
}
