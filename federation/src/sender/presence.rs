//! Presence of our users, told to the servers that share rooms with them
//! (<https://spec.matrix.org/v1.19/server-server-api/#presence>).
//!
//! A destination's queue says only of whom it is to be told; what is so is looked at when a transaction is made. So of
//! several changes the last is told, and nobody is told what isn't so any more.

use std::collections::{BTreeMap, BTreeSet};

use rhizome_protocol::Membership;
use rhizome_storage::{Error, OutgoingPresence, PresenceStatus, RoomNo, UserNo};
use ruma::{OwnedServerName, ServerName, UserId};
use serde_json::{Value, json};

use super::batch::{Batch, edu};
use crate::Federation;

/// The most users that one data unit tells of.
const MOST_USERS: usize = 100;

/// Which servers are to be told of whom.
type News = BTreeMap<OwnedServerName, BTreeSet<UserNo>>;

/// Hands what changes to the destinations' queues, for ever.
pub(crate) async fn run(fed: &Federation) -> Result<(), Error> {
    let store = fed.store();
    if !store.has_presence() {
        return std::future::pending().await;
    }
    store.presence().tell_others();
    loop {
        let out = store.presence().outgoing().await;
        match news(fed, &out).await {
            Ok(news) => fed.sender().presence(&news),
            // Whoever changes next is told again, and everybody in half an hour.
            Err(error) => tracing::warn!(%error, "other servers aren't told who is there"),
        }
    }
}

async fn news(fed: &Federation, out: &OutgoingPresence) -> Result<News, Error> {
    let mut news = News::new();
    for user in &out.changed {
        for room in fed.store().presence().rooms_of(*user) {
            tell_room(fed, &mut news, room, *user).await?;
        }
    }
    for (room, user) in &out.came {
        came(fed, &mut news, *room, *user).await?;
    }
    Ok(news)
}

async fn tell_room(
    fed: &Federation,
    news: &mut News,
    room: RoomNo,
    user: UserNo,
) -> Result<(), Error> {
    let servers = fed.store().joined_servers(room).await?;
    for server in servers.iter().filter(|name| **name != fed.server_name()) {
        if let Some(users) = news.get_mut(server) {
            users.insert(user);
        } else {
            news.insert(server.clone(), BTreeSet::from([user]));
        }
    }
    Ok(())
}

/// Who comes into a room is told to the servers there; or the server that they come from of who is there.
async fn came(fed: &Federation, news: &mut News, room: RoomNo, user: UserNo) -> Result<(), Error> {
    let presence = fed.store().presence();
    let name = fed.store().user(user).await?;
    if fed.rooms().is_local(&name) {
        if presence.here_in(room).contains(&user) {
            tell_room(fed, news, room, user).await?;
        }
        return Ok(());
    }
    let row = fed.store().membership(user, room).await?;
    if row.is_some_and(|row| row.membership == Membership::Join) {
        let there = presence.here_in(room);
        if !there.is_empty() {
            let server = name.server_name().to_owned();
            news.entry(server).or_default().extend(there);
        }
    }
    Ok(())
}

/// Puts into a batch what there is to tell a destination, as far as it fits.
pub(super) async fn gather(
    fed: &Federation,
    to: &ServerName,
    batch: &mut Batch,
) -> Result<(), Error> {
    batch.presence = {
        let mut state = fed.sender().state();
        let queue = state.queues.get_mut(to);
        queue.map_or_else(Vec::new, |queue| {
            let users = std::iter::from_fn(|| queue.presence.pop_first());
            users.take(MOST_USERS).collect()
        })
    };
    let presence = fed.store().presence();
    let known = batch.presence.iter().filter_map(|user| presence.of(*user));
    let known: Vec<PresenceStatus> = known.collect();
    if known.is_empty() {
        return Ok(());
    }
    let users: Vec<UserNo> = known.iter().map(|status| status.user).collect();
    let names = fed.store().users(&users).await?;
    let push = names.iter().zip(&known);
    let push: Vec<Value> = push.map(|(name, status)| update(name, status)).collect();
    batch.edus.push(edu("m.presence", &json!({ "push": push })));
    Ok(())
}

fn update(name: &UserId, status: &PresenceStatus) -> Value {
    let mut update = json!({
        "user_id": name,
        "presence": status.state.name(),
        "last_active_ago": status.last_active_ago.unwrap_or_default(),
        "currently_active": status.currently_active,
    });
    if let (Some(message), Some(update)) = (&status.message, update.as_object_mut()) {
        update.insert("status_msg".to_owned(), (**message).into());
    }
    update
}

/// A destination didn't get a batch: it is to be told again.
pub(super) fn again(fed: &Federation, to: &ServerName, batch: &Batch) {
    if let Some(queue) = fed.sender().state().queues.get_mut(to) {
        queue.presence.extend(&batch.presence);
    }
}
