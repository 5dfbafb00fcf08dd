//! What stands around results: events before and after, and who sent them.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use rhizome_storage::{Pos, RoomNo, StoredEvent};
use ruma::{OwnedUserId, UserId};

use super::results::Found;
use crate::{
    App, MatrixError,
    history::{
        context::{first, last},
        pager::{Page, Pager},
    },
    place::point::HistoryPoint,
    view::{
        filter::EventFilter,
        json::Json,
        reading::Reading,
        scan::Budget,
        seen::{Seen, write_list},
    },
};

/// Of one result.
pub struct Context {
    /// The newest first.
    pub before: Vec<Seen>,
    /// The oldest first.
    pub after: Vec<Seen>,
    start: String,
    end: String,
    /// Who was who when the result was sent.
    profiles: Option<Vec<(OwnedUserId, Arc<StoredEvent>)>>,
}

/// What stands around each result, in their order.
pub async fn contexts(
    app: &App,
    found: &[Found],
    readings: &HashMap<RoomNo, Option<Reading>>,
    ignored: &HashSet<OwnedUserId>,
    budget: &Budget,
    (before, after, profiles): (usize, usize, bool),
) -> Result<Vec<Context>, MatrixError> {
    let filter = EventFilter::default();
    let mut contexts = Vec::with_capacity(found.len());
    for one in found {
        let event = &one.seen.event;
        let Some(reading) = readings.get(&event.room).and_then(Option::as_ref) else {
            continue;
        };
        let end = reading.room.end(&app.store);
        let pager = Pager {
            app,
            reading,
            filter: &filter,
            ignored,
            end,
        };
        let start = HistoryPoint::before(event, end);
        let stop = HistoryPoint::after(event, Pos(i64::MAX));
        // Where the answer is full, results stand alone.
        let earlier = match before {
            limit if limit > 0 && !budget.is_spent() => {
                pager.backward_here(start, None, limit).await?
            }
            _ => Page::default(),
        };
        let later = match after {
            limit if limit > 0 && !budget.is_spent() => pager.forward(stop, None, limit).await?,
            _ => Page::default(),
        };
        for seen in earlier.events.iter().chain(&later.events) {
            budget.take(seen.size());
        }
        contexts.push(Context {
            start: first(&earlier, start).to_string(),
            end: last(&later, stop).to_string(),
            before: earlier.events,
            after: later.events,
            profiles: None,
        });
    }
    if profiles {
        add_profiles(app, found, &mut contexts).await?;
    }
    Ok(contexts)
}

/// Who sent what is there, as they were when the result was sent.
async fn add_profiles(
    app: &App,
    found: &[Found],
    contexts: &mut [Context],
) -> Result<(), MatrixError> {
    let mut asked = Vec::new();
    for (n, (one, context)) in found.iter().zip(contexts.iter()).enumerate() {
        let around = context.before.iter().chain(&context.after);
        let senders: HashSet<&UserId> = around
            .chain([&one.seen])
            .map(|seen| seen.event.pdu.sender())
            .collect();
        // A join is what is known of who joins.
        let state = one.seen.event.state_after.or(one.seen.event.state_before);
        if let Some(state) = state {
            asked.extend(
                senders
                    .into_iter()
                    .map(|sender| (n, (state, "m.room.member", sender))),
            );
        }
    }
    let entries: Vec<_> = asked
        .iter()
        .map(|(_, (state, kind, sender))| (*state, *kind, sender.as_str()))
        .collect();
    let store = &app.store;
    let members = store.state_entries_at(&entries).await?;
    let nos: Vec<_> = members.iter().flatten().copied().collect();
    let events = store.events_by_no(&nos).await?;
    let events: HashMap<_, _> = events.into_iter().map(|event| (event.no, event)).collect();
    let mut profiles: Vec<Vec<_>> = contexts.iter().map(|_| Vec::new()).collect();
    for ((n, (_, _, sender)), member) in asked.iter().zip(members) {
        let event = member.and_then(|no| events.get(&no).cloned());
        if let (Some(event), Some(list)) = (event, profiles.get_mut(*n)) {
            list.push(((*sender).to_owned(), event));
        }
    }
    for (context, profiles) in contexts.iter_mut().zip(profiles) {
        context.profiles = Some(profiles);
    }
    Ok(())
}

impl Context {
    /// Writes it as the value of a key.
    pub fn write(&self, json: &mut Json, reading: &Reading, now: i64) {
        json.open().key("start").string(&self.start);
        json.key("end").string(&self.end);
        write_list(json, "events_before", &self.before, &reading.viewer, now);
        write_list(json, "events_after", &self.after, &reading.viewer, now);
        if let Some(profiles) = &self.profiles {
            json.key("profile_info").open();
            for (user, member) in profiles {
                json.key(user.as_str()).open();
                for field in ["displayname", "avatar_url"] {
                    let said = member.pdu.content().get(field);
                    let said = said.and_then(|value| value.as_str());
                    let is_fine = |text: &&str| field != "avatar_url" || text.starts_with("mxc://");
                    if let Some(text) = said.filter(is_fine) {
                        json.key(field).string(text);
                    }
                }
                json.close();
            }
            json.close();
        }
        json.close();
    }
}
