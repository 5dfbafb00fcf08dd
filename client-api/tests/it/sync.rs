//! `/sync`.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use http::{Method, StatusCode};
use rhizome_client_api::sync::window::Window;
use rhizome_storage::{Options, Store, StoredEvent, testing::TestDatabase};
use serde_json::{Value, json};

use crate::harness::{Server, User, esc, events, ids, next, story, timeline};

/// A filter as a query parameter.
fn filter(filter: &Value) -> String {
    format!("&filter={}", esc(&filter.to_string()))
}

#[tokio::test]
async fn a_client_starts_and_is_told_what_follows_once() {
    story(|server| async move {
        let (alice, bob) = (server.register("alice").await, server.register("bob").await);
        let room = alice
            .create(json!({"preset": "public_chat", "name": "Garden"}))
            .await;
        bob.join(&room).await;
        let first = alice.sync(None, "").await;
        let here = &first["rooms"]["join"][&room];
        assert_eq!(here["summary"]["m.joined_member_count"], 2);
        assert!(here["timeline"]["prev_batch"].is_string());
        let event = &here["timeline"]["events"][0];
        assert!(
            event.get("room_id").is_none() && event["unsigned"]["age"].is_i64(),
            "{event}"
        );

        let since = next(&first);
        let nothing = alice.sync(Some(&since), "").await;
        assert!(nothing.get("rooms").is_none(), "{nothing}");

        let said = bob.say(&room, "hello").await;
        let second = alice.sync(Some(&since), "").await;
        assert_eq!(timeline(&second, &room), std::slice::from_ref(&said));
        assert_eq!(second["rooms"]["join"][&room]["timeline"]["limited"], false);
        assert_eq!(
            events(&second, &["rooms", "join", &room, "state", "events"]).len(),
            0
        );
        let third = alice.sync(Some(&next(&second)), "").await;
        assert!(third.get("rooms").is_none(), "{third}");
        // The same question has the same answer.
        assert_eq!(timeline(&alice.sync(Some(&since), "").await, &room), [said]);
    })
    .await;
}

#[tokio::test]
async fn a_transaction_id_is_shown_to_its_device_alone() {
    story(|server| async move {
        let alice = server.register("alice").await;
        let other = alice.another_device().await;
        let room = alice.create_public().await;
        let (mine, theirs) = (
            next(&alice.sync(None, "").await),
            next(&other.sync(None, "").await),
        );
        let path = format!("/rooms/{}/send/m.room.message/my-txn", esc(&room));
        let body = json!({"msgtype": "m.text", "body": "x"});
        let sent = alice.ok(Method::PUT, &path, body.clone()).await;
        assert_eq!(
            alice.ok(Method::PUT, &path, body).await,
            sent,
            "a repetition is the same event"
        );
        let at = ["rooms", "join", &room, "timeline", "events"];
        let own = alice.sync(Some(&mine), "").await;
        assert_eq!(events(&own, &at).len(), 1);
        assert_eq!(events(&own, &at)[0]["unsigned"]["transaction_id"], "my-txn");
        let foreign = other.sync(Some(&theirs), "").await;
        assert!(
            events(&foreign, &at)[0]["unsigned"]
                .get("transaction_id")
                .is_none()
        );
    })
    .await;
}

#[tokio::test]
async fn a_gap_is_closed_by_paging_back_without_hole_or_repetition() {
    story(|server| async move {
        let alice = server.register("alice").await;
        let room = alice.create_public().await;
        let since = next(&alice.sync(None, "").await);
        let mut said = Vec::new();
        for n in 0..25 {
            said.push(alice.say(&room, &n.to_string()).await);
        }
        let narrow = filter(&json!({"room": {"timeline": {"limit": 4}}}));
        let gap = alice.sync(Some(&since), &narrow).await;
        let part = &gap["rooms"]["join"][&room]["timeline"];
        assert_eq!(part["limited"], true);
        let mut seen = timeline(&gap, &room);
        assert_eq!(seen, said[21..]);
        // What arrives meanwhile is no business of the gap's.
        let later = alice.say(&room, "later").await;
        let mut from = part["prev_batch"].as_str().unwrap().to_owned();
        let mut create_seen = false;
        for _ in 0..20 {
            let page = alice
                .read(&format!(
                    "/rooms/{}/messages?dir=b&limit=3&from={from}",
                    esc(&room)
                ))
                .await;
            let chunk = events(&page, &["chunk"]);
            create_seen |= chunk.iter().any(|event| event["type"] == "m.room.create");
            for id in ids(&chunk) {
                assert!(!seen.contains(&id), "repeated");
                assert_ne!(id, later);
                seen.insert(0, id);
            }
            match page["end"].as_str() {
                Some(end) => from = end.to_owned(),
                None => break,
            }
        }
        assert!(create_seen, "the beginning of the room is reached");
        assert_eq!(seen[seen.len() - 25..], said);
        // Between the two tokens only the gap.
        let path = format!(
            "/rooms/{}/messages?dir=b&limit=100&from={}&to={since}",
            esc(&room),
            part["prev_batch"].as_str().unwrap()
        );
        let between = alice.read(&path).await;
        let mut between = ids(&events(&between, &["chunk"]));
        between.reverse();
        assert_eq!(between, said[..21]);
        // And forward from where the client was.
        let mut forward = Vec::new();
        let mut from = since.clone();
        loop {
            let page = alice
                .read(&format!(
                    "/rooms/{}/messages?dir=f&limit=7&from={from}",
                    esc(&room)
                ))
                .await;
            forward.extend(ids(&events(&page, &["chunk"])));
            let Some(end) = page["end"].as_str() else {
                break;
            };
            from = end.to_owned();
        }
        assert_eq!(forward[..25], said);
        assert_eq!(forward[25..], [later]);
    })
    .await;
}

