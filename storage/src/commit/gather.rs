//! What a write set's rows need to know and its transaction should not have to look up.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use rhizome_protocol::Membership;
use ring::digest::{SHA256, digest};
use ruma::{OwnedServerName, ServerName, UserId};

use crate::engine::db::hex;
use crate::engine::sql::{Columns as _, json_of, rows};
use crate::rooms::relation::rows::RelationRow;
use crate::rooms::relationship::RelationshipRow;
use crate::rooms::summary::{is_of_summary, is_summarised};
use crate::{
    CommitError, Error, EventNo, Extremity, NewEvent, Partial, Result, RoomWrite, ServerNo, SetNo,
    StateChange, Status, Store, UserNo, WriteSet,
};

/// How many changes of state are looked up at once.
const CHANGES: usize = 1_000;

/// Beside a [`WriteSet`], index for index.
#[derive(Debug, Default)]
pub(super) struct GatheredSet {
    pub(super) rooms: Vec<GatheredRoom>,
}

#[derive(Debug, Default)]
pub(super) struct GatheredRoom {
    /// Per state change: whose membership it is and becomes.
    pub(super) members: Vec<Option<MemberChange>>,
    /// The same of [`RoomWrite::given`].
    pub(super) given: Vec<Option<MemberChange>>,
    /// Per event: where it goes.
    pub(super) sets: Vec<Option<SetNo>>,
    /// The extremities that it begins anew with.
    pub(super) reset: Option<Vec<Extremity>>,
    /// Those that are added beside the merge.
    pub(super) added: Vec<Extremity>,
    /// Of the events, and of those that get their content, that relate to others.
    pub(super) relations: Vec<RelationRow>,
    /// What their `m.relationship` says, of events without a place as well.
    pub(super) relationships: Vec<RelationshipRow>,
    /// Whether what the room's summary is made of changes.
    pub(super) summarised: bool,
    /// Where the room becomes partial: the servers that were said to be in it.
    pub(super) told_servers: Vec<ServerNo>,
}

impl GatheredRoom {
    /// All memberships that change.
    pub(super) fn all_members(&self) -> impl Iterator<Item = &MemberChange> {
        self.members.iter().chain(&self.given).flatten()
    }
}

#[derive(Debug, Clone, Copy)]
pub(super) struct MemberChange {
    pub(super) user: UserNo,
    pub(super) server: ServerNo,
    pub(super) membership: Membership,
}

pub(super) async fn gather(store: &Store, set: &WriteSet) -> Result<GatheredSet, CommitError> {
    let mut gathered = GatheredSet::default();
    for write in &set.rooms {
        gathered.rooms.push(gather_room(store, write).await?);
    }
    Ok(gathered)
}

async fn gather_room(store: &Store, write: &RoomWrite) -> Result<GatheredRoom> {
    let mut gathered = GatheredRoom::default();
    if let Some(current) = &write.current {
        for changes in current.changes.chunks(CHANGES) {
            let (members, summarised) = member_changes(store, write, changes).await?;
            gathered.members.extend(members);
            gathered.summarised |= summarised;
        }
    }
    for changes in write.given.chunks(CHANGES) {
        let (members, summarised) = member_changes(store, write, changes).await?;
        gathered.given.extend(members);
        gathered.summarised |= summarised;
    }
    let restored = write.restored.iter();
    gathered.summarised |= restored.clone().any(|event| is_summarised(&event.pdu));
    let mut events = write.events.iter();
    let redacts = events.any(|event| event.redacts.is_some() || is_summarised(&event.pdu))
        || restored.clone().any(|event| !event.redacts.is_empty());
    if gathered.summarised || redacts {
        // The entries are given numbers now: within the transaction nobody could.
        store.summary_keys().await?;
    }
    for event in &write.events {
        gathered.sets.push(match &event.send_to {
            Some(servers) if !servers.is_empty() => Some(destinations(store, servers).await?),
            _ => None,
        });
    }
    if let Some(nos) = &write.reset_extremities {
        gathered.reset = Some(extremities(store, write, nos).await?);
    }
    gathered.added = extremities(store, write, &write.add_extremities).await?;
    gathered.relations = relations(store, write).await?;
    gathered.relationships = relationships(write);
    if let Partial::Begins(begun) = &write.partial {
        let names: BTreeSet<&ServerName> = begun.servers.iter().map(|name| &**name).collect();
        let names: Vec<&ServerName> = names.into_iter().collect();
        gathered.told_servers = store.server_nos(&names).await?;
    }
    Ok(gathered)
}

