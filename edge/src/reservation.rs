//! Memory for bodies: how many bytes of unfinished requests may wait in memory, of all and of one address.
//!
//! It is taken as bytes arrive: who announces much and sends nothing takes nothing away from others.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use crate::limits::block_of;

/// The bodies that are waited for or being checked.
#[derive(Debug)]
pub struct Bodies {
    most: usize,
    most_of_one: usize,
    held: Mutex<Reserved>,
}

#[derive(Debug, Default)]
struct Reserved {
    all: usize,
    of: HashMap<Option<IpAddr>, usize>,
}

/// What one of them takes.
#[derive(Debug)]
pub struct Reservation {
    bodies: Arc<Bodies>,
    of: Option<IpAddr>,
    size: usize,
}

impl Bodies {
    /// Memory for `most` bytes at a time, and for `most_of_one` of one address.
    pub fn new(most: usize, most_of_one: usize) -> Arc<Self> {
        Arc::new(Self {
            most,
            most_of_one,
            held: Mutex::default(),
        })
    }

    /// Nothing reserved yet, for a body that comes from `peer`.
    pub fn reservation(self: &Arc<Self>, peer: Option<IpAddr>) -> Reservation {
        Reservation {
            bodies: Arc::clone(self),
            of: peer.map(block_of),
            size: 0,
        }
    }

    /// The bytes that wait.
    pub fn held(&self) -> usize {
        self.lock().all
    }

    fn lock(&self) -> MutexGuard<'_, Reserved> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Reservation {
    /// Takes memory for `bytes` in all, unless there isn't as much left.
    #[must_use]
    pub fn grow_to(&mut self, bytes: usize) -> bool {
        let more = bytes.saturating_sub(self.size);
        let mut held = self.bodies.lock();
        let own = held.of.get(&self.of).copied().unwrap_or(0);
        if own + more > self.bodies.most_of_one || held.all + more > self.bodies.most {
            return false;
        }
        if more > 0 {
            held.all += more;
            held.of.insert(self.of, own + more);
            self.size += more;
        }
        true
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        if self.size == 0 {
            return;
        }
        let mut held = self.bodies.lock();
        held.all = held.all.saturating_sub(self.size);
        if let Some(own) = held.of.get_mut(&self.of) {
            *own = own.saturating_sub(self.size);
            if *own == 0 {
                held.of.remove(&self.of);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_taken_as_bytes_come_and_given_back() {
        let bodies = Bodies::new(100, 40);
        let from = |n: u8| Some(IpAddr::from([192, 0, 2, n]));
        let mut one = bodies.reservation(from(1));
        assert_eq!(bodies.held(), 0, "nothing has come");
        assert!(one.grow_to(30) && one.grow_to(30));
        let mut same = bodies.reservation(from(1));
        assert!(!same.grow_to(11), "of one address");
        assert!(same.grow_to(10));
        let mut others: Vec<_> = (2..5).map(|n| bodies.reservation(from(n))).collect();
        let fits: Vec<_> = others.iter_mut().map(|one| one.grow_to(30)).collect();
        assert_eq!(fits, [true, true, false], "of all");
        drop(one);
        assert!(others[2].grow_to(30));
        drop((same, others));
        assert_eq!(bodies.held(), 0);
        assert!(bodies.lock().of.is_empty());
    }
}
