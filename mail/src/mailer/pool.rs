//! Connections that wait for the next mail.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use lettre::transport::smtp::client::AsyncSmtpConnection;
use lettre::transport::smtp::commands::Rset;
use tokio::time::{Instant, sleep, timeout};

/// How long a mail server has to say goodbye.
const GOODBYE: Duration = Duration::from_secs(5);

/// Connections at rest. One that is given up half-way never comes back here: it has lost count of the answers.
pub(super) struct Pool {
    idle: Duration,
    resting: Mutex<Resting>,
}

#[derive(Default)]
struct Resting {
    connections: Vec<(Instant, AsyncSmtpConnection)>,
    /// Whether somebody closes them after a while.
    watched: bool,
}

impl Pool {
    pub(super) fn new(idle: Duration) -> Arc<Self> {
        let resting = Mutex::default();
        Arc::new(Self { idle, resting })
    }

    /// One that is still alive, at its beginning again.
    pub(super) async fn take(&self) -> Option<AsyncSmtpConnection> {
        loop {
            let (_, mut connection) = self.lock().connections.pop()?;
            if connection.command(Rset).await.is_ok() {
                return Some(connection);
            }
        }
    }

    /// Keeps one for the next mail.
    pub(super) fn keep(self: &Arc<Self>, connection: AsyncSmtpConnection) {
        let mut resting = self.lock();
        resting.connections.push((Instant::now(), connection));
        if !std::mem::replace(&mut resting.watched, true) {
            tokio::spawn(watch(Arc::downgrade(self), self.idle));
        }
    }

    /// Those that have rested long enough. If none remains, nobody watches from now on.
    fn take_old(&self) -> Vec<AsyncSmtpConnection> {
        let mut resting = self.lock();
        let is_old = |(since, _): &mut (Instant, _)| since.elapsed() >= self.idle;
        let old = resting.connections.extract_if(.., is_old);
        let old = old.map(|(_, connection)| connection).collect();
        resting.watched = !resting.connections.is_empty();
        old
    }

    fn lock(&self) -> MutexGuard<'_, Resting> {
        self.resting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Says goodbye. The connection goes, whatever the answer.
pub(super) async fn close(mut connection: AsyncSmtpConnection) {
    let _ = timeout(GOODBYE, connection.quit()).await;
}

/// Closes connections that nobody needs, until there are none.
async fn watch(pool: Weak<Pool>, idle: Duration) {
    loop {
        sleep(idle).await;
        let Some(pool) = pool.upgrade() else { return };
        for connection in pool.take_old() {
            close(connection).await;
        }
        if !pool.lock().watched {
            return;
        }
    }
}