/// What the write's events relate to.
async fn relations(store: &Store, write: &RoomWrite) -> Result<Vec<RelationRow>> {
    let new = (write.events.iter())
        .filter(|event| event.is_history())
        .map(|event| (event.no, &event.pdu));
    let restored = write.restored.iter().map(|event| (event.no, &event.pdu));
    let (mut rows, mut senders) = (Vec::new(), Vec::new());
    for (no, pdu) in new.chain(restored) {
        if let Some(row) = RelationRow::new(no, write.room, &(&**pdu).into()) {
            rows.push(row);
            senders.push(pdu.sender());
        }
    }
    if !rows.is_empty() {
        RelationRow::sent_by(&mut rows, store, &senders).await?;
    }
    Ok(rows)
}

fn relationships(write: &RoomWrite) -> Vec<RelationshipRow> {
    let new = write.events.iter();
    let new = new.filter(|event| event.status != Status::Rejected);
    let new = new.map(|event| (event.no, &event.pdu));
    let restored = write.restored.iter().map(|event| (event.no, &event.pdu));
    new.chain(restored)
        .filter_map(|(no, pdu)| RelationshipRow::new(no, write.room, pdu))
        .collect()
}

/// Events of the write or stored ones, as extremities.
async fn extremities(store: &Store, write: &RoomWrite, nos: &[EventNo]) -> Result<Vec<Extremity>> {
    let mut extremities = Vec::with_capacity(nos.len());
    for no in nos {
        if let Some(event) = write.events.iter().find(|event| event.no == *no) {
            extremities.push(extremity(event));
            continue;
        }
        let event = store.event_by_no(*no).await?;
        let event = event.ok_or_else(|| Error::broken("an extremity isn't stored"))?;
        extremities.push(Extremity {
            no: *no,
            event_id: event.pdu.event_id().to_owned(),
            depth: event.pdu.depth(),
        });
    }
    Ok(extremities)
}

pub(super) fn extremity(event: &NewEvent) -> Extremity {
    Extremity {
        no: event.no,
        event_id: event.pdu.event_id().to_owned(),
        depth: event.pdu.depth(),
    }
}

/// Whose memberships these changes are, and what those become; and whether the room's summary is made of any.
async fn member_changes(
    store: &Store,
    write: &RoomWrite,
    changes: &[StateChange],
) -> Result<(Vec<Option<MemberChange>>, bool)> {
    let nos: Vec<_> = changes.iter().map(|change| change.key).collect();
    let keys = store.keys(&nos).await?;
    let summarised = keys.iter().any(|key| is_of_summary(key));
    // A state key that is no user id can't be anybody's membership.
    let users: Vec<Option<&UserId>> = keys
        .iter()
        .map(|key| match key.kind.as_str() {
            "m.room.member" => <&UserId>::try_from(key.key.as_str()).ok(),
            _ => None,
        })
        .collect();
    let memberships = memberships(store, write, changes, &users).await?;
    let named: Vec<&UserId> = users.iter().copied().flatten().collect();
    let servers = numbers_of_servers(store, &named).await?;
    let mut numbers = store.user_nos(&named).await?.into_iter();
    let mut members = Vec::with_capacity(changes.len());
    for (change, user) in changes.iter().zip(users) {
        let Some((user, no)) = user.and_then(|user| Some((user, numbers.next()?))) else {
            members.push(None);
            continue;
        };
        let told = change.new.and_then(|new| memberships.get(&new).copied());
        let server = servers.get(user.server_name()).copied();
        members.push(Some(MemberChange {
            user: no,
            server: server.unwrap_or_default(),
            membership: told.unwrap_or(Membership::Leave),
        }));
    }
    Ok((members, summarised))
}

