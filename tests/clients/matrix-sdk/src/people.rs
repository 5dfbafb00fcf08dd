//! People with accounts made for a story, and the devices that they log in with.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use matrix_sdk::{
    Client, Room,
    config::SyncSettings,
    deserialized_responses::EncryptionInfo,
    encryption::{BackupDownloadStrategy, EncryptionSettings},
    room::MessagesOptions,
    ruma::{
        EventId, OwnedEventId, RoomId, UserId,
        api::client::{
            account::register,
            uiaa::{AuthData, Dummy},
        },
        assign,
        events::{
            AnySyncMessageLikeEvent, AnySyncTimelineEvent, SyncMessageLikeEvent,
            room::{member::MembershipState, message::RoomMessageEventContent},
        },
        uint,
    },
    sync::SyncResponse,
};
use tokio::{
    sync::watch,
    task::JoinHandle,
    time::{Instant, timeout_at},
};

const PASSWORD: &str = "correct horse battery staple";
/// How long anything may take to arrive.
pub const PATIENCE: Duration = Duration::from_secs(30);
/// What a client does beside its syncs (uploads, downloads, imports) tells nobody: look again.
pub const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// Makes an account.
pub async fn register(server: &str, name: &str) -> Result<()> {
    let client = Client::builder().homeserver_url(server).build().await?;
    let account = assign!(register::v3::Request::new(), {
        username: Some(name.to_owned()),
        password: Some(PASSWORD.to_owned()),
        auth: Some(AuthData::Dummy(Dummy::new())),
        inhibit_login: true,
    });
    client.send(account).await?;
    Ok(())
}

/// Logs in with the account's password, as a new device.
pub async fn log_in(server: &str, name: &str) -> Result<Client> {
    let encryption = EncryptionSettings {
        backup_download_strategy: BackupDownloadStrategy::OneShot,
        ..EncryptionSettings::default()
    };
    let client = Client::builder()
        .homeserver_url(server)
        .with_encryption_settings(encryption)
        .build()
        .await?;
    client
        .matrix_auth()
        .login_username(name, PASSWORD)
        .initial_device_display_name("Example")
        .await?;
    Ok(client)
}

pub async fn say(room: &Room, text: &str) -> Result<OwnedEventId> {
    let message = RoomMessageEventContent::text_plain(text);
    Ok(room.send(message).await?.response.event_id)
}

/// What a message says.
pub fn text(event: &AnySyncTimelineEvent) -> Option<&str> {
    match event {
        AnySyncTimelineEvent::MessageLike(AnySyncMessageLikeEvent::RoomMessage(
            SyncMessageLikeEvent::Original(message),
        )) => Some(message.content.body()),
        _ => None,
    }
}

/// All that this person can read of the room, oldest first, page by page; how many pages it was.
pub async fn history(room: &Room) -> Result<(Vec<AnySyncTimelineEvent>, usize)> {
    let (mut events, mut pages, mut from) = (Vec::new(), 0, None);
    loop {
        let mut options = MessagesOptions::backward().from(from.as_deref());
        options.limit = uint!(10);
        let page = room.messages(options).await?;
        pages += 1;
        for event in &page.chunk {
            events.push(event.raw().deserialize()?);
        }
        match page.end {
            Some(end) => from = Some(end),
            None => break,
        }
    }
    events.reverse();
    Ok((events, pages))
}

/// How a device's syncs go.
#[derive(Clone)]
enum Syncing {
    Goes,
    Failed(String),
}

/// A device that somebody is logged in with, and that syncs all the time.
pub struct Device {
    pub client: Client,
    syncing: watch::Receiver<Syncing>,
    told: Arc<Mutex<Vec<OwnedEventId>>>,
    task: JoinHandle<()>,
}

impl Drop for Device {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Device {
    /// Logs in, and syncs from then on.
    pub async fn log_in(server: &str, name: &str) -> Result<Self> {
        let client = log_in(server, name).await?;
        client.sync_once(SyncSettings::default()).await?;
        let (tell, syncing) = watch::channel(Syncing::Goes);
        let told = Arc::new(Mutex::new(Vec::new()));
        let (syncs, events) = (client.clone(), Arc::clone(&told));
        let task = tokio::spawn(async move {
            // The library's own loop waits a second between two syncs.
            loop {
                match syncs
                    .sync_once(SyncSettings::default().timeout(PATIENCE))
                    .await
                {
                    Ok(answer) => {
                        events.lock().expect("never poisoned").extend(ids(&answer));
                        tell.send_replace(Syncing::Goes);
                    }
                    Err(error) => {
                        tell.send_replace(Syncing::Failed(error.to_string()));
                        break;
                    }
                }
            }
        });
        Ok(Self {
            client,
            syncing,
            told,
            task,
        })
    }

