//! A member lies about what was before its events: without end, in a circle, to each server something else.

use http::StatusCode;
use rhizome_protocol::{Membership, Pdu};
use rhizome_rooms::membership::Action;
use ruma::{OwnedEventId, RoomId, RoomVersionId};
use serde_json::{Value, json};

use crate::{
    doors::levels,
    inbound::{forge, forge_message, newest},
    mean::{Mean, json_answer},
    mean_events::standing,
    mean_flood::nowhere,
    mean_strangers::remade,
    world::{Server, each, eventually, json_of, room_of, same_state, still},
};

/// The mean server gives these events one by one, and the state of now where it is asked for one.
async fn gives(mean: &Mean, server: &Server, room: &RoomId, events: &[Pdu]) {
    let state: Vec<OwnedEventId> = server.state(room).await.into_values().collect();
    let told = json!({ "pdu_ids": state, "auth_chain_ids": state });
    mean.says("/state_ids/", told);
    let name = server.name.clone();
    let events: Vec<(String, Value)> = events
        .iter()
        .map(|event| (event.event_id().to_string(), json_of(event)))
        .collect();
    mean.lies("/v1/event/", move |asked| {
        let (_, event) = events.iter().find(|(id, _)| asked.target.ends_with(id))?;
        Some(json_answer(
            &json!({ "origin": name, "origin_server_ts": 1, "pdus": [event] }),
        ))
    });
}

/// Before each event that is given there is another one. After some hundreds we have enough: the history gets a gap, and the
/// room goes on.
#[tokio::test(flavor = "multi_thread")]
async fn prevs_without_end_come_to_an_end() {
    each(2, async |world| {
        let (a, b) = world.two();
        let (alice, bob) = (a.user("alice"), b.user("bob"));
        let room = a.create(&alice, &RoomVersionId::V11).await;
        b.join(&bob, &room, a).await.unwrap();
        let template = forge_message(a, &alice, &room, &[&nowhere(0)], "").await;
        let mut chain: Vec<Pdu> = Vec::new();
        for n in 0..300 {
            let prev = chain
                .last()
                .map_or_else(|| nowhere(0), |event| event.event_id().to_owned());
            let event = remade(&template, a, 1, |event| {
                event.insert("prev_events".into(), json!([prev]));
                event.insert("depth".into(), json!(1_000 + n));
                event.insert("content".into(), json!({ "body": n.to_string() }));
            });
            chain.push(event);
        }
        let mean = Mean::before(&world, 0);
        gives(&mean, a, &room, &chain).await;
        let given: Vec<(Value, Value)> = chain
            .iter()
            .map(|event| (json!(event.event_id()), json_of(event)))
            .collect();
        mean.lies("/get_missing_events/", move |asked| {
            let asked = asked.json();
            let latest = asked["latest_events"].as_array()?;
            let at = given.iter().position(|(id, _)| latest.contains(id))?;
            let before = &given[at.saturating_sub(50)..at];
            let events: Vec<&Value> = before.iter().map(|(_, event)| event).collect();
            Some(json_answer(&json!({ "events": events })))
        });
        let last = json_of(chain.last().unwrap());
        a.transaction(b, "the last", &[last], &[]).await;
        eventually("the last is heard", async || {
            b.heard(&room).await.last().map(String::as_str) == Some("299")
        })
        .await;
        assert!(mean.count("/get_missing_events/") <= 8);
        assert!(mean.count("/state_ids/") <= 8);
        let first = b.event(chain[0].event_id()).await;
        assert!(first.is_none(), "not all of it was fetched");
        b.say(&bob, &room, "and on").await;
        mean.repents();
    })
    .await;
}

