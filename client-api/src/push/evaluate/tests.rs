//! Held against `ruma`'s evaluator, by chance, and some stories.

mod limits;
mod proposals;

use std::collections::BTreeMap;

use futures_util::FutureExt as _;
use rhizome_protocol::{Pdu, RoomRules};
use ruma::{
    OwnedUserId, UserId, event_id,
    power_levels::NotificationPowerLevels,
    push::{PushConditionPowerLevelsCtx, PushConditionRoomCtx, Ruleset},
    room_id,
    room_version_rules::{AuthorizationRules, RoomPowerLevelsRules},
    serde::Raw,
    user_id,
};
use serde_json::{Value, json};

use super::*;
use crate::push::rules as user_rules;

const SEEDS: [u64; 4] = [1, 42, 2026, 99_999];
const EACH: usize = 1_500;

struct Random(u64);

impl Random {
    fn below(&mut self, below: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        usize::try_from((self.0 >> 33) % below as u64).unwrap()
    }

    fn one<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[self.below(of.len())]
    }

    fn chance(&mut self, of: usize) -> bool {
        self.below(of) == 0
    }
}

const USERS: [&str; 4] = ["@me:x", "@alice:x", "@Bob:y", "@bob:y"];
const TYPES: [&str; 11] = [
    "m.room.message",
    "m.room.encrypted",
    "m.reaction",
    "m.room.member",
    "m.room.tombstone",
    "m.room.server_acl",
    "m.call.invite",
    "org.matrix.msc3381.poll.start",
    "org.matrix.msc3381.poll.end",
    "org.matrix.msc3381.poll.response",
    "x.custom",
];
const BODIES: [&str; 9] = [
    "cake",
    "Some CAKE, please",
    "pancake",
    "an example event",
    "exple",
    "tea-time for me",
    "Me Too: ünder",
    "",
    "me_too",
];
const PATTERNS: [&str; 12] = [
    "cake", "c?ke", "*cake", "ca*", "ex*ple", "tea", "me", "t?a*", "", "*", "m.*", "@bob:y",
];

fn event(random: &mut Random) -> Value {
    let mut content = json!({});
    let mut put = |chance: usize, key: &str, value: Value, random: &mut Random| {
        if random.chance(chance) {
            content[key] = value;
        }
    };
    let body = json!(random.one(&BODIES));
    put(1, "body", body, random);
    let msgtype = json!(random.one(&["m.text", "m.notice"]));
    put(2, "msgtype", msgtype, random);
    let membership = json!(random.one(&["invite", "join"]));
    put(3, "membership", membership, random);
    let mentions = json!({
        "user_ids": [random.one(&USERS), random.one(&USERS)],
        "room": random.one(&[json!(true), json!(false), json!("true")]),
    });
    put(3, "m.mentions", mentions, random);
    let relation = json!({ "rel_type": random.one(&["m.replace", "m.thread"]) });
    put(4, "m.relates_to", relation, random);
    put(2, "n", json!([1, "a", null, true, [1], { "x": 1 }]), random);
    put(
        2,
        "a.b",
        json!({ "c\\d": "Deep", "e": -7, "none": null }),
        random,
    );
    let mut event = json!({
        "type": random.one(&TYPES), "sender": random.one(&USERS[1..]), "room_id": "!r:x",
        "content": content, "depth": 1, "prev_events": [], "auth_events": [],
        "origin_server_ts": 7, "hashes": {}, "signatures": {},
    });
    if random.chance(3) {
        event["state_key"] = json!(random.one(&["", "@me:x", "@ME:x", "@Bob:y"]));
    }
    event
}

fn condition(random: &mut Random) -> Value {
    let key = *random.one(&[
        "content.body",
        "type",
        "sender",
        "state_key",
        "room_id",
        "content.msgtype",
        r"content.m\.mentions.user_ids",
        r"content.m\.mentions.room",
        r"content.m\.relates_to.rel_type",
        "content.n",
        r"content.a\.b.c\\d",
        r"content.a\.b.e",
        r"content.a\.b.none",
        "content.absent",
        "origin_server_ts",
    ]);
    let value = random
        .one(&[
            json!("@me:x"),
            json!(1),
            json!(7),
            json!(-7),
            json!(null),
            json!(true),
            json!("a"),
            json!("Deep"),
            json!("m.replace"),
            json!("m.room.message"),
        ])
        .clone();
    match random.below(8) {
        0 => json!({ "kind": "event_match", "key": key, "pattern": random.one(&PATTERNS) }),
        1 => json!({ "kind": "event_match", "key": key, "pattern": random.one(&USERS) }),
        2 => json!({ "kind": "event_property_is", "key": key, "value": value }),
        3 => json!({ "kind": "event_property_contains", "key": key, "value": value }),
        4 => json!({ "kind": "contains_display_name" }),
        5 => {
            json!({ "kind": "room_member_count", "is": random.one(&["2", "==3", "<3", ">2", ">=2", "<=1"]) })
        }
        6 => json!({ "kind": "sender_notification_permission", "key": "room" }),
        _ if random.chance(4) => json!({ "kind": "org.example.unknown" }),
        _ => json!({ "kind": "event_match", "key": "type", "pattern": random.one(&TYPES) }),
    }
}

