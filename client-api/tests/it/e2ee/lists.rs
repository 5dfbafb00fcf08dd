//! Who is told that somebody's devices have changed.

use http::{Method, StatusCode};
use rhizome_storage::testing::soon;
use serde_json::{Value, json};

use super::signer::Device;
use crate::harness::{User, esc, next, story};

fn lists(sync: &Value) -> (Value, Value) {
    let lists = &sync["device_lists"];
    let or_empty = |list: &Value| {
        if list.is_null() {
            json!([])
        } else {
            list.clone()
        }
    };
    (or_empty(&lists["changed"]), or_empty(&lists["left"]))
}

async fn since(user: &User) -> String {
    next(&user.sync(None, "").await)
}

#[tokio::test]
async fn whoever_shares_a_room_is_woken_and_nobody_else() {
    story(|server| async move {
        let (alice, bob) = (server.register("alice").await, server.register("bob").await);
        let eve = server.register("eve").await;
        let room = alice.create_public().await;
        bob.join(&room).await;
        eve.create_public().await;
        let (at_alice, at_bob, at_eve) =
            (since(&alice).await, since(&bob).await, since(&eve).await);
        let (hears, own) = (bob.poll(&at_bob).await, alice.poll(&at_alice).await);
        let idle = eve.poll(&at_eve).await;

        let phone = alice.another_device().await;
        let told = soon("bob is woken", hears).await.unwrap();
        assert_eq!(lists(&told), (json!([alice.id]), json!([])));
        let told = soon("alice is woken", own).await.unwrap();
        assert_eq!(lists(&told), (json!([alice.id]), json!([])));

        // Its keys, its name, its end.
        let mut at = since(&bob).await;
        let device = Device::of(&phone, 1).await;
        device.upload(json!({ "device_keys": device.keys() })).await;
        let path = format!("/devices/{}", esc(&device.id));
        for step in 0..3 {
            if step == 1 {
                let name = json!({ "display_name": "phone" });
                phone.ok(Method::PUT, &path, name).await;
            }
            if step == 2 {
                phone.ok(Method::POST, "/logout", json!({})).await;
            }
            let told = bob.sync(Some(&at), "").await;
            assert_eq!(lists(&told), (json!([alice.id]), json!([])), "{step}");
            at = next(&told);
        }
        assert_eq!(
            lists(&bob.sync(Some(&at), "").await),
            (json!([]), json!([]))
        );
        assert!(!idle.is_finished());
        server.shutdown.cancel();
        assert_eq!(lists(&idle.await.unwrap()), (json!([]), json!([])));
    })
    .await;
}

#[tokio::test]
async fn who_comes_after_the_reader_went_is_none_of_their_business() {
    story(|server| async move {
        let (alice, bob) = (server.register("alice").await, server.register("bob").await);
        let (late, brief) = (
            server.register("late").await,
            server.register("brief").await,
        );
        let went = server.register("went").await;
        let room = alice.create_public().await;
        for user in [&bob, &went] {
            user.join(&room).await;
        }
        let at = since(&bob).await;
        let body = json!({ "user_id": bob.id });
        let path = format!("/rooms/{}/kick", esc(&room));
        alice.ok(Method::POST, &path, body).await;
        for user in [&late, &brief] {
            user.join(&room).await;
        }
        for user in [&brief, &went] {
            user.leave(&room).await;
        }
        let told = bob.sync(Some(&at), "").await;
        assert_eq!(lists(&told), (json!([]), json!([alice.id, went.id])));
    })
    .await;
}

