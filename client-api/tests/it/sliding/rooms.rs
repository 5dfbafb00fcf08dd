//! What is told of a room.

use http::Method;
use serde_json::{Value, json};

use super::client::{Client, first, list, rooms, state, timeline};
use crate::harness::{esc, story};

fn subscribed(room: &str, timeline_limit: usize, required_state: Value) -> Value {
    let mut wanted = json!({ "timeline_limit": timeline_limit });
    wanted["required_state"] = required_state;
    json!({ "room_subscriptions": { room: wanted } })
}

#[tokio::test]
async fn a_message_wakes_and_is_told_alone() {
    story(|server| async move {
        let (ada, bob) = (server.register("ada").await, server.register("bob").await);
        let room = ada.create_public().await;
        bob.join(&room).await;
        let mut client = Client::of(&bob);
        let body = list(
            10,
            10,
            json!([["m.room.name", ""], ["m.room.member", "$LAZY"]]),
        );
        client.sync(&body).await;
        let polling = client.poll(&body).await;
        let said = ada.say(&room, "hello").await;
        let answer = polling.await.unwrap();
        assert_eq!(timeline(&answer, &room), [said]);
        let told = &answer["rooms"][&room];
        assert_eq!(
            (&told["num_live"], &told["limited"]),
            (&json!(1), &json!(false))
        );
        assert_eq!(
            (&told["notification_count"], &told["highlight_count"]),
            (&json!(1), &json!(0))
        );
        for unchanged in [
            "initial",
            "name",
            "joined_count",
            "required_state",
            "heroes",
        ] {
            assert_eq!(told.get(unchanged), None, "{told}");
        }
        // What is read is counted no more.
        client.pos = Some(answer["pos"].as_str().unwrap().to_owned());
        let event = &timeline(&answer, &room)[0];
        let path = format!("/rooms/{}/receipt/m.read/{}", esc(&room), esc(event));
        bob.ok(Method::POST, &path, json!({})).await;
        let answer = client.sync(&body).await;
        assert_eq!(answer["rooms"][&room]["notification_count"], 0, "{answer}");
    })
    .await;
}

#[tokio::test]
async fn a_raised_limit_brings_what_was_before() {
    story(|server| async move {
        let ada = server.register("ada").await;
        let room = ada.create_public().await;
        let mut said = Vec::new();
        for n in 0..6 {
            said.push(ada.say(&room, &n.to_string()).await);
        }
        let mut client = Client::of(&ada);
        let answer = client.sync(&first(10)).await;
        assert_eq!(timeline(&answer, &room), said[5..]);
        // At once, although nothing is new.
        let wider = list(10, 4, json!([]));
        let answer = client.wait(&wider, 170_000).await;
        assert_eq!(timeline(&answer, &room), said[2..]);
        let told = &answer["rooms"][&room];
        assert_eq!(
            (&told["unstable_expanded_timeline"], &told["num_live"]),
            (&json!(true), &json!(0))
        );
        assert_eq!(client.sync(&wider).await["rooms"], json!({}));
        // A lower limit and the same again bring nothing: the client has them.
        client.sync(&first(10)).await;
        assert_eq!(client.sync(&wider).await["rooms"], json!({}));
        // Unless more has come in between than was told.
        for n in 6..9 {
            said.push(ada.say(&room, &n.to_string()).await);
        }
        let answer = client.sync(&first(10)).await;
        assert_eq!(
            (timeline(&answer, &room), &answer["rooms"][&room]["limited"]),
            (said[8..].to_vec(), &json!(true))
        );
        said.push(ada.say(&room, "last").await);
        let answer = client.sync(&wider).await;
        assert_eq!(timeline(&answer, &room), said[6..]);
        assert_eq!(answer["rooms"][&room]["num_live"], 1);

        let mut client = Client::accepted(&ada);
        client.sync(&first(10)).await;
        let answer = client.sync(&wider).await;
        assert_eq!(answer["rooms"][&room]["expanded_timeline"], true);
    })
    .await;
}

