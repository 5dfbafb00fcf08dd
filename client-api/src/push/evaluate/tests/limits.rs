//! How much of rules and events is looked at.

use super::*;

/// The defaults, and content rules of a user's own that highlight.
fn with_words<'a>(words: impl Iterator<Item = &'a str>) -> RuleSet {
    let user = user_id!("@me:x");
    let rule = |(n, word)| {
        json!({ "rule_id": format!("own{n}"), "default": false, "enabled": true, "pattern": word,
            "actions": ["notify", { "set_tweak": "highlight" }] })
    };
    let content: Vec<Value> = words.enumerate().map(rule).collect();
    let mut rules: Ruleset = serde_json::from_value(json!({
        "override": [], "content": content, "room": [], "sender": [], "underride": [],
    }))
    .unwrap();
    rules.update_with_server_default(Ruleset::server_default(user));
    RuleSet::of(&ours(&rules), user)
}

fn message(body: &str) -> Pdu {
    pdu(&json!({
        "type": "m.room.message", "sender": "@alice:x", "room_id": "!r:x", "content": { "body": body },
        "depth": 1, "prev_events": [], "auth_events": [], "origin_server_ts": 7, "hashes": {}, "signatures": {},
    }))
}

#[test]
fn of_very_many_rules_the_first_and_the_defaults_are_asked() {
    let say =
        |set: &RuleSet, body: &str| set.alert(&mut Seen::new(&message(body)), &Known::default());
    let filler = |n: usize, word: &'static str| std::iter::repeat_n(word, n);
    let set = with_words(filler(MOST_CONDITIONS - 1, "x").chain(["last", "beyond"]));
    assert_eq!(say(&set, "the last"), Ok(Alert::Highlight));
    assert_eq!(say(&set, "what is beyond"), Ok(Alert::Notify));
    // As many bytes as there may be; what is beyond them isn't asked, however short.
    let long = "x".repeat(MOST_TEXT - 4);
    let set = with_words([&*long, "last", "beyond", "b"].into_iter());
    assert_eq!(say(&set, "the last"), Ok(Alert::Highlight));
    assert_eq!(say(&set, "a b"), Ok(Alert::Notify));
}

#[test]
fn words_are_found_in_the_beginning_of_a_text() {
    let set = with_words(["cake"].into_iter());
    let say = |before: usize| {
        let body = format!("{}cake", " ".repeat(before));
        set.alert(&mut Seen::new(&message(&body)), &Known::default())
    };
    assert_eq!(say(seen::LOOKED_AT - 4), Ok(Alert::Highlight));
    assert_eq!(say(seen::LOOKED_AT), Ok(Alert::Notify));
}

#[test]
fn a_name_that_is_no_name_is_nowhere() {
    let user = user_id!("@me:x");
    let rules: Ruleset = serde_json::from_value(json!({
        "override": [{ "rule_id": "own", "default": false, "enabled": true, "actions": ["notify"],
            "conditions": [{ "kind": "contains_display_name" }] }],
        "content": [], "room": [], "sender": [], "underride": [],
    }))
    .unwrap();
    let set = RuleSet::of(&ours(&rules), user);
    for (length, alert) in [(255, Alert::Notify), (256, Alert::Silent)] {
        for name in ["a".repeat(length), "*".repeat(length)] {
            let body = name.replace('*', "a");
            let name = Some(&*name);
            let user = Some(asked(user, name));
            let known = Known {
                user,
                ..Known::default()
            };
            assert_eq!(
                set.alert(&mut Seen::new(&message(&body)), &known),
                Ok(alert),
                "{length}"
            );
        }
    }
}

#[test]
fn an_event_names_whom_it_has_somewhere_as_a_whole() {
    let event = pdu(&json!({
        "type": "m.room.member", "sender": "@alice:x", "room_id": "!r:x", "state_key": "@bob:x", "depth": 1,
        "content": {
            "m.mentions": { "user_ids": ["@Carol:x"] }, "deep": [{ "er": "@dave:x" }], "body": "so @eve:x said",
        },
        "prev_events": [], "auth_events": [], "origin_server_ts": 7, "hashes": {}, "signatures": {},
    }));
    let named = Named::of(&event);
    let may_be = |id: &str| named.may_be(&UserId::parse(id).unwrap());
    for (id, may) in [
        ("@alice:x", true),
        ("@bob:x", true),
        // Some conditions look at ids without regard to case.
        ("@CAROL:x", true),
        ("@dave:x", true),
        ("@eve:x", false),
        ("@bob:y", false),
    ] {
        assert_eq!(may_be(id), may, "{id}");
    }
}
