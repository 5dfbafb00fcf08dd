//! `/sync`.

use http::{Method, StatusCode};
use rhizome_storage::testing::soon;
use serde_json::{Value, json};

use crate::harness::{esc, events, filter, ids, next, story, timeline};

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

        let waiting = alice.poll(&since).await;
        let before = server.store.counters().now();
        bob.say(&foreign, "not for alice").await;
        assert_eq!((server.store.counters().now() - before).wake_ups, 0);
        let said = bob.say(&shared, "for alice").await;
        assert_eq!((server.store.counters().now() - before).wake_ups, 1);
        let woken = soon("it wakes", waiting).await.unwrap();
        assert_eq!(timeline(&woken, &shared), [said]);

        // Nothing happens: it waits, then there is an answer with the token to go on.
        let before = server.store.counters().now();
        let empty = alice.sync(Some(&next(&woken)), "&timeout=100").await;
        assert_eq!((server.store.counters().now() - before).waits, 1);
        assert!(empty.get("rooms").is_none());

        // The end of the server answers at once.
        let waiting = alice.poll(&next(&empty)).await;
        server.shutdown.cancel();
        soon("it is answered", waiting).await.unwrap();
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
        let waiting = bob.poll(&since).await;
        alice.invite(&room, &bob).await;
        let invited = soon("it wakes", waiting).await.unwrap();
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
        let waiting = bob.poll(&since).await;
        bob.ok(
            Method::PUT,
            &format!("/user/{}/account_data/m.test", esc(&bob.id)),
            json!({"a": 1}),
        )
        .await;
        let told = soon("it wakes", waiting).await.unwrap();
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
async fn who_types_needn_t_say_for_how_long() {
    story(|server| async move {
        let (alice, bob) = (server.register("alice").await, server.register("bob").await);
        let room = alice.create_public().await;
        bob.join(&room).await;
        let since = next(&alice.sync(None, "").await);
        let typing = format!("/rooms/{}/typing/{}", esc(&room), esc(&bob.id));
        bob.ok(Method::PUT, &typing, json!({"typing": true})).await;
        let told = alice.sync(Some(&since), "&timeout=60000").await;
        assert_eq!(
            told["rooms"]["join"][&room]["ephemeral"]["events"],
            json!([{"type": "m.typing", "content": {"user_ids": [bob.id]}}])
        );
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
        for wrong in [
            json!({}),
            json!({"typing": 1}),
            json!({"typing": true, "timeout": "long"}),
            json!({"typing": true, "timeout": -1}),
        ] {
            let (status, error) = bob.call(Method::PUT, &typing, Some(wrong)).await;
            assert_eq!(
                (status.as_u16(), &error["errcode"]),
                (400, &json!("M_BAD_JSON"))
            );
        }
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
