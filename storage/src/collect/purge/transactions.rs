//! Which event a client's transaction has made is known for a while: a client repeats a request whose answer was lost
//! within minutes, or when it is started again.
//!
//! The event itself knows its transaction for good, and tells it to the device that sent it.

use std::time::Duration;

use super::{Pass, Purged};
use crate::engine::clock::millis;
use crate::engine::sql::{Columns as _, rows};
use crate::{Result, UserNo};

/// For how long. As for messages to devices (`facts/to_device/purge.rs`).
pub(crate) const KNOWN: Duration = Duration::from_hours(7 * 24);

const PIECE: usize = 1_000;

/// The next ones by their key.
const NEXT: &str = "SELECT user_no, device, path, txn_id, ts FROM client_transaction \
    WHERE (user_no, device, path, txn_id) > ($1, $2, $3, $4) \
    ORDER BY user_no, device, path, txn_id LIMIT $5";
const DELETE: &str = "DELETE FROM client_transaction WHERE ts < $2 \
    AND (user_no, device, path, txn_id) IN (SELECT user_no, device, path, txn_id FROM ROWS($1) AS x)";

rows! {
    struct Key {
        user_no: UserNo,
        device: String,
        path: String,
        txn_id: String,
    }
}

impl Pass<'_> {
    /// `false` if another process has the lease.
    pub(super) async fn transactions(&self, purged: &mut Purged) -> Result<bool> {
        let before = self.store.clock().now_ms() - millis(KNOWN);
        let mut after = Key {
            user_no: UserNo(i64::MIN),
            device: String::new(),
            path: String::new(),
            txn_id: String::new(),
        };
        loop {
            let query = self
                .store
                .sql(NEXT)
                .bind(after.user_no)
                .bind(&after.device)
                .bind(&after.path)
                .bind(&after.txn_id)
                .bind(PIECE);
            let rows = self.store.rows(query).await?;
            let mut old = Vec::new();
            for row in &rows {
                let key = Key {
                    user_no: row.get("user_no")?,
                    device: row.get("device")?,
                    path: row.get("path")?,
                    txn_id: row.get("txn_id")?,
                };
                if row.get::<i64>("ts")? < before {
                    old.push(key.clone());
                }
                after = key;
            }
            let mut deleted = 0;
            if !old.is_empty() {
                let query = self.store.sql(DELETE).rows(&old).bind(before);
                deleted = self.store.execute(query).await?;
            }
            if !self.goes_on(purged, deleted).await? {
                return Ok(false);
            }
            if rows.len() < PIECE {
                return Ok(true);
            }
        }
    }
}