fn rules(random: &mut Random, user: &UserId) -> Ruleset {
    let mut global =
        json!({ "override": [], "content": [], "room": [], "sender": [], "underride": [] });
    for kind in ["override", "content", "room", "sender", "underride"] {
        for n in 0..random.below(3) {
            let mut rule = json!({
                "rule_id": format!("own{n}"), "default": false, "enabled": !random.chance(4),
                "actions": random.one(&[
                    json!([]), json!(["notify"]), json!(["notify", { "set_tweak": "highlight" }]),
                    json!(["notify", { "set_tweak": "highlight", "value": false }]),
                    json!([{ "set_tweak": "highlight" }]), json!(["dont_notify"]),
                ]),
            });
            match kind {
                "content" => rule["pattern"] = json!(random.one(&PATTERNS)),
                "room" => rule["rule_id"] = json!(random.one(&["!r:x", "!other:x"])),
                "sender" => rule["rule_id"] = json!(random.one(&["@alice:x", "@me:x"])),
                _ => {
                    let conditions: Vec<Value> =
                        (0..random.below(3)).map(|_| condition(random)).collect();
                    rule["conditions"] = json!(conditions);
                }
            }
            global[kind].as_array_mut().unwrap().push(rule);
        }
    }
    let mut rules: Ruleset = serde_json::from_value(global).unwrap();
    rules.update_with_server_default(Ruleset::server_default(user));
    for id in [
        ".m.rule.master",
        ".m.rule.suppress_notices",
        ".m.rule.member_event",
        ".m.rule.suppress_edits",
    ] {
        if random.chance(6) {
            let enabled = !id.ends_with("master") || random.chance(3);
            let enabled = enabled == id.ends_with("master");
            rules
                .set_enabled(ruma::push::RuleKind::Override, id, enabled)
                .unwrap();
        }
    }
    rules
}

/// A room with its members, its power levels, and what the user is called there.
struct Room {
    members: u64,
    levels: Value,
    name: String,
}

impl Room {
    fn of(random: &mut Random) -> Self {
        let mut levels =
            json!({ "users": { "@alice:x": 50 }, "users_default": random.one(&[0, 60]) });
        if random.chance(2) {
            levels["notifications"] = json!({ "room": random.one(&[0, 40, 70]) });
        }
        Self {
            members: random.below(4) as u64,
            levels,
            name: (*random.one(&["Me Too", "me", "c?ke", "nobody"])).to_owned(),
        }
    }

    fn in_ruma(&self, user: &UserId) -> PushConditionRoomCtx {
        let users: BTreeMap<OwnedUserId, ruma::Int> =
            serde_json::from_value(self.levels["users"].clone()).unwrap();
        let notifications: NotificationPowerLevels = serde_json::from_value(
            self.levels
                .get("notifications")
                .cloned()
                .unwrap_or(json!({})),
        )
        .unwrap();
        let default = serde_json::from_value(self.levels["users_default"].clone()).unwrap();
        let tweaks = RoomPowerLevelsRules::new(&AuthorizationRules::V11, None::<OwnedUserId>);
        let power = PushConditionPowerLevelsCtx::new(users, default, notifications, tweaks);
        let members = ruma::UInt::new(self.members).unwrap();
        PushConditionRoomCtx::new(
            room_id!("!r:x").to_owned(),
            members,
            user.to_owned(),
            self.name.clone(),
        )
        .with_power_levels(power)
    }
}

fn pdu(event: &Value) -> Pdu {
    let rules = RoomRules::named("11").unwrap();
    Pdu::from_stored(rules, event_id!("$e").to_owned(), event.to_string().into()).unwrap()
}

/// As we have them, without what `ruma` doesn't know.
fn ours(rules: &Ruleset) -> Rules {
    Rules {
        known: rules.clone(),
        postcontent: Vec::new(),
    }
}

fn asked<'a>(id: &'a UserId, name: Option<&'a str>) -> Asked<'a> {
    Asked {
        id: Some(id),
        name,
        follows: false,
        since: 0,
    }
}

/// What `ruma` says.
fn expected(rules: &Ruleset, event: &Value, room: &Room, user: &UserId) -> Alert {
    let raw: Raw<Value> = Raw::new(event).unwrap();
    let context = room.in_ruma(user);
    let actions = rules.get_actions(&raw, &context).now_or_never().unwrap();
    Alert::of(actions)
}

