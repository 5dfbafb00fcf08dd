//! Clients' transactions that send to devices: each is done once.

use std::collections::{BTreeSet, HashSet};

use ruma::OwnedDeviceId;

use crate::engine::db::Tx;
use crate::engine::sql::statement::Statements;
use crate::engine::sql::{Columns as _, rows};
use crate::engine::trouble::Trouble;
use crate::facts::Kind;
use crate::facts::decision::Decision;
use crate::{Result, Store, TxnKey, UserNo};

/// A client's transaction is done with this write set; of one that is done already, nothing is written again.
#[derive(Debug, Clone)]
pub struct ToDeviceTxn {
    /// Which.
    pub key: TxnKey,
    /// Now, in milliseconds since 1970.
    pub done_ms: i64,
}

rows! {
    #[derive(PartialEq, Eq, PartialOrd, Ord)]
    struct Row<'a> {
        user_no: UserNo,
        device: &'a OwnedDeviceId,
        path: &'a str,
        txn_id: &'a str,
        done_ms: i64,
    }
}

impl ToDeviceTxn {
    fn row(&self) -> Row<'_> {
        Row {
            user_no: self.key.user,
            device: &self.key.device,
            path: &self.key.path,
            txn_id: &self.key.txn_id,
            done_ms: self.done_ms,
        }
    }
}

impl Kind for ToDeviceTxn {
    /// The group's transactions that were done before it, or earlier in it.
    type Basis = HashSet<TxnKey>;

    fn locks(&self) -> Option<UserNo> {
        Some(self.key.user)
    }

    async fn look_up(held: &mut Self::Basis, tx: &mut Tx, facts: &[&Self]) -> Result<(), Trouble> {
        let rows: BTreeSet<_> = facts.iter().map(|txn| txn.row()).collect();
        let query = tx
            .sql(
                "SELECT t.user_no, t.device, t.path, t.txn_id FROM ROWS($1) AS x \
                 JOIN to_device_txn t ON t.user_no = x.user_no AND t.device = x.device \
                 AND t.path = x.path AND t.txn_id = x.txn_id",
            )
            .rows(&rows.into_iter().collect::<Vec<_>>());
        for row in tx.rows(query).await? {
            held.insert(TxnKey {
                user: row.get("user_no")?,
                device: row.get("device")?,
                path: row.get("path")?,
                txn_id: row.get("txn_id")?,
            });
        }
        Ok(())
    }

    fn check(&self, held: &Self::Basis, _retried: bool) -> Option<Decision> {
        held.contains(&self.key).then_some(Decision::Done(None))
    }

    fn apply(&self, held: &mut Self::Basis) -> bool {
        held.insert(self.key.clone());
        true
    }

    fn write(facts: &[(i64, &Self)], _: &Self::Basis, statements: &mut Statements) -> Result<()> {
        let rows: Vec<_> = facts.iter().map(|(_, txn)| txn.row()).collect();
        statements.before(
            "INSERT INTO to_device_txn (user_no, device, path, txn_id, done_ms) \
             SELECT user_no, device, path, txn_id, done_ms FROM ROWS($1) AS x",
            &rows,
        )
    }
}

impl Store {
    /// Whether a client's transaction was done before. The commit decides; this spares who repeats it the charges.
    pub async fn is_to_device_done(&self, key: &TxnKey) -> Result<bool> {
        let query = self
            .sql(
                "SELECT done_ms FROM to_device_txn \
                 WHERE user_no = $1 AND device = $2 AND path = $3 AND txn_id = $4",
            )
            .bind(key.user)
            .bind(&key.device)
            .bind(&key.path)
            .bind(&key.txn_id);
        Ok(!self.rows(query).await?.is_empty())
    }
}
