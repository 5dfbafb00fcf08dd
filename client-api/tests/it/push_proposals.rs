//! Push rules of proposals: what they are, that they can be switched, and what they do to counts.

use http::Method;
use serde_json::{Value, json};

use crate::{
    harness::{Server, User, esc, story},
    unread::{message, pair, read, related, rule},
};

const QUIET: &str = "postcontent/.io.element.msc4306.rule.unsubscribed_thread";

async fn unread(user: &User, room: &str) -> (u64, u64) {
    let answer = user.sync(None, "").await;
    pair(&answer["rooms"]["join"][room]["unread_notifications"]).unwrap()
}

async fn three(server: &Server) -> (User, User, User, String) {
    let (alice, bob) = (server.register("alice").await, server.register("bob").await);
    let carol = server.register("carol").await;
    let room = alice.create_public().await;
    bob.join(&room).await;
    carol.join(&room).await;
    (alice, bob, carol, room)
}

async fn follow(user: &User, room: &str, root: &str, method: Method) {
    let path = format!(
        "/_matrix/client/unstable/io.element.msc4306/rooms/{}/thread/{}/subscription",
        esc(room),
        esc(root)
    );
    let token = Some(user.token.as_str());
    let (status, answer) = user
        .server
        .request(method, &path, token, Some(json!({})))
        .await;
    assert_eq!(status, 200, "{answer}");
}

#[tokio::test]
async fn polls_have_rules_as_clients_look_for_them() {
    story(|server| async move {
        let alice = server.register("alice").await;
        let rule = async |kind: &str, name: &str| {
            let path = format!("/pushrules/global/{kind}/.org.matrix.msc3930.rule.{name}");
            alice.read(&path).await
        };
        let of_type = |kind: &str| {
            json!({ "kind": "event_match", "key": "type", "pattern": format!("org.matrix.msc3381.poll.{kind}") })
        };
        let response = rule("override", "poll_response").await;
        assert_eq!(response["conditions"], json!([of_type("response")]));
        assert_eq!(response["actions"], json!([]));
        for kind in ["start", "end"] {
            let any = rule("underride", &format!("poll_{kind}")).await;
            assert_eq!(any["conditions"], json!([of_type(kind)]));
            assert_eq!(any["actions"], json!(["notify"]));
            let two = rule("underride", &format!("poll_{kind}_one_to_one")).await;
            let count = json!({ "kind": "room_member_count", "is": "2" });
            assert_eq!(two["conditions"], json!([count, of_type(kind)]));
        }
    })
    .await;
}

#[tokio::test]
async fn a_kind_of_rules_is_told_alone_and_those_of_threads_can_only_be_changed() {
    story(|server| async move {
        let alice = server.register("alice").await;
        let all = alice.read("/pushrules/").await;
        for kind in ["override", "content", "postcontent", "underride"] {
            let of_kind = alice.read(&format!("/pushrules/global/{kind}/")).await;
            assert_eq!(of_kind, all["global"][kind], "{kind}");
        }
        // Both names of the kind are the same.
        let path = format!("/pushrules/global/{QUIET}");
        let unstable = path.replace("postcontent", "io.element.msc4306.postcontent");
        let quiet = alice.read(&path).await;
        assert_eq!(quiet["enabled"], false);
        assert_eq!(alice.read(&unstable).await, quiet);
        let on = json!({ "enabled": true });
        alice
            .ok(Method::PUT, &format!("{unstable}/enabled"), on.clone())
            .await;
        assert_eq!(alice.read(&format!("{path}/enabled")).await, on);
        let actions = json!({ "actions": ["notify"] });
        alice
            .ok(Method::PUT, &format!("{path}/actions"), actions.clone())
            .await;
        assert_eq!(alice.read(&format!("{path}/actions")).await, actions);
        // It stays so when other rules change.
        let pie = json!({ "pattern": "pie", "actions": [] });
        rule(&alice, "content/pie", pie).await;
        assert_eq!(alice.read(&path).await["enabled"], true);
        let told = alice.sync(None, "").await;
        let events = told["account_data"]["events"].as_array().unwrap();
        let rules = events.iter().find(|event| event["type"] == "m.push_rules");
        assert_eq!(
            rules.unwrap()["content"]["global"]["postcontent"][0]["enabled"],
            true
        );
        let (status, answer) = alice.call(Method::DELETE, &path, None).await;
        assert_eq!(
            (status.as_u16(), answer["errcode"].as_str()),
            (400, Some("M_INVALID_PARAM"))
        );
    })
    .await;
}

