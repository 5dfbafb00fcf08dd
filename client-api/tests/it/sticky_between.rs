//! Sticky events (MSC4354) between servers: to those in the room, to those that come later, and what a room's state
//! allows only later.

use http::Method;
use serde_json::{Value, json};

use crate::e2ee::several::several;
use crate::harness::{User, esc, events, filter, ids, next, timeline};
use crate::peer::{self, BOB, room_of};
use crate::sticky::{stick, stuck};

/// Syncs until all of these have come, beside the timeline or in it; gives those beside it.
async fn comes(user: &User, since: Option<String>, room: &str, wanted: &[String]) -> Vec<String> {
    let (mut at, mut beside, mut all) = (since, Vec::new(), Vec::new());
    for _ in 0..50 {
        let told = user.sync(at.as_deref(), "&timeout=20000").await;
        beside.extend(stuck(&told, room));
        all.extend(stuck(&told, room));
        all.extend(timeline(&told, room));
        if wanted.iter().all(|id| all.contains(id)) {
            let mut once = all.clone();
            once.sort();
            once.dedup();
            assert_eq!(once.len(), all.len(), "each comes once: {all:?}");
            return beside;
        }
        at = Some(next(&told));
    }
    panic!("{wanted:?} never comes, but {all:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sticky_event_goes_to_other_servers_as_it_is() {
    several(2, async |all| {
        let alice = all.server(0).register("alice").await;
        let bob = all.server(1).register("bob").await;
        let room = alice.create_public().await;
        assert!(all.join(&bob, &room).await);
        let since = next(&bob.sync(None, "").await);
        let sticky = stick(&alice, &room, "1", 600_000).await;
        comes(
            &bob,
            Some(since.clone()),
            &room,
            std::slice::from_ref(&sticky),
        )
        .await;
        for n in 0..3 {
            let said = alice.say(&room, &n.to_string()).await;
            comes(&bob, Some(since.clone()), &room, &[said]).await;
        }
        let few = filter(&json!({ "room": { "timeline": { "limit": 1 } } }));
        let whole = bob.sync(None, &few).await;
        assert_eq!(stuck(&whole, &room), [sticky]);
        let told = events(
            &whole,
            &["rooms", "join", &room, "msc4354_sticky", "events"],
        );
        assert_eq!(told[0]["msc4354_sticky"], json!({ "duration_ms": 600_000 }));
    })
    .await;
}

/// They are from before it came, so it has to ask what they rest on.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_comes_later_gets_what_is_sticky() {
    several(3, async |all| {
        let alice = all.server(0).register("alice").await;
        let bob = all.server(1).register("bob").await;
        let carol = all.server(2).register("carol").await;
        let hidden = json!([{ "type": "m.room.history_visibility", "content": { "history_visibility": "joined" } }]);
        let room = json!({ "preset": "public_chat", "initial_state": hidden });
        let room = alice.create(room).await;
        let mut sticky = vec![stick(&alice, &room, "1", 3_600_000).await];
        let over = stick(&alice, &room, "over", 1).await;
        for n in 0..5 {
            alice.say(&room, &n.to_string()).await;
        }
        sticky.push(stick(&alice, &room, "2", 3_600_000).await);
        assert!(all.join(&bob, &room).await);
        let beside = comes(&bob, None, &room, &sticky).await;
        assert_eq!(beside.len(), 2, "they are no news of the room");
        // Each server tells of its own.
        let bobs = stick(&bob, &room, "3", 3_600_000).await;
        comes(&alice, None, &room, std::slice::from_ref(&bobs)).await;
        assert!(all.join(&carol, &room).await);
        sticky.push(bobs);
        let beside = comes(&carol, None, &room, &sticky).await;
        assert!(!beside.contains(&over));
    })
    .await;
}

/// Another server may say of as many as it likes that they are sticky.
#[tokio::test(flavor = "multi_thread")]
async fn of_a_stranger_only_so_many_are_sticky() {
    peer::story(|ada, peer, room| async move {
        let at = room_of(&room);
        let store = ada.server.store.clone();
        let no = store.room(&at).await.unwrap().unwrap().room;
        let bob = BOB.try_into().unwrap();
        let bob = store.known_user(bob).await.unwrap().unwrap();
        let held = async || {
            let all = store
                .sticky_of(&[(no, bob)], false, 0, 1_000)
                .await
                .unwrap();
            let refused = all.iter().filter(|one| !one.allowed).count();
            (all.len(), refused)
        };
        let mut refused = Vec::new();
        for _ in 0..12 {
            refused.push(peer.stick(&at).await);
        }
        let path = format!("/rooms/{}/state/m.room.power_levels/", esc(&room));
        let mut levels = ada.read(&path).await;
        for least in [50, 0] {
            levels["events_default"] = json!(least);
            let set = ada.set_state(&room, "m.room.power_levels", "", levels.clone());
            let set = set.await;
            for event in refused.drain(..) {
                peer.push(&event).await;
            }
            peer.hears(&set).await;
        }
        assert_eq!(held().await, (10, 10));
        for _ in 0..95 {
            let event = peer.stick(&at).await;
            peer.push(&event).await;
        }
        assert_eq!(held().await, (100, 10));
        peer
    })
    .await;
}

/// What the room's state refuses isn't told, until it doesn't any more.
#[tokio::test(flavor = "multi_thread")]
async fn what_the_room_comes_to_allow_is_told_then() {
    peer::story(|ada, peer, room| async move {
        let at = room_of(&room);
        let sticky = peer.stick(&at).await;
        let path = format!("/rooms/{}/state/m.room.power_levels/", esc(&room));
        let mut levels = ada.read(&path).await;
        levels["events_default"] = json!(50);
        ada.set_state(&room, "m.room.power_levels", "", levels.clone())
            .await;
        let since = next(&ada.sync(None, "").await);
        peer.push(&sticky).await;
        let none = ada.sync(Some(&since), "").await;
        assert!(none.get("rooms").is_none(), "{none}");
        assert!(stuck(&ada.sync(None, "").await, &room).is_empty());

        levels["events_default"] = json!(0);
        let allowed = ada
            .set_state(&room, "m.room.power_levels", "", levels)
            .await;
        peer.hears(&allowed).await;
        let profile = json!({ "membership": "join", "displayname": "Bob" });
        let renamed = peer.send(&at, "m.room.member", Some(BOB), profile).await;
        peer.push(&renamed).await;
        let wanted = [sticky.clone(), renamed];
        let beside = comes(&ada, Some(since), &room, &wanted).await;
        assert_eq!(beside, std::slice::from_ref(&sticky));
        assert_eq!(
            stuck(&ada.sync(None, "").await, &room),
            std::slice::from_ref(&sticky)
        );
        // It is no part of the room's history for that.
        let path = format!("/rooms/{}/event/{}", esc(&room), esc(&sticky));
        let (status, _): (_, Value) = ada.call(Method::GET, &path, None).await;
        assert_eq!(status.as_u16(), 404);
        let page = ada
            .read(&format!("/rooms/{}/messages?dir=b&limit=100", esc(&room)))
            .await;
        assert!(!ids(&events(&page, &["chunk"])).contains(&sticky));
        peer
    })
    .await;
}
