//! Stories of people, their rooms and the time.

use std::time::Duration;

use ruma::device_id;

use super::PresenceState::{Busy, Offline, Online, Unavailable};
use super::people::Bounds;
use super::*;
use crate::log::positions::ProcessId;

const fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

const ADA: UserNo = UserNo(1);
const BOB: UserNo = UserNo(2);
const EVE: UserNo = UserNo(3);
const ONE: RoomNo = RoomNo(1);
const TWO: RoomNo = RoomNo(2);

const ONLINE: SyncPresence = SyncPresence {
    state: Online,
    said: false,
};

fn people() -> People {
    let bounds = Bounds {
        people: 3,
        places: 100,
    };
    People::new(bounds, Positions::new(ProcessId::ONLY, 0))
}

fn open(rooms: &[RoomNo]) -> Learned {
    Learned {
        open: rooms.to_vec(),
        closed: Vec::new(),
    }
}

/// A user of ours comes online, who is in these rooms.
fn comes(people: &mut People, user: UserNo, rooms: &[RoomNo], now: Duration) {
    if let Some(turn) = people.unknown(user) {
        let new = Whose::Ours(Devices::default(), Words::default());
        assert!(people.learn(user, turn, &open(rooms), Some(new)));
    }
    people.change_devices(user, now, |devices, _| {
        devices.syncs(device_id!("D"), ONLINE, now)
    });
}

fn goes(people: &mut People, user: UserNo, now: Duration) {
    people.change_devices(user, now, |devices, _| devices.synced(device_id!("D"), now));
}

#[test]
fn who_follows_all_hears_of_everybody_who_changes() {
    let mut people = people();
    comes(&mut people, ADA, &[ONE], secs(0));
    assert_eq!(people.followed, None, "nobody follows them");
    people.followed = Some(BTreeSet::new());
    comes(&mut people, BOB, &[], secs(0));
    let followed = people.followed.replace(BTreeSet::new());
    assert_eq!(followed, Some(BTreeSet::from([BOB])));
    // That somebody does something is no change of what others see of them at once.
    people.change_devices(BOB, secs(1), |devices, _| {
        devices.acts(device_id!("D"), secs(1));
    });
    let followed = people.followed.take();
    assert_eq!(followed, Some(BTreeSet::new()));
}

/// Whom a reader in these rooms is told of, and what.
fn told(
    people: &People,
    reader: UserNo,
    rooms: &[RoomNo],
    after: Option<i64>,
) -> Vec<(UserNo, PresenceState)> {
    let rooms: Vec<_> = rooms.iter().map(|room| (*room, false)).collect();
    let news = people.news(reader, &rooms, after, (100, secs(0)));
    let news = news.into_iter().map(|news| news.status);
    news.map(|status| (status.user, status.state)).collect()
}

fn head(people: &People) -> i64 {
    let rooms = [(ONE, false), (TWO, false)];
    let news = people.news(UserNo(0), &rooms, Some(-1), (100, secs(0)));
    news.last().map_or(0, |news| news.position)
}

/// The rooms in which those who wait are to be told.
fn untold(people: &mut People) -> Vec<RoomNo> {
    let mut rooms: Vec<_> = std::iter::from_fn(|| people.rooms.next_untold()).collect();
    rooms.sort_unstable();
    rooms
}

#[test]
fn who_shares_a_room_is_told_once_of_each_change() {
    let mut people = people();
    comes(&mut people, ADA, &[ONE, TWO], secs(0));
    comes(&mut people, BOB, &[TWO], secs(1));
    assert_eq!(untold(&mut people), [ONE, TWO]);
    assert_eq!(told(&people, EVE, &[ONE], None), [(ADA, Online)]);
    let both = [(ADA, Online), (BOB, Online)];
    assert_eq!(told(&people, EVE, &[ONE, TWO], None), both);
    // A reader's own presence is among it, wherever the reader is.
    assert_eq!(told(&people, BOB, &[], None), [(BOB, Online)]);
    let before = head(&people);
    goes(&mut people, ADA, secs(2));
    assert_eq!(told(&people, EVE, &[ONE, TWO], Some(before)), []);
    people.expire(secs(31));
    assert_eq!(told(&people, EVE, &[ONE, TWO], Some(before)), []);
    people.expire(secs(32));
    let gone = [(ADA, Offline)];
    assert_eq!(told(&people, EVE, &[ONE, TWO], Some(before)), gone);
    assert_eq!(told(&people, EVE, &[ONE], None), []);
    assert_eq!(untold(&mut people).len(), 2);
}

