//! Other processes are told who is there, and tell.
//!
//! A process says what the devices come to that it sees, for a while, and says it again before that is over; each puts
//! together what it hears with what it sees. So all of them come to the same, whichever process a request of a device goes
//! to, and where a process ends, what it said ends by itself. What it tells its readers has positions of its own.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::devices::{Became, Here};
use super::people::People;
use super::person::{Whose, Words};
use super::{Presence, PresenceState, PresenceUpdate};
use crate::log::outbox::Said;
use crate::log::positions::ProcessId;
use crate::{Pos, Result, Store, UserNo, millis};

/// So much longer it holds here: a process that is there takes back in time what it has said.
const SLACK: Duration = Duration::from_secs(5);

/// What a process says of somebody.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct SaidPresence {
    user: UserNo,
    what: What,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
enum What {
    /// Of a user here: what their devices come to, for how long, and how long ago they did something.
    #[serde(rename = "ours")]
    Ours {
        state: PresenceState,
        for_ms: i64,
        active_ms: Option<i64>,
        became: Option<Became>,
    },
    /// What another server has said of its user, without words that are too long: just now, or, if it is said again, for so
    /// long it still holds. Other processes may have heard something newer then.
    #[serde(rename = "theirs")]
    Theirs(PresenceUpdate, Option<i64>),
}

impl SaidPresence {
    fn said(mut self) -> Said {
        let said = self.written();
        if said.fits() {
            return said;
        }
        if let What::Theirs(update, _) = &mut self.what {
            update.message = None;
        }
        self.written()
    }

    fn written(&self) -> Said {
        // Of the same the last is enough; what becomes of a device is another thing than whether its user is there.
        let about = match self.what {
            What::Ours { became: None, .. } | What::Theirs(_, None) => "",
            What::Ours { .. } => "device",
            // It must not take the place of news.
            What::Theirs(_, Some(_)) => "again",
        };
        Said::new("presence", format_args!("{} {about}", self.user), self)
    }
}

impl People {
    /// Tells other processes what the devices of a user come to here, if they don't know.
    pub(super) fn say(&mut self, user: UserNo, now: Duration) {
        if !self.positions.has_others() {
            return;
        }
        let Some(person) = self.known.get_mut(&user) else {
            return;
        };
        let Whose::Ours(devices, _) = &mut person.whose else {
            return;
        };
        if let Some((here, became)) = devices.say(now) {
            let what = What::Ours {
                state: here.state,
                for_ms: millis(here.until.saturating_sub(now)),
                active_ms: here.active.map(|active| millis(now.saturating_sub(active))),
                became,
            };
            self.positions.tell(|| SaidPresence { user, what }.said());
        }
    }

    /// Tells other processes anew who is there.
    fn say_again(&mut self, now: Duration) {
        let there = self.known.iter().filter(|(_, person)| person.is_there());
        let there: Vec<UserNo> = there.map(|(user, _)| *user).collect();
        for user in there {
            let Some(person) = self.known.get_mut(&user) else {
                continue;
            };
            match &mut person.whose {
                Whose::Ours(devices, _) => {
                    devices.say_again();
                    self.say(user, now);
                }
                Whose::Theirs(told, active, until) => {
                    let update = PresenceUpdate {
                        state: told.state,
                        message: told.message.as_deref().map(str::to_owned),
                        last_active_ago: active.map(|active| {
                            let ago = now.saturating_sub(active).as_millis();
                            u64::try_from(ago).unwrap_or(u64::MAX)
                        }),
                        currently_active: told.currently_active,
                    };
                    let what = What::Theirs(update, Some(millis(until.saturating_sub(now))));
                    self.positions.tell(|| SaidPresence { user, what }.said());
                }
            }
        }
    }
}

impl Presence {
    /// A user has said something of it, to another process or before this one followed the log.
    pub(crate) fn hear_words(&self, user: UserNo, said: Option<Arc<str>>, pos: Pos) {
        let (mut people, now) = (self.people(), self.clock.monotonic());
        people.change_devices(user, now, |_, words| words.take(Words { said, pos }));
        self.changed(people);
    }

    /// Another process has just come.
    pub(crate) fn say_again(&self) {
        self.people().say_again(self.clock.monotonic());
    }

