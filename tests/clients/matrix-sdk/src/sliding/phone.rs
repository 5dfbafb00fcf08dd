//! A device that follows its account as an app does.

use std::{
    pin::pin,
    sync::{Arc, Mutex, PoisonError},
};

use anyhow::{Context as _, Result, bail, ensure};
use futures_util::StreamExt as _;
use matrix_sdk::{
    Client, Room,
    ruma::{EventId, OwnedEventId, RoomId, UserId, events::room::message::RoomMessageEventContent},
};
use matrix_sdk_ui::{
    eyeball_im::Vector,
    room_list_service::{RoomListItem, filters::new_filter_non_left},
    sync_service::{State, SyncService},
    timeline::{RoomExt as _, Timeline},
};
use tokio::{
    task::JoinHandle,
    time::{Instant, timeout_at},
};

use crate::people::{LOOK_AGAIN, PATIENCE, log_in};

/// More rooms than a story makes.
const PAGE: usize = 200;

/// A device, and what its list of rooms shows.
pub struct Phone {
    pub client: Client,
    pub service: Arc<SyncService>,
    shown: Arc<Mutex<Vector<RoomListItem>>>,
    task: JoinHandle<()>,
}

impl Drop for Phone {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Phone {
    /// Logs in, and follows the account from then on.
    pub async fn log_in(server: &str, name: &str) -> Result<Self> {
        let client = log_in(server, name).await?;
        client.event_cache().subscribe()?;
        let service = Arc::new(SyncService::builder(client.clone()).build().await?);
        service.start().await;
        let list = service.room_list_service().all_rooms().await?;
        let shown = Arc::new(Mutex::new(Vector::new()));
        let rooms = Arc::clone(&shown);
        let task = tokio::spawn(async move {
            let (entries, controller) = list.entries_with_dynamic_adapters(PAGE);
            controller.set_filter(Box::new(new_filter_non_left()));
            let mut entries = pin!(entries);
            while let Some(changes) = entries.next().await {
                let mut rooms = rooms.lock().unwrap_or_else(PoisonError::into_inner);
                for change in changes {
                    change.apply(&mut rooms);
                }
            }
        });
        Ok(Self {
            client,
            service,
            shown,
            task,
        })
    }

    /// Stops following, and logs out.
    pub async fn log_out(self) -> Result<()> {
        self.service.stop().await;
        self.client.logout().await?;
        Ok(())
    }

    pub fn user(&self) -> &UserId {
        self.client.user_id().expect("logged in")
    }

    /// A room that the list of rooms shows.
    pub fn room(&self, id: &RoomId) -> Result<Room> {
        let shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        let room = shown.iter().find(|room| room.room_id() == id);
        Ok((**room.context("the list of rooms doesn't show it")?).clone())
    }

    /// How many rooms the list shows.
    pub fn rooms(&self) -> usize {
        let shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        shown.len()
    }

    /// What a room's timeline holds; opening a room subscribes to it.
    pub async fn open(&self, id: &RoomId) -> Result<Timeline> {
        let list = self.service.room_list_service();
        list.subscribe_to_rooms(&[id]).await;
        Ok(self.room(id)?.timeline().await?)
    }

    pub async fn say(&self, id: &RoomId, text: &str) -> Result<OwnedEventId> {
        let message = RoomMessageEventContent::text_plain(text);
        Ok(self.room(id)?.send(message).await?.response.event_id)
    }

    /// Looks after every update, and now and then, until the check succeeds. Its error says why not yet.
    pub async fn until<T>(&self, what: &str, check: impl AsyncFn() -> Result<T>) -> Result<T> {
        let deadline = Instant::now() + PATIENCE;
        let mut updates = self.client.subscribe_to_all_room_updates();
        loop {
            let state = self.service.state().get();
            if let State::Error(why) = state {
                bail!("{} can't sync: {why}", self.user());
            }
            let why = match check().await {
                Ok(it) => return Ok(it),
                Err(why) => why,
            };
            if Instant::now() > deadline {
                bail!(
                    "{} didn't get {what} within {PATIENCE:?}: {why:#}",
                    self.user()
                );
            }
            let _ = timeout_at(Instant::now() + LOOK_AGAIN, updates.recv()).await;
        }
    }

    /// Waits until a timeline shows a message once, and it can be read.
    pub async fn reads(&self, timeline: &Timeline, id: &EventId, wanted: &str) -> Result<()> {
        let shown = async || {
            let items = timeline.items().await;
            let events = items.iter().filter_map(|item| item.as_event());
            let found: Vec<_> = events
                .filter(|event| event.event_id() == Some(id))
                .collect();
            ensure!(found.len() == 1, "it is shown {} times", found.len());
            let message = found[0].content().as_message();
            let body = message.context("it can't be read")?.body();
            ensure!(body == wanted, "it says “{body}”");
            Ok(())
        };
        self.until(&format!("the message “{wanted}”"), shown).await
    }
}
