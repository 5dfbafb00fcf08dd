//! Encrypted rooms, and who can read what in them.

use anyhow::{Context as _, Result, bail, ensure};
use matrix_sdk::{
    deserialized_responses::{EncryptionInfo, VerificationState},
    ruma::{
        OwnedEventId, OwnedRoomId, RoomId,
        api::{
            client::room::create_room::{self, v3::RoomPreset},
            error::ErrorKind,
        },
        assign,
        events::{
            InitialStateEvent,
            room::{
                encryption::RoomEncryptionEventContent,
                history_visibility::{HistoryVisibility, RoomHistoryVisibilityEventContent},
                member::MembershipState,
            },
        },
    },
};

use super::{People, verification::until_signed};
use crate::people::{Device, history, say};

/// Messages, and what they say.
pub type Said = Vec<(OwnedEventId, String)>;

async fn encrypted_room(
    host: &Device,
    name: &str,
    visibility: HistoryVisibility,
) -> Result<OwnedRoomId> {
    let encryption = RoomEncryptionEventContent::with_recommended_defaults();
    let visibility = RoomHistoryVisibilityEventContent::new(visibility);
    let room = assign!(create_room::v3::Request::new(), {
        name: Some(name.to_owned()),
        preset: Some(RoomPreset::PrivateChat),
        initial_state: vec![
            InitialStateEvent::with_empty_state_key(encryption).to_raw_any(),
            InitialStateEvent::with_empty_state_key(visibility).to_raw_any(),
        ],
    });
    let room = host.client.create_room(room).await?;
    let id = room.room_id().to_owned();
    let encrypted = async || {
        let state = host.room(&id)?.encryption_state();
        ensure!(state.is_encrypted(), "it is {state:?}");
        Ok(())
    };
    host.until("the room that she made, encrypted", encrypted)
        .await?;
    Ok(id)
}

/// Says something that the listeners get encrypted and can read; the message, and how it was encrypted.
pub async fn say_secretly(
    speaker: &Device,
    room: &RoomId,
    text: &str,
    listeners: &[&Device],
) -> Result<(OwnedEventId, EncryptionInfo)> {
    let id = say(&speaker.room(room)?, text).await?;
    let mut info = speaker.reads(room, &id, text).await?;
    for listener in listeners {
        info = listener.reads(room, &id, text).await?;
        let (listener, speaker) = (listener.user(), speaker.user());
        ensure!(
            info.sender == *speaker,
            "{listener} takes “{text}” of {speaker} for one of {}",
            info.sender
        );
    }
    Ok((id, info))
}

fn session(info: &EncryptionInfo) -> Result<String> {
    let session = info.session_id().context("a message without a session")?;
    Ok(session.to_owned())
}

/// A room of both servers, messages both ways.
pub async fn both_talk(people: &People) -> Result<(OwnedRoomId, Said)> {
    let People { alice, bob, .. } = people;
    let garden = encrypted_room(alice, "Garden", HistoryVisibility::Joined).await?;
    alice.bring_in(&garden, bob, &[]).await?;
    let mut said = Said::new();
    for (speaker, listener, text) in [
        (alice, bob, "Welcome, Bob!"),
        (bob, alice, "Glad to be here."),
    ] {
        let (id, _) = say_secretly(speaker, &garden, text, &[listener]).await?;
        said.push((id, text.to_owned()));
    }
    for (device, other) in [(alice, bob), (bob, alice)] {
        until_signed(device, other).await?;
    }
    Ok((garden, said))
}

/// Carol comes later and reads what is said from then on, and nothing from before; Alice's session then.
pub async fn joins_later(people: &People, garden: &RoomId, before: &Said) -> Result<String> {
    let People {
        alice, bob, carol, ..
    } = people;
    alice.bring_in(garden, carol, &[bob]).await?;
    say_secretly(bob, garden, "Hello, Carol!", &[alice, carol]).await?;
    let (_, info) = say_secretly(alice, garden, "We were just talking.", &[bob, carol]).await?;
    for (id, text) in before {
        let read = carol.decrypted(garden, id, text).await;
        ensure!(read.is_err(), "Carol reads “{text}” from before she came");
    }
    session(&info)
}

/// When somebody has left, the others go on with keys that they never had. Bob knows what comes with them to be
/// Alice's own words: he has verified her.
pub async fn member_leaves(people: &People, garden: &RoomId, session_before: &str) -> Result<()> {
    let People {
        alice, bob, carol, ..
    } = people;
    carol.room(garden)?.leave().await?;
    for device in [alice, bob] {
        device
            .until_member(garden, carol.user(), MembershipState::Leave)
            .await?;
    }
    let (_, info) = say_secretly(alice, garden, "Now we are two.", &[bob]).await?;
    ensure!(
        session(&info)? != session_before,
        "Alice goes on with a session that Carol has"
    );
    let state = info.verification_state;
    ensure!(
        state == VerificationState::Verified,
        "Bob takes Alice's words as {state:?}"
    );
    Ok(())
}

/// Who is invited gets the keys to what was said before, where the room's history is shared (MSC4268).
/// False if it can't be done: the keys go by way of media, which a server needn't keep.
pub async fn history_sharing(people: &People) -> Result<bool> {
    let People { alice, carol, .. } = people;
    for device in [alice, carol] {
        match device.client.load_or_fetch_max_upload_size().await {
            Ok(_) => {}
            Err(error) => match error.client_api_error_kind() {
                Some(ErrorKind::Unrecognized) => return Ok(false),
                _ => bail!(error),
            },
        }
    }
    let library = encrypted_room(alice, "Library", HistoryVisibility::Shared).await?;
    let text = "An old book.";
    let (id, _) = say_secretly(alice, &library, text, &[]).await?;
    alice.bring_in(&library, carol, &[]).await?;
    // Her server fetches it.
    history(&carol.room(&library)?).await?;
    carol.finds(&library, &id, text).await?;
    Ok(true)
}
