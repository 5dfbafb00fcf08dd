//! Filters by labels and by relations: wherever events are filtered, and whoever asks.

use http::{Method, StatusCode};
use serde_json::{Value, json};

use crate::{
    harness::{User, esc, events, filter, ids, next, story, timeline},
    peer::{room_of, story as with_peer},
};

fn labelled(labels: &[&str]) -> Value {
    json!({"msgtype": "m.text", "body": "b", "org.matrix.labels": labels})
}

fn relating(rel_type: &str, to: &str) -> Value {
    json!({"msgtype": "m.text", "body": "b", "m.relates_to": {"rel_type": rel_type, "event_id": to}})
}

async fn relate(user: &User, room: &str, rel_type: &str, to: &str) -> String {
    user.send(room, "m.room.message", relating(rel_type, to))
        .await
}

async fn redact(user: &User, room: &str, target: &str) -> String {
    let path = format!("/rooms/{}/redact/{}/t{target}", esc(room), esc(target));
    let sent = user.ok(Method::PUT, &path, json!({})).await;
    sent["event_id"].as_str().unwrap().to_owned()
}

/// What every way of reading shows of a room's messages with a filter, oldest first; all show the same. `middle` is a
/// message that `/context` is asked around, which tells of it whatever the filter.
async fn shown(user: &User, room: &str, middle: &str, of: Value) -> Vec<String> {
    let mut of = of;
    of["types"] = json!(["m.room.message"]);
    of["limit"] = json!(50);
    let text = esc(&of.to_string());
    let path = format!("/rooms/{}", esc(room));
    let read = async |dir: &str| {
        let page = format!("{path}/messages?dir={dir}&limit=50&filter={text}");
        ids(&events(&user.read(&page).await, &["chunk"]))
    };
    let forward = read("f").await;
    let mut backward = read("b").await;
    backward.reverse();
    assert_eq!(backward, forward);

    let definition = json!({"room": {"timeline": of}});
    let inline = user.sync(None, &filter(&definition)).await;
    assert_eq!(timeline(&inline, room), forward);
    let stored = format!("/user/{}/filter", esc(&user.id));
    let stored = user.ok(Method::POST, &stored, definition).await;
    let by_id = format!("&filter={}", stored["filter_id"].as_str().unwrap());
    let by_id = user.sync(None, &by_id).await;
    assert_eq!(timeline(&by_id, room), forward);

    let around = format!("{path}/context/{}?limit=100&filter={text}", esc(middle));
    let around = user.read(&around).await;
    let mut context = ids(&events(&around, &["events_before"]));
    context.reverse();
    context.extend(ids(&events(&around, &["events_after"])));
    let others: Vec<_> = (forward.iter().filter(|id| *id != middle))
        .cloned()
        .collect();
    assert_eq!(context, others);
    forward
}

#[tokio::test]
async fn labels_choose_events() {
    story(|server| async move {
        let alice = server.register("alice").await;
        let room = alice.create_public().await;
        let since = next(&alice.sync(None, "").await);
        let plain = alice.say(&room, "plain").await;
        let fun = alice
            .send(&room, "m.room.message", labelled(&["#fun"]))
            .await;
        let both = alice
            .send(&room, "m.room.message", labelled(&["#fun", "#work"]))
            .await;
        let show = |of| shown(&alice, &room, &plain, of);
        let of_fun = json!({"org.matrix.labels": ["#fun"]});
        assert_eq!(show(of_fun.clone()).await, [fun.clone(), both.clone()]);
        let not_work = json!({"org.matrix.not_labels": ["#work"]});
        assert_eq!(show(not_work).await, [plain.clone(), fun.clone()]);
        let only_fun = json!({"org.matrix.labels": ["#fun"], "org.matrix.not_labels": ["#work"]});
        assert_eq!(show(only_fun).await, std::slice::from_ref(&fun));

        // What has no such label is news to nobody who asks for labels; a redaction takes them away.
        let fun_only = filter(&json!({"room": {"timeline": of_fun}}));
        let news = alice.sync(Some(&since), &fun_only).await;
        assert_eq!(timeline(&news, &room), [fun.clone(), both.clone()]);
        redact(&alice, &room, &fun).await;
        let of_fun = json!({"org.matrix.labels": ["#fun"]});
        assert_eq!(show(of_fun).await, [both]);

        // State as well.
        let topic = json!({"topic": "t", "org.matrix.labels": ["#fun"]});
        let topic = alice.set_state(&room, "m.room.topic", "", topic).await;
        let section = json!({"state": {"org.matrix.labels": ["#fun"]}, "timeline": {"types": []}});
        let state = alice.sync(None, &filter(&json!({"room": section}))).await;
        let state = events(&state, &["rooms", "join", &room, "state", "events"]);
        assert_eq!(ids(&state), [topic]);
    })
    .await;
}

