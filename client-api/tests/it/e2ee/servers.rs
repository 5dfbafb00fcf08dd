//! Devices and keys of users of other servers, as clients see them.

use http::Method;
use rhizome_storage::testing::eventually;
use serde_json::{Value, json};

use super::several::{Several, devices_of, ids, several};
use super::signer::{Device, Signer, query};
use crate::harness::{User, esc, next};

/// Alice of the first server and Bob of the second, who share a room.
async fn pair(all: &Several) -> (User, User, String) {
    let alice = all.server(0).register("alice").await;
    let bob = all.server(1).register("bob").await;
    let room = alice.create_public().await;
    assert!(all.join(&bob, &room).await);
    (alice, bob, room)
}

async fn uploaded(user: &User, seed: u8) -> Device {
    let device = Device::of(user, seed).await;
    device.upload(json!({ "device_keys": device.keys() })).await;
    device
}

/// Syncs until somebody is among those whose devices have changed; gives where it got to.
async fn hears_of(user: &User, since: &str, whose: &str) -> String {
    let mut at = since.to_owned();
    for _ in 0..100 {
        let told = user.sync(Some(&at), "&timeout=20000").await;
        at = next(&told);
        let changed = told["device_lists"]["changed"].as_array().cloned();
        if changed.unwrap_or_default().contains(&json!(whose)) {
            return at;
        }
    }
    panic!("{} never hears of {whose}", user.id);
}

/// Waits until a user sees exactly these devices of another.
async fn sees(viewer: &User, whose: &str, mut devices: Vec<&str>) {
    devices.sort_unstable();
    eventually("the devices are seen", async || {
        devices_of(viewer, whose)
            .await
            .is_some_and(|seen| seen == devices)
    })
    .await;
}