/// Two events of version 1 follow each other. Whatever becomes of them, the room goes on, and its history has an end.
#[tokio::test(flavor = "multi_thread")]
async fn events_in_a_circle_hold_up_nobody() {
    each(2, async |world| {
        let (a, b) = world.two();
        let (alice, bob) = (a.user("alice"), b.user("bob"));
        let room = a.create(&alice, &RoomVersionId::V1).await;
        b.join(&bob, &room, a).await.unwrap();
        let template = forge_message(a, &alice, &room, &[&newest(a, &room).await], "").await;
        let made = |id: &str, prev: &str| {
            remade(&template, a, 1, |event| {
                event.insert("event_id".into(), json!(id));
                event.insert("prev_events".into(), json!([[prev, { "sha256": "x" }]]));
                event.insert("content".into(), json!({ "body": id }));
            })
        };
        let (one, two) = ("$one:a.example", "$two:a.example");
        let circle = [made(one, two), made(two, one)];
        let mean = Mean::before(&world, 0);
        gives(&mean, a, &room, &circle).await;
        mean.says(
            "/get_missing_events/",
            json!({ "events": [json_of(&circle[1])] }),
        );
        mean.says("/event_auth/", json!({ "auth_chain": [] }));
        mean.refuses("/backfill/", StatusCode::NOT_FOUND, json!({}));
        // One that follows itself is no event.
        let mut own = json_of(&circle[0]);
        own["prev_events"] = json!([[one, { "sha256": "x" }]]);
        let told = a.transaction(b, "itself", &[own], &[]).await;
        assert!(told[one]["error"].is_string(), "{told}");

        a.transaction(b, "circle", &[json_of(&circle[0])], &[])
            .await;
        eventually("the other one was asked for", async || {
            mean.count("/get_missing_events/") > 0
        })
        .await;
        a.say(&alice, &room, "on").await;
        eventually("the room goes on", async || {
            b.heard(&room).await.contains(&"on".to_owned())
        })
        .await;
        b.say(&bob, &room, "here too").await;
        let mut pages = 0;
        while b.backfill(&room, 10).await {
            pages += 1;
            assert!(pages < 20, "there is always more");
        }
        let asked = mean.count("/get_missing_events/") + mean.count("/state_ids/");
        assert!(asked < 50, "{asked}");
        mean.repents();
    })
    .await;
}

/// Where servers choose the ids, a mean one tells each server of another event by the same id. Each has the one that came first,
/// and what others say upon it reaches everybody.
#[tokio::test(flavor = "multi_thread")]
async fn two_events_with_one_id_part_nobody() {
    each(3, async |world| {
        let (a, b, c) = (world.server(0), world.server(1), world.server(2));
        let (alice, bob, carol) = (a.user("alice"), b.user("bob"), c.user("carol"));
        let room = a.create(&alice, &RoomVersionId::V1).await;
        b.join(&bob, &room, a).await.unwrap();
        c.join(&carol, &room, a).await.unwrap();
        eventually("b knows of carol", async || {
            b.membership(&room, &carol).await == Some(Membership::Join)
        })
        .await;
        let prev = newest(c, &room).await;
        let template = forge_message(a, &alice, &room, &[&prev], "").await;
        let [one, two] = ["one", "two"].map(|text| {
            remade(&template, a, 1, |event| {
                event.insert("event_id".into(), json!("$same:a.example"));
                event.insert("content".into(), json!({ "body": text }));
            })
        });
        a.transaction(b, "one", &[json_of(&one)], &[]).await;
        a.transaction(c, "two", &[json_of(&two)], &[]).await;
        // The other one of each comes too late.
        a.transaction(b, "late two", &[json_of(&two)], &[]).await;
        a.transaction(c, "late one", &[json_of(&one)], &[]).await;
        assert_eq!(b.heard(&room).await, ["one"]);
        assert_eq!(c.heard(&room).await, ["two"]);
        b.say(&bob, &room, "from b").await;
        c.say(&carol, &room, "from c").await;
        for server in [b, c] {
            eventually("all is heard", async || {
                let heard = server.heard(&room).await;
                ["from b", "from c"]
                    .iter()
                    .all(|text| heard.contains(&(*text).to_owned()))
            })
            .await;
        }
        same_state(b, c, &room).await;
    })
    .await;
}

/// A member with some power sets two topics upon the same event, and tells each of two servers of one. Both come to know both,
/// and agree.
#[tokio::test(flavor = "multi_thread")]
async fn who_tells_each_server_something_else_parts_nobody() {
    each(3, async |world| {
        let (a, b, c) = (world.server(0), world.server(1), world.server(2));
        let (alice, bob, carol) = (a.user("alice"), b.user("bob"), c.user("carol"));
        let room = room_of(&[(a, &alice), (b, &bob), (c, &carol)]).await;
        let users = json!({ "users": { alice.as_str(): 100, carol.as_str(): 50 } });
        levels(a, &alice, &room, users).await;
        same_state(a, b, &room).await;
        same_state(a, c, &room).await;
        let prev = newest(c, &room).await;
        let topic = async |text: &str| {
            let (kind, content) = ("m.room.topic", json!({ "topic": text }));
            forge(c, 3, &carol, &room, &[&prev], kind, Some(""), content).await
        };
        let (one, two) = (topic("one").await, topic("two").await);
        c.transaction(a, "one", &[json_of(&one)], &[]).await;
        c.transaction(b, "two", &[json_of(&two)], &[]).await;
        let key = ("m.room.topic".to_owned(), String::new());
        assert_eq!(a.state(&room).await[&key], one.event_id());
        assert_eq!(b.state(&room).await[&key], two.event_id());
        // What they say next builds on it.
        a.say(&alice, &room, "from a").await;
        b.say(&bob, &room, "from b").await;
        for (server, other) in [(a, &two), (b, &one)] {
            eventually("the other one comes", async || {
                server.event(other.event_id()).await.is_some()
            })
            .await;
        }
        same_state(a, b, &room).await;
        let last = a.say(&alice, &room, "together").await;
        eventually("it arrives", async || b.event(&last).await.is_some()).await;
        same_state(a, b, &room).await;
    })
    .await;
}

