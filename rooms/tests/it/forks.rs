use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use rhizome_protocol::{Pdu, StateKey, resolve};
use rhizome_rooms::{
    Error, Rooms, inspect,
    membership::Action,
    receive::{self, Gathered, Received},
    send::{self, SendOptions},
};
use rhizome_storage::{Placement, SnapshotNo, Status, StoredEvent};
use ruma::{EventId, OwnedEventId, RoomId};
use serde_json::json;

use crate::rig::*;

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

/// A small generator, so that a failing story can be told again by its number.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % sides
    }
}

/// Carries an event and, first, whatever it needs. A server that is out of the room hears nothing.
async fn carry_all(from: &Rooms, to: &Rooms, id: &EventId) {
    let mut stack = vec![id.to_owned()];
    while let Some(id) = stack.pop() {
        let pdu = pdu(from, &id).await;
        let outcome = match receive::receive(to, pdu.clone(), &Gathered::default()).await {
            Ok(outcome) => outcome,
            Err(Error::UnknownRoom(_)) => return,
            Err(error) => panic!("{error}"),
        };
        if let Received::Need(need) = outcome {
            stack.push(id);
            if need.prev.is_empty() {
                let chain = from.store().auth_chain(&[pdu.event_id().to_owned()]).await;
                let chain = from.store().events(&chain.unwrap()).await.unwrap();
                let chain = chain.iter().map(|event| event.pdu.clone()).collect();
                receive::outliers(to, pdu.room_id(), chain).await.unwrap();
            }
            stack.extend(need.prev);
        }
    }
}

async fn state_map(rooms: &Rooms, at: Option<SnapshotNo>) -> BTreeMap<StateKey, OwnedEventId> {
    let mut map = BTreeMap::new();
    let Some(at) = at else { return map };
    for (key, event) in rooms.store().state_all(at).await.unwrap() {
        let event = rooms.store().event_by_no(event).await.unwrap().unwrap();
        let key = rooms.store().key(key).await.unwrap();
        map.insert(StateKey::clone(&key), event.pdu.event_id().to_owned());
    }
    map
}

/// The state before an event as the textbook's algorithm makes it from the whole states after its prevs.
async fn by_the_textbook(
    rooms: &Rooms,
    event: &StoredEvent,
) -> Option<BTreeMap<StateKey, OwnedEventId>> {
    let store = rooms.store();
    let prevs = store.events(event.pdu.prev_events()).await.unwrap();
    let mut forks = Vec::new();
    let mut wanted = Vec::new();
    for prev in &prevs {
        let fork = state_map(rooms, Some(prev.state_after?)).await;
        wanted.extend(fork.values().cloned());
        forks.push(fork);
    }
    if forks.len() < event.pdu.prev_events().len() {
        return None;
    }
    wanted.extend(store.auth_chain(&wanted).await.unwrap());
    let events = store.events(&wanted).await.unwrap();
    let events = events
        .into_iter()
        .map(|event| (event.pdu.event_id().to_owned(), event));
    let whole = Whole(events.collect());
    Some(resolve::resolve(event.pdu.rules(), &forks, &whole).unwrap())
}

struct Whole(BTreeMap<OwnedEventId, Arc<StoredEvent>>);

impl resolve::Events for Whole {
    fn event(&self, id: &EventId) -> Option<Arc<Pdu>> {
        self.0.get(id).map(|event| event.pdu.clone())
    }
    fn rejected(&self, id: &EventId) -> bool {
        self.0
            .get(id)
            .is_some_and(|event| event.status == Status::Rejected)
    }
}

/// Something random that one of a server's users tries to do.
async fn act(rooms: &Rooms, room: &RoomId, who: &str, dice: &mut Dice) -> Option<OwnedEventId> {
    let others = [
        "@alice:one",
        "@bob:two",
        "@carol:three",
        "@dave:one",
        "@erin:two",
    ];
    let other = others[dice.roll(others.len())];
    let value = dice.roll(1_000);
    let draft = match dice.roll(9) {
        0 | 1 => message(room, who, &format!("{value}")),
        2 => state(
            room,
            who,
            "m.room.topic",
            "",
            json!({ "topic": value.to_string() }),
        ),
        3 => state(
            room,
            who,
            "m.room.name",
            "",
            json!({ "name": value.to_string() }),
        ),
        4 => {
            let mut levels = content(rooms, room, "m.room.power_levels", "")
                .await
                .unwrap();
            levels["users"][other] = [0, 50, 60, 100][dice.roll(4)].into();
            state(room, who, "m.room.power_levels", "", levels)
        }
        5 => {
            let rule = ["public", "invite"][dice.roll(2)];
            state(
                room,
                who,
                "m.room.join_rules",
                "",
                json!({ "join_rule": rule }),
            )
        }
        6 => state(
            room,
            who,
            "m.room.member",
            other,
            json!({ "membership": "ban" }),
        ),
        7 => state(
            room,
            who,
            "m.room.member",
            other,
            json!({ "membership": "leave" }),
        ),
        _ => state(
            room,
            who,
            "m.room.member",
            who,
            json!({ "membership": "join", "n": value }),
        ),
    };
    send::send(rooms, draft, SendOptions::default())
        .await
        .ok()
        .map(|sent| sent.event_id)
}

