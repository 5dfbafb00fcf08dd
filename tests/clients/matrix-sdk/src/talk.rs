//! Alice makes a room, writes into it and invites Bob, who is on the other server. He joins, both talk,
//! and Bob pages back to what was written before he came.

use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use matrix_sdk::{
    Client, RoomState,
    config::SyncSettings,
    ruma::{
        RoomAliasId, RoomId,
        api::client::room::create_room::{self, v3::RoomPreset},
        assign,
        events::{AnySyncStateEvent, AnySyncTimelineEvent},
    },
    sync::SyncResponse,
};
use tokio::time::Instant;

use crate::people::{PATIENCE, history, log_in, register, say, text};

/// Messages before Bob comes: more than one page.
const NOTES: usize = 25;

/// Tells the story.
pub async fn tell(alices_server: &str, bobs_server: &str) -> Result<()> {
    register(alices_server, "alice").await?;
    register(bobs_server, "bob").await?;
    let alice = log_in(alices_server, "alice").await?;
    let bob = log_in(bobs_server, "bob").await?;
    story(&alice, &bob).await?;
    alice.logout().await?;
    bob.logout().await?;
    Ok(())
}

async fn story(alice: &Client, bob: &Client) -> Result<()> {
    let room = alice
        .create_room(assign!(create_room::v3::Request::new(), {
            room_alias_name: Some("garden".to_owned()),
            name: Some("Garden".to_owned()),
            preset: Some(RoomPreset::PrivateChat),
        }))
        .await?;
    let id = room.room_id();
    let domain = alice
        .user_id()
        .context("Alice isn't logged in")?
        .server_name();
    let alias = RoomAliasId::parse(format!("#garden:{domain}"))?;
    let found = bob.resolve_room_alias(&alias).await?;
    ensure!(
        found.room_id == id,
        "{alias} is {} for Bob and {id} for Alice",
        found.room_id
    );
    let notes: Vec<String> = (0..NOTES).map(|number| format!("note {number}")).collect();
    for note in &notes {
        say(&room, note).await?;
    }

    let bobs_id = bob.user_id().context("Bob isn't logged in")?;
    room.invite_user_by_id(bobs_id).await?;
    until(bob, "Alice's invite", |answer| {
        answer.rooms.invited.contains_key(id)
    })
    .await?;
    let bobs_room = bob
        .get_room(id)
        .context("Bob's client doesn't know the room")?;
    ensure!(bobs_room.state() == RoomState::Invited, "Bob isn't invited");
    bobs_room.join().await?;

    say(&room, "Welcome, Bob!").await?;
    hears(bob, id, "Welcome, Bob!").await?;
    say(&bobs_room, "Glad to be here.").await?;
    hears(alice, id, "Glad to be here.").await?;

    let (events, pages) = history(&bobs_room).await?;
    let first = events.first().context("Bob reads nothing")?;
    ensure!(
        matches!(
            first,
            AnySyncTimelineEvent::State(AnySyncStateEvent::RoomCreate(_))
        ),
        "Bob's history begins with {} instead of the room's creation",
        first.event_type()
    );
    let read: Vec<&str> = events.iter().filter_map(text).collect();
    let mut written: Vec<&str> = notes.iter().map(String::as_str).collect();
    written.extend(["Welcome, Bob!", "Glad to be here."]);
    ensure!(
        read == written,
        "Bob reads another history than was written: {read:?}"
    );
    println!(
        "matrix-sdk: both talk; Bob reads all {} events of the room in {pages} pages",
        events.len()
    );
    Ok(())
}

/// Syncs until an answer has `what`: until `check` is true of it.
async fn until(client: &Client, what: &str, check: impl Fn(&SyncResponse) -> bool) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    while Instant::now() < deadline {
        // The client remembers where the last sync ended and goes on from there.
        let settings = SyncSettings::default().timeout(Duration::from_secs(1));
        if check(&client.sync_once(settings).await?) {
            return Ok(());
        }
    }
    let who = client.user_id().context("nobody is logged in")?;
    bail!("{who} didn't get {what} within {PATIENCE:?}");
}

async fn hears(client: &Client, room: &RoomId, wanted: &str) -> Result<()> {
    let said = |answer: &SyncResponse| {
        let room = answer.rooms.joined.get(room);
        let mut events = room.into_iter().flat_map(|room| &room.timeline.events);
        events.any(|event| {
            let event = event.raw().deserialize();
            event.is_ok_and(|event| text(&event) == Some(wanted))
        })
    };
    until(client, &format!("the message “{wanted}”"), said).await
}
