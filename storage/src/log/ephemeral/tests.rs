//! Stories of typing, at one process and at several.

use ruma::user_id;

use super::*;

const ROOM: RoomNo = RoomNo(1);
const HALF: Option<Duration> = Some(Duration::from_secs(30));

fn at(position: i64) -> Heard {
    Heard::only(ProcessId::ONLY, position)
}

#[test]
fn typing_ends_by_itself() {
    let clock = Clock::manual(0);
    let stream = Ephemeral::new(clock.clone(), Positions::new(ProcessId::ONLY, 0));
    let alice = user_id!("@alice:a");
    assert!(stream.set(ROOM, alice, HALF));
    assert!(!stream.set(ROOM, alice, HALF));
    assert_eq!(stream.typing(ROOM), (at(1), vec![alice.to_owned()]));
    assert_eq!(stream.changed(&[ROOM, RoomNo(2)], &at(0)), [ROOM]);
    clock.advance(Duration::from_secs(29));
    assert!(stream.expire().is_empty());
    clock.advance(Duration::from_secs(1));
    assert_eq!(stream.expire(), [ROOM]);
    assert_eq!(stream.typing(ROOM), (at(2), vec![]));
    assert_eq!(stream.changed(&[ROOM], &at(1)), [ROOM]);
    assert!(stream.changed(&[ROOM], &at(2)).is_empty());
    assert!(!stream.set(ROOM, alice, None));
}

#[test]
fn who_follows_all_rooms_is_told_of_each_that_changed_once() {
    let stream = Ephemeral::new(Clock::manual(0), Positions::new(ProcessId::ONLY, 0));
    let (alice, other) = (user_id!("@alice:a"), RoomNo(2));
    let news = stream.changes();
    assert_eq!(stream.changed_since(0), (0, vec![]));
    stream.set(ROOM, alice, HALF);
    stream.set(other, alice, HALF);
    stream.set(ROOM, alice, None);
    // That she goes on is no news.
    stream.set(other, alice, HALF);
    assert!(news.has_changed().unwrap());
    let (changes, rooms) = stream.changed_since(0);
    assert_eq!(rooms, [other, ROOM]);
    assert_eq!(*news.borrow(), changes);
    assert_eq!(stream.changed_since(changes), (changes, vec![]));
    assert!(hears(&stream, ProcessId(9), 50, true));
    assert_eq!(stream.changed_since(changes).1, [ROOM]);
}

/// Alice types, or not, by what a process says at its position. Whether that changes anything.
fn hears(here: &Ephemeral, by: ProcessId, position: i64, types: bool) -> bool {
    let (changed, _) = here.hear(by, &[(position, alice_types(types))], position);
    !changed.is_empty()
}

fn alice_types(types: bool) -> SaidTyping {
    SaidTyping {
        room: ROOM,
        user: user_id!("@alice:a").to_owned(),
        for_ms: types.then_some(30_000),
        of: None,
    }
}

/// Two processes, and what one says to the other.
#[test]
fn what_another_process_says_has_its_position() {
    let clock = Clock::manual(0);
    let (one, two) = (ProcessId(1), ProcessId(2));
    let here = Ephemeral::new(clock.clone(), Positions::new(two, 5));
    let alice = user_id!("@alice:a");
    let mut heard = here.heard();
    assert!(hears(&here, one, 101, true));
    assert_eq!(here.changed(&[ROOM], &heard), [ROOM]);
    // Who was told by that process isn't told again.
    heard.note(one, 101);
    assert!(here.changed(&[ROOM], &heard).is_empty());
    // She goes on, which is no news, and neither is what was overtaken.
    assert!(!hears(&here, one, 102, true));
    assert!(!hears(&here, one, 99, false));
    assert_eq!(here.typing(ROOM).1, [alice]);
    // She stops at this process: others are told, after all that they have said.
    assert!(here.set(ROOM, alice, None));
    assert_eq!(here.typing(ROOM).0.of(two), 103);
    assert_eq!(here.changed(&[ROOM], &heard), [ROOM]);
    // A process that says nothing more doesn't make anybody type for ever.
    assert!(hears(&here, one, 104, true));
    clock.advance(Duration::from_secs(34));
    assert!(here.expire().is_empty());
    clock.advance(Duration::from_secs(1));
    assert_eq!(here.expire(), [ROOM]);
    assert!(here.typing(ROOM).1.is_empty());
}

