//! How much is unread, as `/sync` tells it: what notifies, what is read by what, and that it costs nothing.

mod naive;
mod random;
mod written;

use http::Method;
use rhizome_storage::{Dialect, testing::soon};
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use crate::{
    harness::{User, esc, filter, next, story},
    sliding::client::{Client, first},
};

/// The counts in an answer: notifications, highlights; with threads only of the main timeline.
pub fn told(sync: &Value, room: &str) -> Option<(u64, u64)> {
    pair(&sync["rooms"]["join"][room]["unread_notifications"])
}

pub fn pair(counts: &Value) -> Option<(u64, u64)> {
    let of = |name: &str| counts[name].as_u64();
    Some((of("notification_count")?, of("highlight_count")?))
}

/// The counts of a thread in an answer.
fn told_of(sync: &Value, room: &str, root: &str) -> Option<(u64, u64)> {
    pair(&sync["rooms"]["join"][room]["unread_thread_notifications"][root])
}

pub fn by_thread() -> String {
    filter(&json!({ "room": { "timeline": { "unread_thread_notifications": true } } }))
}

async fn unread(user: &User, room: &str) -> (u64, u64) {
    told(&user.sync(None, "").await, room).unwrap()
}

pub fn message(body: &str, more: Value) -> Value {
    let mut content = json!({ "msgtype": "m.text", "body": body });
    if let (Some(content), Value::Object(more)) = (content.as_object_mut(), more) {
        content.extend(more);
    }
    content
}

pub fn related(kind: &str, to: &str) -> Value {
    json!({ "m.relates_to": { "rel_type": kind, "event_id": to } })
}

pub async fn read(user: &User, room: &str, kind: &str, event: &str, thread: Option<&str>) {
    let path = format!("/rooms/{}/receipt/{kind}/{}", esc(room), esc(event));
    let body = thread.map_or(json!({}), |thread| json!({ "thread_id": thread }));
    user.ok(Method::POST, &path, body).await;
}

pub async fn rule(user: &User, path: &str, body: Value) {
    user.ok(Method::PUT, &format!("/pushrules/global/{path}"), body)
        .await;
}

pub async fn two(server: &crate::harness::Server) -> (User, User, String) {
    let (alice, bob) = (server.register("alice").await, server.register("bob").await);
    let room = alice.create_public().await;
    bob.join(&room).await;
    (alice, bob, room)
}

/// The story of Complement's `TestThreadedReceipts`, with mentions as they are today.
#[tokio::test]
async fn threads_have_counts_and_receipts_of_their_own() {
    story(|server| async move {
        let (alice, bob, room) = two(&server).await;
        let since = next(&bob.sync(None, "").await);
        let say = async |more: Value| {
            alice
                .send(&room, "m.room.message", message("x", more))
                .await
        };
        let mention = |mut more: Value| {
            more["m.mentions"] = json!({ "user_ids": [bob.id] });
            more
        };
        let root = say(json!({})).await;
        let reply = say(related("m.thread", &root)).await;
        say(mention(related("m.thread", &root))).await;
        let mention_in_main = say(mention(json!({}))).await;
        say(related("m.thread", &root)).await;
        let reference = say(related("m.reference", &root)).await;
        let reaction = alice
            .send(&room, "m.reaction", related("m.annotation", &reference))
            .await;
        let check = async |all: (u64, u64), main: (u64, u64), thread: Option<(u64, u64)>| {
            let answer = bob.sync(Some(&since), "").await;
            assert_eq!(told(&answer, &room), Some(all));
            assert_eq!(told_of(&answer, &room, &root), None);
            for since in [None, Some(since.as_str())] {
                let answer = bob.sync(since, &by_thread()).await;
                assert_eq!(told(&answer, &room), Some(main));
                assert_eq!(told_of(&answer, &room, &root), thread);
            }
        };
        check((6, 2), (3, 1), Some((3, 1))).await;
        read(&bob, &room, "m.read", &root, Some("main")).await;
        check((5, 2), (2, 1), Some((3, 1))).await;
        read(&bob, &room, "m.read", &reply, Some(&root)).await;
        check((4, 2), (2, 1), Some((2, 1))).await;
        read(&bob, &room, "m.read", &mention_in_main, None).await;
        check((2, 0), (1, 0), Some((1, 0))).await;
        read(&bob, &room, "m.read", &reaction, Some(&root)).await;
        check((1, 0), (1, 0), None).await;
        read(&bob, &room, "m.read.private", &reference, None).await;
        check((0, 0), (0, 0), None).await;
        // What lies behind changes nothing.
        read(&bob, &room, "m.read", &mention_in_main, Some("main")).await;
        check((0, 0), (0, 0), None).await;
    })
    .await;
}