#[tokio::test]
async fn a_long_poll_wakes_for_its_rooms_and_for_nothing_else() {
    story(|server| async move {
        let (alice, bob) = (server.register("alice").await, server.register("bob").await);
        let shared = alice.create_public().await;
        bob.join(&shared).await;
        let foreign = bob.create_public().await;
        let since = next(&alice.sync(None, "").await);

        let poll = |since: String| {
            let alice = alice.clone();
            tokio::spawn(async move { alice.sync(Some(&since), "&timeout=60000").await })
        };
        let waiting = poll(since.clone());
        tokio::time::sleep(Duration::from_millis(200)).await;
        let before = server.store.counters().now();
        bob.say(&foreign, "not for alice").await;
        tokio::time::sleep(Duration::from_millis(200)).await;
        assert_eq!((server.store.counters().now() - before).wake_ups, 0);
        assert!(!waiting.is_finished());
        let said = bob.say(&shared, "for alice").await;
        let began = Instant::now();
        let woken = waiting.await.unwrap();
        assert_eq!(timeline(&woken, &shared), [said]);
        assert!(began.elapsed() < Duration::from_secs(30));

        // Nothing happens: an answer with the token to go on.
        let began = Instant::now();
        let empty = alice.sync(Some(&next(&woken)), "&timeout=300").await;
        assert!(began.elapsed() >= Duration::from_millis(300));
        assert!(empty.get("rooms").is_none());

        // The end of the server answers at once.
        let waiting = poll(next(&empty));
        tokio::time::sleep(Duration::from_millis(100)).await;
        let began = Instant::now();
        server.shutdown.cancel();
        waiting.await.unwrap();
        assert!(began.elapsed() < Duration::from_secs(30));
    })
    .await;
}

#[tokio::test]
async fn a_poll_wakes_for_an_invite_and_for_account_data() {
    story(|server| async move {
        let (alice, bob) = (server.register("alice").await, server.register("bob").await);
        let room = alice
            .create(json!({"preset": "private_chat", "name": "Secret"}))
            .await;
        let since = next(&bob.sync(None, "").await);
        let waiting = {
            let (bob, since) = (bob.clone(), since.clone());
            tokio::spawn(async move { bob.sync(Some(&since), "&timeout=60000").await })
        };
        tokio::time::sleep(Duration::from_millis(100)).await;
        alice.invite(&room, &bob).await;
        let invited = waiting.await.unwrap();
        let state = events(
            &invited,
            &["rooms", "invite", &room, "invite_state", "events"],
        );
        let has = |kind: &str| state.iter().any(|event| event["type"] == kind);
        assert!(
            has("m.room.name") && has("m.room.create") && has("m.room.join_rules"),
            "{state:?}"
        );
        let own = state
            .iter()
            .find(|event| event["state_key"] == bob.id.as_str())
            .unwrap();
        assert_eq!(own["content"]["membership"], "invite");

        let since = next(&invited);
        assert!(
            bob.sync(Some(&since), "").await.get("rooms").is_none(),
            "an invite is told once"
        );
        let waiting = {
            let (bob, since) = (bob.clone(), since.clone());
            tokio::spawn(async move { bob.sync(Some(&since), "&timeout=60000").await })
        };
        tokio::time::sleep(Duration::from_millis(100)).await;
        bob.ok(
            Method::PUT,
            &format!("/user/{}/account_data/m.test", esc(&bob.id)),
            json!({"a": 1}),
        )
        .await;
        let told = waiting.await.unwrap();
        assert_eq!(
            told["account_data"]["events"],
            json!([{"type": "m.test", "content": {"a": 1}}])
        );
    })
    .await;
}

