//! Windows on lists, and what filters let through.

use http::Method;
use serde_json::{Value, json};

use super::client::{Client, first, list, rooms, timeline};
use crate::{
    e2ee::several::several,
    harness::{User, esc, story},
};

#[tokio::test]
async fn a_window_has_the_rooms_with_the_latest_activity_and_grows() {
    story(|server| async move {
        let ada = server.register("ada").await;
        let mut all = Vec::new();
        for n in 0..6 {
            all.push(ada.create(json!({ "name": format!("room {n}") })).await);
        }
        let mut client = Client::of(&ada);
        let answer = client.sync(&first(2)).await;
        assert_eq!(answer["lists"]["all"]["count"], 6);
        let mut told = rooms(&answer);
        told.sort_unstable();
        let mut expected = vec![all[4].as_str(), all[5].as_str()];
        expected.sort_unstable();
        assert_eq!(told, expected);
        let room = &answer["rooms"][&all[5]];
        assert_eq!(
            (&room["initial"], &room["name"]),
            (&json!(true), &json!("room 5"))
        );
        assert_eq!(
            (&room["joined_count"], &room["limited"]),
            (&json!(1), &json!(true))
        );
        assert_eq!(room["num_live"], 0);
        // Nothing new: nothing is told.
        assert_eq!(client.sync(&first(2)).await["rooms"], json!({}));
        // A larger window has what wasn't told yet, at once.
        let answer = client.wait(&first(4), 170_000).await;
        assert_eq!(rooms(&answer).len(), 2, "{answer}");
        assert!(rooms(&answer).contains(&all[2].as_str()));
        // A message bubbles up a room that was never told, with its older events.
        let said = ada.say(&all[0], "up").await;
        let answer = client.sync(&first(2)).await;
        assert_eq!(rooms(&answer), [&all[0]]);
        assert_eq!(timeline(&answer, &all[0]), [said]);
        let room = &answer["rooms"][&all[0]];
        assert_eq!(
            (&room["initial"], &room["num_live"]),
            (&json!(true), &json!(1))
        );
        // All of them.
        let answer = client.sync(&first(100)).await;
        assert_eq!(rooms(&answer), [&all[1]]);
    })
    .await;
}

#[tokio::test]
async fn what_happens_outside_of_the_windows_comes_when_they_reach_it() {
    story(|server| async move {
        let (ada, bob) = (server.register("ada").await, server.register("bob").await);
        let old = ada.create_public().await;
        bob.join(&old).await;
        let new = ada.create_public().await;
        bob.join(&new).await;
        let mut client = Client::of(&bob);
        client.sync(&first(10)).await;
        ada.say(&new, "on top").await;
        // The window has only the upper one now.
        let narrow = first(1);
        assert_eq!(rooms(&client.sync(&narrow).await), [&new]);
        let missed = ada.say(&old, "missed").await;
        let upper = ada.say(&new, "upper").await;
        let answer = client.sync(&narrow).await;
        assert_eq!(timeline(&answer, &new), [upper]);
        assert_eq!(rooms(&answer), [&new]);
        ada.say(&new, "upper still").await;
        client.sync(&narrow).await;
        // Then both: what was missed is told, with nothing of what wasn't new.
        let answer = client.sync(&first(10)).await;
        assert_eq!(rooms(&answer), [&old]);
        assert_eq!(timeline(&answer, &old), [missed]);
        assert_eq!(answer["rooms"][&old].get("initial"), None);
        assert_eq!(client.sync(&first(10)).await["rooms"], json!({}));
    })
    .await;
}

