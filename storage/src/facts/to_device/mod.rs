//! Messages to devices of ours (client-server API, "Send-to-Device messaging"): a queue for each device.
//!
//! A row is a message for one device, at the position that puts it in its order. What the log tells of it is a
//! pointer that wakes the user; a reader whose device it names reads the rows, or, while the entry is in the tail of
//! the process that wrote it, the message that the entry still has. It says how far it has got in its
//! sync token; what the next token acknowledges is deleted ([`taken`]). What is for other servers waits in [`out`].
//!
//! Each is stored once: what a client sends again is known by its transaction ([`txn`]), what another server sends
//! again by its `message_id`, both under a lock. A device that doesn't exist gets nothing, and its sender isn't told.

pub(crate) mod out;
pub(crate) mod purge;
pub(crate) mod taken;
pub(crate) mod txn;

use std::collections::{BTreeSet, HashMap, HashSet};
use std::fmt;
use std::sync::Arc;

use ruma::{DeviceId, OwnedDeviceId, OwnedServerName, OwnedUserId};

use super::{Audience, Kind, Logged, LoggedKind, Stored};
use crate::engine::db::Tx;
use crate::engine::sql::statement::Statements;
use crate::engine::sql::{Columns as _, ReadRow, rows};
use crate::engine::trouble::Trouble;
use crate::{Pos, Result, Store, UserNo};

/// A message for a device. One for a device that doesn't exist, or that has come before, says nothing.
#[derive(Debug, Clone)]
pub struct ToDevice {
    /// For whom.
    pub user: UserNo,
    /// For which of their devices.
    pub device: OwnedDeviceId,
    /// What it has in common with others.
    pub sending: Arc<Sending>,
    /// A JSON object.
    pub content: Arc<str>,
}

/// What the messages of one request of a client, or of one EDU of another server, have in common.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sending {
    /// Who sends them.
    pub sender: OwnedUserId,
    /// Their event type, at most 255 bytes.
    pub kind: String,
    /// Now, in milliseconds since 1970.
    pub received_ms: i64,
    /// By what another server's EDU is known when it comes again.
    pub once: Option<Once>,
}

/// Names an EDU of another server.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Once {
    /// Whose it is.
    pub origin: OwnedServerName,
    /// Its `message_id`, at most 255 bytes.
    pub message_id: String,
}

/// That there is something for a device.
#[derive(Clone)]
pub struct ForDevice {
    /// Whose.
    pub user: UserNo,
    /// Which.
    pub device: OwnedDeviceId,
    /// The message, where this process has stored it itself and it isn't large.
    carried: Option<Carried>,
}

/// A message as it was given to be stored.
#[derive(Clone)]
struct Carried {
    sending: Arc<Sending>,
    content: Arc<str>,
}

/// A message that waits for its device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WaitingMessage {
    /// Its place.
    pub pos: Pos,
    /// Who has sent it.
    pub sender: OwnedUserId,
    /// Its event type.
    pub kind: String,
    /// A JSON object.
    pub content: Arc<str>,
}

/// What a group's messages are decided on.
#[derive(Debug, Default)]
pub(crate) struct Known {
    /// Those of the devices that exist.
    devices: HashMap<UserNo, HashSet<OwnedDeviceId>>,
    /// EDUs that were taken: before, or by this group, from which [`Sending`].
    taken: HashMap<Once, Option<usize>>,
}

rows! {
    #[derive(PartialEq, Eq, PartialOrd, Ord)]
    struct Asked<'a> {
        user_no: UserNo,
        device_id: &'a OwnedDeviceId,
    }
}

rows! {
    #[derive(PartialEq, Eq, PartialOrd, Ord)]
    struct AskedOnce<'a> {
        origin: &'a OwnedServerName,
        message_id: &'a str,
    }
}

rows! {
    struct Row<'a> {
        user_no: UserNo,
        device_id: &'a OwnedDeviceId,
        pos: i64,
        sender: &'a OwnedUserId,
        kind: &'a str,
        content: &'a str,
        received_ms: i64,
    }
}