#[tokio::test]
async fn invite_join_leave_rejoin_forget() {
    story(|server| async move {
        let (alice, bob) = (server.register("alice").await, server.register("bob").await);
        let room = alice
            .create(json!({"preset": "private_chat", "name": "Club"}))
            .await;
        alice.say(&room, "before bob").await;
        alice.invite(&room, &bob).await;
        let invited = bob.sync(None, "").await;
        assert!(invited["rooms"]["invite"].get(&room).is_some());

        bob.join(&room).await;
        let joined = bob.sync(Some(&next(&invited)), "").await;
        let here = &joined["rooms"]["join"][&room];
        assert!(joined["rooms"].get("invite").is_none());
        let state: Vec<_> = events(&joined, &["rooms", "join", &room, "state", "events"]);
        let shown: Vec<_> = events(&joined, &["rooms", "join", &room, "timeline", "events"]);
        let all = || state.iter().chain(&shown);
        assert!(
            all().any(|event| event["type"] == "m.room.name"),
            "a newly joined room is told whole"
        );
        assert!(all().any(|event| event["type"] == "m.room.create"));
        assert_eq!(here["summary"]["m.joined_member_count"], 2);

        bob.leave(&room).await;
        let unseen = alice.say(&room, "bob is gone").await;
        let left = bob.sync(Some(&next(&joined)), "").await;
        let gone = events(&left, &["rooms", "leave", &room, "timeline", "events"]);
        assert_eq!(gone.last().unwrap()["content"]["membership"], "leave");
        assert!(!ids(&gone).contains(&unseen));
        assert!(left["rooms"].get("join").is_none());
        let again = bob.sync(Some(&next(&left)), "").await;
        assert!(
            again.get("rooms").is_none(),
            "a room that was left is told once: {again}"
        );

        // The initial answer has it only when asked.
        assert!(bob.sync(None, "").await.get("rooms").is_none());
        let with_left = filter(&json!({"room": {"include_leave": true}}));
        let archive = bob.sync(None, &with_left).await;
        assert!(archive["rooms"]["leave"].get(&room).is_some());

        // What comes after leaving is told of nobody but themselves.
        alice
            .set_state(&room, "m.room.topic", "", json!({"topic": "secret"}))
            .await;
        let ban = |what: &str| {
            let (alice, path) = (alice.clone(), format!("/rooms/{}/{what}", esc(&room)));
            let body = json!({"user_id": bob.id});
            async move { alice.ok(Method::POST, &path, body).await }
        };
        ban("ban").await;
        // Who was put out by somebody else learns of it from a first answer as well.
        let asked = [
            (Some(next(&again)), ""),
            (None, with_left.as_str()),
            (None, ""),
        ];
        for (since, query) in asked {
            let banned = bob.sync(since.as_deref(), query).await;
            let part = &banned["rooms"]["leave"][&room];
            assert!(!part.to_string().contains("secret"), "{part}");
            let shown = part["timeline"]["events"].as_array().unwrap();
            assert_eq!(shown.last().unwrap()["content"]["membership"], "ban");
        }
        ban("unban").await;
        alice.invite(&room, &bob).await;
        bob.join(&room).await;
        let back = bob.sync(Some(&next(&again)), "").await;
        let here = &back["rooms"]["join"][&room];
        let told: Vec<_> = events(&back, &["rooms", "join", &room, "timeline", "events"]);
        assert!(here["summary"]["m.joined_member_count"] == 2 && !told.is_empty());

        bob.leave(&room).await;
        bob.forget(&room).await;
        assert!(bob.sync(None, &with_left).await.get("rooms").is_none());
    })
    .await;
}

#[tokio::test]
async fn a_rejected_invite_is_told_as_left() {
    story(|server| async move {
        let (alice, bob) = (server.register("alice").await, server.register("bob").await);
        let room = alice.create(json!({"preset": "private_chat"})).await;
        alice.invite(&room, &bob).await;
        let since = next(&bob.sync(None, "").await);
        bob.leave(&room).await;
        let told = bob.sync(Some(&since), "").await;
        let events = events(&told, &["rooms", "leave", &room, "timeline", "events"]);
        assert_eq!(events.len(), 1, "nothing but their own leaving: {told}");
    })
    .await;
}

#[tokio::test]
async fn history_is_hidden_from_those_who_came_later() {
    story(|server| async move {
        let (alice, bob) = (server.register("alice").await, server.register("bob").await);
        let hidden = json!([{"type": "m.room.history_visibility", "state_key": "",
            "content": {"history_visibility": "joined"}}]);
        let room = alice
            .create(json!({"preset": "public_chat", "initial_state": hidden}))
            .await;
        let secret = alice.say(&room, "before bob").await;
        bob.join(&room).await;
        let open = alice.say(&room, "after bob").await;
        let first = bob.sync(None, "").await;
        let shown = timeline(&first, &room);
        assert!(shown.contains(&open) && !shown.contains(&secret));
        let page = bob
            .read(&format!("/rooms/{}/messages?dir=b&limit=50", esc(&room)))
            .await;
        assert!(!ids(&events(&page, &["chunk"])).contains(&secret));
        let (status, _) = bob
            .get(&format!("/rooms/{}/event/{}", esc(&room), esc(&secret)))
            .await;
        assert_eq!(status, StatusCode::NOT_FOUND);
        let (status, _) = alice
            .get(&format!("/rooms/{}/event/{}", esc(&room), esc(&secret)))
            .await;
        assert_eq!(status, StatusCode::OK);
    })
    .await;
}

#[tokio::test]
async fn members_are_loaded_lazily_and_not_twice() {
    story(|server| async move {
        let alice = server.register("alice").await;
        let room = alice.create_public().await;
        let mut others = Vec::new();
        for n in 0..7 {
            let user = server.register(&format!("user{n}")).await;
            user.join(&room).await;
            others.push(user);
        }
        for n in 0..12 {
            alice.say(&room, &n.to_string()).await;
        }
        let said = others[6].say(&room, "me").await;
        let lazy = filter(&json!({"room": {
            "state": {"lazy_load_members": true}, "timeline": {"limit": 1}}}));
        let members = |sync: &Value| -> Vec<String> {
            let state = events(sync, &["rooms", "join", &room, "state", "events"]);
            let members = state.iter().filter(|event| event["type"] == "m.room.member");
            members.map(|event| event["state_key"].as_str().unwrap().to_owned()).collect()
        };
        let first = alice.sync(None, &lazy).await;
        assert_eq!(timeline(&first, &room), [said]);
        let told = members(&first);
        assert!(told.contains(&others[6].id) && told.contains(&alice.id), "{told:?}");
        assert!(told.len() <= 7, "not everybody: {told:?}");

        let since = next(&first);
        others[6].say(&room, "again").await;
        let second = alice.sync(Some(&since), &lazy).await;
        assert_eq!(members(&second), Vec::<String>::new(), "redundant");
        let unheard = others.iter().find(|user| !told.contains(&user.id)).unwrap();
        unheard.say(&room, "hello").await;
        let third = alice.sync(Some(&next(&second)), &lazy).await;
        assert_eq!(members(&third), std::slice::from_ref(&unheard.id));
        // The answer may have been lost: asked again, told again.
        assert_eq!(members(&alice.sync(Some(&next(&second)), &lazy).await), std::slice::from_ref(&unheard.id));
        let redundant = filter(&json!({"room": {"state":
            {"lazy_load_members": true, "include_redundant_members": true}, "timeline": {"limit": 1}}}));
        unheard.say(&room, "hello again").await;
        assert_eq!(members(&alice.sync(Some(&next(&third)), &redundant).await), std::slice::from_ref(&unheard.id));

        let lazy_page = esc(&json!({"lazy_load_members": true}).to_string());
        let page = alice.read(&format!("/rooms/{}/messages?dir=b&limit=2&filter={lazy_page}", esc(&room))).await;
        assert_eq!(events(&page, &["state"]).len(), 1, "{page}");
    })
    .await;
}

