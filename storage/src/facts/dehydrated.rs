//! Dehydrated devices (MSC3814): devices that nobody is logged in with, stored for whoever logs in next. A user has
//! one at most. It stands among their devices, so that messages for it wait and its keys are given out; it goes as
//! any device does.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use ruma::OwnedDeviceId;

use super::Kind;
use super::decision::Decision;
use crate::engine::db::Tx;
use crate::engine::sql::statement::Statements;
use crate::engine::sql::{Columns as _, rows};
use crate::engine::trouble::Trouble;
use crate::{CommitError, Result, UserNo};

/// A user gets a dehydrated device. Refused ([`CommitError::AccountMoved`]) if the one that they have isn't the one
/// that this was decided on, or another device has its id.
#[derive(Debug, Clone)]
pub struct Dehydrated {
    /// Whose.
    pub user: UserNo,
    /// Its id.
    pub device: OwnedDeviceId,
    /// Its name.
    pub name: Option<String>,
    /// What it takes to rehydrate it: JSON.
    pub data: Arc<str>,
    /// Now, in milliseconds since 1970.
    pub now_ms: i64,
    /// The one before it; unless that has its id, the write set removes that as well.
    pub replaces: Option<OwnedDeviceId>,
}

/// What a group's dehydrated devices are decided on.
#[derive(Debug, Default)]
pub(crate) struct Known {
    /// Those of the devices that there are.
    devices: HashSet<(UserNo, OwnedDeviceId)>,
    /// Users' dehydrated devices, and what it takes to rehydrate them.
    dehydrated: HashMap<UserNo, (OwnedDeviceId, Arc<str>)>,
    /// Users whose device this group changes already.
    touched: HashSet<UserNo>,
}

rows! {
    #[derive(PartialEq, Eq, PartialOrd, Ord)]
    struct Asked<'a> {
        user_no: UserNo,
        device_id: &'a OwnedDeviceId,
    }
}

rows! {
    struct Row<'a> {
        user_no: UserNo,
        device_id: &'a OwnedDeviceId,
        name: Option<&'a str>,
        now_ms: i64,
        device_data: &'a str,
    }
}

const LOOK_UP: &str = "\
    SELECT 'device' AS what, d.user_no, d.device_id, NULL AS device_data FROM ROWS($1) AS x \
    JOIN device d ON d.user_no = x.user_no AND d.device_id = x.device_id \
    UNION ALL SELECT 'dehydrated', user_no, device_id, device_data FROM dehydrated_device \
    WHERE user_no IN NUMBERS($2)";

impl Kind for Dehydrated {
    type Basis = Known;

    fn locks(&self) -> Option<UserNo> {
        Some(self.user)
    }

    async fn look_up(held: &mut Known, tx: &mut Tx, facts: &[&Self]) -> Result<(), Trouble> {
        let devices: BTreeSet<_> = (facts.iter())
            .map(|new| Asked {
                user_no: new.user,
                device_id: &new.device,
            })
            .collect();
        let users: BTreeSet<_> = facts.iter().map(|new| new.user).collect();
        let devices: Vec<_> = devices.into_iter().collect();
        let query = tx.sql(LOOK_UP).rows(&devices).numbers(users);
        for row in tx.rows(query).await? {
            let (user, device) = (row.get("user_no")?, row.get("device_id")?);
            if row.get::<String>("what")? == "device" {
                held.devices.insert((user, device));
            } else {
                let stored = (device, row.get("device_data")?);
                held.dehydrated.insert(user, stored);
            }
        }
        Ok(())
    }

    fn check(&self, held: &Known, retried: bool) -> Option<Decision> {
        if held.touched.contains(&self.user) {
            return Some(Decision::Defer);
        }
        let current = held.dehydrated.get(&self.user);
        let is_there =
            current.is_some_and(|(device, data)| (device, data) == (&self.device, &self.data));
        if retried && is_there {
            return Some(Decision::Done(None));
        }
        let current = current.map(|(device, _)| device);
        let others = current != Some(&self.device)
            && held.devices.contains(&(self.user, self.device.clone()));
        let moved = others || current != self.replaces.as_ref();
        moved.then_some(Decision::Refuse(CommitError::AccountMoved(self.user)))
    }

    fn apply(&self, held: &mut Known) -> bool {
        held.touched.insert(self.user);
        true
    }

    fn write(facts: &[(i64, &Self)], _: &Known, statements: &mut Statements) -> Result<()> {
        let rows: Vec<_> = (facts.iter())
            .map(|(_, new)| Row {
                user_no: new.user,
                device_id: &new.device,
                name: new.name.as_deref(),
                now_ms: new.now_ms,
                device_data: &new.data,
            })
            .collect();
        for text in [
            "INSERT INTO device (user_no, device_id, name, last_seen_ms) \
             SELECT user_no, device_id, name, now_ms FROM ROWS($1) AS x WHERE true \
             ON CONFLICT (user_no, device_id) DO UPDATE SET \
             name = excluded.name, last_seen_ms = excluded.last_seen_ms",
            "INSERT INTO dehydrated_device (user_no, device_id, device_data) \
             SELECT user_no, device_id, device_data FROM ROWS($1) AS x WHERE true \
             ON CONFLICT (user_no) DO UPDATE SET \
             device_id = excluded.device_id, device_data = excluded.device_data",
        ] {
            statements.before(text, &rows)?;
        }
        Ok(())
    }
}