/// A reader who has been told everything isn't told again, whether they have heard of the process, heard less of it, or have
/// forgotten it.
#[test]
fn what_a_process_said_that_is_gone_is_told_once_at_most() {
    let (one, two) = (ProcessId(1), ProcessId(2));
    let positions = Positions::new(two, 5);
    let here = Ephemeral::new(Clock::manual(0), positions.clone());
    assert!(hears(&here, one, 105, true));
    let whole = here.heard();
    // What is told counts as heard.
    assert_eq!(whole.of(one), 105);
    assert!(here.changed(&[ROOM], &whole).is_empty());
    let mut less = whole.clone();
    less.set(one, 100);
    let forgot = Heard::only(two, whole.of(two));
    positions.lose(one);
    for before in [whole, less, forgot] {
        let now = here.heard();
        assert_eq!(now.len(), 1);
        let next = now.after(&before);
        assert!(here.changed(&[ROOM], &next).is_empty(), "{before:?}");
        assert!(!here.typing(ROOM).0.exceeds(&next), "{before:?}");
    }
    // Nothing more of it is remembered, and it can come back.
    assert_eq!(here.typing(ROOM).0.len(), 1);
    assert!(hears(&here, one, 106, false));
    assert_eq!(here.heard().of(one), 106);
    assert!(here.changed(&[ROOM], &here.heard()).is_empty());
}

/// A process ends, at which somebody had begun to type. Another, that has just come, never heard of them: a reader whom the
/// third had told that they type, and who comes to the new one first, is told the end there.
#[test]
fn the_end_of_typing_is_told_where_nobody_knew_of_it() {
    let clock = Clock::manual(0);
    let (gone, third, new) = (ProcessId(1), ProcessId(2), ProcessId(3));
    let at_third = Positions::new(third, 5);
    let there = Ephemeral::new(clock.clone(), at_third.clone());
    assert!(hears(&there, gone, 105, true));
    let told = there.heard();
    let here = Ephemeral::new(clock.clone(), Positions::new(new, 7));
    here.hear(third, &[], told.of(third));
    there.hear(new, &[], 7);

    clock.advance(Duration::from_secs(35));
    assert_eq!(there.expire(), [ROOM]);
    // What it has said since, and how far it is.
    let parcel = at_third.outbox().take(|| at_third.head());
    let upto = parcel.upto;
    let said = parcel.said.into_keys().map(|at| (at, alice_types(false)));
    let (changed, _) = here.hear(third, &said.collect::<Vec<_>>(), upto);
    assert_eq!(changed, [ROOM]);
    let reader = told.after(&Heard::only(new, 7));
    assert_eq!(here.changed(&[ROOM], &reader), [ROOM]);
    assert!(here.typing(ROOM).1.is_empty());
    // And once.
    let next = here.heard().after(&reader);
    assert!(here.changed(&[ROOM], &next).is_empty());
    assert!(there.changed(&[ROOM], &next).is_empty());
}

/// A process that hears late believes that somebody has stopped; the one at which they type has said since that they go on.
#[test]
fn who_goes_on_is_not_ended_by_a_process_that_has_not_heard_of_it() {
    let (one, two) = (ProcessId(1), ProcessId(2));
    let here = Ephemeral::new(Clock::manual(0), Positions::new(one, 100));
    here.hear(two, &[], 7);
    let alice = user_id!("@alice:a");
    assert!(here.set(ROOM, alice, HALF));
    let begun = here.typing(ROOM).0.of(one);
    assert!(!here.set(ROOM, alice, HALF));
    let late = SaidTyping {
        of: Some(begun),
        ..alice_types(false)
    };
    assert!(here.hear(two, &[(500, late)], 500).0.is_empty());
    assert_eq!(here.typing(ROOM).1, [alice]);
    // What has gone on no longer does end.
    let last = lock(&here.inner).rooms[&ROOM].typing[alice].position;
    let late = SaidTyping {
        of: Some(last),
        ..alice_types(false)
    };
    assert_eq!(here.hear(two, &[(501, late)], 501).0, [ROOM]);
}
