//! Resolution while events are missing.

use std::sync::Arc;

use rhizome_protocol::{
    Pdu,
    resolve::{Events, Missing, StateMap, resolve},
};
use ruma::{EventId, OwnedEventId};
use serde_json::json;

use super::{each, levels_of};
use crate::room::{ALICE, BOB, CARL, Room, levels, member, state};

/// Some events of a room.
struct Part<'a> {
    room: &'a Room,
    hidden: Vec<OwnedEventId>,
}

impl Events for Part<'_> {
    fn event(&self, id: &EventId) -> Option<Arc<Pdu>> {
        if self.hidden.iter().any(|hidden| hidden == id) {
            None
        } else {
            self.room.event(id)
        }
    }
    fn rejected(&self, id: &EventId) -> bool {
        self.room.rejected(id)
    }
}

#[test]
fn missing_events_are_named_until_none_is_missing() {
    each(|mut room, last| {
        let power = levels(levels_of(&room, 50, 50));
        let powered = room.send_all(
            &[last.clone()],
            &[(ALICE, power), (CARL, state("m.room.topic", "", json!({})))],
        );
        let banned = room.send_all(
            &[last],
            &[
                (BOB, member(CARL, "leave")),
                (CARL, member(CARL, "join")),
                (BOB, member(CARL, "ban")),
            ],
        );
        let forks = [room.after[&powered].clone(), room.after[&banned].clone()];
        let whole = resolve(room.rules, &forks, &room).unwrap();

        let mut some = Part {
            room: &room,
            hidden: room.events.keys().cloned().collect(),
        };
        let mut rounds = 0;
        loop {
            match resolve(room.rules, &forks, &some) {
                Ok(state) => break assert_eq!(state, whole),
                Err(Missing(ids)) => {
                    assert!(!ids.is_empty() && ids.is_sorted());
                    assert!(
                        ids.iter().all(|id| some.hidden.contains(id)),
                        "only what is missing is asked for"
                    );
                    some.hidden.retain(|id| !ids.contains(id));
                }
            }
            rounds += 1;
            assert!(rounds < 10);
        }
        // Each lone event that is missing is either named or not needed.
        for id in room.events.keys() {
            match resolve(
                room.rules,
                &forks,
                &Part {
                    room: &room,
                    hidden: vec![id.clone()],
                },
            ) {
                Ok(state) => assert_eq!(state, whole),
                Err(Missing(ids)) => assert_eq!(ids, [id.clone()]),
            }
        }
    });
}

#[test]
fn without_conflict_nothing_is_looked_at() {
    let (room, last) = Room::lively("12");
    let nothing = Part {
        room: &room,
        hidden: room.events.keys().cloned().collect(),
    };
    let state = room.after[&last].clone();
    assert_eq!(resolve(room.rules, &[], &nothing), Ok(StateMap::new()));
    assert_eq!(
        resolve(room.rules, std::slice::from_ref(&state), &nothing),
        Ok(state.clone())
    );
    assert_eq!(
        resolve(
            room.rules,
            &[state.clone(), state.clone(), state.clone()],
            &nothing
        ),
        Ok(state)
    );
}