#[tokio::test]
async fn filters_narrow_what_is_told() {
    story(|server| async move {
        let (alice, bob) = (server.register("alice").await, server.register("bob").await);
        let (room, other) = (alice.create_public().await, alice.create_public().await);
        bob.join(&room).await;
        let since = next(&alice.sync(None, "").await);
        let text = bob.say(&room, "text").await;
        let image = bob
            .send(
                &room,
                "m.room.message",
                json!({"msgtype": "m.image", "body": "i", "url": "mxc://a/b"}),
            )
            .await;
        let custom = alice
            .send(&room, "org.test.custom", json!({"body": "c"}))
            .await;
        alice.say(&other, "elsewhere").await;

        let with = |section: Value| {
            let query = filter(&json!({"room": section}));
            let (alice, since) = (alice.clone(), since.clone());
            async move { alice.sync(Some(&since), &query).await }
        };
        let only =
            with(json!({"timeline": {"types": ["m.room.*"], "limit": 20}, "rooms": [room]})).await;
        assert_eq!(timeline(&only, &room), [text.clone(), image.clone()]);
        assert!(only["rooms"]["join"].get(&other).is_none());
        let url = with(json!({"timeline": {"contains_url": true}})).await;
        assert_eq!(timeline(&url, &room), std::slice::from_ref(&image));
        let senders =
            with(json!({"timeline": {"not_senders": [bob.id]}, "not_rooms": [other]})).await;
        assert_eq!(timeline(&senders, &room), std::slice::from_ref(&custom));
        let none = with(json!({"rooms": []})).await;
        assert!(none.get("rooms").is_none(), "{none}");

        let fields = filter(&json!({"event_fields": ["type", "content.body"]}));
        let answer = alice.sync(Some(&since), &fields).await;
        assert_eq!(
            events(&answer, &["rooms", "join", &room, "timeline", "events"])[0],
            &json!({"type": "m.room.message", "content": {"body": "text"}})
        );
        let federation = filter(&json!({"event_format": "federation"}));
        let answer = alice.sync(Some(&since), &federation).await;
        assert!(
            events(&answer, &["rooms", "join", &room, "timeline", "events"])[0]["hashes"]
                .is_object()
        );

        // Stored filters do the same.
        let path = format!("/user/{}/filter", esc(&alice.id));
        let stored = json!({"room": {"timeline": {"types": ["org.test.custom"]}}});
        let id = alice.ok(Method::POST, &path, stored.clone()).await["filter_id"]
            .as_str()
            .unwrap()
            .to_owned();
        assert_eq!(alice.read(&format!("{path}/{id}")).await, stored);
        let answer = alice.sync(Some(&since), &format!("&filter={id}")).await;
        assert_eq!(timeline(&answer, &room), [custom]);
        let (status, _) = alice.get("/sync?filter=9999").await;
        assert_eq!(status, StatusCode::BAD_REQUEST);
        let (status, _) = bob.get(&format!("{path}/{id}")).await;
        assert_eq!(status, StatusCode::FORBIDDEN);
    })
    .await;
}

#[tokio::test]
async fn a_token_of_another_epoch_counts_as_absent_and_garbage_is_refused() {
    story(|server| async move {
        let alice = server.register("alice").await;
        let room = alice.create_public().await;
        let since = next(&alice.sync(None, "").await);
        let future = since.split('_').next().unwrap().to_owned() + "_99999999_0";
        for token in [future.as_str(), "sdeadbeef_1_0"] {
            let whole = alice.sync(Some(token), "").await;
            assert!(
                whole["rooms"]["join"][&room]["summary"].is_object(),
                "{token}"
            );
        }
        for garbage in ["x", "s1", "17", "s_1_2", "%00", "s1_2_3_4"] {
            let (status, error) = alice.get(&format!("/sync?since={garbage}")).await;
            assert_eq!(
                (status, &error["errcode"]),
                (StatusCode::BAD_REQUEST, &json!("M_INVALID_PARAM")),
                "{garbage}"
            );
        }
        server.store.renew_epoch().await.unwrap();
        let whole = alice.sync(Some(&since), "").await;
        assert!(whole["rooms"]["join"][&room]["summary"].is_object());
    })
    .await;
}

