//! Writing: an answer put together from shared bytes.

use std::{collections::BTreeMap, sync::Arc};

use rhizome_storage::{
    AccountData, KeyCounts, Logged, Receipt, RemoteInvite, StoredEvent, WaitingMessage,
};
use ruma::{OwnedRoomId, OwnedUserId};

use super::{
    Ask, Devices, News,
    counts::{Count, Counts},
    room::{RoomPart, summary::Summary},
};
use crate::{
    place::point::HistoryPoint,
    view::{
        client_event::{self, Form},
        json::Json,
        seen::{Seen, Style, Viewer},
    },
};

/// The answer's JSON; with `kind`, a frame of that `type`.
pub fn answer(news: &News, viewer: &Viewer, ask: &Ask, now_ms: i64, kind: Option<&str>) -> String {
    let mut json = Json::with_capacity(1_024);
    let writer = Writer {
        viewer,
        ask,
        now_ms,
        style: style_of(ask),
    };
    json.open();
    if let Some(kind) = kind {
        json.key("type").string(kind);
    }
    json.key("next_batch").string(&news.next.to_string());
    if !news.account_data.is_empty() {
        json.key("account_data");
        account_data(&mut json, &news.account_data);
    }
    if !news.to_device.is_empty() {
        to_device(&mut json, &news.to_device);
    }
    device_lists(&mut json, &news.devices);
    key_counts(&mut json, &news.keys);
    if !(news.join.is_empty()
        && news.invite.is_empty()
        && news.knock.is_empty()
        && news.leave.is_empty())
    {
        json.key("rooms").open();
        writer.rooms(&mut json, "join", &news.join);
        stripped_rooms(&mut json, "invite", "invite_state", &news.invite);
        stripped_rooms(&mut json, "knock", "knock_state", &news.knock);
        writer.rooms(&mut json, "leave", &news.leave);
        json.close();
    }
    json.close();
    json.finish()
}

fn style_of(ask: &Ask) -> Style {
    let federation = ask.filter.event_format == ruma::api::client::filter::EventFormat::Federation;
    Style {
        form: if federation {
            Form::Federation
        } else {
            Form::Sync
        },
        fields: ask.filter.event_fields.clone(),
    }
}

struct Writer<'a> {
    viewer: &'a Viewer,
    ask: &'a Ask,
    now_ms: i64,
    style: Style,
}

impl Writer<'_> {
    fn rooms(&self, json: &mut Json, section: &str, rooms: &[(OwnedRoomId, RoomPart)]) {
        if rooms.is_empty() {
            return;
        }
        json.key(section).open();
        for (room_id, part) in rooms {
            json.key(room_id.as_str());
            self.room(json, part);
        }
        json.close();
    }

    fn room(&self, json: &mut Json, part: &RoomPart) {
        json.open();
        if let Some(summary) = &part.summary {
            json.key("summary");
            write_summary(json, summary);
        }
        json.key(if self.ask.state_after {
            "state_after"
        } else {
            "state"
        })
        .open();
        self.events(json, &part.state);
        json.close();
        json.key("timeline").open();
        self.events(json, &part.timeline.events);
        json.key("limited").boolean(part.timeline.limited);
        json.key("prev_batch")
            .string(&HistoryPoint::at(part.timeline.before).to_string());
        json.close();
        if !part.left {
            json.key("ephemeral").open().key("events").open_list();
            write_typing(json, part);
            write_receipts(json, part);
            json.close_list().close();
        }
        json.key("account_data");
        account_data(json, &part.account_data);
        if let Some(unread) = &part.unread {
            let by_thread = self.ask.filter.room.timeline.unread_thread_notifications;
            write_unread(json, unread, by_thread);
        }
        json.close();
    }

    fn events(&self, json: &mut Json, events: &[Seen]) {
        json.key("events").open_list();
        for event in events {
            event.write(json, self.viewer, self.now_ms, &self.style);
        }
        json.close_list();
    }
}

/// Whose devices changed, if anybody's did.
pub(super) fn device_lists(json: &mut Json, (changed, left): &Devices) {
    if !changed.is_empty() || !left.is_empty() {
        json.key("device_lists").open();
        users(json.key("changed"), changed);
        users(json.key("left"), left);
        json.close();
    }
}