#[tokio::test]
async fn what_notifies_goes_by_the_rules() {
    story(|server| async move {
        let (alice, bob, room) = two(&server).await;
        let sent = async |user: &User, kind: &str, content: Value| {
            let before = unread(&bob, &room).await;
            let event = user.send(&room, kind, content).await;
            let after = unread(&bob, &room).await;
            (event, (after.0 - before.0, after.1 - before.1))
        };
        let say = |more: Value| message("some cake", more);
        let (first, news) = sent(&alice, "m.room.message", say(json!({}))).await;
        assert_eq!(news, (1, 0));
        let me = json!({ "m.mentions": { "user_ids": ["@alice:here", bob.id] } });
        let all = json!({ "m.mentions": { "room": true } });
        for (kind, content, news) in [
            ("m.room.message", say(me.clone()), (1, 1)),
            ("m.room.message", say(all.clone()), (1, 1)),
            ("m.room.encrypted", json!({ "algorithm": "x" }), (1, 0)),
            ("m.call.invite", json!({}), (1, 0)),
            ("org.matrix.msc3381.poll.start", json!({}), (1, 0)),
            ("org.matrix.msc3381.poll.response", json!({}), (0, 0)),
            (
                "m.room.message",
                json!({ "msgtype": "m.notice", "body": "x" }),
                (0, 0),
            ),
            ("m.room.message", say(related("m.replace", &first)), (0, 0)),
            ("m.reaction", related("m.annotation", &first), (0, 0)),
            ("x.y", json!({}), (0, 0)),
        ] {
            assert_eq!(
                sent(&alice, kind, content.clone()).await.1,
                news,
                "{kind} {content}"
            );
        }
        // Who hasn't the power mentions nobody in particular.
        let carol = server.register("carol").await;
        carol.join(&room).await;
        assert_eq!(sent(&carol, "m.room.message", say(all)).await.1, (1, 0));
        // State doesn't, but the room's end does.
        let before = unread(&bob, &room).await;
        alice
            .set_state(&room, "m.room.name", "", json!({ "name": "x" }))
            .await;
        assert_eq!(unread(&bob, &room).await, before);
        let end = json!({ "body": "gone", "replacement_room": "!x:here" });
        alice.set_state(&room, "m.room.tombstone", "", end).await;
        assert_eq!(unread(&bob, &room).await, (before.0 + 1, before.1 + 1));
        // Rules of one's own, for what is to come and what is unread already.
        rule(
            &bob,
            "content/cake",
            json!({ "actions": ["notify", { "set_tweak": "highlight" }], "pattern": "CAKE" }),
        )
        .await;
        assert_eq!(
            sent(&alice, "m.room.message", say(json!({}))).await.1,
            (1, 1)
        );
        let known = unread(&bob, &room).await;
        rule(&bob, "content/cake/enabled", json!({ "enabled": false })).await;
        assert_eq!(unread(&bob, &room).await, (known.0, known.1 - 3));
        rule(
            &bob,
            &format!("room/{}", esc(&room)),
            json!({ "actions": [] }),
        )
        .await;
        // Mentions are notified of before the room is asked.
        assert_eq!(unread(&bob, &room).await, (3, 3));
        rule(
            &bob,
            "override/.m.rule.master/enabled",
            json!({ "enabled": true }),
        )
        .await;
        assert_eq!(unread(&bob, &room).await, (0, 0));
    })
    .await;
}

