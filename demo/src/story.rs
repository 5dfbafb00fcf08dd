//! What happens in the demonstration.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use futures_util::future::try_join_all;
use serde_json::{Value, json};

use crate::agree::{PAGE, agree};
use crate::olm::Device;
use crate::page::Page;
use crate::picture::{self, Picture};
use crate::stage::{Stage, stopped};
use crate::{Homeserver, Person, Socket, http_client, timeline};

/// How long anything may take to reach the other server.
const PATIENCE: Duration = Duration::from_secs(10);
const PASSWORD: &str = "correct horse battery staple";
/// What only two devices know.
const QUESTION: &str = "Can anybody else read this?";
const REPLY: &str = "Not even the servers.";
/// The sides of a picture, and of a small one of it.
const SIDE: u32 = 512;
const SMALL: u32 = 96;
/// Messages before anyone else is there: more than one page of history.
const EARLY: usize = 30;

/// Tells the story; an error when anything differs from what should be.
///
/// `postgres`: keep both servers' data in schemas of this database, else in SQLite files.
pub async fn run<H: Homeserver>(postgres: Option<String>) -> anyhow::Result<()> {
    let mut teller = Teller::new();
    let mut stage = Stage::<H>::set(postgres).await?;
    let stopped = stopped()?;
    let told = tokio::select! {
        told = story(&mut stage, &mut teller) => told,
        () = stopped => bail!("interrupted"),
    };
    let cleared = stage.clear().await;
    told?;
    cleared?;
    teller.say("Both servers hold the same. Everything is cleaned up.");
    Ok(())
}

/// Only starts the two servers, prints as one line of JSON where they are, and a small client for a browser, and
/// serves until stopped: for clients to try.
pub async fn serve<H: Homeserver>(postgres: Option<String>) -> anyhow::Result<()> {
    let stage = Stage::<H>::set(postgres).await?;
    let mut told = stage.addresses();
    let served = async {
        // Before anybody is told where we are: whoever is may stop us at once.
        let stopped = stopped()?;
        let page = Page::serve(&told).await?;
        told["client"] = json!({ "url": page.url() });
        print(&told);
        stopped.await;
        Ok(())
    };
    let served = served.await;
    stage.clear().await?;
    served
}

/// Prints a line to standard output; a closed pipe is no reason to fail.
fn print(line: &impl std::fmt::Display) {
    use std::io::Write as _;
    let _ = writeln!(std::io::stdout(), "{line}");
}

/// Prints lines with the time since the start.
struct Teller {
    start: Instant,
}

impl Teller {
    fn new() -> Self {
        Self {
            start: Instant::now(),
        }
    }

    fn say(&self, line: impl std::fmt::Display) {
        let seconds = self.start.elapsed().as_secs_f64();
        print(&format_args!("{seconds:6.2} s  {line}"));
    }
}

async fn story<H: Homeserver>(stage: &mut Stage<H>, teller: &mut Teller) -> anyhow::Result<()> {
    let database = stage.database();
    teller.say(format_args!(
        "Two homeservers run: north is {}, south is {}. Each has its own {database} database; between them is TLS.",
        stage.north.name(),
        stage.south.name()
    ));

    let http = http_client()?;
    let (north, south) = (stage.north.base(), stage.south.base());
    let (ada, bea, cy) = tokio::try_join!(
        Person::register(&http, &north, "ada", PASSWORD),
        Person::register(&http, &south, "bea", PASSWORD),
        Person::register(&http, &south, "cy", PASSWORD),
    )?;
    teller.say("ada registers on north, bea and cy on south.");

    let room = opening(&ada, teller).await?;
    let bea_since = joining(&ada, &bea, &room, stage.north.name(), teller).await?;
    chatting(&ada, &bea, &room, &bea_since, teller).await?;
    showing(&ada, &bea, &room, teller).await?;
    whispering(&ada, &bea, teller).await?;
    late_guest(&ada, &cy, &room, teller).await?;
    let (ada, bea, cy) = cut_off(stage, [ada, bea, cy], &room, teller).await?;
    at_once(&ada, &bea, &room, teller).await?;

    let (events, state) = agree([&ada, &bea, &cy], &room).await?;
    teller.say(format_args!(
        "Compared through /messages and /state: {events} events and {state} pieces of state, the same ids and contents on both sides."
    ));
    Ok(())
}

