//! Changes of devices: told one after the other to those who share a room with the user.

use std::time::Duration;

use rhizome_protocol::Object;
use rhizome_rooms::create::create;
use rhizome_rooms::membership::{Action, MembershipChange, prepare};
use rhizome_rooms::send::{SendOptions, send};
use rhizome_storage::{
    DecidedOn, DeviceUpload, NewLogin, NewTokens, Store, UserNo, testing::eventually,
};
use ruma::{RoomId, UserId, server_name, user_id};
use serde_json::{Value, json};

use super::{Peer, Us, alice, public_room, scenario, texts, them};

fn login(user: UserNo, device: &str) -> NewLogin {
    NewLogin {
        user,
        device_id: device.into(),
        device_name: Some("a secret name".to_owned()),
        ip: "::1".into(),
        now_ms: 1,
        tokens: NewTokens {
            access_hash: format!("access {device}"),
            refresh_hash: None,
            expires_ms: None,
            refresh_expires_ms: None,
        },
        proof: None,
        proved: false,
    }
}

pub(super) async fn logged_in(store: &Store, device: &str) -> UserNo {
    let user = store.user_no(alice()).await.unwrap();
    assert!(store.log_in(&login(user, device)).await.unwrap());
    user
}

async fn uploaded(store: &Store, user: UserNo, device: &str) {
    let keys = json!({
        "user_id": alice(), "device_id": device, "algorithms": [], "keys": {}, "signatures": {},
    });
    let upload = DeviceUpload {
        user,
        device: device.into(),
        decided_on: DecidedOn::Anything,
        keys: Some(keys.to_string().into()),
        anew: false,
        one_time: Vec::new(),
        fallback: Vec::new(),
    };
    store.upload_keys(upload).await.unwrap();
}

/// Somebody here comes into a room.
async fn comes(a: &Us, user: &UserId, room: &RoomId) {
    moves(a, user, room, Action::Join).await;
}

/// A user changes their own membership.
pub(super) async fn moves(a: &Us, user: &UserId, room: &RoomId, action: Action) {
    let change = MembershipChange {
        room_id: room.to_owned(),
        sender: user.to_owned(),
        target: user.to_owned(),
        action,
        reason: None,
        extra: Object::new(),
    };
    let draft = prepare(a.fed.rooms(), change).await.unwrap();
    send(a.fed.rooms(), draft.unwrap(), SendOptions::default())
        .await
        .unwrap();
}

/// The n-th update that a server gets.
async fn told(peer: &Peer, n: usize) -> Value {
    eventually("it is told", async || {
        peer.edus("m.device_list_update").len() > n
    })
    .await;
    peer.edus("m.device_list_update")[n].clone()
}

#[tokio::test]
async fn each_change_says_which_was_before_it() {
    scenario(async |database, network, peer, clock| {
        let a = Us::start(&database, &network, &clock).await;
        a.shared_room().await;
        let user = logged_in(&a.store, "D1").await;
        let first = told(&peer, 0).await;
        let mut at = first["stream_id"].clone();
        let expected = json!({
            "user_id": alice(), "device_id": "D1", "stream_id": at, "prev_id": [],
        });
        assert_eq!(first, expected);

        uploaded(&a.store, user, "D1").await;
        let second = told(&peer, 1).await;
        assert_eq!(second["prev_id"], json!([at]));
        assert_eq!(second["keys"]["device_id"], "D1");
        assert_eq!(second.get("device_display_name"), None);
        assert_eq!(second["keys"].get("unsigned"), None);
        at = second["stream_id"].clone();

        logged_in(&a.store, "D2").await;
        let third = told(&peer, 2).await;
        assert_eq!(third["prev_id"], json!([at]));
        at = third["stream_id"].clone();
        a.store.remove_devices(user, &["D1".into()]).await.unwrap();
        let fourth = told(&peer, 3).await;
        let expected = json!({
            "user_id": alice(), "device_id": "D1", "stream_id": fourth["stream_id"],
            "prev_id": [at], "deleted": true,
        });
        assert_eq!(fourth, expected);
        assert_eq!(
            a.store.device_stream(user).await.unwrap().0,
            fourth["stream_id"].as_i64().unwrap()
        );
        at = fourth["stream_id"].clone();

        // While the other is away only the last of each device is kept for it; over a restart, too.
        network.cut(them());
        for _ in 0..3 {
            a.store
                .rename_device(user, "D2".into(), "other")
                .await
                .unwrap();
        }
        logged_in(&a.store, "D3").await;
        eventually("it fails", async || a.failures() > 0).await;
        a.stop().await;
        network.mend(them());
        clock.advance(Duration::from_secs(1_000));
        let a = Us::start(&database, &network, &clock).await;
        let (fifth, sixth) = (told(&peer, 4).await, told(&peer, 5).await);
        assert_eq!(
            (&fifth["device_id"], &fifth["prev_id"]),
            (&json!("D2"), &json!([at]))
        );
        let expected = (json!("D3"), json!([fifth["stream_id"]]));
        assert_eq!(
            (sixth["device_id"].clone(), sixth["prev_id"].clone()),
            expected
        );
        a.stop().await;
    })
    .await;
}