    pub fn user(&self) -> &UserId {
        self.client.user_id().expect("logged in")
    }

    pub fn room(&self, room: &RoomId) -> Result<Room> {
        let room = self.client.get_room(room);
        room.context("this client doesn't know the room")
    }

    /// Looks after every sync, and now and then, until the check succeeds. Its error says why not yet.
    pub async fn until<T>(&self, what: &str, check: impl AsyncFn() -> Result<T>) -> Result<T> {
        let deadline = Instant::now() + PATIENCE;
        let mut syncing = self.syncing.clone();
        loop {
            if let Syncing::Failed(why) = syncing.borrow_and_update().clone() {
                bail!("{} can't sync: {why}", self.user());
            }
            let why = match check().await {
                Ok(it) => return Ok(it),
                Err(why) => why,
            };
            if Instant::now() > deadline {
                let who = self.user();
                bail!("{who} didn't get {what} within {PATIENCE:?}: {why:#}");
            }
            let _ = timeout_at(Instant::now() + LOOK_AGAIN, syncing.changed()).await;
        }
    }

    /// Invites somebody, who joins; the host and others come to know.
    pub async fn bring_in(&self, room: &RoomId, guest: &Self, others: &[&Self]) -> Result<()> {
        let id = guest.user();
        self.room(room)?.invite_user_by_id(id).await?;
        let join = async || Ok(guest.room(room)?.join().await?);
        guest.until("an invite that can be accepted", join).await?;
        for device in [guest, self].iter().chain(others) {
            device.until_member(room, id, MembershipState::Join).await?;
        }
        Ok(())
    }

    /// Waits until somebody's membership is known.
    pub async fn until_member(
        &self,
        room: &RoomId,
        user: &UserId,
        wanted: MembershipState,
    ) -> Result<()> {
        let what = format!("the news that the membership of {user} is “{wanted}”");
        let known = async || {
            let member = self.room(room)?.get_member_no_sync(user).await?;
            match member.context("no member")?.membership() {
                known if *known == wanted => Ok(()),
                known => bail!("it is “{known}”"),
            }
        };
        self.until(&what, known).await
    }

    /// Waits until a sync has brought a message, and it can be decrypted; how it was encrypted.
    pub async fn reads(&self, room: &RoomId, id: &EventId, wanted: &str) -> Result<EncryptionInfo> {
        let what = format!("the message “{wanted}”");
        let told = async || {
            let told = self.told.lock().expect("never poisoned");
            let told = told.iter().any(|known| known == id);
            told.then_some(()).context("no sync has brought it")
        };
        self.until(&what, told).await?;
        self.finds(room, id, wanted).await
    }

    /// Waits until a message can be decrypted, be it from before the time of this device.
    pub async fn finds(&self, room: &RoomId, id: &EventId, wanted: &str) -> Result<EncryptionInfo> {
        let what = format!("what decrypts the message “{wanted}”");
        let found = async || self.decrypted(room, id, wanted).await;
        self.until(&what, found).await
    }

    /// A message, decrypted.
    pub async fn decrypted(
        &self,
        room: &RoomId,
        id: &EventId,
        wanted: &str,
    ) -> Result<EncryptionInfo> {
        let event = self.room(room)?.event(id, None).await?;
        let content = event.raw().deserialize()?;
        match (event.encryption_info(), text(&content)) {
            (Some(info), Some(text)) if text == wanted => Ok(EncryptionInfo::clone(info)),
            (Some(_), other) => bail!("it is {other:?}"),
            (None, None) => bail!("it can't be decrypted: {:?}", event.kind),
            (None, Some(_)) => bail!("it is not encrypted"),
        }
    }
}

/// The events of all timelines.
fn ids(answer: &SyncResponse) -> Vec<OwnedEventId> {
    let rooms = answer.rooms.joined.values();
    let events = rooms.flat_map(|room| &room.timeline.events);
    events.filter_map(|event| event.event_id()).collect()
}