/// Eve is banned. Her server goes on from before the ban, and a member of it ties both ends together.
#[tokio::test(flavor = "multi_thread")]
async fn the_banned_dont_come_back_by_a_fork() {
    each(2, async |world| {
        let (a, b) = world.two();
        let (alice, bob, eve) = (a.user("alice"), b.user("bob"), b.user("eve"));
        for version in [RoomVersionId::V10, RoomVersionId::V11, RoomVersionId::V12] {
            let room = a.create(&alice, &version).await;
            b.join(&bob, &room, a).await.unwrap();
            b.join(&eve, &room, a).await.unwrap();
            eventually("Eve is in", async || {
                a.membership(&room, &eve).await == Some(Membership::Join)
            })
            .await;
            same_state(a, b, &room).await;
            let before = newest(b, &room).await;
            let said = forge_message(b, &eve, &room, &[&before], "not banned").await;
            let content = json!({ "membership": "join", "displayname": "back again" });
            let (kind, state_key) = ("m.room.member", Some(eve.as_str()));
            let prev = [said.event_id()];
            let back = forge(b, 2, &eve, &room, &prev, kind, state_key, content).await;
            a.change(&alice, &room, &eve, Action::Ban).await.unwrap();
            eventually("b knows of the ban", async || {
                b.membership(&room, &eve).await == Some(Membership::Ban)
            })
            .await;
            let banned = standing(a, &room).await;
            let fork = [json_of(&said), json_of(&back)];
            b.transaction(a, &format!("fork-{version}"), &fork, &[])
                .await;
            assert_eq!(standing(a, &room).await, banned, "{version}");

            let ban = newest(b, &room).await;
            let prevs = [back.event_id(), &*ban];
            let tied = forge_message(b, &bob, &room, &prevs, "tied").await;
            b.transaction(a, &format!("tied-{version}"), &[json_of(&tied)], &[])
                .await;
            eventually("bob is heard", async || a.heard(&room).await == ["tied"]).await;
            assert_eq!(standing(a, &room).await.0, banned.0, "{version}");
            assert_eq!(a.membership(&room, &eve).await, Some(Membership::Ban));
        }
    })
    .await;
}

/// The answer to a join has the whole room, and says that the join was another event; or it has another room.
#[tokio::test(flavor = "multi_thread")]
async fn the_answer_to_a_join_changes_nothing_about_it() {
    still(2, async |world| {
        let (a, b) = world.two();
        let (alice, bob) = (a.user("alice"), b.user("bob"));
        let mean = Mean::before(&world, 0);
        let state_of = async |room: &RoomId| {
            let mut state: Vec<Value> = Vec::new();
            for id in a.state(room).await.into_values() {
                state.push(json_of(&a.event(&id).await.unwrap().pdu));
            }
            state
        };
        let elsewhere = a.create(&alice, &RoomVersionId::V11).await;
        let elsewhere = state_of(&elsewhere).await;
        let answers = |state: Vec<Value>, event: fn(&Value, &[Value]) -> Value| {
            mean.lies("/v2/send_join/", move |asked| {
                let event = event(&asked.json(), &state);
                Some(json_answer(
                    &json!({ "origin": "a.example", "members_omitted": false,
                    "auth_chain": state, "state": state, "event": event }),
                ))
            });
        };
        let others: [fn(&Value, &[Value]) -> Value; 5] = [
            |_, _| Value::Null,
            |_, _| json!({ "type": "m.room.member" }),
            |_, state| state[0].clone(),
            |join, _| {
                let mut join = join.clone();
                join["content"]["displayname"] = json!("Mallory");
                join
            },
            |join, _| {
                let mut join = join.clone();
                join["sender"] = json!("@mallory:a.example");
                join
            },
        ];
        for event in others {
            let room = a.create(&alice, &RoomVersionId::V11).await;
            answers(state_of(&room).await, event);
            b.join(&bob, &room, a).await.unwrap();
            let key = ("m.room.member".to_owned(), bob.to_string());
            let join = b.event(&b.state(&room).await[&key]).await.unwrap();
            let content = Value::Object(join.pdu.content().clone());
            assert_eq!(content, json!({ "membership": "join" }));
            assert_eq!(join.pdu.sender().as_str(), bob.as_str());
            assert!(join.pdu.is_whole());
        }
        let room = a.create(&alice, &RoomVersionId::V11).await;
        answers(elsewhere, |join, _| join.clone());
        b.join(&bob, &room, a).await.unwrap_err();
        assert_eq!(b.membership(&room, &bob).await, None);
        mean.repents();
    })
    .await;
}
