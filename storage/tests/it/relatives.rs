//! The children of one event and of many, by pages.

use rhizome_protocol::Pdu;
use rhizome_storage::testing::each_database;
use rhizome_storage::{Along, Children, Direction, Edited, HistoryToken, Parent, Pos, SurelySeen};
use ruma::OwnedEventId;
use serde_json::json;

use crate::factory::Room;

const ALL: SurelySeen = SurelySeen {
    since: Pos(i64::MIN),
    shared_upto: i64::MAX,
    upto: Pos(i64::MAX),
};

async fn relate(room: &Room, rel_type: &str, to: &OwnedEventId, kind: &str) {
    let content = json!({"body": "b", "m.new_content": {"body": "c"},
        "m.relates_to": {"rel_type": rel_type, "event_id": to}});
    let pdu = room.event(&room.alice, kind, None, content).await;
    let write = room.write_of(pdu, None).await;
    room.commit(write).await.unwrap();
}

#[tokio::test]
async fn pages_of_many_are_those_of_each_put_together() {
    each_database(|store| async move {
        let room = Room::new(&store, "r").await;
        let mut parents = Vec::new();
        for name in ["one", "two", "three", "none"] {
            parents.push(room.send(name).await);
        }
        for n in 0..14 {
            let kind = ["m.room.message", "m.reaction"][n / 2 % 2];
            let rel_type = ["m.thread", "m.reference"][n / 5 % 2];
            relate(&room, rel_type, &parents[[0, 0, 1, 0, 2][n % 5]], kind).await;
        }
        let start = HistoryToken::START;
        let end = HistoryToken {
            depth: i64::MAX,
            order: i64::MAX,
        };
        let ways = [
            Along::History(start, Direction::Forward, Pos(i64::MAX)),
            Along::History(end, Direction::Backward, Pos(i64::MAX)),
            Along::Arrival(Pos(0), Pos(i64::MAX)),
        ];
        for along in ways {
            for (rel_type, kind) in [
                (None, None),
                (Some("m.thread"), None),
                (Some("m.thread"), Some("m.reaction")),
                (Some("m.nothing"), None),
            ] {
                let of = |parents| Children {
                    room: room.no,
                    parents,
                    rel_type,
                    kind,
                };
                let mut expected = Vec::new();
                for parent in &parents {
                    let parent = std::slice::from_ref(parent);
                    expected.extend(store.children(of(parent), along, 100).await.unwrap());
                }
                expected.sort_by_key(|event| (event.depth, event.order));
                if matches!(along, Along::History(_, Direction::Backward, _)) {
                    expected.reverse();
                }
                for limit in [1, 2, 3, 5, 100] {
                    let found = store
                        .children(of(&parents[..]), along, limit)
                        .await
                        .unwrap();
                    let found: Vec<_> = found.iter().map(|event| event.no).collect();
                    let expected = expected.iter().take(limit).map(|event| event.no);
                    assert_eq!(
                        found,
                        expected.collect::<Vec<_>>(),
                        "{along:?} {rel_type:?}"
                    );
                }
            }
        }
    })
    .await;
}

#[tokio::test]
async fn no_event_takes_away_what_is_told_of_others() {
    each_database(|store| async move {
        let room = Room::new(&store, "r").await;
        let (one, two) = (room.send("one").await, room.send("two").await);
        for (parent, count) in [(&one, 30), (&two, 1)] {
            for _ in 0..count {
                relate(&room, "m.replace", parent, "m.room.message").await;
            }
            relate(&room, "m.reference", parent, "m.room.message").await;
        }
        let events = store.events(&[one.clone(), two.clone()]).await.unwrap();
        let pdus: Vec<&Pdu> = events.iter().map(|event| &*event.pdu).collect();
        let sender = store.user_nos(&[&room.alice]).await.unwrap()[0];
        let parents: Vec<Parent<'_>> = pdus
            .iter()
            .map(|pdu| Parent {
                room: room.no,
                event: pdu.event_id(),
                seen: ALL,
            })
            .collect();
        let edited = parents.iter().map(|parent| Edited {
            parent: *parent,
            sender,
            kind: "m.room.message",
        });
        let edited: Vec<_> = edited.collect();
        assert_eq!(store.latest_edits(&edited).await.unwrap().len(), 2);
        let references = store.references(&parents, &[]).await.unwrap();
        let each: Vec<_> = [0, 1].iter().map(|n| references[n].len()).collect();
        assert_eq!(each, [1, 1]);
    })
    .await;
}
