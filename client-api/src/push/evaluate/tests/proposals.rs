//! Conditions of proposals, which `ruma` doesn't know: threads that are followed, and related events.

use super::*;
use crate::push::rules as user_rules;

fn event(id: &str, sender: &str, content: &Value) -> Pdu {
    let event = json!({
        "type": "m.room.message", "sender": sender, "room_id": "!r:x", "content": content, "depth": 1,
        "prev_events": [], "auth_events": [], "origin_server_ts": 7, "hashes": {}, "signatures": {},
    });
    let rules = RoomRules::named("11").unwrap();
    Pdu::from_stored(rules, id.try_into().unwrap(), event.to_string().into()).unwrap()
}

fn reply(to: &str, more: Value) -> Pdu {
    let mut relates_to = json!({ "m.in_reply_to": { "event_id": to } });
    if let (Some(content), Value::Object(more)) = (relates_to.as_object_mut(), more) {
        content.extend(more);
    }
    event(
        "$reply",
        "@alice:x",
        &json!({ "body": "yes", "m.relates_to": relates_to }),
    )
}

/// A rule that highlights; the defaults after it.
fn highlighting(condition: &Value) -> RuleSet {
    let user = user_id!("@me:x");
    let stored = json!({ "global": { "override": [{
        "rule_id": "own", "default": false, "enabled": true, "conditions": [condition],
        "actions": ["notify", { "set_tweak": "highlight" }],
    }] } });
    RuleSet::of(
        &user_rules::of_content(user, &stored.to_string()).unwrap(),
        user,
    )
}

#[test]
fn who_follows_a_thread_hears_of_it_although_the_room_is_muted() {
    let user = user_id!("@me:x");
    let muted = json!({ "global": { "room": [{
        "rule_id": "!r:x", "default": false, "enabled": true, "actions": ["dont_notify"],
    }] } });
    let set = RuleSet::of(
        &user_rules::of_content(user, &muted.to_string()).unwrap(),
        user,
    );
    assert!(set.asks_threads());
    let threaded =
        json!({ "body": "x", "m.relates_to": { "rel_type": "m.thread", "event_id": "$root" } });
    let threaded = event("$e", "@alice:x", &threaded);
    let judge = |in_thread, follows| {
        let user = Asked {
            follows,
            ..asked(user, None)
        };
        let known = Known {
            in_thread,
            user: Some(user),
            ..Known::default()
        };
        set.alert(&mut Seen::new(&threaded), &known)
    };
    assert_eq!(judge(None, true), Err(Missing::Thread));
    assert_eq!(judge(Some(true), true), Ok(Alert::Notify));
    assert_eq!(judge(Some(true), false), Ok(Alert::Silent));
    assert_eq!(judge(Some(false), true), Ok(Alert::Silent));
    // What relates to nothing isn't in a thread, which needs no look.
    let plain = event("$e", "@alice:x", &json!({ "body": "x" }));
    assert_eq!(
        set.alert(&mut Seen::new(&plain), &Known::default()),
        Ok(Alert::Silent)
    );
}

#[test]
fn who_silences_threads_that_they_dont_follow_is_still_mentioned() {
    let user = user_id!("@me:x");
    let stored = json!({ "global": { "postcontent": [{
        "rule_id": ".io.element.msc4306.rule.unsubscribed_thread", "default": true, "enabled": true,
        "actions": [], "conditions": [],
    }] } });
    let set = RuleSet::of(
        &user_rules::of_content(user, &stored.to_string()).unwrap(),
        user,
    );
    let relates_to = json!({ "rel_type": "m.thread", "event_id": "$root" });
    let judge = |content: Value, follows| {
        let user = Asked {
            follows,
            ..asked(user, None)
        };
        let known = Known {
            in_thread: Some(true),
            user: Some(user),
            ..Known::default()
        };
        set.actions(&mut Seen::new(&event("$e", "@alice:x", &content)), &known)
            .unwrap()
    };
    let plain = json!({ "body": "x", "m.relates_to": relates_to });
    assert_eq!(judge(plain.clone(), false), Some((Alert::Silent, "[]")));
    let sound = r#"["notify",{"set_tweak":"sound","value":"default"}]"#;
    assert_eq!(judge(plain, true), Some((Alert::Notify, sound)));
    let mention =
        json!({ "body": "x", "m.relates_to": relates_to, "m.mentions": { "user_ids": ["@me:x"] } });
    assert_eq!(judge(mention, false).unwrap().0, Alert::Highlight);
}

