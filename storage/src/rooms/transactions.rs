//! What clients' transactions have made.

use ruma::OwnedEventId;

use crate::engine::db::Columns as _;
use crate::engine::dialect::escaped;
use crate::{Result, Store, TxnKey};

impl Store {
    /// The event that the transaction has made. Only worth asking when it may be a repetition: the
    /// commit itself refuses a second one.
    pub async fn transaction(&self, key: &TxnKey) -> Result<Option<OwnedEventId>> {
        let query = self
            .sql(
                "SELECT e.event_id FROM client_transaction t JOIN event e ON e.no = t.event \
                 WHERE t.user_no = $1 AND t.device = $2 AND t.path = $3 AND t.txn_id = $4",
            )
            .bind(key.user.0)
            .bind(escaped(key.device.as_str()).into_owned())
            .bind(escaped(&key.path).into_owned())
            .bind(escaped(&key.txn_id).into_owned());
        self.row(query).await?.map(|row| row.id(0)).transpose()
    }
}