fn write_summary(json: &mut Json, summary: &Summary) {
    json.open();
    if let Some(heroes) = &summary.heroes {
        users(json.key("m.heroes"), heroes);
    }
    json.key("m.joined_member_count").number(summary.joined);
    json.key("m.invited_member_count").number(summary.invited);
    json.close();
}

/// With `by_thread` the room's own counts are of its main timeline.
fn write_unread(json: &mut Json, unread: &Counts, by_thread: bool) {
    let count = |json: &mut Json, count: Count| {
        json.open()
            .key("notification_count")
            .number(count.notifications.into())
            .key("highlight_count")
            .number(count.highlights.into())
            .close();
    };
    json.key("unread_notifications");
    if !by_thread {
        return count(json, unread.whole());
    }
    count(json, unread.main);
    if unread.threads.is_empty() {
        return;
    }
    json.key("unread_thread_notifications").open();
    for (root, of) in &unread.threads {
        json.key(root);
        count(json, *of);
    }
    json.close();
}

fn write_typing(json: &mut Json, part: &RoomPart) {
    if let Some(users) = &part.typing {
        typing(json, users);
    }
}

/// An `m.typing`.
pub(super) fn typing(json: &mut Json, typing: &[OwnedUserId]) {
    json.open()
        .key("type")
        .string("m.typing")
        .key("content")
        .open();
    users(json.key("user_ids"), typing);
    json.close().close();
}

fn write_receipts(json: &mut Json, part: &RoomPart) {
    if !part.receipts.is_empty() {
        receipts(json, &part.receipts);
    }
}

/// An `m.receipt`: event id → kind → user → receipt. Of several receipts of a user at one event (in several
/// threads) the form holds only one: the last.
pub(super) fn receipts(json: &mut Json, receipts: &[(OwnedUserId, Arc<Logged<Receipt>>)]) {
    let mut sorted: BTreeMap<&str, BTreeMap<&str, BTreeMap<&str, _>>> = BTreeMap::new();
    for (user, receipt) in receipts {
        let kinds = sorted.entry(receipt.event_id.as_str()).or_default();
        kinds
            .entry(&receipt.kind)
            .or_default()
            .insert(user.as_str(), receipt);
    }
    json.open()
        .key("type")
        .string("m.receipt")
        .key("content")
        .open();
    for (event_id, kinds) in sorted {
        json.key(event_id).open();
        for (kind, users) in kinds {
            json.key(kind).open();
            for (user, receipt) in users {
                json.key(user).open().key("ts").number(receipt.ts);
                if let Some(thread) = &receipt.thread {
                    json.key("thread_id").string(thread);
                }
                json.close();
            }
            json.close();
        }
        json.close();
    }
    json.close().close();
}

fn users<'a>(json: &mut Json, users: impl IntoIterator<Item = &'a OwnedUserId>) {
    json.open_list();
    for user in users {
        json.string(user.as_str());
    }
    json.close_list();
}

fn account_data(json: &mut Json, data: &[Arc<Logged<AccountData>>]) {
    account_data_list(json.open().key("events"), data);
    json.close();
}

/// Account data as a list of events.
pub(super) fn account_data_list(json: &mut Json, data: &[Arc<Logged<AccountData>>]) {
    json.open_list();
    for one in data {
        json.open()
            .key("type")
            .string(&one.kind)
            .key("content")
            .raw(&one.content)
            .close();
    }
    json.close_list();
}

/// What a device has to give out.
pub(super) fn key_counts(json: &mut Json, keys: &KeyCounts) {
    json.key("device_one_time_keys_count").open();
    for (algorithm, count) in &keys.one_time {
        let count = i64::try_from(*count).unwrap_or(i64::MAX);
        json.key(algorithm).number(count);
    }
    json.close();
    json.key("device_unused_fallback_key_types").open_list();
    for algorithm in &keys.unused_fallback {
        json.string(algorithm);
    }
    json.close_list();
}

fn to_device(json: &mut Json, messages: &[WaitingMessage]) {
    json.key("to_device").open();
    to_device_list(json.key("events"), messages);
    json.close();
}

/// Messages for a device as a list.
pub(super) fn to_device_list(json: &mut Json, messages: &[WaitingMessage]) {
    json.open_list();
    for message in messages {
        json.open()
            .key("content")
            .raw(&message.content)
            .key("sender")
            .string(message.sender.as_str())
            .key("type")
            .string(&message.kind)
            .close();
    }
    json.close_list();
}

