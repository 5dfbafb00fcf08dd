use std::time::Duration;

use futures_util::FutureExt as _;
use rhizome_storage::RoomNo;
use ruma::{UserId, room_id, server_name, user_id};
use serde_json::json;

use super::{
    ephemeral::{MAX_EDUS, MAX_TYPING},
    *,
};

/// So many tasks of either share at most.
fn most(tasks: usize) -> Each<usize> {
    Each {
        healthy: tasks,
        doubtful: tasks,
        failed: tasks,
    }
}

fn note(sender: &Sender, server: &ServerName, stand: DestinationState) {
    sender.note(server, stand, stand);
}

/// Who is due, whichever share they are of, and when the next is.
fn due(sender: &Sender, now: i64, tasks: usize) -> (Vec<OwnedServerName>, Option<i64>) {
    let (due, next) = sender.due(now, most(tasks));
    (due.into_iter().map(|(name, _)| name).collect(), next)
}

fn failed(retry_at: i64) -> DestinationState {
    DestinationState {
        failures: 1,
        retry_at,
        ..DestinationState::default()
    }
}

#[test]
fn typing_is_latest_wins_and_bounded() {
    let sender = Sender::new(Clock::manual(0));
    let server = server_name!("b.example");
    for typing in [true, false, true] {
        sender.typing([server], room_id!("!r:x"), user_id!("@u:x"), typing);
    }
    for n in 0..2000 {
        let user = UserId::parse(format!("@u{n}:x")).unwrap();
        sender.typing([server], room_id!("!r:x"), &user, true);
        sender.edu([server], "m.x", &json!({ "n": n }));
    }
    let state = sender.state();
    let queue = &state.queues[server];
    assert_eq!(queue.typing.len(), MAX_TYPING);
    assert_eq!(queue.edus.len(), MAX_EDUS);
    assert!(queue.edus.back().unwrap().contains("1999"));
}

/// There are thousands of them.
#[test]
fn an_idle_destination_takes_little_room() {
    assert!(size_of::<Queue>() <= 224);
}

#[test]
fn an_inbound_request_ends_a_back_off() {
    let clock = Clock::manual(1_000_000);
    let sender = Sender::new(clock.clone());
    let server = server_name!("b.example");
    sender.looked_at(Pos(1), [(&server.to_owned(), Beside::NOTHING)]);
    note(&sender, server, failed(9_000_000));
    let due = || due(&sender, clock.now_ms(), 9);
    assert_eq!(due(), (vec![], Some(9_000_000)));
    sender.seen(server);
    assert_eq!(due(), (vec![server.to_owned()], None));
    // One at a time.
    sender.looked_at(Pos(1), [(&server.to_owned(), Beside::NOTHING)]);
    assert_eq!(due(), (vec![], None));
    sender.ended(server);
    assert_eq!(due().0.len(), 1);
}

/// Who reaches us and can't be reached is tried for that once, and then now and then.
#[test]
fn a_back_off_is_ended_early_once() {
    let clock = Clock::manual(1_000_000);
    let sender = Sender::new(clock.clone());
    let server = server_name!("b.example");
    sender.looked_at(Pos(1), [(&server.to_owned(), Beside::NOTHING)]);
    let due = || due(&sender, clock.now_ms(), 9).0.len();
    let fails = || {
        note(&sender, server, failed(clock.now_ms() + 80_000));
        sender.state().queues.get_mut(server).unwrap().attempted = clock.now_ms();
        sender.ended(server);
        assert_eq!(due(), 0);
    };
    assert_eq!(due(), 1);
    fails();
    clock.advance(Duration::from_secs(2));
    sender.seen(server);
    assert_eq!(due(), 1);
    fails();
    clock.advance(Duration::from_secs(2));
    sender.seen(server);
    assert_eq!(due(), 0, "it has shown that it can't be reached");
    clock.advance(Duration::from_secs(8));
    sender.seen(server);
    assert_eq!(due(), 1);
    fails();
    // After a time without a sign of it, it is as before.
    clock.advance(Duration::from_secs(80));
    assert_eq!(due(), 1);
    fails();
    clock.advance(Duration::from_secs(2));
    sender.seen(server);
    assert_eq!(due(), 1);
}

#[test]
fn only_so_many_at_a_time() {
    let sender = Sender::new(Clock::manual(0));
    let names: Vec<OwnedServerName> = (0..10)
        .map(|n| format!("s{n}.example").try_into().unwrap())
        .collect();
    sender.looked_at(Pos(1), names.iter().map(|name| (name, Beside::NOTHING)));
    let due = |tasks| due(&sender, 0, tasks).0.len();
    assert_eq!([due(4), due(4), due(8), due(12), due(12)], [4, 0, 4, 2, 0]);
    // Whose work is done makes room.
    for name in &names {
        sender.state().queues.get_mut(name).unwrap().log = false;
        sender.ended(name);
    }
    sender.looked_at(Pos(2), names.iter().map(|name| (name, Beside::NOTHING)));
    assert_eq!([due(4), due(4)], [4, 0]);
}

