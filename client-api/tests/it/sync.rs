//! `/sync`.

use http::Method;
use rhizome_storage::testing::soon;
use serde_json::json;

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