/// Three servers whose users act and whose events cross in random order: every event that two of them
/// hold has the same state before it, the same outcome, and in the end they agree.
/// Gives how many of the events follow more than one.
async fn converge(servers: &[Rooms; 3], version: &str, seed: u64) -> usize {
    let [one, two, three] = servers;
    let mut dice = Dice(seed);
    let room = public_room_of(one, "@alice:one", version).await;
    let mut levels = content(one, &room, "m.room.power_levels", "")
        .await
        .unwrap();
    levels["users"]["@bob:two"] = 100.into();
    levels["users"]["@carol:three"] = 60.into();
    set(one, &room, "@alice:one", "m.room.power_levels", "", levels).await;
    join_via(one, two, &room, "@bob:two").await.unwrap();
    let carol = join_via(one, three, &room, "@carol:three").await.unwrap();
    carry_all(one, two, &carol).await;

    let users = [
        vec!["@alice:one", "@dave:one"],
        vec!["@bob:two", "@erin:two"],
        vec!["@carol:three"],
    ];
    // Events on their way: (from, to, event).
    let mut under_way: Vec<(usize, usize, OwnedEventId)> = Vec::new();
    let mut all: BTreeSet<OwnedEventId> = BTreeSet::new();
    for _ in 0..24 {
        let server = dice.roll(3);
        let who = users[server][dice.roll(users[server].len())];
        if let Some(id) = act(&servers[server], &room, who, &mut dice).await {
            all.insert(id.clone());
            for to in (0..3).filter(|to| *to != server) {
                under_way.push((server, to, id.clone()));
            }
        }
        while !under_way.is_empty() && dice.roll(3) == 0 {
            let at = dice.roll(under_way.len());
            let (from, to, id) = under_way.swap_remove(at);
            carry_all(&servers[from], &servers[to], &id).await;
            if dice.roll(4) == 0 {
                // Once more, at some other time.
                under_way.push((from, to, id));
            }
        }
    }
    while !under_way.is_empty() {
        let at = dice.roll(under_way.len());
        let (from, to, id) = under_way.swap_remove(at);
        carry_all(&servers[from], &servers[to], &id).await;
    }
    // Whoever still may speaks once, the creator last.
    for (server, who) in [(2, "@carol:three"), (1, "@bob:two"), (0, "@alice:one")] {
        let draft = message(&room, who, "the end");
        if let Ok(sent) = send::send(&servers[server], draft, SendOptions::default()).await {
            for to in (0..3).filter(|to| *to != server) {
                carry_all(&servers[server], &servers[to], &sent.event_id).await;
            }
            all.insert(sent.event_id);
        }
    }
    let (mut compared, mut resolved) = (0, 0);
    for id in &all {
        let mut seen = Vec::new();
        for server in servers {
            // One that was out of the room didn't hear everything.
            let Some(event) = server.store().event(id).await.unwrap() else {
                continue;
            };
            if event.placement != Placement::Outlier {
                let rejected = event.status == Status::Rejected;
                let before = state_map(server, event.state_before).await;
                if let Some(textbook) = by_the_textbook(server, &event).await {
                    assert_eq!(before, textbook, "version {version}, seed {seed}, {id}");
                    resolved += usize::from(event.pdu.prev_events().len() > 1);
                }
                seen.push((rejected, before));
            }
        }
        for pair in seen.windows(2) {
            compared += 1;
            assert_eq!(pair[0], pair[1], "version {version}, seed {seed}, {id}");
        }
    }
    assert!(compared > all.len() / 2, "the story fell apart");
    for server in servers {
        let head = inspect::find(server.store(), room.as_str()).await.unwrap();
        let done = inspect::recompute(server.store(), &head, |_| {})
            .await
            .unwrap();
        let found = done.disagreement;
        assert_eq!(found, None, "version {version}, seed {seed}");
    }
    resolved
}

#[tokio::test]
async fn servers_converge_whatever_the_order() {
    each(|servers: [_; 3]| async move {
        let stories = std::env::var("RHIZOME_TEST_STORIES")
            .ok()
            .and_then(|n| n.parse().ok());
        let (stories, mut resolved) = (stories.unwrap_or(12), 0);
        for seed in 0..stories {
            let version = VERSIONS[usize::try_from(seed % 12).unwrap()];
            resolved += converge(&servers, version, seed).await as u64;
        }
        assert!(
            resolved > 5 * stories,
            "the stories have few forks: {resolved}"
        );
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
