//! Dehydrated devices (MSC3814): devices that nobody is logged in with, stored for whoever logs in next. A user has
//! one at most. It stands among their devices, so that messages for it wait and its keys are given out; it goes as
//! any device does.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use ruma::OwnedDeviceId;

use super::AccountChange;
use crate::engine::db::Tx;
use crate::engine::sql::statement::Statements;
use crate::engine::sql::{Columns as _, rows};
use crate::engine::trouble::Trouble;
use crate::{Result, UserNo};

/// A user gets a dehydrated device. Refused ([`CommitError::AccountMoved`](crate::CommitError::AccountMoved)) if the
/// one that they have isn't the one that this was decided on, another device has its id, the account has ended, or
/// the device that asked for it is gone.
#[derive(Debug, Clone)]
pub struct Dehydrated {
    /// Whose.
    pub user: UserNo,
    /// Which of their devices wants it, if one does.
    pub by: Option<OwnedDeviceId>,
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

/// Users' dehydrated devices, and what it takes to rehydrate them.
#[derive(Debug, Default)]
pub(super) struct Held(HashMap<UserNo, (OwnedDeviceId, Arc<str>)>);

rows! {
    struct Row<'a> {
        user_no: UserNo,
        device_id: &'a OwnedDeviceId,
        name: Option<&'a str>,
        now_ms: i64,
        device_data: &'a str,
    }
}

impl Held {
    /// Reads those that the changes are decided on.
    pub(super) async fn look_up(
        &mut self,
        tx: &mut Tx,
        changes: &[&AccountChange],
    ) -> Result<(), Trouble> {
        let users = changes.iter().filter_map(|change| match change {
            AccountChange::Dehydrate(new) => Some(new.user),
            AccountChange::RemoveDehydrated { user, .. } => Some(*user),
            _ => None,
        });
        let users: BTreeSet<UserNo> = users.collect();
        if users.is_empty() {
            return Ok(());
        }
        let query = tx
            .sql(
                "SELECT user_no, device_id, device_data FROM dehydrated_device \
                 WHERE user_no IN NUMBERS($1)",
            )
            .numbers(users);
        for row in tx.rows(query).await? {
            let stored = (row.get("device_id")?, row.get("device_data")?);
            self.0.insert(row.get("user_no")?, stored);
        }
        Ok(())
    }

    pub(super) fn of(&self, user: UserNo) -> Option<&OwnedDeviceId> {
        self.0.get(&user).map(|(device, _)| device)
    }

    pub(super) fn is_there(&self, new: &Dehydrated) -> bool {
        let current = self.0.get(&new.user);
        current.is_some_and(|(device, data)| (device, data) == (&new.device, &new.data))
    }
}

/// Call after what writes that devices go.
pub(super) fn write(changes: &[(i64, &AccountChange)], statements: &mut Statements) -> Result<()> {
    let rows: Vec<_> = (changes.iter())
        .filter_map(|(_, change)| match change {
            AccountChange::Dehydrate(new) => Some(Row {
                user_no: new.user,
                device_id: &new.device,
                name: new.name.as_deref(),
                now_ms: new.now_ms,
                device_data: &new.data,
            }),
            _ => None,
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
