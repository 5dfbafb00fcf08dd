//! Servers that lie while not all members of a room are known, and what becomes of it when they are.

use std::slice::from_ref;

use rhizome_protocol::{
    Membership, Pdu,
    draft::{self, Draft, Place},
};
use rhizome_storage::Status;
use ruma::{OwnedEventId, OwnedRoomId, OwnedUserId, RoomId, RoomVersionId, UserId};
use serde_json::{Value, json};

use crate::{
    doors::levels,
    inbound::newest,
    mean::{Mean, body_answer},
    partial::keep_back,
    support::key,
    world::{Server, World, each_joining_early, eventually, json_of, same_state},
};

/// One of each resolution of states that is in use.
const VERSIONS: [RoomVersionId; 2] = [RoomVersionId::V11, RoomVersionId::V12];

pub fn member(user: &UserId) -> (String, String) {
    ("m.room.member".to_owned(), user.to_string())
}

/// Alice's room on the first server. Of the third Dora, who may do everything, has left; Carol, who may change the state, is
/// there. Bob of the second has joined it and isn't told who is there.
pub struct Story {
    pub room: OwnedRoomId,
    pub carol: OwnedUserId,
    pub dora: OwnedUserId,
    pub mean: Mean,
    /// When Dora was there still.
    pub dora_was_in: OwnedEventId,
    pub carol_is_in: OwnedEventId,
}

impl Story {
    pub async fn begin(world: &World, version: &RoomVersionId) -> Self {
        let (a, b, c) = (world.server(0), world.server(1), world.server(2));
        let (alice, bob) = (a.user("alice"), b.user("bob"));
        let (carol, dora) = (c.user("carol"), c.user("dora"));
        let room = a.create(&alice, version).await;
        // Where creators have all power, nobody says so of them.
        let mut users = json!({ &carol: 50, &dora: 99 });
        if *version != RoomVersionId::V12 {
            users[alice.as_str()] = json!(100);
        }
        levels(a, &alice, &room, json!({ "users": users })).await;
        for user in [&carol, &dora] {
            c.join(user, &room, a).await.unwrap();
        }
        same_state(a, c, &room).await;
        let state = a.state(&room).await;
        let (dora_was_in, carol_is_in) = (&state[&member(&dora)], &state[&member(&carol)]);
        let (dora_was_in, carol_is_in) = (dora_was_in.clone(), carol_is_in.clone());
        c.leave(&dora, &room).await.unwrap();
        eventually("dora is gone", async || {
            a.membership(&room, &dora).await == Some(Membership::Leave)
        })
        .await;
        let mean = Mean::before(world, 0);
        keep_back(&mean);
        keep_back(&Mean::before(world, 2));
        b.join(&bob, &room, a).await.unwrap();
        assert!(!b.is_complete(&room).await);
        Self {
            room,
            carol,
            dora,
            mean,
            dora_was_in,
            carol_is_in,
        }
    }

    /// An event that says of itself by which membership its sender is there.
    pub async fn forge(
        &self,
        world: &World,
        sender: &UserId,
        rests_on: &[&OwnedEventId],
        prevs: &[OwnedEventId],
        (kind, state_key): (&str, Option<&str>),
        content: Value,
    ) -> Pdu {
        let (a, b, c) = (world.server(0), world.server(1), world.server(2));
        let head = b.store().room(&self.room).await.unwrap().unwrap();
        let state = a.state(&self.room).await;
        let named = ["m.room.create", "m.room.power_levels"];
        let named = named.map(|kind| (kind.to_owned(), String::new()));
        let named = named
            .iter()
            .filter(|(kind, _)| kind != "m.room.create" || head.rules.id() != "12");
        let mut auth_events: Vec<_> = named.map(|key| state[key].clone()).collect();
        auth_events.extend(rests_on.iter().map(|id| (*id).clone()));
        let prev = b.event(&prevs[0]).await;
        let depth = prev.map_or(99, |prev| prev.pdu.depth());
        let place = Place {
            prev_events: prevs.to_vec(),
            auth_events,
            depth: depth + 1,
            origin_server_ts: b.store().clock().now_ms(),
            ..Place::default()
        };
        let draft = Draft {
            room_id: Some(self.room.clone()),
            sender: sender.to_owned(),
            kind: kind.to_owned(),
            state_key: state_key.map(ToOwned::to_owned),
            content: content.as_object().unwrap().clone(),
            redacts: None,
        };
        draft::build(head.rules, &draft, &place, &c.name, &key(3)).unwrap()
    }

