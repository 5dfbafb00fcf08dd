//! What a write set's rows need to know and its transaction should not have to look up.

use std::sync::Arc;

use rhizome_protocol::Membership;
use ring::digest::{SHA256, digest};
use ruma::{OwnedServerName, ServerName, UserId};

use crate::db::{Columns as _, hex, json_numbers};
use crate::{
    CommitError, Error, Extremity, Fact, NewEvent, Result, RoomNo, RoomWrite, ServerNo, SetNo,
    StateChange, Store, UserNo, WriteSet,
};

/// Beside a [`WriteSet`], index for index.
#[derive(Debug, Default)]
pub(super) struct Gathered {
    pub(super) rooms: Vec<GatheredRoom>,
    /// Per fact: the room of an invite from outside.
    pub(super) fact_rooms: Vec<Option<RoomNo>>,
}

#[derive(Debug, Default)]
pub(super) struct GatheredRoom {
    /// Per state change: whose membership it is and becomes.
    pub(super) members: Vec<Option<MemberChange>>,
    /// Per event: where it goes.
    pub(super) sets: Vec<Option<Destinations>>,
    /// The extremities that it begins anew with.
    pub(super) reset: Option<Vec<Extremity>>,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct MemberChange {
    pub(super) user: UserNo,
    pub(super) server: ServerNo,
    pub(super) membership: Membership,
}

#[derive(Debug, Clone)]
pub(crate) struct Destinations {
    pub(super) set: SetNo,
    pub(super) servers: Arc<[ServerNo]>,
}

pub(super) async fn gather(store: &Store, set: &WriteSet) -> Result<Gathered, CommitError> {
    let mut gathered = Gathered::default();
    for write in &set.rooms {
        gathered.rooms.push(gather_room(store, write).await?);
    }
    for fact in &set.facts {
        gathered.fact_rooms.push(match fact {
            Fact::RemoteInvite { room_id, .. } | Fact::RemoteInviteGone { room_id, .. } => {
                Some(store.room_no(room_id).await?)
            }
            _ => None,
        });
    }
    Ok(gathered)
}

async fn gather_room(store: &Store, write: &RoomWrite) -> Result<GatheredRoom> {
    let mut gathered = GatheredRoom::default();
    if let Some(current) = &write.current {
        for change in &current.changes {
            gathered
                .members
                .push(member_change(store, write, change).await?);
        }
    }
    for event in &write.events {
        gathered.sets.push(match &event.send_to {
            Some(servers) if !servers.is_empty() => Some(destinations(store, servers).await?),
            _ => None,
        });
    }
    if let Some(nos) = &write.reset_extremities {
        let mut reset = Vec::with_capacity(nos.len());
        for no in nos {
            if let Some(event) = write.events.iter().find(|event| event.no == *no) {
                reset.push(extremity(event));
                continue;
            }
            let event = store.event_by_no(*no).await?;
            let event = event.ok_or_else(|| Error::broken("an extremity isn't stored"))?;
            reset.push(Extremity {
                no: *no,
                event_id: event.pdu.event_id().to_owned(),
                depth: event.pdu.depth(),
            });
        }
        gathered.reset = Some(reset);
    }
    Ok(gathered)
}

pub(super) fn extremity(event: &NewEvent) -> Extremity {
    Extremity {
        no: event.no,
        event_id: event.pdu.event_id().to_owned(),
        depth: event.pdu.depth(),
    }
}

async fn member_change(
    store: &Store,
    write: &RoomWrite,
    change: &StateChange,
) -> Result<Option<MemberChange>> {
    let key = store.key(change.key).await?;
    if key.kind != "m.room.member" {
        return Ok(None);
    }
    // A state key that is no user id can't be anybody's membership.
    let Ok(user) = <&UserId>::try_from(key.key.as_str()) else {
        return Ok(None);
    };
    let membership = match change.new {
        None => None,
        Some(no) => match write.events.iter().find(|event| event.no == no) {
            Some(event) => event.pdu.membership(),
            None => store
                .event_by_no(no)
                .await?
                .and_then(|event| event.pdu.membership()),
        },
    };
    let user_no = store.user_no(user).await?;
    let server = store.server_nos(&[user.server_name()]).await?;
    let names = &store.core.caches.server_names;
    if let Some(no) = server.first().filter(|no| names.get(no).is_none()) {
        names.insert(*no, user.server_name().to_owned());
    }
    Ok(Some(MemberChange {
        user: user_no,
        server: server.first().copied().unwrap_or_default(),
        membership: membership.unwrap_or(Membership::Leave),
    }))
}

/// The interned set of these servers.
async fn destinations(store: &Store, servers: &[OwnedServerName]) -> Result<Destinations> {
    if let Some(found) = store.core.caches.sets.get(servers) {
        return Ok(found);
    }
    let names: Vec<&ServerName> = servers.iter().map(|name| &**name).collect();
    let mut nos = store.server_nos(&names).await?;
    nos.sort();
    nos.dedup();
    let text = json_numbers(nos.iter().map(|no| no.0));
    let hash = hex(digest(&SHA256, text.as_bytes()).as_ref());
    let find = |store: &Store| {
        store
            .sql("SELECT no FROM destination_set WHERE digest = $1")
            .bind(hash.clone())
    };
    let mut found = store.row(find(store)).await?;
    if found.is_none() {
        let query = store
            .sql(
                "INSERT INTO destination_set (no, digest, servers) VALUES ($1, $2, $3) \
                 ON CONFLICT (digest) DO NOTHING",
            )
            .bind(store.next_set_no().await?.0)
            .bind(hash.clone())
            .bind(text.clone());
        store.execute(query).await?;
        found = store.row(find(store)).await?;
    }
    let row =
        found.ok_or_else(|| Error::broken("a destination set was inserted and isn't there"))?;
    let destinations = Destinations {
        set: SetNo(row.int(0)?),
        servers: nos.into(),
    };
    let (key, weight) = (Arc::from(servers), servers.len());
    let cache = &store.core.caches.sets;
    cache.insert_weighing(key, destinations.clone(), weight);
    Ok(destinations)
}
