//! Devices and keys: what others ask, and what they tell of theirs, true or not.

use std::{collections::BTreeMap, time::Duration};

use base64::{Engine as _, engine::general_purpose::STANDARD_NO_PAD};
use http::{Method, StatusCode};
use rhizome_federation::devices::keys;
use rhizome_protocol::{canonical::to_canonical, sign::KeyPair};
use rhizome_storage::{NewLogin, NewTokens, RemoteUser};
use ruma::{RoomVersionId, UserId};
use serde_json::{Value, json};

use crate::{
    mean::Mean,
    world::{Server, each, enc, eventually, still},
};

/// What a device says of itself, with a signature that holds or doesn't.
fn device(user: &UserId, id: &str, holds: bool) -> Value {
    let key = KeyPair::from_seed("x", &[9; 32]).unwrap();
    let mut object = json!({
        "user_id": user, "device_id": id, "algorithms": ["m.olm.v1.curve25519-aes-sha2"],
        "keys": { format!("ed25519:{id}"): key.public_base64() },
    });
    let mut text = to_canonical(object.as_object().unwrap()).unwrap();
    if !holds {
        text.push('x');
    }
    let signature = STANDARD_NO_PAD.encode(key.sign(text.as_bytes()));
    object["signatures"] = json!({ user: { format!("ed25519:{id}"): signature } });
    object
}

fn update(user: &UserId, id: &str, stream: i64, prev: &[i64], keys: Option<Value>) -> Value {
    let mut content = json!({
        "user_id": user, "device_id": id, "stream_id": stream, "prev_id": prev,
    });
    match keys {
        Some(keys) => content["keys"] = keys,
        None => content["deleted"] = true.into(),
    }
    json!({ "edu_type": "m.device_list_update", "content": content })
}

/// What a server says of a user who has one device.
fn honest(user: &UserId) -> Value {
    json!({
        "user_id": user, "stream_id": 7,
        "devices": [{ "device_id": "GOOD", "keys": device(user, "GOOD", true) }],
    })
}

async fn known(server: &Server, user: &UserId) -> Option<RemoteUser> {
    let store = server.store();
    let user = store.known_user(user).await.unwrap()?;
    store
        .remote_users(&[user], &server.name)
        .await
        .unwrap()
        .pop()
}

/// Where the list of a user stands, and whether it is stale.
async fn list(server: &Server, user: &UserId) -> Option<(Option<i64>, bool)> {
    let list = known(server, user).await?.basis.list?;
    Some((list.stream_id, list.stale))
}

/// The ids of the devices that are remembered of a user.
async fn remembered(server: &Server, user: &UserId) -> Vec<String> {
    let Some(user) = server.store().known_user(user).await.unwrap() else {
        return Vec::new();
    };
    let devices = server.store().device_keys(&[user]).await.unwrap();
    devices
        .into_iter()
        .map(|one| one.device.to_string())
        .collect()
}