#[tokio::test]
async fn required_state_is_what_was_asked_for_and_grows() {
    story(|server| async move {
        let (ada, bob) = (server.register("ada").await, server.register("bob").await);
        let room = ada
            .create(json!({ "preset": "public_chat", "name": "N", "topic": "T" }))
            .await;
        bob.join(&room).await;
        ada.set_state(&room, "org.example", "a", json!({ "n": 1 }))
            .await;
        let pairs = |pairs: &[(&str, &str)]| -> Vec<(String, String)> {
            let mut pairs: Vec<_> = pairs
                .iter()
                .map(|(a, b)| (a.to_string(), b.to_string()))
                .collect();
            pairs.sort();
            pairs
        };
        let mut client = Client::of(&bob);
        let narrow = subscribed(
            &room,
            0,
            json!([["m.room.name", ""], ["m.room.member", "$ME"]]),
        );
        let answer = client.sync(&narrow).await;
        assert_eq!(
            state(&answer, &room),
            pairs(&[("m.room.name", ""), ("m.room.member", &bob.id)])
        );
        // Only what is newly wanted.
        let wider = subscribed(
            &room,
            0,
            json!([
                ["m.room.name", ""],
                ["org.example", "*"],
                ["m.room.member", "$ME"]
            ]),
        );
        let answer = client.wait(&wider, 170_000).await;
        assert_eq!(state(&answer, &room), pairs(&[("org.example", "a")]));
        assert_eq!(client.sync(&wider).await["rooms"], json!({}));
        // What changes, if it is wanted.
        ada.set_state(&room, "m.room.topic", "", json!({ "topic": "U" }))
            .await;
        ada.set_state(&room, "org.example", "b", json!({})).await;
        let answer = client.sync(&wider).await;
        assert_eq!(state(&answer, &room), pairs(&[("org.example", "b")]));
        // What changed while it wasn't wanted comes when it is wanted again.
        assert_eq!(client.sync(&narrow).await["rooms"], json!({}));
        ada.set_state(&room, "org.example", "a", json!({ "n": 2 }))
            .await;
        assert_eq!(state(&client.sync(&narrow).await, &room), []);
        let answer = client.sync(&wider).await;
        assert_eq!(
            state(&answer, &room),
            pairs(&[("org.example", "a"), ("org.example", "b")])
        );
        let all = subscribed(&room, 0, json!([["*", "*"], ["m.room.member", "$LAZY"]]));
        let answer = client.sync(&all).await;
        let told = state(&answer, &room);
        assert!(
            told.contains(&("m.room.create".into(), String::new())),
            "{told:?}"
        );
        assert!(
            !told.iter().any(|(kind, _)| kind == "m.room.member"),
            "{told:?}"
        );
    })
    .await;
}

#[tokio::test]
async fn members_come_with_what_they_say() {
    story(|server| async move {
        let (ada, bob) = (server.register("ada").await, server.register("bob").await);
        let eve = server.register("eve").await;
        let room = ada.create_public().await;
        bob.join(&room).await;
        eve.join(&room).await;
        ada.say(&room, "one").await;
        let mut client = Client::of(&bob);
        let body = list(10, 1, json!([["m.room.member", "$LAZY"]]));
        let member = |user: &str| vec![("m.room.member".to_owned(), user.to_owned())];
        assert_eq!(state(&client.sync(&body).await, &room), member(&ada.id));
        ada.say(&room, "two").await;
        assert_eq!(state(&client.sync(&body).await, &room), [], "told before");
        eve.say(&room, "three").await;
        assert_eq!(state(&client.sync(&body).await, &room), member(&eve.id));
        // What changes comes, unless there is a gap.
        let path = format!("/profile/{}/displayname", esc(&ada.id));
        ada.ok(Method::PUT, &path, json!({ "displayname": "Ada" }))
            .await;
        assert_eq!(state(&client.sync(&body).await, &room), member(&ada.id));
        ada.ok(Method::PUT, &path, json!({ "displayname": "Lovelace" }))
            .await;
        eve.say(&room, "four").await;
        let answer = client.sync(&body).await;
        assert_eq!(
            (state(&answer, &room), &answer["rooms"][&room]["limited"]),
            (Vec::new(), &json!(true))
        );
        let mut begins = Client::accepted(&bob);
        assert_eq!(state(&begins.sync(&body).await, &room), member(&eve.id));
    })
    .await;
}

#[tokio::test]
async fn names_heroes_and_counts_come_when_they_change() {
    story(|server| async move {
        let (ada, bob) = (server.register("ada").await, server.register("bob").await);
        let room = ada.create_public().await;
        let mut client = Client::accepted(&ada);
        let body = first(10);
        let answer = client.sync(&body).await;
        let told = &answer["rooms"][&room];
        assert_eq!((told.get("name"), &told["heroes"]), (None, &json!([])));
        assert_eq!(
            (&told["membership"], &told["lists"]),
            (&json!("join"), &json!(["all"]))
        );
        let path = format!("/profile/{}/displayname", esc(&bob.id));
        bob.ok(Method::PUT, &path, json!({ "displayname": "bob" }))
            .await;
        bob.join(&room).await;
        let answer = client.sync(&body).await;
        let told = &answer["rooms"][&room];
        assert_eq!(
            told["heroes"],
            json!([{ "user_id": bob.id, "displayname": "bob" }])
        );
        assert_eq!(told["joined_count"], 2);
        ada.set_state(&room, "m.room.name", "", json!({ "name": "N" }))
            .await;
        ada.set_state(&room, "m.room.avatar", "", json!({ "url": "mxc://here/a" }))
            .await;
        let told = client.sync(&body).await["rooms"][&room].clone();
        assert_eq!(
            (&told["name"], &told["avatar"]),
            (&json!("N"), &json!("mxc://here/a"))
        );
        assert_eq!((told.get("heroes"), told.get("joined_count")), (None, None));
        ada.set_state(&room, "m.room.name", "", json!({})).await;
        ada.set_state(&room, "m.room.avatar", "", json!({})).await;
        let told = client.sync(&body).await["rooms"][&room].clone();
        assert_eq!(
            (&told["name"], &told["avatar"]),
            (&Value::Null, &Value::Null)
        );
        assert!(told.as_object().unwrap().contains_key("name"), "{told}");
        assert_eq!(told["heroes"].as_array().unwrap().len(), 1);
    })
    .await;
}

