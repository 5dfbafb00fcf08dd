//! The reader of the log: whom what stands there is for.

use std::{
    panic::AssertUnwindSafe,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures_util::FutureExt as _;
use rhizome_storage::{EntryKind, Failure, Lease, LogWork, Pos, Stretch};
use tokio::{sync::Mutex as AsyncMutex, task::JoinSet};
use tokio_util::sync::CancellationToken;

use super::{
    ephemeral,
    interest::{Hearers, Interest},
    news::Found,
    queue::Queue,
    service::Telling,
};
use crate::{App, MatrixError};

/// How often it is written down how far services are for which nothing comes; and how many positions may go by before.
const NOTED_AFTER: Duration = Duration::from_mins(1);
const NOTED_WITHIN: i64 = 10_000;
/// How long a service's task rests that failed, by the database: longer each time, up to the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// What tells services, while this process is the one that does.
pub struct Reader {
    app: App,
    hearers: Arc<Hearers>,
    stop: CancellationToken,
    /// What interests services, as of how far the log was looked at.
    interest: Arc<AsyncMutex<Interest>>,
    turn: Mutex<Turn>,
}

/// From having the lease to having lost it.
#[derive(Default)]
struct Turn {
    lease: Option<Lease>,
    /// Ends the tasks.
    stop: CancellationToken,
    tasks: JoinSet<()>,
    queues: Vec<Arc<Queue>>,
    noted: Noted,
}

/// What was written down last.
#[derive(Default, Clone, Copy)]
struct Noted {
    at: Duration,
    pos: Pos,
}

impl Reader {
    pub fn new(app: &App, hearers: &Arc<Hearers>, stop: &CancellationToken) -> Self {
        Self {
            interest: Arc::new(AsyncMutex::new(Interest::new(&app.store, hearers))),
            app: app.clone(),
            hearers: hearers.clone(),
            stop: stop.clone(),
            turn: Mutex::default(),
        }
    }

    fn turn<T>(&self, look: impl FnOnce(&mut Turn) -> T) -> T {
        look(&mut self.turn.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Ends the tasks, and waits for them.
    pub async fn end(&self) {
        let mut tasks = self.turn(|turn| {
            turn.stop.cancel();
            std::mem::take(&mut turn.tasks)
        });
        while tasks.join_next().await.is_some() {}
        let upto = self.app.store.log().head();
        if let Err(error) = self.note(upto, true).await {
            tracing::debug!(%error, "how far application services are isn't written down");
        }
    }

    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.turn(|turn| drop(turn.tasks.spawn(task)));
    }

    /// The services' tasks, and those that follow what isn't in the log.
    async fn start(&self, lease: &Lease, head: Pos) -> Result<(), Failure> {
        let store = &self.app.store;
        let ids = self.hearers.services.iter();
        let ids: Vec<&str> = ids.map(|service| service.id.as_str()).collect();
        let Some(places) = store.begin_services(lease, &ids, head).await? else {
            return Ok(());
        };
        let stop = self.stop.child_token();
        let queues: Vec<_> = (places.iter())
            .map(|place| Arc::new(Queue::new(place.pos, head, place.paused)))
            .collect();
        self.turn(|turn| {
            turn.lease = Some(lease.clone());
            turn.stop = stop.clone();
            turn.queues.clone_from(&queues);
            turn.noted = Noted {
                at: store.clock().monotonic(),
                pos: head,
            };
        });
        for (service, queue) in self.hearers.services.iter().zip(&queues) {
            let telling = Telling {
                app: self.app.clone(),
                service: service.clone(),
                queue: queue.clone(),
                lease: lease.clone(),
                stop: stop.clone(),
            };
            self.spawn(tell(telling));
        }
        if self
            .hearers
            .services
            .iter()
            .any(|one| one.receive_ephemeral)
        {
            let heard = ephemeral::Heard {
                app: self.app.clone(),
                interest: self.interest.clone(),
                queues,
                stop,
            };
            self.spawn(heard.follow());
        }
        Ok(())
    }

    /// Writes down how far services are for which nothing comes, now and then or at once.
    async fn note(&self, upto: Pos, at_once: bool) -> Result<(), MatrixError> {
        let now = self.app.store.clock().monotonic();
        let due = self.turn(|turn| {
            let noted = turn.noted;
            let due = at_once
                || now.saturating_sub(noted.at) >= NOTED_AFTER
                || upto.0 - noted.pos.0 >= NOTED_WITHIN;
            due.then(|| {
                turn.noted = Noted { at: now, pos: upto };
                (turn.lease.clone(), turn.queues.clone())
            })
        });
        let Some((Some(lease), queues)) = due else {
            return Ok(());
        };
        let services = self.hearers.services.iter().zip(&queues);
        // Of who is at work its task knows: here it is only noted that it is registered.
        let places: Vec<(&str, Pos)> = services
            .map(|(service, queue)| (service.id.as_str(), queue.idles_at().unwrap_or_default()))
            .collect();
        if lease.held() {
            let store = &self.app.store;
            store.services_stand_at(&lease, &places).await?;
        }
        Ok(())
    }

    async fn look(&self, stretch: &Stretch) -> Result<(), MatrixError> {
        let queues = self.turn(|turn| turn.queues.clone());
        let mut found: Vec<Vec<Found>> = vec![Vec::new(); queues.len()];
        let mut interest = self.interest.lock().await;
        for entry in &stretch.entries {
            for (place, news) in interest.look(entry).await? {
                if let Some(found) = found.get_mut(place) {
                    let pos = entry.pos;
                    found.push(Found { pos, news });
                }
            }
            if let EntryKind::AppservicePause(pause) = &entry.kind {
                let mut services = self.hearers.services.iter().zip(&queues);
                if let Some((_, queue)) = services.find(|(service, _)| service.id == pause.id) {
                    queue.pause(pause.paused);
                }
            }
        }
        for (queue, found) in queues.iter().zip(found) {
            queue.add(found, stretch.upto);
        }
        // Whoever takes it finds it as it is there.
        drop(interest);
        self.note(stretch.upto, false).await
    }
}

/// The reader as the log knows it.
pub struct Work(pub Arc<Reader>);

impl LogWork for Work {
    /// The services have places of their own.
    const KEEPS_CURSOR: bool = false;

    async fn begin(&self, lease: &Lease, _done: Pos) -> Result<Pos, Failure> {
        let Self(reader) = self;
        // Those of a turn before may be at work still.
        reader.end().await;
        let store = &reader.app.store;
        let head = store.log().head();
        *reader.interest.lock().await = Interest::new(store, &reader.hearers);
        reader.start(lease, head).await?;
        Ok(head)
    }

    async fn work(&self, stretch: &Stretch) -> Result<(), Failure> {
        Ok(self.0.look(stretch).await?)
    }
}

/// Tells a service, again from where it stands if the database fails.
async fn tell(telling: Telling) {
    let (store, id) = (&telling.app.store, telling.service.id.as_str());
    let mut pause = FIRST_PAUSE;
    while !telling.stop.is_cancelled() && telling.lease.held() {
        let began = store.clock().monotonic();
        let told = async {
            let place = store
                .begin_services(&telling.lease, &[id], store.log().head())
                .await?;
            let Some(place) = place.and_then(|mut places| places.pop()) else {
                telling.stop.cancel();
                return Ok(());
            };
            let ended: Result<(), MatrixError> = telling.run(place).await;
            ended
        };
        let ended = AssertUnwindSafe(Box::pin(told)).catch_unwind().await;
        let why = match ended {
            Ok(Ok(())) => continue,
            Ok(Err(error)) => error.message,
            Err(_) => "it panicked".to_owned(),
        };
        tracing::error!(
            service = id,
            why,
            ?pause,
            "an application service can't be told; it is begun again"
        );
        telling.queue.falls_behind();
        if store.clock().monotonic().saturating_sub(began) > LONGEST_PAUSE {
            pause = FIRST_PAUSE;
        }
        let rests = store.clock().sleep(pause);
        telling.stop.run_until_cancelled(rests).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}
