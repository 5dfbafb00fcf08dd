//! What users have set up for a room goes along to the one that replaces it.

use http::Method;
use rhizome_client_api::CarrySettings;
use rhizome_storage::{LogWork as _, Pos, Stretch, testing::eventually};
use serde_json::{Value, json};

use crate::{
    e2ee::several::several,
    harness::{Server, User, esc, story},
    unread::rule,
};

/// What the reader does with all that has happened since a position; gives where that ends.
async fn carried(server: &Server, after: Pos) -> Pos {
    let store = &server.store;
    let upto = store.log().head();
    let entries = store.log().read(after, upto, 10_000).await.unwrap();
    let stretch = Stretch {
        entries,
        after,
        upto,
        failures: 0,
    };
    let name = server.federation.server_name().to_owned();
    CarrySettings::new(store, name)
        .work(&stretch)
        .await
        .unwrap();
    upto
}

async fn set_up(user: &User, room: &str) {
    rule(
        user,
        &format!("room/{}", esc(room)),
        json!({ "actions": ["dont_notify"] }),
    )
    .await;
    let condition = json!({ "kind": "event_match", "key": "room_id", "pattern": room });
    let mute = json!({ "conditions": [condition], "actions": [] });
    rule(user, &format!("override/{}", esc(room)), mute).await;
    user.ok(
        Method::PUT,
        &tags(user, room),
        json!({ "tags": { "m.favourite": {} } }),
    )
    .await;
}

fn tags(user: &User, room: &str) -> String {
    format!(
        "/user/{}/rooms/{}/account_data/m.tag",
        esc(&user.id),
        esc(room)
    )
}

/// Whether all that was set up is there for a room, or nothing of it.
async fn has(user: &User, room: &str) -> bool {
    let get = async |path: String| user.get(&path).await;
    let of_room = get(format!("/pushrules/global/room/{}", esc(room))).await;
    let mute = get(format!("/pushrules/global/override/{}", esc(room))).await;
    let tags = get(tags(user, room)).await;
    let found = [&of_room, &mute, &tags].map(|(status, _)| status.is_success());
    assert!(found.iter().all(|one| *one == found[0]), "{found:?}");
    if found[0] {
        assert_eq!(of_room.1["actions"], json!(["dont_notify"]));
        assert_eq!(mute.1["conditions"][0]["pattern"], json!(room));
        assert_eq!(tags.1, json!({ "tags": { "m.favourite": {} } }));
    }
    found[0]
}

async fn successor(user: &User, old: &str) -> String {
    let content = json!({ "predecessor": { "room_id": old } });
    user.create(json!({ "preset": "public_chat", "creation_content": content }))
        .await
}

async fn replace(user: &User, old: &str, new: &str) {
    let tombstone = json!({ "body": "gone", "replacement_room": new });
    user.set_state(old, "m.room.tombstone", "", tombstone).await;
}

#[tokio::test]
async fn who_is_in_the_new_room_has_what_they_had_set_up_for_the_old_one() {
    story(|server| async move {
        let (alice, bob) = (server.register("alice").await, server.register("bob").await);
        let carol = server.register("carol").await;
        let old = alice.create_public().await;
        for user in [&bob, &carol] {
            user.join(&old).await;
        }
        for user in [&alice, &bob, &carol] {
            set_up(user, &old).await;
        }
        let new = successor(&alice, &old).await;
        let at = carried(&server, Pos(0)).await;
        assert!(!has(&alice, &new).await);
        // Whoever is there already, when the old room says so; the others as they come.
        replace(&alice, &old, &new).await;
        let at = carried(&server, at).await;
        assert!(has(&alice, &new).await);
        assert!(!has(&bob, &new).await);
        bob.join(&new).await;
        let at = carried(&server, at).await;
        assert!(has(&bob, &new).await);
        assert!(has(&bob, &old).await);
        assert!(!has(&carol, &new).await);
        // What they decide for the new room stays, although it is done again and they change their name.
        bob.ok(
            Method::DELETE,
            &format!("/pushrules/global/room/{}", esc(&new)),
            Value::Null,
        )
        .await;
        bob.ok(
            Method::DELETE,
            &format!("/pushrules/global/override/{}", esc(&new)),
            Value::Null,
        )
        .await;
        bob.ok(Method::PUT, &tags(&bob, &new), json!({})).await;
        let name = format!("/profile/{}/displayname", esc(&bob.id));
        bob.ok(Method::PUT, &name, json!({ "displayname": "Bob" }))
            .await;
        carried(&server, at).await;
        assert!(!has(&bob, &new).await);
    })
    .await;
}

#[tokio::test]
async fn a_room_that_only_says_itself_that_it_replaces_another_gets_nothing() {
    story(|server| async move {
        let (alice, mallory) = (
            server.register("alice").await,
            server.register("mallory").await,
        );
        let old = alice.create_public().await;
        mallory.join(&old).await;
        set_up(&alice, &old).await;
        let new = successor(&mallory, &old).await;
        alice.join(&new).await;
        let other = alice.create_public().await;
        replace(&alice, &old, &other).await;
        carried(&server, Pos(0)).await;
        assert!(!has(&alice, &new).await);
        assert!(!has(&alice, &other).await);
    })
    .await;
}

#[tokio::test]
async fn rooms_of_other_servers_are_upgraded_as_well() {
    several(2, async |all| {
        let alice = all.server(0).register("alice").await;
        let (bob, dan) = (
            all.server(1).register("bob").await,
            all.server(1).register("dan").await,
        );
        let old = alice.create_public().await;
        for user in [&bob, &dan] {
            assert!(all.join(user, &old).await);
            set_up(user, &old).await;
        }
        let new = successor(&alice, &old).await;
        // One comes before the old room's end is known here, the other after it.
        assert!(all.join(&bob, &new).await);
        let at = carried(all.server(1), Pos(0)).await;
        assert!(!has(&bob, &new).await);
        replace(&alice, &old, &new).await;
        eventually("the tombstone is known", async || {
            let state = format!("/rooms/{}/state/m.room.tombstone/", esc(&old));
            bob.get(&state).await.0.is_success()
        })
        .await;
        let at = carried(all.server(1), at).await;
        assert!(has(&bob, &new).await);
        assert!(all.join(&dan, &new).await);
        carried(all.server(1), at).await;
        assert!(has(&dan, &new).await);

        // And who comes as the first of their server.
        let erin = all.server(1).register("erin").await;
        let old = alice.create_public().await;
        assert!(all.join(&erin, &old).await);
        set_up(&erin, &old).await;
        let new = successor(&alice, &old).await;
        replace(&alice, &old, &new).await;
        eventually("the tombstone is known", async || {
            let state = format!("/rooms/{}/state/m.room.tombstone/", esc(&old));
            erin.get(&state).await.0.is_success()
        })
        .await;
        assert!(all.join(&erin, &new).await);
        carried(all.server(1), Pos(0)).await;
        assert!(has(&erin, &new).await);
    })
    .await;
}
