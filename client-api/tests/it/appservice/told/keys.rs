//! Encryption through transactions: messages to devices, lists of devices, and how many keys there are.

use http::Method;
use rhizome_storage::{
    Pos,
    testing::{eventually, spoil},
};
use serde_json::{Value, json};

use super::{Acting, World, bridged, each, irc, later, leaves, side::Does};
use crate::{e2ee::signer::Device, harness::User, to_device::send};

pub const TO_DEVICE: [&str; 2] = ["to_device", "de.sorunome.msc2409.to_device"];
const COUNTS: [&str; 2] = [
    "device_one_time_keys_count",
    "org.matrix.msc3202.device_one_time_keys_count",
];
const FALLBACK: [&str; 2] = [
    "device_unused_fallback_key_types",
    "org.matrix.msc3202.device_unused_fallback_key_types",
];
pub const LISTS: [&str; 2] = ["device_lists", "org.matrix.msc3202.device_lists"];

/// What all transactions say under a name, which says it under the older one, too.
pub fn said(world: &World, [name, older]: [&str; 2]) -> Vec<Value> {
    let transactions = world.irc().transactions();
    for transaction in &transactions {
        assert_eq!(transaction.get(name), transaction.get(older));
    }
    let said = transactions.into_iter();
    said.filter_map(|mut transaction| Some(transaction.get_mut(name)?.take()))
        .collect()
}

/// The bridge's user with a device.
pub async fn with_device(world: &World) -> Acting {
    let (_, ann) = world.bridge().await;
    let body = json!({ "display_name": "bridge" });
    ann.ok(Method::PUT, "/devices/BRIDGE", body).await;
    ann.and("device_id=BRIDGE")
}

/// Keys of that device: so many one-time keys, and a fallback key.
fn keys(names: &[&str]) -> Value {
    let key = |name: &str| json!({ "key": name, "signatures": { "@irc_ann:here": {} } });
    let one_time = names
        .iter()
        .map(|name| (format!("signed_curve25519:{name}"), key(name)));
    json!({
        "one_time_keys": one_time.collect::<serde_json::Map<_, _>>(),
        "fallback_keys": { "signed_curve25519:F": key("F") },
    })
}

/// A user's device uploads its keys.
async fn shows_keys(user: &User, seed: u8) {
    let device = Device::of(user, seed).await;
    device.upload(json!({ "device_keys": device.keys() })).await;
}

async fn claim(user: &User) -> Value {
    let body = json!({ "one_time_keys": { "@irc_ann:here": { "BRIDGE": "signed_curve25519" } } });
    let answer = user.ok(Method::POST, "/keys/claim", body).await;
    answer["one_time_keys"]["@irc_ann:here"]["BRIDGE"].clone()
}

async fn waiting(world: &World) -> usize {
    let store = &world.server.store;
    let user = store.known_user("@irc_ann:here".try_into().unwrap());
    let user = user.await.unwrap().unwrap();
    let all = store.to_device(user, "BRIDGE".into(), Pos(0), Pos(i64::MAX), 99);
    all.await.unwrap().len()
}

#[tokio::test]
async fn messages_to_its_users_devices_come_once_and_go_when_they_are_taken() {
    each(&[irc], async |world| {
        with_device(world).await;
        let ada = world.server.register("ada").await;
        world.irc().does([Does::Answers(500)]);
        for n in 0..3 {
            let to = json!({ "@irc_ann:here": { "BRIDGE": { "n": n } }, &ada.id: { "*": {} } });
            send(&ada, &format!("txn{n}"), to).await;
        }
        world.irc().gets(1).await;
        assert_eq!(waiting(world).await, 3, "nothing goes before it is taken");
        let told = || -> Vec<Value> {
            let lists = said(world, TO_DEVICE).into_iter();
            lists
                .flat_map(|list| list.as_array().unwrap().clone())
                .collect()
        };
        later(world, async || told().len() >= 3).await;
        let message = |n: u64| {
            json!({
                "type": "m.test", "sender": ada.id, "content": { "n": n },
                "to_user_id": "@irc_ann:here", "to_device_id": "BRIDGE",
            })
        };
        assert_eq!(told(), [message(0), message(1), message(2)]);
        eventually("they are gone", async || waiting(world).await == 0).await;
    })
    .await;
}

