//! What a fail-over does to a store's connections.

use sqlx::Connection as _;

use super::connect;
use crate::Store;
use crate::engine::database::Database;

/// Ends every connection of a PostgreSQL store's pools, as a fail-over does. They are as many as there may be.
pub async fn cut_connections(store: &Store) {
    let core = &store.core;
    let mut pids: Vec<i32> = Vec::new();
    let Database::Postgres(pools) = &core.database else {
        panic!("an SQLite file has no fail-over");
    };
    for pool in [&pools.readers, &pools.writers, &pools.committers] {
        let mut connections = Vec::new();
        for _ in 0..pool.options().get_max_connections() {
            let mut connection = pool.acquire().await.expect("a connection can be had");
            let asked = sqlx::query_scalar::<sqlx::Postgres, i32>("SELECT pg_backend_pid()");
            let pid = asked.fetch_one(&mut *connection).await;
            pids.push(pid.expect("it has a number"));
            connections.push(connection);
        }
    }
    let mut another = connect(&core.options.url).await;
    for pid in pids {
        // One that waits for its end, so that nobody gets it before.
        let end = "SELECT CASE WHEN pg_terminate_backend($1, 10000) THEN 1 ELSE 0 END";
        let ended = sqlx::query_scalar::<sqlx::Any, i32>(end).bind(pid);
        ended
            .fetch_one(&mut another)
            .await
            .expect("it can be ended");
    }
    another.close().await.expect("it is there");
}
