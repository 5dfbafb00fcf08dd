//! The naive recount: from nothing but what a user's server has in a room, in the order in which it came, what the user
//! has said of reading it, whom they ignore, and their rules, whose verdict is `ruma`'s.

use std::collections::{BTreeMap, BTreeSet};

use ruma::{
    OwnedUserId, RoomId, UInt, UserId,
    power_levels::NotificationPowerLevels,
    push::{Action, PushConditionPowerLevelsCtx, PushConditionRoomCtx, Ruleset},
    room_version_rules::{AuthorizationRules, RoomPowerLevelsRules},
    serde::Raw,
};
use serde_json::Value;

/// Notifications and highlights.
pub type Pair = (u64, u64);
/// Those by thread; `None` is the main timeline, which always has some.
pub type Counts = BTreeMap<Option<String>, Pair>;

/// Further than that no relation is followed ("a maximum of 3 hops is recommended").
const HOPS: usize = 3;

/// That a user has read up to an event, in a thread or whatever the thread.
#[derive(Debug, Clone, PartialEq)]
pub struct Receipt {
    pub event: String,
    /// `None`: unthreaded.
    pub thread: Option<String>,
}

/// Who is asked, and what they want.
pub struct Person<'a> {
    pub id: &'a str,
    pub rules: Ruleset,
    pub ignored: &'a BTreeSet<String>,
    pub receipts: &'a [Receipt],
}

fn text<'a>(event: &'a Value, key: &str) -> &'a str {
    event[key].as_str().unwrap_or_default()
}

/// What a user who is joined to a room hasn't read of it.
/// `state`: the room's when it was made.
pub async fn recount(
    (room, state): (&str, &[Value]),
    events: &[Value],
    person: &Person<'_>,
) -> Counts {
    let mut counts = Counts::from([(None, (0, 0))]);
    let context = context(room, state, person.id);
    let begin = begin_of_stay(events, person.id);
    for (at, event) in events.iter().enumerate().skip(begin) {
        // "Homeservers process push rules for each of the local users in the room (excluding the sender)."
        let sender = text(event, "sender");
        if sender == person.id || person.ignored.contains(sender) || is_redacted(event) {
            continue;
        }
        let actions = judge(room, event, person, &context).await;
        if !actions.iter().any(Action::should_notify) {
            continue;
        }
        let thread = thread_of(events, event);
        // "When the user updates their read receipt (either by using the API or by sending an event), notifications
        // prior to and including that event MUST be marked as read."
        let by_receipt = person.receipts.iter().any(|receipt| {
            let upto = events
                .iter()
                .position(|one| one["event_id"] == receipt.event);
            let name = thread.as_deref().unwrap_or("main");
            let is_meant = receipt.thread.as_deref().is_none_or(|meant| meant == name);
            is_meant && upto.is_some_and(|upto| at <= upto)
        });
        let by_sending = events[at..].iter().any(|own| {
            text(own, "sender") == person.id && is_said(own) && thread_of(events, own) == thread
        });
        if by_receipt || by_sending {
            continue;
        }
        // "The server is to partition the notification count to each thread."
        let highlight = actions.iter().any(Action::is_highlight);
        let count = counts.entry(thread).or_default();
        *count = (count.0 + 1, count.1 + u64::from(highlight));
    }
    counts
}

/// "Notifications are determined by the push rules which apply to an event."
async fn judge<'a>(
    room: &str,
    event: &Value,
    person: &'a Person<'_>,
    context: &PushConditionRoomCtx,
) -> &'a [Action] {
    let mut whole = event.clone();
    whole["room_id"] = room.into();
    let whole = Raw::new(&whole).unwrap();
    person.rules.get_actions(&whole, context).await
}

/// Whether somebody is notified of an invite that they see.
pub async fn is_notified(
    (room, state): (&str, &[Value]),
    invite: &Value,
    person: &Person<'_>,
) -> bool {
    let context = context(room, state, person.id);
    let actions = judge(room, invite, person, &context).await;
    actions.iter().any(Action::should_notify)
}

/// All of a room together.
pub fn whole(counts: &Counts) -> Pair {
    let add = |all: Pair, one: &Pair| (all.0 + one.0, all.1 + one.1);
    counts.values().fold((0, 0), add)
}

/// From where on the user is in the room; for who isn't nothing is processed. Who has made it always is.
fn begin_of_stay(events: &[Value], user: &str) -> usize {
    let (mut begin, mut is_in) = (0, false);
    for (at, event) in events.iter().enumerate() {
        if event["type"] == "m.room.member" && event["state_key"] == user {
            let joins = event["content"]["membership"] == "join";
            if joins && !is_in {
                begin = at + 1;
            }
            is_in = joins;
        }
    }
    begin
}

/// Of what was redacted nothing is left to be notified of, and nobody knows any more where it was said.
fn is_redacted(event: &Value) -> bool {
    event["unsigned"].get("redacted_because").is_some()
}

/// Whether it is an event that its sender has sent into the room ("This endpoint is used to send a message event to a
/// room"), rather than set as its state or redacted.
fn is_said(event: &Value) -> bool {
    event.get("state_key").is_none() && event["type"] != "m.room.redaction" && !is_redacted(event)
}

/// The thread that an event is in: it "has a `rel_type` of `m.thread`", or, "following the event relationships, it has a
/// parent event which references the thread root" so.
fn thread_of(events: &[Value], event: &Value) -> Option<String> {
    let mut at = event;
    for _ in 0..=HOPS {
        let relation = &at["content"]["m.relates_to"];
        let parent = relation["event_id"].as_str()?;
        if relation["rel_type"].as_str()? == "m.thread" {
            return Some(parent.to_owned());
        }
        at = events.iter().find(|one| one["event_id"] == parent)?;
    }
    None
}

/// The room as rules see it. Its power levels are those that it was made with.
fn context(room: &str, state: &[Value], user: &str) -> PushConditionRoomCtx {
    let of = |kind: &str| state.iter().find(|event| event["type"] == kind).unwrap();
    let (create, levels) = (of("m.room.create"), of("m.room.power_levels"));
    let levels = &levels["content"];
    let users: BTreeMap<OwnedUserId, ruma::Int> =
        serde_json::from_value(levels["users"].clone()).unwrap();
    let default = levels["users_default"].as_i64().unwrap_or(0);
    let notifications = levels.get("notifications").cloned();
    let notifications: NotificationPowerLevels =
        notifications.map_or_else(Default::default, |all| serde_json::from_value(all).unwrap());
    let rules = match create["content"]["room_version"].as_str().unwrap() {
        "12" => AuthorizationRules::V12,
        _ => AuthorizationRules::V11,
    };
    let creator = UserId::parse(text(create, "sender")).unwrap();
    let rules = RoomPowerLevelsRules::new(&rules, [creator]);
    let default = ruma::Int::new(default).unwrap();
    let power = PushConditionPowerLevelsCtx::new(users, default, notifications, rules);
    let user = UserId::parse(user).unwrap();
    let name = user.localpart().to_owned();
    // No rule of this story asks how many members there are, but for those that say the same of two as of many.
    let members = UInt::from(3_u8);
    PushConditionRoomCtx::new(RoomId::parse(room).unwrap(), members, user, name)
        .with_power_levels(power)
}
