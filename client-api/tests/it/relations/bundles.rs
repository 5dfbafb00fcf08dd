//! What relates to an event is told with it, wherever the specification says so.

use http::StatusCode;
use rhizome_storage::Dialect;
use serde_json::{Map, Value, json};

use super::{ask, bundle, edit, get, ignore, redact, relate};
use crate::{
    harness::{User, esc, events, filter, next, story},
    sliding::client::{Client, list},
};

/// Of an event that each of these answers has: what is told with it.
fn told(events: &[&Value], id: &str) -> Value {
    let found = events.iter().find(|event| event["event_id"] == id);
    let event = found.unwrap_or_else(|| panic!("{id} isn't in {events:?}"));
    event["unsigned"]["m.relations"].clone()
}

/// Without what passes while it is asked for.
fn steady(mut relations: Value) -> Value {
    fn without_age(value: &mut Value) {
        match value {
            Value::Object(object) => {
                for name in ["age", "room_id"] {
                    object.remove(name);
                }
                object.values_mut().for_each(without_age);
            }
            Value::Array(array) => array.iter_mut().for_each(without_age),
            _ => {}
        }
    }
    without_age(&mut relations);
    relations
}

/// What every way of reading tells with an event; all tell the same. `after` is an event that comes right after it.
async fn everywhere(user: &User, room: &str, id: &str, after: &str) -> Value {
    let path = format!("/rooms/{}", esc(room));
    let expected = steady(bundle(user, room, id).await);
    let messages = user.read(&format!("{path}/messages?dir=b&limit=100")).await;
    let mut all = vec![told(&events(&messages, &["chunk"]), id)];
    let around = user.read(&format!("{path}/context/{}", esc(id))).await;
    all.push(told(&[&around["event"]], id));
    let around = user.read(&format!("{path}/context/{}", esc(after))).await;
    all.push(told(&events(&around, &["events_before"]), id));
    let limited = filter(&json!({"room": {"timeline": {"limit": 10}}}));
    let sync = user.sync(None, &limited).await;
    let part = &sync["rooms"]["join"][room]["timeline"];
    assert_eq!(part["limited"], true);
    all.push(told(&events(part, &["events"]), id));
    for mut client in [Client::of(user), Client::accepted(user)] {
        let answer = client.sync(&list(10, 10, json!([]))).await;
        let timeline = answer["rooms"][room]["timeline"].as_array().unwrap();
        all.push(told(&timeline.iter().collect::<Vec<_>>(), id));
    }
    for one in all {
        assert_eq!(steady(one), expected);
    }
    expected
}

#[tokio::test]
async fn it_is_told_wherever_the_event_is() {
    story(|server| async move {
        let (alice, bob) = (server.register("alice").await, server.register("bob").await);
        let room = alice.create_public().await;
        bob.join(&room).await;
        let root = alice.say(&room, "root").await;
        let after = alice.say(&room, "after").await;
        assert_eq!(bundle(&bob, &room, &root).await, Value::Null);
        let one = relate(&alice, &room, "m.thread", &root).await;
        let two = relate(&alice, &room, "m.thread", &root).await;
        let edit_of_root = edit(&alice, &room, &root, "better").await;
        let edit_of_two = edit(&alice, &room, &two, "better").await;
        let (a, b) = (
            relate(&bob, &room, "m.reference", &root).await,
            relate(&alice, &room, "m.reference", &root).await,
        );
        // Annotations aren't told.
        let reaction = json!({"m.relates_to":
            {"rel_type": "m.annotation", "event_id": root, "key": "k"}});
        bob.send(&room, "m.reaction", reaction).await;
        let found = everywhere(&bob, &room, &root, &after).await;
        assert_eq!(found.as_object().unwrap().len(), 3, "{found}");
        assert_eq!(found["m.replace"]["event_id"], edit_of_root.as_str());
        assert_eq!(
            found["m.replace"]["content"]["m.new_content"]["body"],
            "better"
        );
        assert_eq!(
            found["m.reference"],
            json!({"chunk": [{"event_id": a}, {"event_id": b}]})
        );
        let thread = &found["m.thread"];
        assert_eq!(
            (&thread["count"], &thread["current_user_participated"]),
            (&json!(2), &json!(false))
        );
        assert_eq!(thread["latest_event"]["event_id"], two.as_str());
        let of_latest = &thread["latest_event"]["unsigned"]["m.relations"];
        assert_eq!(of_latest["m.replace"]["event_id"], edit_of_two.as_str());

        // Also with what relates to something itself, and with the roots of threads.
        let (_, page) = ask(&bob, &room, &root, "/m.thread").await;
        let chunk = events(&page, &["chunk"]);
        assert_eq!(
            told(&chunk, &two)["m.replace"]["event_id"],
            edit_of_two.as_str()
        );
        assert_eq!(told(&chunk, &one), Value::Null);
        let (_, page) = get(&bob, &format!("/rooms/{}/threads", esc(&room))).await;
        assert_eq!(steady(told(&events(&page, &["chunk"]), &root)), found);

        // Whoever has sent one takes part, or has sent the root.
        let own = relate(&bob, &room, "m.thread", &root).await;
        let thread = bundle(&bob, &room, &root).await["m.thread"].take();
        assert_eq!(thread["current_user_participated"], true);
        assert_eq!(thread["latest_event"]["event_id"], own.as_str());
        assert!(thread["latest_event"]["unsigned"]["transaction_id"].is_string());
        redact(&bob, &room, &own).await;
        let thread = bundle(&bob, &room, &root).await["m.thread"].take();
        assert_eq!(thread["current_user_participated"], false);
        assert_eq!(
            (&thread["count"], &thread["latest_event"]["event_id"]),
            (&json!(2), &json!(two))
        );
        let thread = bundle(&alice, &room, &root).await["m.thread"].take();
        assert_eq!(thread["current_user_participated"], true);
    })
    .await;
}

