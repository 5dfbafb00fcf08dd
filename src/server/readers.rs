//! What reads the log for clients.

use std::time::Duration;

use rhizome_client_api as client_api;
use rhizome_federation::Federation;
use rhizome_rooms::redact_banned::RedactBanned;
use rhizome_storage::{
    FillPeople, FillSearch, LogReader, LogWork, PROFILES_READER, Store, index_history, relations,
};

use crate::config::Config;
use crate::tasks::Tasks;

/// Between two pieces of looking for relations, so that it takes little from what matters more.
const RELATING_PAUSE: Duration = Duration::from_millis(20);

/// Reads the log for what isn't on the way of a message: writes down now and then what users haven't read, and copies
/// what they have set up for a room to the one that replaces it; redacts what relates to what they have redacted, if they
/// want, and what banned people have sent; takes what is said into the index of words, and who is called what; tells rooms of changed profiles; puts guests
/// out of rooms that don't let them in.
pub(crate) fn read_log(tasks: &Tasks, store: &Store, federation: &Federation, config: &Config) {
    relate(tasks, store);
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
    let at = store.clone();
    follow(tasks, store, ("index of words", "search"), move || {
        FillSearch::new(&at)
    });
    let (at, here) = (store.clone(), name.clone());
    follow(tasks, store, ("names of people", "people"), move || {
        FillPeople::new(&at, here.clone())
    });
    let at = store.clone();
    tasks.supervise("index of words of the history", move |stop| {
        let index = index_history(at.clone(), stop);
        async move { Ok(index.await?) }
    });
    let at = federation.clone();
    follow(
        tasks,
        store,
        ("profiles in rooms", PROFILES_READER),
        move || client_api::TellProfiles::new(&at),
    );
    let at = federation.clone();
    follow(
        tasks,
        store,
        ("redactions of what is related", "redact related"),
        move || client_api::RedactRelated::new(at.clone()),
    );
    let (at, here) = (store.clone(), name.clone());
    follow(
        tasks,
        store,
        ("redactions by bans", "redact banned"),
        move || RedactBanned::new(&at, here.clone()),
    );
    if config.rooms.forget_on_leave {
        let (at, here) = (store.clone(), name.clone());
        follow(tasks, store, ("rooms that are left", "forget"), move || {
            client_api::ForgetLeft::new(&at, here.clone())
        });
    }
    let at = federation.clone();
    follow(tasks, store, ("guests", "guests"), move || {
        client_api::PutOutGuests::new(&at)
    });
}

/// Looks once for what events relate to that were stored before that was written down.
fn relate(tasks: &Tasks, store: &Store) {
    let store = store.clone();
    tasks.supervise("relations", move |stop| {
        let run = relations::run(store.clone(), RELATING_PAUSE, stop);
        async move { Ok(run.await?) }
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
