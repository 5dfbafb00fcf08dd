//! Invites of mean peers: how many, how large, to whom, and what is kept of what they tell.

use http::Method;
use rhizome_edge::limits::Rate;
use rhizome_federation::{Federation, FederationConfig, MatrixError, membership::knock};
use rhizome_protocol::{
    Membership, Object, Pdu, RoomRules,
    draft::{self, Draft, Place},
};
use rhizome_rooms::{create::plan::Preset, membership::Action};
use rhizome_storage::{NewAccount, RemoteInvite};
use ruma::{OwnedRoomId, RoomId, RoomVersionId, UserId};
use serde_json::{Value, json};

use crate::{
    mean::Mean,
    support::{key, watch},
    world::{Server, each, enc, eventually, still},
};

/// What the peers of this file invite to: rooms that don't exist.
pub fn nowhere(of: &Server, n: usize) -> OwnedRoomId {
    format!("!nowhere{n}:{}", of.name).try_into().unwrap()
}

/// An invite to such a room, signed by `server` with the key of this seed.
pub fn invite(server: &Server, seed: u8, room: &RoomId, target: &UserId, reason: &str) -> Pdu {
    let rules = RoomRules::get(&RoomVersionId::V11).unwrap();
    let content = json!({ "membership": "invite", "reason": reason });
    let draft = Draft {
        room_id: Some(room.to_owned()),
        sender: server.user("mallory"),
        kind: "m.room.member".to_owned(),
        state_key: Some(target.to_string()),
        content: content.as_object().unwrap().clone(),
        redacts: None,
    };
    let place = Place {
        depth: 2,
        origin_server_ts: 1,
        ..Place::default()
    };
    draft::build(rules, &draft, &place, &server.name, &key(seed)).unwrap()
}

pub async fn hand_in(
    from: &Server,
    to: &Server,
    event: &Pdu,
    state: &Value,
) -> Result<Value, MatrixError> {
    let (room, id) = (enc(event.room_id()), enc(event.event_id()));
    let body = json!({
        "room_version": "11",
        "event": serde_json::from_str::<Value>(event.json()).unwrap(),
        "invite_room_state": state,
    });
    let path = format!("/_matrix/federation/v2/invite/{room}/{id}");
    from.request(to, Method::PUT, &path, Some(body)).await
}

fn stripped(kind: &str, state_key: &str, content: Value) -> Value {
    let mut event = json!({ "type": kind, "state_key": state_key, "sender": "@mallory:a.example" });
    event["content"] = content;
    event
}

/// All that is kept for a user and waits for an answer.
async fn pending(server: &Server, user: &UserId) -> Vec<RemoteInvite> {
    let Some(no) = server.store().known_user(user).await.unwrap() else {
        return Vec::new();
    };
    let mut pending = Vec::new();
    for row in server.store().memberships_of(no).await.unwrap().iter() {
        pending.extend(server.store().remote_invite(no, row.room).await.unwrap());
    }
    pending
}

