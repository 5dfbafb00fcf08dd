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
use crate::engine::database::Database;
use crate::log::ephemeral::SaidTyping;
use crate::log::outbox;
use crate::log::positions::{Positions, ProcessId};
use crate::log::presence::SaidPresence;
use crate::{Core, Error, Pos, Result, Store};

/// Somebody is told that this process is there so often at least.
const BEAT: Duration = Duration::from_secs(20);
/// Before something that failed is tried again.
const PAUSE: Duration = Duration::from_secs(1);
/// How often, while the database is busy.
const TRIES: u32 = 5;
/// Who hears nothing for so long, not even what this process says, hears nothing any more: the other end may have gone without
/// a word.
const DEAF: Duration = Duration::from_secs(3 * BEAT.as_secs());
/// How long it may take until one can hear.
const CONNECTS: Duration = Duration::from_secs(10);
/// How much a message may carry: PostgreSQL takes 8,000 bytes, and what else a message says is less than 200.
const MOST_BYTES: usize = 7_500;
/// What stands beside each thing that is said.
const BESIDE: usize = 32;

const _: () = assert!(outbox::MOST_BYTES + BESIDE <= MOST_BYTES);

/// Carries messages to all processes on one database.
pub(crate) trait Bus: Send + Sync + 'static {
    /// Who hears them.
    type Ear: Ear;

    /// From here on everything is heard.
    fn listen(&self) -> impl Future<Output = Result<Self::Ear>> + Send;

    /// Says something to all, to this process too. Messages of a process come in their order.
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
    if let Database::Postgres(pools) = &core.database {
        // Others may use the same PostgreSQL: nobody else knows this name.
        let channel = format!("rhizome_{}", store.seal("bus", Pos(0)));
        let bus = PostgresBus::new(core.options.url.clone(), channel, pools.readers.clone());
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
        if tell(&*bus, &texts(&positions, log), PAUSE).await {
            continue;
        }
        // Something is lost, on either side perhaps: all that is so is said anew.
        tokio::time::sleep(PAUSE * TRIES).await;
        let Some(core) = core.upgrade() else { return };
        positions.outbox().ask();
        say_again(&core);
    }
}

/// Says these. `false`: the rest of them can't be said.
async fn tell(bus: &impl Bus, texts: &[String], pause: Duration) -> bool {
    for text in texts {
        let mut tries = 0;
        while let Err(error) = bus.say(text).await {
            tracing::warn!(%error, "other processes can't be told anything");
            tries += 1;
            if tries >= TRIES || !matches!(error, Error::Busy(_)) {
                return false;
            }
            tokio::time::sleep(pause).await;
        }
    }
    true
}

/// All that is so.
fn say_again(core: &Core) {
    core.ephemeral.say_again();
    core.presence.say_again();
    core.positions.outbox().speak_up();
}

/// The messages that say what there is to say: one at least, as it says that this process is there.
fn texts(positions: &Positions, log: Pos) -> Vec<String> {
    let parcel = positions.outbox().take(|| positions.head());
    let mut messages = Vec::new();
    let mut part = Vec::new();
    let mut bytes = 0;
    for (position, said) in parcel.said {
        if !said.fits() {
            tracing::debug!("something is too long for other processes");
            continue;
        }
        let text = said.into_text();
        let size = text.len() + BESIDE;
        let Ok(said) = RawValue::from_string(text) else {
            continue;
        };
        if bytes + size > MOST_BYTES {
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
        let heard = match tokio::time::timeout(CONNECTS, bus.listen()).await {
            Ok(Ok(ear)) => hear_all(&core, &positions, ear, DEAF).await,
            Ok(Err(error)) => Err(error),
            Err(_) => Err(Error::Busy("listening takes too long".into())),
        };
        match heard {
            Ok(()) => return,
            Err(error) => tracing::warn!(%error, "other processes can't be heard"),
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Takes what is said for as long as there is somebody to take it, until it has been silent for too long.
async fn hear_all(
    core: &Weak<Core>,
    positions: &Positions,
    mut ear: impl Ear,
    deaf: Duration,
) -> Result<()> {
    positions.outbox().ask();
    loop {
        let heard = tokio::time::timeout(deaf, ear.hear()).await;
        let heard = heard.map_err(|_| Error::Busy("nothing is heard any more".into()))?;
        let Some(text) = heard? else {
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
    let mut typing = Vec::new();
    for (position, said) in message.said {
        match serde_json::from_str(said.get()) {
            Ok(Said::Typing(said)) => typing.push((position, said)),
            Ok(Said::Presence(said)) => {
                // What is decided here from now on comes after it.
                positions.pass(position);
                if let Err(error) = store.hear_elsewhere(message.by, said).await {
                    tracing::debug!(%error, "who is there at another process isn't known");
                }
            }
            Err(error) => {
                tracing::debug!(%error, "another process says what this one doesn't know");
            }
        }
    }
    // When nothing of the message has to be waited for any more: who is told of typing has heard the process.
    let (changed, is_new) = (store.core.ephemeral).hear(message.by, &typing, message.upto);
    store.core.tail.wake_rooms(&changed, &store.core.counters);
    if is_new || message.asks {
        say_again(&store.core);
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
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;
    use crate::log::outbox::Said;

    /// Its database is out of reach, and hasn't said so.
    struct Gone;

    impl Ear for Gone {
        async fn hear(&mut self) -> Result<Option<String>> {
            std::future::pending().await
        }
    }

    /// Nothing can be said by it.
    struct Mute {
        error: fn(String) -> Error,
        tries: AtomicU32,
    }

    impl Bus for Mute {
        type Ear = Gone;

        async fn listen(&self) -> Result<Gone> {
            Ok(Gone)
        }

        async fn say(&self, text: &str) -> Result<()> {
            self.tries.fetch_add(1, Ordering::Relaxed);
            Err((self.error)(text.to_owned()))
        }
    }

    #[tokio::test]
    async fn who_hears_nothing_at_all_listens_anew() {
        let positions = Positions::new(ProcessId(1), 0);
        let heard = hear_all(&Weak::new(), &positions, Gone, Duration::ZERO).await;
        assert!(matches!(heard, Err(Error::Busy(_))), "{heard:?}");
    }

    #[tokio::test]
    async fn what_can_not_be_said_is_not_tried_for_ever() {
        for (error, most) in [
            (Error::Busy as fn(String) -> Error, TRIES),
            (Error::Failed as fn(String) -> Error, 1),
        ] {
            let tries = AtomicU32::new(0);
            let bus = Mute { error, tries };
            assert!(!tell(&bus, &["one".into(), "two".into()], Duration::ZERO).await);
            assert_eq!(bus.tries.into_inner(), most);
        }
    }

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
    fn what_is_long_is_said_and_what_is_too_long_is_left_out() {
        let positions = Positions::new(ProcessId(1), 0);
        positions.hear(ProcessId(2), 1);
        for (n, bytes) in [(1, outbox::MOST_BYTES - 20), (2, outbox::MOST_BYTES)] {
            positions.tell(|| Said::new("test", n, &"x".repeat(bytes)));
        }
        let all: Vec<_> = (messages(&positions).into_iter())
            .flat_map(|message| message.said)
            .collect();
        assert_eq!(all.len(), 1);
        assert_eq!(all[0].0, 1);
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
