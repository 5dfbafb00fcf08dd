//! Filters and lazy loading in /sync.

use http::{Method, StatusCode};
use serde_json::{Value, json};

use crate::harness::{esc, events, filter, ids, next, story, timeline};

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
