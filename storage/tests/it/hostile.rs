//! Strings from strangers, through every insert, on both databases.

use rhizome_storage::testing::each_database;
use rhizome_storage::{
    AccountData, DataChange, Fact, Receipt, Status, Store, TokenRevoked, TxnKey, WriteSet,
};
use ruma::{EventId, OwnedDeviceId};
use serde_json::json;

use crate::factory::{Room, came, decided_on};

const STRINGS: &[&str] = &[
    "",
    "\u{0}",
    "a\u{0}b\u{0}",
    "\u{1}",
    "\u{1}0\u{0}\u{1}1",
    "'; DROP TABLE event; --",
    "\" OR 1=1",
    "\\u0000 \\",
    "$1 %s {} EACH($1) FOR_UPDATE UNHEX(x)",
    "line\nbreak\ttab\r\u{b}\u{1f}\u{7f}\u{85}",
    "\u{2028}\u{2029}\u{feff}\u{200b}",
    "e\u{301} \u{e9} \u{1f469}\u{200d}\u{1f52c} \u{10ffff} \u{fffd}",
    "[[1,2]] null true 9007199254740993",
];

fn strings() -> impl Iterator<Item = String> {
    let own = STRINGS.iter().map(|text| (*text).to_owned());
    own.chain(["x".repeat(255), "\u{1f600}".repeat(60)])
}

#[tokio::test]
async fn keys_of_state_come_back() {
    each_database(|store| async move {
        let all: Vec<_> = strings().collect();
        let keys: Vec<_> = all
            .iter()
            .map(|text| (text.as_str(), text.as_str()))
            .collect();
        let nos = store.key_nos(&keys).await.unwrap();
        let fresh = Store::open(store.options().clone()).await.unwrap();
        for store in [&store, &fresh] {
            assert_eq!(store.key_nos(&keys).await.unwrap(), nos);
        }
        let again = Store::open(store.options().clone()).await.unwrap();
        let read = again.keys(&nos).await.unwrap();
        for (key, text) in read.iter().zip(&all) {
            assert_eq!((&key.kind, &key.key), (text, text));
        }
    })
    .await;
}

#[tokio::test]
async fn events_come_back_byte_for_byte() {
    each_database(|store| async move {
        let room = Room::new(&store, "r").await;
        let alice = store.user_no(&room.alice).await.unwrap();
        let mut ids = Vec::new();
        for text in strings() {
            let content = json!({ "body": text, text.clone(): [text.clone()] });
            let pdu = room.event(&room.alice, &text, Some(&text), content).await;
            let txn = TxnKey {
                user: alice,
                device: OwnedDeviceId::from(text.as_str()),
                path: text.clone(),
                txn_id: text.clone(),
            };
            let mut write = room.state_write(pdu.clone()).await;
            write.events[0].txn = Some(txn.clone());
            room.commit(write).await.unwrap();
            ids.push((pdu, txn));
            // And one that is refused, for a hostile reason.
            let mut write = room.write_of(room.message(&text).await, None).await;
            let id = write.events[0].pdu.event_id().to_owned();
            write.events[0].status = Status::Rejected;
            write.events[0].reason = Some(text.clone());
            room.commit(write).await.unwrap();
            let fresh = Store::open(store.options().clone()).await.unwrap();
            let stored = fresh.event(&id).await.unwrap().unwrap();
            assert_eq!(stored.reason.as_deref(), Some(text.as_str()));
            fresh.close().await;
        }
        let fresh = Store::open(store.options().clone()).await.unwrap();
        let state = fresh
            .room(&room.id)
            .await
            .unwrap()
            .unwrap()
            .snapshot
            .unwrap();
        for (pdu, txn) in ids {
            let stored = fresh.event(pdu.event_id()).await.unwrap().unwrap();
            assert_eq!(stored.pdu.json(), pdu.json());
            let owner = stored.txn.clone().unwrap();
            assert_eq!(
                (owner.device, owner.txn_id),
                (txn.device.clone(), txn.txn_id.clone())
            );
            let made = fresh.transaction(&txn).await.unwrap();
            assert_eq!(made.as_deref(), Some(pdu.event_id()));
            let key = pdu.state_key().unwrap();
            let entry = fresh.state_entry(state, pdu.kind(), key).await.unwrap();
            assert_eq!(entry, Some(stored.no));
        }
    })
    .await;
}

#[tokio::test]
async fn facts_come_back() {
    each_database(|store| async move {
        let room = Room::new(&store, "r").await;
        let alice = store.user_no(&room.alice).await.unwrap();
        let start = store.log().head();
        for text in strings() {
            let json_text = serde_json::to_string(&json!({ text.clone(): text })).unwrap();
            let facts = vec![
                Fact::Receipt(Receipt {
                    room: room.no,
                    user: alice,
                    kind: text.clone(),
                    thread: Some(text.clone()),
                    // Ids of old room versions may hold almost anything.
                    event_id: EventId::parse(format!("$x{}:here.example", text.len())).unwrap(),
                    ts: i64::MAX,
                }),
                Fact::AccountData(DataChange {
                    data: AccountData {
                        user: alice,
                        room: None,
                        kind: text.clone(),
                        content: json_text.as_str().into(),
                    },
                    expect: None,
                }),
                Fact::TokenRevoked(TokenRevoked {
                    user: alice,
                    device: Some(text.as_str().into()),
                }),
                decided_on(
                    came(
                        alice,
                        room.no,
                        rhizome_protocol::Membership::Invite,
                        alice,
                        &json_text,
                        &text,
                    ),
                    room.head().await.state_version,
                ),
            ];
            store.commit(WriteSet::from(facts)).await.unwrap();
            let fresh = Store::open(store.options().clone()).await.unwrap();
            let data = fresh
                .account_data(alice, None, &text)
                .await
                .unwrap()
                .unwrap();
            assert_eq!(&*data.content, json_text);
            let invite = fresh.remote_invite(alice, room.no).await.unwrap().unwrap();
            assert_eq!(
                (&*invite.event, &*invite.stripped_state),
                (&*json_text, &*text)
            );
            fresh.close().await;
        }
        let fresh = Store::open(store.options().clone()).await.unwrap();
        let receipts = fresh.receipts_of(room.no, alice).await.unwrap();
        let kinds: Vec<_> = receipts
            .iter()
            .map(|receipt| receipt.kind.clone())
            .collect();
        assert_eq!(kinds, strings().collect::<Vec<_>>());
        let entries = fresh
            .log()
            .read(start, fresh.log().head(), 1_000)
            .await
            .unwrap();
        assert!(entries.len() > 3 * STRINGS.len());
    })
    .await;
}
