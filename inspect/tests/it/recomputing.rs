//! Whether stored states are what their events make, and what is told if not.

use rhizome_inspect::{self as inspect, Place};
use rhizome_rooms::Rooms;
use rhizome_storage::{Store, testing::spoil_snapshot};
use serde_json::json;

use crate::{inspecting::demotion, rig::*};

/// The same database, with nothing remembered.
async fn again(rooms: &Rooms) -> Store {
    Store::open(rooms.store().options().clone()).await.unwrap()
}

#[tokio::test]
async fn stored_states_are_what_their_events_make() {
    each(|[one, two]: [_; 2]| async move {
        for version in ["1", "2", "11", "12"] {
            let story = demotion(&one, &two, version).await;
            for id in [&story.profile, &story.topic, &story.his, &story.merge] {
                carry(&two, &one, id).await;
            }
            for (server, joined) in [(&one, 0), (&two, 1)] {
                let fresh = again(server).await;
                let head = inspect::find(&fresh, story.room.as_str()).await.unwrap();
                let mut told = 0;
                let done = inspect::recompute(&fresh, &head, |count| told = count)
                    .await
                    .unwrap();
                assert_eq!(done.disagreement, None, "version {version}");
                assert!(done.merges >= 1, "{done:?}");
                // Where the join was adopted, its state is taken as given.
                assert_eq!(done.given, joined);
                assert_eq!(told, done.events);
                fresh.close().await;
            }
        }
    })
    .await;
}

#[tokio::test]
async fn a_spoilt_state_is_found() {
    each(|[one, two]: [_; 2]| async move {
        let story = demotion(&one, &two, "12").await;
        let store = two.store();
        let merge = stored(&two, &story.merge).await;
        let key = store.key_no("m.room.name", "").await.unwrap();
        let his = stored(&two, &story.his).await.no;
        // As if resolution had chosen Bob's name.
        spoil_snapshot(store, merge.state_before.unwrap(), &[(key, Some(his))]).await;
        let fresh = again(&two).await;
        let head = inspect::find(&fresh, story.room.as_str()).await.unwrap();
        let done = inspect::recompute(&fresh, &head, |_| {}).await.unwrap();
        let found = done
            .disagreement
            .expect("Bob's name stands where it must not");
        let told = inspect::event(&fresh, &head, &story.merge, 1)
            .await
            .unwrap();
        if found.event_id.as_ref() == Some(&story.merge) {
            assert_eq!(found.place, Place::Before);
            assert_eq!(found.kind.as_deref(), Some("m.room.name"));
            assert_eq!(found.stored, Some(story.his));
            assert_eq!(found.recomputed, Some(story.hers));
        } else {
            panic!("the merge has a snapshot of its own: {found:?}");
        }
        assert_eq!(told.resolution.unwrap().agrees, Some(false));
        fresh.close().await;
    })
    .await;
}

#[tokio::test]
async fn a_spoilt_state_after_a_plain_event_is_found() {
    each(|[one]: [_; 1]| async move {
        let room = public_room(&one, "@alice:one").await;
        set(
            &one,
            &room,
            "@alice:one",
            "m.room.topic",
            "",
            json!({ "topic": "a" }),
        )
        .await;
        let name = set(
            &one,
            &room,
            "@alice:one",
            "m.room.name",
            "",
            json!({ "name": "a" }),
        )
        .await;
        let key = one.store().key_no("m.room.topic", "").await.unwrap();
        let at = stored(&one, &name).await.state_after.unwrap();
        spoil_snapshot(one.store(), at, &[(key, None)]).await;
        let fresh = again(&one).await;
        let head = inspect::find(&fresh, room.as_str()).await.unwrap();
        let done = inspect::recompute(&fresh, &head, |_| {}).await.unwrap();
        let found = done.disagreement.expect("the topic is gone");
        assert_eq!((found.place, found.event_id), (Place::After, Some(name)));
        assert_eq!(found.kind.as_deref(), Some("m.room.topic"));
        assert_eq!(found.stored, None);
        assert!(found.recomputed.is_some());
        fresh.close().await;
    })
    .await;
}
