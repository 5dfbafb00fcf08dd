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
use super::person::Whose;
use super::{Presence, PresenceState, PresenceUpdate};
use crate::log::outbox::Said;
use crate::log::positions::ProcessId;
use crate::{Result, Store, UserNo, millis};

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
    /// What a user here says of their presence.
    #[serde(rename = "says")]
    Says(Option<String>),
    /// What another server has said of its user.
    #[serde(rename = "theirs")]
    Theirs(PresenceUpdate),
}

impl SaidPresence {
    fn said(self) -> Said {
        // Of the same the last is enough; what becomes of a device is another thing than whether its user is there.
        let about = match self.what {
            What::Ours { became: None, .. } | What::Theirs(_) => "",
            What::Ours { .. } => "device",
            What::Says(_) => "words",
        };
        Said::new("presence", format_args!("{} {about}", self.user), &self)
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
                Whose::Theirs(told, active, _) => {
                    let update = PresenceUpdate {
                        state: told.state,
                        message: told.message.as_deref().map(str::to_owned),
                        last_active_ago: active.map(|active| {
                            let ago = now.saturating_sub(active).as_millis();
                            u64::try_from(ago).unwrap_or(u64::MAX)
                        }),
                        currently_active: told.currently_active,
                    };
                    let what = What::Theirs(update);
                    self.positions.tell(|| SaidPresence { user, what }.said());
                }
            }
        }
    }
}

impl Presence {
    /// Another process has just come.
    pub(crate) fn say_again(&self) {
        self.people().say_again(self.clock.monotonic());
    }

    /// Other processes are to know what a user says.
    pub(super) fn say_words(&self, user: UserNo, words: Option<&str>) {
        let people = self.people();
        if people.positions.has_others() {
            let what = What::Says(words.map(str::to_owned));
            (people.positions).tell(|| SaidPresence { user, what }.said());
        }
    }

    /// Other processes are to know what another server says.
    pub(super) fn say_theirs(&self, user: UserNo, update: &PresenceUpdate) {
        let people = self.people();
        if people.positions.has_others() {
            let what = What::Theirs(update.clone());
            (people.positions).tell(|| SaidPresence { user, what }.said());
        }
    }
}

impl Store {
    /// Another process says something of somebody.
    pub(crate) async fn hear_elsewhere(&self, by: ProcessId, said: SaidPresence) -> Result<()> {
        if !self.has_presence() {
            return Ok(());
        }
        let user = said.user;
        let presence = self.presence();
        match said.what {
            What::Theirs(update) => self.learn_presence(user, update).await,
            What::Says(words) => {
                let (mut people, now) = (presence.people(), presence.clock.monotonic());
                let words: Option<Arc<str>> = words.map(Into::into);
                people.change_devices(user, now, |_, said| *said = words);
                presence.changed(people);
                Ok(())
            }
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
                let ms = |ms: i64| Duration::from_millis(u64::try_from(ms).unwrap_or_default());
                let there = Here {
                    state,
                    until: now + ms(for_ms),
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