#[tokio::test]
async fn who_comes_goes_and_comes_back() {
    story(|server| async move {
        let (alice, bob) = (server.register("alice").await, server.register("bob").await);
        let (room, other) = (alice.create_public().await, alice.create_public().await);
        let (mut at_alice, mut at_bob) = (since(&alice).await, since(&bob).await);
        let mut steps = async |what: &str, alices: Value, bobs: Value| {
            let told = alice.sync(Some(&at_alice), "").await;
            assert_eq!(json!(lists(&told)), alices, "{what}");
            at_alice = next(&told);
            let told = bob.sync(Some(&at_bob), "").await;
            assert_eq!(json!(lists(&told)), bobs, "{what}");
            at_bob = next(&told);
        };
        let (a, b) = (&alice.id, &bob.id);
        bob.join(&room).await;
        // Who comes in looks at their own devices too.
        steps("comes", json!([[b], []]), json!([[a, b], []])).await;
        bob.join(&other).await;
        steps("shares another", json!([[b], []]), json!([[a, b], []])).await;
        bob.leave(&room).await;
        steps("still shares one", json!([[], []]), json!([[], []])).await;
        bob.leave(&other).await;
        steps("shares none", json!([[], [b]]), json!([[], [a]])).await;
        // What changes meanwhile is nobody's business, and is told when they meet again.
        bob.another_device().await;
        steps("apart", json!([[], []]), json!([[b], []])).await;
        bob.join(&room).await;
        steps("comes back", json!([[b], []]), json!([[a, b], []])).await;
        // Away and back between two answers: to be looked at again.
        bob.leave(&room).await;
        bob.another_device().await;
        bob.join(&room).await;
        steps("in between", json!([[b], []]), json!([[a, b], []])).await;
    })
    .await;
}

#[tokio::test]
async fn both_leave_between_two_answers() {
    story(|server| async move {
        let (alice, bob) = (server.register("alice").await, server.register("bob").await);
        let room = alice.create_public().await;
        bob.join(&room).await;
        let at = since(&alice).await;
        bob.leave(&room).await;
        alice.leave(&room).await;
        let told = alice.sync(Some(&at), "").await;
        assert_eq!(lists(&told), (json!([]), json!([bob.id])));
    })
    .await;
}

#[tokio::test]
async fn changes_are_told_by_themselves() {
    story(|server| async move {
        let (alice, bob) = (server.register("alice").await, server.register("bob").await);
        let carol = server.register("carol").await;
        let room = alice.create_public().await;
        bob.join(&room).await;
        carol.join(&room).await;
        let from = since(&alice).await;
        bob.another_device().await;
        carol.leave(&room).await;
        let to = next(&alice.sync(Some(&from), "").await);
        let ask = async |from: &str, to: &str| {
            let path = format!("/keys/changes?from={}&to={}", esc(from), esc(to));
            alice.get(&path).await
        };
        let (_, told) = ask(&from, &to).await;
        assert_eq!(told, json!({ "changed": [bob.id], "left": [carol.id] }));
        assert_eq!(ask(&to, &to).await.1, json!({ "changed": [], "left": [] }));
        for (from, to) in [("x", &*to), (&from, "x")] {
            let (status, error) = ask(from, to).await;
            let told = (status, error["errcode"].clone());
            assert_eq!(told, (StatusCode::BAD_REQUEST, json!("M_INVALID_PARAM")));
        }
        // Nobody knows what has changed since a token from before a restore.
        server.store.renew_epoch().await.unwrap();
        let (_, told) = ask(&from, &to).await;
        assert_eq!(told["changed"], json!([alice.id, bob.id]));
    })
    .await;
}

/// What it costs when one of a large room's members gets a device: nothing for those who don't look.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "it measures"]
async fn what_a_storm_costs() {
    story(|server| async move {
        let alice = server.register("alice").await;
        let room = alice.create_public().await;
        let mut users = Vec::new();
        for n in 0..2_000 {
            let user = server.register(&format!("u{n}")).await;
            user.join(&room).await;
            users.push(user);
        }
        for waiting in [0, 500] {
            let mut polls = Vec::new();
            for user in &users[..waiting] {
                polls.push(user.poll(&since(user).await).await);
            }
            let (before, begun) = (cpu(), std::time::Instant::now());
            let queries = server.store.counters().now().queries;
            alice.another_device().await;
            for poll in polls {
                poll.await.unwrap();
            }
            let queries = server.store.counters().now().queries - queries;
            let (took, busy) = (begun.elapsed(), cpu() - before);
            println!("{waiting} wait: {busy} ms of CPU, {took:?}, {queries} queries");
        }
    })
    .await;
}

/// What this process has used of the CPU, in milliseconds.
fn cpu() -> u64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat
        .rsplit_once(')')
        .unwrap()
        .1
        .split_whitespace()
        .collect();
    let ticks = |at: usize| fields[at].parse::<u64>().unwrap();
    (ticks(11) + ticks(12)) * 10
}
