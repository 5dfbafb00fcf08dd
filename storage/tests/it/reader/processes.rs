//! Readers of the log in two processes: who reads, and what becomes of one that is frozen.

use std::pin::Pin;
use std::time::Duration;

use rhizome_storage::testing::{TestDatabase, eventually, soon};
use rhizome_storage::{Clock, Failure, Lease, LogReader, LogWork, Pos, Store, Stretch};
use tokio::sync::{Semaphore, watch};
use tokio_util::sync::CancellationToken;

use super::{LONG, Running, Scribe, Trouble, all, in_time, open, say};
use crate::factory::Room;

/// Two processes on one PostgreSQL.
struct Pair {
    database: TestDatabase,
    clock: Clock,
    stores: [Store; 2],
    rooms: [Room; 2],
}

impl Pair {
    async fn new() -> Self {
        let database = TestDatabase::postgres().await;
        let clock = Clock::manual(1_000_000);
        let one = open(&database, 20_000, &clock).await;
        let two = open(&database, 20_000, &clock).await;
        let room = Room::new(&one, "r").await;
        let there = Room {
            store: two.clone(),
            ..room.clone()
        };
        Self {
            database,
            clock,
            stores: [one, two],
            rooms: [room, there],
        }
    }

    /// Says something in both.
    async fn say(&self) -> Pos {
        for (room, other) in [(0, 1), (1, 0)] {
            say(&self.rooms[room], 3).await;
            self.stores[other].log().refresh().await.unwrap();
        }
        self.stores[0].log().head()
    }

    async fn end(self) {
        for store in self.stores {
            store.close().await;
        }
        self.database.remove().await;
    }
}

#[tokio::test]
async fn of_two_processes_one_reads_and_the_other_when_it_stops() {
    let pair = Pair::new().await;
    let scribes = [Scribe::new(Trouble::Nothing), Scribe::new(Trouble::Nothing)];
    let first = Running::start(&pair.stores[0], "scribe", scribes[0].clone());
    let head = pair.say().await;
    scribes[0].until(head).await;
    let second = Running::start(&pair.stores[1], "scribe", scribes[1].clone());
    let later = pair.say().await;
    // The first one renews its lease all the while.
    for _ in 0..20 {
        pair.clock.advance(Duration::from_secs(1));
        let now = pair.say().await;
        scribes[0].until(now).await;
    }
    assert!(scribes[0].told().contains(&later));
    assert_eq!(scribes[1].told(), []);
    let head = pair.say().await;
    scribes[0].until(head).await;
    first.stop().await;
    let last = pair.say().await;
    // It was given back: no lease has to run out, the next question is enough.
    pair.clock.advance(Duration::from_secs(2));
    scribes[1].until(last).await;
    second.stop().await;
    assert_eq!(scribes[0].told(), all(head));
    assert_eq!([scribes[0].told(), scribes[1].told()].concat(), all(last));
    pair.end().await;
}

/// Lets a future go on until something is so, and then no more.
async fn meanwhile<T>(
    frozen: &mut Pin<Box<dyn Future<Output = ()> + '_>>,
    until: impl Future<Output = T>,
) -> T {
    tokio::select! {
        () = frozen.as_mut() => panic!("it ended"),
        done = soon("it goes on", until) => done,
    }
}

#[tokio::test]
async fn a_frozen_one_loses_the_lease_and_writes_nothing_when_it_wakes() {
    let pair = Pair::new().await;
    let scribes = [Scribe::new(Trouble::Nothing), Scribe::new(Trouble::Nothing)];
    let stop = CancellationToken::new();
    let reader = LogReader::new(&pair.stores[0], "scribe", scribes[0].clone());
    let mut frozen: Pin<Box<dyn Future<Output = ()>>> = Box::pin(reader.run(&stop));
    let head = pair.say().await;
    meanwhile(&mut frozen, scribes[0].until(head)).await;
    // It freezes in the midst of a stretch.
    scribes[0].gate.forget_permits(Semaphore::MAX_PERMITS);
    let mut begun = scribes[0].stretches.subscribe();
    begun.borrow_and_update();
    let stretch = pair.say().await;
    meanwhile(&mut frozen, begun.changed()).await.unwrap();

    let second = Running::start(&pair.stores[1], "scribe", scribes[1].clone());
    let last = pair.say().await;
    in_time(&pair.stores[1], || scribes[1].told().last() == Some(&last)).await;
    pair.clock.advance(LONG);
    let last = pair.say().await;
    scribes[1].until(last).await;
    let cursor = scribes[1].told();

    // It wakes, ends its stretch, and finds that it isn't its turn: it begins none.
    scribes[0].gate.add_permits(1);
    meanwhile(&mut frozen, scribes[0].until(stretch)).await;
    let before = scribes[0].told();
    scribes[0].gate.add_permits(1_000);
    let lost = async {
        let head = pair.say().await;
        scribes[1].until(head).await;
        head
    };
    let head = meanwhile(&mut frozen, lost).await;
    stop.cancel();
    soon("it stops", frozen).await;
    assert_eq!(scribes[0].told(), before);
    second.stop().await;
    assert!(scribes[1].told().starts_with(&cursor) && scribes[1].told().ends_with(&[head]));

    // The cursor is where the second left it: nothing comes again.
    let third = Scribe::new(Trouble::Nothing);
    let running = Running::start(&pair.stores[0], "scribe", third.clone());
    let end = pair.say().await;
    third.until(end).await;
    running.stop().await;
    assert_eq!(third.told(), all(end)[all(head).len()..]);
    pair.end().await;
}

/// Remembers the lease that it was given last.
#[derive(Clone, Default)]
struct Holder(watch::Sender<Option<Lease>>);

impl LogWork for Holder {
    async fn begin(&self, lease: &Lease, done: Pos) -> Result<Pos, Failure> {
        self.0.send_replace(Some(lease.clone()));
        Ok(done)
    }

    async fn work(&self, _: &Stretch) -> Result<(), Failure> {
        Ok(())
    }
}

#[tokio::test]
async fn a_lease_that_was_over_before_it_came_is_taken_again() {
    let pair = Pair::new().await;
    let (stop, holder) = (CancellationToken::new(), Holder::default());
    let reader = LogReader::new(&pair.stores[0], "holder", holder.clone());
    let mut run: Pin<Box<dyn Future<Output = ()>>> = Box::pin(reader.run(&stop));
    // It has asked for the lease; the answer takes longer than the lease lasts.
    assert!(futures_util::poll!(run.as_mut()).is_pending());
    pair.clock.advance(LONG);
    let held = eventually("the lease is held", async || {
        holder.0.borrow().as_ref().is_some_and(Lease::held)
    });
    meanwhile(&mut run, held).await;
    stop.cancel();
    soon("it stops", run).await;
    pair.end().await;
}
