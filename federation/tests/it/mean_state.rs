//! A server in the room tells states at gaps that it makes itself, and gives what is missing late.

use std::{collections::BTreeMap, sync::Arc};

use rhizome_protocol::{Membership, Pdu};
use rhizome_rooms::membership::Action;
use rhizome_storage::{Placement, Status};
use ruma::{EventId, OwnedEventId, OwnedRoomId, OwnedUserId, RoomVersionId};
use serde_json::{Value, json};

use crate::{
    inbound::{forge, forge_message},
    mean::Mean,
    world::{Server, World, each, eventually, json_of},
};

/// Eve of the second server is banned by Alice of the first. Mallory, who is still in the room, has said three
/// things since: the first is withheld, the second is what is given as missing, the third is pushed. The state
/// that is told at the first is the one before the ban.
struct Attack {
    room: OwnedRoomId,
    mallory: OwnedUserId,
    eve: OwnedUserId,
    mean: Mean,
    ban: OwnedEventId,
    withheld: Pdu,
    third: Pdu,
}

fn page(server: &Server, events: &[&Pdu]) -> Value {
    let pdus: Vec<Value> = events.iter().map(|event| json_of(event)).collect();
    json!({ "origin": server.name, "origin_server_ts": 1, "pdus": pdus })
}

impl Attack {
    async fn begin(world: &Arc<World>, version: &RoomVersionId) -> Self {
        let (a, b) = world.two();
        let (alice, mallory, eve) = (a.user("alice"), b.user("mallory"), b.user("eve"));
        let room = a.create(&alice, version).await;
        b.join(&mallory, &room, a).await.unwrap();
        b.join(&eve, &room, a).await.unwrap();
        eventually("Eve is in", async || {
            a.membership(&room, &eve).await == Some(Membership::Join)
        })
        .await;
        let old: BTreeMap<_, OwnedEventId> = a.state(&room).await;
        a.change(&alice, &room, &eve, Action::Ban).await.unwrap();
        let key = ("m.room.member".to_owned(), eve.to_string());
        let ban = a.state(&room).await[&key].clone();
        eventually("the ban is known everywhere", async || {
            b.state(&room).await.get(&key) == Some(&ban)
        })
        .await;

        let say = async |prev: &EventId, text: &str| {
            forge_message(b, &mallory, &room, &[prev], text).await
        };
        let withheld = say(&ban, "first").await;
        let second = say(withheld.event_id(), "second").await;
        let third = say(second.event_id(), "third").await;
        let mean = Mean::before(world, 1);
        let state: Vec<_> = old.into_values().collect();
        let told = json!({ "pdu_ids": state, "auth_chain_ids": state });
        mean.says("/state_ids/", told);
        mean.says(
            "/get_missing_events/",
            json!({ "events": [json_of(&second)] }),
        );
        let one = page(b, &[&withheld]);
        mean.says(&format!("/event/{}", withheld.event_id()), one);
        b.transaction(a, third.event_id().as_str(), &[json_of(&third)], &[])
            .await;
        eventually("the third is heard", async || {
            a.heard(&room).await == ["second", "third"]
        })
        .await;
        let attack = Self {
            room,
            mallory,
            eve,
            mean,
            ban,
            withheld,
            third,
        };
        attack.is_vain(world).await;
        attack
    }

    async fn is_vain(&self, world: &World) {
        let (a, _) = world.two();
        let eve = a.membership(&self.room, &self.eve).await;
        assert_eq!(eve, Some(Membership::Ban));
        let key = ("m.room.member".to_owned(), self.eve.to_string());
        assert_eq!(a.state(&self.room).await[&key], self.ban);
    }

    /// Mallory goes on from there, and changes something.
    async fn goes_on(&self, world: &World) {
        let (a, b) = world.two();
        let (mallory, room) = (&self.mallory, &self.room);
        let content = json!({ "membership": "join", "displayname": "I am here" });
        let prev = [self.third.event_id()];
        let (kind, key) = ("m.room.member", Some(mallory.as_str()));
        let fourth = forge(b, 2, mallory, room, &prev, kind, key, content).await;
        let txn = fourth.event_id().as_str();
        b.transaction(a, txn, &[json_of(&fourth)], &[]).await;
        let key = (kind.to_owned(), mallory.to_string());
        eventually("the fourth has its effect", async || {
            a.state(room).await[&key] == fourth.event_id()
        })
        .await;
        self.is_vain(world).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ban_outlives_a_state_that_was_told_without_it() {
    each(2, async |world| {
        for version in [RoomVersionId::V10, RoomVersionId::V11, RoomVersionId::V12] {
            let attack = Attack::begin(&world, &version).await;
            let (a, b) = world.two();
            let withheld = &attack.withheld;
            b.transaction(a, withheld.event_id().as_str(), &[json_of(withheld)], &[])
                .await;
            eventually("the first came late", async || {
                let event = a.event(withheld.event_id()).await;
                event.is_some_and(|event| {
                    event.placement == Placement::Live && event.status == Status::Accepted
                })
            })
            .await;
            attack.is_vain(&world).await;
            attack.goes_on(&world).await;
            attack.mean.repents();
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn and_the_missing_event_as_history() {
    each(2, async |world| {
        for version in [RoomVersionId::V10, RoomVersionId::V11, RoomVersionId::V12] {
            let attack = Attack::begin(&world, &version).await;
            let (a, b) = world.two();
            attack.mean.says("/backfill/", page(b, &[&attack.withheld]));
            assert!(a.backfill(&attack.room, 100).await);
            attack.is_vain(&world).await;
            attack.goes_on(&world).await;
            attack.mean.repents();
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn history_that_nobody_asked_for_is_none() {
    each(2, async |world| {
        let attack = Attack::begin(&world, &RoomVersionId::V11).await;
        let (a, b) = world.two();
        let ends = || async {
            let head = a.store().room(&attack.room).await.unwrap().unwrap();
            let mut ends: Vec<_> = head.extremities.iter().map(|end| end.no).collect();
            ends.sort();
            ends
        };
        let before = ends().await;
        assert_eq!(before.len(), 2);
        let content = json!({ "body": "stray" });
        let (room, mallory) = (&attack.room, &attack.mallory);
        let prev = [&*attack.ban];
        let stray = forge(b, 2, mallory, room, &prev, "m.room.message", None, content).await;
        attack.mean.says("/backfill/", page(b, &[&stray]));
        assert!(!a.backfill(room, 100).await);
        assert!(a.event(stray.event_id()).await.is_none());
        assert_eq!(ends().await, before);
        attack.goes_on(&world).await;
        attack.mean.repents();
    })
    .await;
}
