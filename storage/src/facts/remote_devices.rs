//! Which lists of devices of other servers' users are remembered, and how far they go. The devices and keys
//! themselves are written beside it ([`DeviceKeys`](crate::DeviceKeys),
//! [`CrossSigningKeys`](crate::CrossSigningKeys)).

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::Kind;
use super::decision::Decision;
use crate::engine::db::Tx;
use crate::engine::sql::statement::Statements;
use crate::engine::sql::{Columns as _, rows};
use crate::engine::trouble::Trouble;
use crate::{CommitError, Pos, Result, UserNo};

/// What is remembered of the list of devices of a user of another server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RemoteList {
    /// The last of its server's updates that is in it; `None`: it came with an answer that doesn't say.
    pub stream_id: Option<i64>,
    /// The log's position when it was asked for. It is right as long as the user has shared a room with somebody
    /// here since: for that long the other server tells us what changes.
    pub learned: Pos,
    /// Whether there is something newer.
    pub stale: bool,
    /// How often it was asked for in vain since.
    pub failures: u32,
    /// If it is stale: when it is asked for, in milliseconds since 1970.
    pub retry_at: i64,
}

/// What a change of a list is decided on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RemoteBasis {
    /// What is remembered.
    pub list: Option<RemoteList>,
    /// When the user's devices or keys changed last, as far as we were told.
    pub changed: Option<Pos>,
}

/// A list of devices of a user of another server is remembered, goes on, or is forgotten. Refused with
/// [`CommitError::AccountMoved`] if something else is so by now than what this was decided on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemoteDevices {
    /// Whose.
    pub user: UserNo,
    /// What it was decided on.
    pub basis: RemoteBasis,
    /// What is remembered from now on.
    pub list: Option<RemoteList>,
}

/// What is so of the users whose lists a group changes.
#[derive(Debug, Default)]
pub(crate) struct Remembered {
    at: HashMap<UserNo, RemoteBasis>,
    touched: BTreeSet<UserNo>,
}

rows! {
    struct Row {
        user_no: UserNo,
        stream_id: Option<i64>,
        learned: Pos,
        stale: bool,
        failures: i64,
        retry_at: i64,
    }
}

rows! {
    struct Gone {
        user_no: UserNo,
    }
}

impl RemoteList {
    pub(crate) fn read(row: &crate::engine::sql::ReadRow) -> Result<Option<Self>> {
        let Some(learned) = row.get("learned")? else {
            return Ok(None);
        };
        let failures: Option<i64> = row.get("failures")?;
        Ok(Some(Self {
            stream_id: row.get("stream_id")?,
            learned,
            stale: row.get::<Option<i64>>("stale")? == Some(1),
            failures: u32::try_from(failures.unwrap_or_default()).unwrap_or(u32::MAX),
            retry_at: row.get::<Option<i64>>("retry_at")?.unwrap_or_default(),
        }))
    }
}

impl Kind for RemoteDevices {
    type Basis = Remembered;

    fn locks(&self) -> Option<UserNo> {
        Some(self.user)
    }

    async fn look_up(held: &mut Remembered, tx: &mut Tx, facts: &[&Self]) -> Result<(), Trouble> {
        let users: BTreeSet<UserNo> = facts.iter().map(|change| change.user).collect();
        let query = tx
            .sql(
                "SELECT u.no AS user_no, r.stream_id, r.learned, r.stale, r.failures, r.retry_at, \
                 l.pos AS changed FROM user_name u \
                 LEFT JOIN remote_devices r ON r.user_no = u.no \
                 LEFT JOIN device_list l ON l.user_no = u.no WHERE u.no IN NUMBERS($1)",
            )
            .numbers(users);
        for row in tx.rows(query).await? {
            let basis = RemoteBasis {
                list: RemoteList::read(&row)?,
                changed: row.get("changed")?,
            };
            held.at.insert(row.get("user_no")?, basis);
        }
        Ok(())
    }

    fn check(&self, held: &Remembered, retried: bool) -> Option<Decision> {
        if held.touched.contains(&self.user) {
            return Some(Decision::Defer);
        }
        let now = held.at.get(&self.user).copied().unwrap_or_default();
        if now == self.basis {
            return None;
        }
        if retried && now.list == self.list {
            return Some(Decision::Done(None));
        }
        Some(Decision::Refuse(CommitError::AccountMoved(self.user)))
    }

    fn apply(&self, held: &mut Remembered) -> bool {
        held.touched.insert(self.user);
        true
    }

    fn write(facts: &[(i64, &Self)], _: &Remembered, statements: &mut Statements) -> Result<()> {
        let last: BTreeMap<UserNo, &Self> = (facts.iter())
            .map(|(_, change)| (change.user, *change))
            .collect();
        let (mut set, mut gone) = (Vec::new(), Vec::new());
        for (user_no, change) in last {
            match (change.list, change.basis.list) {
                (now, before) if now == before => {}
                (Some(list), _) => set.push(Row {
                    user_no,
                    stream_id: list.stream_id,
                    learned: list.learned,
                    stale: list.stale,
                    failures: i64::from(list.failures),
                    retry_at: list.retry_at,
                }),
                (None, _) => gone.push(Gone { user_no }),
            }
        }
        statements.before(
            "DELETE FROM remote_devices WHERE user_no IN (SELECT user_no FROM ROWS($1) AS x)",
            &gone,
        )?;
        statements.before(
            "INSERT INTO remote_devices (user_no, stream_id, learned, stale, failures, retry_at) \
             SELECT user_no, stream_id, learned, stale, failures, retry_at \
             FROM ROWS($1) AS x WHERE true ON CONFLICT (user_no) DO UPDATE SET \
             stream_id = excluded.stream_id, learned = excluded.learned, stale = excluded.stale, \
             failures = excluded.failures, retry_at = excluded.retry_at",
            &set,
        )
    }
}
