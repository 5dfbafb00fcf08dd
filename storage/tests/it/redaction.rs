//! Redactions, in whichever order they come.

use rhizome_storage::testing::each_database;
use rhizome_storage::{EntryKind, LiveEvent, Placement, Pos, Redacts, Store};
use ruma::{OwnedServerName, server_name};
use serde_json::json;

use crate::factory::{Event, Room};

async fn redaction(
    room: &Room,
    target: &rhizome_protocol::Pdu,
) -> std::sync::Arc<rhizome_protocol::Pdu> {
    let head = room.head().await;
    Event {
        room: &room.id,
        sender: &room.alice,
        kind: "m.room.redaction",
        state_key: None,
        content: json!({}),
        prevs: head
            .extremities
            .iter()
            .map(|ext| ext.event_id.clone())
            .collect(),
        auth: vec![],
        depth: 10,
        redacts: Some(target.event_id().to_owned()),
    }
    .build()
}

async fn commit_redaction(
    room: &Room,
    target: &rhizome_protocol::Pdu,
    only_from: Option<OwnedServerName>,
) {
    let mut write = room.write_of(redaction(room, target).await, None).await;
    write.events[0].redacts = Some(Redacts {
        target: target.event_id().to_owned(),
        only_from,
    });
    room.commit(write).await.unwrap();
}

/// What every way of reading says about the event's body.
async fn bodies(store: &Store, target: &rhizome_protocol::Pdu) -> Vec<bool> {
    let event = store.event(target.event_id()).await.unwrap().unwrap();
    let mut all = vec![event.pdu.content().contains_key("body")];
    assert_eq!(event.redacted_by.is_none(), all[0]);
    for entry in store
        .log()
        .read(Pos(0), store.log().head(), 1_000)
        .await
        .unwrap()
    {
        if let EntryKind::Event(LiveEvent { event, .. }) = &entry.kind
            && event.pdu.event_id() == target.event_id()
        {
            all.push(event.pdu.content().contains_key("body"));
        }
    }
    all
}

#[tokio::test]
async fn before_and_after_its_target() {
    each_database(|store| async move {
        let room = Room::new(&store, "r").await;
        let here = server_name!("here.example");
        let elsewhere = server_name!("there.example");
        for first in [true, false] {
            for (from, works) in [(None, true), (Some(here), true), (Some(elsewhere), false)] {
                let target = room.message(&format!("secret {first} {from:?}")).await;
                let from = from.map(ToOwned::to_owned);
                if first {
                    commit_redaction(&room, &target, from.clone()).await;
                }
                room.commit(room.write_of(target.clone(), None).await)
                    .await
                    .unwrap();
                if !first {
                    assert_eq!(bodies(&store, &target).await, [true, true]);
                    commit_redaction(&room, &target, from).await;
                }
                assert_eq!(bodies(&store, &target).await, [!works, !works]);
                // And in the database.
                let fresh = Store::open(store.options().clone()).await.unwrap();
                assert_eq!(bodies(&fresh, &target).await, [!works, !works]);
                fresh.close().await;
            }
        }
    })
    .await;
}

/// An outlier, of a room's state, say, is redacted, and gets its place in the history later.
#[tokio::test]
async fn an_outlier_stays_redacted_when_it_gets_its_place() {
    each_database(|store| async move {
        let room = Room::new(&store, "r").await;
        let target = room.message("secret").await;
        let mut outlier = room.write_of(target.clone(), None).await;
        outlier.events[0].placement = Placement::Outlier;
        let no = outlier.events[0].no;
        room.commit(outlier).await.unwrap();
        commit_redaction(&room, &target, None).await;
        let mut placed = room.write_of(target.clone(), None).await;
        placed.events[0].no = no;
        room.commit(placed).await.unwrap();
        assert_eq!(bodies(&store, &target).await, [false, false]);
    })
    .await;
}

#[tokio::test]
async fn not_across_rooms() {
    each_database(|store| async move {
        let (one, two) = (
            Room::new(&store, "one").await,
            Room::new(&store, "two").await,
        );
        let target = one.message("stays").await;
        one.commit(one.write_of(target.clone(), None).await)
            .await
            .unwrap();
        commit_redaction(&two, &target, None).await;
        assert_eq!(bodies(&store, &target).await, [true, true]);
    })
    .await;
}