rows! {
    #[derive(PartialEq, Eq, PartialOrd, Ord)]
    struct Seen<'a> {
        origin: &'a OwnedServerName,
        message_id: &'a str,
        seen_ms: i64,
    }
}

impl ToDevice {
    /// The most bytes of a message: about as many as an event may have.
    pub const MAX_CONTENT: usize = 65_535;
    /// The most bytes that the log's tail has of one, which is no more than it has of an ordinary event. What devices
    /// send each other to share a room's keys is about half of it.
    const MAX_CARRIED: usize = 2_048;

    /// Tells one EDU from another that has the same id; it lives as long as the group.
    fn source(&self) -> usize {
        Arc::as_ptr(&self.sending).addr()
    }
}

/// What is carried is no part of what the entry says, and nothing for a log.
impl fmt::Debug for ForDevice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut said = f.debug_struct("ForDevice");
        said.field("user", &self.user).field("device", &self.device);
        said.finish_non_exhaustive()
    }
}

impl Logged<ForDevice> {
    /// The message, if it needn't be read.
    pub fn message(&self) -> Option<WaitingMessage> {
        let Carried { sending, content } = self.carried.as_ref()?;
        Some(WaitingMessage {
            pos: self.pos,
            sender: sending.sender.clone(),
            kind: sending.kind.clone(),
            content: content.clone(),
        })
    }
}

impl Kind for ToDevice {
    type Basis = Known;

    /// An EDU that comes twice at once, to two processes, comes to the same users; clients' transactions lock
    /// their sender.
    fn locks(&self) -> Option<UserNo> {
        self.sending.once.as_ref().map(|_| self.user)
    }

    async fn look_up(held: &mut Known, tx: &mut Tx, facts: &[&Self]) -> Result<(), Trouble> {
        let devices: BTreeSet<_> = (facts.iter())
            .map(|message| Asked {
                user_no: message.user,
                device_id: &message.device,
            })
            .collect();
        let query = tx
            .sql(
                "SELECT d.user_no, d.device_id FROM ROWS($1) AS x JOIN device d \
                 ON d.user_no = x.user_no AND d.device_id = x.device_id",
            )
            .rows(&devices.into_iter().collect::<Vec<_>>());
        for row in tx.rows(query).await? {
            let of_user = held.devices.entry(row.get("user_no")?).or_default();
            of_user.insert(row.get("device_id")?);
        }
        let once = facts.iter().filter_map(|fact| fact.sending.once.as_ref());
        let once: BTreeSet<_> = once
            .map(|once| AskedOnce {
                origin: &once.origin,
                message_id: &once.message_id,
            })
            .collect();
        if once.is_empty() {
            return Ok(());
        }
        let query = tx
            .sql(
                "SELECT s.origin, s.message_id FROM ROWS($1) AS x JOIN to_device_seen s \
                 ON s.origin = x.origin AND s.message_id = x.message_id",
            )
            .rows(&once.into_iter().collect::<Vec<_>>());
        for row in tx.rows(query).await? {
            let once = Once {
                origin: row.get("origin")?,
                message_id: row.get("message_id")?,
            };
            held.taken.insert(once, None);
        }
        Ok(())
    }

    fn apply(&self, held: &mut Known) -> bool {
        let devices = held.devices.get(&self.user);
        if !devices.is_some_and(|devices| devices.contains(&self.device)) {
            return false;
        }
        let Some(once) = &self.sending.once else {
            return true;
        };
        // Its other messages are for other devices.
        let own = Some(self.source());
        *held.taken.entry(once.clone()).or_insert(own) == own
    }