#[test]
fn a_poll_after_the_other_changes_nothing() {
    let mut people = people();
    comes(&mut people, ADA, &[ONE], secs(0));
    let before = head(&people);
    for at in [10, 20, 30, 40, 50, 60] {
        goes(&mut people, ADA, secs(at));
        people.expire(secs(at + 5));
        comes(&mut people, ADA, &[ONE], secs(at + 5));
    }
    assert_eq!(told(&people, BOB, &[ONE], Some(before)), []);
    // But five minutes without anything done do.
    people.expire(secs(299));
    assert_eq!(told(&people, BOB, &[ONE], Some(before)), []);
    people.expire(secs(300));
    let idle = [(ADA, Unavailable)];
    assert_eq!(told(&people, BOB, &[ONE], Some(before)), idle);
}

#[test]
fn who_comes_into_a_room_is_seen_there_and_who_leaves_is_not() {
    let mut people = people();
    comes(&mut people, ADA, &[ONE], secs(0));
    people.member(TWO, ADA, Membership::Join, secs(1));
    assert_eq!(people.moved(), [ADA]);
    let turn = people.unknown(ADA).unwrap();
    assert!(people.learn(ADA, turn, &open(&[ONE, TWO]), None));
    assert!(people.moved().is_empty());
    assert_eq!(told(&people, BOB, &[TWO], Some(1)), [(ADA, Online)]);
    people.member(ONE, ADA, Membership::Leave, secs(2));
    assert_eq!(told(&people, BOB, &[ONE], None), []);
    assert_eq!(people.places_of(ADA), [TWO]);
}

#[test]
fn an_answer_from_before_a_change_of_membership_does_not_count() {
    let mut people = people();
    let turn = people.unknown(ADA).unwrap();
    people.member(ONE, ADA, Membership::Leave, secs(0));
    let new = || Some(Whose::Ours(Devices::default(), Words::default()));
    assert!(!people.learn(ADA, turn, &open(&[ONE]), new()));
    let (first, second) = (people.unknown(ADA).unwrap(), people.unknown(ADA).unwrap());
    assert!(!people.learn(ADA, first, &open(&[ONE]), new()));
    assert!(people.learn(ADA, second, &open(&[]), new()));
    assert!(people.places_of(ADA).is_empty());
}

#[test]
fn a_room_that_is_new_to_the_reader_is_told_whole() {
    let mut people = people();
    comes(&mut people, ADA, &[ONE], secs(0));
    comes(&mut people, BOB, &[ONE], secs(0));
    goes(&mut people, BOB, secs(0));
    people.expire(secs(30));
    let now = head(&people);
    let news = people.news(EVE, &[(ONE, true)], Some(now), (100, secs(60)));
    let news: Vec<_> = news.into_iter().map(|news| news.status).collect();
    assert_eq!(news.len(), 1);
    assert_eq!((news[0].user, news[0].state), (ADA, Online));
    assert_eq!(news[0].last_active_ago, Some(60_000));
}

#[test]
fn a_room_that_has_grown_too_large_shows_nobody() {
    let mut people = people();
    comes(&mut people, ADA, &[ONE, TWO], secs(0));
    let turn = people.unknown(BOB).unwrap();
    let learned = Learned {
        open: vec![],
        closed: vec![ONE],
    };
    let new = Whose::Ours(Devices::default(), Words::default());
    assert!(people.learn(BOB, turn, &learned, Some(new)));
    assert_eq!(told(&people, EVE, &[ONE], None), []);
    assert_eq!(told(&people, EVE, &[TWO], None), [(ADA, Online)]);
    assert_eq!(people.places_of(ADA), [TWO]);
}

#[test]
fn an_answer_that_is_cut_goes_on_where_it_ended() {
    let mut people = people();
    for (user, at) in [(ADA, 0), (BOB, 1), (EVE, 2)] {
        comes(&mut people, user, &[ONE], secs(at));
    }
    let rooms = [(ONE, false)];
    let first = people.news(UserNo(9), &rooms, Some(0), (2, secs(3)));
    assert_eq!(first.len(), 2);
    let rest = people.news(UserNo(9), &rooms, Some(first[1].position), (2, secs(3)));
    assert_eq!(rest.len(), 1);
    assert_eq!(rest[0].status.user, EVE);
}

fn update(state: PresenceState, active: bool) -> PresenceUpdate {
    PresenceUpdate {
        state,
        message: None,
        last_active_ago: Some(7_000),
        currently_active: active,
    }
}