/// However many fail, the others have their workers; who is up again is one of them.
#[test]
fn who_failed_last_has_workers_of_their_own() {
    let sender = Sender::new(Clock::manual(5_000));
    let names: Vec<OwnedServerName> = (0..200)
        .map(|n| format!("hole{n}.example").try_into().unwrap())
        .collect();
    let news = |names: &[OwnedServerName]| {
        sender.looked_at(Pos(1), names.iter().map(|name| (name, Beside::NOTHING)));
    };
    news(&names);
    for name in &names {
        note(&sender, name, failed(1_000));
    }
    let places = Each {
        healthy: 4,
        doubtful: 3,
        failed: 2,
    };
    assert_eq!(sender.due(100, places), (vec![], Some(1_000)));
    // One of those that wait shows that it is up.
    let (busy, _) = sender.due(1_000, places);
    assert_eq!(busy.len(), 2);
    sender.seen(&names[199]);
    sender.seen(&names[199]);
    assert_eq!(sender.due(1_000, places), (vec![], None));
    let healthy = server_name!("healthy.example").to_owned();
    news(std::slice::from_ref(&healthy));
    let (due, _) = sender.due(1_000, places);
    assert_eq!(due, [(healthy, Share::Healthy)]);

    // One of the two is reached: it makes room for the next while it works.
    note(&sender, &busy[0].0, DestinationState::default());
    sender.was_quick(&busy[0].0);
    assert!(sender.goes_on(&busy[0].0));
    let (due, _) = sender.due(1_000, places);
    assert_eq!(due, [(names[199].clone(), Share::Failed)]);
    let tasks = |healthy, failed| Each {
        healthy,
        doubtful: 0,
        failed,
    };
    assert_eq!(sender.state().busy, tasks(2, 2));
    for (name, _) in busy {
        sender.ended(&name);
    }
    assert_eq!(sender.state().busy, tasks(1, 1));
    let (due, _) = sender.due(1_000, places);
    let shares: Vec<Share> = due.iter().map(|(_, share)| *share).collect();
    assert_eq!(shares, [Share::Healthy, Share::Failed]);
    assert_ne!(due[1].0, names[199], "once");
    // After a stop everybody is looked at again.
    sender.restart();
    let (due, _) = sender.due(1_000, most(999));
    assert_eq!(due.len(), 201);
}

/// Who was never reached, or is slow, takes no place of those that answer at once; who becomes so makes room if there is any.
#[test]
fn who_is_in_doubt_has_workers_of_their_own() {
    let sender = Sender::new(Clock::manual(0));
    let names: Vec<OwnedServerName> = (0..4)
        .map(|n| format!("s{n}.example").try_into().unwrap())
        .collect();
    sender.looked_at(Pos(1), names.iter().map(|name| (name, Beside::NOTHING)));
    let most = Each {
        healthy: 4,
        doubtful: 1,
        failed: 9,
    };
    // Of nobody is known what is written down of them.
    let (due, _) = sender.due(0, most);
    assert!(due.iter().all(|(_, share)| *share == Share::Healthy));
    for name in &names {
        note(&sender, name, DestinationState::default());
        assert_eq!(sender.share(name), Share::Doubtful);
    }
    // Two were reached before; two weren't, and their tasks end for now.
    for name in &names[..2] {
        sender.was_reached(name);
        assert!(sender.goes_on(name));
    }
    for name in &names[2..] {
        sender.ended(name);
    }
    assert_eq!(
        sender.due(0, most).0,
        [(names[2].clone(), Share::Doubtful)],
        "one at a time"
    );
    // There is no room for one that has become slow: it goes on where it is, and somebody else's turn is next.
    assert!(sender.is_slow(&names[0]));
    assert_eq!(sender.state().busy.healthy, 2);
    assert!(!sender.goes_on(&names[0]));
    // One has answered: it goes on beside the quick ones.
    sender.was_quick(&names[2]);
    assert!(sender.goes_on(&names[2]));
    let busy = sender.state().busy;
    assert_eq!((busy.healthy, busy.doubtful), (3, 0));
    assert!(sender.is_slow(&names[1]));
    let busy = sender.state().busy;
    assert_eq!((busy.healthy, busy.doubtful), (2, 1));
    sender.ended(&names[1]);
    assert_eq!(sender.due(0, most).0, [(names[3].clone(), Share::Doubtful)]);
}