    fn write(facts: &[(i64, &Self)], _: &Known, statements: &mut Statements) -> Result<()> {
        let seen: BTreeSet<_> = (facts.iter())
            .filter_map(|(_, message)| {
                let once = message.sending.once.as_ref()?;
                Some(Seen {
                    origin: &once.origin,
                    message_id: &once.message_id,
                    seen_ms: message.sending.received_ms,
                })
            })
            .collect();
        statements.before(
            "INSERT INTO to_device_seen (origin, message_id, seen_ms) \
             SELECT origin, message_id, seen_ms FROM ROWS($1) AS x WHERE true \
             ON CONFLICT (origin, message_id) DO NOTHING",
            &seen.into_iter().collect::<Vec<_>>(),
        )?;
        let rows: Vec<_> = (facts.iter())
            .map(|(pos, message)| Row {
                user_no: message.user,
                device_id: &message.device,
                pos: *pos,
                sender: &message.sending.sender,
                kind: &message.sending.kind,
                content: &message.content,
                received_ms: message.sending.received_ms,
            })
            .collect();
        // The device may go with this very group.
        statements.after(
            "INSERT INTO to_device (user_no, device_id, pos, sender, kind, content, received_ms) \
             SELECT user_no, device_id, pos + $2, sender, kind, content, received_ms \
             FROM ROWS($1) AS x WHERE EXISTS (SELECT 1 FROM device d \
             WHERE d.user_no = x.user_no AND d.device_id = x.device_id)",
            &rows,
        )
    }
}

impl LoggedKind for ToDevice {
    type Entry = ForDevice;

    fn entry(&self) -> ForDevice {
        let carried = || Carried {
            sending: self.sending.clone(),
            content: self.content.clone(),
        };
        ForDevice {
            user: self.user,
            device: self.device.clone(),
            carried: (self.content.len() <= Self::MAX_CARRIED).then(carried),
        }
    }

    fn audience(to: &ForDevice) -> Audience {
        Audience::User(to.user)
    }

    fn weight(to: &ForDevice) -> usize {
        let carried = to.carried.as_ref();
        to.device.as_str().len() + carried.map_or(0, |carried| 200 + carried.content.len())
    }

    #[cfg(test)]
    fn sample(world: &super::tests::World) -> Self {
        Self {
            user: world.user,
            device: world.device.clone(),
            sending: Arc::new(Sending {
                sender: ruma::owned_user_id!("@bob:there"),
                kind: "m.a\u{0}b".to_owned(),
                received_ms: 5,
                once: Some(Once {
                    origin: ruma::owned_server_name!("there"),
                    message_id: "one".to_owned(),
                }),
            }),
            content: "{\"a\":1}".into(),
        }
    }

    #[cfg(test)]
    async fn view(world: &super::tests::World, store: &Store) -> Result<String> {
        let head = store.log().head();
        let waiting = store.to_device(world.user, &world.device, Pos(0), head, 9);
        Ok(format!("{:?}", waiting.await?))
    }
}

impl Store {
    /// The messages that wait for a device with `after < pos ≤ upto`, in their order, at most `limit`.
    pub async fn to_device(
        &self,
        user: UserNo,
        device: &DeviceId,
        after: Pos,
        upto: Pos,
        limit: usize,
    ) -> Result<Vec<WaitingMessage>> {
        let query = self
            .sql(
                "SELECT pos, sender, kind, content FROM to_device WHERE user_no = $1 \
                 AND device_id = $2 AND pos > $3 AND pos <= $4 ORDER BY pos LIMIT $5",
            )
            .bind(user)
            .bind(device)
            .bind(after)
            .bind(upto)
            .bind(limit);
        let message = |row: &ReadRow| {
            Ok(WaitingMessage {
                pos: row.get("pos")?,
                sender: row.get("sender")?,
                kind: row.get("kind")?,
                content: row.get("content")?,
            })
        };
        self.rows(query).await?.iter().map(message).collect()
    }
}

impl Stored for ForDevice {
    const TABLE: &'static str = "to_device";
    const COLUMNS: &'static str = "pos, user_no, device_id";

    fn read(row: &ReadRow) -> Result<Self> {
        Ok(Self {
            user: row.get("user_no")?,
            device: row.get("device_id")?,
            carried: None,
        })
    }
}