/// How often what was said how early, and of strangers.
type Ways = BTreeMap<(String, bool, bool, bool), usize>;

/// Holds one user's rules against `ruma`'s, with an event that others have looked at before.
fn hold(random: &mut Random, seen: &mut Seen<'_>, event: &Value, room: &Room, ways: &mut Ways) {
    let pdu = seen.event;
    let owner = *random.one(&[user_id!("@me:x"), user_id!("@Bob:y")]);
    let rules = rules(random, owner);
    let set = RuleSet::of(&ours(&rules), owner);
    let power = Power::new(pdu.rules(), None, room.levels.as_object());
    let of_room = Known {
        members: Some(room.members),
        power: Some(power),
        ..Known::default()
    };
    let unknowing = set.alert(seen, &Known::default());
    let shared = set.alert(seen, &of_room);
    if pdu.sender() == owner {
        return;
    }
    let name = Some(room.name.as_str());
    let as_user = |user| Known {
        user: Some(user),
        in_thread: Some(false),
        related: Some(&[]),
        ..of_room
    };
    let known = as_user(asked(owner, name));
    let found = set.alert(seen, &known);
    let actions = set.actions(seen, &known).unwrap();
    assert_eq!(found, Ok(actions.map_or(Alert::Silent, |(alert, _)| alert)));
    assert_eq!(found, set.alert(&mut Seen::new(pdu), &known));
    let expected = expected(&rules, event, room, owner);
    let about = || format!("{event:#}\n{rules:#?}");
    assert_eq!(found, Ok(expected), "{}", about());
    // What is said without asking holds whoever is asked.
    for early in [shared, unknowing].into_iter().flatten() {
        assert_eq!(early, expected, "{}", about());
    }
    // And what is said of strangers of whom the event doesn't name.
    let is_stranger = !set.asks_names() && !Named::of(pdu).may_be(owner);
    if is_stranger {
        let found = set.alert(seen, &as_user(Asked::STRANGER));
        assert_eq!(found, Ok(expected), "{}", about());
    }
    let way = (shared.is_ok(), unknowing.is_ok(), is_stranger);
    let way = (format!("{expected:?}"), way.0, way.1, way.2);
    *ways.entry(way).or_insert(0) += 1;
}

#[test]
fn it_says_what_ruma_says() {
    let mut ways = Ways::new();
    for seed in SEEDS {
        let random = &mut Random(seed);
        for _ in 0..EACH / 2 {
            let (event, room) = (event(random), Room::of(random));
            let pdu = pdu(&event);
            let mut seen = Seen::new(&pdu);
            for _ in 0..3 {
                hold(random, &mut seen, &event, &room, &mut ways);
            }
        }
    }
    // Each way of finding each alert has been gone.
    assert!(ways.values().all(|times| *times > 2), "{ways:?}");
    assert!(ways.len() >= 18, "{ways:?}");
}

#[test]
fn those_with_the_defaults_have_the_same_rules_and_need_no_look_at_the_room() {
    let of = |user: &UserId| RuleSet::of(&user_rules::parsed(user, None).unwrap(), user);
    let set = of(user_id!("@me:x"));
    assert_eq!(set, of(user_id!("@someone.else:y")));
    assert_ne!(set, of(user_id!("@with*star:y")));
    let say = |content: Value| {
        pdu(&json!({
            "type": "m.room.message", "sender": "@alice:x", "room_id": "!r:x", "content": content,
            "depth": 1, "prev_events": [], "auth_events": [], "origin_server_ts": 7, "hashes": {}, "signatures": {},
        }))
    };
    let judge = |content: Value| set.alert(&mut Seen::new(&say(content)), &Known::default());
    assert_eq!(
        judge(json!({ "body": "hi", "msgtype": "m.text" })),
        Ok(Alert::Notify)
    );
    assert_eq!(
        judge(json!({ "body": "hi", "msgtype": "m.notice" })),
        Ok(Alert::Silent)
    );
    let edit = json!({ "body": "hi", "m.relates_to": { "rel_type": "m.replace" } });
    assert_eq!(judge(edit), Ok(Alert::Silent));
    let nobody = json!({ "body": "hi", "m.mentions": { "user_ids": [] } });
    assert_eq!(judge(nobody), Ok(Alert::Notify));
    let mention = json!({ "body": "hi", "m.mentions": { "user_ids": ["@me:x"] } });
    assert_eq!(judge(mention), Err(Missing::User));
    let everybody = json!({ "body": "hi", "m.mentions": { "room": true } });
    assert_eq!(judge(everybody), Err(Missing::Power));
}
