//! Sends delayed events when they are due.
//!
//! Of the processes on one database the one with the lease does so; that nothing is sent twice doesn't hang on it, but on the
//! commit. It sleeps until the next event is due, or one is scheduled that is due earlier: without either nothing asks the
//! database anything (of several processes, who has the lease says so every so often). What is due goes out user by user,
//! whose event has been due for longest first: each user's in order, so that an invite for which another server is asked, or
//! a room in which nothing can be sent, holds up nobody but whoever sends it.
//!
//! An event that can't be sent is over, with what it was refused for. Only if the server is at fault, it is tried again.

use std::{collections::HashMap, time::Duration};

use http::StatusCode;
use rhizome_edge::MatrixError;
use rhizome_storage::{DelayedEvent, DelayedStep, Lease, Store, UserNo};
use tokio::task::{Id, JoinSet};
use tokio_util::sync::CancellationToken;

use super::deliver::{change, deliver, take};
use crate::App;

const NAME: &str = "delayed events";
/// How long the lease lasts without renewal, and how often it is renewed or asked for.
const LENGTH: Duration = Duration::from_secs(6);
const TICK: Duration = Duration::from_secs(2);
/// So many users' events are sent at a time.
const USERS: usize = 64;
/// So many events of a user are read at once.
const PIECE: usize = 16;
/// The longest sleep, in case somebody sets the machine's clock.
const LONGEST: Duration = Duration::from_hours(1);
/// What fails for the server's sake is tried so often, after pauses that double.
const TRIES: u32 = 8;
const PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// How long what is under way may go on after the stop.
const STOP_GRACE: Duration = Duration::from_secs(5);

/// Sends delayed events until `stop`, whenever this process has the lease.
///
/// # Errors
/// The database fails: to be begun again after a while.
pub async fn run(app: App, stop: CancellationToken) -> Result<(), MatrixError> {
    loop {
        let Some(lease) = stop.run_until_cancelled(leased(&app.store)).await else {
            return Ok(());
        };
        let lease = lease?;
        let mut turn = Turn {
            app: &app,
            lease: &lease,
            stop: &stop,
            tasks: JoinSet::new(),
            busy: HashMap::new(),
            tick: app.store.clock().monotonic() + TICK,
        };
        let ended = turn.until_lost().await;
        lease.release().await?;
        ended?;
    }
}

/// Waits for the lease.
async fn leased(store: &Store) -> Result<Lease, MatrixError> {
    let length = store.is_shared().then_some(LENGTH);
    loop {
        if let Some(lease) = Lease::take(store, NAME, length).await? {
            return Ok(lease);
        }
        store.clock().sleep(TICK).await;
    }
}

type Sending = Result<(), MatrixError>;

/// The time in which this process has the lease.
struct Turn<'a> {
    app: &'a App,
    lease: &'a Lease,
    stop: &'a CancellationToken,
    /// Each sends what is due of a user, …
    tasks: JoinSet<Sending>,
    /// … of this one.
    busy: HashMap<Id, UserNo>,
    /// When to renew the lease, by the store's monotonic time.
    tick: Duration,
}

impl Turn<'_> {
    /// Until the lease is another's, or the stop.
    async fn until_lost(&mut self) -> Result<(), MatrixError> {
        let store = &self.app.store;
        loop {
            // Before looking: what is scheduled from here on wakes us.
            store.look_for_delayed();
            let until_ms = self.look().await?;
            store.wait_for_delayed(until_ms);
            tokio::select! {
                Some(done) = self.tasks.join_next_with_id() => self.ended(done)?,
                () = store.delayed_due_earlier() => {}
                () = due(store, until_ms) => {}
                () = tick(store, self.tick) => {
                    self.tick = store.clock().monotonic() + TICK;
                    if !self.lease.renew().await? {
                        tracing::info!("another process sends delayed events");
                        return Ok(());
                    }
                }
                () = self.stop.cancelled() => return self.end().await,
            }
        }
    }

    /// Begins to send what is due. Gives when to look again.
    async fn look(&mut self) -> Result<Option<i64>, MatrixError> {
        let store = &self.app.store;
        let free = USERS.saturating_sub(self.busy.len());
        if free == 0 {
            return Ok(None);
        }
        let busy: Vec<UserNo> = self.busy.values().copied().collect();
        let now_ms = store.clock().now_ms();
        let users = store.users_with_due(now_ms, &busy, free).await?;
        for user in &users {
            let task = patiently(self.app.clone(), *user, self.stop.clone());
            let id = self.tasks.spawn(task).id();
            self.busy.insert(id, *user);
        }
        let busy: Vec<UserNo> = self.busy.values().copied().collect();
        Ok(if busy.len() >= USERS {
            None
        } else {
            store.next_delayed_ms(&busy).await?
        })
    }

    fn ended(
        &mut self,
        done: Result<(Id, Sending), tokio::task::JoinError>,
    ) -> Result<(), MatrixError> {
        match done {
            Ok((id, sent)) => {
                self.busy.remove(&id);
                sent
            }
            Err(error) => {
                tracing::error!(%error, "sending a delayed event has failed");
                Err(MatrixError::internal())
            }
        }
    }

    /// What is under way is finished.
    async fn end(&mut self) -> Result<(), MatrixError> {
        let all = async {
            while let Some(done) = self.tasks.join_next_with_id().await {
                self.ended(done)?;
            }
            Ok(())
        };
        // What is cut off is sent by the next process, or was by this one.
        tokio::time::timeout(STOP_GRACE, all)
            .await
            .unwrap_or(Ok(()))
    }
}

