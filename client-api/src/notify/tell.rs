//! Handing over what waits: for each pusher one thing after the other.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use rhizome_federation::outbound::{Schemes, WebError};
use rhizome_push::{
    ANSWER_BODY, ANSWER_TIME, Backoff, Channel as _, Device, NamedBy, Notification, Outcome,
    PushAnswer, PushRequest, Reading, SendError, deliver,
};
use rhizome_storage::{
    About, Fact, Lease, Pos, Push, Pusher, PusherGone, PusherKey, Told, Waiting,
};
use serde_json::{Map, Value};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use super::{
    Messengers,
    acknowledged::Acknowledged,
    choose::choose,
    mails::{Mailed, Mails},
    tasks::{AtWork, Tasks},
    told::{Telling, is_call},
};
use crate::{App, MatrixError, push::mail_pushers::EMAIL};

/// So many requests are under way at a time.
const AT_ONCE: usize = 256;
/// So much of what waits for a pusher is looked at.
const LOOK: usize = 200;
/// Of that so much for something that rings.
const MAY_RING: usize = 20;
/// So many pushers are looked for at once.
const PIECE: usize = 1_000;

/// See the module.
pub struct Teller {
    app: App,
    messengers: Messengers,
    acknowledged: Acknowledged,
    backoff: Backoff,
    turns: Semaphore,
    tasks: Arc<Tasks>,
    mails: Mails,
    /// So that what fails at one time comes back at different ones.
    seed: AtomicU32,
    stop: CancellationToken,
}

/// What has become of a look at what waits.
enum Round {
    /// Nothing waits.
    Done,
    /// Something was told.
    On(Pos),
    /// Something needn't be told.
    Passed(Pos),
    /// It is to be told when so much time has gone by, or something else waits.
    Later(Duration),
    /// It isn't taken now.
    Again(Duration),
}

impl Teller {
    pub fn new(app: App, messengers: Messengers, stop: CancellationToken) -> Self {
        Self {
            mails: Mails::new(&app),
            app,
            messengers,
            acknowledged: Acknowledged::default(),
            backoff: Backoff::default(),
            turns: Semaphore::new(AT_ONCE),
            tasks: Arc::default(),
            seed: AtomicU32::new(0),
            stop,
        }
    }

    /// Something waits for a pusher. It is told as long as the lease is ours.
    pub fn ring(self: &Arc<Self>, key: PusherKey, lease: &Lease) {
        if let Some(task) = self.tasks.ring(key, lease) {
            let teller = self.clone();
            tokio::spawn(async move { teller.work(task).await });
        }
    }

    /// A pusher was set anew.
    pub fn renew(&self, key: &PusherKey) {
        self.tasks.renew(key);
    }

    /// The same for all pushers for which something waits.
    pub async fn ring_all(self: &Arc<Self>, lease: &Lease) -> rhizome_storage::Result<()> {
        let mut after = PusherKey::default();
        loop {
            let some = self.app.store.pushers_waiting(&after, PIECE).await?;
            let Some(last) = some.last() else {
                return Ok(());
            };
            after = last.clone();
            for key in some {
                self.ring(key, lease);
            }
        }
    }

    /// Tells a pusher until nothing waits for it.
    async fn work(&self, mut task: AtWork) {
        let key = task.key().clone();
        let (mut failures, mut upto) = (0, Pos(0));
        let seed = self.seed.fetch_add(1, Ordering::Relaxed);
        while !self.stop.is_cancelled() {
            if !task.looks() {
                if task.rests() {
                    return;
                }
                continue;
            }
            let began = self.app.store.clock().monotonic();
            let pause = match self.round(&key, upto).await {
                Ok(Round::On(told)) => {
                    (failures, upto) = (0, told);
                    continue;
                }
                Ok(Round::Passed(passed)) => {
                    upto = passed;
                    continue;
                }
                Ok(Round::Done) if task.rests() => return,
                Ok(Round::Done) => continue,
                Ok(Round::Later(pause)) => {
                    failures = 0;
                    tokio::select! {
                        () = self.app.store.clock().sleep_until(began + pause) => {}
                        () = task.rung() => {}
                        () = self.stop.cancelled() => {}
                    }
                    continue;
                }
                Ok(Round::Again(asked)) => {
                    failures += 1;
                    self.backoff.delay(failures, Some(asked), seed)
                }
                Err(error) => {
                    tracing::warn!(error = %error.message, "a pusher can't be told");
                    failures += 1;
                    self.backoff.delay(failures, None, seed)
                }
            };
            tokio::select! {
                () = self.app.store.clock().sleep(pause) => {}
                () = task.renewed() => failures = 0,
                () = self.stop.cancelled() => {}
            }
        }
    }

