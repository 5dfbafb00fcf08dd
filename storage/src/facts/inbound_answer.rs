//! Answers that other servers' transactions got, to be given again when they ask again.

use ruma::OwnedServerName;

use super::Kind;
use crate::Result;
use crate::engine::sql::rows;
use crate::engine::sql::statement::Statements;

/// The answer that another server's transaction got; the first one stays.
#[derive(Debug, Clone)]
pub struct InboundAnswer {
    /// Whose transaction.
    pub origin: OwnedServerName,
    /// Its id, at most 255 bytes.
    pub txn_id: String,
    /// The answer.
    pub response: String,
    /// Now, in milliseconds since 1970.
    pub received_ts: i64,
}

rows! {
    struct Row<'a> {
        origin: &'a OwnedServerName,
        txn_id: &'a str,
        response: &'a str,
        received_ts: i64,
    }
}

impl Kind for InboundAnswer {
    type Basis = ();

    fn write(facts: &[(i64, &Self)], (): &(), statements: &mut Statements) -> Result<()> {
        let rows: Vec<_> = (facts.iter())
            .map(|(_, answer)| Row {
                origin: &answer.origin,
                txn_id: &answer.txn_id,
                response: &answer.response,
                received_ts: answer.received_ts,
            })
            .collect();
        statements.before(
            "INSERT INTO inbound_txn (origin, txn_id, response, received_ts) \
             SELECT origin, txn_id, response, received_ts FROM ROWS($1) AS x \
             WHERE true ON CONFLICT (origin, txn_id) DO NOTHING",
            &rows,
        )
    }
}
