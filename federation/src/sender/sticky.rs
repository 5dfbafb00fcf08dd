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

/// How far a destination has been told of the rooms that it comes into.
///
/// The events of rooms that it comes into in one stretch of the log are told in the order of their positions, whatever
/// their rooms. Who comes into a room after that stretch may have missed earlier ones: that room is of a later stretch,
/// which begins at the first event again.
#[derive(Debug, Default)]
pub(super) struct Newcomer {
    /// Of rooms that it came into up to here everything is told.
    done: Pos,
    /// The stretch that is being told of ends here, and up to where its events are told.
    run: Option<(Pos, Pos)>,
}

impl Newcomer {
    /// The stretch with `after < came ≤ upto` to look at and the position after which its events aren't told, for
    /// a destination that is up to date up to `sent`, where the log is known up to `head`. `None`: there is none left.
    fn stretch(&mut self, sent: Pos, head: Pos) -> Option<((Pos, Pos), Pos)> {
        let after = self.done.max(sent);
        let (upto, told) = *self.run.get_or_insert((head, Pos(0)));
        if after >= upto {
            self.over(upto);
            return (after < head).then(|| self.stretch(sent, head)).flatten();
        }
        Some(((after, upto), told))
    }

    fn over(&mut self, upto: Pos) {
        self.done = self.done.max(upto);
        self.run = None;
    }

    /// These have been told.
    pub(super) fn told(&mut self, events: &[(Pos, Arc<StoredEvent>)]) {
        if let Some((last, _)) = events.last() {
            self.told_upto(*last);
        }
    }

    fn told_upto(&mut self, last: Pos) {
        if let Some((_, told)) = &mut self.run {
            *told = last.max(*told);
        }
    }
}

/// The next of our events that are sticky in rooms which the destination has come into after `sent` and up to `head`,
/// from before it came.
pub(super) async fn gather(
    fed: &Federation,
    to: &ServerName,
    newcomer: &mut Newcomer,
    (sent, head): (Pos, Pos),
    most: usize,
) -> Result<Vec<(Pos, Arc<StoredEvent>)>, Error> {
    let ours = fed.server_name();
    while let Some((span, told)) = newcomer.stretch(sent, head) {
        let found = fed
            .store()
            .sticky_for_newcomer(to, ours, span, told, most)
            .await?;
        if !found.is_empty() {
            return Ok(found);
        }
        newcomer.over(span.1);
    }
    Ok(Vec::new())
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
            let refused = store.sticky_of(&members, true, now, MOST).await?;
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

#[cfg(test)]
mod tests {
    use super::*;

    /// While it is told of what is sticky in one room, it comes into another, where that was sent before.
    #[test]
    fn each_stretch_is_told_from_its_first_event() {
        let mut newcomer = Newcomer::default();
        let first = Some(((Pos(10), Pos(100)), Pos(0)));
        assert_eq!(newcomer.stretch(Pos(10), Pos(100)), first);
        newcomer.told_upto(Pos(90));
        // The log goes on, and the stretch stays what it was.
        let rest = Some(((Pos(10), Pos(100)), Pos(90)));
        assert_eq!(newcomer.stretch(Pos(10), Pos(200)), rest);
        newcomer.over(Pos(100));
        let second = Some(((Pos(100), Pos(200)), Pos(0)));
        assert_eq!(newcomer.stretch(Pos(10), Pos(200)), second);
        newcomer.over(Pos(200));
        assert_eq!(newcomer.stretch(Pos(10), Pos(200)), None);
        // What was looked at isn't again, whether the log was sent up to there or not.
        let third = Some(((Pos(200), Pos(250)), Pos(0)));
        assert_eq!(newcomer.stretch(Pos(150), Pos(250)), third);
        newcomer.told_upto(Pos(30));
        let fourth = Some(((Pos(260), Pos(300)), Pos(0)));
        assert_eq!(newcomer.stretch(Pos(260), Pos(300)), fourth);
    }
}
