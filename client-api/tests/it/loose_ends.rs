//! Events that only tie up a room's loose ends say nothing to clients.

use serde_json::{Value, json};

use crate::harness::{User, esc, events, ids, next, story, timeline};

const DUMMY: &str = "org.matrix.dummy_event";

/// How many messages of a room its reader hasn't read.
async fn unread(user: &User, room: &str) -> Value {
    let told = user.sync(None, "").await;
    told["rooms"]["join"][room]["unread_notifications"]["notification_count"].clone()
}

#[tokio::test]
async fn clients_are_not_shown_what_says_nothing() {
    story(|server| async move {
        let (alice, bob) = (server.register("alice").await, server.register("bob").await);
        let room = alice.create_public().await;
        bob.join(&room).await;
        let since = next(&alice.sync(None, "").await);
        let first = bob.say(&room, "first").await;
        assert_eq!(unread(&alice, &room).await, 1);
        // One of hers doesn't say that she has read anything, one of his isn't anything to read.
        let hers = alice.send(&room, DUMMY, json!({})).await;
        let his = bob.send(&room, DUMMY, json!({})).await;
        assert_eq!(unread(&alice, &room).await, 1);
        let last = bob.say(&room, "last").await;
        assert_eq!(unread(&alice, &room).await, 2);

        let told = alice.sync(Some(&since), "").await;
        assert_eq!(timeline(&told, &room), [first.clone(), last.clone()]);
        for reader in [&alice, &bob] {
            let shown = timeline(&reader.sync(None, "").await, &room);
            let path = format!("/rooms/{}/messages?dir=b&limit=50", esc(&room));
            let page = reader.read(&path).await;
            for told in [shown, ids(&events(&page, &["chunk"]))] {
                assert!(told.contains(&first) && told.contains(&last), "{told:?}");
                assert!(!told.contains(&hers) && !told.contains(&his), "{told:?}");
            }
            for id in [&hers, &his] {
                let path = format!("/rooms/{}/event/{}", esc(&room), esc(id));
                let (status, _) = reader.get(&path).await;
                assert_eq!(status.as_u16(), 404);
            }
        }
    })
    .await;
}
