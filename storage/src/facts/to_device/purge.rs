//! Nothing waits for ever: what is too old goes, and of too much for one device or server the oldest. Where one
//! sender has more waiting for a device than any other, it is theirs that goes, so that a flood drowns itself.

use std::time::Duration;

use ruma::{OwnedDeviceId, OwnedServerName};

use crate::engine::clock::millis;
use crate::engine::sql::Columns as _;
use crate::{Result, Store, UserNo};

/// How long a message waits for its device, or its server.
pub(crate) const WAITS: Duration = Duration::from_hours(60 * 24);
/// How long one waits for a server that was never reached and is in no room: perhaps somebody has made it up.
const WAITS_IN_VAIN: Duration = Duration::from_hours(3 * 24);
/// How long a server that failed, and for which there is nothing any more, is known to be left alone.
const LEFT_ALONE: Duration = Duration::from_hours(24);
/// How long a client's transaction is known as done.
pub(crate) const DONE: Duration = Duration::from_hours(7 * 24);
/// How long another server's message is known as taken. Longer than a server whose answer was lost leaves us alone.
pub(crate) const SEEN: Duration = Duration::from_hours(14 * 24);

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
const VAIN_OUT: &str = "DELETE FROM to_device_out WHERE pos IN \
    (SELECT o.pos FROM destination_state s JOIN to_device_out o ON o.server = s.server \
    WHERE s.sent_pos = 0 AND s.come_pos = 0 AND s.failures > 0 AND o.queued_ms < $1 AND NOT EXISTS (\
    SELECT 1 FROM server_name n JOIN room_server r ON r.server = n.no AND r.joined > 0 \
    WHERE n.name = s.server) LIMIT $2)";
