//! What isn't in the log: who types, and who is there.

use std::{collections::BTreeSet, sync::Arc};

use rhizome_storage::{RoomNo, UserNo};
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;

use super::{interest::Interest, queue::Queue};
use crate::{App, MatrixError};

/// Who is to hear of it.
pub struct Heard {
    pub app: App,
    /// What the reader of the log knows of interests.
    pub interest: Arc<Mutex<Interest>>,
    /// Of each service.
    pub queues: Vec<Arc<Queue>>,
    pub stop: CancellationToken,
}

/// What has changed.
enum Change {
    Typing(Vec<RoomNo>),
    Presence(BTreeSet<UserNo>),
}

impl Heard {
    /// Follows it until `stop`.
    pub async fn follow(self) {
        let store = &self.app.store;
        if store.has_presence() {
            store.presence().watch_all(true);
        }
        let mut typing = store.ephemeral().changes();
        let mut changes = *typing.borrow_and_update();
        while !self.stop.is_cancelled() {
            let change = tokio::select! {
                moved = typing.changed() => {
                    // The store has gone.
                    if moved.is_err() {
                        return;
                    }
                    let (upto, rooms) = store.ephemeral().changed_since(changes);
                    changes = upto;
                    Change::Typing(rooms)
                }
                users = store.presence().changed_users() => Change::Presence(users),
                () = self.stop.cancelled() => break,
            };
            // What can't be told now isn't worth telling later.
            if let Err(error) = self.tell(change).await {
                tracing::warn!(error = %error.message, "application services aren't told who types, or who is there");
            }
        }
        store.presence().watch_all(false);
    }

    async fn tell(&self, change: Change) -> Result<(), MatrixError> {
        let store = &self.app.store;
        let mut interest = self.interest.lock().await;
        // How far the log was looked at.
        let at = self.queues.first().map(|queue| queue.seen());
        let at = at.unwrap_or_default();
        let services = interest.hearers().services.iter();
        let hears: Vec<bool> = services.map(|service| service.receive_ephemeral).collect();
        let to = |place: usize, tell: &dyn Fn(&Queue)| {
            if let (Some(true), Some(queue)) = (hears.get(place), self.queues.get(place)) {
                tell(queue);
            }
        };
        match change {
            Change::Typing(rooms) => {
                for room in rooms {
                    for place in interest.of_rooms(&[room], at).await? {
                        to(place, &|queue| queue.types(room));
                    }
                }
            }
            Change::Presence(users) => {
                for user in users {
                    let name = store.user(user).await?;
                    let rooms = store.presence().rooms_of(user);
                    let mut places = interest.of_rooms(&rooms, at).await?;
                    places.extend(interest.of_user(&name).iter());
                    places.sort_unstable();
                    places.dedup();
                    for place in places {
                        to(place, &|queue| queue.sees(user));
                    }
                }
            }
        }
        Ok(())
    }
}
