//! Stories of rooms on several servers: joining, inviting, leaving, being cut off.

use rhizome_protocol::Membership;
use rhizome_rooms::membership::Action;
use rhizome_storage::Status;
use ruma::{RoomVersionId, room_id};
use serde_json::json;

use crate::world::{ALL_VERSIONS, VERSIONS, each, eventually, json_of, same_state};

#[tokio::test(flavor = "multi_thread")]
async fn a_join_across_and_messages_both_ways() {
    each(2, async |world| {
        let (a, b) = world.two();
        let (alice, bob) = (a.user("alice"), b.user("bob"));
        for version in &ALL_VERSIONS {
            let room = a.create(&alice, version).await;
            a.say(&alice, &room, "before").await;
            b.join(&bob, &room, a).await.unwrap();
            assert_eq!(b.membership(&room, &bob).await, Some(Membership::Join));
            assert_eq!(a.membership(&room, &bob).await, Some(Membership::Join));
            assert_eq!(a.state(&room).await, b.state(&room).await);

            a.say(&alice, &room, "hello").await;
            eventually("bob hears", async || b.heard(&room).await == ["hello"]).await;
            b.say(&bob, &room, "hi").await;
            eventually("alice hears", async || {
                a.heard(&room).await == ["before", "hello", "hi"]
            })
            .await;
            // Joining again changes nothing; a second user of the server joins locally.
            let state = b.state(&room).await;
            b.join(&bob, &room, a).await.unwrap();
            assert_eq!(b.state(&room).await, state);
            b.join(&b.user("bea"), &room, a).await.unwrap();
            same_state(a, b, &room).await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_join_one_room_at_once() {
    each(2, async |world| {
        let (a, b) = world.two();
        let room = a.create(&a.user("alice"), &RoomVersionId::V12).await;
        let users: Vec<_> = (0..5).map(|n| b.user(&format!("user{n}"))).collect();
        let joins = users.iter().map(|user| b.join(user, &room, a));
        for joined in futures_util::future::join_all(joins).await {
            joined.unwrap();
        }
        same_state(a, b, &room).await;
        for user in &users {
            assert_eq!(a.membership(&room, user).await, Some(Membership::Join));
        }
        let through_door = world
            .network
            .requests()
            .into_iter()
            .filter(|(_, line)| line.contains("/send_join/"))
            .count();
        assert_eq!(through_door, 1);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_third_server_joins_through_the_second() {
    each(3, async |world| {
        let (a, b, c) = (world.server(0), world.server(1), world.server(2));
        let (alice, bob, carol) = (a.user("alice"), b.user("bob"), c.user("carol"));
        let room = a.create(&alice, &RoomVersionId::V11).await;
        b.join(&bob, &room, a).await.unwrap();
        c.join(&carol, &room, b).await.unwrap();
        same_state(a, c, &room).await;
        same_state(a, b, &room).await;
        c.say(&carol, &room, "I'm here").await;
        for server in [a, b] {
            eventually("carol is heard", async || {
                server.heard(&room).await == ["I'm here"]
            })
            .await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn leave_kick_and_ban_across() {
    each(2, async |world| {
        let (a, b) = world.two();
        let (alice, bob) = (a.user("alice"), b.user("bob"));
        for version in &VERSIONS {
            let room = a.create(&alice, version).await;
            b.join(&bob, &room, a).await.unwrap();
            b.leave(&bob, &room).await.unwrap();
            eventually("alice sees bob leave", async || {
                a.membership(&room, &bob).await == Some(Membership::Leave)
            })
            .await;

            // Back in: the room's state is taken anew.
            a.send(
                &alice,
                &room,
                "m.room.topic",
                Some(""),
                json!({ "topic": "news" }),
            )
            .await
            .unwrap();
            b.join(&bob, &room, a).await.unwrap();
            same_state(a, b, &room).await;

            a.change(&alice, &room, &bob, Action::Kick).await.unwrap();
            eventually("bob is kicked", async || {
                b.membership(&room, &bob).await == Some(Membership::Leave)
            })
            .await;
            b.join(&bob, &room, a).await.unwrap();
            a.change(&alice, &room, &bob, Action::Ban).await.unwrap();
            eventually("bob is banned", async || {
                b.membership(&room, &bob).await == Some(Membership::Ban)
            })
            .await;
            let refused = b.join(&bob, &room, a).await.unwrap_err();
            assert_eq!(
                (refused.status.as_u16(), refused.errcode.as_ref()),
                (403, "M_FORBIDDEN")
            );
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_was_cut_off_catches_up() {
    each(2, async |world| {
        let (a, b) = world.two();
        let (alice, bob) = (a.user("alice"), b.user("bob"));
        let room = a.create(&alice, &RoomVersionId::V12).await;
        b.join(&bob, &room, a).await.unwrap();
        world.network.cut(&b.name);
        world.network.cut(&a.name);
        for n in 0..70 {
            a.say(&alice, &room, &format!("a{n}")).await;
        }
        a.send(
            &alice,
            &room,
            "m.room.topic",
            Some(""),
            json!({ "topic": "theirs" }),
        )
        .await
        .unwrap();
        b.say(&bob, &room, "b0").await;
        world.network.mend(&b.name);
        world.network.mend(&a.name);
        eventually("both have everything", async || {
            a.heard(&room).await.len() == 71 && b.heard(&room).await.len() == 71
        })
        .await;
        same_state(a, b, &room).await;
        // The fork has healed: the next event has both ends before it.
        let last = a.say(&alice, &room, "end").await;
        eventually("the end arrives", async || b.event(&last).await.is_some()).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fork_of_state_resolves_alike() {
    each(2, async |world| {
        let (a, b) = world.two();
        let (alice, bob) = (a.user("alice"), b.user("bob"));
        for version in &VERSIONS {
            let room = a.create(&alice, version).await;
            b.join(&bob, &room, a).await.unwrap();
            let mut levels = a
                .event(&a.state(&room).await[&("m.room.power_levels".into(), String::new())])
                .await
                .unwrap()
                .pdu
                .content()
                .clone();
            levels
                .get_mut("users")
                .unwrap()
                .as_object_mut()
                .unwrap()
                .insert(bob.to_string(), 50.into());
            a.send(
                &alice,
                &room,
                "m.room.power_levels",
                Some(""),
                levels.into(),
            )
            .await
            .unwrap();
            same_state(a, b, &room).await;

            world.network.cut(&a.name);
            world.network.cut(&b.name);
            a.send(
                &alice,
                &room,
                "m.room.topic",
                Some(""),
                json!({ "topic": "a" }),
            )
            .await
            .unwrap();
            b.send(
                &bob,
                &room,
                "m.room.topic",
                Some(""),
                json!({ "topic": "b" }),
            )
            .await
            .unwrap();
            b.send(&bob, &room, "m.room.name", Some(""), json!({ "name": "b" }))
                .await
                .unwrap();
            a.say(&alice, &room, "alone").await;
            world.network.mend(&a.name);
            world.network.mend(&b.name);
            same_state(a, b, &room).await;
            let end = b.say(&bob, &room, "together").await;
            eventually("it arrives", async || a.event(&end).await.is_some()).await;
            same_state(a, b, &room).await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_banned_say_meanwhile_is_withheld_and_not_kept() {
    each(2, async |world| {
        let (a, b) = world.two();
        let (alice, bob) = (a.user("alice"), b.user("bob"));
        let room = a.create(&alice, &RoomVersionId::V12).await;
        b.join(&bob, &room, a).await.unwrap();
        world.network.cut(&b.name);
        world.network.cut(&a.name);
        a.change(&alice, &room, &bob, Action::Ban).await.unwrap();
        let unheard = b.say(&bob, &room, "not knowing").await;
        world.network.mend(&a.name);
        // Its server isn't told, and can't fill our disk with such. Who builds on it makes us fetch it.
        let event = b.event(&unheard).await.unwrap();
        let told = b.transaction(a, "again", &[json_of(&event.pdu)], &[]).await;
        assert_eq!(told, json!({ &unheard: {} }));
        assert!(a.event(&unheard).await.is_none());
        assert!(a.heard(&room).await.is_empty());
        world.network.mend(&b.name);
        eventually("bob hears of it", async || {
            b.membership(&room, &bob).await == Some(Membership::Ban)
        })
        .await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn history_from_before_the_join_is_fetched() {
    each(2, async |world| {
        let (a, b) = world.two();
        let (alice, bob) = (a.user("alice"), b.user("bob"));
        for version in &VERSIONS {
            let room = a.create(&alice, version).await;
            let mut said = Vec::new();
            for n in 0..30 {
                said.push(a.say(&alice, &room, &format!("m{n}")).await);
                if n % 10 == 0 {
                    let topic = json!({ "topic": format!("t{n}") });
                    a.send(&alice, &room, "m.room.topic", Some(""), topic)
                        .await
                        .unwrap();
                }
            }
            b.join(&bob, &room, a).await.unwrap();
            assert!(b.event(&said[29]).await.is_none());
            let state = b.state(&room).await;
            let mut pages = 0;
            while b.backfill(&room, 10).await {
                pages += 1;
                assert!(pages < 20, "it ends");
            }
            assert!(pages >= 4, "{pages} pages");
            for (n, id) in said.iter().enumerate() {
                let event = b.event(id).await.unwrap_or_else(|| panic!("m{n} is there"));
                assert_eq!(event.status, Status::Accepted);
                assert!(event.order.unwrap() < 0, "it is history, not news");
            }
            assert!(b.heard(&room).await.is_empty());
            assert_eq!(b.state(&room).await, state);
            let no = b.store().room(&room).await.unwrap().unwrap().room;
            assert!(
                b.store()
                    .missing_prev_events(no, 10)
                    .await
                    .unwrap()
                    .is_empty()
            );
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_to_join_through() {
    each(2, async |world| {
        let (a, b) = world.two();
        let bob = b.user("bob");
        let nowhere = room_id!("!nowhere");
        assert_eq!(b.join(&bob, nowhere, b).await.unwrap_err().status, 404);
        assert_eq!(b.join(&bob, nowhere, a).await.unwrap_err().status, 404);
        let room = a.create(&a.user("alice"), &RoomVersionId::V12).await;
        world.network.cut(&a.name);
        assert_eq!(b.join(&bob, &room, a).await.unwrap_err().status, 502);
        world.network.mend(&a.name);
        b.join(&bob, &room, a).await.unwrap();
    })
    .await;
}