#[tokio::test]
async fn what_is_read_isnt_counted() {
    story(|server| async move {
        let (alice, bob, room) = two(&server).await;
        alice.say(&room, "one").await;
        let two = alice.say(&room, "two").await;
        alice.say(&room, "three").await;
        assert_eq!(unread(&bob, &room).await, (3, 0));
        assert_eq!(unread(&alice, &room).await, (0, 0));
        // How far somebody remembers to have read is no receipt.
        let marker = format!("/rooms/{}/read_markers", esc(&room));
        bob.ok(Method::POST, &marker, json!({ "m.fully_read": two }))
            .await;
        assert_eq!(unread(&bob, &room).await, (3, 0));
        bob.ok(Method::POST, &marker, json!({ "m.read.private": two }))
            .await;
        assert_eq!(unread(&bob, &room).await, (1, 0));
        // A message of one's own says so, too; of its thread alone.
        let threaded = message("x", related("m.thread", &two));
        alice.send(&room, "m.room.message", threaded.clone()).await;
        let own = bob.say(&room, "mine").await;
        assert_eq!(unread(&bob, &room).await, (1, 0));
        let four = alice.say(&room, "four").await;
        let own_in_thread = bob.send(&room, "m.room.message", threaded).await;
        assert_eq!(unread(&bob, &room).await, (1, 0));
        // What is redacted is nothing to read, and has read nothing.
        let redact = async |by: &User, event: &str| {
            let path = format!(
                "/rooms/{}/redact/{}/r{}",
                esc(&room),
                esc(event),
                esc(event)
            );
            by.ok(Method::PUT, &path, json!({})).await;
        };
        redact(&alice, &four).await;
        assert_eq!(unread(&bob, &room).await, (0, 0));
        redact(&bob, &own).await;
        redact(&bob, &own_in_thread).await;
        assert_eq!(unread(&bob, &room).await, (2, 0));
        // Whom one doesn't want to hear of.
        let ignored = json!({ "ignored_users": { "@alice:here": {} } });
        let list = format!("/user/{}/account_data/m.ignored_user_list", esc(&bob.id));
        bob.ok(Method::PUT, &list, ignored).await;
        assert_eq!(unread(&bob, &room).await, (0, 0));
        bob.ok(Method::PUT, &list, json!({ "ignored_users": {} }))
            .await;
        assert_eq!(unread(&bob, &room).await, (2, 0));
        // Who comes again begins anew.
        bob.leave(&room).await;
        alice.say(&room, "five").await;
        bob.join(&room).await;
        assert_eq!(unread(&bob, &room).await, (0, 0));
        alice.say(&room, "six").await;
        assert_eq!(unread(&bob, &room).await, (1, 0));
    })
    .await;
}

#[tokio::test]
async fn a_receipt_tells_all_devices_and_a_message_comes_with_its_counts() {
    story(|server| async move {
        let (alice, bob, room) = two(&server).await;
        let phone = bob.another_device().await;
        let since = next(&bob.sync(None, "").await);
        let (one, other) = (bob.poll(&since).await, phone.poll(&since).await);
        let event = alice.say(&room, "hi").await;
        for device in [one, other] {
            let answer = soon("the message", device).await.unwrap();
            assert_eq!(told(&answer, &room), Some((1, 0)));
        }
        // Also a device that wants no receipts.
        let deaf = filter(&json!({ "room": { "ephemeral": { "types": [] } } }));
        let since = next(&bob.sync(Some(&since), "").await);
        let waiting = phone.poll(&since).await;
        read(&bob, &room, "m.read.private", &event, None).await;
        assert_eq!(
            told(&soon("the receipt", waiting).await.unwrap(), &room),
            Some((0, 0))
        );
        let answer = phone.sync(Some(&since), &deaf).await;
        assert_eq!(told(&answer, &room), Some((0, 0)));
        let quiet = alice.sync(Some(&since), "").await;
        assert_eq!(quiet["rooms"]["join"].get(&room), None);
    })
    .await;
}