    /// Other processes are to know what another server says.
    pub(super) fn say_theirs(&self, user: UserNo, update: &PresenceUpdate) {
        let people = self.people();
        if people.positions.has_others() {
            let what = What::Theirs(update.clone(), None);
            (people.positions).tell(|| SaidPresence { user, what }.said());
        }
    }
}

fn ms(ms: i64) -> Duration {
    Duration::from_millis(u64::try_from(ms).unwrap_or_default())
}

impl Store {
    /// Makes sure that somebody's rooms are known, and their words if these may have been missed.
    pub(super) async fn know_again(&self, user: UserNo, words_missed: bool) -> Result<()> {
        if words_missed {
            let (said, pos) = self.status_message_at(user).await?;
            self.presence().hear_words(user, said, pos);
        }
        self.know(user, || None).await
    }

    /// Another process says something of somebody.
    pub(crate) async fn hear_elsewhere(&self, by: ProcessId, said: SaidPresence) -> Result<()> {
        if !self.has_presence() {
            return Ok(());
        }
        let user = said.user;
        let presence = self.presence();
        match said.what {
            What::Theirs(update, None) => self.learn_presence(user, update).await,
            What::Theirs(update, Some(left)) => self.recall_presence(user, update, ms(left)).await,
            What::Ours {
                state,
                for_ms,
                active_ms,
                became,
            } => {
                if state == PresenceState::Offline && presence.of(user).is_none() {
                    return Ok(());
                }
                self.know_ours(user).await?;
                let now = presence.clock.monotonic();
                let there = Here {
                    state,
                    until: now + ms(for_ms) + SLACK,
                    active: active_ms.map(|ago| now.saturating_sub(ms(ago))),
                };
                self.change_devices(user, |devices, now| {
                    devices.hear(by, there, became.as_ref(), now);
                });
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use ruma::{device_id, user_id};

    use super::super::PresenceState::{Busy, Offline, Online};
    use super::*;
    use crate::testing::TestDatabase;
    use crate::{Clock, Options, PresenceOptions};

    #[tokio::test]
    async fn of_what_a_user_says_the_later_in_the_log_stands() {
        for database in TestDatabase::both().await {
            let presence = PresenceOptions {
                enabled: true,
                max_room_size: 10,
            };
            let options = Options {
                presence,
                ..database.options()
            };
            let store = Store::open(options).await.unwrap();
            let user = store.user_no(user_id!("@ada:here")).await.unwrap();
            let says = async |words: &str| {
                let said =
                    store.set_presence(user, device_id!("PHONE"), Online, Some(words.into()));
                said.await.unwrap();
            };
            says("at the sea").await;
            let (earlier, pos) = store.status_message_at(user).await.unwrap();
            says("asleep").await;
            // It is heard of late.
            store.presence().hear_words(user, earlier, pos);
            let status = store.presence().of(user).unwrap();
            assert_eq!(status.message.as_deref(), Some("asleep"));
            says("").await;
            assert_eq!(store.presence().of(user).unwrap().message, None);
            assert_eq!(store.status_message(user).await.unwrap(), None);
            store.close().await;
            database.remove().await;
        }
    }

    #[tokio::test]
    async fn what_is_said_again_neither_overtakes_nor_prolongs() {
        let database = TestDatabase::sqlite();
        let clock = Clock::manual(0);
        let options = Options {
            clock: clock.clone(),
            presence: PresenceOptions {
                enabled: true,
                max_room_size: 10,
            },
            ..database.options()
        };
        let store = Store::open(options).await.unwrap();
        let user = store.user_no(user_id!("@bob:elsewhere")).await.unwrap();
        let hear = async |state: PresenceState, left: Option<i64>| {
            let update = PresenceUpdate {
                state,
                message: None,
                last_active_ago: None,
                currently_active: false,
            };
            let what = What::Theirs(update, left);
            let heard = store.hear_elsewhere(ProcessId(2), SaidPresence { user, what });
            heard.await.unwrap();
        };
        let state = || {
            store.presence().people().expire(clock.monotonic());
            store.presence().of(user).map(|status| status.state)
        };
        hear(Online, Some(60_000)).await;
        assert_eq!(state(), Some(Online));
        clock.advance(Duration::from_secs(59));
        hear(Online, Some(60_000)).await;
        clock.advance(Duration::from_secs(1));
        assert_eq!(state(), Some(Offline));
        hear(Busy, None).await;
        hear(Online, Some(60_000)).await;
        assert_eq!(state(), Some(Busy));
        store.close().await;
        database.remove().await;
    }
}
