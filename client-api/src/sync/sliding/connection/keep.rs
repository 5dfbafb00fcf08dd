//! Writing down what connections were told, behind their answers, and reading it.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
    time::Duration,
};

use super::{Connection, Inner, Position, Rooms};
use crate::{App, MatrixError, view::seen::Viewer};

/// A connection in use is noted to be so once a day.
pub const TOUCHED_MS: i64 = 24 * 60 * 60 * 1_000;

/// How often a version is looked for that another process gave out a moment ago, …
const TRIES: u32 = 10;
/// … and how long is waited in between.
const BETWEEN: Duration = Duration::from_millis(50);

/// Writes a connection's steps, in their order, with what others write. Who can't write, because the disk is full, can
/// read all the same: after a restart its connection begins anew.
pub fn write(app: &App, connection: Arc<Connection>) {
    let store = app.store.clone();
    app.unfinished.spawn(async move {
        let _turn = connection.turn.lock().await;
        loop {
            let step = connection.lock().steps.pop_front();
            let Some(step) = step else { return };
            let written = match store.submit(vec![step.into()].into()).await {
                Ok(submitted) => submitted.await.map(drop),
                Err(error) => Err(error),
            };
            match written {
                Ok(()) => connection.lock().is_stored = true,
                Err(error) => {
                    tracing::debug!(%error, "what a connection was told isn't written down");
                }
            }
        }
    });
}

/// A connection as the database knows it, if that knows the position's version.
pub async fn load(
    app: &App,
    viewer: &Viewer,
    conn_id: &str,
    position: &Position,
) -> Result<Option<Connection>, MatrixError> {
    for attempt in 0..TRIES {
        if attempt > 0 {
            tokio::time::sleep(BETWEEN).await;
        }
        let (user, device) = (viewer.user, &viewer.device_id);
        let found = app.store.sliding_connection(user, device, conn_id).await?;
        // Its first step may be on its way as well.
        let Some(found) = found.filter(|found| found.no == position.connection) else {
            continue;
        };
        let mut versions = found.versions.iter().map(|(version, _)| *version);
        if found.version != position.version && !versions.any(|known| known == position.version) {
            continue;
        }
        let Ok(configs) = serde_json::from_str(&found.configs) else {
            return Ok(None);
        };
        let versions = (found.versions.into_iter())
            .map(|(version, rooms)| (version, rooms.into_iter().collect::<Rooms>()));
        return Ok(Some(Connection {
            no: found.no,
            user: viewer.user,
            device: viewer.device_id.clone(),
            conn_id: conn_id.to_owned(),
            inner: Mutex::new(Inner {
                version: found.version,
                rooms: Arc::new(found.rooms),
                versions: versions.collect(),
                confirmed: None,
                configs: Arc::new(configs),
                configs_size: found.configs.len(),
                seen_ms: found.seen_ms,
                is_new: false,
                is_stored: true,
                settled: None,
                steps: VecDeque::new(),
            }),
            turn: tokio::sync::Mutex::default(),
        }));
    }
    Ok(None)
}
