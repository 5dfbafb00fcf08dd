//! What the log says has changed of people.

use std::collections::{BTreeSet, HashSet};

use rhizome_protocol::Membership;
use ruma::{OwnedEventId, ServerName};

use crate::{EntryKind, EventNo, KeyNo, Result, RoomNo, Store, Stretch, UserNo};

/// What has to be made anew.
#[derive(Debug, Default)]
pub(super) struct Touched {
    pub(super) users: BTreeSet<UserNo>,
    /// Of these, who may be of other servers, only in these rooms: they may be in very many.
    pub(super) moved: BTreeSet<UserNo>,
    pub(super) moved_in: BTreeSet<RoomNo>,
    /// All members of these rooms, as they have come at once.
    pub(super) rooms: BTreeSet<RoomNo>,
    /// Who may look into these rooms may have changed.
    pub(super) doors: BTreeSet<RoomNo>,
    /// Into these rooms somebody here has come.
    pub(super) joined: BTreeSet<RoomNo>,
    /// Of these somebody here isn't a member any more.
    pub(super) left: BTreeSet<RoomNo>,
    /// These events say something else than they did.
    pub(super) events: BTreeSet<EventNo>,
}

/// What decides who may look into a room.
const DOORS: [(&str, &str); 2] = [("m.room.join_rules", ""), ("m.room.history_visibility", "")];

/// The same, as the log says it.
pub(super) async fn door_keys(store: &Store) -> Result<HashSet<KeyNo>> {
    let keys = store.known_keys(&DOORS).await?;
    Ok(keys.into_iter().flatten().collect())
}

impl Touched {
    /// What a stretch of the log touches.
    pub(super) async fn by(store: &Store, here: &ServerName, stretch: &Stretch) -> Result<Self> {
        let doors = door_keys(store).await?;
        // What a room begins with.
        let created = store.known_keys(&[("m.room.create", "")]).await?;
        let mut touched = Self::default();
        let mut ours: BTreeSet<UserNo> = BTreeSet::new();
        let mut redacted: Vec<OwnedEventId> = Vec::new();
        let mut moved = Vec::new();
        for entry in &stretch.entries {
            match &entry.kind {
                EntryKind::State(state) => {
                    if let Some((user, membership)) = state.member {
                        touched.moved.insert(user);
                        touched.moved_in.insert(state.room);
                        moved.push((user, state.room, membership == Membership::Join));
                    } else if created.contains(&Some(state.key)) {
                        touched.rooms.insert(state.room);
                    } else if doors.contains(&state.key) {
                        touched.doors.insert(state.room);
                    }
                }
                EntryKind::Event(live) => {
                    redacted.extend(live.event.pdu.redacts().map(ToOwned::to_owned));
                }
                EntryKind::Restored(restored) => {
                    touched.events.insert(restored.event);
                }
                EntryKind::Profile(changed) => {
                    if matches!(changed.field.as_str(), "displayname" | "avatar_url") {
                        touched.users.insert(changed.user);
                    }
                }
                EntryKind::MembersKnown(known) => {
                    touched.rooms.insert(known.room);
                }
                // Accounts that come without a device say so by this.
                EntryKind::ProfileSpread(spread) => {
                    touched.users.insert(spread.user);
                }
                // Others come and go with their devices.
                EntryKind::DeviceList(list) => {
                    ours.insert(list.user);
                }
                _ => {}
            }
        }
        ours.extend(moved.iter().map(|(user, ..)| *user));
        let all: Vec<UserNo> = ours.into_iter().collect();
        let names = store.users(&all).await?;
        let local: HashSet<UserNo> = all
            .into_iter()
            .zip(names)
            .filter(|(_, name)| name.server_name() == here)
            .map(|(user, _)| user)
            .collect();
        touched.users.extend(local.iter().copied());
        for (_, room, joined) in moved.iter().filter(|(user, ..)| local.contains(user)) {
            let rooms = if *joined {
                &mut touched.joined
            } else {
                &mut touched.left
            };
            rooms.insert(*room);
        }
        touched
            .events
            .extend(store.event_nos(&redacted).await?.into_values());
        Ok(touched)
    }
}