/// "Servers MUST include the number of unread notifications … and MUST update it as it changes."
#[tokio::test]
async fn who_changes_what_they_want_to_be_notified_of_is_told_the_counts_anew() {
    story(|server| async move {
        let (alice, bob, room) = two(&server).await;
        alice.say(&room, "hi").await;
        let mut since = next(&bob.sync(None, "").await);
        let (wanted, mut sliding) = (first(5), Client::of(&bob));
        sliding.sync(&wanted).await;
        let mut are = async |expected: (u64, u64), device: JoinHandle<Value>| {
            let answer = soon("the counts", device).await.unwrap();
            assert_eq!(told(&answer, &room), Some(expected));
            let answer = sliding.sync(&wanted).await;
            assert_eq!(pair(&answer["rooms"][&room]), Some(expected));
            next(&bob.sync(None, "").await)
        };
        let mute = format!("/pushrules/global/room/{}", esc(&room));
        let device = bob.poll(&since).await;
        bob.ok(Method::PUT, &mute, json!({ "actions": [] })).await;
        since = are((0, 0), device).await;
        let device = bob.poll(&since).await;
        bob.ok(Method::DELETE, &mute, json!({})).await;
        since = are((1, 0), device).await;
        let device = bob.poll(&since).await;
        let list = format!("/user/{}/account_data/m.ignored_user_list", esc(&bob.id));
        let ignored = json!({ "ignored_users": { "@alice:here": {} } });
        bob.ok(Method::PUT, &list, ignored).await;
        are((0, 0), device).await;
    })
    .await;
}

#[tokio::test]
async fn counts_of_who_listens_cost_no_query() {
    story(|server| async move {
        let (alice, bob, room) = two(&server).await;
        let root = alice.say(&room, "root").await;
        let mut since = next(&bob.sync(None, "").await);
        let threaded = message("x", related("m.thread", &root));
        // The first answer of each shape may look something up.
        let mut costs = Vec::new();
        for round in 0..4 {
            let content = if round % 2 == 0 {
                message("x", json!({}))
            } else {
                threaded.clone()
            };
            alice.send(&room, "m.room.message", content).await;
            let before = server.store.counters().now();
            let answer = bob.sync(Some(&since), &by_thread()).await;
            costs.push((server.store.counters().now() - before).queries);
            since = next(&answer);
            assert_eq!(told(&answer, &room), Some((2 + round / 2, 0)));
        }
        let shared = u64::from(server.store.dialect() == Dialect::Postgres);
        assert!(costs[2..].iter().all(|cost| *cost <= shared), "{costs:?}");
    })
    .await;
}

#[tokio::test]
async fn a_clash_of_receipts_shows_the_one_without_a_thread() {
    story(|server| async move {
        let (alice, _, room) = two(&server).await;
        let root = alice.say(&room, "root").await;
        let reply = message("x", related("m.thread", &root));
        let reply = alice.send(&room, "m.room.message", reply).await;
        for order in [[None, Some(root.as_str())], [Some(root.as_str()), None]] {
            for thread in order {
                read(&alice, &room, "m.read", &reply, thread).await;
            }
            let answer = alice.sync(None, "").await;
            let ephemeral = &answer["rooms"]["join"][&room]["ephemeral"]["events"];
            let receipts = ephemeral
                .as_array()
                .unwrap()
                .iter()
                .find(|event| event["type"] == "m.receipt");
            let receipt = &receipts.unwrap()["content"][&reply]["m.read"][&alice.id];
            assert!(
                receipt["ts"].is_u64() && receipt.get("thread_id").is_none(),
                "{receipt}"
            );
        }
    })
    .await;
}