#[test]
fn replies_to_ones_own_are_found() {
    let condition = json!({ "kind": "im.nheko.msc3664.related_event_match", "rel_type": "m.in_reply_to",
        "key": "sender", "pattern": "@me:x" });
    let set = highlighting(&condition);
    assert!(set.asks_related());
    let mine = event("$mine", "@me:x", &json!({ "body": "mine" }));
    let theirs = event("$theirs", "@bob:x", &json!({ "body": "theirs" }));
    let related = [(&mine, Some(1)), (&theirs, Some(9))];
    let related = related.map(|(event, pos)| Related { event, pos });
    let judge = |event: &Pdu| {
        let user = Some(Asked {
            since: 5,
            ..asked(user_id!("@me:x"), None)
        });
        set.alert(
            &mut Seen::new(event),
            &Known {
                related: Some(&related),
                user,
                ..Known::default()
            },
        )
    };
    assert_eq!(
        set.alert(
            &mut Seen::new(&reply("$mine", json!({}))),
            &Known::default()
        ),
        Err(Missing::Related)
    );
    assert_eq!(judge(&reply("$mine", json!({}))), Ok(Alert::Highlight));
    assert_eq!(judge(&reply("$theirs", json!({}))), Ok(Alert::Notify));
    assert_eq!(judge(&reply("$unknown", json!({}))), Ok(Alert::Notify));
    let fallback = json!({ "rel_type": "m.thread", "event_id": "$root", "is_falling_back": true });
    assert_eq!(judge(&reply("$mine", fallback)), Ok(Alert::Notify));
    assert_eq!(
        related_to(&reply("$mine", json!({ "event_id": "$root" }))).count(),
        2
    );
}

#[test]
fn what_a_user_wasnt_there_for_matches_nothing() {
    let condition = json!({ "kind": "im.nheko.msc3664.related_event_match", "rel_type": "m.annotation",
        "key": "content.body", "pattern": "secret" });
    let set = highlighting(&condition);
    let theirs = event("$theirs", "@bob:x", &json!({ "body": "A secret." }));
    let annotation = json!({ "rel_type": "m.annotation", "event_id": "$theirs" });
    let annotation = event(
        "$e",
        "@alice:x",
        &json!({ "body": "x", "m.relates_to": annotation }),
    );
    for (pos, alert) in [
        (Some(6), Alert::Highlight),
        (Some(5), Alert::Notify),
        (None, Alert::Notify),
    ] {
        let related = [Related {
            event: &theirs,
            pos,
        }];
        let user = Some(Asked {
            since: 5,
            ..asked(user_id!("@me:x"), None)
        });
        let known = Known {
            related: Some(&related),
            user,
            ..Known::default()
        };
        assert_eq!(
            set.alert(&mut Seen::new(&annotation), &known),
            Ok(alert),
            "{pos:?}"
        );
    }
    // A relation alone.
    let set = highlighting(
        &json!({ "kind": "im.nheko.msc3664.related_event_match", "rel_type": "m.annotation" }),
    );
    assert_eq!(
        set.alert(&mut Seen::new(&annotation), &Known::default()),
        Ok(Alert::Highlight)
    );
    assert_eq!(
        set.alert(
            &mut Seen::new(&reply("$theirs", json!({}))),
            &Known::default()
        ),
        Ok(Alert::Notify)
    );
}
