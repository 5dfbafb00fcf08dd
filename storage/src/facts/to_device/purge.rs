//! Nothing waits for ever: what is too old goes, and of too much for one device or server the oldest. Where one
//! sender has more waiting for a device than any other, it is theirs that goes, so that a flood drowns itself.

use std::time::Duration;

use ruma::{OwnedDeviceId, OwnedServerName};

use crate::engine::clock::millis;
use crate::engine::sql::Columns as _;
use crate::{Result, Store, UserNo};

/// How long a message waits for its device, or its server.
const WAITS: Duration = Duration::from_hours(60 * 24);
/// How long a client's transaction is known as done.
const DONE: Duration = Duration::from_hours(7 * 24);
/// How long another server's message is known as taken. Longer than a server whose answer was lost leaves us alone.
const SEEN: Duration = Duration::from_hours(14 * 24);

/// How much is kept.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    /// Messages for one device.
    pub(super) of_device: i64,
    /// EDUs for one server.
    pub(super) of_server: i64,
    /// Rows that go at once.
    pub(super) piece: i64,
}

const BOUNDS: Bounds = Bounds {
    of_device: 20_000,
    of_server: 50_000,
    piece: 1_000,
};

/// Deletes up to `$2` rows that are older than `$1`. The order of positions is that of time.
const OLD_MESSAGES: &str = "DELETE FROM to_device WHERE received_ms < $1 AND pos IN \
    (SELECT pos FROM to_device ORDER BY pos LIMIT $2)";
const OLD_OUT: &str = "DELETE FROM to_device_out WHERE queued_ms < $1 AND pos IN \
    (SELECT pos FROM to_device_out ORDER BY pos LIMIT $2)";
const OLD_TRANSACTIONS: &str = "DELETE FROM to_device_txn WHERE (user_no, device, path, txn_id) IN \
    (SELECT user_no, device, path, txn_id FROM to_device_txn WHERE done_ms < $1 LIMIT $2)";
const OLD_SEEN: &str = "DELETE FROM to_device_seen WHERE (origin, message_id) IN \
    (SELECT origin, message_id FROM to_device_seen WHERE seen_ms < $1 LIMIT $2)";

impl Store {
    /// Deletes what has waited too long, and what is too much. Gives the number of rows; between pieces there is a
    /// pause.
    pub(crate) async fn purge_to_device(&self, pause: Duration) -> Result<u64> {
        self.purge_to_device_to(BOUNDS, pause).await
    }

    pub(super) async fn purge_to_device_to(&self, to: Bounds, pause: Duration) -> Result<u64> {
        let now = self.clock().now_ms();
        let mut gone = 0;
        for (purge, age) in [
            (OLD_MESSAGES, WAITS),
            (OLD_OUT, WAITS),
            (OLD_TRANSACTIONS, DONE),
            (OLD_SEEN, SEEN),
        ] {
            loop {
                let query = self.sql(purge).bind(now - millis(age)).bind(to.piece);
                let deleted = self.execute(query).await?;
                gone += deleted;
                if i64::try_from(deleted).is_ok_and(|deleted| deleted < to.piece) {
                    break;
                }
                self.clock().sleep(pause).await;
            }
        }
        gone += self.purge_devices(to, pause).await?;
        gone += self.purge_servers(to, pause).await?;
        if gone > 0 {
            tracing::info!(
                gone,
                "messages to devices that nobody came for were deleted"
            );
        }
        Ok(gone)
    }

    /// Of devices for which too much waits; and of those that are gone: a message may have come with their end.
    async fn purge_devices(&self, to: Bounds, pause: Duration) -> Result<u64> {
        let query = self
            .sql(
                "SELECT t.user_no, t.device_id, t.n, d.user_no AS owner FROM (\
                 SELECT user_no, device_id, COUNT(*) AS n FROM to_device \
                 GROUP BY user_no, device_id) t LEFT JOIN device d \
                 ON d.user_no = t.user_no AND d.device_id = t.device_id \
                 WHERE d.user_no IS NULL OR t.n > $1",
            )
            .bind(to.of_device);
        let mut gone = 0;
        for row in self.rows(query).await? {
            let (user, device): (UserNo, OwnedDeviceId) =
                (row.get("user_no")?, row.get("device_id")?);
            let kept = match row.get::<Option<UserNo>>("owner")? {
                Some(_) => to.of_device,
                None => 0,
            };
            let mut over = row.get::<i64>("n")? - kept;
            while over > 0 {
                let loudest = self
                    .sql(
                        "DELETE FROM to_device WHERE pos IN (SELECT pos FROM to_device \
                         WHERE user_no = $1 AND device_id = $2 AND sender = (\
                         SELECT sender FROM to_device WHERE user_no = $1 AND device_id = $2 \
                         GROUP BY sender ORDER BY COUNT(*) DESC, sender LIMIT 1) \
                         ORDER BY pos LIMIT $3)",
                    )
                    .bind(user)
                    .bind(&device)
                    .bind(over.min(to.piece));
                let deleted = self.execute(loudest).await?;
                if deleted == 0 {
                    break;
                }
                gone += deleted;
                over -= i64::try_from(deleted).unwrap_or(over);
                self.clock().sleep(pause).await;
            }
        }
        Ok(gone)
    }

    async fn purge_servers(&self, to: Bounds, pause: Duration) -> Result<u64> {
        let query = self
            .sql(
                "SELECT server, COUNT(*) AS n FROM to_device_out GROUP BY server \
                 HAVING COUNT(*) > $1",
            )
            .bind(to.of_server);
        let mut gone = 0;
        for row in self.rows(query).await? {
            let server: OwnedServerName = row.get("server")?;
            let mut over = row.get::<i64>("n")? - to.of_server;
            while over > 0 {
                let oldest = self
                    .sql(
                        "DELETE FROM to_device_out WHERE pos IN (SELECT pos FROM to_device_out \
                         WHERE server = $1 ORDER BY pos LIMIT $2)",
                    )
                    .bind(&server)
                    .bind(over.min(to.piece));
                let deleted = self.execute(oldest).await?;
                if deleted == 0 {
                    break;
                }
                gone += deleted;
                over -= i64::try_from(deleted).unwrap_or(over);
                self.clock().sleep(pause).await;
            }
        }
        Ok(gone)
    }
}
