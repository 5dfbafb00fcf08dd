//! The services that count now.

use std::fmt;
use std::sync::Arc;

use tokio::sync::watch;

use crate::{Registration, Registrations};

/// A handle on the services that count now, shared by all who ask for them.
#[derive(Clone)]
pub struct Services(Arc<watch::Sender<Arc<Registrations>>>);

impl Services {
    /// Begins with these.
    pub fn new(registrations: Registrations) -> Self {
        Self(Arc::new(watch::Sender::new(Arc::new(registrations))))
    }

    /// Those that count now. They don't change under who has them.
    pub fn current(&self) -> Arc<Registrations> {
        self.0.borrow().clone()
    }

    /// Whose `as_token` it is. Costs nothing if there are no services.
    pub fn by_token(&self, token: &str) -> Option<Arc<Registration>> {
        self.0.borrow().by_token(token).cloned()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.borrow().is_empty()
    }

    /// From now on these count. Who watches hears of it.
    pub fn replace(&self, registrations: Registrations) {
        self.0.send_replace(Arc::new(registrations));
    }

    /// To be told when others count.
    pub fn watch(&self) -> watch::Receiver<Arc<Registrations>> {
        self.0.subscribe()
    }
}

impl fmt::Debug for Services {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Services({})", self.0.borrow().len())
    }
}
