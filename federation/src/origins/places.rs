//! Places at work that is done for other servers: so many at a time, shared fairly.
//!
//! Who comes while there is a place takes it. Who has to wait is called when one is free: not in the order in which they
//! came, since then whoever asks most has most of the places, but the one for whom least was done lately. Every fourth place
//! goes to who has waited longest, so that everybody gets one in the end.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use ruma::{OwnedServerName, ServerName};
use tokio::sync::oneshot;

/// Of so many places one goes to who has waited longest.
const BY_AGE: u64 = 4;

/// So many places, and how many of them one server may have.
#[derive(Debug, Clone)]
pub(crate) struct Workplaces {
    most: usize,
    most_of_one: usize,
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    taken: usize,
    /// Of each server that has any.
    of: HashMap<OwnedServerName, usize>,
    /// In the order in which they came.
    waiting: Vec<Waiting>,
    came: u64,
    called: u64,
}

#[derive(Debug)]
struct Waiting {
    no: u64,
    server: OwnedServerName,
    /// What was done for it lately.
    spent: f64,
    call: oneshot::Sender<()>,
}

/// A place, or a place in the queue for one; given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Workplace {
    places: Workplaces,
    server: OwnedServerName,
    /// The number in the queue, of who had to wait.
    no: Option<u64>,
}

impl Workplaces {
    pub(crate) fn new(most: usize, most_of_one: usize) -> Self {
        Self {
            most,
            most_of_one,
            state: Arc::default(),
        }
    }

    /// A place for `server`, for which so much was done lately.
    pub(crate) async fn take(&self, server: &ServerName, spent: f64) -> Workplace {
        // Made before waiting, so that whoever gives up waiting leaves nothing behind.
        let (place, called) = self.enter(server, spent);
        if let Some(called) = called {
            // It isn't dropped before it has called: whoever waits is in the queue until then.
            let _ = called.await;
        }
        place
    }

    fn enter(&self, server: &ServerName, spent: f64) -> (Workplace, Option<oneshot::Receiver<()>>) {
        let mut place = Workplace {
            places: self.clone(),
            server: server.to_owned(),
            no: None,
        };
        let mut state = self.lock();
        // Nobody who could have it waits for one that is free.
        if state.taken < self.most && state.held(server) < self.most_of_one {
            state.seat(server.to_owned());
            return (place, None);
        }
        let (call, called) = oneshot::channel();
        state.came += 1;
        place.no = Some(state.came);
        let waiting = Waiting {
            no: state.came,
            server: server.to_owned(),
            spent,
            call,
        };
        state.waiting.push(waiting);
        (place, Some(called))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[cfg(test)]
    fn waiting(&self) -> usize {
        self.lock().waiting.len()
    }
}

impl State {
    fn held(&self, server: &ServerName) -> usize {
        self.of.get(server).copied().unwrap_or(0)
    }

    fn seat(&mut self, server: OwnedServerName) {
        self.taken += 1;
        *self.of.entry(server).or_default() += 1;
    }

    fn leave(&mut self, server: &ServerName) {
        self.taken = self.taken.saturating_sub(1);
        if let Some(held) = self.of.get_mut(server) {
            *held = held.saturating_sub(1);
            if *held == 0 {
                self.of.remove(server);
            }
        }
    }

    /// Calls as many as there are places for.
    fn call(&mut self, most: usize, most_of_one: usize) {
        while self.taken < most
            && let Some(at) = self.next(most_of_one)
        {
            let next = self.waiting.remove(at);
            self.called += 1;
            self.seat(next.server);
            // Who has just gone gives the place back.
            let _ = next.call.send(());
        }
    }

