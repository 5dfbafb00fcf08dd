//! The figures, by what they are of. `docs/metrics.md` says what each means; a test compares the two.

use std::time::SystemTime;

use rhizome_client_api::App;
use rhizome_federation::Federation;
use rhizome_media::Media;
use rhizome_storage::Store;

use super::Watched;
use super::process::{self, Process, Room};
use super::sheet::{Sheet, Unit, number, of, one};

pub(super) fn of_requests(sheet: &mut Sheet, watched: &Watched) {
    sheet.histograms(
        "rhizome_http_request_seconds",
        "Time until the head of an answer, by route, method and kind of answer",
        Unit::Micros,
        watched.requests.now(),
    );
    sheet.gauges(
        "rhizome_http_connections",
        "Open connections of clients and servers",
        one(number(watched.connections.len() as u64)),
    );
}

pub(super) fn of_clients(sheet: &mut Sheet, app: &App) {
    let figures = app.figures();
    sheet.gauges(
        "rhizome_client_waiting",
        "Clients that wait for news, by form",
        vec![
            of("form", "sync", number(figures.polls)),
            of("form", "sliding_sync", number(figures.sliding_polls)),
            of("form", "websocket", number(figures.sockets)),
        ],
    );
    sheet.counters(
        "rhizome_pushes",
        "What has become of notifications",
        vec![
            of("outcome", "accepted", number(figures.pushes_accepted)),
            of("outcome", "rejected", number(figures.pushes_rejected)),
            of("outcome", "dropped", number(figures.pushes_dropped)),
            of("outcome", "failed", number(figures.pushes_failed)),
        ],
    );
    let (acknowledged, failed) = (figures.service_transactions, figures.service_failures);
    sheet.counters(
        "rhizome_appservice_transactions",
        "What has become of transactions to application services",
        vec![
            of("outcome", "acknowledged", number(acknowledged)),
            of("outcome", "failed", number(failed)),
        ],
    );
}

pub(super) fn of_log(sheet: &mut Sheet, store: &Store) {
    let head = store.log().head();
    let behind = |at: rhizome_storage::Pos| u64::try_from(head.0 - at.0).unwrap_or_default();
    sheet.gauges(
        "rhizome_log_position",
        "The last position of the log",
        one(number(u64::try_from(head.0).unwrap_or_default())),
    );
    let readers = store.reader_progress().into_iter();
    sheet.gauges(
        "rhizome_log_reader_behind",
        "Positions that a reader of the log has still to read",
        readers
            .map(|(name, at)| of("reader", name, number(behind(at))))
            .collect(),
    );
    let counts = store.counters().now();
    sheet.counters(
        "rhizome_log_reader_failures",
        "How often a reader of the log failed and began again",
        one(number(counts.reader_failures)),
    );
    sheet.counters(
        "rhizome_wake_ups",
        "How often a waiting client was woken",
        one(number(counts.wake_ups)),
    );
    sheet.histograms(
        "rhizome_delivery_seconds",
        "Time from a commit until a client that waited for it is being answered",
        Unit::Micros,
        vec![(Vec::new(), store.counters().timings().deliveries())],
    );
}

pub(super) fn of_database(sheet: &mut Sheet, store: &Store) {
    let (counts, timings) = (store.counters().now(), store.counters().timings());
    sheet.histograms(
        "rhizome_commit_seconds",
        "Time of a transaction of the commit queue",
        Unit::Micros,
        vec![(Vec::new(), timings.commits())],
    );
    sheet.histograms(
        "rhizome_commit_write_sets",
        "Write sets in a transaction of the commit queue",
        Unit::Pieces,
        vec![(Vec::new(), timings.groups())],
    );
    for (name, help, count) in [
        (
            "rhizome_write_sets_refused",
            "Write sets that were refused, to be decided again",
            counts.refused,
        ),
        (
            "rhizome_database_statements",
            "Statements sent to the database",
            counts.queries,
        ),
        (
            "rhizome_database_transactions",
            "Transactions that were committed",
            counts.transactions,
        ),
        (
            "rhizome_database_errors",
            "Statements and commits at which the database failed",
            counts.errors,
        ),
        (
            "rhizome_event_reads",
            "Events that were read from the database because no cache had them",
            counts.event_reads,
        ),
    ] {
        sheet.counters(name, help, one(number(count)));
    }
    sheet.gauges(
        "rhizome_database_writable",
        "Whether what was to be written last could be: 1, or 0",
        one(f64::from(u8::from(store.is_writable()))),
    );
    let pools = store.pools();
    let sizes = |size: fn(&rhizome_storage::Pool) -> usize| {
        let each = pools.iter();
        each.map(|pool| of("pool", pool.name, number(size(pool) as u64)))
            .collect()
    };
    sheet.gauges(
        "rhizome_database_connections",
        "Connections to the database, or threads that have one",
        sizes(|pool| pool.open),
    );
    sheet.gauges(
        "rhizome_database_connections_busy",
        "Those of them that are at work",
        sizes(|pool| pool.busy),
    );
    sheet.gauges(
        "rhizome_database_connections_max",
        "How many there may be",
        sizes(|pool| pool.most),
    );
    sheet.gauges(
        "rhizome_database_waiting",
        "Statements that wait for one of them; of SQLite only",
        sizes(|pool| pool.waiting),
    );
}

