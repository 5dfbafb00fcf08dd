//! What devices have signed of themselves, of users here and of other servers.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use ruma::OwnedDeviceId;

use crate::engine::db::Tx;
use crate::engine::sql::statement::Statements;
use crate::engine::sql::{Columns as _, rows};
use crate::engine::trouble::Trouble;
use crate::facts::Kind;
use crate::facts::decision::Decision;
use crate::{CommitError, Result, UserNo};

/// Device keys change. Who has to hear of it is told by a [`DeviceList`](crate::DeviceList) beside it.
#[derive(Debug, Clone)]
pub enum DeviceKeys {
    /// A device has these keys from now on; signatures that were added to others before go.
    Set {
        /// Whose device.
        user: UserNo,
        /// Which.
        device: OwnedDeviceId,
        /// What it signed, as JSON without `unsigned`.
        keys: Arc<str>,
        /// Its name, if it is another server's.
        display_name: Option<String>,
        /// It is a device of ours: refused ([`CommitError::AccountMoved`]) if it isn't there any more.
        expect_device: bool,
    },
    /// A device of another server's user is gone.
    Remove {
        /// Whose device.
        user: UserNo,
        /// Which.
        device: OwnedDeviceId,
    },
    /// All devices of another server's user are gone, those of write sets before this one too.
    Clear {
        /// Whose.
        user: UserNo,
    },
}

/// Devices of ours that are there.
pub(crate) type Devices = HashSet<(UserNo, OwnedDeviceId)>;

rows! {
    #[derive(PartialEq, Eq, PartialOrd, Ord)]
    pub(crate) struct Device<'a> {
        user_no: UserNo,
        device_id: &'a OwnedDeviceId,
    }
}

impl<'a> Device<'a> {
    pub(super) fn of((user_no, device_id): &'a (UserNo, OwnedDeviceId)) -> Self {
        Self {
            user_no: *user_no,
            device_id,
        }
    }
}

rows! {
    struct User {
        user_no: UserNo,
    }
}

rows! {
    struct Row<'a> {
        user_no: UserNo,
        device_id: &'a OwnedDeviceId,
        keys: &'a str,
        display_name: Option<&'a str>,
    }
}

rows! {
    struct Changed<'a> {
        user_no: UserNo,
        device_id: &'a OwnedDeviceId,
        keys: Option<&'a str>,
    }
}

/// Which of these devices of ours are there.
pub(super) async fn existing(
    tx: &mut Tx,
    wanted: BTreeSet<Device<'_>>,
) -> Result<Devices, Trouble> {
    if wanted.is_empty() {
        return Ok(Devices::new());
    }
    let query = tx
        .sql(
            "SELECT d.user_no, d.device_id FROM ROWS($1) AS x \
             JOIN device d ON d.user_no = x.user_no AND d.device_id = x.device_id",
        )
        .rows(&wanted.into_iter().collect::<Vec<_>>());
    let mut found = Devices::new();
    for row in tx.rows(query).await? {
        found.insert((row.get("user_no")?, row.get("device_id")?));
    }
    Ok(found)
}

/// Those of these devices of ours that are there, with what they have signed of themselves.
pub(super) async fn with_keys(
    tx: &mut Tx,
    wanted: BTreeSet<Device<'_>>,
) -> Result<HashMap<(UserNo, OwnedDeviceId), Option<Arc<str>>>, Trouble> {
    let mut found = HashMap::new();
    if wanted.is_empty() {
        return Ok(found);
    }
    let query = tx
        .sql(
            "SELECT d.user_no, d.device_id, k.keys FROM ROWS($1) AS x \
             JOIN device d ON d.user_no = x.user_no AND d.device_id = x.device_id \
             LEFT JOIN device_keys k ON k.user_no = x.user_no AND k.device_id = x.device_id",
        )
        .rows(&wanted.into_iter().collect::<Vec<_>>());
    for row in tx.rows(query).await? {
        let device = (row.get("user_no")?, row.get("device_id")?);
        found.insert(device, row.get("keys")?);
    }
    Ok(found)
}

impl DeviceKeys {
    /// The device of ours that has to be there.
    fn expected(&self) -> Option<(UserNo, &OwnedDeviceId)> {
        match self {
            Self::Set {
                user,
                device,
                expect_device: true,
                ..
            } => Some((*user, device)),
            _ => None,
        }
    }
}

impl Kind for DeviceKeys {
    type Basis = Devices;

    fn locks(&self) -> Option<UserNo> {
        match self {
            Self::Set { user, .. } | Self::Remove { user, .. } | Self::Clear { user } => {
                Some(*user)
            }
        }
    }

    async fn look_up(held: &mut Devices, tx: &mut Tx, facts: &[&Self]) -> Result<(), Trouble> {
        let expected = facts.iter().filter_map(|change| change.expected());
        let wanted = expected.map(|(user_no, device_id)| Device { user_no, device_id });
        *held = existing(tx, wanted.collect()).await?;
        Ok(())
    }

    fn check(&self, held: &Devices, _retried: bool) -> Option<Decision> {
        let (user, device) = self.expected()?;
        let there = held.contains(&(user, device.clone()));
        (!there).then_some(Decision::Refuse(CommitError::AccountMoved(user)))
    }

    fn write(facts: &[(i64, &Self)], _: &Devices, statements: &mut Statements) -> Result<()> {
        let mut cleared = BTreeSet::new();
        // What becomes of each device in the end.
        let mut last: BTreeMap<(UserNo, &OwnedDeviceId), Option<Row<'_>>> = BTreeMap::new();
        for (_, change) in facts {
            match change {
                Self::Set {
                    user,
                    device,
                    keys,
                    display_name,
                    ..
                } => {
                    let row = Row {
                        user_no: *user,
                        device_id: device,
                        keys,
                        display_name: display_name.as_deref(),
                    };
                    last.insert((*user, device), Some(row));
                }
                Self::Remove { user, device } => drop(last.insert((*user, device), None)),
                Self::Clear { user } => {
                    cleared.insert(*user);
                    last.retain(|(whose, _), _| whose != user);
                }
            }
        }
        let cleared: Vec<_> = (cleared.into_iter())
            .map(|user_no| User { user_no })
            .collect();
        statements.before(
            "DELETE FROM device_keys WHERE user_no IN (SELECT user_no FROM ROWS($1) AS x)",
            &cleared,
        )?;
        let (mut changed, mut gone, mut set) = (Vec::new(), Vec::new(), Vec::new());
        for ((user_no, device_id), row) in last {
            if row.is_none() {
                gone.push(Device { user_no, device_id });
            }
            changed.push(Changed {
                user_no,
                device_id,
                keys: row.as_ref().map(|row| row.keys),
            });
            set.extend(row);
        }
        statements.before(
            "DELETE FROM key_signature WHERE (target_user, target_id) IN \
             (SELECT x.user_no, x.device_id FROM ROWS($1) AS x WHERE NOT EXISTS \
             (SELECT 1 FROM device_keys k WHERE k.user_no = x.user_no AND k.device_id = x.device_id \
             AND k.keys = x.keys))",
            &changed,
        )?;
        statements.before(
            "DELETE FROM device_keys WHERE (user_no, device_id) IN \
             (SELECT user_no, device_id FROM ROWS($1) AS x)",
            &gone,
        )?;
        statements.before(
            "INSERT INTO device_keys (user_no, device_id, keys, display_name) \
             SELECT user_no, device_id, keys, display_name FROM ROWS($1) AS x WHERE true \
             ON CONFLICT (user_no, device_id) DO UPDATE SET \
             keys = excluded.keys, display_name = excluded.display_name",
            &set,
        )
    }
}