    /// Whose turn it is: a place in the queue.
    fn next(&self, most_of_one: usize) -> Option<usize> {
        let may = |waiting: &Waiting| self.held(&waiting.server) < most_of_one;
        let mut open = self.waiting.iter().enumerate();
        if (self.called + 1).is_multiple_of(BY_AGE) {
            return open.find(|(_, one)| may(one)).map(|(at, _)| at);
        }
        let open = open.filter(|(_, one)| may(one));
        let least = open.min_by(|(_, a), (_, b)| {
            let held = self.held(&a.server).cmp(&self.held(&b.server));
            let spent = a.spent.total_cmp(&b.spent);
            held.then(spent).then(a.no.cmp(&b.no))
        });
        least.map(|(at, _)| at)
    }
}

impl Drop for Workplace {
    fn drop(&mut self) {
        let mut state = self.places.lock();
        let at = (state.waiting.iter()).position(|waiting| Some(waiting.no) == self.no);
        if let Some(at) = at {
            // It was never called.
            state.waiting.remove(at);
        } else {
            state.leave(&self.server);
            state.call(self.places.most, self.places.most_of_one);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::pin::Pin;

    use futures_util::future::poll_immediate;
    use ruma::server_name;

    use super::*;

    fn server(n: usize) -> OwnedServerName {
        format!("s{n}.example").try_into().unwrap()
    }

    async fn now(places: &Workplaces, server: &ServerName, spent: f64) -> Option<Workplace> {
        poll_immediate(Box::pin(places.take(server, spent))).await
    }

    type Waits<'a> = Pin<Box<dyn Future<Output = Workplace> + 'a>>;

    /// In the order in which they are called, each leaving before the next.
    async fn order(mut waits: Vec<(&'static str, Waits<'_>)>) -> Vec<&'static str> {
        let mut called = Vec::new();
        while !waits.is_empty() {
            let mut place = None;
            for (at, (_, wait)) in waits.iter_mut().enumerate() {
                if let Some(got) = poll_immediate(wait.as_mut()).await {
                    place = Some((at, got));
                    break;
                }
            }
            let (at, got) = place.expect("somebody is called");
            called.push(waits.remove(at).0);
            drop(got);
        }
        called
    }

    #[tokio::test]
    async fn who_asks_for_much_has_a_share_and_no_more() {
        let places = Workplaces::new(4, 2);
        let (a, b) = (server_name!("a.example"), server_name!("b.example"));
        let held = [now(&places, a, 0.0).await, now(&places, a, 0.0).await];
        assert!(held.iter().all(Option::is_some));
        let mut third = Box::pin(places.take(a, 0.0));
        assert!(poll_immediate(&mut third).await.is_none());
        let others = [now(&places, b, 9e9).await, now(&places, b, 9e9).await];
        assert!(others.iter().all(Option::is_some), "whatever it has spent");
        let c = server_name!("c.example");
        let mut full = Box::pin(places.take(c, 0.0));
        assert!(poll_immediate(&mut full).await.is_none());
        drop(others);
        assert!(poll_immediate(&mut full).await.is_some());
        assert!(
            poll_immediate(&mut third).await.is_none(),
            "a has its share"
        );
        drop(held);
        assert!(poll_immediate(&mut third).await.is_some());
        assert_eq!(places.lock().taken, 0, "each was given back at once");
    }

    /// One has filled the queue before an honest server comes.
    #[tokio::test]
    async fn who_has_spent_least_is_next() {
        let places = Workplaces::new(1, 1);
        let busy = now(&places, &server(9), 0.0).await;
        let (flood, fair) = (server(0), server(1));
        let mut waits: Vec<(&'static str, Waits<'_>)> = Vec::new();
        for _ in 0..6 {
            waits.push(("flood", Box::pin(places.take(&flood, 500.0))));
        }
        waits.push(("fair", Box::pin(places.take(&fair, 1.0))));
        for (_, wait) in &mut waits {
            assert!(poll_immediate(wait.as_mut()).await.is_none());
        }
        drop(busy);
        let order = order(waits).await;
        assert_eq!(order[0], "fair", "{order:?}");
    }

    /// However many come who have spent less.
    #[tokio::test]
    async fn everybody_gets_a_place_in_the_end() {
        let places = Workplaces::new(1, 1);
        let busy = now(&places, &server(9), 0.0).await;
        let (late, small) = (server(0), server(1));
        let mut waits: Vec<(&'static str, Waits<'_>)> = Vec::new();
        waits.push(("late", Box::pin(places.take(&late, 1e9))));
        for _ in 0..20 {
            waits.push(("small", Box::pin(places.take(&small, 1.0))));
        }
        for (_, wait) in &mut waits {
            assert!(poll_immediate(wait.as_mut()).await.is_none());
        }
        drop(busy);
        let order = order(waits).await;
        let at = order.iter().position(|who| *who == "late").unwrap();
        assert!(at < 4, "{order:?}");
    }

    #[tokio::test]
    async fn who_gives_up_waiting_leaves_nothing() {
        let places = Workplaces::new(1, 1);
        let a = server_name!("a.example");
        let held = now(&places, a, 0.0).await.unwrap();
        assert!(
            now(&places, a, 0.0).await.is_none(),
            "polled once and dropped"
        );
        assert_eq!(places.waiting(), 0);
        // One that is called and then goes without a look gives the place to the next.
        let (mut gone, mut next) = (Box::pin(places.take(a, 0.0)), Box::pin(places.take(a, 1.0)));
        assert!(poll_immediate(&mut gone).await.is_none());
        assert!(poll_immediate(&mut next).await.is_none());
        drop(held);
        drop(gone);
        assert!(poll_immediate(&mut next).await.is_some());
        let state = places.lock();
        assert!(state.taken == 0 && state.of.is_empty() && state.waiting.is_empty());
    }
}
