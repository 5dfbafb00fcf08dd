//! What a room is, for who thinks of joining it.

use http::{Method, StatusCode};
use serde_json::{Value, json};

use super::{get, open, restricted, space};
use crate::e2ee::several::several;
use crate::harness::{Server, User, esc, story};

async fn summary(user: &User, room: &str) -> (StatusCode, Value) {
    get(user, &format!("/room_summary/{}", esc(room))).await
}

async fn read(user: &User, room: &str) -> Value {
    let (status, answer) = summary(user, room).await;
    assert_eq!(status, StatusCode::OK, "{answer}");
    answer
}

/// The same by who doesn't say who they are.
async fn outside(server: &Server, path: &str) -> (StatusCode, Value) {
    server.request(Method::GET, path, None, None).await
}

#[tokio::test]
async fn a_room_is_summed_up() {
    story(|server| async move {
        let (alice, bob) = (server.register("alice").await, server.register("bob").await);
        let encryption = json!({ "type": "m.room.encryption", "state_key": "",
            "content": { "algorithm": "m.megolm.v1.aes-sha2" } });
        let mut state = open();
        state.as_array_mut().unwrap().push(encryption);
        let request = json!({ "preset": "public_chat", "name": "The well", "topic": "Water",
            "room_alias_name": "well", "room_version": "11", "initial_state": state });
        let room = alice.create(request).await;
        let mut expected = json!({
            "room_id": room, "name": "The well", "topic": "Water", "canonical_alias": "#well:here",
            "num_joined_members": 1, "join_rule": "public", "world_readable": true, "guest_can_join": false,
            "room_version": "11", "encryption": "m.megolm.v1.aes-sha2", "membership": "join",
        });
        assert_eq!(read(&alice, &room).await, expected);
        assert_eq!(read(&alice, "#well:here").await, expected);
        expected["membership"] = "leave".into();
        assert_eq!(read(&bob, "#well:here").await, expected);

        // As it was proposed, also with the names that its fields had.
        let mut former = expected.clone();
        former["im.nheko.summary.encryption"] = former["encryption"].clone();
        former["im.nheko.summary.room_version"] = former["room_version"].clone();
        former.as_object_mut().unwrap().remove("membership");
        let base = "/_matrix/client/unstable/im.nheko.summary";
        let alias = esc("#well:here");
        for path in [format!("/summary/{alias}"), format!("/rooms/{alias}/summary")] {
            let (status, answer) = outside(&server, &format!("{base}{path}")).await;
            assert_eq!((status, answer), (StatusCode::OK, former.clone()));
        }
    })
    .await;
}

#[tokio::test]
async fn memberships_and_doors_are_told() {
    story(|server| async move {
        let (alice, bob) = (server.register("alice").await, server.register("bob").await);
        let hall = space(&alice, json!({})).await;
        let private = alice.create(json!({ "preset": "private_chat" })).await;
        let request = json!({ "preset": "private_chat", "initial_state": restricted(&hall) });
        let of_members = alice.create(request).await;
        let told = read(&alice, &of_members).await;
        assert_eq!(told["join_rule"], "restricted");
        assert_eq!(told["allowed_room_ids"], json!([hall]));
        assert_eq!(read(&alice, &private).await.get("allowed_room_ids"), None);
        assert_eq!(read(&bob, &hall).await["room_type"], "m.space");

        let mut errors = Vec::new();
        for room in [&private, &of_members, "!nothing:here", "#nothing:here"] {
            let (status, error) = summary(&bob, room).await;
            assert_eq!(status, StatusCode::NOT_FOUND, "{error}");
            errors.push(error);
        }
        assert!(errors.iter().all(|error| *error == errors[0]), "{errors:?}");
        alice.invite(&private, &bob).await;
        assert_eq!(read(&bob, &private).await["membership"], "invite");
        bob.join(&private).await;
        assert_eq!(read(&bob, &private).await["membership"], "join");
        bob.leave(&private).await;
        assert_eq!(summary(&bob, &private).await.0, StatusCode::NOT_FOUND);
        bob.join(&hall).await;
        assert_eq!(read(&bob, &of_members).await["membership"], "leave");

        // Who doesn't say who they are is told what everybody is told.
        for (room, expected) in [(&hall, 200), (&private, 404), (&of_members, 404)] {
            let path = format!("/_matrix/client/v1/room_summary/{}", esc(room));
            let (status, answer) = outside(&server, &path).await;
            assert_eq!(status.as_u16(), expected, "{answer}");
            assert_eq!(answer.get("membership"), None);
        }
        let (status, error) = summary(&alice, "nonsense").await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{error}");
        let no_token = User {
            token: "wrong".to_owned(),
            ..alice
        };
        assert_eq!(summary(&no_token, &hall).await.0, StatusCode::UNAUTHORIZED);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn other_servers_tell_of_their_rooms() {
    several(2, async |all| {
        let alice = all.server(0).register("alice").await;
        let bob = all.server(1).register("bob").await;
        let request = json!({ "preset": "public_chat", "name": "Far", "room_alias_name": "far",
            "room_version": "11" });
        let room = alice.create(request).await;
        let closed = alice
            .create(json!({ "preset": "private_chat", "name": "Closed" }))
            .await;
        let told = read(&bob, "#far:a.example").await;
        assert_eq!(told["name"], "Far");
        assert_eq!(told["room_id"], room.as_str());
        assert_eq!(told["membership"], "leave");
        assert_eq!(told.get("children_state"), None);
        // The id says where to ask, in this version; a client may say it too.
        assert_eq!(read(&bob, &room).await["name"], "Far");
        let by_via = format!("/room_summary/{}?via=a.example&via=b.example", esc(&room));
        let (status, told) = get(&bob, &by_via).await;
        assert_eq!((status, &told["name"]), (StatusCode::OK, &json!("Far")));
        let (status, told) = outside(all.server(1), &format!("/_matrix/client/v1{by_via}")).await;
        assert_eq!((status, &told["name"]), (StatusCode::OK, &json!("Far")));

        let path = format!("/room_summary/{}?via=a.example", esc(&closed));
        assert_eq!(get(&bob, &path).await.0, StatusCode::NOT_FOUND);
        let invite = format!("/rooms/{}/invite", esc(&closed));
        alice
            .ok(Method::POST, &invite, json!({ "user_id": bob.id }))
            .await;
        let (status, told) = get(&bob, &path).await;
        assert_eq!(status, StatusCode::OK, "{told}");
        assert_eq!(told["membership"], "invite");
        // Others of that server aren't invited.
        let carol = all.server(1).register("carol").await;
        assert_eq!(get(&carol, &path).await.0, StatusCode::NOT_FOUND);
    })
    .await;
}
