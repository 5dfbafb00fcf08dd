//! History with holes: what comes late, and what came before.

use std::collections::HashMap;

use rhizome_rooms::{
    receive::{self, Gathered, Received},
    state,
};
use serde_json::json;

use crate::rig::*;

#[tokio::test]
async fn events_that_arrive_before_their_parents_wait_for_them() {
    each(|[one, two]: [_; 2]| async move {
        let room = public_room(&one, "@alice:one").await;
        join_via(&one, &two, &room, "@bob:two").await.unwrap();
        let first = say(&one, &room, "@alice:one", "1").await;
        let topic = set(
            &one,
            &room,
            "@alice:one",
            "m.room.topic",
            "",
            json!({ "topic": "2" }),
        )
        .await;
        let third = say(&one, &room, "@alice:one", "3").await;
        let Received::Need(need) = carry(&one, &two, &third).await else {
            panic!("a gap")
        };
        assert_eq!(need.prev, [topic.clone()]);
        let Received::Need(need) = carry(&one, &two, &topic).await else {
            panic!("a gap")
        };
        assert_eq!(need.prev, [first.clone()]);
        for id in [&first, &topic, &third] {
            assert_eq!(carry(&one, &two, id).await, Received::Accepted);
        }
        assert_eq!(current(&one, &room).await, current(&two, &room).await);
        assert_eq!(ends(&two, &room).await, [third]);
    })
    .await;
}

#[tokio::test]
async fn a_hole_is_bridged_by_the_state_after_it_and_filled_later() {
    each(|[one, two]: [_; 2]| async move {
        let room = public_room(&one, "@alice:one").await;
        join_via(&one, &two, &room, "@bob:two").await.unwrap();
        let lost = say(&one, &room, "@alice:one", "lost").await;
        let topic = set(
            &one,
            &room,
            "@alice:one",
            "m.room.topic",
            "",
            json!({ "topic": "lost too" }),
        );
        let topic = topic.await;
        let last = say(&one, &room, "@alice:one", "heard").await;

        // What `/state_ids` and `/event` give about the event that we lack.
        let state = state::before(&one, &*stored(&one, &topic).await)
            .await
            .unwrap()
            .unwrap();
        let (state, _) = told(&one, &state).await;
        let prev = pdu(&one, &topic).await;
        let mut gathered = Gathered::default();
        gathered
            .states_after
            .insert(topic.clone(), state_after(&state, &prev));
        let event = pdu(&one, &last).await;
        let need = receive::receive(&two, event.clone(), &gathered)
            .await
            .unwrap();
        let Received::Need(need) = need else {
            panic!("the topic itself is not here yet")
        };
        assert_eq!((need.prev.len(), need.auth), (0, vec![topic.clone()]));
        let report = receive::outliers(&two, &room, vec![prev]).await.unwrap();
        assert!(report.accepted.contains(&topic));
        assert_eq!(
            receive::receive(&two, event, &gathered).await.unwrap(),
            Received::Accepted
        );
        assert_eq!(current(&one, &room).await, current(&two, &room).await);

        // The hole is known, and filled.
        let head = two.store().room(&room).await.unwrap().unwrap();
        let missing = two.store().missing_prev_events(head.room, 10).await;
        let missing: Vec<_> = missing.unwrap().into_iter().map(|(id, _)| id).collect();
        assert!(missing.contains(&topic), "{missing:?}");
        let history = vec![pdu(&one, &topic).await, pdu(&one, &lost).await];
        let filled = receive::backfilled(&two, &room, history, &Gathered::default())
            .await
            .unwrap();
        assert_eq!(
            filled.accepted,
            [lost.clone(), topic.clone()],
            "{:?}",
            filled.needs
        );
        let mut read = history_of(&two, &room).await;
        assert_eq!(read.split_off(read.len() - 3), [lost, topic, last]);
        assert_eq!(ends(&two, &room).await, ends(&one, &room).await);
    })
    .await;
}

/// Who has never had what came before an event still knows the state before it.
#[tokio::test]
async fn a_hole_is_bridged_by_the_state_before_what_follows_it() {
    each(|[one, two]: [_; 2]| async move {
        let room = public_room(&one, "@alice:one").await;
        join_via(&one, &two, &room, "@bob:two").await.unwrap();
        let topic = json!({ "topic": "lost" });
        let lost = set(&one, &room, "@alice:one", "m.room.topic", "", topic).await;
        let name = json!({ "name": "heard" });
        let heard = set(&one, &room, "@alice:one", "m.room.name", "", name).await;

        let (state, _) = told_before(&one, &*stored(&one, &heard).await).await;
        let event = pdu(&one, &heard).await;
        // That it is in the state before it is no reason for it to be there.
        let mut before = receive::state_map(&state);
        before.extend(receive::state_map(std::slice::from_ref(&event)));
        let gathered = Gathered {
            states_before: HashMap::from([(heard.clone(), before)]),
            ..Gathered::default()
        };
        let need = receive::receive(&two, event.clone(), &gathered).await;
        let Received::Need(need) = need.unwrap() else {
            panic!("the topic itself is not here yet")
        };
        assert_eq!((need.prev.len(), need.auth), (0, vec![lost.clone()]));
        let lost_event = vec![pdu(&one, &lost).await];
        receive::outliers(&two, &room, lost_event).await.unwrap();
        let received = receive::receive(&two, event, &gathered).await;
        assert_eq!(received.unwrap(), Received::Accepted);
        assert_eq!(current(&one, &room).await, current(&two, &room).await);
        let (before, _) = told_before(&two, &*stored(&two, &heard).await).await;
        assert!(before.iter().all(|event| event.event_id() != &*heard));

        // The hole is known, and filled.
        let head = two.store().room(&room).await.unwrap().unwrap();
        let missing = two.store().missing_prev_events(head.room, 10).await;
        let missing: Vec<_> = missing.unwrap().into_iter().map(|(id, _)| id).collect();
        assert!(missing.contains(&lost), "{missing:?}");
        let history = vec![pdu(&one, &lost).await];
        let filled = receive::backfilled(&two, &room, history, &Gathered::default())
            .await
            .unwrap();
        assert_eq!(filled.accepted, [lost], "{:?}", filled.needs);
        assert_eq!(ends(&two, &room).await, ends(&one, &room).await);
    })
    .await;
}

