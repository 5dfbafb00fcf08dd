use rhizome_protocol::StateKey;
use rhizome_rooms::{
    membership::Action,
    receive::{self, Gathered, Received},
    send::{self, SendOptions},
};
use rhizome_storage::Status;
use serde_json::json;

use crate::{rig::*, stories::carry_all};

#[tokio::test]
async fn a_fork_merges_with_the_next_event() {
    each(|[one, two]: [_; 2]| async move {
        let room = public_room(&one, "@alice:one").await;
        join_via(&one, &two, &room, "@bob:two").await.unwrap();
        let left = say(&one, &room, "@alice:one", "left").await;
        let right = say(&two, &room, "@bob:two", "right").await;
        carry(&one, &two, &left).await;
        carry(&two, &one, &right).await;
        let mut both = vec![left, right];
        both.sort();
        assert_eq!(ends(&one, &room).await, both);
        assert_eq!(ends(&two, &room).await, both);
        let next = say(&two, &room, "@bob:two", "both").await;
        let mut prevs = pdu(&two, &next).await.prev_events().to_vec();
        prevs.sort();
        assert_eq!(prevs, both);
        assert_eq!(carry(&two, &one, &next).await, Received::Accepted);
        assert_eq!(ends(&one, &room).await, [next]);
    })
    .await;
}

#[tokio::test]
async fn a_banned_user_on_an_old_fork_is_not_heard() {
    each(|[one, two, three]: [_; 3]| async move {
        let room = public_room(&one, "@alice:one").await;
        join_via(&one, &two, &room, "@bob:two").await.unwrap();
        let joined = join_via(&one, &three, &room, "@carol:three").await.unwrap();
        assert_eq!(carry(&one, &two, &joined).await, Received::Accepted);
        // Bob goes on from before the ban.
        let ban = changed(&one, &room, "@alice:one", "@bob:two", Action::Ban).await;
        let evasion = say(&two, &room, "@bob:two", "you can't stop me").await;
        let at = one.store().log().head();
        let outcome = carry(&two, &one, &evasion).await;
        assert!(matches!(outcome, Received::SoftFailed(_)), "{outcome:?}");
        assert_eq!(one.store().log().head(), at, "nobody is told");
        assert_eq!(ends(&one, &room).await, [ban.clone()]);
        assert_eq!(stored(&one, &evasion).await.status, Status::SoftFailed);

        // Carol heard him first; her event follows both, and is fine.
        assert_eq!(carry(&two, &three, &evasion).await, Received::Accepted);
        assert_eq!(carry(&one, &three, &ban).await, Received::Accepted);
        let both = say(&three, &room, "@carol:three", "what happened?").await;
        assert_eq!(pdu(&three, &both).await.prev_events().len(), 2);
        assert_eq!(carry(&three, &one, &both).await, Received::Accepted);
        assert_eq!(ends(&one, &room).await, [both]);
        let bob = content(&one, &room, "m.room.member", "@bob:two")
            .await
            .unwrap();
        assert_eq!(bob["membership"], "ban");
        assert_eq!(current(&one, &room).await, current(&three, &room).await);
    })
    .await;
}

#[tokio::test]
async fn a_fork_may_settle_on_an_event_that_stands_in_neither_state() {
    each(|[one, two]: [_; 2]| async move {
        let room = public_room(&one, "@alice:one").await;
        let joined = join_via(&one, &two, &room, "@bob:two").await.unwrap();
        let at = pdu(&one, &joined).await.origin_server_ts();
        let aside = say(&one, &room, "@alice:one", "meanwhile").await;
        // Bob's clock goes back between his two names: where the forks meet, the first one is the newer.
        let mut names = Vec::new();
        for (name, later) in [("Bob the First", 2_000), ("Bob the Second", 1_000)] {
            let profile = json!({ "membership": "join", "displayname": name });
            let draft = state(&room, "@bob:two", "m.room.member", "@bob:two", profile);
            let options = SendOptions {
                origin_server_ts: Some(at + later),
                ..SendOptions::default()
            };
            let sent = send::send(&two, draft, options).await.unwrap();
            names.push(sent.event_id);
        }
        for name in &names {
            assert_eq!(carry(&two, &one, name).await, Received::Accepted);
        }
        assert_eq!(carry(&one, &two, &aside).await, Received::Accepted);
        let bob = StateKey::new("m.room.member", "@bob:two");
        for server in [&one, &two] {
            assert_eq!(current(server, &room).await.get(&bob), Some(&names[0]));
        }
        // He is still heard.
        let word = say(&two, &room, "@bob:two", "which one am I?").await;
        assert_eq!(carry(&two, &one, &word).await, Received::Accepted);
        assert_eq!(current(&one, &room).await, current(&two, &room).await);
    })
    .await;
}