#[tokio::test]
async fn a_thread_that_is_followed_is_heard_in_a_muted_room() {
    story(|server| async move {
        let (alice, bob, carol, room) = three(&server).await;
        let root = alice.say(&room, "root").await;
        let threaded = message("x", related("m.thread", &root));
        for user in [&bob, &carol] {
            let mute = json!({ "actions": [] });
            rule(user, &format!("room/{}", esc(&room)), mute).await;
        }
        alice.send(&room, "m.room.message", threaded.clone()).await;
        assert_eq!(unread(&bob, &room).await, (0, 0));
        follow(&bob, &room, &root, Method::PUT).await;
        alice.send(&room, "m.room.message", threaded.clone()).await;
        alice.say(&room, "beside").await;
        assert_eq!(unread(&carol, &room).await, (0, 0));
        // What came before they followed counts as well where it is counted anew.
        let heard = unread(&bob, &room).await;
        assert!([(1, 0), (2, 0)].contains(&heard), "{heard:?}");
        let last = alice.send(&room, "m.room.message", threaded.clone()).await;
        assert_eq!(unread(&bob, &room).await, (heard.0 + 1, 0));
        read(&bob, &room, "m.read", &last, None).await;
        follow(&bob, &room, &root, Method::DELETE).await;
        alice.send(&room, "m.room.message", threaded).await;
        assert_eq!(unread(&bob, &room).await, (0, 0));
    })
    .await;
}

#[tokio::test]
async fn a_thread_that_isnt_followed_is_silent_for_who_wants_that() {
    story(|server| async move {
        let (alice, bob, carol, room) = three(&server).await;
        rule(
            &bob,
            &format!("{QUIET}/enabled"),
            json!({ "enabled": true }),
        )
        .await;
        let root = alice.say(&room, "root").await;
        let say = async |more: Value| {
            let mut more = more;
            more["m.relates_to"] = related("m.thread", &root)["m.relates_to"].take();
            alice
                .send(&room, "m.room.message", message("x", more))
                .await
        };
        say(json!({})).await;
        assert_eq!(unread(&bob, &room).await, (1, 0));
        assert_eq!(unread(&carol, &room).await, (2, 0));
        say(json!({ "m.mentions": { "user_ids": [bob.id] } })).await;
        assert_eq!(unread(&bob, &room).await, (2, 1));
        follow(&bob, &room, &root, Method::PUT).await;
        let before = unread(&bob, &room).await;
        say(json!({})).await;
        assert_eq!(unread(&bob, &room).await, (before.0 + 1, 1));
    })
    .await;
}

#[tokio::test]
async fn replies_and_encrypted_events_notify_who_wants_it() {
    story(|server| async move {
        let (alice, bob, _, room) = three(&server).await;
        let mute = json!({ "actions": [] });
        rule(&bob, &format!("room/{}", esc(&room)), mute).await;
        let condition = json!({ "kind": "im.nheko.msc3664.related_event_match",
            "rel_type": "m.in_reply_to", "key": "sender", "pattern": bob.id });
        let replies = json!({ "conditions": [condition],
            "actions": ["notify", { "set_tweak": "highlight" }] });
        rule(&bob, "override/replies", replies).await;
        let (mine, theirs) = (
            bob.say(&room, "mine").await,
            alice.say(&room, "theirs").await,
        );
        for (to, counts) in [(&theirs, (0, 0)), (&mine, (1, 1))] {
            let reply = json!({ "m.relates_to": { "m.in_reply_to": { "event_id": to } } });
            alice
                .send(&room, "m.room.message", message("yes", reply))
                .await;
            assert_eq!(unread(&bob, &room).await, counts);
        }
        let encrypted = json!({ "algorithm": "x" });
        alice
            .send(&room, "m.room.encrypted", encrypted.clone())
            .await;
        assert_eq!(unread(&bob, &room).await, (1, 1));
        let all = "override/.org.matrix.msc4028.encrypted_event/enabled";
        rule(&bob, all, json!({ "enabled": true })).await;
        // Counted anew: the one before as well.
        alice.send(&room, "m.room.encrypted", encrypted).await;
        assert_eq!(unread(&bob, &room).await, (3, 1));
    })
    .await;
}
