//! The state before an event, told by another server as what comes before it is missing.

use rhizome_rooms::receive::{Gathered, Received};

use crate::{
    ends::{ALICE, EVE, MALLORY, MODERN, Room, none, receive},
    rig::*,
};

/// As little as one that is told after what is missing.
#[tokio::test]
async fn a_state_told_before_an_event_doesnt_win_when_the_missing_event_comes() {
    each(|[one, two]: [_; 2]| async move {
        for version in MODERN {
            let room = Room::new(&one, &two, version).await;
            let withheld = room.says(&two, &pdu(&one, &room.ban).await, "withheld");
            let second = room.says(&two, &withheld, "second");
            let told = Gathered {
                states_before: [(second.event_id().to_owned(), room.old.clone())].into(),
                ..Gathered::default()
            };
            assert_eq!(receive(&one, &second, &told).await, Received::Accepted);
            room.check(&one).await;
            let third = room.says(&two, &second, "third");
            assert_eq!(receive(&one, &third, &none()).await, Received::Accepted);
            assert_eq!(receive(&one, &withheld, &none()).await, Received::Accepted);
            room.check(&one).await;
            // It says so of one event, and of no other.
            let stray = room.says(&two, &room.says(&two, &third, "lost"), "stray");
            let outcome = receive(&one, &stray, &told).await;
            assert!(matches!(outcome, Received::Need(_)), "{outcome:?}");
            say(&one, &room.id, ALICE, "well?").await;
            assert_eq!(ends(&one, &room.id).await.len(), 1);
            room.check(&one).await;
        }
    })
    .await;
}

/// The state before an event whose prevs are known but for one meets what those make: the ban doesn't fall away.
#[tokio::test]
async fn nor_beside_what_is_known() {
    each(|[one, two]: [_; 2]| async move {
        let room = Room::new(&one, &two, "11").await;
        let ban = pdu(&one, &room.ban).await;
        let withheld = room.says(&two, &ban, "withheld");
        let both = forged(
            &two,
            &message(&room.id, MALLORY, "both"),
            &[ban.clone(), withheld],
            &room.auth,
            ban.origin_server_ts() + 2,
        );
        let told = Gathered {
            states_before: [(both.event_id().to_owned(), room.old.clone())].into(),
            ..Gathered::default()
        };
        assert_eq!(receive(&one, &both, &told).await, Received::Accepted);
        let event = stored(&one, both.event_id()).await;
        let (state, _) = told_before(&one, &event).await;
        let mut state = state.iter();
        let eve = state.find(|event| event.is_state("m.room.member", EVE));
        assert_eq!(eve.map(|event| event.event_id()), Some(&*room.ban));
        room.check(&one).await;
    })
    .await;
}