#[tokio::test]
async fn what_comes_after_its_children_is_no_loose_end() {
    each(|[one, two]: [_; 2]| async move {
        let room = public_room(&one, "@alice:one").await;
        let old = set(
            &one,
            &room,
            "@alice:one",
            "m.room.topic",
            "",
            json!({ "topic": "old" }),
        )
        .await;
        let new = set(
            &one,
            &room,
            "@alice:one",
            "m.room.topic",
            "",
            json!({ "topic": "new" }),
        )
        .await;
        let joined = join_via(&one, &two, &room, "@bob:two").await.unwrap();
        // Both topics come again as if they were news, with the state before the older one.
        let first = stored(&one, &old).await;
        let prev = first.pdu.prev_events()[0].clone();
        let state = state::before(&one, &first).await.unwrap().unwrap();
        let (state, _) = told(&one, &state).await;
        let mut gathered = Gathered::default();
        gathered
            .states_after
            .insert(prev, receive::state_map(&state));
        let outcome = receive::receive(&two, first.pdu.clone(), &gathered).await;
        assert_eq!(outcome.unwrap(), Received::Accepted);
        let outcome = receive::receive(&two, pdu(&one, &new).await, &gathered).await;
        assert_eq!(outcome.unwrap(), Received::Accepted);
        assert!(ends(&two, &room).await.contains(&joined));
        assert!(!ends(&two, &room).await.contains(&new));
        let said = say(&two, &room, "@bob:two", "hello").await;
        assert_eq!(carry(&two, &one, &said).await, Received::Accepted);
        let topic = content(&two, &room, "m.room.topic", "").await.unwrap();
        assert_eq!(topic["topic"], "new");
        assert_eq!(current(&one, &room).await, current(&two, &room).await);
    })
    .await;
}

#[tokio::test]
async fn history_from_before_the_join_is_backfilled() {
    each(|[one, two]: [_; 2]| async move {
        let room = public_room(&one, "@alice:one").await;
        for turn in 0..5 {
            say(&one, &room, "@alice:one", &format!("{turn}")).await;
        }
        join_via(&one, &two, &room, "@bob:two").await.unwrap();
        let before = current(&two, &room).await;
        let log = log_of(&one, &room).await;
        // All of it, newest first as `/backfill` gives it. The create event needs no state before it.
        let history: Vec<_> = log.iter().rev().skip(1).cloned().collect();
        let report = receive::backfilled(&two, &room, history, &Gathered::default())
            .await
            .unwrap();
        assert!(report.needs.is_empty(), "{:?}", report.needs);
        assert_eq!(report.accepted.len(), log.len() - 1);
        assert_eq!(
            current(&two, &room).await,
            before,
            "the present doesn't change"
        );

        let log: Vec<_> = log.iter().map(|pdu| pdu.event_id().to_owned()).collect();
        assert_eq!(history_of(&two, &room).await, log);
    })
    .await;
}

#[tokio::test]
async fn history_without_a_state_before_it_needs_one() {
    each(|[one, two]: [_; 2]| async move {
        let room = public_room(&one, "@alice:one").await;
        let mut said = Vec::new();
        for turn in 0..5 {
            said.push(say(&one, &room, "@alice:one", &format!("{turn}")).await);
        }
        join_via(&one, &two, &room, "@bob:two").await.unwrap();
        let some = vec![pdu(&one, &said[4]).await, pdu(&one, &said[3]).await];
        let report = receive::backfilled(&two, &room, some.clone(), &Gathered::default())
            .await
            .unwrap();
        assert!(report.accepted.is_empty());
        assert_eq!(report.needs[&said[3]].prev, [said[2].clone()]);

        let third = stored(&one, &said[2]).await;
        let state = state::before(&one, &third).await.unwrap().unwrap();
        let (state, _) = told(&one, &state).await;
        let states_after = HashMap::from([(said[2].clone(), state_after(&state, &third.pdu))]);
        let gathered = Gathered {
            states_after,
            ..Gathered::default()
        };
        let report = receive::backfilled(&two, &room, some, &gathered)
            .await
            .unwrap();
        assert_eq!(
            report.accepted,
            [said[3].clone(), said[4].clone()],
            "{:?}",
            report.needs
        );
    })
    .await;
}
