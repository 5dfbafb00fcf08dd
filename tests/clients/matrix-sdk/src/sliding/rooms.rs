//! What people see of their rooms.

use anyhow::{Context as _, Result, bail, ensure};
use matrix_sdk::{
    RoomState,
    ruma::{
        OwnedRoomId, RoomId,
        api::client::{
            receipt::create_receipt::v3::ReceiptType,
            room::create_room::{self, v3::RoomPreset},
        },
        assign,
        events::{InitialStateEvent, room::encryption::RoomEncryptionEventContent},
    },
};
use matrix_sdk_ui::{
    notification_client::{NotificationClient, NotificationProcessSetup, NotificationStatus},
    timeline::RoomExt as _,
};

use super::phone::Phone;

/// Rooms of somebody who has many: more than a first answer shows.
const MANY: usize = 45;

async fn make(host: &Phone, name: &str, encrypted: bool) -> Result<OwnedRoomId> {
    let encryption = RoomEncryptionEventContent::with_recommended_defaults();
    let encryption = InitialStateEvent::with_empty_state_key(encryption).to_raw_any();
    let room = assign!(create_room::v3::Request::new(), {
        name: Some(name.to_owned()),
        preset: Some(RoomPreset::PrivateChat),
        initial_state: if encrypted { vec![encryption] } else { vec![] },
    });
    let room = host.client.create_room(room).await?;
    Ok(room.room_id().to_owned())
}

async fn joined(phone: &Phone, id: &RoomId) -> Result<()> {
    let joined = async || {
        let room = phone.room(id)?;
        ensure!(
            room.state() == RoomState::Joined,
            "it is {:?}",
            room.state()
        );
        Ok(())
    };
    phone.until("the room that is joined", joined).await
}

/// An encrypted room comes into the list with its name; who is invited joins; both read each other.
pub async fn both_talk(alice: &Phone, bob: &Phone) -> Result<OwnedRoomId> {
    let garden = make(alice, "Garden", true).await?;
    let shown = async || {
        let room = alice.room(&garden)?;
        let name = room.display_name().await?.to_string();
        ensure!(name == "Garden", "it is called “{name}”");
        let state = room.encryption_state();
        ensure!(state.is_encrypted(), "it is {state:?}");
        Ok(())
    };
    alice.until("the room that she made", shown).await?;
    alice.room(&garden)?.invite_user_by_id(bob.user()).await?;
    let invited = async || {
        let room = bob.room(&garden)?;
        let state = room.state();
        ensure!(state == RoomState::Invited, "it is {state:?}");
        room.join().await?;
        Ok(())
    };
    bob.until("an invite that can be accepted", invited).await?;
    joined(bob, &garden).await?;
    let both = async || {
        let members = alice.room(&garden)?.joined_members_count();
        ensure!(members == 2, "there are {members} members");
        Ok(())
    };
    alice.until("both in the room", both).await?;
    let alices = alice.open(&garden).await?;
    let bobs = bob.open(&garden).await?;
    for (speaker, text) in [(alice, "Welcome, Bob!"), (bob, "Glad to be here.")] {
        let said = speaker.say(&garden, text).await?;
        alice.reads(&alices, &said, text).await?;
        bob.reads(&bobs, &said, text).await?;
    }
    Ok(garden)
}

/// What a push names can be fetched by itself, and read.
pub async fn is_notified(alice: &Phone, bob: &Phone, garden: &RoomId) -> Result<()> {
    let sync_service = bob.service.clone();
    let setup = NotificationProcessSetup::SingleProcess { sync_service };
    let notifications = NotificationClient::new(bob.client.clone(), setup).await?;
    let said = alice.say(garden, "Are you there?").await?;
    let found = async || match notifications.get_notification(garden, &said).await? {
        NotificationStatus::Event(_) => Ok(()),
        NotificationStatus::EventNotFound => bail!("it isn't found"),
        NotificationStatus::EventFilteredOut => bail!("it is filtered out"),
        NotificationStatus::EventRedacted => bail!("it is redacted"),
    };
    bob.until("a notification of “Are you there?”", found).await
}