#[tokio::test]
async fn how_many_keys_are_left_is_told_when_it_changes() {
    each(&[irc], async |world| {
        let ann = with_device(world).await;
        let ada = world.server.register("ada").await;
        let count = || {
            let counts = said(world, COUNTS);
            let last = counts
                .last()
                .map(|last| last["@irc_ann:here"]["BRIDGE"].clone());
            last.and_then(|last| last["signed_curve25519"].as_u64())
        };
        let unused = || {
            let types = said(world, FALLBACK);
            types
                .last()
                .map(|last| last["@irc_ann:here"]["BRIDGE"].clone())
        };
        ann.ok(Method::POST, "/keys/upload", keys(&["A", "B"]))
            .await;
        eventually("two are there", async || count() == Some(2)).await;
        assert_eq!(unused(), Some(json!(["signed_curve25519"])));
        assert!(claim(&ada).await.is_object());
        eventually("one is left", async || count() == Some(1)).await;
        claim(&ada).await;
        eventually("none is left", async || count() == Some(0)).await;
        claim(&ada).await;
        eventually("the fallback key is used", async || {
            unused() == Some(json!([]))
        })
        .await;
    })
    .await;
}

#[tokio::test]
async fn a_message_says_how_many_keys_its_device_has() {
    each(&[irc], async |world| {
        with_device(world).await;
        let ada = world.server.register("ada").await;
        send(
            &ada,
            "one",
            json!({ "@irc_ann:here": { "BRIDGE": { "n": 1 } } }),
        )
        .await;
        eventually("both are told", async || {
            let transactions = world.irc().transactions();
            transactions.iter().any(|one| {
                one["to_device"].is_array()
                    && one[COUNTS[0]]["@irc_ann:here"]["BRIDGE"]["signed_curve25519"] == 0
            })
        })
        .await;
    })
    .await;
}

#[tokio::test]
async fn whose_devices_to_look_at_follows_from_shared_rooms() {
    each(&[irc], async |world| {
        let ann = with_device(world).await;
        let (ada, eve) = (
            world.server.register("ada").await,
            world.server.register("eve").await,
        );
        let room = bridged(&ada, &ann).await;
        let lists = |which: &str| -> Vec<String> {
            let lists = said(world, LISTS).into_iter();
            let lists = lists.flat_map(|lists| lists[which].as_array().unwrap().clone());
            lists
                .map(|user| user.as_str().unwrap().to_owned())
                .collect()
        };
        eventually("whom it has met is told", async || {
            lists("changed").contains(&ada.id)
        })
        .await;
        let before = lists("changed").len();
        shows_keys(&eve, 1).await;
        shows_keys(&ada, 2).await;
        eventually("new keys are told", async || {
            lists("changed")[before..].contains(&ada.id)
        })
        .await;
        assert!(!lists("changed").contains(&eve.id));
        // Who comes in is to be looked at, and whoever shares no room any more is left.
        eve.join(&room).await;
        eventually("who comes is told", async || {
            lists("changed").contains(&eve.id)
        })
        .await;
        assert_eq!(lists("left"), [""; 0]);
        eve.leave(&room).await;
        eventually("who goes is told", async || {
            lists("left") == [eve.id.clone()]
        })
        .await;
        leaves(&ann, &room).await;
        eventually("all are left", async || lists("left").contains(&ada.id)).await;
        assert!(!lists("left").contains(&"@irc_ann:here".to_owned()));
    })
    .await;
}

#[tokio::test]
async fn devices_that_changed_long_ago_are_told_to_who_was_away() {
    each(&[irc], async |world| {
        let ann = with_device(world).await;
        let ada = world.server.register("ada").await;
        let room = bridged(&ada, &ann).await;
        world.irc().hears(&ada.say(&room, "hello").await).await;
        world.end().await;
        let before = said(world, LISTS).len();
        shows_keys(&ada, 2).await;
        // Nobody remembers single changes any more, neither in memory nor in the database.
        spoil(&world.server.store, "DELETE FROM device_change").await;
        world.restart().await;
        eventually("it is told all the same", async || {
            let later = said(world, LISTS).split_off(before);
            later
                .iter()
                .any(|lists| lists["changed"][0] == ada.id.as_str())
        })
        .await;
    })
    .await;
}
