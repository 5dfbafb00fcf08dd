//! Figures for who watches over the server, as Prometheus reads them (`docs/metrics.md`).
//!
//! What happens is counted where it happens, by atomic additions and nothing else; what is so now is looked at when
//! somebody asks ([`figures`]), in memory but for two bounded statements. Then all of it is one [`sheet`], which the
//! client library of Prometheus writes. Labels have values of the program or the operator, never a stranger's.

mod figures;
mod listener;
mod process;
mod requests;
mod sheet;

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

use rhizome_client_api::App;
use tokio_util::task::TaskTracker;

pub(crate) use self::listener::accept;
pub(crate) use self::requests::Requests;
use self::sheet::Sheet;
use crate::tasks::Tasks;

/// What is watched.
pub(crate) struct Watched {
    /// Its store, its federation and its files are those that are watched.
    pub(crate) app: App,
    pub(crate) tasks: Tasks,
    /// Those of clients and servers.
    pub(crate) connections: TaskTracker,
    pub(crate) requests: Arc<Requests>,
    /// Where what is kept lies on this machine.
    pub(crate) places: Vec<(String, PathBuf)>,
}

/// What is told of a server.
pub(crate) struct Metrics {
    watched: Watched,
    started: SystemTime,
    /// Who asks at once is told one after the other.
    turn: tokio::sync::Mutex<()>,
}

impl Metrics {
    /// Of a server that starts now.
    pub(crate) fn new(watched: Watched) -> Self {
        Self {
            watched,
            started: SystemTime::now(),
            turn: tokio::sync::Mutex::default(),
        }
    }

    /// All that is told, as it is now. What the database doesn't tell now is left out.
    ///
    /// # Errors
    /// It can't be written.
    async fn text(&self) -> Result<String, fmt::Error> {
        let _turn = self.turn.lock().await;
        let mut sheet = Sheet::default();
        let watched = &self.watched;
        let (store, federation) = (&watched.app.store, &watched.app.federation);
        figures::of_requests(&mut sheet, watched);
        figures::of_clients(&mut sheet, &watched.app);
        figures::of_log(&mut sheet, store);
        figures::of_database(&mut sheet, store);
        figures::of_caches(&mut sheet, watched);
        figures::of_federation(&mut sheet, federation);
        figures::of_media(&mut sheet, federation.media());
        figures::of_queues(&mut sheet, store).await;
        figures::of_process(&mut sheet, watched, self.started).await;
        sheet.text()
    }
}