#[tokio::test]
async fn who_is_not_heard_counts_for_nothing() {
    story(|server| async move {
        let (alice, bob) = (server.register("alice").await, server.register("bob").await);
        let room = alice.create_public().await;
        bob.join(&room).await;
        let root = alice.say(&room, "root").await;
        let bobs = bob.say(&room, "of bob").await;
        let one = relate(&alice, &room, "m.thread", &root).await;
        let two = relate(&bob, &room, "m.thread", &root).await;
        relate(&bob, &room, "m.reference", &root).await;
        edit(&bob, &room, &bobs, "edited").await;
        relate(&bob, &room, "m.thread", &bobs).await;
        ignore(&alice, &[&bob.id, "@nobody:here"]).await;
        let found = bundle(&alice, &room, &root).await;
        assert_eq!(found.as_object().unwrap().len(), 1, "{found}");
        assert_eq!(found["m.thread"]["count"], 1);
        assert_eq!(found["m.thread"]["latest_event"]["event_id"], one.as_str());
        let path = format!("/rooms/{}/event/{}", esc(&room), esc(&bobs));
        assert_eq!(alice.get(&path).await.0, StatusCode::NOT_FOUND);
        let found = bundle(&bob, &room, &root).await;
        assert_eq!(found["m.thread"]["count"], 2);
        assert_eq!(found["m.thread"]["latest_event"]["event_id"], two.as_str());
    })
    .await;
}

/// Of an event that comes by itself the client is told all that relates to it by what follows.
#[tokio::test]
async fn what_is_new_is_told_without() {
    story(|server| async move {
        let alice = server.register("alice").await;
        let room = alice.create_public().await;
        let since = next(&alice.sync(None, "").await);
        let root = alice.say(&room, "root").await;
        let mut client = Client::of(&alice);
        let body = list(10, 10, json!([]));
        client.sync(&body).await;
        let other = alice.say(&room, "other").await;
        relate(&alice, &room, "m.thread", &root).await;
        relate(&alice, &room, "m.thread", &other).await;
        let sync = alice.sync(Some(&since), "").await;
        let part = &sync["rooms"]["join"][&room]["timeline"];
        assert_eq!(part["limited"], false);
        assert_eq!(told(&events(part, &["events"]), &root), Value::Null);
        let answer = client.sync(&body).await;
        let timeline = answer["rooms"][&room]["timeline"].as_array().unwrap();
        let timeline: Vec<&Value> = timeline.iter().collect();
        assert_eq!(told(&timeline, &other), Value::Null);
    })
    .await;
}

#[tokio::test]
async fn it_costs_a_few_questions_however_much_there_is() {
    story(|server| async move {
        let (alice, bob) = (server.register("alice").await, server.register("bob").await);
        // Whom she ignores, and whose content is erased, is known from here on.
        let room = alice.create_public().await;
        let path = format!("/rooms/{}/messages?dir=b", esc(&room));
        alice.read(&path).await;
        let mut costs = Vec::new();
        for (count, with) in [(3, false), (30, false), (3, true), (30, true)] {
            let room = alice.create_public().await;
            bob.join(&room).await;
            let mut roots = Vec::new();
            for n in 0..count {
                roots.push(alice.say(&room, &n.to_string()).await);
            }
            if with {
                for root in &roots {
                    let latest = relate(&bob, &room, "m.thread", root).await;
                    edit(&bob, &room, &latest, "better").await;
                    edit(&alice, &room, root, "better").await;
                    relate(&bob, &room, "m.reference", root).await;
                }
            }
            let path = format!("/rooms/{}/messages?dir=f&limit={}", esc(&room), count + 10);
            let before = server.store.counters().now();
            let page = alice.read(&path).await;
            costs.push((server.store.counters().now() - before).queries);
            let chunk = events(&page, &["chunk"]);
            for root in &roots {
                let kinds = told(&chunk, root);
                assert_eq!(
                    kinds.as_object().map_or(0, Map::len),
                    if with { 3 } else { 0 }
                );
            }
        }
        println!("a page asks {costs:?} times: few and many events, without and with children");
        assert_eq!((costs[0], costs[2]), (costs[1], costs[3]));
        // Threads, what relates to their latest events, edits, references.
        assert!(costs[2] <= costs[0] + 4, "{costs:?}");
    })
    .await;
}

/// A message that comes costs a listener what it always did.
#[tokio::test]
async fn a_new_message_is_not_asked_about() {
    story(|server| async move {
        let alice = server.register("alice").await;
        let room = alice.create_public().await;
        let root = alice.say(&room, "root").await;
        let mut since = next(&alice.sync(None, "").await);
        let mut costs = Vec::new();
        for threaded in [false, false, true] {
            if threaded {
                relate(&alice, &room, "m.thread", &root).await;
            } else {
                alice.say(&room, "plain").await;
            }
            let before = server.store.counters().now();
            since = next(&alice.sync(Some(&since), "").await);
            costs.push((server.store.counters().now() - before).queries);
        }
        assert_eq!(costs[1], costs[2]);
        // A shared database is asked how far the log is.
        let is_shared = server.store.dialect() == Dialect::Postgres;
        assert!(costs[1] == 0 || is_shared, "{costs:?}");
    })
    .await;
}