#[tokio::test]
async fn typing_and_receipts_are_told_and_private_receipts_to_their_owner() {
    story(|server| async move {
        let (alice, bob) = (server.register("alice").await, server.register("bob").await);
        let room = alice.create_public().await;
        bob.join(&room).await;
        let said = alice.say(&room, "read me").await;
        let (since, bobs) = (
            next(&alice.sync(None, "").await),
            next(&bob.sync(None, "").await),
        );
        let typing = format!("/rooms/{}/typing/{}", esc(&room), esc(&bob.id));
        bob.ok(
            Method::PUT,
            &typing,
            json!({"typing": true, "timeout": 30000}),
        )
        .await;
        let told = alice.sync(Some(&since), "&timeout=60000").await;
        let ephemeral = |sync: &Value| sync["rooms"]["join"][&room]["ephemeral"]["events"].clone();
        assert_eq!(
            ephemeral(&told),
            json!([{"type": "m.typing", "content": {"user_ids": [bob.id]}}])
        );
        assert_eq!(alice.sync(Some(&next(&told)), "").await.get("rooms"), None);
        bob.ok(Method::PUT, &typing, json!({"typing": false})).await;
        let stopped = alice.sync(Some(&next(&told)), "").await;
        assert_eq!(
            ephemeral(&stopped),
            json!([{"type": "m.typing", "content": {"user_ids": []}}])
        );
        let (status, _) = alice
            .call(
                Method::PUT,
                &typing,
                Some(json!({"typing": true, "timeout": 1})),
            )
            .await;
        assert_eq!(status, StatusCode::FORBIDDEN);

        let receipt = |kind: &str| format!("/rooms/{}/receipt/{kind}/{}", esc(&room), esc(&said));
        bob.ok(Method::POST, &receipt("m.read"), json!({})).await;
        bob.ok(Method::POST, &receipt("m.read.private"), json!({}))
            .await;
        bob.ok(Method::POST, &receipt("m.fully_read"), json!({}))
            .await;
        let told = ephemeral(&alice.sync(Some(&next(&stopped)), "").await);
        assert!(
            told[0]["content"][&said]["m.read"][&bob.id]["ts"].is_i64(),
            "{told}"
        );
        assert!(told[0]["content"][&said].get("m.read.private").is_none());
        let own = bob.sync(Some(&bobs), "").await;
        let seen = ephemeral(&own);
        let receipts = seen
            .as_array()
            .unwrap()
            .iter()
            .find(|event| event["type"] == "m.receipt")
            .unwrap();
        assert!(receipts["content"][&said]["m.read.private"][&bob.id].is_object());
        let marker = json!([{"type": "m.fully_read", "content": {"event_id": said}}]);
        assert_eq!(
            own["rooms"]["join"][&room]["account_data"]["events"],
            marker
        );
        // A receipt doesn't go back.
        let early = alice
            .read(&format!("/rooms/{}/messages?dir=f&limit=1", esc(&room)))
            .await;
        let early = early["chunk"][0]["event_id"].as_str().unwrap();
        for kind in ["m.read", "m.fully_read"] {
            let path = format!("/rooms/{}/receipt/{kind}/{}", esc(&room), esc(early));
            bob.ok(Method::POST, &path, json!({})).await;
        }
        assert!(bob.sync(Some(&next(&own)), "").await.get("rooms").is_none());
        // A new client is told where everybody has got to.
        let whole = alice.sync(None, "").await;
        assert!(ephemeral(&whole)[0]["content"][&said]["m.read"][&bob.id].is_object());
        let (status, _) = bob
            .call(Method::POST, &receipt("m.unknown"), Some(json!({})))
            .await;
        assert_eq!(status, StatusCode::BAD_REQUEST);
    })
    .await;
}

#[tokio::test]
async fn ignored_users_are_not_heard() {
    story(|server| async move {
        let (alice, bob) = (server.register("alice").await, server.register("bob").await);
        let room = alice.create_public().await;
        bob.join(&room).await;
        let since = next(&alice.sync(None, "").await);
        let path = format!("/user/{}/account_data/m.ignored_user_list", esc(&alice.id));
        alice
            .ok(Method::PUT, &path, json!({"ignored_users": {&bob.id: {}}}))
            .await;
        bob.say(&room, "unheard").await;
        let told = alice.sync(Some(&since), "").await;
        assert_eq!(timeline(&told, &room), Vec::<String>::new());
        assert!(told["account_data"]["events"].is_array());
        alice
            .ok(Method::PUT, &path, json!({"ignored_users": {}}))
            .await;
        let heard = bob.say(&room, "heard").await;
        assert_eq!(
            timeline(&alice.sync(Some(&next(&told)), "").await, &room),
            [heard]
        );
    })
    .await;
}

#[tokio::test]
async fn account_data_of_a_room_and_forbidden_types() {
    story(|server| async move {
        let (alice, bob) = (server.register("alice").await, server.register("bob").await);
        let room = alice.create_public().await;
        let since = next(&alice.sync(None, "").await);
        let base = format!("/user/{}", esc(&alice.id));
        let tags = format!("{base}/rooms/{}/account_data/org.test.note", esc(&room));
        alice
            .ok(
                Method::PUT,
                &tags,
                json!({"n": 1, "deep": {"\u{0}": "\u{0}"}}),
            )
            .await;
        assert_eq!(alice.read(&tags).await["deep"]["\u{0}"], "\u{0}");
        let told = alice.sync(Some(&since), "").await;
        assert_eq!(
            told["rooms"]["join"][&room]["account_data"]["events"][0]["content"]["n"],
            1
        );
        assert!(told.get("account_data").is_none());
        for forbidden in ["m.fully_read", "m.push_rules"] {
            let path = format!("{base}/account_data/{forbidden}");
            let (status, _) = alice.call(Method::PUT, &path, Some(json!({}))).await;
            assert_eq!(status, StatusCode::METHOD_NOT_ALLOWED);
        }
        let (status, _) = bob.get(&tags).await;
        assert_eq!(status, StatusCode::FORBIDDEN);
        let (status, _) = alice.get(&format!("{base}/account_data/absent")).await;
        assert_eq!(status, StatusCode::NOT_FOUND);
        let (status, _) = alice
            .call(
                Method::PUT,
                &format!("{base}/account_data/x"),
                Some(json!([1])),
            )
            .await;
        assert_eq!(status, StatusCode::BAD_REQUEST);
    })
    .await;
}