pub(super) fn of_caches(sheet: &mut Sheet, watched: &Watched) {
    let mut caches = watched.app.store.cache_figures();
    caches.extend(watched.app.figures().caches);
    let figures = |figure: fn(&rhizome_storage::CacheFigures) -> u64| {
        let each = caches.iter();
        each.map(|(name, figures)| of("cache", *name, number(figure(figures))))
            .collect()
    };
    sheet.gauges(
        "rhizome_cache_entries",
        "What a cache holds",
        figures(|cache| cache.entries),
    );
    sheet.gauges(
        "rhizome_cache_weight",
        "How much that weighs, in the cache's own unit",
        figures(|cache| cache.weight),
    );
    sheet.gauges(
        "rhizome_cache_capacity",
        "How much it may weigh",
        figures(|cache| cache.capacity),
    );
    sheet.counters(
        "rhizome_cache_hits",
        "Questions that a cache could answer",
        figures(|cache| cache.hits),
    );
    sheet.counters(
        "rhizome_cache_misses",
        "Questions that it couldn't",
        figures(|cache| cache.misses),
    );
}

pub(super) fn of_federation(sheet: &mut Sheet, federation: &Federation) {
    let figures = federation.sender().figures();
    sheet.gauges(
        "rhizome_federation_destinations",
        "Other servers to which something is to be sent, by what is done about it",
        vec![
            of("state", "waiting", number(figures.waiting)),
            of("state", "sending", number(figures.sending)),
            of("state", "backing_off", number(figures.backing_off)),
            of("state", "catching_up", number(figures.catching_up)),
        ],
    );
    sheet.counters(
        "rhizome_federation_transactions",
        "What has become of transactions to other servers",
        vec![
            of("outcome", "arrived", number(figures.arrived)),
            of("outcome", "refused", number(figures.refused)),
            of("outcome", "failed", number(figures.failed)),
        ],
    );
}

pub(super) fn of_media(sheet: &mut Sheet, media: &Media) {
    let figures = media.figures();
    sheet.counters(
        "rhizome_media_bytes",
        "Bytes of files that came or went",
        vec![
            of("way", "uploaded", number(figures.uploaded)),
            of("way", "fetched", number(figures.fetched)),
            of("way", "read", number(figures.read)),
        ],
    );
}

/// What waits in the database: two statements.
pub(super) async fn of_queues(sheet: &mut Sheet, store: &Store) {
    let (queues, services) = match (store.queues().await, store.service_states().await) {
        (Ok(queues), Ok(services)) => (Some(queues), services),
        (Err(error), _) | (_, Err(error)) => {
            tracing::warn!(%error, "the database doesn't tell what waits");
            (None, Vec::new())
        }
    };
    sheet.gauges(
        "rhizome_queues_known",
        "Whether the database told what waits: 1, or 0",
        one(f64::from(u8::from(queues.is_some()))),
    );
    let lengths = queues.map(|queues| {
        vec![
            of("queue", "inbox", number(queues.inbox)),
            of("queue", "pushes", number(queues.pushes)),
            of("queue", "to_device", number(queues.to_device)),
            of("queue", "delayed_events", number(queues.delayed)),
            of("queue", "tasks", number(queues.tasks)),
        ]
    });
    sheet.gauges(
        "rhizome_queue_length",
        "What waits in the database, counted up to 10,000",
        lengths.unwrap_or_default(),
    );
    let behind = services.iter().map(|service| {
        let behind = u64::try_from(service.behind).unwrap_or_default();
        of("service", service.id.clone(), number(behind))
    });
    sheet.gauges(
        "rhizome_appservice_behind",
        "Positions of the log that an application service hasn't been told",
        behind.collect(),
    );
    let failures = services.iter().map(|service| {
        let failures = u64::try_from(service.failures).unwrap_or_default();
        of("service", service.id.clone(), number(failures))
    });
    sheet.gauges(
        "rhizome_appservice_failures",
        "Failures of an application service since it last took a transaction",
        failures.collect(),
    );
}

pub(super) async fn of_process(sheet: &mut Sheet, watched: &Watched, started: SystemTime) {
    let places = watched.places.clone();
    // Where files lie may be far away.
    let looked = tokio::task::spawn_blocking(move || (process::look(), process::room(&places)));
    if let Ok((process, rooms)) = looked.await {
        of_system(sheet, &process, &rooms);
    }
    sheet.gauges(
        "process_start_time_seconds",
        "When the process was started, seconds since 1970",
        one(process::since_1970(started)),
    );
    sheet.gauges(
        "rhizome_time_seconds",
        "What time it is by the machine's clock, seconds since 1970",
        one(process::since_1970(SystemTime::now())),
    );
    sheet.gauges(
        "rhizome_build_info",
        "Always 1, with the version",
        vec![of("version", env!("CARGO_PKG_VERSION"), 1.0)],
    );
    let restarts = watched.tasks.restarts().into_iter();
    sheet.counters(
        "rhizome_task_restarts",
        "How often a task of the server's ended and was started again",
        restarts
            .map(|(task, count)| of("task", task, number(count)))
            .collect(),
    );
}

fn of_system(sheet: &mut Sheet, process: &Process, rooms: &[Room]) {
    sheet.counters(
        "process_cpu_seconds",
        "Time that processors have worked for the process",
        one(process.cpu),
    );
    for (name, help, value) in [
        (
            "process_resident_memory_bytes",
            "Memory of the process",
            process.resident,
        ),
        (
            "process_open_fds",
            "Files and connections that the process has open",
            process.open,
        ),
        (
            "process_max_fds",
            "How many it may have open",
            process.most_open,
        ),
    ] {
        if let Some(value) = value {
            sheet.gauges(name, help, one(number(value)));
        }
    }
    let room = |bytes: fn(&Room) -> u64| {
        let each = rooms.iter();
        each.map(|room| of("place", room.place.clone(), number(bytes(room))))
            .collect()
    };
    sheet.gauges(
        "rhizome_filesystem_free_bytes",
        "Room that is left where something lies",
        room(|room| room.free),
    );
    sheet.gauges(
        "rhizome_filesystem_size_bytes",
        "Room that there is altogether",
        room(|room| room.size),
    );
}