    /// Tells the next thing that waits. `upto`: so far all was told by this task.
    async fn round(&self, key: &PusherKey, upto: Pos) -> Result<Round, MatrixError> {
        let store = &self.app.store;
        let Some(waiting) = store.waiting_pushes(key, LOOK).await? else {
            return Ok(Round::Done);
        };
        if waiting.pusher.kind == EMAIL {
            return self.mail(key, &waiting).await;
        }
        let now = store.clock().now_ms();
        let passes = |push: &Push| push.pos <= upto || !waiting.pusher.enabled;
        let push = match choose(&waiting.pushes, passes, now, &self.backoff) {
            (Some(passed), _) => return self.passed(key, passed).await,
            (None, Some(push)) => push,
            (None, None) => return Ok(Round::Done),
        };
        let is_new = waiting.pusher.ack.is_some();
        match push.about {
            About::Activation if is_new => {
                let outcome = self.activate(&waiting.pusher).await;
                return self.conclude(key, &push, None, outcome).await;
            }
            _ if is_new => return self.passed(key, push.pos).await,
            _ => {}
        }
        // What can be read meanwhile needn't be told: it is looked at when there is a turn for it.
        let _turn = self.turns.acquire().await;
        let telling = Telling::new(&self.app, waiting.pusher.user).await?;
        let Some((notification, tweaks)) = telling.of(&push, waiting.badge).await? else {
            let read = self.read(&telling, &waiting, &push).await?;
            return self.passed(key, read).await;
        };
        if notification.event.is_some()
            && let Some(quiet) = self.quiet(&waiting).await?
        {
            return Ok(Round::Later(quiet));
        }
        let outcome = self.hand_over(&waiting, &notification, tweaks).await;
        let unread = i64::try_from(notification.counts.unread).ok();
        self.conclude(key, &push, unread, outcome).await
    }

    async fn mail(&self, key: &PusherKey, waiting: &Waiting) -> Result<Round, MatrixError> {
        Ok(match self.mails.tell(key, waiting).await? {
            Mailed::On(upto) => Round::On(upto),
            Mailed::Later(pause) => Round::Later(pause),
            Mailed::Again => Round::Again(Duration::ZERO),
        })
    }

    /// For how much longer a device is left alone because its user sits at another, where they see what comes. A call
    /// doesn't wait, nor what waits before it.
    async fn quiet(&self, waiting: &Waiting) -> Result<Option<Duration>, MatrixError> {
        let store = &self.app.store;
        let Some(within) = self.app.config.quiet_while_active else {
            return Ok(None);
        };
        let (user, device) = (waiting.pusher.user, waiting.pusher.device.as_deref());
        let Some(quiet) = store.active_elsewhere(user, device, within) else {
            return Ok(None);
        };
        // It is looked at whenever something comes: what rings is among the last.
        let last = waiting.pushes.iter().rev().take(MAY_RING);
        let events = last.filter_map(|push| match push.about {
            About::Event(no) => Some(no),
            _ => None,
        });
        let events = store.events_by_no(&events.collect::<Vec<_>>()).await?;
        let rings = events.iter().any(|event| is_call(event.pdu.kind()));
        Ok((!rings).then_some(quiet))
    }

    /// Bids a new pusher say that it is there.
    async fn activate(&self, pusher: &Pusher) -> Outcome {
        let dropped = |why: &str| Outcome::Dropped {
            why: why.to_owned(),
        };
        let Some(web) = self.app.config.channels.web_push() else {
            return dropped("there is no Web Push any more");
        };
        let (Some(ack), Some(until)) = (&pusher.ack, pusher.ack_until_ms) else {
            return dropped("it has said so");
        };
        if self.app.store.clock().now_ms() >= until {
            return dropped("its time is over");
        }
        let device = device(pusher, Map::new());
        let request = match web.activation(&device, ack, self.now()) {
            Ok(request) => request,
            Err(error) => return dropped(&error.to_string()),
        };
        match self.send(request).await {
            Ok(answer) => match web.read(&answer, &device, self.now()) {
                Reading::Done(outcome) => outcome,
                Reading::TooLarge | Reading::Renew => dropped("it isn't taken"),
            },
            Err(SendError::Failed(why)) => Outcome::Again { after: None, why },
            Err(SendError::Refused(why)) => Outcome::Dropped { why },
        }
    }