#[tokio::test]
async fn deleted_account_data_is_told_once_and_gone() {
    story(|server| async move {
        let (alice, bob) = (server.register("alice").await, server.register("bob").await);
        let room = alice.create_public().await;
        let base = format!("/user/{}", esc(&alice.id));
        let unstable = "/_matrix/client/unstable/org.matrix.msc3391";
        let delete = async |user: &User, path: &str| {
            let path = format!("{unstable}{path}");
            let (status, _) = server
                .request(Method::DELETE, &path, Some(&user.token), None)
                .await;
            status
        };
        let in_room = format!("{base}/rooms/{}/account_data", esc(&room));
        let global = format!("{base}/account_data");
        for (folder, at) in [
            (&global, vec!["account_data", "events"]),
            (
                &in_room,
                vec!["rooms", "join", &room, "account_data", "events"],
            ),
        ] {
            let path = format!("{folder}/org.test.note");
            assert_eq!(delete(&alice, &path).await, StatusCode::OK, "nothing there");
            for by_delete in [true, false] {
                alice.ok(Method::PUT, &path, json!({"n": 1})).await;
                let since = next(&alice.sync(None, "").await);
                assert_eq!(delete(&bob, &path).await, StatusCode::FORBIDDEN);
                if by_delete {
                    assert_eq!(delete(&alice, &path).await, StatusCode::OK);
                } else {
                    alice.ok(Method::PUT, &path, json!({})).await;
                }
                let gone = json!({"type": "org.test.note", "content": {}});
                let told = alice.sync(Some(&since), "").await;
                assert_eq!(events(&told, &at), [&gone], "{told}");
                let (status, _) = alice.get(&path).await;
                assert_eq!(status, StatusCode::NOT_FOUND);
                let fresh = alice.sync(None, "").await;
                let is_note = |data: &&Value| data["type"] == "org.test.note";
                assert!(!events(&fresh, &at).iter().any(is_note), "{fresh}");
            }
        }
        let path = format!("{global}/m.fully_read");
        assert_eq!(delete(&alice, &path).await, StatusCode::METHOD_NOT_ALLOWED);
    })
    .await;
}

#[tokio::test]
async fn replaced_and_redacted_events_say_so() {
    story(|server| async move {
        let alice = server.register("alice").await;
        let room = alice
            .create(json!({"preset": "public_chat", "name": "One"}))
            .await;
        let since = next(&alice.sync(None, "").await);
        alice
            .set_state(&room, "m.room.name", "", json!({"name": "Two"}))
            .await;
        let told = alice.sync(Some(&since), "").await;
        let renamed = events(&told, &["rooms", "join", &room, "timeline", "events"])[0].clone();
        assert_eq!(renamed["unsigned"]["prev_content"], json!({"name": "One"}));
        assert_eq!(renamed["unsigned"]["membership"], "join");
        let said = alice.say(&room, "oops").await;
        let path = format!("/rooms/{}/redact/{}/r1", esc(&room), esc(&said));
        alice
            .ok(Method::PUT, &path, json!({"reason": "typo"}))
            .await;
        let event = alice
            .read(&format!("/rooms/{}/event/{}", esc(&room), esc(&said)))
            .await;
        assert_eq!(event["content"], json!({}));
        assert_eq!(
            event["unsigned"]["redacted_because"]["redacts"],
            said.as_str()
        );
        assert_eq!(
            event["unsigned"]["redacted_because"]["content"]["redacts"],
            said.as_str()
        );
        let told = alice.sync(Some(&next(&told)), "").await;
        let shown = events(&told, &["rooms", "join", &room, "timeline", "events"]);
        assert_eq!(shown[0]["content"], json!({}));
        assert_eq!(shown[1]["type"], "m.room.redaction");
    })
    .await;
}

/// What a client believes of the rooms, from nothing but `/sync`.
#[derive(Default)]
struct Model {
    since: Option<String>,
    state: BTreeMap<String, BTreeMap<(String, String), String>>,
    timeline: BTreeMap<String, Vec<String>>,
}

impl Model {
    async fn catch_up(&mut self, user: &User, query: &str) {
        let sync = user.sync(self.since.as_deref(), query).await;
        self.since = Some(next(&sync));
        let empty = serde_json::Map::new();
        for (room, part) in sync["rooms"]["join"].as_object().unwrap_or(&empty) {
            let after = part.get("state_after");
            let mut apply = |event: &Value| {
                let Some(key) = event["state_key"].as_str() else {
                    return;
                };
                let key = (event["type"].as_str().unwrap().to_owned(), key.to_owned());
                let state = self.state.entry(room.clone()).or_default();
                state.insert(key, event["event_id"].as_str().unwrap().to_owned());
            };
            for event in after.or(part.get("state")).unwrap()["events"]
                .as_array()
                .unwrap()
            {
                apply(event);
            }
            if part["timeline"]["limited"] == true {
                self.timeline.remove(room);
            }
            for event in part["timeline"]["events"].as_array().unwrap() {
                if after.is_none() {
                    apply(event);
                }
                let id = event["event_id"].as_str().unwrap().to_owned();
                let seen = self.timeline.entry(room.clone()).or_default();
                assert!(!seen.contains(&id), "an event was told twice");
                seen.push(id);
            }
        }
        for room in sync["rooms"]["leave"].as_object().unwrap_or(&empty).keys() {
            self.state.remove(room);
            self.timeline.remove(room);
        }
    }
}