#[test]
fn what_another_server_says_holds_for_half_an_hour() {
    let mut people = people();
    let turn = people.unknown(BOB).unwrap();
    let busy = || Whose::theirs(update(Busy, true), secs(10));
    assert!(people.learn(BOB, turn, &open(&[ONE]), Some(busy())));
    people.change(BOB, secs(10), |whose| *whose = busy());
    assert_eq!(untold(&mut people), [ONE]);
    assert_eq!(
        people.status(BOB, secs(10)).unwrap().last_active_ago,
        Some(7_000)
    );
    // That they are less active wakes nobody, though it is told.
    let before = head(&people);
    let still = Whose::theirs(update(Busy, false), secs(20));
    people.change(BOB, secs(20), |whose| *whose = still);
    assert_eq!(untold(&mut people), []);
    assert_eq!(told(&people, ADA, &[ONE], Some(before)), [(BOB, Busy)]);
    people.expire(secs(1_819));
    assert_eq!(people.status(BOB, secs(1_819)).unwrap().state, Busy);
    people.expire(secs(1_820));
    assert_eq!(people.status(BOB, secs(1_820)).unwrap().state, Offline);
}

#[test]
fn other_servers_are_told_of_changes_of_arrivals_and_now_and_then() {
    let mut people = people();
    comes(&mut people, ADA, &[ONE], secs(0));
    assert_eq!(people.out, None);
    people.out = Some(OutgoingPresence::default());
    let out = |people: &mut People| std::mem::take(people.out.as_mut().unwrap());
    goes(&mut people, ADA, secs(1));
    people.expire(secs(40));
    let changed = |user| OutgoingPresence {
        changed: [user].into(),
        ..OutgoingPresence::default()
    };
    assert_eq!(out(&mut people), changed(ADA));
    // Once, however many changes there are until somebody looks.
    comes(&mut people, ADA, &[ONE], secs(41));
    people.change_devices(ADA, secs(42), |devices, _| {
        devices.set(device_id!("D"), Busy, secs(42));
    });
    assert_eq!(out(&mut people), changed(ADA));
    people.expire(secs(41 + 25 * 60 - 1));
    assert!(out(&mut people).is_empty());
    people.expire(secs(41 + 25 * 60));
    assert_eq!(out(&mut people), changed(ADA));
    // Who comes into a room where somebody is; in others it matters to nobody.
    people.member(ONE, EVE, Membership::Join, secs(2_000));
    people.member(TWO, EVE, Membership::Join, secs(2_000));
    people.expire(secs(2_004));
    assert!(out(&mut people).is_empty());
    people.expire(secs(2_005));
    let came = OutgoingPresence {
        came: [(ONE, EVE)].into(),
        ..OutgoingPresence::default()
    };
    assert_eq!(out(&mut people), came);
}

#[test]
fn whom_another_process_leaves_behind_others_tell_of() {
    let mut people = people();
    people.positions.hear(ProcessId(2), 1);
    people.out = Some(OutgoingPresence::default());
    let turn = people.unknown(ADA).unwrap();
    let new = Whose::Ours(Devices::default(), Words::default());
    assert!(people.learn(ADA, turn, &open(&[ONE]), Some(new)));
    let says = |people: &mut People, state, now: u64| {
        let now = secs(now);
        let there = devices::Here {
            state,
            until: now + secs(90),
            active: Some(now),
        };
        people.change_devices(ADA, now, |devices, _| {
            devices.hear(ProcessId(2), there, None, now);
        });
        std::mem::take(people.out.as_mut().unwrap())
    };
    // What it takes back it tells itself.
    assert!(says(&mut people, Online, 0).is_empty());
    assert!(says(&mut people, Offline, 10).is_empty());
    assert!(says(&mut people, Online, 20).is_empty());
    people.expire(secs(109));
    assert!(people.out.as_ref().unwrap().is_empty());
    people.expire(secs(110));
    assert_eq!(told(&people, BOB, &[ONE], Some(0)), [(ADA, Offline)]);
    assert_eq!(people.out.unwrap().changed, [ADA].into());
}

#[test]
fn who_has_been_offline_longest_is_forgotten_first_and_nobody_who_is_there() {
    let mut people = people();
    for (user, at) in [(ADA, 0), (BOB, 1), (EVE, 2)] {
        comes(&mut people, user, &[ONE], secs(at));
    }
    // All are there: nobody else fits.
    comes(&mut people, UserNo(4), &[ONE], secs(3));
    assert_eq!(people.status(UserNo(4), secs(3)), None);
    goes(&mut people, BOB, secs(3));
    people.expire(secs(33));
    goes(&mut people, ADA, secs(33));
    people.expire(secs(63));
    comes(&mut people, UserNo(4), &[ONE], secs(64));
    assert_eq!(people.status(BOB, secs(64)), None);
    assert_eq!(people.status(ADA, secs(64)).unwrap().state, Offline);
    assert_eq!(people.status(UserNo(4), secs(64)).unwrap().state, Online);
}