    async fn hand_over(
        &self,
        waiting: &Waiting,
        notification: &Notification,
        tweaks: Map<String, Value>,
    ) -> Outcome {
        let (pusher, device) = (&waiting.pusher, device(&waiting.pusher, tweaks));
        let Some(channel) = self.app.config.channels.of(&pusher.kind, &device) else {
            let why = "there is no way to pushers of its kind any more".to_owned();
            return Outcome::Dropped { why };
        };
        let send = |request| self.send(request);
        deliver(channel, notification, &device, || self.now(), send).await
    }

    async fn send(&self, request: PushRequest) -> Result<PushAnswer, SendError> {
        let messenger = match request.named_by {
            NamedBy::User => &self.messengers.to_users,
            NamedBy::Operator => &self.messengers.to_operators,
        };
        let schemes = match self.app.config.channels.schemes() {
            rhizome_push::Schemes::Https if request.named_by == NamedBy::User => Schemes::Https,
            _ => Schemes::Any,
        };
        let bounds = (schemes, ANSWER_TIME, ANSWER_BODY);
        let (to, headers) = ((request.method, request.url), request.headers);
        match messenger.bring(to, headers, request.body, bounds).await {
            Ok(answer) => Ok(PushAnswer {
                status: answer.status,
                headers: answer.headers,
                body: answer.body,
            }),
            Err(WebError::Refused(why)) => Err(SendError::Refused(why)),
            Err(error) => Err(SendError::Failed(error.to_string())),
        }
    }

    fn now(&self) -> SystemTime {
        let now = u64::try_from(self.app.store.clock().now_ms()).unwrap_or_default();
        UNIX_EPOCH + Duration::from_millis(now)
    }

    async fn conclude(
        &self,
        key: &PusherKey,
        push: &Push,
        unread: Option<i64>,
        outcome: Outcome,
    ) -> Result<Round, MatrixError> {
        let counts = &self.app.counts.pushes;
        let counter = match &outcome {
            Outcome::Accepted => &counts.accepted,
            Outcome::Dropped { .. } => &counts.dropped,
            Outcome::Rejected(_) => &counts.rejected,
            Outcome::Again { .. } => &counts.failed,
        };
        counter.fetch_add(1, Ordering::Relaxed);
        match outcome {
            Outcome::Accepted => self.done(key, push.pos, unread).await,
            Outcome::Dropped { why } => {
                tracing::debug!(app = key.app_id, why, "a notification is dropped");
                self.done(key, push.pos, None).await
            }
            Outcome::Rejected(keys) if keys.contains(&key.pushkey) => {
                tracing::debug!(app = key.app_id, "a pusher isn't known any more");
                let gone = Fact::from(PusherGone(key.clone()));
                self.app.store.commit(vec![gone].into()).await?;
                Ok(Round::On(push.pos))
            }
            Outcome::Rejected(_) => self.done(key, push.pos, None).await,
            Outcome::Again { after, why } => {
                tracing::debug!(app = key.app_id, why, "a notification isn't taken now");
                Ok(Round::Again(after.unwrap_or_default()))
            }
        }
    }

    /// Up to where nothing need be told any more, if this one needn't: what was read was so with what came before it.
    async fn read(
        &self,
        telling: &Telling<'_>,
        waiting: &Waiting,
        first: &Push,
    ) -> Result<Pos, MatrixError> {
        let mut upto = first.pos;
        for push in waiting.pushes.iter().filter(|push| push.pos > first.pos) {
            if telling.of(push, waiting.badge).await?.is_some() {
                break;
            }
            upto = push.pos;
        }
        Ok(upto)
    }

    /// What waits up to there needn't be told.
    async fn passed(&self, key: &PusherKey, pos: Pos) -> Result<Round, MatrixError> {
        self.done(key, pos, None).await?;
        Ok(Round::Passed(pos))
    }

    /// What waits up to there is done with.
    async fn done(
        &self,
        key: &PusherKey,
        pos: Pos,
        badge: Option<i64>,
    ) -> Result<Round, MatrixError> {
        let told = Told {
            pusher: key.clone(),
            pos,
            badge,
        };
        self.acknowledged.note(&self.app.store, told).await?;
        Ok(Round::On(pos))
    }
}

/// A pusher as its channel knows it.
fn device(pusher: &Pusher, tweaks: Map<String, Value>) -> Device {
    Device {
        app_id: pusher.app_id.clone(),
        pushkey: pusher.pushkey.clone(),
        pushkey_ts: u64::try_from(pusher.set_ms / 1_000).unwrap_or_default(),
        data: serde_json::from_str(&pusher.data).unwrap_or_default(),
        tweaks,
    }
}
