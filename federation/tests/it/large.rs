//! Large rooms: joining them, describing them to others, and answers that try to do harm.

use std::{collections::BTreeSet, sync::Arc};

use axum::body::Body;
use rhizome_protocol::{Object, Pdu, RoomRules};
use rhizome_rooms::receive;
use ruma::{OwnedEventId, OwnedUserId, RoomVersionId};
use serde_json::{Value, json};

use crate::{
    crowd::{self, Crowd, Told},
    world::{Server, World, each, eventually, same_state, still},
};

/// Puts a room on the network, to be joined through the first of its servers.
pub fn offer(world: &World, told: &Told) {
    let answer = told.answer();
    let body = move || Body::from(answer.clone());
    crowd::attach(&world.network, 3, vec![(told.clone(), body)]);
}

pub async fn enter(server: &Server, user: &OwnedUserId, told: &Told) -> Result<(), String> {
    let via = [crowd::server(0).0];
    let room = (&*told.room_id).into();
    rhizome_federation::membership::join::join(&server.fed, user, room, &via, Object::new())
        .await
        .map(drop)
        .map_err(|error| error.to_string())
}

pub fn small(version: &str, name: &str) -> Crowd {
    Crowd {
        servers: 3,
        changed: 50,
        others: 3,
        name: name.to_owned(),
        ..Crowd::new(version, 20)
    }
}

fn parsed(version: &str, texts: &[String]) -> Vec<Arc<Pdu>> {
    let rules = RoomRules::named(version).unwrap();
    texts
        .iter()
        .map(|text| {
            let object: Object = serde_json::from_str(text).unwrap();
            Arc::new(Pdu::parse(rules, object).unwrap())
        })
        .collect()
}

pub fn ids_of(version: &str, texts: &[String]) -> BTreeSet<OwnedEventId> {
    let events = parsed(version, texts);
    events
        .iter()
        .map(|event| event.event_id().to_owned())
        .collect()
}

