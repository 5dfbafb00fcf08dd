//! Push rules: the endpoints, and how clients hear of changes.

use http::Method;
use rhizome_storage::Pos;
use serde_json::{Value, json};

use crate::asking::{Server, User, config, each_server, encoded, text};

const ALL: &str = "/pushrules/";

fn rule(kind: &str, id: &str) -> String {
    format!("/pushrules/global/{kind}/{}", encoded(id))
}

/// The ids of a kind's rules, the most important first.
async fn ids(user: &User, kind: &str) -> Vec<String> {
    let rules = user.get(ALL).await.ok();
    let rules = rules["global"][kind].as_array().expect("a list").clone();
    rules.iter().map(|rule| text(&rule["rule_id"])).collect()
}

/// The user's own ids among them.
async fn own(user: &User, kind: &str) -> Vec<String> {
    let mut ids = ids(user, kind).await;
    ids.retain(|id| !id.starts_with('.'));
    ids
}

async fn sync(user: &User, more: &str) -> Value {
    user.get(&format!("/sync?{more}")).await.ok()
}

/// The push rules that an answer of `/sync` tells.
fn told(sync: &Value) -> Option<Value> {
    let events = sync["account_data"]["events"].as_array()?;
    let mut found = events
        .iter()
        .filter(|event| event["type"] == "m.push_rules");
    let event = found.next()?;
    assert_eq!(found.next(), None, "told once");
    Some(event["content"].clone())
}

