//! Sticky events of ours for servers that come into a room while they are so
//! ([MSC4354](https://github.com/matrix-org/matrix-spec-proposals/pull/4354)), and those that a room's state allows
//! after all.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    sync::Arc,
};

use rhizome_protocol::Membership;
use rhizome_rooms::receive::look_again_at_sticky;
use rhizome_storage::{EntryKind, Error, LiveEvent, Pos, RoomNo, StoredEvent, UserNo};
use ruma::{OwnedServerName, ServerName};

use crate::Federation;

/// How many refused events are looked at again for one stretch of the log.
const MOST: usize = 500;

/// The first of our events that are sticky in rooms which the destination has come into with `after < pos ≤ upto`,
/// from before it came. Told to be so after `told`.
pub(super) async fn gather(
    fed: &Federation,
    to: &ServerName,
    (after, upto, told): (Pos, Pos, Pos),
    most: usize,
) -> Result<Vec<(Pos, Arc<StoredEvent>)>, Error> {
    let ours = fed.server_name();
    let found = fed
        .store()
        .sticky_for_newcomer(to, ours, (after, upto), told, most)
        .await?;
    Ok(found)
}

/// What some entries of the log mean for sticky events.
#[derive(Default)]
pub(super) struct Watched {
    /// By room, servers whose users came into it.
    came: HashMap<RoomNo, BTreeSet<OwnedServerName>>,
    /// Whose memberships changed.
    members: HashSet<(RoomNo, UserNo)>,
}

impl Watched {
    pub(super) fn note(&mut self, fed: &Federation, entry: &EntryKind) {
        match entry {
            EntryKind::Event(LiveEvent { room, event })
                if event.pdu.membership() == Some(Membership::Join)
                    && !fed.rooms().is_local(event.pdu.sender()) =>
            {
                let server = event.pdu.sender().server_name().to_owned();
                self.came.entry(*room).or_default().insert(server);
            }
            EntryKind::State(state) => {
                self.members
                    .extend(state.member.map(|(user, _)| (state.room, user)));
            }
            _ => {}
        }
    }

    /// Lets the rooms' states be asked again about what was refused. Gives the servers for which there may be something.
    pub(super) async fn act(self, fed: &Federation) -> Result<BTreeSet<OwnedServerName>, Error> {
        let store = fed.store();
        let now = store.clock().now_ms();
        if !self.members.is_empty() {
            let members: Vec<_> = self.members.into_iter().collect();
            let refused = store.refused_sticky_of(&members, now, MOST).await?;
            if let Err(error) = look_again_at_sticky(fed.rooms(), &refused).await {
                tracing::warn!(%error, "sticky events that were refused can't be looked at again");
            }
        }
        if self.came.is_empty() {
            return Ok(BTreeSet::new());
        }
        let rooms: Vec<RoomNo> = self.came.keys().copied().collect();
        let with = store.rooms_with_sticky(&rooms, now).await?;
        let servers = with.iter().filter_map(|room| self.came.get(room)).flatten();
        Ok(servers.cloned().collect())
    }
}