/// A room with some history before anybody else is in it.
async fn opening(ada: &Person, teller: &Teller) -> anyhow::Result<String> {
    let room = ada
        .create_room(
            json!({ "preset": "private_chat", "name": "The rhizome", "room_version": "12" }),
        )
        .await?;
    let started = Instant::now();
    for number in 1..=EARLY {
        ada.say(&room, &format!("note {number} to myself")).await?;
    }
    teller.say(format_args!(
        "ada creates a room of version 12 and writes {EARLY} notes into it ({:.1} ms each).",
        started.elapsed().as_secs_f64() * 1000.0 / f64::from(u32::try_from(EARLY)?)
    ));
    Ok(room)
}

/// Invite and join across the two servers; where bea's sync stands after it.
async fn joining(
    ada: &Person,
    bea: &Person,
    room: &str,
    via: &str,
    teller: &Teller,
) -> anyhow::Result<String> {
    let since = bea.now().await?;
    let started = Instant::now();
    ada.invite(room, &bea.user_id).await?;
    let since = bea.see_invite(&since, room, PATIENCE).await?;
    teller.say(format_args!(
        "ada invites bea; bea's client shows it {}.",
        after(started)
    ));
    let started = Instant::now();
    bea.join(room, &[via]).await?;
    teller.say(format_args!(
        "bea joins: south fetched the room from north {}.",
        after(started)
    ));
    Ok(since)
}

/// Messages both ways, over HTTP and over WebSockets.
async fn chatting(
    ada: &Person,
    bea: &Person,
    room: &str,
    bea_since: &str,
    teller: &Teller,
) -> anyhow::Result<()> {
    let started = Instant::now();
    let event = ada.say(room, "Welcome, bea!").await?;
    let bea_since = bea.see(bea_since, room, &event, PATIENCE).await?;
    teller.say(format_args!(
        "HTTP: ada writes, bea reads it {}.",
        after(started)
    ));

    let ada_since = ada.now().await?;
    let started = Instant::now();
    let event = bea.say(room, "Glad to be here.").await?;
    let ada_since = ada.see(&ada_since, room, &event, PATIENCE).await?;
    teller.say(format_args!(
        "HTTP: bea writes, ada reads it {}.",
        after(started)
    ));

    let mut ada_socket = Socket::open(ada, &ada_since).await?;
    let mut bea_socket = Socket::open(bea, &bea_since).await?;
    let started = Instant::now();
    let event = ada_socket
        .say(room, &ada.transaction(), "Faster now?")
        .await?;
    bea_socket.see(room, &[event], PATIENCE).await?;
    teller.say(format_args!(
        "WebSocket: ada writes, bea reads it {}.",
        after(started)
    ));
    let started = Instant::now();
    let event = bea_socket.say(room, &bea.transaction(), "Much.").await?;
    ada_socket.see(room, &[event], PATIENCE).await?;
    teller.say(format_args!(
        "WebSocket: bea writes, ada reads it {}.",
        after(started)
    ));
    Ok(())
}

/// A picture goes across, and a small one of it.
async fn showing(ada: &Person, bea: &Person, room: &str, teller: &Teller) -> anyhow::Result<()> {
    let since = bea.now().await?;
    let taken = Picture::take(SIDE)?;
    let started = Instant::now();
    let uri = ada.upload("view.png", "image/png", taken.png.clone());
    let uri = uri.await?;
    let event = ada.show(room, &uri, &taken).await?;
    let shown = |answer: &Value| picture::shown(answer, room, &event);
    let (uri, _) = bea.sync_until(&since, PATIENCE, shown).await?;
    let small = bea.thumbnail(&uri, SMALL).await?;
    picture::check(&small, SMALL)?;
    let whole = bea.download(&uri).await?;
    ensure!(whole == taken.png, "bea gets another picture than ada sent");
    teller.say(format_args!(
        "ada sends a picture ({} KiB); bea has a small one of it ({} KiB) and the whole, by way of south, {}.",
        whole.len() / 1024,
        small.len() / 1024,
        after(started)
    ));
    Ok(())
}

/// A message from device to device that neither server can read, and the answer to it.
async fn whispering(ada: &Person, bea: &Person, teller: &Teller) -> anyhow::Result<()> {
    let (ada_since, bea_since) = (ada.now().await?, bea.now().await?);
    let (adas, mut beas) = tokio::try_join!(Device::publish(ada), Device::publish(bea))?;
    teller.say("ada and bea upload keys: each server knows the public half, for whoever asks.");

    let started = Instant::now();
    let bea_device = adas.find(bea).await?;
    let mut session = adas.claim(&bea_device).await?;
    adas.whisper(&mut session, &bea_device, QUESTION).await?;
    let ada_device = beas.find(ada).await?;
    let message = beas.receive(&ada_device, &bea_since, PATIENCE).await?;
    let (mut beas_session, question) = beas.accept(&ada_device, &message)?;
    ensure!(question == QUESTION, "bea reads {question:?}");
    teller.say(format_args!(
        "Olm: ada finds bea's device, claims a key and writes; bea's device decrypts it {}.",
        after(started)
    ));

    let started = Instant::now();
    beas.whisper(&mut beas_session, &ada_device, REPLY).await?;
    let message = adas.receive(&bea_device, &ada_since, PATIENCE).await?;
    let reply = adas.open(&mut session, &bea_device, &message)?;
    ensure!(reply == REPLY, "ada reads {reply:?}");
    teller.say(format_args!(
        "Olm: bea answers in the same session; ada's device decrypts it {}.",
        after(started)
    ));
    Ok(())
}