#[tokio::test]
async fn conflicting_changes_resolve_alike_wherever_they_meet() {
    each(|[one, two]: [_; 2]| async move {
        let room = public_room(&one, "@alice:one").await;
        join_via(&one, &two, &room, "@bob:two").await.unwrap();
        let mut levels = content(&one, &room, "m.room.power_levels", "")
            .await
            .unwrap();
        levels["users"] = json!({ "@bob:two": 60 });
        let levels = set(&one, &room, "@alice:one", "m.room.power_levels", "", levels).await;
        carry(&one, &two, &levels).await;
        // Alice demotes Bob while he sets the topic, and both set the name.
        let mut demoted = content(&one, &room, "m.room.power_levels", "")
            .await
            .unwrap();
        demoted["users"] = json!({});
        let topic = json!({ "topic": "Bob's" });
        let a = set(
            &one,
            &room,
            "@alice:one",
            "m.room.power_levels",
            "",
            demoted,
        )
        .await;
        let b = set(
            &one,
            &room,
            "@alice:one",
            "m.room.name",
            "",
            json!({ "name": "hers" }),
        )
        .await;
        let c = set(&two, &room, "@bob:two", "m.room.topic", "", topic).await;
        let d = set(
            &two,
            &room,
            "@bob:two",
            "m.room.name",
            "",
            json!({ "name": "his" }),
        )
        .await;
        for id in [&a, &b] {
            carry(&one, &two, id).await;
        }
        for id in [&c, &d] {
            let outcome = carry(&two, &one, id).await;
            assert!(matches!(outcome, Received::SoftFailed(_)), "{outcome:?}");
        }
        // Whoever is right, they agree once an event follows both.
        let merge = say(&two, &room, "@bob:two", "?").await;
        assert_eq!(carry(&two, &one, &merge).await, Received::Accepted);
        assert_eq!(current(&one, &room).await, current(&two, &room).await);
        let name = content(&one, &room, "m.room.name", "").await.unwrap();
        assert_eq!(name["name"], "hers");
        assert_eq!(content(&one, &room, "m.room.topic", "").await, None);
    })
    .await;
}

#[tokio::test]
async fn what_is_said_beside_a_fork_stores_no_state() {
    each(|[one, two]: [_; 2]| async move {
        let room = public_room(&one, "@alice:one").await;
        let joined = join_via(&one, &two, &room, "@bob:two").await.unwrap();
        // Two states that meet in a third.
        let mut levels = content(&one, &room, "m.room.power_levels", "")
            .await
            .unwrap();
        levels["users"]["@carol:three"] = 50.into();
        set(&one, &room, "@alice:one", "m.room.power_levels", "", levels).await;
        let name = json!({ "membership": "join", "displayname": "Bob" });
        let named = set(&two, &room, "@bob:two", "m.room.member", "@bob:two", name).await;
        assert_eq!(carry(&two, &one, &named).await, Received::Accepted);
        let head = one.store().room(&room).await.unwrap().unwrap();
        let before = one.store().snapshot_sizes(head.room).await.unwrap();
        for n in 0..5 {
            let said = say(&two, &room, "@bob:two", &format!("{n}")).await;
            assert_eq!(carry(&two, &one, &said).await, Received::Accepted);
        }
        let after = one.store().snapshot_sizes(head.room).await.unwrap();
        assert_eq!(after.snapshots, before.snapshots);
        assert_eq!(ends(&one, &room).await.len(), 2);
        let now = one.store().room(&room).await.unwrap().unwrap();
        assert_eq!(
            (now.state_version, now.snapshot),
            (head.state_version, head.snapshot)
        );
        let bob = content(&one, &room, "m.room.member", "@bob:two")
            .await
            .unwrap();
        assert_eq!(bob["displayname"], "Bob");
        assert_ne!(ends(&one, &room).await[0], joined);
    })
    .await;
}