#[tokio::test]
async fn who_changes_nothing_has_the_defaults_and_costs_no_row() {
    each_server(async |server| {
        let ada = server.register("ada").await;
        let all = ada.get(ALL).await.ok();
        assert_eq!(ada.get("/pushrules/global/").await.ok(), all["global"]);
        assert_eq!(
            ids(&ada, "override").await,
            [
                ".m.rule.master",
                ".org.matrix.msc4028.encrypted_event",
                ".m.rule.suppress_notices",
                ".m.rule.invite_for_me",
                ".m.rule.member_event",
                ".m.rule.is_user_mention",
                ".m.rule.is_room_mention",
                ".m.rule.tombstone",
                ".m.rule.reaction",
                ".m.rule.room.server_acl",
                ".m.rule.suppress_edits",
                ".org.matrix.msc3930.rule.poll_response",
            ]
        );
        assert_eq!(
            ids(&ada, "underride").await,
            [
                ".m.rule.call",
                ".m.rule.encrypted_room_one_to_one",
                ".m.rule.room_one_to_one",
                ".m.rule.message",
                ".m.rule.encrypted",
                ".org.matrix.msc3930.rule.poll_start_one_to_one",
                ".org.matrix.msc3930.rule.poll_start",
                ".org.matrix.msc3930.rule.poll_end_one_to_one",
                ".org.matrix.msc3930.rule.poll_end",
            ]
        );
        assert_eq!(
            ids(&ada, "postcontent").await,
            [
                ".io.element.msc4306.rule.unsubscribed_thread",
                ".io.element.msc4306.rule.subscribed_thread",
            ]
        );
        for kind in ["content", "room", "sender"] {
            assert_eq!(all["global"][kind], json!([]), "{kind}");
        }
        let master = ada.get(&rule("override", ".m.rule.master")).await.ok();
        assert_eq!(
            master,
            json!({ "rule_id": ".m.rule.master", "default": true, "enabled": false,
                "conditions": [], "actions": [] })
        );
        let mention = ada.get(&rule("override", ".m.rule.is_user_mention")).await;
        assert_eq!(mention.ok()["conditions"][0]["value"], json!(ada.id));

        // The first answer of a sync has them, unless it is filtered; later ones haven't.
        let first = sync(&ada, "").await;
        assert_eq!(told(&first), Some(all.clone()));
        let since = format!("since={}", text(&first["next_batch"]));
        assert_eq!(told(&sync(&ada, &since).await), None);
        let filter = encoded(r#"{"account_data":{"not_types":["m.push_rules"]}}"#);
        assert_eq!(told(&sync(&ada, &format!("filter={filter}")).await), None);
        let path = format!("/user/{}/account_data/m.push_rules", ada.id);
        assert_eq!(ada.get(&path).await.ok(), all);

        // What changes nothing writes nothing.
        let enabled = rule("override", ".m.rule.reaction") + "/enabled";
        ada.put(&enabled, json!({ "enabled": true })).await.ok();
        let store = &server.app.store;
        let user = store
            .user_no(ada.id.as_str().try_into().unwrap())
            .await
            .unwrap();
        let rows = store
            .account_data_since(user, Pos(0), store.log().head())
            .await;
        assert_eq!(rows.unwrap().len(), 0);
    })
    .await;
}

#[tokio::test]
async fn a_rule_is_made_changed_and_removed_and_all_devices_hear() {
    each_server(async |server| {
        let ada = server.register("ada").await;
        let phone = server.login("ada").await;
        let bob = server.register("bob").await;
        let mut since = text(&sync(&phone, "").await["next_batch"]);
        let mut news = async || {
            let answer = sync(&phone, &format!("since={since}")).await;
            since = text(&answer["next_batch"]);
            told(&answer)
        };
        let cake = rule("content", "cake");
        let made = json!({ "pattern": "cake*lie", "actions": ["notify",
            { "set_tweak": "sound", "value": "cake.wav" }, { "set_tweak": "org.flash", "value": [1] }] });
        ada.put(&cake, made.clone()).await.ok();
        let mut whole = made;
        whole["rule_id"] = json!("cake");
        whole["default"] = json!(false);
        whole["enabled"] = json!(true);
        assert_eq!(phone.get(&cake).await.ok(), whole);
        let heard = news().await.expect("the phone hears of the rule");
        assert_eq!(heard["global"]["content"], json!([whole]));
        assert_eq!(heard, phone.get(ALL).await.ok());
        assert_eq!(told(&sync(&phone, "").await), Some(heard));

        // Disabled it stays while it is changed; an unknown condition is kept as it came.
        let enabled = format!("{cake}/enabled");
        assert_eq!(ada.get(&enabled).await.ok(), json!({ "enabled": true }));
        ada.put(&enabled, json!({ "enabled": false })).await.ok();
        ada.put(&cake, json!({ "pattern": "pie", "actions": [] })).await.ok();
        assert_eq!(ada.get(&enabled).await.ok(), json!({ "enabled": false }));
        assert_eq!(ada.get(&cake).await.ok()["pattern"], "pie");
        let strange = json!([{ "kind": "org.weather", "is": { "rain": true } }]);
        let weather = rule("underride", "weather");
        ada.put(&weather, json!({ "conditions": strange, "actions": ["notify"] })).await.ok();
        assert_eq!(ada.get(&weather).await.ok()["conditions"], strange);

        // Actions, also of the server's rules; old ones stay, and mean nothing.
        let actions = rule("underride", ".m.rule.message") + "/actions";
        ada.put(&actions, json!({ "actions": ["dont_notify", "coalesce", { "set_tweak": "highlight" }] }))
            .await
            .ok();
        let kept = json!({ "actions": ["dont_notify", "coalesce", { "set_tweak": "highlight" }] });
        assert_eq!(ada.get(&actions).await.ok(), kept);
        ada.put(&rule("sender", &bob.id), json!({ "actions": ["dont_notify"] })).await.ok();
        assert_eq!(ada.get(&rule("sender", &bob.id)).await.ok()["actions"], json!(["dont_notify"]));
        ada.put(&rule("room", "!r:here.test"), json!({ "actions": [] })).await.ok();
        assert_eq!(own(&ada, "room").await, ["!r:here.test"]);

        news().await.expect("the phone hears of the latest");
        ada.delete(&cake, Value::Null).await.ok();
        ada.get(&cake).await.fails(404, "M_NOT_FOUND");
        let heard = news().await.expect("the phone hears that it is gone");
        assert_eq!(heard["global"]["content"], json!([]));
        assert_eq!(news().await, None);
        // Nobody else's rules have changed.
        assert_eq!(own(&bob, "room").await, Vec::<String>::new());
    })
    .await;
}

#[tokio::test]
async fn rules_stand_where_they_are_put() {
    each_server(async |server| {
        let ada = server.register("ada").await;
        for kind in ["override", "underride", "content"] {
            let body = json!({ "pattern": "x", "conditions": [], "actions": [] });
            let put = async |id: &str, place: &str| {
                let path = rule(kind, id) + place;
                ada.put(&path, body.clone()).await.ok();
            };
            // A new rule is the most important; one that is changed stays.
            put("a", "").await;
            put("b", "").await;
            put("c", "").await;
            put("a", "").await;
            assert_eq!(own(&ada, kind).await, ["c", "b", "a"], "{kind}");
            put("d", "?after=b").await;
            put("e", "?before=b").await;
            assert_eq!(own(&ada, kind).await, ["c", "e", "b", "d", "a"], "{kind}");
            // Moving, up and down, to the very end as well; `before` decides if both are given.
            put("c", "?after=b").await;
            assert_eq!(own(&ada, kind).await, ["e", "b", "c", "d", "a"], "{kind}");
            put("e", "?after=a").await;
            assert_eq!(own(&ada, kind).await, ["b", "c", "d", "a", "e"], "{kind}");
            put("a", "?before=b").await;
            put("f", "?after=b&before=e").await;
            assert_eq!(
                own(&ada, kind).await,
                ["a", "b", "c", "d", "f", "e"],
                "{kind}"
            );
            let disabled = rule(kind, "f") + "/enabled";
            ada.put(&disabled, json!({ "enabled": false })).await.ok();
            put("f", "?after=a").await;
            assert_eq!(
                own(&ada, kind).await,
                ["a", "f", "b", "c", "d", "e"],
                "{kind}"
            );
            assert_eq!(ada.get(&disabled).await.ok()["enabled"], false);
        }
        // The user's own rules come before the server's, except the one that silences all.
        let all = ids(&ada, "override").await;
        assert_eq!(all[..2], [".m.rule.master", "a"]);
        assert_eq!(all[7], ".org.matrix.msc4028.encrypted_event");
        assert_eq!(ids(&ada, "underride").await[6], ".m.rule.call");
    })
    .await;
}

#[tokio::test]
async fn what_is_no_rule_is_refused_and_changes_nothing() {
    each_server(async |server| {
        let ada = server.register("ada").await;
        let body = json!({ "pattern": "x", "conditions": [], "actions": [] });
        ada.put(&rule("content", "a"), body.clone()).await.ok();
        let before = ada.get(ALL).await.ok();
        let (b, long) = (rule("content", "b"), "x".repeat(256));
        for (path, status, errcode) in [
            (rule("content", ".mine"), 400, "M_INVALID_PARAM"),
            (rule("content", "a/b"), 400, "M_INVALID_PARAM"),
            (rule("content", "a\\b"), 400, "M_INVALID_PARAM"),
            (rule("content", &long), 400, "M_INVALID_PARAM"),
            (format!("{b}?before=.m.rule.call"), 400, "M_INVALID_PARAM"),
            (format!("{b}?after=.m.rule.call"), 400, "M_INVALID_PARAM"),
            (format!("{b}?before=nobody"), 400, "M_UNKNOWN"),
            (rule("content", "a") + "?after=nobody", 400, "M_UNKNOWN"),
            (rule("content", "a") + "?after=a", 400, "M_INVALID_PARAM"),
            (rule("sender", "no user"), 400, "M_INVALID_PARAM"),
            (rule("room", "no room"), 400, "M_INVALID_PARAM"),
        ] {
            ada.put(&path, body.clone()).await.fails(status, errcode);
        }
        for (kind, body) in [
            ("content", json!({ "actions": [] })),
            ("content", json!({ "pattern": 7, "actions": [] })),
            ("override", json!({ "conditions": [] })),
            ("override", json!({ "conditions": [{ "key": "type" }], "actions": [] })),
            ("override", json!({ "conditions": [{ "kind": "event_match", "key": "type" }], "actions": [] })),
            ("override", json!({ "conditions": [{ "kind": "room_member_count", "is": "~2" }], "actions": [] })),
            ("override", json!({ "conditions": [{ "kind": "im.nheko.msc3664.related_event_match",
                "rel_type": "m.thread", "key": "sender" }], "actions": [] })),
            ("override", json!({ "actions": [{ "set_tweak": "highlight", "value": "much" }] })),
            ("override", json!({ "actions": "notify" })),
            ("override", json!([])),
            ("override", json!({ "conditions": {}, "actions": [] })),
            ("underride", json!({ "conditions": [], "actions": [7] })),
        ] {
            let answer = ada.put(&rule(kind, "b"), body).await;
            assert_eq!(answer.status, 400, "{}", answer.body);
        }
        for (absent, status, errcode) in [
            (rule("content", "b"), 404, "M_NOT_FOUND"),
            (rule("override", "a"), 404, "M_NOT_FOUND"),
            (rule("postcontent", "a"), 404, "M_NOT_FOUND"),
            (rule("lunar", "a"), 400, "M_INVALID_PARAM"),
        ] {
            ada.get(&absent).await.fails(status, errcode);
            ada.delete(&absent, Value::Null).await.fails(status, errcode);
            let (enabled, actions) = (format!("{absent}/enabled"), format!("{absent}/actions"));
            ada.get(&enabled).await.fails(status, errcode);
            ada.get(&actions).await.fails(status, errcode);
            let off = json!({ "enabled": false });
            ada.put(&enabled, off).await.fails(status, errcode);
            let none = json!({ "actions": [] });
            ada.put(&actions, none).await.fails(status, errcode);
        }
        for kind in ["lunar", "postcontent"] {
            ada.put(&rule(kind, "b"), body.clone()).await.fails(400, "M_INVALID_PARAM");
        }
        ada.get("/pushrules/global/lunar/").await.fails(400, "M_INVALID_PARAM");
        ada.delete(&rule("override", ".m.rule.master"), Value::Null)
            .await
            .fails(400, "M_INVALID_PARAM");
        // Push rules have a largest size, and are no account data that a client may write.
        let huge = json!({ "pattern": "x".repeat(1 << 20), "actions": [] });
        ada.put(&rule("content", "huge"), huge)
            .await
            .fails(413, "M_TOO_LARGE");
        let path = format!("/user/{}/account_data/m.push_rules", ada.id);
        ada.put(&path, json!({})).await.fails(405, "M_BAD_JSON");
        let nobody = server.ask(Method::GET, "/_matrix/client/v3/pushrules/", Value::Null);
        nobody.await.fails(401, "M_MISSING_TOKEN");
        assert_eq!(ada.get(ALL).await.ok(), before);
    })
    .await;
}

#[tokio::test]
async fn changes_at_the_same_time_are_all_kept() {
    each_server(async |server| {
        let ada = server.register("ada").await;
        let put = async |n: usize| {
            let path = rule("content", &format!("rule{n}"));
            ada.put(&path, json!({ "pattern": "x", "actions": [] }))
                .await
                .ok();
        };
        futures_util::future::join_all((0..20).map(put)).await;
        let mut ids = own(&ada, "content").await;
        ids.sort();
        ids.dedup();
        assert_eq!(ids.len(), 20);
    })
    .await;
}

#[tokio::test]
async fn of_two_processes_neither_undoes_what_the_other_does() {
    let database = rhizome_storage::testing::TestDatabase::postgres().await;
    let clock = rhizome_storage::Clock::manual(crate::asking::START_MS);
    let one = Server::new(database.open().await, clock.clone(), config());
    let two = Server::new(database.open().await, clock, config());
    let ada = one.register("ada").await;
    let there = User {
        server: two.clone(),
        ..ada.clone()
    };
    let put = async |user: &User, n: usize| {
        let path = rule("content", &format!("rule{n}"));
        user.put(&path, json!({ "pattern": "x", "actions": [] }))
            .await
            .ok();
    };
    for n in 0..10 {
        tokio::join!(put(&ada, 2 * n), put(&there, 2 * n + 1));
    }
    assert_eq!(own(&ada, "content").await.len(), 20);
    for server in [one, two] {
        server.app.store.close().await;
    }
    database.remove().await;
}