async fn state_of(user: &User, room: &str) -> BTreeMap<(String, String), String> {
    let state = user.read(&format!("/rooms/{}/state", esc(room))).await;
    let events = state.as_array().unwrap().iter();
    events
        .map(|event| {
            let text = |field: &str| event[field].as_str().unwrap().to_owned();
            ((text("type"), text("state_key")), text("event_id"))
        })
        .collect()
}

#[tokio::test]
async fn whatever_happens_a_client_ends_with_the_servers_state() {
    story(|server| live(server, 120)).await;
}

#[tokio::test]
async fn the_same_when_the_log_has_left_memory() {
    for database in TestDatabase::both().await {
        let options = Options {
            tail_entries: 5,
            cached_events: 20,
            ..database.options()
        };
        let store = Store::open(options).await.unwrap();
        live(Server::new(store.clone()), 60).await;
        store.close().await;
        database.remove().await;
    }
}

/// Random operations in two rooms, and clients that look now and then.
async fn live(server: Server, steps: usize) {
    let (alice, bob) = (server.register("alice").await, server.register("bob").await);
    let carol = server.register("carol").await;
    let rooms = [alice.create_public().await, alice.create_public().await];
    let narrow = filter(&json!({"room": {"timeline": {"limit": 2}}}));
    let hiding =
        filter(&json!({"room": {"timeline": {"limit": 3, "not_types": ["m.room.topic"]}}}));
    let queries = [
        (narrow.clone(), Model::default()),
        (hiding, Model::default()),
        (format!("{narrow}&use_state_after=true"), Model::default()),
    ];
    // Three devices of bob, so that each has its own past.
    let mut readers = Vec::new();
    for (query, model) in queries {
        readers.push((bob.another_device().await, query, model));
    }
    let mut seed = 4711_u64;
    let mut random = move |below: u64| {
        seed = seed
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) % below
    };
    let mut inside = [false; 2];
    for step in 0..steps {
        let at = usize::try_from(random(2)).unwrap();
        let room = &rooms[at];
        match random(8) {
            0 if inside[at] => {
                bob.leave(room).await;
                inside[at] = false;
            }
            0 | 1 if !inside[at] => {
                bob.join(room).await;
                inside[at] = true;
            }
            2 => drop(
                alice
                    .set_state(room, "m.room.topic", "", json!({"topic": step.to_string()}))
                    .await,
            ),
            3 => drop(
                alice
                    .set_state(room, "org.test", &random(3).to_string(), json!({"n": step}))
                    .await,
            ),
            4 => {
                let (status, _) = carol
                    .call(
                        Method::POST,
                        &format!("/rooms/{}/join", esc(room)),
                        Some(json!({})),
                    )
                    .await;
                assert!(status == StatusCode::OK);
            }
            5 => drop(
                carol
                    .call(
                        Method::POST,
                        &format!("/rooms/{}/leave", esc(room)),
                        Some(json!({})),
                    )
                    .await,
            ),
            6 => {
                let path = format!("/profile/{}/displayname", esc(&carol.id));
                carol
                    .ok(Method::PUT, &path, json!({"displayname": step.to_string()}))
                    .await;
            }
            _ => drop(alice.say(room, &step.to_string()).await),
        }
        let reader = usize::try_from(random(6)).unwrap();
        if let Some((user, query, model)) = readers.get_mut(reader) {
            model.catch_up(user, query).await;
        }
    }
    for (user, query, model) in &mut readers {
        model.catch_up(user, query).await;
        for (room, inside) in rooms.iter().zip(inside) {
            if inside {
                assert_eq!(model.state[room], state_of(user, room).await, "{query}");
            } else {
                assert!(!model.state.contains_key(room), "{query}");
            }
        }
    }
}

#[tokio::test]
async fn a_window_is_the_same_whichever_way_it_is_read() {
    story(|server| async move {
        let (alice, bob) = (server.register("alice").await, server.register("bob").await);
        let (room, other) = (alice.create_public().await, alice.create_public().await);
        bob.create_public().await;
        let store = &server.store;
        let after = store.log().head();
        bob.join(&room).await;
        alice
            .set_state(&room, "m.room.topic", "", json!({"topic": "x"}))
            .await;
        let said = bob.say(&room, "hello").await;
        bob.ok(
            Method::POST,
            &format!("/rooms/{}/receipt/m.read/{}", esc(&room), esc(&said)),
            json!({}),
        )
        .await;
        alice
            .ok(
                Method::PUT,
                &format!("/user/{}/account_data/a", esc(&alice.id)),
                json!({}),
            )
            .await;
        let in_room = format!(
            "/user/{}/rooms/{}/account_data/b",
            esc(&alice.id),
            esc(&other)
        );
        alice.ok(Method::PUT, &in_room, json!({})).await;
        let upto = store.log().head();
        let user = store
            .user_no(&ruma::UserId::parse(&alice.id).unwrap())
            .await
            .unwrap();
        let rows = store.memberships_of(user).await.unwrap();
        let tail = Window::read(store, user, &rows, after, upto).await.unwrap();
        let rooms = Window::read_by_room(store, user, &rows, after, upto)
            .await
            .unwrap();
        assert_eq!(tail.rooms.len(), 2);
        for (room, part) in &tail.rooms {
            let cold = &rooms.rooms[room];
            let nos = |events: &[Arc<StoredEvent>]| {
                events.iter().map(|event| event.no).collect::<Vec<_>>()
            };
            assert_eq!(nos(&part.events), nos(&cold.events));
            assert_eq!(
                (&part.changes, &part.members),
                (&cold.changes, &cold.members)
            );
            assert_eq!(
                (&part.receipts, &part.account_data),
                (&cold.receipts, &cold.account_data)
            );
            assert!(part.whole && cold.whole);
        }
        assert_eq!(tail.account_data, rooms.account_data);
        // Another process, whose tail begins now, reads the log from the database.
        let fresh = store.log().read(after, upto, 1_000).await.unwrap();
        assert_eq!(i64::try_from(fresh.len()).unwrap(), upto.0 - after.0);
    })
    .await;
}

