//! Paging to where history ends: here, at other servers that can't be reached, and at what a reader may see.

use std::time::Duration;

use http::Method;
use rhizome_federation::testing::Network;
use rhizome_storage::{
    Clock, Options, Store,
    testing::{TestDatabase, each_database},
};
use ruma::server_name;
use serde_json::{Value, json};

use crate::harness::{Server, User, esc, events, filter, ids, next, story, timeline};

/// A user of a server elsewhere, and Ada here, whose clock stands still.
async fn far<F, R>(tell: F)
where
    F: Fn(User, User, Network) -> R,
    R: Future<Output = ()>,
{
    for database in TestDatabase::both().await {
        let elsewhere = TestDatabase::sqlite();
        let network = Network::default();
        let options = Options {
            clock: Clock::manual(1_700_000_000_000),
            ..database.options()
        };
        let store = Store::open(options).await.unwrap();
        let here = Server::on(store.clone(), &network, |_| {});
        let options = Options {
            clock: Clock::manual(1_700_000_000_000),
            ..elsewhere.options()
        };
        let far = Store::open(options).await.unwrap();
        let there = Server::named(server_name!("there"), 8, far.clone(), &network, |_| {});
        let (ada, bob) = (here.register("ada").await, there.register("bob").await);
        tell(ada, bob, network).await;
        store.close().await;
        far.close().await;
        database.remove().await;
        elsewhere.remove().await;
    }
}

async fn join_far(user: &User, room: &str) {
    let path = format!("/join/{}?via=there", esc(room));
    user.ok(Method::POST, &path, json!({})).await;
}

async fn page(
    user: &User,
    room: &str,
    dir: &str,
    from: Option<&str>,
) -> (Vec<Value>, Option<String>) {
    let from = from.map(|from| format!("&from={}", esc(from)));
    let from = from.unwrap_or_default();
    let path = format!("/rooms/{}/messages?dir={dir}&limit=10{from}", esc(room));
    let page = user.read(&path).await;
    let chunk = events(&page, &["chunk"]).into_iter().cloned().collect();
    (chunk, page["end"].as_str().map(ToOwned::to_owned))
}