#[tokio::test]
async fn filters_let_through_what_they_say() {
    story(|server| async move {
        let (ada, bob) = (server.register("ada").await, server.register("bob").await);
        let plain = ada.create(json!({})).await;
        let encrypted = ada
            .create(json!({ "initial_state": [{
            "type": "m.room.encryption", "content": { "algorithm": "m.megolm.v1.aes-sha2" },
        }] }))
            .await;
        let space = ada
            .create(json!({ "creation_content": { "type": "m.space" } }))
            .await;
        let direct = ada
            .create(json!({ "invite": [bob.id], "is_direct": true }))
            .await;
        let invite = bob.create(json!({ "invite": [ada.id] })).await;
        ada.set_state(&space, "m.space.child", &plain, json!({ "via": ["here"] }))
            .await;
        ada.set_state(&space, "m.space.child", &direct, json!({}))
            .await;
        let data = |kind: &str| format!("/user/{}/account_data/{kind}", esc(&ada.id));
        ada.ok(Method::PUT, &data("m.direct"), json!({ &bob.id: [direct] }))
            .await;
        let tags = format!(
            "/user/{}/rooms/{}/account_data/m.tag",
            esc(&ada.id),
            esc(&encrypted)
        );
        ada.ok(
            Method::PUT,
            &tags,
            json!({ "tags": { "m.favourite": {}, "u.x": {} } }),
        )
        .await;
        let all = [&plain, &encrypted, &space, &direct, &invite];
        let cases: [(Value, &[&String]); 14] = [
            (json!({}), &all),
            (json!({ "is_dm": true }), &[&direct]),
            (
                json!({ "is_dm": false }),
                &[&plain, &encrypted, &space, &invite],
            ),
            (json!({ "is_encrypted": true }), &[&encrypted]),
            (
                json!({ "is_encrypted": false, "is_invite": false }),
                &[&plain, &space, &direct],
            ),
            (json!({ "is_invite": true }), &[&invite]),
            (json!({ "is_invited": true }), &[&invite]),
            (json!({ "room_types": ["m.space"] }), &[&space]),
            (
                json!({ "room_types": [null], "is_invite": false }),
                &[&plain, &encrypted, &direct],
            ),
            (
                json!({ "not_room_types": ["m.space"] }),
                &[&plain, &encrypted, &direct, &invite],
            ),
            (json!({ "tags": ["u.x", "u.y"] }), &[&encrypted]),
            (json!({ "tags": ["u.x"], "not_tags": ["m.favourite"] }), &[]),
            (
                json!({ "not_tags": ["m.favourite"] }),
                &[&plain, &space, &direct, &invite],
            ),
            (
                json!({ "spaces": [space, "!nowhere:here", "nonsense"] }),
                &[&plain],
            ),
        ];
        for (filters, expected) in cases {
            let mut body = list(100, 0, json!([]));
            body["lists"]["all"]["filters"] = filters.clone();
            let answer = Client::of(&ada).sync(&body).await;
            let mut expected: Vec<&str> = expected.iter().map(|room| room.as_str()).collect();
            expected.sort_unstable();
            assert_eq!(rooms(&answer), expected, "{filters}");
            assert_eq!(answer["lists"]["all"]["count"], expected.len(), "{filters}");
        }
    })
    .await;
}

#[tokio::test]
async fn rooms_come_into_lists_and_go_as_what_filters_look_at_changes() {
    story(|server| async move {
        let (ada, bob) = (server.register("ada").await, server.register("bob").await);
        let room = ada.create(json!({})).await;
        let space = ada.create(json!({ "creation_content": { "type": "m.space" } })).await;
        let filtered = |filters: Value| {
            json!({ "ranges": [[0, 9]], "timeline_limit": 0, "required_state": [], "filters": filters })
        };
        let body = json!({ "lists": {
            "direct": filtered(json!({ "is_dm": true })),
            "tagged": filtered(json!({ "tags": ["m.favourite"] })),
            "encrypted": filtered(json!({ "is_encrypted": true })),
            "held": filtered(json!({ "spaces": [space] })),
            "invites": filtered(json!({ "is_invite": true })),
        } });
        let mut client = Client::of(&ada);
        let counts = |answer: &Value| {
            ["direct", "encrypted", "held", "invites", "tagged"]
                .map(|list| answer["lists"][list]["count"].as_u64().unwrap())
        };
        assert_eq!(counts(&client.sync(&body).await), [0, 0, 0, 0, 0]);
        let data = |kind: &str| format!("/user/{}/{kind}", esc(&ada.id));
        ada.ok(Method::PUT, &data("account_data/m.direct"), json!({ &bob.id: [room] })).await;
        let answer = client.sync(&body).await;
        assert_eq!(counts(&answer), [1, 0, 0, 0, 0]);
        assert_eq!((rooms(&answer), &answer["rooms"][&room]["is_dm"]), (vec![room.as_str()], &json!(true)));
        let tag = data(&format!("rooms/{}/account_data/m.tag", esc(&room)));
        ada.ok(Method::PUT, &tag, json!({ "tags": { "m.favourite": {} } })).await;
        assert_eq!(counts(&client.sync(&body).await), [1, 0, 0, 0, 1]);
        ada.set_state(&room, "m.room.encryption", "", json!({ "algorithm": "m.megolm.v1.aes-sha2" })).await;
        assert_eq!(counts(&client.sync(&body).await), [1, 1, 0, 0, 1]);
        ada.set_state(&space, "m.space.child", &room, json!({ "via": ["here"] })).await;
        assert_eq!(counts(&client.sync(&body).await), [1, 1, 1, 0, 1]);
        let invite = bob.create(json!({ "invite": [ada.id] })).await;
        assert_eq!(counts(&client.sync(&body).await), [1, 1, 1, 1, 1]);
        ada.set_state(&space, "m.space.child", &room, json!({})).await;
        ada.ok(Method::PUT, &tag, json!({ "tags": {} })).await;
        ada.ok(Method::PUT, &data("account_data/m.direct"), json!({})).await;
        ada.join(&invite).await;
        let answer = client.sync(&body).await;
        assert_eq!(counts(&answer), [0, 1, 0, 0, 0]);
    })
    .await;
}

