//! Somebody, and what is known of them.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use super::devices::Devices;
use super::status::{PresenceState, PresenceStatus, PresenceUpdate, Told};
use crate::{Pos, RoomNo, UserNo, millis};

/// Another server's user is taken to be offline when that server has said nothing of them for so long.
const EXPIRES: Duration = Duration::from_mins(30);

/// Somebody.
#[derive(Debug)]
pub(super) struct Person {
    pub(super) whose: Whose,
    pub(super) told: Told,
    /// The position at which `told` changed last.
    pub(super) changed: i64,
    /// The rooms in which they are to be seen, with their positions there.
    pub(super) places: HashMap<RoomNo, i64>,
    /// When they are to be looked at again.
    pub(super) due: Option<Duration>,
    /// When other servers are to be told again what they were told.
    pub(super) repeat: Duration,
}

/// What a user here says of their presence, and its place in the log.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Words {
    pub(super) said: Option<Arc<str>>,
    pub(super) pos: Pos,
}

impl Words {
    /// Takes what stands later in the log.
    pub(super) fn take(&mut self, words: Self) {
        if words.pos > self.pos {
            *self = words;
        }
    }
}

/// What is so by what was heard.
#[derive(Debug)]
pub(super) enum Whose {
    /// A user of ours: what their devices say, and what they say themselves.
    Ours(Devices, Words),
    /// Another server's: what that said, when they did something, and until when it holds.
    Theirs(Told, Option<Duration>, Duration),
}

impl Whose {
    /// What another server says at `now`.
    pub(super) fn theirs(update: PresenceUpdate, now: Duration) -> Self {
        Self::theirs_until(update, now, now + EXPIRES)
    }

    /// The same, if it holds until then.
    pub(super) fn theirs_until(update: PresenceUpdate, now: Duration, until: Duration) -> Self {
        let said = Told {
            state: update.state,
            message: update.message.map(Into::into),
            currently_active: update.currently_active,
        };
        let ago = update.last_active_ago.map(Duration::from_millis);
        let active = ago.map(|ago| now.saturating_sub(ago));
        Self::Theirs(said, active, until)
    }

    fn active(&self) -> Option<Duration> {
        match self {
            Self::Ours(devices, _) => devices.active,
            Self::Theirs(_, active, _) => *active,
        }
    }

    /// What others are to be told at `now`.
    pub(super) fn at(&self, now: Duration) -> Told {
        match self {
            Self::Ours(devices, words) => {
                let state = devices.merged(now);
                Told {
                    state,
                    message: words.said.clone(),
                    // Who has been doing nothing for a while isn't told to be online.
                    currently_active: state == PresenceState::Online,
                }
            }
            Self::Theirs(said, _, until) if *until > now => said.clone(),
            Self::Theirs(said, ..) => Told {
                state: PresenceState::Offline,
                currently_active: false,
                ..said.clone()
            },
        }
    }

    /// When that may change by itself, after `now`.
    pub(super) fn due(&self, now: Duration) -> Option<Duration> {
        match self {
            Self::Ours(devices, _) => devices.due(now),
            Self::Theirs(said, _, until) => {
                (said.state > PresenceState::Offline && *until > now).then_some(*until)
            }
        }
    }
}

impl Person {
    /// Somebody of whom nothing was heard yet.
    pub(super) fn new(whose: Whose, changed: i64) -> Self {
        Self {
            whose,
            told: Told::default(),
            changed,
            places: HashMap::new(),
            due: None,
            repeat: Duration::ZERO,
        }
    }

    pub(super) fn is_there(&self) -> bool {
        self.told.state > PresenceState::Offline
    }

    /// Whether this process tells other servers of them: if it isn't `alone`, one that has seen their devices.
    pub(super) fn is_told_here(&self, alone: bool) -> bool {
        match &self.whose {
            Whose::Ours(devices, _) => alone || devices.were_seen_here(),
            Whose::Theirs(..) => false,
        }
    }

    /// Whether they aren't there any more because the process isn't that has seen them: others have to tell that.
    pub(super) fn was_left(&self, now: Duration) -> bool {
        match &self.whose {
            Whose::Ours(devices, _) => !self.is_there() && devices.were_left(now),
            Whose::Theirs(..) => false,
        }
    }

    pub(super) fn is_ours(&self) -> bool {
        matches!(self.whose, Whose::Ours(..))
    }

    /// What is told of them.
    pub(super) fn status(&self, user: UserNo, now: Duration) -> PresenceStatus {
        let active = self.whose.active();
        PresenceStatus {
            user,
            state: self.told.state,
            message: self.told.message.clone(),
            last_active_ago: active.map(|active| millis(now.saturating_sub(active))),
            currently_active: self.told.currently_active,
        }
    }
}