#[tokio::test]
async fn relations_choose_events() {
    story(|server| async move {
        let (alice, bob) = (server.register("alice").await, server.register("bob").await);
        let room = alice.create_public().await;
        bob.join(&room).await;
        let (root, edited) = (
            alice.say(&room, "root").await,
            alice.say(&room, "tpyo").await,
        );
        let reply = relate(&bob, &room, "m.thread", &root).await;
        let edit = relate(&alice, &room, "m.replace", &edited).await;
        let show = |of| shown(&alice, &room, &root, of);
        let (roots, edits) = ([root.clone()], [edited.clone()]);

        assert_eq!(
            show(json!({"related_by_rel_types": ["m.thread"]})).await,
            roots
        );
        assert_eq!(
            show(json!({"related_by_rel_types": ["m.replace"]})).await,
            edits
        );
        let either = json!({"related_by_rel_types": ["m.replace", "m.thread"]});
        assert_eq!(show(either).await, [root.clone(), edited.clone()]);
        assert_eq!(show(json!({"related_by_senders": [bob.id]})).await, roots);
        assert_eq!(show(json!({"related_by_senders": [alice.id]})).await, edits);
        let mixed = json!({"related_by_senders": [bob.id], "related_by_rel_types": ["m.replace"]});
        assert_eq!(show(mixed).await, [""; 0]);
        assert_eq!(
            show(json!({"related_by_senders": ["@nobody:here"]})).await,
            [""; 0]
        );
        assert_eq!(show(json!({"related_by_senders": []})).await, [""; 0]);
        let own = json!({"senders": [bob.id], "related_by_rel_types": ["m.thread"]});
        assert_eq!(show(own).await, [""; 0]);
        for prefix in ["", "org.matrix.msc3874."] {
            let only = json!({ format!("{prefix}rel_types"): ["m.thread"] });
            assert_eq!(show(only).await, std::slice::from_ref(&reply));
            let not = json!({ format!("{prefix}not_rel_types"): ["m.thread"] });
            assert_eq!(
                show(not).await,
                [root.clone(), edited.clone(), edit.clone()]
            );
        }

        // An edit of the reply is no second reply; without the reply the root is none.
        relate(&bob, &room, "m.replace", &reply).await;
        assert_eq!(
            show(json!({"related_by_rel_types": ["m.thread"]})).await,
            roots
        );
        redact(&bob, &room, &reply).await;
        assert_eq!(
            show(json!({"related_by_rel_types": ["m.thread"]})).await,
            [""; 0]
        );
        relate(&bob, &room, "m.thread", &root).await;
        assert_eq!(
            show(json!({"related_by_rel_types": ["m.thread"]})).await,
            roots
        );
        // Who ignores Bob hears of no thread.
        let ignored = json!({"ignored_users": {&*bob.id: {}}});
        let path = format!("/user/{}/account_data/m.ignored_user_list", esc(&alice.id));
        alice.ok(Method::PUT, &path, ignored).await;
        assert_eq!(
            show(json!({"related_by_rel_types": ["m.thread"]})).await,
            [""; 0]
        );
    })
    .await;
}

