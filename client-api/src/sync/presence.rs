//! Presence in an answer: of those who share rooms with the reader, and the reader's own.

use std::collections::HashSet;

use rhizome_protocol::Membership;
use rhizome_storage::{MembershipRow, Pos, PresenceNews, PresenceStatus, RoomNo, Store};
use ruma::{OwnedUserId, api::client::filter::Filter};

use crate::{
    MatrixError,
    view::{filter, json::Json, presence, seen::Viewer},
};

/// Presences in an answer, whatever the filter says.
const MOST: usize = 1_000;
/// Of so many it is looked whether the filter lets them through.
const MOST_LOOKED_AT: usize = 5_000;

/// Whose presence an answer tells.
#[derive(Debug, Default)]
pub struct PresencePart {
    /// What is so, in the order of the changes.
    pub told: Vec<(OwnedUserId, PresenceStatus)>,
    /// If there was more: up to where it is told.
    pub upto: Option<i64>,
}

/// From where to where an answer goes: in the log, if the client has been told anything, and in the ephemeral stream.
#[derive(Clone, Copy)]
pub struct Span {
    /// Where it begins in the log.
    pub after: Option<Pos>,
    /// Where in the ephemeral stream, …
    pub heard: i64,
    /// … and where it ends there. What comes later is told the next time, and not twice.
    pub upto: i64,
}

impl PresencePart {
    /// What has changed since the client was told, or who is there; of rooms that are new to it everybody who is.
    pub async fn read(
        store: &Store,
        (viewer, wanted): (&Viewer, &Filter),
        rows: &[MembershipRow],
        Span { after, heard, upto }: Span,
        ignored: &HashSet<OwnedUserId>,
    ) -> Result<Self, MatrixError> {
        let most = limit(wanted);
        if !store.has_presence() || most == 0 {
            return Ok(Self::default());
        }
        let joined = rows.iter().filter(|row| row.membership == Membership::Join);
        let rooms: Vec<(RoomNo, bool)> = joined
            .map(|row| (row.room, after.is_some_and(|after| row.since > after)))
            .collect();
        let since = after.map(|_| heard);
        let mut news = store
            .presence()
            .news(viewer.user, &rooms, since, MOST_LOOKED_AT);
        let cut = news.len() >= MOST_LOOKED_AT && after.is_some();
        news.retain(|news| news.position <= upto);
        let users: Vec<_> = news.iter().map(|news| news.status.user).collect();
        let names = store.users(&users).await?;
        // At first they who have changed last are told, and the others never.
        let mut part = Self {
            upto: cut.then(|| news.last().map_or(heard, |last| last.position)),
            ..Self::default()
        };
        let let_through = |user: &OwnedUserId| !ignored.contains(user) && lets(wanted, user);
        let chosen = names.into_iter().zip(news);
        if after.is_none() {
            let mut found: Vec<_> = chosen.filter(|(user, _)| let_through(user)).collect();
            let past = found.len().saturating_sub(most);
            found.drain(..past);
            part.told = found
                .into_iter()
                .map(|(user, news)| (user, news.status))
                .collect();
            return Ok(part);
        }
        let mut last = heard;
        for (user, PresenceNews { position, status }) in chosen {
            if !let_through(&user) {
                continue;
            }
            if part.told.len() >= most {
                part.upto = Some(last.max(heard));
                break;
            }
            last = position;
            part.told.push((user, status));
        }
        Ok(part)
    }

    /// Writes it as the events that it is.
    pub fn write(&self, json: &mut Json) {
        self.write_list(json.key("presence").open().key("events"));
        json.close();
    }

    /// The events alone, as a list.
    pub fn write_list(&self, json: &mut Json) {
        json.open_list();
        for (user, status) in &self.told {
            json.open().key("type").string(KIND);
            json.key("sender").string(user.as_str());
            presence::content(json.key("content"), status);
            json.close();
        }
        json.close_list();
    }
}

/// The type of these events.
const KIND: &str = "m.presence";

/// How many a filter wants; none if it is of other types.
pub fn limit(wanted: &Filter) -> usize {
    let wants = filter::types_allow(wanted.types.as_deref(), &wanted.not_types, KIND);
    let limit = wanted.limit.map_or(MOST, |limit| {
        usize::try_from(u64::from(limit)).unwrap_or(usize::MAX)
    });
    if wants { limit.min(MOST) } else { 0 }
}

fn lets(wanted: &Filter, user: &OwnedUserId) -> bool {
    !wanted.not_senders.contains(user)
        && (wanted.senders.as_ref()).is_none_or(|senders| senders.contains(user))
}
