//! Telling by mail: what waits is gathered until it has waited long enough, and told at once.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rhizome_mail::{Address, MailError, Sent};
use rhizome_storage::{About, Fact, Mails as Got, Pos, Push, PusherGone, PusherKey, Waiting};

use super::digest::{Missed, digest};
use crate::{
    App, MatrixError,
    push::mailing::{Mailing, Unsent},
};

/// So much of what waits is gathered for a mail. What is beyond comes with the next one.
const MOST: usize = 1_000;

/// See the module.
pub struct Mails {
    app: App,
}

/// What has become of a look at what waits for a mail.
#[derive(Debug, PartialEq, Eq)]
pub enum Mailed {
    /// It was told up to there, or needn't be.
    On(Pos),
    /// It has to wait so much longer.
    Later(Duration),
    /// The mail server doesn't take it now.
    Again,
}

impl Mails {
    pub fn new(app: &App) -> Self {
        Self { app: app.clone() }
    }

    /// Looks at what waits for a pusher that gets mails.
    pub async fn tell(&self, key: &PusherKey, waiting: &Waiting) -> Result<Mailed, MatrixError> {
        let Some(mailing) = self.app.config.mailing.as_deref() else {
            return self.done(key, waiting, waiting.mails).await;
        };
        let (pusher, got) = (&waiting.pusher, waiting.mails);
        if !pusher.enabled {
            return self.done(key, waiting, got).await;
        }
        let Ok(address) = Address::parse(&key.pushkey) else {
            return self.done(key, waiting, got).await;
        };
        if let Some(ack) = &pusher.ack {
            let asked = self.ask(mailing, waiting, (address, ack)).await?;
            return self.conclude(key, waiting, (asked, got)).await;
        }
        let Some(first) = waiting.pushes.iter().find(|push| is_told(push)) else {
            return self.done(key, waiting, anew(got)).await;
        };
        // Before that no mail goes whatever else waits.
        let soonest = self.pause(mailing, first.since_ms, anew(got));
        if !soonest.is_zero() {
            return Ok(Mailed::Later(soonest));
        }
        match self.app.store.waiting_pushes(key, MOST).await? {
            Some(all) => self.gather(mailing, &all, address).await,
            None => Ok(Mailed::On(Pos(0))),
        }
    }

    /// Tells all that waits, if it is time.
    async fn gather(
        &self,
        mailing: &Mailing,
        waiting: &Waiting,
        address: Address,
    ) -> Result<Mailed, MatrixError> {
        let key = &waiting.pusher.key();
        let pushes = &waiting.pushes;
        let has_read = pushes.iter().any(|push| push.about == About::Badge);
        let got = if has_read {
            anew(waiting.mails)
        } else {
            waiting.mails
        };
        let oldest = pushes.iter().find(|push| is_told(push));
        let pause = oldest.map(|oldest| self.pause(mailing, oldest.since_ms, got));
        if let Some(pause) = pause.filter(|pause| !pause.is_zero()) {
            return Ok(Mailed::Later(pause));
        }
        let missed = Missed::of(&self.app, &waiting.pusher, pushes).await?;
        let Some(since_ms) = missed.since_ms else {
            // All was read.
            return self.done(key, waiting, anew(got)).await;
        };
        let got = if missed.is_all { got } else { anew(got) };
        let pause = self.pause(mailing, since_ms, got);
        if !pause.is_zero() {
            return Ok(Mailed::Later(pause));
        }
        let user = self.app.store.user(waiting.pusher.user).await?;
        let sent = match mailing.stops(&user, key) {
            Ok(stops) => {
                let digest = digest(&self.app, mailing, (&user, stops), missed).await?;
                mailing.tell(address, digest).await
            }
            Err(error) => Err(error),
        };
        let again = Got {
            last_ms: Some(self.app.store.clock().now_ms()),
            in_a_row: Sent::again(last(got), self.now()).in_a_row,
        };
        self.conclude(key, waiting, (sent, again)).await
    }

    /// Asks an address whether it wants mails.
    async fn ask(
        &self,
        mailing: &Mailing,
        waiting: &Waiting,
        to: (Address, &str),
    ) -> Result<Result<(), Unsent>, MatrixError> {
        let pusher = &waiting.pusher;
        let store = &self.app.store;
        let is_over = (pusher.ack_until_ms).is_none_or(|until| store.clock().now_ms() >= until);
        let mut pushes = waiting.pushes.iter();
        if is_over || !pushes.any(|push| push.about == About::Activation) {
            return Ok(Ok(()));
        }
        let user = store.user(pusher.user).await?;
        Ok(mailing.ask(&user, &pusher.key(), to).await)
    }

    async fn conclude(
        &self,
        key: &PusherKey,
        waiting: &Waiting,
        (sent, got): (Result<(), Unsent>, Got),
    ) -> Result<Mailed, MatrixError> {
        let error = match sent {
            Ok(()) => return self.done(key, waiting, got).await,
            Err(error) => error,
        };
        match &error {
            Unsent::Mail(MailError::Temporary { .. }) => {
                tracing::debug!(%error, "a mail has to wait");
                Ok(Mailed::Again)
            }
            Unsent::Mail(MailError::Permanent {
                no_such_address, ..
            }) => {
                tracing::debug!(%error, "a mail isn't taken");
                if *no_such_address {
                    let gone = Fact::from(PusherGone(key.clone()));
                    self.app.store.commit(vec![gone].into()).await?;
                }
                self.done(key, waiting, got).await
            }
            // The operator has to do something.
            Unsent::Mail(MailError::Config { .. }) | Unsent::Written(_) | Unsent::Link(_) => {
                tracing::error!(%error, "mails don't go out");
                Ok(Mailed::Again)
            }
        }
    }

    /// What waits is done with.
    async fn done(
        &self,
        key: &PusherKey,
        waiting: &Waiting,
        got: Got,
    ) -> Result<Mailed, MatrixError> {
        let upto = waiting.pushes.last().map_or(Pos(0), |push| push.pos);
        self.app.store.mails_told(key, upto, got).await?;
        Ok(Mailed::On(upto))
    }

    /// How long it is until the next mail, whose oldest message waits since then.
    fn pause(&self, mailing: &Mailing, since_ms: i64, got: Got) -> Duration {
        let now = self.now();
        let next = mailing.throttle().next(at(since_ms), last(got), now);
        next.duration_since(now).unwrap_or_default()
    }

    fn now(&self) -> SystemTime {
        at(self.app.store.clock().now_ms())
    }
}

/// Whether something can be told of it in a mail.
fn is_told(push: &Push) -> bool {
    matches!(push.about, About::Event(_) | About::Invite)
}

/// The user has read something.
fn anew(got: Got) -> Got {
    Got { in_a_row: 0, ..got }
}

/// The last mail.
fn last(got: Got) -> Option<Sent> {
    got.last_ms.map(|last_ms| Sent {
        at: at(last_ms),
        in_a_row: got.in_a_row,
    })
}

fn at(ms: i64) -> SystemTime {
    UNIX_EPOCH + Duration::from_millis(u64::try_from(ms).unwrap_or_default())
}
