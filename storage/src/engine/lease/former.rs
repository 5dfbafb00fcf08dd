//! What versions before `lease` go by: a row in `sender_lease`. While processes of both versions run, as in
//! an upgrade of one after the other, whoever has the new lease has the old one too, and nobody does the
//! same work twice. To be dropped, with the table, in the release after next.

use std::time::Duration;

use crate::engine::clock::millis;
use crate::engine::db::Tx;
use crate::{Result, Store};

/// The work of those versions: its name here, its row there.
const ROWS: [(&str, i64); 2] = [("federation sender", 1), ("snapshot collector", 2)];

fn row(store: &Store, name: &str) -> Option<i64> {
    // An embedded database has no other processes.
    let shared = store.dialect().is_shared();
    let found = ROWS.iter().find(|(known, _)| shared && *known == name);
    found.map(|(_, row)| *row)
}

/// Takes or renews it; `false` if a process of such a version has it.
pub(super) async fn claim(
    tx: &mut Tx,
    store: &Store,
    name: &str,
    owner: &str,
    length: Duration,
) -> Result<bool> {
    let Some(row) = row(store, name) else {
        return Ok(true);
    };
    let query = tx
        .sql(
            "INSERT INTO sender_lease (id, owner, until) \
             VALUES ($1, $2, COALESCE(CAST($3 AS BIGINT), NOW_MS) + CAST($4 AS BIGINT)) \
             ON CONFLICT (id) DO UPDATE SET owner = excluded.owner, until = excluded.until \
             WHERE sender_lease.owner = $2 \
             OR sender_lease.until < COALESCE(CAST($3 AS BIGINT), NOW_MS)",
        )
        .bind(row)
        .bind(owner)
        .bind(store.clock().manual_ms())
        .bind(millis(length));
    Ok(tx.execute(query).await? > 0)
}

/// Gives it back.
pub(super) async fn release(tx: &mut Tx, store: &Store, name: &str, owner: &str) -> Result<()> {
    if let Some(row) = row(store, name) {
        let query = tx
            .sql("DELETE FROM sender_lease WHERE id = $1 AND owner = $2")
            .bind(row)
            .bind(owner);
        tx.execute(query).await?;
    }
    Ok(())
}
