//! A user's devices or their keys changed, of users here and of other servers.
//!
//! `device_list` says when that was last, which is what readers from long ago ask, and what other servers are
//! told when nothing else is left. `device_change` has each change, with the one before it, for those who follow
//! a user's changes one by one; its rows only tell.

use std::collections::BTreeMap;

use ruma::OwnedDeviceId;

use super::{Audience, Kind, LoggedKind, Stored};
use crate::engine::sql::statement::Statements;
use crate::engine::sql::{Columns as _, ReadRow, rows};
use crate::{Result, UserNo};

/// A user's devices or their keys change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceList {
    /// Whose.
    pub user: UserNo,
    /// Which device; `None`: the cross-signing keys, or, of a user of another server, anything.
    pub device: Option<OwnedDeviceId>,
}

rows! {
    struct Change<'a> {
        user_no: UserNo,
        device_id: &'a Option<OwnedDeviceId>,
        pos: i64,
        before: Option<i64>,
    }
}

rows! {
    struct Last<'a> {
        user_no: UserNo,
        pos: i64,
        device_pos: Option<i64>,
        device_id: Option<&'a OwnedDeviceId>,
        keys_pos: Option<i64>,
    }
}

impl Kind for DeviceList {
    type Basis = ();

    fn write(facts: &[(i64, &Self)], (): &(), statements: &mut Statements) -> Result<()> {
        let mut last: BTreeMap<UserNo, Last<'_>> = BTreeMap::new();
        let mut changes = Vec::with_capacity(facts.len());
        for (pos, list) in facts {
            let last = last.entry(list.user).or_insert(Last {
                user_no: list.user,
                pos: *pos,
                device_pos: None,
                device_id: None,
                keys_pos: None,
            });
            changes.push(Change {
                user_no: list.user,
                device_id: &list.device,
                pos: *pos,
                before: last.device_pos,
            });
            last.pos = *pos;
            if list.device.is_some() {
                last.device_pos = Some(*pos);
                last.device_id = list.device.as_ref();
            } else {
                last.keys_pos = Some(*pos);
            }
        }
        statements.after(
            "INSERT INTO device_change (pos, user_no, device_id, prev) \
             SELECT x.pos + $2, x.user_no, x.device_id, COALESCE(x.before + $2, d.device_pos) \
             FROM ROWS($1) AS x LEFT JOIN device_list d ON d.user_no = x.user_no",
            &changes,
        )?;
        statements.after(
            "INSERT INTO device_list (user_no, pos, device_pos, device_id, keys_pos) \
             SELECT user_no, pos + $2, device_pos + $2, device_id, keys_pos + $2 \
             FROM ROWS($1) AS x WHERE true ON CONFLICT (user_no) DO UPDATE SET pos = excluded.pos, \
             device_pos = COALESCE(excluded.device_pos, device_list.device_pos), \
             device_id = COALESCE(excluded.device_id, device_list.device_id), \
             keys_pos = COALESCE(excluded.keys_pos, device_list.keys_pos)",
            &last.into_values().collect::<Vec<_>>(),
        )
    }
}

impl LoggedKind for DeviceList {
    type Entry = Self;
    const TELLS: bool = true;

    fn entry(&self) -> Self {
        self.clone()
    }

    fn audience(list: &Self) -> Audience {
        Audience::Sharing(list.user)
    }

    #[cfg(test)]
    fn sample(world: &super::tests::World) -> Self {
        Self {
            user: world.user,
            device: Some("DEVICE".into()),
        }
    }

    #[cfg(test)]
    async fn view(world: &super::tests::World, store: &crate::Store) -> Result<String> {
        let devices = store.devices(world.user).await?;
        Ok(format!("{devices:?}"))
    }
}

impl Stored for DeviceList {
    const TABLE: &'static str = "device_change";
    const COLUMNS: &'static str = "pos, user_no, device_id";

    fn read(row: &ReadRow) -> Result<Self> {
        Ok(Self {
            user: row.get("user_no")?,
            device: row.get("device_id")?,
        })
    }
}