/// What the events that users' entries change to say of them.
async fn memberships(
    store: &Store,
    write: &RoomWrite,
    changes: &[StateChange],
    users: &[Option<&UserId>],
) -> Result<HashMap<EventNo, Membership>> {
    let own: HashMap<EventNo, &NewEvent> =
        write.events.iter().map(|event| (event.no, event)).collect();
    let mut found = HashMap::new();
    let mut stored = Vec::new();
    for (change, _) in changes.iter().zip(users).filter(|(_, user)| user.is_some()) {
        let Some(no) = change.new else { continue };
        match own.get(&no) {
            Some(event) => found.extend(event.pdu.membership().map(|told| (no, told))),
            None => stored.push(no),
        }
    }
    found.extend(store.memberships_told(&stored).await?);
    Ok(found)
}

/// The numbers of the users' servers, whose names are remembered for [`super::publish`].
async fn numbers_of_servers<'a>(
    store: &Store,
    users: &[&'a UserId],
) -> Result<HashMap<&'a ServerName, ServerNo>> {
    let names: HashSet<&ServerName> = users.iter().map(|user| user.server_name()).collect();
    let names: Vec<&ServerName> = names.into_iter().collect();
    let nos = store.server_nos(&names).await?;
    let remembered = &store.core.caches.server_names;
    for (name, no) in names.iter().zip(&nos) {
        if remembered.get(no).is_none() {
            remembered.insert(*no, (*name).to_owned());
        }
    }
    Ok(names.into_iter().zip(nos).collect())
}

/// For how long the number of a set is believed that was looked up, in milliseconds: sets that nobody uses go
/// (`collect/purge/sets.rs`). By the time of day, as a machine that was asleep has to look again.
const SET_IS_KNOWN: i64 = 3_600_000;

/// The interned set of these servers.
async fn destinations(store: &Store, servers: &[OwnedServerName]) -> Result<SetNo> {
    let now = store.clock().now_ms();
    if let Some((found, at)) = store.core.caches.sets.get(servers)
        && (0..SET_IS_KNOWN).contains(&(now - at))
    {
        return Ok(found);
    }
    let names: Vec<&ServerName> = servers.iter().map(|name| &**name).collect();
    let mut nos = store.server_nos(&names).await?;
    nos.sort();
    nos.dedup();
    let text = json_of(&nos.iter().map(|no| [no]).collect::<Vec<_>>())?;
    let hash = hex(digest(&SHA256, text.as_bytes()).as_ref());
    let find = |store: &Store| {
        store
            .sql("SELECT no FROM destination_set WHERE digest = $1")
            .bind(hash.clone())
    };
    let mut found = store.row(find(store)).await?;
    if found.is_none() {
        intern(store, &nos, &hash).await?;
        found = store.row(find(store)).await?;
    }
    let row =
        found.ok_or_else(|| Error::broken("a destination set was inserted and isn't there"))?;
    let set: SetNo = row.get("no")?;
    let (key, weight) = (Arc::from(servers), servers.len());
    let cache = &store.core.caches.sets;
    cache.insert_weighing(key, (set, now), weight);
    Ok(set)
}

rows! {
    struct Member {
        server: ServerNo,
    }
}

/// Writes a set of destinations down, unless somebody was faster. (Its column `servers` is read by nobody any more.)
async fn intern(store: &Store, servers: &[ServerNo], hash: &str) -> Result<()> {
    let no = store.next_set_no().await?;
    let mut tx = store.begin().await?;
    let query = tx
        .sql(
            "INSERT INTO destination_set (no, digest, servers) VALUES ($1, $2, '[]') \
             ON CONFLICT (digest) DO NOTHING",
        )
        .bind(no)
        .bind(hash);
    if tx.execute(query).await? == 0 {
        tx.rollback().await;
        return Ok(());
    }
    let members: Vec<Member> = servers
        .iter()
        .map(|server| Member { server: *server })
        .collect();
    let query = tx
        .sql("INSERT INTO set_member (server, set_no) SELECT server, $2 FROM ROWS($1) AS x")
        .rows(&members)
        .bind(no);
    tx.execute(query).await?;
    tx.commit().await?;
    Ok(())
}
