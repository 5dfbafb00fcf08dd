//! Memory for bodies: how many bytes of unfinished requests may wait in memory, of all and of one address; once it is
//! known which server sent one, of one server.
//!
//! It is taken as bytes arrive: who announces much and sends nothing takes nothing away from others.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use ruma::{OwnedServerName, ServerName};

use crate::limits::block_of;

/// The bodies that are waited for, checked or worked on.
#[derive(Debug)]
pub struct Bodies {
    most: usize,
    most_of_one: usize,
    held: Mutex<Reserved>,
}

#[derive(Debug, Default)]
struct Reserved {
    all: usize,
    of: HashMap<Holder, usize>,
}

/// Whose share it is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Holder {
    Address(Option<IpAddr>),
    Server(OwnedServerName),
}

impl Reserved {
    fn give_back(&mut self, holder: &Holder, size: usize) {
        if let Some(own) = self.of.get_mut(holder) {
            *own = own.saturating_sub(size);
            if *own == 0 {
                self.of.remove(holder);
            }
        }
    }
}

/// What one of them takes.
#[derive(Debug)]
pub struct Reservation {
    bodies: Arc<Bodies>,
    of: Holder,
    size: usize,
}

impl Bodies {
    /// Memory for `most` bytes at a time, and for `most_of_one` of one address, or of one server.
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
            of: Holder::Address(peer.map(block_of)),
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
            held.of.insert(self.of.clone(), own + more);
            self.size += more;
        }
        true
    }

    /// From now on it counts as `server`'s and not as the address's, so many times as much: what is made of the bytes is
    /// larger than they are. One server may have half of what the others have left: a few that send as much as they may don't
    /// take it from those that send little. `false`: there isn't as much, and it stays as it was.
    #[must_use]
    pub fn pass_to(&mut self, server: &ServerName, times: usize) -> bool {
        if self.size == 0 {
            return true;
        }
        let size = self.size.saturating_mul(times.max(1));
        let holder = Holder::Server(server.to_owned());
        let mut held = self.bodies.lock();
        let own = held.of.get(&holder).copied().unwrap_or(0);
        let before = held.all.saturating_sub(self.size);
        let left = self.bodies.most.saturating_sub(before.saturating_sub(own));
        let share = self.bodies.most_of_one.min(left / 2);
        if own.saturating_add(size) > share {
            return false;
        }
        held.give_back(&self.of, self.size);
        held.all = before + size;
        held.of.insert(holder.clone(), own + size);
        drop(held);
        self.of = holder;
        self.size = size;
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
        held.give_back(&self.of, self.size);
    }
}

#[cfg(test)]
mod tests {
    use ruma::server_name;

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

    /// A server has one share, from however many addresses it sends; those of an address are free for others then.
    #[test]
    fn what_a_server_sent_counts_as_the_servers() {
        let bodies = Bodies::new(100, 40);
        let (a, b) = (server_name!("a.example"), server_name!("b.example"));
        let from = |n: u8| bodies.reservation(Some(IpAddr::from([192, 0, 2, n])));
        let (mut one, mut two, mut three) = (from(1), from(1), from(2));
        assert!(one.grow_to(10) && one.pass_to(a, 3));
        assert_eq!(bodies.held(), 30);
        assert!(two.grow_to(40), "the address has all of its share again");
        assert!(!two.pass_to(a, 3), "a.example has hardly anything left");
        assert_eq!(bodies.held(), 70, "nothing has changed");
        assert!(three.grow_to(5));
        assert!(!three.pass_to(b, 4), "more than half of what is left");
        assert!(three.pass_to(b, 3));
        let mut four = from(3);
        assert!(four.grow_to(15) && !four.grow_to(16), "of all");
        drop((one, two));
        assert!(four.pass_to(b, 1));
        assert_eq!(bodies.held(), 30);
        drop((three, four));
        assert_eq!(bodies.held(), 0);
        assert!(bodies.lock().of.is_empty());
    }
}