/// Four peers invite one user again and again, each time with as much state as a request may have.
#[tokio::test(flavor = "multi_thread")]
async fn nobody_is_flooded_with_invites() {
    still(5, async |world| {
        let b = world.server(1);
        let (bob, bea) = (b.user("bob"), b.user("bea"));
        let fat = "x".repeat(60_000);
        let state = json!([
            stripped("m.room.topic", "", json!({ "topic": fat })),
            stripped("m.room.name", "", json!({ "name": &fat[..7_000] })),
            stripped("m.room.avatar", "", json!({ "url": &fat[..7_000] })),
            stripped(
                "m.room.join_rules",
                "",
                json!({ "join_rule": &fat[..7_000] })
            ),
            stripped("org.example.spam", "", json!({ "body": fat })),
        ]);
        let mut accepted = Vec::new();
        for (index, seed) in [(0, 1), (2, 3), (3, 4), (4, 5)] {
            let peer = world.server(index);
            let mut taken = 0;
            for n in 0..35 {
                let event = invite(peer, seed, &nowhere(peer, n), &bob, &fat[..10_000]);
                match hand_in(peer, b, &event, &state).await {
                    Ok(_) => taken += 1,
                    Err(error) => {
                        assert_eq!(
                            (error.status.as_u16(), &*error.errcode),
                            (403, "M_FORBIDDEN")
                        );
                    }
                }
            }
            accepted.push(taken);
        }
        assert_eq!(accepted, [30, 30, 30, 10], "of each server, and of all");
        let kept = pending(b, &bob).await;
        assert_eq!(kept.len(), 100);
        // That is what a first sync has in its section of invites.
        let told: usize = (kept.iter())
            .map(|invite| invite.stripped_state.len() + invite.event.len())
            .sum();
        assert!(told < 3 << 20, "{told} bytes");

        // One that is there already may come again, with another event; others aren't affected.
        let (a, room) = (world.server(0), nowhere(world.server(0), 1));
        let again = invite(a, 1, &room, &bob, "please");
        hand_in(a, b, &again, &json!([])).await.unwrap();
        let other = invite(a, 1, &nowhere(a, 99), &bea, "");
        hand_in(a, b, &other, &json!([])).await.unwrap();
        // Whoever answers has a place again.
        let more = invite(a, 1, &nowhere(a, 100), &bob, "");
        hand_in(a, b, &more, &json!([])).await.unwrap_err();
        b.leave(&bob, &room).await.unwrap();
        hand_in(a, b, &more, &json!([])).await.unwrap();
        assert_eq!(pending(b, &bob).await.len(), 100);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_who_has_an_account_is_invited() {
    still(2, async |world| {
        let (a, b) = world.two();
        let (nobody, eve) = (b.user("nobody"), b.user("eve"));
        let made = b
            .store()
            .create_account(&eve, NewAccount::default(), None)
            .await;
        let no = made.unwrap().unwrap();
        b.store().deactivate_account(no, false).await.unwrap();
        for (n, user) in [&nobody, &eve].into_iter().enumerate() {
            let room = nowhere(a, n);
            let event = invite(a, 1, &room, user, "");
            let refused = hand_in(a, b, &event, &json!([])).await.unwrap_err();
            assert_eq!(
                (refused.status.as_u16(), &*refused.errcode),
                (403, "M_FORBIDDEN")
            );
            // Nothing is kept of it.
            assert!(pending(b, user).await.is_empty());
            assert_eq!(b.store().known_room(&room).await.unwrap(), None);
        }
        assert_eq!(b.store().known_user(&nobody).await.unwrap(), None);
        // The inviting user is told, and their room has no such member.
        let alice = a.user("alice");
        let room = a.create(&alice, &RoomVersionId::V11).await;
        let refused = a.change(&alice, &room, &nobody, Action::Invite).await;
        assert_eq!(refused.unwrap_err().errcode, "M_FORBIDDEN");
        assert_eq!(a.membership(&room, &nobody).await, None);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_server_invites_so_often() {
    still(3, async |world| {
        let (a, b) = world.two();
        let c = world.server(2);
        let config = FederationConfig {
            invites: Some(Rate {
                per_second: 0.001,
                burst: 3,
            }),
            ..FederationConfig::default()
        };
        let (rooms, store) = (b.fed.rooms().clone(), b.store().clone());
        let strict = Federation::in_process(rooms, store, config, &world.network).unwrap();
        world.network.attach(&b.name, watch().over(strict.router()));
        let bob = b.user("bob");
        let ask = async |from: &Server, seed, n| {
            let event = invite(from, seed, &nowhere(from, n), &bob, "");
            hand_in(from, b, &event, &json!([])).await
        };
        for n in 0..3 {
            ask(a, 1, n).await.unwrap();
        }
        let refused = ask(a, 1, 4).await.unwrap_err();
        assert_eq!(
            (refused.status.as_u16(), &*refused.errcode),
            (429, "M_LIMIT_EXCEEDED")
        );
        ask(c, 3, 5).await.unwrap();
        assert_eq!(pending(b, &bob).await.len(), 4);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_invite_itself_is_small() {
    still(2, async |world| {
        let (a, b) = world.two();
        let (room, bob) = (nowhere(a, 1), b.user("bob"));
        let event = invite(a, 1, &room, &bob, &"x".repeat(20_000));
        let refused = hand_in(a, b, &event, &json!([])).await.unwrap_err();
        assert_eq!(
            (refused.status.as_u16(), &*refused.errcode),
            (413, "M_TOO_LARGE")
        );
        assert!(pending(b, &bob).await.is_empty());
    })
    .await;
}

/// What a mean peer says that a room is.
fn tales() -> Value {
    let fat = "x".repeat(60_000);
    let mut create = stripped("m.room.create", "", json!({ "room_version": "11" }));
    create["unsigned"] = json!({ "age": 1 });
    create["hashes"] = json!({ "sha256": "x" });
    create["origin_server_ts"] = json!(5);
    create["org.example.spam"] = json!("spam");
    json!([
        stripped("m.room.power_levels", "", json!({ "users": {} })),
        stripped("m.room.history_visibility", "", json!({})),
        stripped("m.room.name", "other", json!({ "name": "Not the name" })),
        stripped("m.room.name", "", json!({ "name": "Trap" })),
        stripped("m.room.name", "", json!({ "name": "Another" })),
        stripped("m.room.topic", "", json!({ "topic": fat })),
        stripped("m.room.member", "@mallory:a.example", json!({ "membership": "join" })),
        stripped("m.room.member", "@ann:a.example", json!({ "membership": "join" })),
        { "type": "m.room.avatar", "state_key": "", "sender": 5, "content": {} },
        { "type": "m.room.avatar", "state_key": "", "sender": "@a:b", "content": "x" },
        { "type": "m.room.encryption", "sender": "@a:b", "content": {} },
        { "type": ["m.room.encryption"] },
        create,
    ])
}

/// What is kept of that.
fn truth(member: bool) -> Value {
    let mut create = stripped("m.room.create", "", json!({ "room_version": "11" }));
    create["origin_server_ts"] = json!(5);
    let name = stripped("m.room.name", "", json!({ "name": "Trap" }));
    let inviter = stripped(
        "m.room.member",
        "@mallory:a.example",
        json!({ "membership": "join" }),
    );
    let all = [create, name, inviter].into_iter();
    all.take(if member { 3 } else { 2 }).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_room_outside_only_what_the_specification_names_is_kept() {
    still(2, async |world| {
        let (a, b) = world.two();
        let (alice, bob, bea) = (a.user("alice"), b.user("bob"), b.user("bea"));
        let event = invite(a, 1, &nowhere(a, 1), &bob, "");
        hand_in(a, b, &event, &tales()).await.unwrap();
        let kept = pending(b, &bob).await;
        let told: Value = serde_json::from_str(&kept[0].stripped_state).unwrap();
        assert_eq!(told, truth(true));

        // The same in the answer to a knock.
        let room = a
            .create_with(&alice, &RoomVersionId::V11, Preset::PrivateChat)
            .await;
        let rule = json!({ "join_rule": "knock" });
        a.send(&alice, &room, "m.room.join_rules", Some(""), rule)
            .await
            .unwrap();
        let mean = Mean::before(&world, 0);
        mean.says("/send_knock/", json!({ "knock_room_state": tales() }));
        let via = std::slice::from_ref(&a.name);
        knock::knock(&b.fed, &bea, (*room).into(), via, Object::new())
            .await
            .unwrap();
        let kept = pending(b, &bea).await;
        let told: Value = serde_json::from_str(&kept[0].stripped_state).unwrap();
        assert_eq!(told, truth(false));
    })
    .await;
}

/// The memberships of an event that a server was sent in transactions, in order.
fn pushed(mean: &Mean, user: &UserId) -> Vec<Value> {
    let mut pushed = Vec::new();
    for asked in mean.asked("/send/") {
        let pdus = asked.json()["pdus"].take();
        for pdu in pdus.as_array().into_iter().flatten() {
            if pdu["state_key"] == user.as_str() {
                pushed.push(pdu["content"]["membership"].clone());
            }
        }
    }
    pushed
}

/// An invite is signed by the invited user's server, and doesn't come again by transaction. The end of an
/// invite, and of a membership, comes, although the server isn't in the room then.
#[tokio::test(flavor = "multi_thread")]
async fn an_invite_comes_once_and_its_end_always() {
    each(2, async |world| {
        let (a, b) = world.two();
        let (alice, bob) = (a.user("alice"), b.user("bob"));
        let b_hears = Mean::before(&world, 1);
        let room = a
            .create_with(&alice, &RoomVersionId::V11, Preset::PrivateChat)
            .await;
        let mut wanted: Vec<&str> = Vec::new();
        let heard = async |wanted: &[&str]| {
            eventually("b is told", async || {
                pushed(&b_hears, &bob).len() >= wanted.len()
            })
            .await;
            assert_eq!(pushed(&b_hears, &bob), wanted);
        };
        let changed = async |action| a.change(&alice, &room, &bob, action).await.unwrap();
        let is = async |membership| {
            eventually("b knows", async || {
                b.membership(&room, &bob).await == Some(membership)
            })
            .await;
        };
        // Rescinded.
        changed(Action::Invite).await;
        is(Membership::Invite).await;
        changed(Action::Kick).await;
        wanted.push("leave");
        heard(&wanted).await;
        is(Membership::Leave).await;
        // Put out by a ban, which is lifted.
        changed(Action::Invite).await;
        is(Membership::Invite).await;
        changed(Action::Ban).await;
        wanted.push("ban");
        heard(&wanted).await;
        changed(Action::Unban).await;
        wanted.push("leave");
        heard(&wanted).await;
        // In the room, the end comes as everything does, of the last of its users too.
        for (action, told) in [(Action::Kick, "leave"), (Action::Ban, "ban")] {
            changed(Action::Invite).await;
            is(Membership::Invite).await;
            b.join(&bob, &room, a).await.unwrap();
            changed(action).await;
            wanted.push(told);
            heard(&wanted).await;
            is(if told == "ban" {
                Membership::Ban
            } else {
                Membership::Leave
            })
            .await;
        }
    })
    .await;
}
