//! Devices that nobody uses any more.

use std::time::Duration;

use ruma::OwnedDeviceId;

use crate::engine::clock::millis;
use crate::engine::sql::Columns as _;
use crate::{Result, Store, UserNo};

/// How many are looked for at once.
const PIECE: usize = 100;

/// Devices in the order of their users; a dehydrated one isn't used until it is needed.
const UNUSED: &str = "SELECT d.user_no, d.device_id FROM device d WHERE d.last_seen_ms < $1 AND d.user_no > $2 \
    AND NOT EXISTS (SELECT 1 FROM dehydrated_device h \
    WHERE h.user_no = d.user_no AND h.device_id = d.device_id) ORDER BY d.user_no LIMIT $3";

impl Store {
    /// Logs out and deletes devices that weren't seen for `age`, with all that hangs on them, user by user with a pause
    /// in between. Gives their number.
    pub(crate) async fn expire_devices(&self, age: Duration, pause: Duration) -> Result<usize> {
        let before = self.clock().now_ms() - millis(age);
        let (mut after, mut gone) = (UserNo(0), 0);
        loop {
            let query = self.sql(UNUSED).bind(before).bind(after).bind(PIECE);
            let rows = self.rows(query).await?;
            let mut unused: Vec<(UserNo, Vec<OwnedDeviceId>)> = Vec::new();
            for row in &rows {
                let (user, device) = (row.get("user_no")?, row.get("device_id")?);
                match unused.last_mut() {
                    Some((last, devices)) if *last == user => devices.push(device),
                    _ => unused.push((user, vec![device])),
                }
            }
            let Some((last, _)) = unused.last() else {
                break;
            };
            // Of the last user there may be more than this piece holds: they come again, without these.
            after = if rows.len() < PIECE {
                *last
            } else {
                UserNo(last.0 - 1)
            };
            for (user, devices) in &unused {
                self.remove_devices(*user, devices).await?;
                gone += devices.len();
                self.clock().sleep(pause).await;
            }
        }
        if gone > 0 {
            tracing::info!(gone, "devices that nobody used were deleted");
        }
        Ok(gone)
    }
}

#[cfg(test)]
mod tests {
    use ruma::{OwnedDeviceId, user_id};

    use super::*;
    use crate::testing::TestDatabase;
    use crate::{
        Clock, DehydratedDevice, Dehydration, NewAccount, NewDehydrated, NewLogin, NewTokens,
        Options, Store,
    };

    const DAY: Duration = Duration::from_hours(24);

    async fn log_in(store: &Store, user: UserNo, device: &str) {
        let login = NewLogin {
            user,
            device_id: device.into(),
            device_name: None,
            ip: String::new(),
            now_ms: store.clock().now_ms(),
            tokens: NewTokens {
                access_hash: format!("{user} {device}"),
                refresh_hash: None,
                expires_ms: None,
                refresh_expires_ms: None,
            },
            proof: None,
            proved: false,
        };
        assert!(store.log_in(&login).await.unwrap());
    }

    async fn ids(store: &Store, user: UserNo) -> Vec<OwnedDeviceId> {
        let devices = store.devices(user).await.unwrap();
        devices.into_iter().map(|device| device.device_id).collect()
    }

    #[tokio::test]
    async fn devices_that_nobody_uses_go() {
        for database in TestDatabase::both().await {
            let clock = Clock::manual(1_800_000_000_000);
            let options = Options {
                clock: clock.clone(),
                ..database.options()
            };
            let store = Store::open(options).await.unwrap();
            let mut users = Vec::new();
            for user in [user_id!("@ada:here"), user_id!("@ben:here")] {
                let made = store.create_account(user, NewAccount::default(), None);
                users.push(made.await.unwrap().unwrap());
            }
            // More than one piece.
            for n in 0..130 {
                log_in(&store, users[0], &format!("OLD{n}")).await;
            }
            log_in(&store, users[1], "OLD").await;
            let dry = NewDehydrated {
                user: users[1],
                by: None,
                device: DehydratedDevice {
                    device: "DRY".into(),
                    data: "{}".into(),
                },
                name: None,
                keys: "{}".into(),
                one_time: Vec::new(),
                fallback: Vec::new(),
            };
            assert_eq!(store.dehydrate(&dry).await.unwrap(), Dehydration::Done);
            clock.advance(20 * DAY);
            log_in(&store, users[0], "NEW").await;
            clock.advance(20 * DAY);
            let expire = async || {
                store
                    .expire_devices(30 * DAY, Duration::ZERO)
                    .await
                    .unwrap()
            };
            assert_eq!(expire().await, 131);
            assert_eq!(ids(&store, users[0]).await, ["NEW"]);
            assert_eq!(ids(&store, users[1]).await, ["DRY"]);
            assert_eq!(
                store.token(&format!("{} OLD3", users[0])).await.unwrap(),
                None
            );
            assert_eq!(expire().await, 0);
            store.close().await;
            database.remove().await;
        }
    }
}
