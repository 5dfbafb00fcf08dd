//! What holds for every reader of the log, on both databases.

mod processes;

use std::future::Future;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rhizome_storage::testing::{TestDatabase, eventually, soon};
use rhizome_storage::{
    Clock, Counts, Failure, Lease, LogReader, LogWork, Options, Pos, Store, Stretch,
};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::factory::Room;

/// Longer than a lease lasts.
const LONG: Duration = Duration::from_secs(7);

/// Writes down what it is told.
#[derive(Debug, Clone)]
struct Scribe {
    told: watch::Sender<Vec<Pos>>,
    trouble: Arc<Mutex<Trouble>>,
    /// One permit for each stretch.
    gate: Arc<Semaphore>,
    /// How often it was told anything.
    stretches: watch::Sender<usize>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Trouble {
    Nothing,
    /// Stretches with this position fail, unless they have so often before.
    Fails(Pos, u32),
    /// The first stretch with this position panics.
    Panics(Pos),
}

impl Scribe {
    fn new(trouble: Trouble) -> Self {
        Self {
            told: watch::Sender::default(),
            trouble: Arc::new(Mutex::new(trouble)),
            gate: Arc::new(Semaphore::new(Semaphore::MAX_PERMITS)),
            stretches: watch::Sender::default(),
        }
    }

    async fn until(&self, upto: Pos) {
        let mut told = self.told.subscribe();
        let reached = told.wait_for(|told| told.last() >= Some(&upto));
        soon("it is told", reached).await.unwrap();
    }

