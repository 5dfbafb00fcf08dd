//! Threads that users follow (MSC4306, MSC4308): subscriptions by hand and by clients themselves, and the list of what
//! changed.

use futures_util::future::join_all;
use http::Method;
use serde_json::{Value, json};

use crate::{
    harness::{Server, User, esc, next, story},
    sliding::client::Client,
};

const MSC: &str = "/_matrix/client/unstable/io.element.msc4306";
const LIST: &str = "/_matrix/client/unstable/io.element.msc4308/thread_subscriptions";
const CONFLICT: &str = "409 IO.ELEMENT.MSC4306.M_CONFLICTING_UNSUBSCRIPTION";
const NOT_IN_THREAD: &str = "400 IO.ELEMENT.MSC4306.M_NOT_IN_THREAD";
const NOT_FOUND: &str = "404 M_NOT_FOUND";

async fn ask(user: &User, method: Method, path: &str, body: Option<Value>) -> (String, Value) {
    let token = Some(user.token.as_str());
    let (status, answer) = user.server.request(method, path, token, body).await;
    let code = answer["errcode"].as_str().unwrap_or_default();
    let told = format!("{} {code}", status.as_u16());
    (told.trim_end().to_owned(), answer)
}

fn path(room: &str, root: &str) -> String {
    format!(
        "{MSC}/rooms/{}/thread/{}/subscription",
        esc(room),
        esc(root)
    )
}

async fn subscribe(user: &User, room: &str, root: &str, cause: Option<&str>) -> String {
    let body = cause.map_or(json!({}), |cause| json!({ "automatic": cause }));
    ask(user, Method::PUT, &path(room, root), Some(body))
        .await
        .0
}

async fn unsubscribe(user: &User, room: &str, root: &str) -> String {
    ask(user, Method::DELETE, &path(room, root), None).await.0
}

/// Whether the user follows the thread, and how: by hand, automatically, or the error.
async fn follows(user: &User, room: &str, root: &str) -> String {
    let (told, answer) = ask(user, Method::GET, &path(room, root), None).await;
    match answer["automatic"].as_bool() {
        Some(true) => "automatically".to_owned(),
        Some(false) => "by hand".to_owned(),
        None => told,
    }
}

async fn list(user: &User, query: &str) -> Value {
    let (told, answer) = ask(user, Method::GET, &format!("{LIST}?{query}"), None).await;
    assert_eq!(told, "200", "{query}: {answer}");
    answer
}

async fn reply(user: &User, room: &str, root: &str) -> String {
    let content = json!({
        "msgtype": "m.text", "body": "in the thread",
        "m.relates_to": { "rel_type": "m.thread", "event_id": root },
    });
    user.send(room, "m.room.message", content).await
}

async fn bob_says(server: &Server) -> (User, User, String, String) {
    let (alice, bob) = (server.register("alice").await, server.register("bob").await);
    let room = bob.create_public().await;
    alice.join(&room).await;
    let root = bob.say(&room, "root").await;
    (alice, bob, room, root)
}

#[tokio::test]
async fn a_thread_is_followed_by_hand_or_by_the_client_until_the_user_says_no() {
    story(|server| async move {
        let (alice, bob, room, root) = bob_says(&server).await;
        assert_eq!(follows(&alice, &room, &root).await, NOT_FOUND);
        assert_eq!(unsubscribe(&alice, &room, &root).await, "200");
        let first = reply(&bob, &room, &root).await;
        assert_eq!(subscribe(&alice, &room, &root, Some(&first)).await, "200");
        assert_eq!(follows(&alice, &room, &root).await, "automatically");
        assert_eq!(follows(&bob, &room, &root).await, NOT_FOUND);
        // By hand it is more than automatic, and stays so.
        assert_eq!(subscribe(&alice, &room, &root, None).await, "200");
        assert_eq!(subscribe(&alice, &room, &root, Some(&first)).await, "200");
        assert_eq!(follows(&alice, &room, &root).await, "by hand");
        // What had come before the user said no is no reason; what comes later is one.
        let second = reply(&bob, &room, &root).await;
        assert_eq!(unsubscribe(&alice, &room, &root).await, "200");
        for cause in [&first, &second] {
            assert_eq!(subscribe(&alice, &room, &root, Some(cause)).await, CONFLICT);
        }
        assert_eq!(follows(&alice, &room, &root).await, NOT_FOUND);
        // Saying no once more is nothing new.
        let third = reply(&bob, &room, &root).await;
        assert_eq!(unsubscribe(&alice, &room, &root).await, "200");
        assert_eq!(subscribe(&alice, &room, &root, Some(&third)).await, "200");
        assert_eq!(follows(&alice, &room, &root).await, "automatically");
        // The user may always.
        assert_eq!(unsubscribe(&alice, &room, &root).await, "200");
        assert_eq!(subscribe(&alice, &room, &root, None).await, "200");
        assert_eq!(follows(&alice, &room, &root).await, "by hand");
    })
    .await;
}