/// Half of the workers for quick ones may wait for slow ones where there is no other room, and no more.
#[test]
fn who_becomes_slow_where_there_is_no_room_is_put_off() {
    let sender = Sender::new(Clock::manual(0));
    let names: Vec<OwnedServerName> = (0..5)
        .map(|n| format!("s{n}.example").try_into().unwrap())
        .collect();
    sender.looked_at(Pos(1), names.iter().map(|name| (name, Beside::NOTHING)));
    let most = Each {
        healthy: 4,
        doubtful: 1,
        failed: 1,
    };
    assert_eq!(sender.due(0, most).0.len(), 4);
    for name in &names[..4] {
        note(&sender, name, DestinationState::default());
        sender.was_reached(name);
    }
    let waits = names[..4].iter().map(|name| sender.is_slow(name));
    assert_eq!(waits.collect::<Vec<_>>(), [true, false, false, false]);
    sender.ended(&names[1]);
    assert!(sender.is_slow(&names[2]), "half of them are free");
    let (due, _) = sender.due(0, most);
    assert_eq!(due, [(names[4].clone(), Share::Healthy)]);
    // Its own turn comes when one of the slow ones is done.
    sender.state().queues.get_mut(&names[0]).unwrap().log = false;
    sender.ended(&names[0]);
    let (due, _) = sender.due(0, most);
    assert_eq!(due, [(names[1].clone(), Share::Doubtful)]);
}

/// What a message costs doesn't follow those that are down.
#[test]
fn who_is_left_alone_stands_in_order_and_comes_back_at_their_time() {
    let sender = Sender::new(Clock::manual(0));
    let names: Vec<OwnedServerName> = (0..10)
        .map(|n| format!("s{n}.example").try_into().unwrap())
        .collect();
    let news = || names.iter().map(|name| (name, Beside::NOTHING));
    sender.looked_at(Pos(1), news());
    for (name, retry_at) in names.iter().zip([50, 10, 30, 20, 40, 60, 90, 70, 80, 100]) {
        note(&sender, name, failed(retry_at));
    }
    assert_eq!(due(&sender, 0, 99), (vec![], Some(10)));
    // More for all of them: nobody has to look.
    sender.looked_at(Pos(2), news());
    let ready = sender.state().ready.clone();
    assert!(ready.healthy.is_empty() && ready.failed.is_empty());
    assert!(ready.doubtful.is_empty());
    let at = |now| due(&sender, now, 99);
    assert_eq!(at(9), (vec![], Some(10)));
    assert_eq!(at(20), (vec![names[1].clone(), names[3].clone()], Some(30)));
    sender.ended(&names[1]);
    assert_eq!(at(20), (vec![names[1].clone()], Some(30)));
    assert_eq!(due(&sender, 1_000, 0), (vec![], None));
    assert_eq!(at(1_000).0.len(), 8);
    assert_eq!(at(1_000), (vec![], None));
}

/// Of more than there is room for nobody is passed over for their name.
#[test]
fn first_come_is_first_served() {
    let sender = Sender::new(Clock::manual(0));
    let [a, z] = ["a.example", "z.example"].map(|name| OwnedServerName::try_from(name).unwrap());
    let news = |name| sender.looked_at(Pos(1), [(name, Beside::NOTHING)]);
    news(&z);
    for _ in 0..3 {
        news(&a);
        let (due, _) = due(&sender, 0, 1);
        assert_eq!(due.len(), 1);
        if due[0] == z {
            return;
        }
        sender.ended(&due[0]);
    }
    panic!("it never had its turn");
}

/// Who writes down where destinations stand hears of it while a task is at work.
#[test]
fn what_is_to_be_written_down_is_told() {
    let sender = Sender::new(Clock::manual(0));
    let (one, other) = (server_name!("b.example"), server_name!("c.example"));
    let is_told = || sender.changed.notified().now_or_never().is_some();
    assert!(!is_told());
    note(&sender, one, failed(1));
    assert!(is_told());
    // It knows until it has written it.
    note(&sender, other, failed(2));
    assert!(!is_told());
    sender.state().dirty.clear();
    note(&sender, other, failed(3));
    assert!(is_told());
}

/// What a run has passed over is let go with all else, also if a task is at work on it meanwhile.
#[test]
fn what_was_passed_over_is_let_go_too() {
    let sender = Sender::new(Clock::manual(0));
    let server = server_name!("b.example");
    sender.looked_at(Pos(9), [(&server.to_owned(), Beside::NOTHING)]);
    let is_kept = |sent| {
        let mut run = Run::default();
        run.make_whole(RoomNo(1), (Pos(1), Pos(5)));
        sender.keep_run(server, Pos(sent), run);
        move |sender: &Sender| sender.take_run(server).behind().is_some()
    };
    assert!(is_kept(1)(&sender));
    let kept = is_kept(1);
    sender.let_go(server, Pos(12));
    assert!(!kept(&sender));
    assert!(!is_kept(1)(&sender), "its task didn't know of it yet");
    let stand = DestinationState {
        sent: Pos(1),
        newest: Pos(5),
        come: Pos(3),
        ..DestinationState::default()
    };
    note(&sender, server, stand);
    let stand = sender.stand(server).unwrap();
    assert!(stand.sent == Pos(12) && !stand.runs());
    assert_eq!(sender.state().dirty.get(server).unwrap().sent, Pos(12));
    assert!(is_kept(12)(&sender), "another began later");
}