/// Of many, the very last: it follows upon one that wasn't told.
#[tokio::test]
async fn of_too_many_changes_the_last_is_told() {
    scenario(async |database, network, peer, clock| {
        let a = Us::start(&database, &network, &clock).await;
        let room = a.shared_room().await;
        logged_in(&a.store, "D1").await;
        let known = told(&peer, 0).await;
        network.cut(them());
        for n in 0..30 {
            logged_in(&a.store, &format!("M{n}")).await;
        }
        eventually("it fails", async || a.failures() > 0).await;
        network.mend(them());
        clock.advance(Duration::from_secs(1_000));
        let updates = || peer.edus("m.device_list_update");
        eventually("the last is told", async || {
            updates().last().unwrap()["device_id"] == "M29"
        })
        .await;
        let first = updates()[1].clone();
        let before = first["stream_id"].as_i64().unwrap() - 1;
        assert!(first["prev_id"][0].as_i64().unwrap() <= before);
        assert_ne!(first["prev_id"], json!([known["stream_id"]]));
        a.goes_round(&network, &room).await;
        // What came while it was gathered is told after it.
        assert!(updates().len() <= 3, "{:?}", updates());
        a.stop().await;
    })
    .await;
}

#[tokio::test]
async fn who_comes_into_a_room_shows_their_devices_and_newcomers_hear_of_what_is_new() {
    scenario(async |database, network, peer, clock| {
        let a = Us::start(&database, &network, &clock).await;
        let user = logged_in(&a.store, "D1").await;
        // Alice was here first: the other server asks when it wants to know.
        let room = a.shared_room().await;
        a.say(&room, "message 0").await;
        peer.wait_for(1).await;
        a.goes_round(&network, &room).await;
        assert_eq!(peer.edus("m.device_list_update"), Vec::<Value>::new());

        // Bob's server is in a room that Ann comes into.
        let ann = user_id!("@ann:a.example");
        let no = a.store.user_no(ann).await.unwrap();
        assert!(a.store.log_in(&login(no, "ANNS")).await.unwrap());
        comes(&a, ann, &room).await;
        let shown = told(&peer, 0).await;
        let expected = json!({
            "user_id": ann, "device_id": "ANNS", "prev_id": [],
            "stream_id": a.store.device_stream(no).await.unwrap().0,
        });
        assert_eq!(shown, expected);
        // Once: another room with the same server shows nothing new.
        let other = a.shared_room().await;
        assert_ne!(other, room);
        // Nor does a room of our own.
        create(a.fed.rooms(), &public_room()).await.unwrap();
        logged_in(&a.store, "D2").await;
        let next = told(&peer, 1).await;
        assert_eq!(next["device_id"], "D2");
        a.goes_round(&network, &room).await;
        assert_eq!(peer.edus("m.device_list_update").len(), 2);
        // Who shares no room hears nothing.
        let third = Peer::default();
        third.attach_as(server_name!("d.example"), &network);
        a.store.remove_devices(user, &["D2".into()]).await.unwrap();
        told(&peer, 2).await;
        assert!(third.edus("m.device_list_update").is_empty());
        a.stop().await;
    })
    .await;
}

/// A change that the other refuses is left out alone: neither the events beside it, nor the one at whose place it
/// stands.
#[tokio::test]
async fn one_that_is_refused_takes_nothing_with_it() {
    scenario(async |database, network, peer, clock| {
        let a = Us::start(&database, &network, &clock).await;
        let room = a.shared_room().await;
        *peer.refuses.lock().unwrap() = Some("POISON".to_owned());
        logged_in(&a.store, "D1").await;
        told(&peer, 0).await;
        let ann = user_id!("@ann:a.example");
        let no = a.store.user_no(ann).await.unwrap();
        assert!(a.store.log_in(&login(no, "POISON_OF_ANN")).await.unwrap());
        network.cut(them());
        a.say(&room, "message 0").await;
        let user = logged_in(&a.store, "POISON").await;
        let left_out = a.store.device_stream(user).await.unwrap();
        logged_in(&a.store, "D2").await;
        comes(&a, ann, &room).await;
        eventually("it fails", async || a.failures() > 0).await;
        network.mend(them());
        clock.advance(Duration::from_secs(1_000));
        assert_eq!(peer.wait_for(1).await, texts(0..1));
        let second = told(&peer, 1).await;
        // What was left out is missed.
        assert_eq!(
            (&second["device_id"], &second["prev_id"]),
            (&json!("D2"), &json!([left_out.0]))
        );
        a.say(&room, "message 1").await;
        assert_eq!(peer.wait_for(2).await, texts(0..2));
        let joins = || {
            let got = peer.got.lock().unwrap();
            let events = got.iter().filter_map(|(_, body)| body["pdus"].as_array());
            let joins = events
                .flatten()
                .filter(|pdu| pdu["state_key"] == ann.as_str());
            joins.count()
        };
        assert_eq!(joins(), 1);
        a.stop().await;
    })
    .await;
}

/// What messages cost doesn't grow by it.
#[tokio::test]
async fn a_warm_message_asks_for_no_devices() {
    scenario(async |database, network, peer, clock| {
        let a = Us::start(&database, &network, &clock).await;
        let room = a.shared_room().await;
        let mut costs = Vec::new();
        for n in 0..8 {
            if n == 4 {
                logged_in(&a.store, "D1").await;
                told(&peer, 0).await;
            }
            let before = a.store.counters().now().queries;
            a.say(&room, &format!("message {n}")).await;
            peer.wait_for(n + 1).await;
            let sent = || a.fed.sender().stand(them()).map(|stand| stand.sent);
            let head = a.store.log().head();
            eventually("it has arrived", async || sent() == Some(head)).await;
            costs.push(a.store.counters().now().queries - before);
        }
        // Once it is known that there is nothing more to tell of devices, it is as before.
        assert_eq!(
            costs[5..].iter().min(),
            costs[1..4].iter().min(),
            "{costs:?}"
        );
        a.stop().await;
    })
    .await;
}