    pub async fn push(&self, world: &World, event: &Pdu) {
        let (b, c) = (world.server(1), world.server(2));
        c.transaction(b, event.event_id().as_str(), &[json_of(event)], &[])
            .await;
    }

    pub async fn completes(&self, world: &World) {
        let b = world.server(1);
        self.mean.repents();
        eventually("all members are known", async || {
            b.is_complete(&self.room).await
        })
        .await;
    }
}

async fn status(server: &Server, event: &Pdu) -> Option<(Status, bool)> {
    let stored = server.event(event.event_id()).await?;
    Some((stored.status, stored.pos().is_some()))
}

pub async fn becomes(server: &Server, event: &Pdu, expected: (Status, bool)) {
    eventually("it is decided", async || {
        status(server, event).await == Some(expected)
    })
    .await;
}

/// Who isn't there kicks somebody who is: that is believed at first, and what the other does then isn't allowed.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_let_in_wrongly_goes_and_what_was_kept_out_comes() {
    each_joining_early(3, async |world| {
        for version in &VERSIONS {
            let story = Story::begin(&world, version).await;
            let (a, b) = world.two();
            let (room, carol, dora) = (&story.room, &story.carol, &story.dora);
            let join = newest(b, room).await;
            let kick = story
                .forge(
                    &world,
                    dora,
                    &[&story.dora_was_in, &story.carol_is_in],
                    from_ref(&join),
                    ("m.room.member", Some(carol.as_str())),
                    json!({ "membership": "leave" }),
                )
                .await;
            story.push(&world, &kick).await;
            becomes(b, &kick, (Status::Accepted, true)).await;
            assert_eq!(b.membership(room, carol).await, Some(Membership::Leave));

            let thing = ("org.example.thing", Some(""));
            let kicked = kick.event_id().to_owned();
            let change = story
                .forge(
                    &world,
                    carol,
                    &[&story.carol_is_in],
                    from_ref(&kicked),
                    thing,
                    json!({ "by": "carol" }),
                )
                .await;
            story.push(&world, &change).await;
            becomes(b, &change, (Status::Rejected, false)).await;
            // Others go on from the join: the room has forked.
            let said = a.say(&a.user("alice"), room, "beside").await;
            eventually("it is heard", async || b.event(&said).await.is_some()).await;

            story.completes(&world).await;
            assert_eq!(status(b, &kick).await, Some((Status::Rejected, false)));
            assert_eq!(status(b, &change).await, Some((Status::Accepted, true)));
            assert_eq!(b.membership(room, carol).await, Some(Membership::Join));
            assert_eq!(b.membership(room, dora).await, Some(Membership::Leave));
            let state = b.state(room).await;
            assert_eq!(state[&member(carol)], story.carol_is_in);
            let key = ("org.example.thing".to_owned(), String::new());
            assert_eq!(state[&key], change.event_id());
            assert_eq!(b.heard(room).await, ["beside"]);
            b.say(&b.user("bob"), room, "it goes on").await;
        }
    })
    .await;
}

/// Who has left says something as if they hadn't, and redacts what others say.
#[tokio::test(flavor = "multi_thread")]
async fn who_is_not_there_speaks_for_a_while_and_takes_nothing_away() {
    each_joining_early(3, async |world| {
        let story = Story::begin(&world, &RoomVersionId::V11).await;
        let b = world.server(1);
        let (room, dora) = (&story.room, &story.dora);
        let said = b.say(&b.user("bob"), room, "mine").await;
        let as_dora = [&story.dora_was_in];
        let redaction = json!({ "redacts": said });
        let redaction = story
            .forge(
                &world,
                dora,
                &as_dora,
                from_ref(&said),
                ("m.room.redaction", None),
                redaction,
            )
            .await;
        let body = json!({ "body": "I am here" });
        let message = story
            .forge(
                &world,
                dora,
                &as_dora,
                from_ref(&said),
                ("m.room.message", None),
                body,
            )
            .await;
        for event in [&redaction, &message] {
            story.push(&world, event).await;
            becomes(b, event, (Status::Accepted, true)).await;
        }
        assert_eq!(b.heard(room).await, ["mine", "I am here"]);
        story.completes(&world).await;
        for event in [&redaction, &message] {
            assert_eq!(status(b, event).await, Some((Status::Rejected, false)));
        }
        assert_eq!(b.heard(room).await, ["mine"]);
        assert_eq!(b.membership(room, dora).await, Some(Membership::Leave));
    })
    .await;
}

