//! What clients' transactions have made.

use ruma::OwnedEventId;

use crate::{Result, Store, TxnKey};

impl Store {
    /// The event that the transaction has made. Only worth asking when it may be a repetition: the
    /// commit itself refuses a second one.
    pub async fn transaction(&self, _key: &TxnKey) -> Result<Option<OwnedEventId>> {
        unimplemented!()
    }
}