#[tokio::test]
async fn nothing_is_lost_or_told_twice_while_many_write() {
    story(|server| async move {
        let alice = server.register("alice").await;
        let rooms = [alice.create_public().await, alice.create_public().await];
        let since = next(&alice.sync(None, "").await);
        let mut writers = Vec::new();
        for n in 0..4 {
            let (writer, rooms) = (server.register(&format!("writer{n}")).await, rooms.clone());
            writers.push(tokio::spawn(async move {
                let mut said = Vec::new();
                for (at, room) in rooms.iter().cycle().take(30).enumerate() {
                    if at < 2 {
                        writer.join(room).await;
                    }
                    said.push((room.clone(), writer.say(room, &at.to_string()).await));
                }
                said
            }));
        }
        let wide =
            filter(&json!({"room": {"timeline": {"limit": 500, "types": ["m.room.message"]}}}));
        let (mut since, mut seen) = (since, BTreeMap::<String, Vec<String>>::new());
        let mut told = 0;
        while told < 120 {
            let sync = alice
                .sync(Some(&since), &format!("&timeout=60000{wide}"))
                .await;
            since = next(&sync);
            for room in &rooms {
                let new = timeline(&sync, room);
                told += new.len();
                seen.entry(room.clone()).or_default().extend(new);
            }
        }
        for writer in writers {
            for (room, said) in writer.await.unwrap() {
                assert_eq!(seen[&room].iter().filter(|id| **id == said).count(), 1);
            }
        }
        // Each reader was told the order that the history has.
        for room in &rooms {
            let whole = alice
                .sync(
                    None,
                    &filter(&json!({"room": {"timeline": {"limit": 60,
                "types": ["m.room.message"]}, "rooms": [room]}})),
                )
                .await;
            assert_eq!(timeline(&whole, room), seen[room]);
        }
    })
    .await;
}

#[tokio::test]
async fn a_warm_incremental_sync_reads_nothing_from_the_database() {
    story(|server| async move {
        let (alice, bob) = (server.register("alice").await, server.register("bob").await);
        let room = alice.create_public().await;
        bob.join(&room).await;
        let lazy = filter(&json!({"room": {"state": {"lazy_load_members": true}}}));
        let first = alice.sync(None, &lazy).await;
        bob.say(&room, "warms").await;
        let warm = alice.sync(Some(&next(&first)), &lazy).await;
        let said = bob.say(&room, "hello").await;
        let before = server.store.counters().now();
        let told = alice.sync(Some(&next(&warm)), &lazy).await;
        let cost = server.store.counters().now() - before;
        assert_eq!(timeline(&told, &room), [said]);
        // Asking what other processes have written, at each request and by the clock, is all that a
        // shared database may cost.
        let asking = if server.store.dialect() == rhizome_storage::Dialect::Postgres {
            40
        } else {
            0
        };
        assert!(cost.queries <= asking, "{cost:?}");
        assert_eq!(cost.event_reads, 0);
    })
    .await;
}

#[tokio::test]
async fn a_herd_of_readers_costs_the_database_nothing() {
    story(|server| async move {
        let alice = server.register("alice").await;
        let room = alice.create_public().await;
        let mut herd = Vec::new();
        for n in 0..12 {
            let user = server.register(&format!("user{n}")).await;
            user.join(&room).await;
            herd.push(user);
        }
        let mut told: Vec<String> = Vec::new();
        for user in &herd {
            told.push(next(&user.sync(None, "").await));
        }
        // What sending costs by itself.
        alice.say(&room, "warms").await;
        let before = server.store.counters().now();
        alice.say(&room, "alone").await;
        let alone = server.store.counters().now() - before;

        let mut since = Vec::new();
        for (user, token) in herd.iter().zip(&told) {
            since.push(next(&user.sync(Some(token), "").await));
        }
        let mut polls = Vec::new();
        for (user, since) in herd.iter().cloned().zip(since) {
            polls.push(tokio::spawn(async move {
                user.sync(Some(&since), "&timeout=60000").await
            }));
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
        let before = server.store.counters().now();
        let said = alice.say(&room, "to all").await;
        for poll in polls {
            assert_eq!(
                timeline(&poll.await.unwrap(), &room),
                std::slice::from_ref(&said)
            );
        }
        let cost = server.store.counters().now() - before;
        assert!(cost.wake_ups <= 12, "{cost:?}");
        assert_eq!(cost.event_reads, 0);
        // Asking what other processes have written is all that a reader of a shared database costs.
        let shared = server.store.dialect() == rhizome_storage::Dialect::Postgres;
        let refreshes = if shared { 2 * 12 } else { 0 };
        assert!(
            cost.queries <= alone.queries + refreshes,
            "{cost:?} {alone:?}"
        );
    })
    .await;
}