#[tokio::test]
async fn a_client_subscribes_for_an_event_of_the_thread_alone() {
    story(|server| async move {
        let (alice, bob, room, root) = bob_says(&server).await;
        let other = bob.say(&room, "another root").await;
        let inside = reply(&bob, &room, &root).await;
        let edit = json!({ "msgtype": "m.text", "body": "* x", "m.new_content": { "msgtype": "m.text", "body": "x" },
            "m.relates_to": { "rel_type": "m.replace", "event_id": inside } });
        let edit = bob.send(&room, "m.room.message", edit).await;
        let beside = reply(&bob, &room, &other).await;
        for cause in [&root, &other, &beside, &"$nothing".to_owned()] {
            let told = subscribe(&alice, &room, &root, Some(cause)).await;
            assert_eq!(told, NOT_IN_THREAD, "{cause}");
        }
        assert_eq!(follows(&alice, &room, &root).await, NOT_FOUND);
        assert_eq!(subscribe(&alice, &room, &root, Some(&edit)).await, "200");
        for (body, wanted) in [
            (json!({ "automatic": 1 }), "400 M_BAD_JSON"),
            (json!({ "automatic": "no id" }), "400 M_BAD_JSON"),
            (json!([]), "400 M_BAD_JSON"),
        ] {
            let told = ask(&alice, Method::PUT, &path(&room, &root), Some(body.clone())).await;
            assert_eq!(told.0, wanted, "{body}");
        }
    })
    .await;
}

/// What one may not see isn't there.
#[tokio::test]
async fn a_thread_that_a_user_may_not_read_is_none() {
    story(|server| async move {
        let (alice, bob) = (server.register("alice").await, server.register("bob").await);
        let hidden = json!([{ "type": "m.room.history_visibility", "content": { "history_visibility": "joined" } }]);
        let room = json!({ "preset": "public_chat", "initial_state": hidden });
        let room = bob.create(room).await;
        let root = bob.say(&room, "before alice came").await;
        let elsewhere = bob.create_public().await;
        for (room, root) in [(&*room, &*root), (&*elsewhere, &*root), ("!no:where", &*root)] {
            assert_eq!(subscribe(&alice, room, root, None).await, NOT_FOUND);
            assert_eq!(unsubscribe(&alice, room, root).await, NOT_FOUND);
            assert_eq!(follows(&alice, room, root).await, NOT_FOUND);
        }
        alice.join(&room).await;
        assert_eq!(subscribe(&alice, &room, &root, None).await, NOT_FOUND);
        assert_eq!(subscribe(&bob, &room, &root, None).await, "200");
        assert_eq!(subscribe(&bob, &room, "$none", None).await, NOT_FOUND);
    })
    .await;
}

/// Several devices of a user see the same mention at once.
#[tokio::test]
async fn devices_that_subscribe_at_once_agree() {
    story(|server| async move {
        let (alice, bob, room, root) = bob_says(&server).await;
        let cause = reply(&bob, &room, &root).await;
        let all = (0..8).map(|_| subscribe(&alice, &room, &root, Some(&cause)));
        assert!(join_all(all).await.iter().all(|told| told == "200"));
        let told = list(&alice, "dir=b").await;
        let threads = told["subscribed"][&room].as_object().unwrap();
        assert_eq!(threads.len(), 1);
        // One of them was the change; the others said nothing.
        let bump = &threads[&root]["bump_stamp"];
        assert_eq!(
            list(&alice, "dir=b").await["subscribed"][&room][&root]["bump_stamp"],
            *bump
        );
        // Who says no at the same time wins or loses whole.
        let both = (
            unsubscribe(&alice, &room, &root),
            subscribe(&alice, &room, &root, Some(&cause)),
        );
        let (no, yes) = futures_util::join!(both.0, both.1);
        assert_eq!(no, "200");
        assert!(["200", CONFLICT].contains(&&*yes), "{yes}");
        assert_eq!(follows(&alice, &room, &root).await, NOT_FOUND);
    })
    .await;
}