#[tokio::test]
async fn all_lists_of_a_request_are_there_whatever_was_asked_for_before() {
    story(|server| async move {
        let ada = server.register("ada").await;
        ada.create_public().await;
        let many = |from: usize, upto: usize| {
            let lists = (from..upto).map(|n| {
                let list = json!({
                    "timeline_limit": 1, "required_state": [], "filters": { "not_tags": [n.to_string()] },
                });
                (n.to_string(), list)
            });
            json!({ "lists": lists.collect::<serde_json::Map<_, _>>() })
        };
        let mut client = Client::of(&ada);
        for (from, upto) in [(0, 60), (0, 100), (50, 150), (140, 141), (0, 100)] {
            let answer = client.sync(&many(from, upto)).await;
            let lists = answer["lists"].as_object().unwrap();
            assert_eq!(lists.len(), upto - from);
            assert!(lists.values().all(|list| list["count"] == 1));
        }
    })
    .await;
}

#[tokio::test]
async fn an_invite_that_becomes_a_direct_chat_says_so() {
    story(|server| async move {
        let (ada, bob) = (server.register("ada").await, server.register("bob").await);
        let invite = bob.create(json!({ "invite": [ada.id] })).await;
        let mut client = Client::of(&ada);
        let answer = client.sync(&first(5)).await;
        assert_eq!(answer["rooms"][&invite].get("is_dm"), None);
        let path = format!("/user/{}/account_data/m.direct", esc(&ada.id));
        for (direct, is_dm) in [(json!({ &bob.id: [invite] }), true), (json!({}), false)] {
            ada.ok(Method::PUT, &path, direct).await;
            let answer = client.sync(&first(5)).await;
            assert_eq!(answer["rooms"][&invite]["is_dm"], is_dm, "{answer}");
            assert_eq!(client.sync(&first(5)).await["rooms"], json!({}));
        }
    })
    .await;
}

/// An invite that a user isn't shown is in no list, and takes nobody's place.
#[tokio::test(flavor = "multi_thread")]
async fn an_invite_of_somebody_who_is_ignored_counts_for_nothing() {
    several(2, async |all| {
        let ada = all.server(0).register("ada").await;
        let eve = all.server(0).register("eve").await;
        let mallory = all.server(1).register("mallory").await;
        let room = ada.create_public().await;
        let path = format!("/user/{}/account_data/m.ignored_user_list", esc(&ada.id));
        let ignore = async |users: &[&User]| {
            let users: serde_json::Map<String, Value> = (users.iter())
                .map(|user| (user.id.clone(), json!({})))
                .collect();
            ada.ok(Method::PUT, &path, json!({ "ignored_users": users }))
                .await;
        };
        let count = |answer: &Value| answer["lists"]["all"]["count"].as_u64().unwrap();
        let mut client = Client::of(&ada);
        client.sync(&first(1)).await;
        let near = eve.create(json!({ "invite": [ada.id] })).await;
        let answer = client.sync(&first(1)).await;
        assert_eq!((count(&answer), rooms(&answer)), (2, vec![near.as_str()]));
        // The last room of the window is there at once.
        ada.say(&room, "below").await;
        ignore(&[&eve, &mallory]).await;
        let answer = client.sync(&first(1)).await;
        assert_eq!((count(&answer), rooms(&answer)), (1, vec![room.as_str()]));
        let far = mallory.create(json!({ "invite": [ada.id] })).await;
        for n in 0..2 {
            let answer = client.sync(&first(2)).await;
            assert_eq!((count(&answer), &answer["rooms"]), (1, &json!({})), "{n}");
        }
        // To who begins as well, also after a restart.
        all.restart(0).await;
        let ada = all.again(&ada);
        let mut other = Client::named(&ada, "other");
        let answer = other.sync(&first(5)).await;
        assert_eq!((count(&answer), rooms(&answer)), (1, vec![room.as_str()]));
        let users = json!({ "ignored_users": { &eve.id: {} } });
        ada.ok(Method::PUT, &path, users).await;
        let answer = other.sync(&first(5)).await;
        // With what else is unread by whom she hears of again.
        assert_eq!(count(&answer), 2);
        assert!(rooms(&answer).contains(&far.as_str()) && !rooms(&answer).contains(&near.as_str()));
        ada.ok(Method::PUT, &path, json!({ "ignored_users": {} }))
            .await;
        let answer = other.sync(&first(5)).await;
        assert_eq!(count(&answer), 3);
        assert!(rooms(&answer).contains(&near.as_str()));
        // A filter of invites counts the same.
        let mut invited = first(5);
        invited["lists"]["all"]["filters"] = json!({ "is_invite": true });
        assert_eq!(count(&other.sync(&invited).await), 2);
        ada.ok(
            Method::PUT,
            &path,
            json!({ "ignored_users": { &mallory.id: {} } }),
        )
        .await;
        assert_eq!(count(&other.sync(&invited).await), 1);
    })
    .await;
}
