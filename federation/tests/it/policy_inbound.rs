//! Rooms with a policy server: what others send without its signature.

use ruma::RoomVersionId;
use serde_json::json;

use rhizome_protocol::Membership;
use rhizome_storage::Status;

use crate::{
    inbound::newest,
    mean::Mean,
    policy::{
        SIGN, guarded, named, refuses, set_policy, signature, signs, status_of, told, unsigned,
    },
    world::{each, eventually, json_of, room_of, same_state},
};

/// Of a room that had no policy server once, its state from then isn't asked about, either, when it comes as history.
#[tokio::test(flavor = "multi_thread")]
async fn what_comes_unsigned_is_asked_about_once() {
    each(3, async |world| {
        let (a, b, c) = (world.server(0), world.server(1), world.server(2));
        let mean = Mean::before(&world, 2);
        let room = guarded(&world).await;
        signs(&mean, c, 1);
        let event = unsigned(b, &room, "hello").await;
        let answer = b.transaction(a, "t1", &[json_of(&event)], &[]).await;
        assert_eq!(answer, json!({ event.event_id(): {} }));
        assert_eq!(a.heard(&room).await, ["hello"]);
        // It goes on with the signature.
        let both = ["b.example ed25519:k2", "c.example ed25519:policy_server"];
        assert_eq!(a.signers(event.event_id()).await, both);
        b.transaction(a, "t2", &[json_of(&event)], &[]).await;
        c.transaction(a, "t3", &[json_of(&event)], &[]).await;
        assert_eq!(mean.count(SIGN), 1);

        // One that was signed before the room had another key gets a new signature.
        let said = b.try_say(&room, "old key").await.unwrap();
        eventually("it arrives", async || a.event(&said).await.is_some()).await;
        assert_eq!(mean.count(SIGN), 2);
        set_policy(&world, &room, named(c, 2)).await;
        signs(&mean, c, 2);
        let event = unsigned(b, &room, "hello again").await;
        let mut late = json_of(&event);
        late["signatures"][c.name.as_str()] = signature(&late, &c.name, 1)[c.name.as_str()].clone();
        b.transaction(a, "t4", &[late], &[]).await;
        assert_eq!(status_of(a, &event).await, Some(Status::Accepted));
        assert_eq!(mean.count(SIGN), 3);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_refused_is_soft_failed() {
    each(3, async |world| {
        let (a, b, c) = (world.server(0), world.server(1), world.server(2));
        let mean = Mean::before(&world, 2);
        let room = guarded(&world).await;
        let before = (a.state(&room).await, newest(a, &room).await);
        refuses(&mean);
        let spam = unsigned(b, &room, "buy this").await;
        let answer = b.transaction(a, "t1", &[json_of(&spam)], &[]).await;
        assert_eq!(answer, json!({ spam.event_id(): {} }));
        assert_eq!(status_of(a, &spam).await, Some(Status::SoftFailed));
        // A signature that isn't one is none.
        signs(&mean, c, 2);
        let forged = unsigned(b, &room, "buy that").await;
        b.transaction(a, "t2", &[json_of(&forged)], &[]).await;
        assert_eq!(status_of(a, &forged).await, Some(Status::SoftFailed));
        assert!(a.heard(&room).await.is_empty());
        assert_eq!(before, (a.state(&room).await, newest(a, &room).await));
        // What is refused stays so, whoever tells of it.
        let asked = mean.count(SIGN);
        c.transaction(a, "t3", &[json_of(&spam)], &[]).await;
        assert_eq!(mean.count(SIGN), asked);
        assert_eq!(status_of(a, &spam).await, Some(Status::SoftFailed));

        // Without a policy server all is as before.
        set_policy(&world, &room, json!({})).await;
        let event = unsigned(b, &room, "free").await;
        b.transaction(a, "t4", &[json_of(&event)], &[]).await;
        assert_eq!(a.heard(&room).await, ["free"]);
        assert_eq!(mean.count(SIGN), asked);
    })
    .await;
}

/// While the policy server is away, nobody can say anything, and what others have said waits.
#[tokio::test(flavor = "multi_thread")]
async fn a_silent_policy_server_is_waited_for() {
    each(3, async |world| {
        let (a, b, c) = (world.server(0), world.server(1), world.server(2));
        let mean = Mean::before(&world, 2);
        let room = guarded(&world).await;
        signs(&mean, c, 1);
        world.network.cut(&c.name);
        let refused = a.try_say(&room, "hello").await.unwrap_err();
        assert_eq!(told(&refused), (502, "M_UNKNOWN"));
        let event = unsigned(b, &room, "while it was away").await;
        let answer = b.transaction(a, "t1", &[json_of(&event)], &[]).await;
        assert_eq!(answer, json!({ event.event_id(): {} }));
        assert_eq!(a.store().inbox_size(&b.name).await.unwrap(), 1);
        assert_eq!(status_of(a, &event).await, None);
        world.network.mend(&c.name);
        eventually("it is heard", async || {
            a.heard(&room).await == ["while it was away"]
        })
        .await;
        eventually("nothing waits", async || {
            a.store().inbox_size(&b.name).await.unwrap() == 0
        })
        .await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_who_is_in_the_room_has_a_say() {
    each(3, async |world| {
        let (a, b, c) = (world.server(0), world.server(1), world.server(2));
        let mean = Mean::before(&world, 2);
        refuses(&mean);
        let (alice, bob) = (a.user("alice"), b.user("bob"));
        let room = room_of(&[(a, &alice), (b, &bob)]).await;
        set_policy(&world, &room, named(c, 1)).await;
        a.try_say(&room, "unasked").await.unwrap();
        let event = unsigned(b, &room, "unasked, too").await;
        b.transaction(a, "t1", &[json_of(&event)], &[]).await;
        assert_eq!(status_of(a, &event).await, Some(Status::Accepted));
        assert_eq!(mean.count(SIGN), 0);
        let carol = c.user("carol");
        c.join(&carol, &room, a).await.unwrap();
        a.try_say(&room, "asked").await.unwrap_err();
        assert_eq!(mean.count(SIGN), 1);
        // It may go whenever it wants.
        signs(&mean, c, 1);
        c.leave(&carol, &room).await.unwrap();
        eventually("it has left", async || {
            a.membership(&room, &carol).await == Some(Membership::Leave)
        })
        .await;
        let asked = mean.count(SIGN);
        a.try_say(&room, "unasked again").await.unwrap();
        assert_eq!(mean.count(SIGN), asked);
    })
    .await;
}

/// Who comes in through us is signed for by us, or hears why not.
#[tokio::test(flavor = "multi_thread")]
async fn the_door_asks_for_those_who_come_in() {
    each(3, async |world| {
        let (a, b, c) = (world.server(0), world.server(1), world.server(2));
        let mean = Mean::before(&world, 2);
        let (alice, bob) = (a.user("alice"), b.user("bob"));
        let room = a.create(&alice, &RoomVersionId::V11).await;
        c.join(&c.user("carol"), &room, a).await.unwrap();
        set_policy(&world, &room, named(c, 1)).await;
        refuses(&mean);
        let refused = b.join(&bob, &room, a).await.unwrap_err();
        assert_eq!(refused.errcode, "M_FORBIDDEN");
        assert_eq!(a.membership(&room, &bob).await, None);
        signs(&mean, c, 1);
        b.join(&bob, &room, a).await.unwrap();
        let join = &a.state(&room).await[&("m.room.member".to_owned(), bob.to_string())];
        let both = ["b.example ed25519:k2", "c.example ed25519:policy_server"];
        assert_eq!(a.signers(join).await, both);
        // Who gets it from us has nobody to ask.
        let asked = mean.count(SIGN);
        same_state(a, c, &room).await;
        assert_eq!(mean.count(SIGN), asked);
        b.leave(&bob, &room).await.unwrap();
        eventually("it is known", async || {
            a.membership(&room, &bob).await == Some(Membership::Leave)
        })
        .await;
    })
    .await;
}
