//! What processes on one database tell each other beside the log: who types, who is there, and that the log went on.
//!
//! A message may get lost, and nothing is wrong for long then: what is so is said again, the log is asked for by the clock
//! as well, and what nobody says any more ends by its time. Each process says things in the order of its positions
//! ([`Outbox`](crate::log::outbox::Outbox)), so who has heard one has heard all before it. What carries the messages is a [`Bus`].

mod postgres;

use std::sync::{Arc, Weak};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use tokio_util::sync::CancellationToken;

use self::postgres::PostgresBus;
use crate::log::ephemeral::SaidTyping;
use crate::log::positions::{Positions, ProcessId};
use crate::log::presence::SaidPresence;
use crate::{Core, Pos, Result, Store};

/// Somebody is told that this process is there so often at least.
const BEAT: Duration = Duration::from_secs(20);
/// Before something that failed is tried again.
const PAUSE: Duration = Duration::from_secs(1);
/// How long a message may be: PostgreSQL takes 8,000 bytes.
const MOST_BYTES: usize = 7_500;

/// Carries messages to all processes on one database.
pub(crate) trait Bus: Send + Sync + 'static {
    /// Who hears them.
    type Ear: Ear;

    /// From here on everything is heard.
    fn listen(&self) -> impl Future<Output = Result<Self::Ear>> + Send;

    /// Says something to all, perhaps to this process too. Messages of a process come in their order.
    fn say(&self, text: &str) -> impl Future<Output = Result<()>> + Send;
}

/// Hears what is said.
pub(crate) trait Ear: Send + 'static {
    /// The next message; `None`: some may have been missed.
    fn hear(&mut self) -> impl Future<Output = Result<Option<String>>> + Send;
}

/// What is said at once.
#[derive(Debug, Serialize, Deserialize)]
struct Message {
    /// By which process.
    by: ProcessId,
    /// With this and what it said before, it has said all up to there.
    upto: i64,
    /// Its head of the log.
    log: Pos,
    /// It hasn't heard what was said before.
    asks: bool,
    /// With their positions, ascending; each a [`Said`].
    said: Vec<(i64, Box<RawValue>)>,
}

/// What is said, by kinds.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Said {
    Typing(SaidTyping),
    Presence(SaidPresence),
}

/// Starts to tell and to hear, where there may be others; ends with `ended`.
pub(crate) fn spawn(store: &Store, ended: &CancellationToken) {
    let core = &store.core;
    if core.dialect.is_shared() {
        // Others may use the same PostgreSQL: nobody else knows this name.
        let channel = format!("rhizome_{}", store.seal("bus", Pos(0)));
        let bus = PostgresBus::new(core.options.url.clone(), channel, core.readers.clone());
        spawn_on(core, ended, bus);
    }
}

fn spawn_on(core: &Arc<Core>, ended: &CancellationToken, bus: impl Bus) {
    let bus = Arc::new(bus);
    let positions = core.positions.clone();
    let speaking = speak(Arc::downgrade(core), positions.clone(), bus.clone());
    let listening = listen(Arc::downgrade(core), positions, bus);
    tokio::spawn((ended.clone()).run_until_cancelled_owned(Box::pin(speaking)));
    tokio::spawn((ended.clone()).run_until_cancelled_owned(Box::pin(listening)));
}