pub fn texts(list: &Value) -> BTreeSet<String> {
    let list = list.as_array().unwrap();
    list.iter().map(ToString::to_string).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn two_servers_join_a_room_of_two_thousand() {
    each(2, async |world| {
        let (a, b) = world.two();
        let (alice, bob) = (a.user("alice"), b.user("bob"));
        let told = Crowd {
            servers: 3,
            changed: 10,
            ..Crowd::new("10", 2_000)
        }
        .tell();
        offer(&world, &told);
        let log = a.store().log();
        let before = log.head();
        enter(a, &alice, &told).await.unwrap();
        // Its members are there, but nobody is told of them one by one.
        assert!(log.head().0 - before.0 < 10);
        let room = &told.room_id;
        let mut expected: BTreeSet<_> = parsed("10", &told.state)
            .iter()
            .map(|event| {
                (
                    event.kind().to_owned(),
                    event.state_key().unwrap().to_owned(),
                )
            })
            .collect();
        expected.insert(("m.room.member".to_owned(), alice.to_string()));
        let state = a.state(room).await;
        assert_eq!(state.keys().cloned().collect::<BTreeSet<_>>(), expected);
        let head = a.store().room(room).await.unwrap().unwrap();
        assert_eq!(head.joined, 2_002);
        assert_eq!(a.store().joined_servers(head.room).await.unwrap().len(), 4);

        // The other server gets all of it from the first one, in pieces.
        b.join(&bob, room, a).await.unwrap();
        same_state(a, b, room).await;
        assert_eq!(b.store().room(room).await.unwrap().unwrap().joined, 2_003);
        a.say(&alice, room, "so many").await;
        eventually("the message", async || b.heard(room).await == ["so many"]).await;

        // Who comes back gets what has changed meanwhile.
        b.leave(&bob, room).await.unwrap();
        eventually("the leave", async || {
            a.store().room(room).await.unwrap().unwrap().joined == 2_002
        })
        .await;
        let topic = json!({ "name": "Crowded" });
        let named = a.send(&alice, room, "m.room.name", Some(""), topic).await;
        assert!(named.is_err(), "she has no power there");
        b.join(&bob, room, a).await.unwrap();
        same_state(a, b, room).await;
        assert_eq!(b.store().room(room).await.unwrap().unwrap().joined, 2_003);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_with_more_than_the_room() {
    each(1, async |world| {
        let a = world.server(0);
        let alice = a.user("alice");
        let honest = small("10", "honest").tell();
        let other = small("10", "other").tell();
        let mut told = honest.clone();
        // Everything twice, also as auth chain, and backwards.
        told.state.extend(honest.state.iter().rev().cloned());
        told.auth_chain.extend(honest.state.iter().rev().cloned());
        told.auth_chain.reverse();
        // What belongs elsewhere, what isn't signed, and what is no event.
        told.state.extend(other.state.iter().cloned());
        told.auth_chain.extend(other.auth_chain.iter().cloned());
        let stranger = honest.state[10].replace('s', "z");
        told.state.push(stranger);
        let unsigned = honest.state[9].replace("\"signatures\"", "\"signature\"");
        told.state.push(unsigned);
        told.state
            .extend(["3".to_owned(), "null".to_owned(), "{}".to_owned()]);
        offer(&world, &told);
        enter(a, &alice, &told).await.unwrap();
        let mut expected = ids_of("10", &honest.state);
        let head = a.store().room(&told.room_id).await.unwrap().unwrap();
        expected.insert(head.extremities[0].event_id.clone());
        let state: BTreeSet<_> = a.state(&told.room_id).await.into_values().collect();
        assert_eq!(state, expected);
        for id in ids_of("10", &other.state) {
            assert!(a.event(&id).await.is_none());
        }
        // What a member event says that was changed on the way is lost, the membership isn't.
        let told = small("10", "changed").tell();
        let mut changed = told.clone();
        for text in &mut changed.state {
            *text = text.replace("Another name", "A forged name");
        }
        offer(&world, &changed);
        enter(a, &alice, &changed).await.unwrap();
        let head = a.store().room(&told.room_id).await.unwrap().unwrap();
        assert_eq!(head.joined, 22);
        let state = a.state(&told.room_id).await;
        for id in state.values() {
            let event = a.event(id).await.unwrap();
            assert!(!event.pdu.json().contains("forged"));
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_lacks_what_it_rests_on() {
    each(1, async |world| {
        let a = world.server(0);
        let alice = a.user("alice");
        for version in ["10", "12"] {
            for (number, lost) in ["m.room.power_levels", "m.room.join_rules", "m.room.create"]
                .into_iter()
                .enumerate()
            {
                let honest = small(version, &format!("lost{number}")).tell();
                let mut told = honest.clone();
                let kind = format!("\"type\":\"{lost}\"");
                told.state.retain(|text| !text.contains(&kind));
                told.auth_chain.retain(|text| !text.contains(&kind));
                offer(&world, &told);
                let refused = enter(a, &alice, &told).await.unwrap_err();
                assert!(
                    refused.starts_with("403") || refused.starts_with("400"),
                    "{lost}: {refused}"
                );
                assert_eq!(a.membership(&told.room_id, &alice).await, None);
                // Nothing of it stands in the way of a better answer.
                offer(&world, &honest);
                enter(a, &alice, &honest).await.unwrap();
                let head = a.store().room(&told.room_id).await.unwrap().unwrap();
                assert_eq!(head.joined, 22);
            }
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn events_in_a_circle_are_left_out() {
    still(1, async |world| {
        let a = world.server(0);
        let alice = a.user("alice");
        let room = a.create(&alice, &RoomVersionId::V1).await;
        let rules = RoomRules::named("1").unwrap();
        // Only where servers choose the ids can two events name each other.
        let event = |id: &str, other: &str| {
            let json = json!({ "type": "org.example.x", "room_id": room, "sender": alice,
                "event_id": id, "state_key": id, "content": {}, "depth": 5, "origin_server_ts": 1,
                "prev_events": [], "auth_events": [[other, {}]], "hashes": {}, "signatures": {} });
            let id = id.try_into().unwrap();
            Arc::new(Pdu::from_stored(rules, id, json.to_string().into()).unwrap())
        };
        let (one, two) = ("$1:a.example", "$2:a.example");
        let circle = vec![event(one, two), event(two, one), event("$3:a.example", one)];
        let outcome = receive::outliers(a.fed.rooms(), &room, circle)
            .await
            .unwrap();
        assert!(outcome.accepted.is_empty() && outcome.rejected.is_empty());
        assert!(outcome.incomplete.is_empty());
        assert!(a.event(one.try_into().unwrap()).await.is_none());
    })
    .await;
}
