//! Writing: an answer put together from shared bytes.

use std::sync::Arc;

use rhizome_protocol::sticky;
use rhizome_storage::{AccountData, Logged, RemoteInvite, StoredEvent, WaitingMessage};
use ruma::OwnedRoomId;

use super::{
    Ask, News, Summons,
    pieces::{
        account_data_list, device_lists, key_counts, receipts, to_device_list, typing, users,
    },
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
    if !news.presence.told.is_empty() {
        news.presence.write(&mut json);
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
        writer.summons(&mut json, ("invite", "invite_state"), &news.invite);
        writer.summons(&mut json, ("knock", "knock_state"), &news.knock);
        writer.rooms(&mut json, "leave", &news.leave);
        json.close();
    }
    json.close();
    json.finish()
}

/// Where an invite or a knock has the whole of its membership event (MSC4319).
const SUMMONS: &str = "org.matrix.msc4319.state";

fn style_of(ask: &Ask) -> Style {
    let federation = ask.filter.event_format == ruma::api::client::filter::EventFormat::Federation;
    Style {
        form: if federation {
            Form::Federation
        } else {
            Form::Sync
        },
        // Events with nothing in them are of use to nobody: an empty list is as good as none.
        fields: (ask.filter.event_fields.clone()).filter(|fields| !fields.is_empty()),
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
        if !part.sticky.is_empty() {
            json.key(sticky::KEY).open();
            self.events(json, &part.sticky);
            json.close();
        }
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
            unread.write(json, by_thread);
        }
        json.close();
    }

    fn summons(&self, json: &mut Json, names: (&str, &str), rooms: &[(OwnedRoomId, Summons)]) {
        if rooms.is_empty() {
            return;
        }
        let (section, state) = names;
        json.key(section).open();
        for (room_id, summons) in rooms {
            json.key(room_id.as_str()).open();
            json.key(state).open().key("events");
            json.raw(&summons.stripped).close();
            if let Some(event) = &summons.event {
                json.key(SUMMONS).open();
                self.events(json, std::slice::from_ref(event));
                json.close();
            }
            json.close();
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

fn write_summary(json: &mut Json, summary: &Summary) {
    json.open();
    if let Some(heroes) = &summary.heroes {
        users(json.key("m.heroes"), heroes);
    }
    json.key("m.joined_member_count").number(summary.joined);
    json.key("m.invited_member_count").number(summary.invited);
    json.close();
}

fn write_typing(json: &mut Json, part: &RoomPart) {
    if let Some(users) = &part.typing {
        typing(json, users);
    }
}

fn write_receipts(json: &mut Json, part: &RoomPart) {
    if !part.receipts.is_empty() {
        receipts(json, &part.receipts);
    }
}

fn account_data(json: &mut Json, data: &[Arc<Logged<AccountData>>]) {
    account_data_list(json.open().key("events"), data);
    json.close();
}

fn to_device(json: &mut Json, messages: &[WaitingMessage]) {
    json.key("to_device").open();
    to_device_list(json.key("events"), messages);
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