#[tokio::test]
async fn the_list_of_changes_is_paged_back_to_where_the_client_was() {
    story(|server| async move {
        let (alice, bob, room, _) = bob_says(&server).await;
        let start = next(&alice.sync(None, "").await);
        let mut roots = Vec::new();
        for n in 0..5 {
            let root = bob.say(&room, &format!("root {n}")).await;
            assert_eq!(subscribe(&alice, &room, &root, None).await, "200");
            roots.push(root);
        }
        assert_eq!(unsubscribe(&alice, &room, &roots[1]).await, "200");
        assert!(list(&bob, "dir=b").await.as_object().unwrap().is_empty());
        let whole = list(&alice, "dir=b").await;
        assert_eq!(whole["subscribed"][&room].as_object().unwrap().len(), 4);
        assert_eq!(whole["subscribed"][&room][&roots[0]]["automatic"], false);
        let gone = &whole["unsubscribed"][&room];
        assert_eq!(
            gone.as_object().unwrap().keys().collect::<Vec<_>>(),
            [&roots[1]]
        );
        assert!(gone[&roots[1]]["automatic"].is_null());
        assert!(whole.get("end").is_none());

        // Newest first, two at a time, and each once.
        let (mut from, mut seen) = (String::new(), Vec::new());
        loop {
            let page = list(&alice, &format!("dir=b&limit=2{from}&to={start}")).await;
            for (key, rooms) in page.as_object().unwrap() {
                if key != "end" {
                    seen.extend(rooms[&room].as_object().unwrap().keys().cloned());
                }
            }
            match page["end"].as_str() {
                Some(end) => from = format!("&from={end}"),
                None => break,
            }
        }
        let mut wanted = roots.clone();
        wanted.sort();
        assert_eq!(seen.len(), 5);
        seen.sort();
        assert_eq!(seen, wanted);
        // Nothing from before the client's position.
        let now = next(&alice.sync(None, "").await);
        let none = list(&alice, &format!("dir=b&to={now}")).await;
        assert!(none.as_object().unwrap().is_empty(), "{none}");
        for (query, wanted) in [
            ("", "400 M_MISSING_PARAM"),
            ("dir=f", "400 M_INVALID_PARAM"),
            ("dir=b&limit=0", "400 M_INVALID_PARAM"),
            ("dir=b&limit=-1", "400 M_INVALID_PARAM"),
            ("dir=b&from=x", "400 M_INVALID_PARAM"),
            ("dir=b&from=b", "400 M_INVALID_PARAM"),
            ("dir=b&from=b99999999999999999999", "400 M_INVALID_PARAM"),
            ("dir=b&to=x", "400 M_INVALID_PARAM"),
        ] {
            let told = ask(&alice, Method::GET, &format!("{LIST}?{query}"), None).await;
            assert_eq!(told.0, wanted, "{query}");
        }
    })
    .await;
}

/// What a user has erased with their account is gone.
#[tokio::test]
async fn subscriptions_go_with_an_account_that_is_erased() {
    story(|server| async move {
        let (alice, _, room, root) = bob_says(&server).await;
        assert_eq!(subscribe(&alice, &room, &root, None).await, "200");
        let id = ruma::UserId::parse(&*alice.id).unwrap();
        let user = server.store.user_no(&id).await.unwrap();
        let all = async || {
            let head = server.store.log().head();
            let found = server
                .store
                .thread_subscriptions(user, rhizome_storage::Pos(0), head, 9);
            found.await.unwrap().len()
        };
        assert_eq!(all().await, 1);
        let auth = json!({ "type": "m.login.password", "password": "a good password",
            "identifier": { "type": "m.id.user", "user": alice.id } });
        let body = json!({ "auth": auth, "erase": true });
        alice.ok(Method::POST, "/account/deactivate", body).await;
        assert_eq!(all().await, 0);
    })
    .await;
}

/// Sliding sync tells what changed, the newest of it; the list has the rest.
#[tokio::test]
async fn sliding_sync_tells_which_threads_are_followed() {
    const EXTENSION: &str = "io.element.msc4308.thread_subscriptions";
    story(|server| async move {
        let (alice, bob, room, root) = bob_says(&server).await;
        let body = json!({ "extensions": { EXTENSION: { "enabled": true, "limit": 2 } } });
        assert_eq!(subscribe(&alice, &room, &root, None).await, "200");
        let mut client = Client::of(&alice);
        let begun = client.sync(&body).await;
        let told = &begun["extensions"][EXTENSION];
        assert_eq!(told["subscribed"][&room][&root]["automatic"], false);
        assert!(told.get("prev_batch").is_none());
        let quiet = client.sync(&body).await;
        assert!(quiet["extensions"].get(EXTENSION).is_none(), "{quiet}");

        // Another device of Alice's changes it.
        let polling = client.poll(&body).await;
        assert_eq!(unsubscribe(&alice, &room, &root).await, "200");
        let told = polling.await.unwrap();
        let told = &told["extensions"][EXTENSION];
        assert!(told["unsubscribed"][&room][&root]["bump_stamp"].is_i64());
        assert!(told.get("subscribed").is_none());

        // More than fits: of each thread the last, and the rest from the list.
        let pos = client.pos.clone().unwrap();
        let mut roots = Vec::new();
        for n in 0..3 {
            let root = bob.say(&room, &n.to_string()).await;
            for _ in 0..2 {
                assert_eq!(subscribe(&alice, &room, &root, None).await, "200");
            }
            roots.push(root);
        }
        let told = client.sync(&body).await;
        let told = &told["extensions"][EXTENSION];
        let threads = told["subscribed"][&room].as_object().unwrap();
        assert!(
            threads.len() == 2 && !threads.contains_key(&roots[0]),
            "{told}"
        );
        assert!(told.get("unsubscribed").is_none());
        let from = told["prev_batch"].as_str().unwrap();
        let rest = list(&alice, &format!("dir=b&from={from}&to={}", esc(&pos))).await;
        let threads = rest["subscribed"][&room].as_object().unwrap();
        assert_eq!(threads.keys().collect::<Vec<_>>(), [&roots[0]]);
        assert_eq!(rest["unsubscribed"][&room].as_object().unwrap().len(), 1);
    })
    .await;
}