#[tokio::test]
async fn an_invite_comes_stripped_and_becomes_a_room() {
    story(|server| async move {
        let (ada, bob) = (server.register("ada").await, server.register("bob").await);
        let mut client = Client::of(&bob);
        let body = first(10);
        client.sync(&body).await;
        let room = ada.create(json!({ "name": "N", "invite": [bob.id] })).await;
        let answer = client.sync(&body).await;
        let told = &answer["rooms"][&room];
        let stripped = told["invite_state"].as_array().unwrap();
        assert!(
            stripped.iter().any(|event| event["content"]["name"] == "N"),
            "{told}"
        );
        for hidden in ["timeline", "required_state", "joined_count", "name"] {
            assert_eq!(told.get(hidden), None, "{told}");
        }
        ada.say(&room, "not yet").await;
        assert_eq!(client.sync(&body).await["rooms"], json!({}));
        bob.join(&room).await;
        let answer = client.sync(&body).await;
        assert_eq!(
            (
                &answer["rooms"][&room]["initial"],
                &answer["rooms"][&room]["name"]
            ),
            (&json!(true), &json!("N"))
        );

        let other = ada.create(json!({ "invite": [bob.id] })).await;
        let mut client = Client::accepted(&bob);
        let answer = client.sync(&body).await;
        let told = &answer["rooms"][&other];
        assert_eq!(
            (&told["membership"], told["stripped_state"].is_array()),
            (&json!("invite"), true)
        );
        bob.leave(&other).await;
        let answer = client.sync(&body).await;
        assert_eq!(answer["rooms"][&other]["membership"], "leave");
        assert_eq!(client.sync(&body).await["rooms"], json!({}));
        assert_eq!(answer["lists"]["all"]["count"], 1);
    })
    .await;
}

#[tokio::test]
async fn who_leaves_hears_of_it_once_and_who_is_put_out_whenever_they_begin() {
    story(|server| async move {
        let (ada, bob) = (server.register("ada").await, server.register("bob").await);
        let (left, kicked, banned) = (
            ada.create_public().await,
            ada.create_public().await,
            ada.create_public().await,
        );
        for room in [&left, &kicked, &banned] {
            bob.join(room).await;
        }
        let never = ada.create_public().await;
        let mut client = Client::accepted(&bob);
        let body = first(10);
        client.sync(&body).await;
        bob.leave(&left).await;
        for (room, how) in [(&kicked, "kick"), (&banned, "ban"), (&never, "ban")] {
            let path = format!("/rooms/{}/{how}", esc(room));
            ada.ok(Method::POST, &path, json!({ "user_id": bob.id }))
                .await;
        }
        let secret = ada.say(&kicked, "secret").await;
        let answer = client.sync(&body).await;
        let memberships = |answer: &Value| {
            [&left, &kicked, &banned, &never].map(|room| {
                answer["rooms"][room]["membership"]
                    .as_str()
                    .map(str::to_owned)
            })
        };
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(
            memberships(&answer),
            [some("leave"), some("leave"), some("ban"), None]
        );
        assert!(!answer.to_string().contains(&secret));
        assert_eq!(client.sync(&body).await["rooms"], json!({}));
        ada.say(&kicked, "secret").await;
        ada.set_state(&kicked, "m.room.name", "", json!({ "name": "secret" }))
            .await;
        assert_eq!(client.sync(&body).await["rooms"], json!({}));
        let mut begins = Client {
            conn_id: "begins",
            ..Client::accepted(&bob)
        };
        let answer = begins.sync(&list(10, 20, json!([["*", "*"]]))).await;
        assert_eq!(
            memberships(&answer),
            [None, some("leave"), some("ban"), None]
        );
        assert!(!answer.to_string().contains("secret"), "{answer}");
        // Nor by a subscription.
        let answer = Client::named(&bob, "other")
            .sync(&subscribed(&never, 20, json!([["*", "*"]])))
            .await;
        assert_eq!(rooms(&answer), Vec::<&str>::new());
        let answer = Client::named(&bob, "other")
            .sync(&subscribed(&left, 1, json!([])))
            .await;
        assert_eq!(rooms(&answer), [&left]);
        // Who comes back begins with the room.
        bob.join(&left).await;
        assert_eq!(client.sync(&body).await["rooms"][&left]["initial"], true);
    })
    .await;
}