fn stripped_rooms(json: &mut Json, section: &str, state: &str, rooms: &[(OwnedRoomId, String)]) {
    if rooms.is_empty() {
        return;
    }
    json.key(section).open();
    for (room_id, events) in rooms {
        json.key(room_id.as_str()).open();
        json.key(state)
            .open()
            .key("events")
            .raw(events)
            .close()
            .close();
    }
    json.close();
}

/// Stripped state as a JSON array.
pub fn stripped(events: &[Arc<StoredEvent>]) -> String {
    let mut json = Json::default();
    json.open_list();
    for event in events {
        json.with(|out| client_event::write_stripped(out, event));
    }
    json.close_list();
    json.finish()
}

/// The stripped state that came with another server's invite, the invite itself included.
pub fn remote_stripped(invite: &RemoteInvite) -> String {
    #[derive(serde::Deserialize)]
    struct Parts<'a> {
        #[serde(borrow)]
        content: &'a serde_json::value::RawValue,
        #[serde(borrow)]
        sender: &'a serde_json::value::RawValue,
        #[serde(borrow)]
        state_key: &'a serde_json::value::RawValue,
        #[serde(borrow)]
        origin_server_ts: Option<&'a serde_json::value::RawValue>,
    }
    // Whatever isn't an object with a type was the other server's mistake, and would break clients.
    let state: Vec<Box<serde_json::value::RawValue>> =
        serde_json::from_str(&invite.stripped_state).unwrap_or_default();
    let mut json = Json::default();
    json.open_list();
    let own = serde_json::from_str::<Parts<'_>>(&invite.event).ok();
    for event in state {
        #[derive(serde::Deserialize)]
        struct Head {
            r#type: String,
            state_key: Option<String>,
        }
        let Ok(head) = serde_json::from_str::<Head>(event.get()) else {
            continue;
        };
        let is_invite = own.as_ref().is_some_and(|own| {
            head.r#type == "m.room.member"
                && serde_json::from_str::<String>(own.state_key.get()).ok() == head.state_key
        });
        if !is_invite {
            json.raw(event.get());
        }
    }
    if let Some(own) = own {
        json.open().key("content").raw(own.content.get());
        if let Some(ts) = own.origin_server_ts {
            json.key("origin_server_ts").raw(ts.get());
        }
        json.key("sender")
            .raw(own.sender.get())
            .key("state_key")
            .raw(own.state_key.get());
        json.key("type").string("m.room.member").close();
    }
    json.close_list();
    json.finish()
}

#[cfg(test)]
mod tests {
    use rhizome_protocol::RoomRules;
    use rhizome_storage::{Pos, RoomNo, UserNo};
    use ruma::user_id;
    use serde_json::{Value, json};

    use super::*;

    fn stripped_of(event: &str, state: &str) -> Value {
        let invite = RemoteInvite {
            user: UserNo(1),
            room: RoomNo(1),
            sender: user_id!("@b:there").to_owned(),
            rules: RoomRules::get(&ruma::RoomVersionId::V11).unwrap(),
            event: event.into(),
            stripped_state: state.into(),
            pos: Pos(1),
        };
        serde_json::from_str(&remote_stripped(&invite)).unwrap()
    }

    const INVITE: &str = r#"{"type":"m.room.member","sender":"@b:there","state_key":"@a:here","content":{"membership":"invite"}}"#;

    #[test]
    fn a_foreign_invite_is_in_its_own_stripped_state_once() {
        let name = json!({"type": "m.room.name", "state_key": "", "sender": "@b:there", "content": {"name": "N"}});
        let own = json!({"type": "m.room.member", "state_key": "@a:here", "sender": "@b:there",
            "content": {"membership": "invite"}});
        let state = json!([name, own]).to_string();
        assert_eq!(stripped_of(INVITE, &state), json!([name, own]));
        assert_eq!(stripped_of(INVITE, "[]"), json!([own]));
    }

    #[test]
    fn hostile_stripped_state_breaks_nothing() {
        for state in ["", "{}", "[1,null,{\"type\":3}]", "not json"] {
            assert_eq!(
                stripped_of(INVITE, state).as_array().unwrap().len(),
                1,
                "{state}"
            );
        }
        assert_eq!(stripped_of("rubbish", "[]"), json!([]));
    }
}
