//! Writing: an answer in the form in which was asked, put together from shared bytes.

use super::{
    pass::Found,
    request::{Asked, Shape},
    room::RoomPart,
};
use crate::{
    place::point::HistoryPoint,
    view::{
        client_event::Form,
        json::Json,
        seen::{Style, Viewer},
    },
};

/// The answer's JSON; with a kind, that of a frame.
pub fn answer(
    found: &Found,
    asked: &Asked,
    viewer: &Viewer,
    (kind, pos): (Option<&str>, &str),
    now_ms: i64,
) -> String {
    let mut json = Json::with_capacity(1_024);
    let writer = Writer {
        viewer,
        now_ms,
        shape: asked.shape,
        style: Style {
            form: Form::Sync,
            fields: None,
        },
    };
    json.open();
    if let Some(kind) = kind {
        json.key("type").string(kind);
    }
    json.key("pos").string(pos);
    if let Some(txn_id) = &asked.txn_id {
        json.key("txn_id").string(txn_id);
    }
    json.key("lists").open();
    for (name, count) in &found.counts {
        json.key(name)
            .open()
            .key("count")
            .number(count_of(*count))
            .close();
    }
    json.close().key("rooms").open();
    for part in &found.rooms {
        writer.room(&mut json, part);
    }
    json.close();
    let extensions = json.key("extensions");
    found.extensions.write(extensions, viewer, now_ms);
    json.close();
    json.finish()
}

fn count_of(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

struct Writer<'a> {
    viewer: &'a Viewer,
    now_ms: i64,
    shape: Shape,
    style: Style,
}

impl Writer<'_> {
    fn room(&self, json: &mut Json, part: &RoomPart) {
        let Some(id) = &part.id else { return };
        json.key(id.as_str()).open();
        if part.initial {
            json.key("initial").boolean(true);
        }
        json.key("bump_stamp").number(part.bump.0);
        if self.shape == Shape::Stable {
            if let Some(membership) = part.membership {
                json.key("membership").string(membership.as_str());
            }
            if !part.lists.is_empty() {
                json.key("lists").open_list();
                for list in &part.lists {
                    json.string(list);
                }
                json.close_list();
            }
        }
        if let Some(is_dm) = part.is_dm {
            json.key("is_dm").boolean(is_dm);
        }
        match &part.stripped {
            Some(stripped) => {
                let key = match self.shape {
                    Shape::Unstable => "invite_state",
                    Shape::Stable => "stripped_state",
                };
                json.key(key).raw(stripped);
            }
            None => self.inside(json, part),
        }
        json.close();
    }

    fn inside(&self, json: &mut Json, part: &RoomPart) {
        for (key, text) in [("name", &part.name), ("avatar", &part.avatar)] {
            match text {
                Some(Some(text)) => drop(json.key(key).string(text)),
                Some(None) => drop(json.key(key).null()),
                None => {}
            }
        }
        heroes(json, part);
        if let Some((joined, invited)) = part.members {
            json.key("joined_count").number(joined);
            json.key("invited_count").number(invited);
        }
        self.counts(json, part);
        self.state(json, part);
        self.timeline(json, part);
    }

    /// What the accepted form has no more.
    fn counts(&self, json: &mut Json, part: &RoomPart) {
        if let (Shape::Unstable, Some(unread)) = (self.shape, &part.unread) {
            let count = unread.whole();
            json.key("notification_count")
                .number(count.notifications.into());
            json.key("highlight_count").number(count.highlights.into());
        }
    }

    fn state(&self, json: &mut Json, part: &RoomPart) {
        if part.state.is_empty() && part.gone.is_empty() {
            return;
        }
        json.key("required_state").open_list();
        for event in &part.state {
            event.write(json, self.viewer, self.now_ms, &self.style);
        }
        // Clients of today take whatever is there for an event.
        let gone = part.gone.iter().filter(|_| self.shape == Shape::Stable);
        for key in gone {
            json.open().key("type").string(&key.kind);
            json.key("state_key").string(&key.key).close();
        }
        json.close_list();
    }

    fn timeline(&self, json: &mut Json, part: &RoomPart) {
        let timeline = &part.timeline;
        if part.expanded {
            let key = match self.shape {
                Shape::Unstable => "unstable_expanded_timeline",
                Shape::Stable => "expanded_timeline",
            };
            json.key(key).boolean(true);
        }
        if timeline.events.is_empty() && !timeline.limited && !part.initial {
            return;
        }
        json.key("timeline").open_list();
        for event in &timeline.events {
            event.write(json, self.viewer, self.now_ms, &self.style);
        }
        json.close_list();
        json.key("prev_batch")
            .string(&HistoryPoint::at(timeline.before).to_string());
        json.key("limited").boolean(timeline.limited);
        json.key("num_live").number(count_of(part.live));
    }
}

fn heroes(json: &mut Json, part: &RoomPart) {
    let Some(heroes) = &part.heroes else { return };
    json.key("heroes").open_list();
    for hero in heroes {
        json.open().key("user_id").string(hero.user.as_str());
        if let Some(name) = &hero.name {
            json.key("displayname").string(name);
        }
        if let Some(avatar) = &hero.avatar {
            json.key("avatar_url").string(avatar);
        }
        json.close();
    }
    json.close_list();
}
