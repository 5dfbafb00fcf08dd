//! How much of other servers' answers is held at a time.
//!
//! Small answers are free. One that grows waits until no other of the same server is growing, and until few others
//! are; one that grows on waits once more. Who waits reads nothing, so the other server waits as well.

use std::sync::Arc;

use ruma::{OwnedServerName, ServerName};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::Purpose;
use crate::keyed::{self, Keyed};

/// Up to this size an answer is small.
const SMALL: usize = 1 << 20;
/// Up to this size it is of middle size.
const MIDDLE: usize = 16 << 20;
/// How many answers of middle size, or that have been, are held at a time.
const MIDDLE_ONES: usize = 6;
/// How many of those may be large.
const LARGE_ONES: usize = 1;

/// What is held, by purpose.
#[derive(Debug, Default)]
pub(crate) struct Budgets {
    joining: Budget,
    gathering: Budget,
}

#[derive(Debug)]
struct Budget {
    servers: Keyed<OwnedServerName>,
    middle: Arc<Semaphore>,
    large: Arc<Semaphore>,
}

impl Default for Budget {
    fn default() -> Self {
        Self {
            servers: Keyed::default(),
            middle: Arc::new(Semaphore::new(MIDDLE_ONES)),
            large: Arc::new(Semaphore::new(LARGE_ONES)),
        }
    }
}

/// One answer's share; given back when dropped.
#[derive(Debug, Default)]
pub(crate) struct AnswerBudget {
    server: Option<keyed::KeyedGuard<OwnedServerName>>,
    middle: Option<OwnedSemaphorePermit>,
    large: Option<OwnedSemaphorePermit>,
}

impl Budgets {
    /// Waits until an answer of `from` may have this size.
    pub(super) async fn grow(
        &self,
        held: &mut AnswerBudget,
        purpose: Purpose,
        from: &ServerName,
        size: usize,
    ) {
        let budget = match purpose {
            Purpose::Joining => &self.joining,
            Purpose::Gathering => &self.gathering,
        };
        // Always in this order, so that nobody waits in a circle. The semaphores are never closed.
        if size > SMALL && held.middle.is_none() {
            held.server = Some(budget.servers.lock(from.to_owned()).await);
            held.middle = Arc::clone(&budget.middle).acquire_owned().await.ok();
        }
        if size > MIDDLE && held.large.is_none() {
            held.large = Arc::clone(&budget.large).acquire_owned().await.ok();
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    #[test]
    fn large_answers_take_turns_and_small_ones_dont() {
        let budgets = Budgets::default();
        let grows = |purpose, from: &str, size| {
            let mut held = AnswerBudget::default();
            let from: OwnedServerName = from.try_into().unwrap();
            let done = budgets.grow(&mut held, purpose, &from, size).now_or_never();
            done.map(|()| held)
        };
        let large = grows(Purpose::Gathering, "a.example", MIDDLE + 1).unwrap();
        // Of the same server, none even of middle size; small ones, as many as there are.
        assert!(grows(Purpose::Gathering, "a.example", SMALL + 1).is_none());
        for _ in 0..100 {
            assert!(grows(Purpose::Gathering, "a.example", SMALL).is_some());
        }
        // Joins have a budget of their own.
        assert!(grows(Purpose::Joining, "a.example", MIDDLE + 1).is_some());
        // Of other servers, some of middle size, but no large one.
        assert!(grows(Purpose::Gathering, "b.example", MIDDLE + 1).is_none());
        let some: Vec<_> = (0..100)
            .filter_map(|n| grows(Purpose::Gathering, &format!("s{n}.example"), SMALL + 1))
            .collect();
        assert_eq!(some.len(), MIDDLE_ONES - 1);
        drop((large, some));
        assert!(grows(Purpose::Gathering, "b.example", MIDDLE + 1).is_some());
    }
}