/// The last of ours is put out by who isn't there.
#[tokio::test(flavor = "multi_thread")]
async fn who_was_put_out_wrongly_is_back() {
    each_joining_early(3, async |world| {
        let story = Story::begin(&world, &RoomVersionId::V12).await;
        let (b, bob) = (world.server(1), world.server(1).user("bob"));
        let (room, join) = (&story.room, newest(world.server(1), &story.room).await);
        let kick = story
            .forge(
                &world,
                &story.dora,
                &[&story.dora_was_in, &join],
                from_ref(&join),
                ("m.room.member", Some(bob.as_str())),
                json!({ "membership": "leave" }),
            )
            .await;
        story.push(&world, &kick).await;
        becomes(b, &kick, (Status::Accepted, true)).await;
        assert_eq!(b.membership(room, &bob).await, Some(Membership::Leave));
        story.completes(&world).await;
        assert_eq!(status(b, &kick).await, Some((Status::Rejected, false)));
        assert_eq!(b.membership(room, &bob).await, Some(Membership::Join));
        b.say(&bob, room, "still here").await;
    })
    .await;
}

/// Nothing but a whole answer completes the room, and what was told at the join stays.
#[tokio::test(flavor = "multi_thread")]
async fn a_state_that_is_not_whole_is_not_taken() {
    each_joining_early(3, async |world| {
        let story = Story::begin(&world, &RoomVersionId::V11).await;
        let (a, b) = world.two();
        let (room, mean) = (&story.room, &story.mean);
        let state: Vec<OwnedEventId> = a.state(room).await.into_values().collect();
        mean.repents();
        // It breaks off.
        let ids = serde_json::to_string(&state).unwrap();
        let half = format!(
            "{{\"auth_chain_ids\":[],\"pdu_ids\":{}",
            &ids[..ids.len() / 2]
        );
        mean.lies("/state_ids/", move |_| {
            Some(body_answer(half.clone().into()))
        });
        asked_again(mean, "/state_ids/").await;
        assert!(!b.is_complete(room).await);
        // Its events aren't given.
        mean.repents();
        let none = json!({ "errcode": "M_NOT_FOUND", "error": "gone" });
        mean.refuses("/event/", http::StatusCode::NOT_FOUND, none);
        asked_again(mean, "/event/").await;
        assert!(!b.is_complete(room).await);
        // It is none.
        mean.repents();
        mean.says(
            "/state_ids/",
            json!({ "pdu_ids": [], "auth_chain_ids": [] }),
        );
        asked_again(mean, "/state_ids/").await;
        assert!(!b.is_complete(room).await);
        story.completes(&world).await;
        same_state(a, b, room).await;
    })
    .await;
}

pub async fn asked_again(mean: &Mean, part: &str) {
    let before = mean.count(part);
    eventually("it is asked again", async || mean.count(part) > before + 3).await;
}

/// What can't be had of what lies between stays out of the way until somebody tells the state there.
#[tokio::test(flavor = "multi_thread")]
async fn a_gap_is_bridged_by_the_state_before_the_join() {
    each_joining_early(3, async |world| {
        let story = Story::begin(&world, &RoomVersionId::V11).await;
        let b = world.server(1);
        let room = &story.room;
        let join = newest(b, room).await;
        let (carol, as_carol) = (&story.carol, [&story.carol_is_in]);
        let text = |text: &str| json!({ "body": text });
        let kind = ("m.room.message", None);
        let lost = story
            .forge(
                &world,
                carol,
                &as_carol,
                from_ref(&join),
                kind,
                text("lost"),
            )
            .await;
        let lost = lost.event_id().to_owned();
        let given = story
            .forge(
                &world,
                carol,
                &as_carol,
                from_ref(&lost),
                kind,
                text("given"),
            )
            .await;
        let prev = given.event_id().to_owned();
        let pushed = story
            .forge(
                &world,
                carol,
                &as_carol,
                from_ref(&prev),
                kind,
                text("pushed"),
            )
            .await;
        let other = Mean::before(&world, 2);
        keep_back(&other);
        let missing = json!({ "events": [json_of(&given)] });
        other.says("/get_missing_events/", missing);
        story.push(&world, &pushed).await;
        becomes(b, &pushed, (Status::Accepted, true)).await;
        let asked = other.asked("/state");
        let at_gap = asked
            .iter()
            .filter(|asked| asked.target.contains(lost.as_str()));
        assert_eq!(at_gap.count(), 0);
        story.completes(&world).await;
        assert_eq!(b.heard(room).await, ["given", "pushed"]);
        assert_eq!(b.membership(room, carol).await, Some(Membership::Join));
        assert_left(b, room, &story.dora).await;
    })
    .await;
}

async fn assert_left(server: &Server, room: &RoomId, user: &UserId) {
    assert_eq!(server.membership(room, user).await, Some(Membership::Leave));
}