#[tokio::test]
async fn a_long_line_beside_a_fork_costs_the_same_few_statements_per_event() {
    each(|[one, two]: [_; 2]| async move {
        let room = public_room(&one, "@alice:one").await;
        let joined = join_via(&one, &two, &room, "@bob:two").await.unwrap();
        let mut levels = content(&one, &room, "m.room.power_levels", "")
            .await
            .unwrap();
        levels["users"]["@bob:two"] = 50.into();
        set(&one, &room, "@alice:one", "m.room.power_levels", "", levels).await;
        // Bob's names rest on one another, and none of them is part of the other fork.
        let mut last = pdu(&one, &joined).await;
        let ts = last.origin_server_ts();
        let mut statements = Vec::new();
        for n in 0..60 {
            let name = json!({ "membership": "join", "displayname": format!("Bob {n}") });
            let draft = state(&room, "@bob:two", "m.room.member", "@bob:two", name);
            let mut auth = auth_of(&two, &room, &draft).await;
            auth.retain(|pdu| pdu.kind() != "m.room.member");
            auth.push(last.clone());
            let next = forged(&two, &draft, &[last], &auth, ts + n);
            let before = one.store().counters().now().queries;
            let outcome = receive::receive(&one, next.clone(), &Gathered::default()).await;
            assert_eq!(outcome.unwrap(), Received::Accepted);
            statements.push(one.store().counters().now().queries - before);
            last = next;
        }
        assert_eq!(ends(&one, &room).await.len(), 2);
        let bob = content(&one, &room, "m.room.member", "@bob:two")
            .await
            .unwrap();
        assert_eq!(bob["displayname"], "Bob 59");
        let (early, late) = (
            statements[5..15].iter().sum::<u64>(),
            statements[50..].iter().sum::<u64>(),
        );
        assert!(late <= early + 10, "{statements:?}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_received_and_what_is_sent_race_without_loss() {
    each(|[one, two]: [_; 2]| async move {
        let room = public_room(&one, "@alice:one").await;
        let mut levels = content(&one, &room, "m.room.power_levels", "")
            .await
            .unwrap();
        levels["users"]["@bob:two"] = 100.into();
        set(&one, &room, "@alice:one", "m.room.power_levels", "", levels).await;
        join_via(&one, &two, &room, "@bob:two").await.unwrap();
        let note = |who: &str, turn: usize| {
            let key = (turn % 3).to_string();
            let value = json!({ "by": who, "turn": turn });
            state(&room, who, "org.example.note", &key, value)
        };
        let mut his = Vec::new();
        for turn in 0..15 {
            his.push(sent(&two, note("@bob:two", turn)).await);
        }
        let mut tasks = Vec::new();
        for sender in 0..3 {
            let (one, drafts) = (one.clone(), (0..10).map(|n| note("@alice:one", sender + n)));
            let drafts: Vec<_> = drafts.collect();
            tasks.push(tokio::spawn(async move {
                let mut ids = Vec::new();
                for draft in drafts {
                    ids.push(sent(&one, draft).await);
                }
                ids
            }));
        }
        for id in &his {
            assert_eq!(carry(&two, &one, id).await, Received::Accepted);
        }
        let mut hers = Vec::new();
        for task in tasks {
            hers.extend(task.await.unwrap());
        }
        hers.push(say(&one, &room, "@alice:one", "done").await);
        let log = log_of(&one, &room).await;
        for id in hers.iter().chain(&his) {
            let count = log.iter().filter(|pdu| pdu.event_id() == id).count();
            assert_eq!(count, 1);
        }
        for pdu in log.iter().filter(|pdu| pdu.sender() == "@alice:one") {
            carry_all(&one, &two, pdu.event_id()).await;
        }
        assert_eq!(current(&one, &room).await, current(&two, &room).await);
        assert_eq!(ends(&one, &room).await, ends(&two, &room).await);
    })
    .await;
}