/// Waits until a server knows where a user's list stands.
async fn followed(all: &Several, viewer: &User, server: usize, user: &str) {
    let store = &all.server(server).store;
    eventually("the list is followed", async || {
        // If something came in between, it wasn't remembered what was answered.
        query(viewer, json!({ user: [] })).await;
        let user = store.known_user(user.try_into().unwrap()).await;
        let user = user.unwrap().unwrap();
        let known = store.remote_users(&[user], all.name(server)).await.unwrap();
        known[0].is_current() && known[0].basis.list.unwrap().stream_id.is_some()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_is_asked_for_once_and_then_followed() {
    several(2, async |all| {
        let (alice, bob, _) = pair(all).await;
        let mut at = next(&bob.sync(None, "").await);
        let first = uploaded(&alice, 1).await;
        at = hears_of(&bob, &at, &alice.id).await;
        let answer = query(&bob, json!({ &alice.id: [] })).await;
        let seen = &answer["device_keys"][&alice.id][&first.id];
        assert_eq!(seen["keys"], first.keys()["keys"], "{answer}");
        assert_eq!(seen["signatures"], first.keys()["signatures"]);
        // What is known needs no question.
        sees(&bob, &alice.id, vec![&first.id]).await;
        let asked = all.asked(0);
        sees(&bob, &alice.id, vec![&first.id]).await;
        assert_eq!(all.asked(0), asked);

        // What comes first leads to the whole list, with which it says where it stands.
        let second = uploaded(&alice.another_device().await, 2).await;
        at = hears_of(&bob, &at, &alice.id).await;
        sees(&bob, &alice.id, vec![&first.id, &second.id]).await;
        followed(all, &bob, 1, &alice.id).await;
        // What comes then is taken as it comes.
        let asked = all.asked(0);
        let phone = alice.another_device().await;
        let third = uploaded(&phone, 3).await;
        hears_of(&bob, &at, &alice.id).await;
        sees(&bob, &alice.id, vec![&first.id, &second.id, &third.id]).await;
        let name = json!({ "display_name": "phone" });
        let path = format!("/devices/{}", esc(&third.id));
        phone.ok(Method::PUT, &path, name).await;
        eventually("the name is told", async || {
            let answer = query(&bob, json!({ &alice.id: [&third.id] })).await;
            let unsigned = &answer["device_keys"][&alice.id][&third.id]["unsigned"];
            unsigned["device_display_name"] == "phone"
        })
        .await;
        phone.ok(Method::POST, "/logout", json!({})).await;
        sees(&bob, &alice.id, vec![&first.id, &second.id]).await;
        assert_eq!(all.asked(0), asked);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_changes_while_a_server_is_away_is_told_when_it_is_back() {
    several(2, async |all| {
        let (mut alice, mut bob, _) = pair(all).await;
        let first = uploaded(&alice, 1).await;
        sees(&bob, &alice.id, vec![&first.id]).await;
        let at = next(&bob.sync(None, "").await);
        let b = all.name(1).to_owned();
        all.network.cut(&b);
        let mut devices = vec![first];
        // More than are told one by one.
        for seed in 2..30 {
            devices.push(uploaded(&alice.another_device().await, seed).await);
        }
        all.restart(0).await;
        all.restart(1).await;
        (alice, bob) = (all.again(&alice), all.again(&bob));
        all.network.mend(&b);
        hears_of(&bob, &at, &alice.id).await;
        sees(
            &bob,
            &alice.id,
            devices.iter().map(|one| &*one.id).collect(),
        )
        .await;
        assert!(all.asked(0) < 10, "{}", all.asked(0));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_shares_no_room_for_a_while_is_looked_at_again() {
    several(2, async |all| {
        let (alice, bob, room) = pair(all).await;
        let first = uploaded(&alice, 1).await;
        sees(&bob, &alice.id, vec![&first.id]).await;
        bob.leave(&room).await;
        // Nobody tells the second server of this.
        let second = uploaded(&alice.another_device().await, 2).await;
        assert!(all.join(&bob, &room).await);
        sees(&bob, &alice.id, vec![&first.id, &second.id]).await;
        // Without a room, keys are passed on and not remembered.
        bob.leave(&room).await;
        let third = uploaded(&alice.another_device().await, 3).await;
        sees(&bob, &alice.id, vec![&first.id, &second.id, &third.id]).await;
        let answer = query(&bob, json!({ &alice.id: [&third.id] })).await;
        assert_eq!(ids(&answer, &alice.id), [third.id]);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn cross_signing_keys_are_told() {
    several(2, async |all| {
        let (alice, bob, _) = pair(all).await;
        let device = uploaded(&alice, 1).await;
        sees(&bob, &alice.id, vec![&device.id]).await;
        for seed in [50, 60] {
            let master = Signer::cross_signing(&alice.id, seed);
            let signing = Signer::cross_signing(&alice.id, seed + 1);
            let mut body = json!({
                "master_key": master.as_key("master"),
                "self_signing_key": master.sign(&signing.as_key("self_signing")),
            });
            body["auth"] = json!({ "type": "m.login.password", "password": "a good password",
                "identifier": { "type": "m.id.user", "user": alice.id } });
            let path = "/keys/device_signing/upload";
            alice.ok(Method::POST, path, body).await;
            let signed = signing.sign(&device.keys());
            let body = json!({ &alice.id: { &device.id: signed } });
            let answer = alice
                .ok(Method::POST, "/keys/signatures/upload", body)
                .await;
            assert_eq!(answer["failures"], json!({}), "{answer}");
            eventually("the keys are seen", async || {
                let answer = query(&bob, json!({ &alice.id: [] })).await;
                let keys = |what: &str| answer[what][&alice.id]["keys"].clone();
                let by = &answer["device_keys"][&alice.id][&device.id]["signatures"][&alice.id];
                keys("master_keys") == json!({ &master.name: master.public() })
                    && keys("self_signing_keys") == json!({ &signing.name: signing.public() })
                    && by[&signing.name] == signed["signatures"][&alice.id][&signing.name]
            })
            .await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_time_keys_are_given_once_and_others_failures_are_told() {
    several(3, async |all| {
        let (alice, bob, _) = pair(all).await;
        let device = Device::of(&alice, 1).await;
        device
            .upload(json!({
                "device_keys": device.keys(),
                "one_time_keys": device.one_time(&["AAAA", "AAAB"]),
                "fallback_keys": device.fallback("AAAF"),
            }))
            .await;
        sees(&bob, &alice.id, vec![&device.id]).await;
        let claim = async |whose: &[&str]| {
            let wanted: Value = (whose.iter())
                .map(|user| {
                    (
                        (*user).to_owned(),
                        json!({ &device.id: "signed_curve25519" }),
                    )
                })
                .collect::<serde_json::Map<_, _>>()
                .into();
            let body = json!({ "one_time_keys": wanted, "timeout": 5000 });
            bob.ok(Method::POST, "/keys/claim", body).await
        };
        for id in ["AAAA", "AAAB", "AAAF", "AAAF"] {
            let answer = claim(&[&alice.id]).await;
            let given = answer["one_time_keys"][&alice.id][&device.id].as_object();
            let given: Vec<String> = given.unwrap().keys().cloned().collect();
            assert_eq!(given, [format!("signed_curve25519:{id}")]);
            assert_eq!(answer["failures"], json!({}));
        }
        // Who can't be asked is named; the others are answered, what is remembered too.
        let carol = format!("@carol:{}", all.name(2));
        let (a, c) = (all.name(0).to_owned(), all.name(2).to_owned());
        all.network.cut(&c);
        let answer = claim(&[&alice.id, &carol]).await;
        let failures = answer["failures"].as_object().unwrap();
        assert_eq!(failures.keys().collect::<Vec<_>>(), [c.as_str()]);
        assert!(answer["one_time_keys"][&alice.id].is_object());
        followed(all, &bob, 1, &alice.id).await;
        all.network.cut(&a);
        let answer = query(&bob, json!({ &alice.id: [], &carol: [] })).await;
        assert_eq!(ids(&answer, &alice.id), [&*device.id]);
        let failures = answer["failures"].as_object().unwrap();
        assert_eq!(failures.keys().collect::<Vec<_>>(), [c.as_str()]);
    })
    .await;
}