#[tokio::test]
async fn what_comes_after_a_reader_has_left_does_not_count() {
    story(|server| async move {
        let (alice, bob) = (server.register("alice").await, server.register("bob").await);
        let room = alice.create_public().await;
        bob.join(&room).await;
        let (early, late) = (alice.say(&room, "1").await, alice.say(&room, "2").await);
        relate(&alice, &room, "m.thread", &early).await;
        bob.leave(&room).await;
        relate(&alice, &room, "m.thread", &late).await;
        let threads = json!({"related_by_rel_types": ["m.thread"]});
        let path = format!(
            "/rooms/{}/messages?dir=b&limit=50&filter={}",
            esc(&room),
            esc(&threads.to_string())
        );
        let found = async |user: &User| ids(&events(&user.read(&path).await, &["chunk"]));
        assert_eq!(found(&alice).await, [late, early.clone()]);
        assert_eq!(found(&bob).await, [early]);
    })
    .await;
}

#[tokio::test]
async fn wrong_filters_are_refused() {
    story(|server| async move {
        let alice = server.register("alice").await;
        let room = alice.create_public().await;
        let said = alice.say(&room, "m").await;
        for wrong in [
            json!({"org.matrix.labels": "#fun"}),
            json!({"org.matrix.not_labels": [1]}),
            json!({"related_by_senders": ["nobody"]}),
            json!({"related_by_rel_types": {}}),
            json!({"org.matrix.msc3874.rel_types": 1}),
        ] {
            let (text, room) = (esc(&wrong.to_string()), esc(&room));
            let whole = json!({"room": {"timeline": wrong}});
            for path in [
                format!("/rooms/{room}/messages?dir=b&filter={text}"),
                format!("/rooms/{room}/context/{}?filter={text}", esc(&said)),
                format!("/sync?{}", filter(&whole).trim_start_matches('&')),
            ] {
                let (status, answer) = alice.get(&path).await;
                assert_eq!(status, StatusCode::BAD_REQUEST, "{path}");
                assert_eq!(answer["errcode"], "M_INVALID_PARAM", "{path}");
            }
            let path = format!("/user/{}/filter", esc(&alice.id));
            let (status, answer) = alice.call(Method::POST, &path, Some(whole)).await;
            assert_eq!(status, StatusCode::BAD_REQUEST);
            assert_eq!(answer["errcode"], "M_BAD_JSON");
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reply_may_come_before_what_it_replies_to() {
    with_peer(async |ada, peer, room| {
        let room_id = room_of(&room);
        let mut since = next(&ada.sync(None, "").await);
        let all = filter(&json!({"room": {"timeline": {"limit": 50}}}));
        let all = format!("{all}&timeout=20000");
        let mut comes = async |id: &str| loop {
            let news = ada.sync(Some(&since), &all).await;
            since = next(&news);
            if timeline(&news, &room).iter().any(|told| told == id) {
                break;
            }
        };
        let threads = json!({"related_by_rel_types": ["m.thread"], "types": ["m.room.message"]});
        let path = format!(
            "/rooms/{}/messages?dir=b&limit=50&filter={}",
            esc(&room),
            esc(&threads.to_string())
        );
        let roots = async || ids(&events(&ada.read(&path).await, &["chunk"]));

        // What comes in the place of `first`: it doesn't follow the root, so nobody asks for that.
        let first = peer.say(&room_id, "first").await;
        let root = peer.say(&room_id, "root").await;
        let reply = relating("m.thread", &root);
        let (reply, json) = peer.forge(&first, "m.room.message", reply).await;
        peer.push_json(&reply, &json).await;
        comes(&reply).await;
        assert_eq!(roots().await, [""; 0]);
        peer.push(&root).await;
        comes(&root).await;
        assert_eq!(roots().await, std::slice::from_ref(&root));

        // One that is never found is no trouble.
        let lost = relating("m.thread", "$nowhere");
        let lost = peer.send(&room_id, "m.room.message", None, lost).await;
        peer.push(&lost).await;
        comes(&lost).await;
        assert_eq!(roots().await, [root]);
        peer
    })
    .await;
}