/// A room says what is unread in it until it is read.
pub async fn counts_what_is_unread(alice: &Phone, bob: &Phone, garden: &RoomId) -> Result<()> {
    let plain = make(alice, "Kitchen", false).await?;
    let shown = async || alice.room(&plain);
    alice.until("the kitchen", shown).await?;
    alice.room(&plain)?.invite_user_by_id(bob.user()).await?;
    let accepted = async || Ok(bob.room(&plain)?.join().await?);
    bob.until("an invite to the kitchen", accepted).await?;
    joined(bob, &plain).await?;
    for text in ["Tea?", "Or coffee?"] {
        alice.say(&plain, text).await?;
    }
    let count = async |wanted| {
        let unread = bob.room(&plain)?.num_unread_notifications();
        ensure!(unread == wanted, "{unread} are unread");
        Ok(())
    };
    bob.until("two unread messages", async || count(2).await)
        .await?;
    let timeline = bob.room(&plain)?.timeline().await?;
    let read = async || {
        ensure!(
            timeline.latest_event_id().await.is_some(),
            "nothing is there"
        );
        timeline.mark_as_read(ReceiptType::Read).await?;
        count(0).await
    };
    bob.until("nothing unread", read).await?;
    // The other room is as it was.
    bob.room(garden)?;
    Ok(())
}

/// Who was away gets what was said meanwhile.
pub async fn comes_back(alice: &Phone, bob: &Phone, garden: &RoomId) -> Result<()> {
    bob.service.stop().await;
    let mut said = Vec::new();
    for number in 0..5 {
        let text = format!("While you were out: {number}");
        said.push((alice.say(garden, &text).await?, text));
    }
    bob.service.start().await;
    let timeline = bob.open(garden).await?;
    for (id, text) in &said {
        bob.reads(&timeline, id, text).await?;
    }
    Ok(())
}

/// A session that the app has dropped begins anew, and nothing is missing or there twice.
pub async fn forgets_its_place(alice: &Phone, bob: &Phone, garden: &RoomId) -> Result<()> {
    bob.service.stop().await;
    bob.service.expire_sessions().await;
    let text = "Said before you began anew";
    let said = alice.say(garden, text).await?;
    bob.service.start().await;
    let timeline = bob.open(garden).await?;
    bob.reads(&timeline, &said, text).await
}

/// A new device of somebody with many rooms comes to show them all.
pub async fn has_many_rooms(alice: &Phone, server: &str) -> Result<()> {
    for number in 0..MANY {
        make(alice, &format!("Room {number}"), false).await?;
    }
    let tablet = Phone::log_in(server, "alice-slides").await?;
    for phone in [&tablet, alice] {
        let all = async || {
            let rooms = phone.rooms();
            ensure!(rooms == MANY + 2, "{rooms} are shown");
            Ok(())
        };
        phone.until("all rooms", all).await?;
    }
    let name = format!("Room {}", MANY / 2);
    let named = tablet.client.joined_rooms();
    let named = named
        .iter()
        .find(|room| room.name().as_deref() == Some(&name));
    named.context("a room has no name")?;
    tablet.log_out().await
}

/// A room that one leaves goes from the list.
pub async fn leaves(alice: &Phone, bob: &Phone, garden: &RoomId) -> Result<()> {
    bob.room(garden)?.leave().await?;
    let gone = async || {
        ensure!(bob.room(garden).is_err(), "it is still shown");
        Ok(())
    };
    bob.until("the room out of the list", gone).await?;
    let alone = async || {
        let members = alice.room(garden)?.joined_members_count();
        ensure!(members == 1, "there are {members} members");
        Ok(())
    };
    alice.until("Bob gone", alone).await
}
