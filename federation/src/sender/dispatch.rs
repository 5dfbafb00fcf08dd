//! The sender's part that reads the log: which destinations have something to get.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use rhizome_protocol::Membership;
use rhizome_storage::{
    Directive, EntryKind, Error, Failure, Lease, LiveEvent, LogWork, Logged, Pos, Store,
    StoredEvent, Stretch, UserNo,
};
use ruma::OwnedServerName;

use super::{queues::Beside, sticky::Watched};
use crate::Federation;

/// Wakes the destinations that the log has something for.
pub(super) struct Dispatch(pub(super) Federation);

impl LogWork for Dispatch {
    /// The destinations have cursors of their own.
    const KEEPS_CURSOR: bool = false;

    /// What the destinations haven't got, the database says at once.
    async fn begin(&self, lease: &Lease, _done: Pos) -> Result<Pos, Failure> {
        let Self(fed) = self;
        super::workers::flush(fed).await?;
        fed.sender().lead(lease);
        let head = fed.store().log().head();
        look_at_everything(fed, head).await?;
        Ok(head)
    }

    async fn work(&self, stretch: &Stretch) -> Result<(), Failure> {
        Ok(look_at(&self.0, stretch).await?)
    }
}

/// Wakes every destination that isn't up to date.
async fn look_at_everything(fed: &Federation, upto: Pos) -> Result<(), Error> {
    let events = fed.store().destinations_behind().await?;
    let receipts = fed
        .store()
        .destinations_behind_in_receipts(fed.server_name())
        .await?;
    let to_device = fed.store().destinations_behind_to_device().await?;
    let lists = fed
        .store()
        .destinations_behind_in_devices(fed.server_name())
        .await?;
    let all = events.iter().chain(&receipts).chain(&to_device);
    let all = all.chain(&lists);
    let others = all.filter(|name| **name != fed.server_name());
    let news = others.map(|name| (name, Beside::default()));
    fed.sender().looked_at(upto, news);
    Ok(())
}

/// Whether this is the event of a member who has come into the room since, and not of a change of their profile.
async fn has_come(store: &Store, event: &StoredEvent, after: Pos) -> Result<bool, Error> {
    if event.pdu.membership() != Some(Membership::Join) {
        return Ok(false);
    }
    let member = store.user_no(event.pdu.sender()).await?;
    let row = store.membership(member, event.room).await?;
    Ok(row.is_some_and(|row| row.membership == Membership::Join && row.since > after))
}

/// Does what an operator wants about a destination. In the database it is done.
fn obey(fed: &Federation, directive: &Logged<Directive>) {
    let Directive { server, forgets } = &directive.fact;
    if *forgets {
        fed.sender().let_go(server, directive.pos);
    } else {
        fed.outbound().look_again(server);
        fed.keys().try_again(server);
        fed.sender().try_again(server);
    }
}

/// Wakes the destinations for which these new log entries have something.
async fn look_at(fed: &Federation, stretch: &Stretch) -> Result<(), Error> {
    let store = fed.store();
    let mut members_changed = false;
    let mut rooms = HashSet::new();
    let mut changed: BTreeSet<UserNo> = BTreeSet::new();
    let mut news: BTreeMap<OwnedServerName, Beside> = BTreeMap::new();
    let mut tell = |server: &OwnedServerName, beside| {
        let known = news.entry(server.clone()).or_insert(Beside::NOTHING);
        known.add(beside);
    };
    let mut watched = Watched::default();
    for entry in &stretch.entries {
        watched.note(fed, &entry.kind);
        match &entry.kind {
            // Who just left or is merely invited isn't among the room's servers; and such events of
            // other servers' users may have come through us.
            EntryKind::Event(LiveEvent { event, .. }) if event.pdu.membership().is_some() => {
                members_changed = true;
                // Who comes into a room shows their devices to servers that may not know them.
                if fed.rooms().is_local(event.pdu.sender())
                    && has_come(store, event, stretch.after).await?
                {
                    for server in store.joined_servers(event.room).await?.iter() {
                        tell(server, Beside::LISTS);
                    }
                }
            }
            EntryKind::DeviceList(list) if fed.rooms().is_local(&store.user(list.user).await?) => {
                changed.insert(list.user);
            }
            EntryKind::Event(LiveEvent { room, event })
                if fed.rooms().is_local(event.pdu.sender()) && rooms.insert(*room) =>
            {
                for server in store.joined_servers(*room).await?.iter() {
                    tell(server, Beside::NOTHING);
                }
            }
            EntryKind::Receipt(receipt)
                if receipt.is_public()
                    && fed.rooms().is_local(&store.user(receipt.user).await?) =>
            {
                for server in store.joined_servers(receipt.room).await?.iter() {
                    tell(server, Beside::RECEIPTS);
                }
            }
            EntryKind::ToDeviceOut(out) => tell(&out.server, Beside::TO_DEVICE),
            EntryKind::Directive(directive) => obey(fed, directive),
            _ => {}
        }
    }
    for server in watched.act(fed).await? {
        let sticky = Beside {
            sticky: true,
            ..Beside::NOTHING
        };
        tell(&server, sticky);
    }
    let changed: Vec<UserNo> = changed.into_iter().collect();
    for server in store.servers_sharing_with(&changed).await? {
        tell(&server, Beside::LISTS);
    }
    if members_changed {
        for server in store.destinations_after(stretch.after).await? {
            tell(&server, Beside::NOTHING);
        }
    }
    let news = news.iter().map(|(name, beside)| (name, *beside));
    let others = news.filter(|(name, _)| **name != fed.server_name());
    fed.sender().looked_at(stretch.upto, others);
    Ok(())
}