async fn find(server: &Server, user: &UserId) -> keys::Found {
    let wanted = BTreeMap::from([(user.to_owned(), Vec::new())]);
    keys::find(&server.fed, wanted, Duration::from_secs(5))
        .await
        .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn of_strangers_and_for_others_nothing_is_taken() {
    still(2, async |world| {
        let (a, b) = world.two();
        let (alice, bob) = (a.user("alice"), b.user("bob"));
        let ben = b.user("ben");
        let room = a.create(&alice, &RoomVersionId::V11).await;
        b.join(&bob, &room, a).await.unwrap();
        let carol = UserId::parse("@carol:c.example").unwrap();
        let head = a.store().log().head();
        let long = "x".repeat(300);
        let many: Vec<i64> = (0..200).collect();
        let junk = vec![
            update(&ben, "D", 1, &[], None),
            update(&alice, "D", 1, &[], None),
            update(&carol, "D", 1, &[], None),
            update(&bob, &long, 1, &[], None),
            update(&bob, "D", 1, &many, None),
            json!({ "edu_type": "m.device_list_update", "content": { "user_id": bob } }),
            json!({ "edu_type": "m.device_list_update", "content": [] }),
            json!({ "edu_type": "m.signing_key_update", "content": { "user_id": alice } }),
        ];
        let path = "/_matrix/federation/v1/send/junk";
        let junk = json!({ "origin": b.name, "origin_server_ts": 1, "pdus": [], "edus": junk });
        // The specification's form is not kept by all of these.
        b.request(a, Method::PUT, path, Some(junk)).await.ok();
        assert_eq!(a.store().log().head(), head);
        // That Bob has come said to look at his devices. What his server says of them first is no other news.
        let keys = || Some(device(&bob, "D", true));
        b.transaction(a, "first", &[], &[update(&bob, "D", 1, &[], keys())])
            .await;
        assert_eq!(a.store().log().head(), head);
        // Then it is news; but nobody has asked for his list, so none of it is kept.
        b.transaction(a, "fine", &[], &[update(&bob, "D", 2, &[1], keys())])
            .await;
        let user = known(a, &bob).await.unwrap();
        assert_eq!(user.basis.changed, Some(a.store().log().head()));
        assert_eq!(user.basis.list, None);
        assert_eq!(remembered(a, &bob).await, Vec::<String>::new());
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mean_servers_lists_are_taken_as_far_as_they_hold() {
    each(2, async |world| {
        let (a, b) = world.two();
        let (alice, bob) = (a.user("alice"), b.user("bob"));
        let mean = Mean::before(&world, 1);
        let room = a.create(&alice, &RoomVersionId::V11).await;
        b.join(&bob, &room, a).await.unwrap();
        mean.says(
            "/user/keys/query",
            json!({
                "device_keys": {
                    &bob: {
                        "GOOD": device(&bob, "GOOD", true),
                        "FORGED": device(&bob, "FORGED", false),
                        "OTHER": device(&bob, "GOOD", true),
                        "ALICES": device(&alice, "ALICES", true),
                    },
                    &alice: { "ALICES": device(&alice, "ALICES", true) },
                },
                "master_keys": { &bob: { "user_id": bob, "usage": ["master"], "keys": { "ed25519:x": "y" } } },
            }),
        );
        let error = json!({ "errcode": "M_UNRECOGNIZED", "error": "what?" });
        mean.refuses("/user/devices/", StatusCode::NOT_FOUND, error);
        let found = find(a, &bob).await;
        assert_eq!(found.stored.len(), 1);
        assert_eq!(list(a, &bob).await, Some((None, false)));
        assert_eq!(remembered(a, &bob).await, ["GOOD"]);
        assert_eq!(remembered(a, &alice).await, Vec::<String>::new());

        // Ids that go back, gaps, keys that don't hold: each leads to the list, asked for by one at a time.
        mean.says("/user/devices/", honest(&bob));
        let asked = mean.count("/user/devices/");
        let forged = Some(device(&bob, "EVIL", false));
        let mean_updates = [
            update(&bob, "EVIL", 8, &[5], None),
            update(&bob, "EVIL", 3, &[7], None),
            update(&bob, "EVIL", 8, &[7], forged),
        ];
        for (n, one) in mean_updates.into_iter().enumerate() {
            b.transaction(a, &format!("mean {n}"), &[], &[one]).await;
            eventually("the list is got", async || {
                list(a, &bob).await == Some((Some(7), false))
            })
            .await;
            assert_eq!(remembered(a, &bob).await, ["GOOD"]);
        }
        assert_eq!(mean.count("/user/devices/"), asked + 3);
        // What follows is taken as it is.
        let second = Some(device(&bob, "SECOND", true));
        let updates = [
            update(&bob, "SECOND", 9, &[7], second),
            update(&bob, "GOOD", 12, &[9], None),
        ];
        b.transaction(a, "fine", &[], &updates).await;
        assert_eq!(list(a, &bob).await, Some((Some(12), false)));
        assert_eq!(remembered(a, &bob).await, ["SECOND"]);
        // The same again says nothing.
        let head = a.store().log().head();
        b.transaction(a, "again", &[], &updates[1..]).await;
        assert_eq!(a.store().log().head(), head);
        assert_eq!(mean.count("/user/devices/"), asked + 3);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_who_want_the_same_list_one_asks() {
    each(2, async |world| {
        let (a, b) = world.two();
        let (alice, bob) = (a.user("alice"), b.user("bob"));
        let mean = Mean::before(&world, 1);
        let room = a.create(&alice, &RoomVersionId::V11).await;
        b.join(&bob, &room, a).await.unwrap();
        mean.says("/user/devices/", honest(&bob));
        let found = futures_util::future::join_all((0..30).map(|_| find(a, &bob))).await;
        for found in found {
            assert_eq!(found.stored.len(), 1);
            assert!(found.passed.is_empty() && found.failures.is_empty());
        }
        assert_eq!(mean.count("/user/devices/"), 1);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crowd_of_devices_is_not_taken() {
    each(2, async |world| {
        let (a, b) = world.two();
        let (alice, bob) = (a.user("alice"), b.user("bob"));
        let mean = Mean::before(&world, 1);
        let room = a.create(&alice, &RoomVersionId::V11).await;
        b.join(&bob, &room, a).await.unwrap();
        mean.says("/user/devices/", honest(&bob));
        find(a, &bob).await;
        assert_eq!(list(a, &bob).await, Some((Some(7), false)));
        // What was there stays, and clients get that.
        let crowd: Vec<Value> = (0..10_000)
            .map(|n| json!({ "device_id": format!("D{n}"), "keys": {} }))
            .collect();
        mean.says(
            "/user/devices/",
            json!({ "user_id": bob, "stream_id": 99, "devices": crowd }),
        );
        let crowd: BTreeMap<String, Value> = (0..10_000)
            .map(|n| (format!("D{n}"), device(&bob, &format!("D{n}"), true)))
            .collect();
        mean.says(
            "/user/keys/query",
            json!({ "device_keys": { &bob: crowd } }),
        );
        b.transaction(a, "crowd", &[], &[update(&bob, "D", 99, &[98], None)])
            .await;
        eventually("it was asked for in vain", async || {
            let list = known(a, &bob).await.unwrap().basis.list.unwrap();
            list.stale && list.failures > 0
        })
        .await;
        let found = find(a, &bob).await;
        assert_eq!(found.stored.len(), 1);
        assert_eq!(remembered(a, &bob).await, ["GOOD"]);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn servers_get_what_is_of_users_here() {
    each(2, async |world| {
        let (a, b) = world.two();
        let (alice, bob) = (a.user("alice"), b.user("bob"));
        let user = a.store().known_user(&alice).await.unwrap().unwrap();
        let login = NewLogin {
            user,
            device_id: "D1".into(),
            device_name: Some("phone".to_owned()),
            ip: "::1".into(),
            now_ms: 1,
            tokens: NewTokens {
                access_hash: "access".to_owned(),
                refresh_hash: None,
                expires_ms: None,
                refresh_expires_ms: None,
            },
            proof: None,
            proved: false,
        };
        assert!(a.store().log_in(&login).await.unwrap());
        let upload = rhizome_storage::DeviceUpload {
            user,
            device: "D1".into(),
            decided_on: rhizome_storage::DecidedOn::Anything,
            keys: Some(device(&alice, "D1", true).to_string().into()),
            anew: false,
            one_time: vec![],
            fallback: vec![],
        };
        a.store().upload_keys(upload).await.unwrap();
        let path = |user: &UserId| format!("/_matrix/federation/v1/user/devices/{}", enc(user));
        let told = b.get(a, &path(&alice)).await.unwrap();
        let stream = a.store().device_stream(user).await.unwrap();
        let expected = json!({
            "user_id": alice, "stream_id": stream.0,
            "devices": [{ "device_id": "D1", "keys": device(&alice, "D1", true) }],
        });
        assert_eq!(told, expected);
        for nobody in [a.user("nobody"), bob.clone()] {
            let error = b.get(a, &path(&nobody)).await.unwrap_err();
            assert_eq!(error.status, StatusCode::NOT_FOUND);
        }
        let query = "/_matrix/federation/v1/user/keys/query";
        let body = json!({ "device_keys": { &alice: [], &bob: [], a.user("nobody"): [] } });
        let told = b.request(a, Method::POST, query, Some(body)).await.unwrap();
        assert_eq!(told["device_keys"], json!({ &alice: { "D1": device(&alice, "D1", true) } }));
        let claim = "/_matrix/federation/v1/user/keys/claim";
        let body = json!({ "one_time_keys": { &alice: { "D1": "signed_curve25519" }, &bob: { "X": "y" } } });
        let told = b.request(a, Method::POST, claim, Some(body)).await.unwrap();
        assert_eq!(told, json!({ "one_time_keys": {} }));
        let many: BTreeMap<String, Value> = (0..10_001)
            .map(|n| (format!("@u{n}:a.example"), json!([])))
            .collect();
        let body = json!({ "device_keys": many });
        let error = b.request(a, Method::POST, query, Some(body)).await.unwrap_err();
        assert_eq!(error.status, StatusCode::BAD_REQUEST);
    })
    .await;
}