/// Where a destination stands says nothing when it is in no room, never had to get an event, and nothing waits: all
/// that it could be told begins when it comes into a room.
const OLD_DESTINATIONS: &str = "DELETE FROM destination_state WHERE server IN \
    (SELECT s.server FROM destination_state s LEFT JOIN server_name n ON n.name = s.server \
    WHERE s.retry_at < $1 \
    AND NOT EXISTS (SELECT 1 FROM to_device_out o WHERE o.server = s.server) \
    AND NOT EXISTS (SELECT 1 FROM room_server r WHERE r.server = n.no AND r.joined > 0) \
    AND NOT EXISTS (SELECT 1 FROM set_member d WHERE d.server = n.no) LIMIT $2)";
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
            (VAIN_OUT, WAITS_IN_VAIN),
            (OLD_DESTINATIONS, LEFT_ALONE),
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use ruma::{DeviceId, device_id, owned_server_name, owned_user_id, server_name, user_id};

    use super::*;
    use crate::testing::{TestDatabase, each_database};
    use crate::{
        Clock, Fact, NewAccount, NewLogin, NewTokens, Once, Options, Pos, Sending, ToDevice,
        ToDeviceOut, ToDeviceTaken, ToDeviceTxn, TxnKey, WaitingMessage,
    };

    const FEW: Bounds = Bounds {
        of_device: 10,
        of_server: 3,
        piece: 4,
    };

    /// Ada's phone.
    async fn log_in(store: &Store) -> UserNo {
        let ada = user_id!("@ada:here");
        let first = |user| NewLogin {
            user,
            device_id: device_id!("PHONE").to_owned(),
            device_name: None,
            ip: String::new(),
            now_ms: 1,
            tokens: NewTokens {
                access_hash: "a".to_owned(),
                refresh_hash: None,
                expires_ms: None,
                refresh_expires_ms: None,
            },
            proof: None,
            proved: false,
        };
        let made = store.create_account(ada, NewAccount::default(), Some(Box::new(first)));
        made.await.unwrap().unwrap()
    }

    fn message(
        store: &Store,
        user: UserNo,
        device: &str,
        sender: &str,
        once: Option<&str>,
    ) -> Fact {
        let once = once.map(|id| Once {
            origin: owned_server_name!("there"),
            message_id: id.to_owned(),
        });
        let sending = Sending {
            sender: sender.try_into().unwrap(),
            kind: "m.test".to_owned(),
            received_ms: store.clock().now_ms(),
            once,
        };
        let device: &DeviceId = device.into();
        Fact::from(ToDevice {
            user,
            device: device.to_owned(),
            sending: Arc::new(sending),
            content: "{}".into(),
        })
    }

    fn out(store: &Store) -> Fact {
        Fact::from(ToDeviceOut {
            server: owned_server_name!("there"),
            edu: "{}".into(),
            queued_ms: store.clock().now_ms(),
        })
    }

    async fn waiting(store: &Store, user: UserNo) -> Vec<WaitingMessage> {
        let phone = device_id!("PHONE");
        let all = store.to_device(user, phone, Pos(0), Pos(i64::MAX), 100);
        all.await.unwrap()
    }

    #[tokio::test]
    async fn what_is_old_goes() {
        for database in TestDatabase::both().await {
            let clock = Clock::manual(1_800_000_000_000);
            let options = Options {
                clock: clock.clone(),
                ..database.options()
            };
            let store = Store::open(options).await.unwrap();
            let ada = log_in(&store).await;
            let txn = || {
                let key = TxnKey {
                    user: ada,
                    device: device_id!("PHONE").to_owned(),
                    path: "p".to_owned(),
                    txn_id: "t".to_owned(),
                };
                let done_ms = store.clock().now_ms();
                Fact::from(ToDeviceTxn { key, done_ms })
            };
            let incoming = || message(&store, ada, "PHONE", "@bob:there", Some("one"));
            let head = async |facts: Vec<Fact>| {
                store.commit(facts.into()).await.unwrap();
                store.log().head().0
            };
            let start = store.log().head().0;
            assert_eq!(head(vec![txn(), incoming(), out(&store)]).await, start + 2);
            // Known again, each of them.
            assert_eq!(head(vec![txn(), out(&store)]).await, start + 2);
            assert_eq!(head(vec![incoming()]).await, start + 2);
            let purge = async || store.purge_to_device_to(FEW, Duration::ZERO).await.unwrap();
            assert_eq!(purge().await, 0);

            clock.advance(Duration::from_hours(15 * 24));
            assert_eq!(purge().await, 2, "what is known as done");
            assert_eq!(head(vec![txn(), incoming()]).await, start + 3);
            clock.advance(Duration::from_hours(50 * 24));
            assert_eq!(waiting(&store, ada).await.len(), 2);
            // The first message, what is for the server, and again what is known as done.
            assert_eq!(purge().await, 4);
            assert_eq!(waiting(&store, ada).await.len(), 1);
            store.close().await;
            database.remove().await;
        }
    }

    #[tokio::test]
    async fn of_too_much_the_loudest_sender_s_oldest_go() {
        each_database(async |store| {
            let ada = log_in(&store).await;
            let from = |sender: &str| message(&store, ada, "PHONE", sender, None);
            let mut facts = vec![from("@bob:there")];
            facts.extend((0..20).map(|_| from("@eve:there")));
            facts.push(from("@bob:there"));
            facts.extend((0..9).map(|_| out(&store)));
            // Nobody has this one.
            facts.push(message(&store, ada, "TABLET", "@bob:there", None));
            let start = store.log().head();
            let end = store.commit(facts.into()).await.unwrap().last;
            assert_eq!(end.0 - start.0, 31);
            let purged = store.purge_to_device_to(FEW, Duration::ZERO).await.unwrap();
            assert_eq!(purged, 12 + 6);
            let left = waiting(&store, ada).await;
            let bob = owned_user_id!("@bob:there");
            assert_eq!(left.len(), 10);
            assert_eq!((&left[0].sender, &left[9].sender), (&bob, &bob));
            assert_eq!(left[1].pos.0 - left[0].pos.0, 13);
            let there = server_name!("there");
            let queued = store.to_device_out(there, Pos(0), end, 99).await.unwrap();
            assert_eq!((queued.len(), queued[2].0), (3, end));

            // Some are taken; the rest goes with the device.
            let taken = ToDeviceTaken {
                user: ada,
                device: device_id!("PHONE").to_owned(),
                upto: left[3].pos,
            };
            store.commit(vec![Fact::from(taken)].into()).await.unwrap();
            assert_eq!(waiting(&store, ada).await, left[4..]);
            let phone = [device_id!("PHONE").to_owned()];
            store.remove_devices(ada, &phone).await.unwrap();
            assert_eq!(waiting(&store, ada).await, []);
        })
        .await;
    }
}
