//! What devices have taken of the messages for them.

use ruma::OwnedDeviceId;

use crate::engine::sql::rows;
use crate::engine::sql::statement::Statements;
use crate::facts::Kind;
use crate::{Pos, Result, UserNo};

/// A device has got its messages up to a position: they go.
#[derive(Debug, Clone)]
pub struct ToDeviceTaken {
    /// Whose.
    pub user: UserNo,
    /// Which.
    pub device: OwnedDeviceId,
    /// Up to here, inclusive.
    pub upto: Pos,
}

rows! {
    struct Row<'a> {
        user_no: UserNo,
        device_id: &'a OwnedDeviceId,
        upto: Pos,
    }
}

impl Kind for ToDeviceTaken {
    type Basis = ();

    fn write(facts: &[(i64, &Self)], (): &(), statements: &mut Statements) -> Result<()> {
        let rows: Vec<_> = (facts.iter())
            .map(|(_, taken)| Row {
                user_no: taken.user,
                device_id: &taken.device,
                upto: taken.upto,
            })
            .collect();
        statements.before(
            "DELETE FROM to_device WHERE pos IN (SELECT t.pos FROM ROWS($1) AS x \
             JOIN to_device t ON t.user_no = x.user_no AND t.device_id = x.device_id \
             AND t.pos <= x.upto)",
            &rows,
        )
    }
}
