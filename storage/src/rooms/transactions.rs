//! What clients' transactions have made.

use ruma::{OwnedDeviceId, OwnedEventId};

use crate::engine::sql::Columns as _;
use crate::{Result, Store, TxnOwner, UserNo};

/// A client's transaction. Unique; the same key again means the same event.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TxnKey {
    /// The user.
    pub user: UserNo,
    /// The device (or whatever stands for it: a token's identity).
    pub device: OwnedDeviceId,
    /// Endpoint and path, e.g. `send/!room:here/m.room.message`.
    pub path: String,
    /// The client's transaction id.
    pub txn_id: String,
}

/// In place of a device, what has sent a delayed event. No device has such a name.
const DELAYED: &str = "\u{1}delayed";
/// The same of what a task has sent.
const TASK: &str = "\u{1}task";

impl TxnKey {
    /// The transaction in which a delayed event is sent: there is one for each.
    pub fn of_delayed(user: UserNo, delay_id: &str) -> Self {
        Self {
            user,
            device: DELAYED.into(),
            path: "delayed".to_owned(),
            txn_id: delay_id.to_owned(),
        }
    }

    /// The transaction in which a task sends what it sends once.
    pub fn of_task(user: UserNo, task: i64) -> Self {
        Self {
            user,
            device: TASK.into(),
            path: "task".to_owned(),
            txn_id: task.to_string(),
        }
    }
}

impl TxnOwner {
    /// The id of the delayed event that was sent so, if it was one. It is a secret no longer: nothing can be done with it.
    pub fn delay_id(&self) -> Option<&str> {
        (self.device == DELAYED).then_some(&self.txn_id)
    }
}

impl Store {
    /// The event that the transaction has made. Only worth asking when it may be a repetition: the
    /// commit itself refuses a second one.
    pub async fn transaction(&self, key: &TxnKey) -> Result<Option<OwnedEventId>> {
        let query = self
            .sql(
                "SELECT e.event_id FROM client_transaction t JOIN event e ON e.no = t.event \
                 WHERE t.user_no = $1 AND t.device = $2 AND t.path = $3 AND t.txn_id = $4",
            )
            .bind(key.user)
            .bind(&key.device)
            .bind(&key.path)
            .bind(&key.txn_id);
        self.row(query)
            .await?
            .map(|row| row.get("event_id"))
            .transpose()
    }
}