/// A third person joins late and pages back to the beginning.
async fn late_guest(ada: &Person, cy: &Person, room: &str, teller: &Teller) -> anyhow::Result<()> {
    let since = cy.now().await?;
    ada.invite(room, &cy.user_id).await?;
    cy.see_invite(&since, room, PATIENCE).await?;
    cy.join(room, &[]).await?;
    let started = Instant::now();
    let mut pages = 0;
    let history = cy.history(room, PAGE, &mut pages).await?;
    let first = history.last().context("cy sees no history")?;
    ensure!(
        first["type"] == "m.room.create",
        "cy's history doesn't reach the room's creation: {first}"
    );
    let notes = history.iter().filter(|event| is_note(event)).count();
    ensure!(notes == EARLY, "cy sees {notes} of ada's {EARLY} notes");
    teller.say(format_args!(
        "cy joins late and pages back to the beginning: {} events in {pages} pages {}, the oldest fetched from north.",
        history.len(),
        after(started)
    ));
    Ok(())
}

fn is_note(event: &Value) -> bool {
    event["content"]["body"]
        .as_str()
        .is_some_and(|body| body.starts_with("note "))
}

/// South is stopped while ada goes on; then it comes back. Returns the people at their new addresses.
async fn cut_off<H: Homeserver>(
    stage: &mut Stage<H>,
    [ada, bea, cy]: [Person; 3],
    room: &str,
    teller: &Teller,
) -> anyhow::Result<(Person, Person, Person)> {
    let bea_since = bea.now().await?;
    let socket = Socket::open(&bea, &bea_since).await?;
    let started = Instant::now();
    stage.south.stop().await;
    socket.ended(PATIENCE).await?;
    teller.say(format_args!(
        "south stops {}; bea's WebSocket ends.",
        after(started)
    ));

    let mut missed = Vec::new();
    for number in 1..=5 {
        missed.push(
            ada.say(room, &format!("Can you hear me? ({number})"))
                .await?,
        );
    }
    missed.push(
        ada.set_state(room, "m.room.topic", "", json!({ "topic": "Roots" }))
            .await?,
    );
    teller.say("ada writes five messages and sets a topic meanwhile.");

    let started = Instant::now();
    stage.south.start_again().await?;
    let base = stage.south.base();
    let (bea, cy) = (bea.at(&base), cy.at(&base));
    let mut socket = Socket::open(&bea, &bea_since).await?;
    socket.see(room, &missed, PATIENCE).await?;
    teller.say(format_args!(
        "south is back; bea's client goes on where it was and has all six {}.",
        after(started)
    ));
    Ok((ada, bea, cy))
}

/// Both sides write at the same moment: the room's history forks and merges.
async fn at_once(ada: &Person, bea: &Person, room: &str, teller: &Teller) -> anyhow::Result<()> {
    let since = ada.now().await?;
    let talk = |who: Person, name: &'static str| async move {
        let said = (1..=10).map(|n| {
            let who = who.clone();
            async move { who.say(room, &format!("{name} {n}")).await }
        });
        try_join_all(said).await
    };
    let started = Instant::now();
    let (_, theirs) = tokio::try_join!(
        talk(ada.clone(), "from the north"),
        talk(bea.clone(), "from the south")
    )?;
    let mut missing: BTreeSet<String> = theirs.into_iter().collect();
    let seen = |answer: &Value| {
        for event in timeline(answer, room) {
            missing.remove(event["event_id"].as_str().unwrap_or_default());
        }
        missing.is_empty().then_some(())
    };
    ada.sync_until(&since, PATIENCE, seen).await?;
    teller.say(format_args!(
        "ada and bea write ten messages each at the same time; all arrive {}.",
        after(started)
    ));
    Ok(())
}

fn after(started: Instant) -> String {
    format!("after {} ms", started.elapsed().as_millis())
}