fn backfills(network: &Network) -> Vec<String> {
    let requests = network.requests().into_iter();
    let asked = requests.filter(|(_, target)| target.contains("/backfill/"));
    asked.map(|(_, target)| target).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn history_that_nobody_gives_now_may_be_had_later() {
    far(async |ada, bob, network| {
        let room = bob.create_public().await;
        let mut said = Vec::new();
        for n in 0..130 {
            said.push(bob.say(&room, &n.to_string()).await);
        }
        join_far(&ada, &room).await;
        network.cut(server_name!("there"));
        let (chunk, end) = page(&ada, &room, "b", None).await;
        assert_eq!(chunk.len(), 1, "only the join is here: {chunk:?}");
        let end = end.expect("it may be had later");

        // Who asks again at once asks only us, or waits.
        network.mend(server_name!("there"));
        let asked = backfills(&network).len();
        let (chunk, again) = page(&ada, &room, "b", None).await;
        assert!(chunk.len() == 1 && again.is_some());
        assert_eq!(backfills(&network).len(), asked);
        let waiting = {
            let (ada, room, end) = (ada.clone(), room.clone(), end.clone());
            tokio::spawn(async move { page(&ada, &room, "b", Some(&end)).await })
        };
        ada.server.store.clock().advance(Duration::from_secs(11));
        let (chunk, _) = waiting.await.unwrap();
        assert_eq!(chunk.len(), 10);
        let (mut at, mut found) = (Some(end), Vec::new());
        while let Some(from) = at {
            let (chunk, end) = page(&ada, &room, "b", Some(&from)).await;
            assert!(!chunk.is_empty() || end.is_none());
            found.extend(chunk);
            at = end;
        }
        assert_eq!(found.last().unwrap()["type"], "m.room.create");
        found.retain(|event| event["type"] == "m.room.message");
        let mut found = ids(&found.iter().collect::<Vec<_>>());
        found.reverse();
        assert_eq!(found, said);
        // However few the client asked for.
        let asked = backfills(&network).split_off(asked);
        assert!(
            asked.iter().all(|target| target.contains("limit=100")),
            "{asked:?}"
        );
        assert!(asked.len() <= 2, "{asked:?}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_reader_may_not_see_is_not_promised() {
    far(async |ada, bob, network| {
        let hidden = json!([{"type": "m.room.history_visibility", "state_key": "",
            "content": {"history_visibility": "joined"}}]);
        let room = bob
            .create(json!({"preset": "public_chat", "initial_state": hidden}))
            .await;
        bob.say(&room, "before").await;
        join_far(&ada, &room).await;
        network.cut(server_name!("there"));
        let (chunk, end) = page(&ada, &room, "b", None).await;
        assert_eq!((chunk.len(), end), (1, None));
    })
    .await;
}

#[tokio::test]
async fn paging_forward_goes_on_when_more_comes() {
    story(|server| async move {
        let (alice, bob) = (server.register("alice").await, server.register("bob").await);
        let room = alice.create_public().await;
        bob.join(&room).await;
        let (mut at, mut pages) = (None, Vec::new());
        loop {
            let (chunk, end) = page(&alice, &room, "f", at.as_deref()).await;
            pages.extend(chunk);
            match end {
                Some(end) => at = Some(end),
                None => break,
            }
        }
        let now = at.expect("the last page with something in it says where to go on");
        assert_eq!(pages.last().unwrap()["state_key"], bob.id.as_str());
        let said = alice.say(&room, "later").await;
        let (chunk, _) = page(&alice, &room, "f", Some(&now)).await;
        assert_eq!(chunk[0]["event_id"], said);

        // Who has left hears of nothing more.
        bob.leave(&room).await;
        alice.say(&room, "after bob").await;
        let (chunk, end) = page(&bob, &room, "f", Some(&now)).await;
        assert_eq!((chunk.len(), end), (2, None));
    })
    .await;
}

/// However many events a client asks for at once, an answer holds only so much.
#[tokio::test]
async fn answers_stay_below_a_size() {
    each_database(async |store: Store| {
        let server = Server::with(store, |config| config.max_timeline_bytes = 200_000);
        let alice = server.register("alice").await;
        let rooms = [alice.create_public().await, alice.create_public().await];
        let mut said = Vec::new();
        let text = "x".repeat(50_000);
        for room in &rooms {
            for _ in 0..8 {
                said.push(alice.say(room, &text).await);
            }
        }
        let many = filter(&json!({"room": {"timeline": {"limit": 1000}}}));
        let told = alice.sync(None, &many).await;
        assert!(told.to_string().len() < 500_000);
        let mut shown: Vec<_> = rooms
            .iter()
            .map(|room| timeline(&told, room).len())
            .collect();
        shown.sort_unstable();
        assert_eq!(shown, [1, 4], "each has something");
        for room in &rooms {
            let part = &told["rooms"]["join"][room]["timeline"];
            assert_eq!(part["limited"], true);
        }
        for (dir, newest_first) in [("f", false), ("b", true)] {
            let (mut from, mut found) = (String::new(), Vec::new());
            loop {
                let path = format!(
                    "/rooms/{}/messages?dir={dir}&limit=1000{from}",
                    esc(&rooms[1])
                );
                let page = alice.read(&path).await;
                assert!(page.to_string().len() < 350_000);
                found.extend(ids(&events(&page, &["chunk"])));
                match page["end"].as_str() {
                    Some(end) => from = format!("&from={end}"),
                    None => break,
                }
            }
            found.retain(|id| said.contains(id));
            if newest_first {
                found.reverse();
            }
            assert_eq!(found, said[8..], "{dir}");
        }
    })
    .await;
}

/// Who was away while much was said is told the end of it, and no more than that is read.
#[tokio::test]
async fn a_long_absence_is_not_read_as_a_whole() {
    for database in TestDatabase::both().await {
        let options = Options {
            tail_entries: 5,
            memory: 64 << 10,
            ..database.options()
        };
        let store = Store::open(options).await.unwrap();
        let server = Server::new(store.clone());
        let alice = server.register("alice").await;
        let room = alice.create_public().await;
        let since = next(&alice.sync(None, "").await);
        let text = "x".repeat(60_000);
        let mut said = Vec::new();
        for _ in 0..450 {
            said.push(alice.say(&room, &text).await);
        }
        let before = store.counters().now();
        let told = alice.sync(Some(&since), "").await;
        let cost = store.counters().now() - before;
        assert_eq!(timeline(&told, &room), said[440..]);
        assert_eq!(told["rooms"]["join"][&room]["timeline"]["limited"], true);
        // Of the log a page, of the timeline its end, and some to count what is unread.
        assert!(cost.event_reads < 350, "{cost:?}");
        store.close().await;
        database.remove().await;
    }
}
