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