/// Says what there is to say. What comes while something is said goes into the next message.
async fn speak<B: Bus>(core: Weak<Core>, positions: Positions, bus: Arc<B>) {
    loop {
        tokio::select! {
            () = positions.outbox().filled() => {}
            () = tokio::time::sleep(BEAT) => {}
        }
        let Some(log) = core.upgrade().map(|core| core.tail.head()) else {
            return;
        };
        for text in texts(&positions, log) {
            while let Err(error) = bus.say(&text).await {
                tracing::warn!(%error, "other processes can't be told anything");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

/// The messages that say what there is to say: one at least, as it says that this process is there.
fn texts(positions: &Positions, log: Pos) -> Vec<String> {
    let parcel = positions.outbox().take(|| positions.head());
    let mut messages = Vec::new();
    let mut part = Vec::new();
    let mut bytes = 0;
    for (position, said) in parcel.said {
        let text = said.into_text();
        let size = text.len() + 32;
        if size > MOST_BYTES / 2 {
            tracing::debug!("something is too long for other processes");
            continue;
        }
        let Ok(said) = RawValue::from_string(text) else {
            continue;
        };
        if bytes + size > MOST_BYTES - 200 {
            messages.push(std::mem::take(&mut part));
            bytes = 0;
        }
        bytes += size;
        part.push((position, said));
    }
    messages.push(part);
    let last = messages.len() - 1;
    let messages = messages.into_iter().enumerate().map(|(at, said)| {
        let upto = said.last().map_or(parcel.upto, |(position, _)| *position);
        Message {
            by: positions.process(),
            upto: if at == last { parcel.upto } else { upto },
            log,
            asks: parcel.asks && at == last,
            said,
        }
    });
    let texts = messages.filter_map(|message| serde_json::to_string(&message).ok());
    texts.collect()
}

async fn listen<B: Bus>(core: Weak<Core>, positions: Positions, bus: Arc<B>) {
    loop {
        let heard = match bus.listen().await {
            Ok(ear) => hear_all(&core, &positions, ear).await,
            Err(error) => Err(error),
        };
        match heard {
            Ok(()) => return,
            Err(error) => tracing::warn!(%error, "other processes can't be heard"),
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Takes what is said for as long as there is somebody to take it.
async fn hear_all(core: &Weak<Core>, positions: &Positions, mut ear: impl Ear) -> Result<()> {
    positions.outbox().ask();
    loop {
        let Some(text) = ear.hear().await? else {
            positions.outbox().ask();
            continue;
        };
        let Some(core) = core.upgrade() else {
            return Ok(());
        };
        take(&Store { core, queue: None }, &text).await;
    }
}

async fn take(store: &Store, text: &str) {
    let positions = &store.core.positions;
    let message = match serde_json::from_str::<Message>(text) {
        Ok(message) => message,
        Err(error) => {
            tracing::debug!(%error, "another process says what this one doesn't know");
            return;
        }
    };
    if message.by == positions.process() {
        return;
    }
    let mut changed = Vec::new();
    for (position, said) in message.said {
        // What is decided here from now on comes after it.
        positions.pass(position);
        match serde_json::from_str(said.get()) {
            Ok(Said::Typing(said)) => {
                if store.core.ephemeral.hear((message.by, position), &said) {
                    changed.push(said.room);
                }
            }
            Ok(Said::Presence(said)) => {
                if let Err(error) = store.hear_elsewhere(message.by, said).await {
                    tracing::debug!(%error, "who is there at another process isn't known");
                }
            }
            Err(error) => {
                tracing::debug!(%error, "another process says what this one doesn't know");
            }
        }
    }
    positions.pass(message.upto);
    let is_new = positions.hear(message.by, message.upto);
    store.core.tail.wake_rooms(&changed, &store.core.counters);
    if is_new || message.asks {
        store.core.ephemeral.say_again();
        store.core.presence.say_again();
        positions.outbox().speak_up();
    }
    let log = store.log();
    // Who says how often the log is to be asked for has it so.
    if store.core.options.poll_interval.is_none()
        && message.log > log.head()
        && let Err(error) = log.poll().await
    {
        tracing::warn!(%error, "can't read the log's head");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::outbox::Said;

    fn something(n: usize) -> Said {
        Said::new("test", n, &"x".repeat(200))
    }

    fn messages(positions: &Positions) -> Vec<Message> {
        let texts = texts(positions, Pos(3));
        assert!(texts.iter().all(|text| text.len() < 8_000));
        let read = texts.iter().map(|text| serde_json::from_str(text).unwrap());
        read.collect()
    }

    #[test]
    fn much_is_said_in_parts_each_of_which_says_how_far_it_goes() {
        let positions = Positions::new(ProcessId(1), 0);
        // There is nobody to tell.
        positions.tell(|| something(0));
        let alone = messages(&positions);
        assert_eq!((alone.len(), alone[0].said.len()), (1, 0));
        assert_eq!((alone[0].upto, alone[0].asks), (1, false));
        positions.hear(ProcessId(2), 1);
        for n in 0..200 {
            positions.tell(|| something(n));
        }
        let parts = messages(&positions);
        assert!(parts.len() > 1);
        let said: Vec<i64> = (parts.iter().flat_map(|part| &part.said))
            .map(|(position, _)| *position)
            .collect();
        assert_eq!(said, (2..=201).collect::<Vec<_>>());
        for part in &parts {
            assert_eq!(
                part.said.last().map(|(position, _)| *position),
                Some(part.upto)
            );
        }
    }

    #[test]
    fn of_the_same_thing_the_last_is_said() {
        let positions = Positions::new(ProcessId(1), 0);
        positions.hear(ProcessId(2), 1);
        positions.outbox().ask();
        for n in [1, 2, 1] {
            positions.tell(|| something(n));
        }
        let all = messages(&positions);
        assert_eq!((all.len(), all[0].upto, all[0].asks), (1, 3, true));
        let said: Vec<i64> = all[0].said.iter().map(|(position, _)| *position).collect();
        assert_eq!(said, [2, 3]);
        assert!(messages(&positions)[0].said.is_empty());
    }
}
