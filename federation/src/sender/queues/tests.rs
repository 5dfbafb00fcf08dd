use ruma::{room_id, server_name, user_id};
use serde_json::json;

use super::*;

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

#[test]
fn an_inbound_request_ends_a_back_off() {
    let clock = Clock::manual(1_000_000);
    let sender = Sender::new(clock.clone());
    let server = server_name!("b.example");
    sender.looked_at(Pos(1), [(&server.to_owned(), Beside::NOTHING)]);
    let failed = DestinationState {
        sent: Pos(0),
        failures: 5,
        retry_at: 9_000_000,
    };
    sender.note(server, failed);
    assert_eq!(sender.due(clock.now_ms(), 9), (vec![], Some(9_000_000)));
    sender.seen(server);
    assert_eq!(
        sender.due(clock.now_ms(), 9),
        (vec![server.to_owned()], None)
    );
    // One at a time.
    sender.looked_at(Pos(1), [(&server.to_owned(), Beside::NOTHING)]);
    assert_eq!(sender.due(clock.now_ms(), 9), (vec![], None));
    sender.ended(server);
    assert_eq!(sender.due(clock.now_ms(), 9).0.len(), 1);
}

#[test]
fn only_so_many_at_a_time() {
    let sender = Sender::new(Clock::manual(0));
    let names: Vec<OwnedServerName> = (0..10)
        .map(|n| format!("s{n}.example").try_into().unwrap())
        .collect();
    sender.looked_at(Pos(1), names.iter().map(|name| (name, Beside::NOTHING)));
    assert_eq!(sender.due(0, 4).0.len(), 4);
    assert_eq!(sender.due(0, 4).0.len(), 4);
    assert_eq!(sender.due(0, 4).0.len(), 2);
    assert_eq!(sender.due(0, 4).0.len(), 0);
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
        let stand = DestinationState {
            sent: Pos(0),
            failures: 1,
            retry_at,
        };
        sender.note(name, stand);
    }
    assert_eq!(sender.due(0, 99), (vec![], Some(10)));
    // More for all of them: nobody has to look.
    sender.looked_at(Pos(2), news());
    assert!(sender.state().ready.is_empty());
    let at = |now| sender.due(now, 99);
    assert_eq!(at(9), (vec![], Some(10)));
    assert_eq!(at(20), (vec![names[1].clone(), names[3].clone()], Some(30)));
    sender.ended(&names[1]);
    assert_eq!(at(20), (vec![names[1].clone()], Some(30)));
    assert_eq!(sender.due(1_000, 0), (vec![], None));
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
        let (due, _) = sender.due(0, 1);
        assert_eq!(due.len(), 1);
        if due[0] == z {
            return;
        }
        sender.ended(&due[0]);
    }
    panic!("it never had its turn");
}