    fn told(&self) -> Vec<Pos> {
        self.told.borrow().clone()
    }
}

impl LogWork for Scribe {
    async fn work(&self, stretch: &Stretch) -> Result<(), Failure> {
        self.stretches.send_modify(|count| *count += 1);
        self.gate.acquire().await?.forget();
        let has = |pos: Pos| stretch.after < pos && pos <= stretch.upto;
        let mut trouble = self.trouble.lock().unwrap();
        match *trouble {
            Trouble::Fails(pos, times) if has(pos) && stretch.failures < times => {
                return Err("a bad day".into());
            }
            Trouble::Panics(pos) if has(pos) => {
                *trouble = Trouble::Nothing;
                drop(trouble);
                panic!("a very bad day");
            }
            _ => drop(trouble),
        }
        let at = stretch.entries.iter().map(|entry| entry.pos);
        assert!(at.clone().all(has) && at.clone().is_sorted());
        self.told.send_modify(|told| told.extend(at));
        Ok(())
    }
}

struct Running {
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Running {
    fn start(store: &Store, name: &str, work: impl LogWork + 'static) -> Self {
        let stop = CancellationToken::new();
        let reader = LogReader::new(store, name, work);
        let token = stop.clone();
        let task = tokio::spawn(async move { reader.run(&token).await });
        Self { stop, task }
    }

    async fn stop(self) {
        self.stop.cancel();
        soon("it stops", self.task).await.unwrap();
    }
}

async fn open(database: &TestDatabase, tail_entries: usize, clock: &Clock) -> Store {
    let options = Options {
        clock: clock.clone(),
        tail_entries,
        ..database.options()
    };
    Store::open(options).await.unwrap()
}

/// Runs the story on both databases, with a clock that stands until it is moved.
async fn each<R: Future<Output = ()>>(tail_entries: usize, story: impl Fn(Store, Room) -> R) {
    for database in TestDatabase::both().await {
        let store = open(&database, tail_entries, &Clock::manual(1_000_000)).await;
        let room = Room::new(&store, "r").await;
        story(store.clone(), room).await;
        store.close().await;
        database.remove().await;
    }
}

async fn say(room: &Room, count: usize) -> Pos {
    for n in 0..count {
        room.send(&format!("{n}")).await;
    }
    room.store.log().head()
}

/// Every position up to this one.
fn all(upto: Pos) -> Vec<Pos> {
    (1..=upto.0).map(Pos).collect()
}

#[tokio::test]
async fn everything_comes_in_order_and_once() {
    each(20_000, |store, room| async move {
        let before = say(&room, 20).await;
        let scribe = Scribe::new(Trouble::Nothing);
        let running = Running::start(&store, "scribe", scribe.clone());
        scribe.until(before).await;
        let head = say(&room, 20).await;
        scribe.until(head).await;
        running.stop().await;
        assert_eq!(scribe.told(), all(head));
    })
    .await;
}

#[tokio::test]
async fn it_goes_on_where_it_stopped_also_behind_the_tail() {
    each(5, |store, room| async move {
        let scribe = Scribe::new(Trouble::Nothing);
        let first = say(&room, 12).await;
        assert!(store.log().tail(Pos(0), first).is_none());
        let running = Running::start(&store, "scribe", scribe.clone());
        scribe.until(first).await;
        running.stop().await;
        let second = say(&room, 12).await;
        assert_eq!(scribe.told(), all(first));
        // Another life of the process.
        let again = Store::open(store.options().clone()).await.unwrap();
        assert!(again.log().tail(first, second).is_none());
        let running = Running::start(&again, "scribe", scribe.clone());
        scribe.until(second).await;
        running.stop().await;
        assert_eq!(scribe.told(), all(second));
        // A reader of another name has a cursor of its own.
        let other = Scribe::new(Trouble::Nothing);
        let running = Running::start(&again, "scribe/2", other.clone());
        other.until(second).await;
        running.stop().await;
        assert_eq!(other.told(), all(second));
        again.close().await;
    })
    .await;
}

/// Lets time pass until something is so.
async fn in_time(store: &Store, so: impl Fn() -> bool) {
    eventually("it is so in time", || {
        store.clock().advance(Duration::from_millis(200));
        std::future::ready(so())
    })
    .await;
}

fn failures(store: &Store) -> u64 {
    store.counters().now().reader_failures
}

#[tokio::test]
async fn one_that_fails_rests_and_holds_up_nobody() {
    each(20_000, |store, room| async move {
        let head = say(&room, 3).await;
        let failing = Scribe::new(Trouble::Fails(head, u32::MAX));
        let well = Scribe::new(Trouble::Nothing);
        let running = [
            Running::start(&store, "failing", failing.clone()),
            Running::start(&store, "well", well.clone()),
        ];
        let mut tries = failing.stretches.subscribe();
        let tried = tries.wait_for(|count| *count == 1);
        drop(soon("it is tried", tried).await.unwrap());
        // The others go on; no time passes, so it isn't tried again.
        let later = say(&room, 2).await;
        well.until(later).await;
        assert_eq!((well.told(), failing.told()), (all(later), vec![]));
        assert_eq!(*failing.stretches.borrow(), 1);
        // What it fails at comes to stand alone: all before it is done, and nothing after it.
        in_time(&store, || failures(&store) > 6).await;
        assert_eq!(failing.told(), all(Pos(head.0 - 1)));
        *failing.trouble.lock().unwrap() = Trouble::Nothing;
        in_time(&store, || failing.told().last() == Some(&later)).await;
        assert_eq!(failing.told(), all(later));
        for running in running {
            running.stop().await;
        }
    })
    .await;
}

#[tokio::test]
async fn it_may_leave_out_what_it_has_failed_at_often() {
    each(20_000, |store, room| async move {
        let bad = say(&room, 3).await;
        let head = say(&room, 3).await;
        let scribe = Scribe::new(Trouble::Fails(bad, 5));
        let running = Running::start(&store, "scribe", scribe.clone());
        in_time(&store, || scribe.told().last() == Some(&head)).await;
        running.stop().await;
        assert_eq!(scribe.told(), all(head));
        assert!(failures(&store) >= 5);
    })
    .await;
}

#[tokio::test]
async fn one_that_panics_begins_again() {
    each(20_000, |store, room| async move {
        let bad = say(&room, 3).await;
        let head = say(&room, 3).await;
        let scribe = Scribe::new(Trouble::Panics(bad));
        let running = Running::start(&store, "scribe", scribe.clone());
        in_time(&store, || scribe.told().last() == Some(&head)).await;
        running.stop().await;
        assert_eq!((scribe.told(), failures(&store)), (all(head), 1));
    })
    .await;
}

/// Without other processes nobody waits for a sign of it.
#[tokio::test]
async fn an_idle_one_costs_nothing() {
    let database = TestDatabase::sqlite();
    let store = open(&database, 20_000, &Clock::manual(1_000_000)).await;
    let room = Room::new(&store, "r").await;
    let scribe = Scribe::new(Trouble::Nothing);
    let running = Running::start(&store, "scribe", scribe.clone());
    let head = say(&room, 1).await;
    scribe.until(head).await;
    let before = store.counters().now();
    in_time(&store, || {
        (store.counters().now() - before).transactions == 1
    })
    .await;
    let before = store.counters().now();
    for _ in 0..100 {
        store.clock().advance(Duration::from_mins(1));
        tokio::task::yield_now().await;
    }
    assert_eq!(store.counters().now() - before, Counts::default());
    running.stop().await;
    assert_eq!(
        (store.counters().now() - before).transactions,
        1,
        "the lease"
    );
    store.close().await;
    database.remove().await;
}

/// Follows the log from the head on.
struct Follower(Scribe, Store);

impl LogWork for Follower {
    const KEEPS_CURSOR: bool = false;

    async fn begin(&self, lease: &Lease, done: Pos) -> Result<Pos, Failure> {
        assert!(lease.held() && done == Pos(0));
        let head = self.1.log().head();
        self.0.told.send_modify(|told| told.push(head));
        Ok(head)
    }

    async fn work(&self, stretch: &Stretch) -> Result<(), Failure> {
        self.0.work(stretch).await
    }
}

#[tokio::test]
async fn one_that_keeps_no_cursor_writes_nothing_and_begins_where_it_says() {
    let database = TestDatabase::sqlite();
    let store = open(&database, 20_000, &Clock::manual(1_000_000)).await;
    let room = Room::new(&store, "r").await;
    for _ in 0..2 {
        let first = say(&room, 3).await;
        let scribe = Scribe::new(Trouble::Nothing);
        let work = Follower(scribe.clone(), store.clone());
        let running = Running::start(&store, "follower", work);
        scribe.until(first).await;
        let before = store.counters().now();
        let last = say(&room, 3).await;
        scribe.until(last).await;
        store.clock().advance(LONG);
        let last = say(&room, 1).await;
        scribe.until(last).await;
        let cost = store.counters().now() - before;
        assert_eq!(cost.transactions, cost.groups, "{cost:?}");
        running.stop().await;
        assert_eq!(scribe.told(), all(last)[all(first).len() - 1..]);
    }
    store.close().await;
    database.remove().await;
}