/// Waits until a time of the day.
async fn due(store: &Store, until_ms: Option<i64>) {
    let Some(until_ms) = until_ms else {
        return std::future::pending().await;
    };
    let wait = until_ms.saturating_sub(store.clock().now_ms());
    let wait = Duration::from_millis(u64::try_from(wait).unwrap_or_default());
    store.clock().sleep(wait.min(LONGEST)).await;
}

/// Only where there are other processes, anybody waits for a sign of us.
async fn tick(store: &Store, at: Duration) {
    if !store.is_shared() {
        return std::future::pending().await;
    }
    store.clock().sleep_until(at).await;
}

/// Sends what is due of a user. One user's trouble holds nobody else up: it is tried again after a while.
async fn patiently(app: App, user: UserNo, stop: CancellationToken) -> Sending {
    if let Err(error) = all_due(app.clone(), user, stop.clone()).await {
        tracing::error!(%error, "a user's delayed events can't be sent");
        let pause = app.store.clock().sleep(LONGEST_PAUSE);
        stop.run_until_cancelled(pause).await;
    }
    Ok(())
}

/// Sends what is due of a user, in order.
async fn all_due(app: App, user: UserNo, stop: CancellationToken) -> Sending {
    let store = &app.store;
    let mut before = Vec::new();
    loop {
        let now_ms = store.clock().now_ms();
        let events = store.due_delayed(user, now_ms, PIECE).await?;
        if events.is_empty() {
            return Ok(());
        }
        if events == before {
            // Each should be over, or due later, by now.
            tracing::error!("delayed events stay where they are");
            return Err(MatrixError::internal());
        }
        for event in &events {
            let sent = stop.run_until_cancelled(one(&app, event)).await;
            match sent {
                Some(sent) => sent?,
                None => return Ok(()),
            }
        }
        before = events;
    }
}

/// Sends an event that is due, or writes down why it can't be.
async fn one(app: &App, event: &DelayedEvent) -> Sending {
    let Some(due_ms) = event.due_ms else {
        return Ok(());
    };
    let mut tries = 0;
    let error = loop {
        // However often it is tried, it is one event.
        let taken = if tries == 0 {
            take(app, event).await
        } else {
            Ok(())
        };
        let sent = match taken {
            Ok(()) => deliver(app, event, Some(due_ms)).await,
            Err(error) => Err(error),
        };
        tries += 1;
        match sent {
            Ok(_) => return Ok(()),
            Err(error) if is_ours(&error) && tries < TRIES => {
                tracing::warn!(%error, tries, "a delayed event can't be sent now");
                let pause = PAUSE * 2_u32.saturating_pow(tries - 1);
                app.store.clock().sleep(pause.min(LONGEST_PAUSE)).await;
            }
            Err(error) => break error,
        }
    };
    let failed = DelayedStep::Failed {
        due_ms,
        error: error.body().to_string(),
        now_ms: app.store.clock().now_ms(),
    };
    change(app, event, failed).await.map(drop)
}

/// Whether it isn't the event's fault.
fn is_ours(error: &MatrixError) -> bool {
    matches!(
        error.status,
        StatusCode::SERVICE_UNAVAILABLE | StatusCode::INTERNAL_SERVER_ERROR
    )
}
