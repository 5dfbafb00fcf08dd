//! What reads the log for clients.

use rhizome_client_api as client_api;
use rhizome_federation::Federation;
use rhizome_storage::{LogReader, LogWork, Store};

use crate::config::Config;
use crate::tasks::Tasks;

/// Reads the log for what isn't on the way of a message: writes down now and then what users haven't read, copies
/// what they have set up for a room to the one that replaces it, and puts guests out of rooms that don't let them in.
pub(crate) fn read_log(tasks: &Tasks, store: &Store, federation: &Federation, config: &Config) {
    let name = &config.server.name;
    let (at, here) = (store.clone(), name.clone());
    follow(tasks, store, ("unread counts", "unread"), move || {
        client_api::WriteUnread::new(&at, here.clone())
    });
    let (at, here) = (store.clone(), name.clone());
    follow(
        tasks,
        store,
        ("settings of upgraded rooms", "carried"),
        move || client_api::CarrySettings::new(&at, here.clone()),
    );
    let federation = federation.clone();
    follow(tasks, store, ("guests", "guests"), move || {
        client_api::PutOutGuests::new(&federation)
    });
}

/// A reader of the log: what its task and it are called, and its work.
fn follow<W: LogWork + 'static>(
    tasks: &Tasks,
    store: &Store,
    (task, reader): (&'static str, &'static str),
    work: impl Fn() -> W + Send + 'static,
) {
    let store = store.clone();
    tasks.supervise(task, move |stop| {
        let reader = LogReader::new(&store, reader, work());
        async move {
            reader.run(&stop).await;
            Ok(())
        }
    });
}
