use base64::{Engine as _, engine::general_purpose::STANDARD_NO_PAD};
use rhizome_protocol::{canonical::to_canonical, sign::KeyPair};
use rhizome_storage::{Pos, RemoteBasis};
use ruma::{server_name, user_id};
use serde_json::{json, value::to_raw_value};

use super::*;

fn user(stream_id: Option<i64>, devices: usize) -> RemoteUser {
    let list = RemoteList {
        stream_id,
        learned: Pos(1),
        stale: false,
        failures: 0,
        retry_at: 0,
    };
    RemoteUser {
        user: UserNo(1),
        basis: RemoteBasis {
            list: Some(list),
            changed: None,
        },
        devices,
        bytes: 0,
        shares: true,
        held: true,
    }
}

fn update(stream: i64, prev: &[i64]) -> Update {
    let keys = json!({
        "user_id": "@u:x", "device_id": "D", "algorithms": [], "keys": {}, "signatures": {},
    });
    let content = json!({
        "user_id": "@u:x", "device_id": "D", "stream_id": stream, "prev_id": prev, "keys": keys,
    });
    let content = to_raw_value(&content).unwrap();
    read(server_name!("x"), "m.device_list_update", &content).unwrap()
}

/// What becomes of the list, and how many facts there are.
fn after(user: &RemoteUser, updates: &[Update]) -> Option<(Option<i64>, bool, usize)> {
    let changes: Vec<&Change> = updates.iter().map(|update| &update.change).collect();
    let facts = decide(user, &changes, &BTreeMap::new(), 7);
    let list = facts.iter().find_map(|fact| match fact {
        Fact::RemoteDevices(RemoteDevices { list, .. }) => *list,
        _ => None,
    });
    list.map(|list| (list.stream_id, list.stale, facts.len()))
}

/// Stream ids with what they follow upon.
type Told<'a> = &'a [(i64, &'a [i64])];

#[test]
fn what_follows_is_taken_and_all_else_makes_it_stale() {
    let known = user(Some(5), 1);
    let cases: [(Told<'_>, _); 9] = [
        (&[(6, &[5])], Some((Some(6), false, 3))),
        (&[(6, &[5]), (9, &[6])], Some((Some(9), false, 4))),
        // Known already.
        (&[(5, &[4])], None),
        // A gap, nothing before it, more before it than is known, backwards.
        (&[(8, &[7])], Some((Some(5), true, 2))),
        (&[(8, &[])], Some((Some(5), true, 2))),
        (&[(8, &[5, 7])], Some((Some(5), true, 2))),
        (&[(3, &[5])], Some((Some(5), true, 2))),
        (&[(i64::MIN, &[5])], Some((Some(5), true, 2))),
        (&[(8, &[7]), (9, &[5])], Some((Some(5), true, 2))),
    ];
    for (told, expected) in cases {
        let updates: Vec<_> = told.iter().map(|(at, prev)| update(*at, prev)).collect();
        assert_eq!(after(&known, &updates), expected, "{told:?}");
    }
    let unsure = user(None, 1);
    assert_eq!(after(&unsure, &[update(6, &[5])]), Some((None, true, 2)));
    let full = user(Some(5), MAX_DEVICES);
    assert_eq!(after(&full, &[update(6, &[5])]), Some((Some(5), true, 2)));
    let mut heavy = user(Some(5), 1);
    heavy.bytes = MAX_BYTES - 150;
    assert_eq!(after(&heavy, &[update(6, &[5])]), Some((Some(6), false, 3)));
    let two = [update(6, &[5]), update(7, &[6])];
    assert_eq!(after(&heavy, &two), Some((Some(6), true, 3)));
}

#[test]
fn of_a_stale_list_nobody_is_told_again() {
    let mut stale = user(Some(5), 1);
    let list = stale.basis.list.as_mut().unwrap();
    (list.stale, list.failures, list.retry_at) = (true, 3, 1_000);
    let updates = [update(9, &[8]), update(6, &[5])];
    let changes: Vec<&Change> = updates.iter().map(|update| &update.change).collect();
    let facts = decide(&stale, &changes, &BTreeMap::new(), 7);
    // That something came is to be seen by whoever waits for an answer.
    let [Fact::RemoteDevices(now)] = &facts[..] else {
        panic!("{facts:?}");
    };
    let list = now.list.unwrap();
    assert!(list.stale && list.failures == 3 && list.retry_at < 1_000);
    assert_eq!(list.stream_id, Some(5));
}

#[test]
fn nobody_speaks_for_another_server() {
    let content = json!({
        "user_id": user_id!("@u:y"), "device_id": "D", "stream_id": 1, "deleted": true,
    });
    let content = to_raw_value(&content).unwrap();
    let read = read(server_name!("x"), "m.device_list_update", &content);
    assert!(read.is_none());
}

#[test]
fn keys_that_are_left_out_are_not_gone() {
    let known = user(Some(5), 1);
    let (master, of_devices) = (KeyPair::from_seed("m", &[1; 32]), [2; 32]);
    let (master, of_devices) = (master.unwrap(), KeyPair::from_seed("s", &of_devices));
    let key = |usage: &str, public: &str| {
        json!({
            "user_id": "@u:x", "usage": [usage], "keys": { format!("ed25519:{public}"): public },
        })
    };
    let mut signed = key("self_signing", &of_devices.unwrap().public_base64());
    let text = to_canonical(signed.as_object().unwrap()).unwrap();
    let signature = STANDARD_NO_PAD.encode(master.sign(text.as_bytes()));
    let public = master.public_base64();
    signed["signatures"] = json!({ "@u:x": { format!("ed25519:{public}"): signature } });
    let master = key("master", &public);
    let update = |content: Value| {
        let content = to_raw_value(&content).unwrap();
        read(server_name!("x"), "m.signing_key_update", &content).unwrap()
    };
    let parts = [
        json!({ "user_id": "@u:x" }),
        json!({ "user_id": "@u:x", "master_key": master }),
        json!({ "user_id": "@u:x", "self_signing_key": signed }),
    ];
    for part in parts {
        let told = after(&known, &[update(part.clone())]);
        assert_eq!(told, Some((Some(5), true, 2)), "{part}");
    }
    let whole = json!({
        "user_id": "@u:x", "master_key": master, "self_signing_key": signed,
    });
    let told = after(&known, &[update(whole)]);
    assert_eq!(told, Some((Some(5), false, 3)));
}

#[test]
fn keys_that_are_not_in_order_make_it_stale() {
    let known = user(Some(5), 1);
    let content = json!({ "user_id": "@u:x", "master_key": { "user_id": "@other:x" } });
    let content = to_raw_value(&content).unwrap();
    let update = read(server_name!("x"), "m.signing_key_update", &content).unwrap();
    assert_eq!(after(&known, &[update]), Some((Some(5), true, 2)));
}
