//! Sends a plan's rows: those without positions, the counter, those with.

use super::group::{Statement, Trouble, Uses};
use super::rows::Plan;
use crate::engine::db::{Columns as _, Tx, signed};
use crate::{Error, Pos};

/// Gives the position before the group's first and the order after its last backfilled event.
pub(super) async fn write(tx: &mut Tx, plan: &Plan) -> Result<(Pos, i64), Trouble> {
    for statement in &plan.before {
        run(tx, statement, Pos(0), 0).await?;
    }
    let (base, back) = take_counter(tx, plan).await?;
    for statement in &plan.after {
        run(tx, statement, base, back).await?;
    }
    Ok((base, back))
}

/// From here to COMMIT no other process gets positions, so commit order is position order.
async fn take_counter(tx: &mut Tx, plan: &Plan) -> Result<(Pos, i64), Trouble> {
    let positions = signed(plan.log.len());
    if positions == 0 && plan.backfilled == 0 {
        return Ok((Pos(0), 0));
    }
    let query = tx
        .sql("UPDATE counter SET pos = pos + $1, back = back - $2 WHERE id = 1 RETURNING pos, back")
        .bind(positions)
        .bind(plan.backfilled);
    let row = tx.row(query).await?;
    let row = row.ok_or_else(|| Error::broken("the counter is gone"))?;
    Ok((Pos(row.int(0)? - positions), row.int(1)? + plan.backfilled))
}

async fn run(tx: &mut Tx, statement: &Statement, base: Pos, back: i64) -> Result<(), Trouble> {
    let mut query = tx.sql(statement.sql).bind(statement.rows.clone());
    if statement.uses != Uses::Rows {
        query = query.bind(base.0);
    }
    if statement.uses == Uses::BaseAndBack {
        query = query.bind(back);
    }
    let touched = tx.execute(query).await?;
    if statement.expect.is_some_and(|expect| expect != touched) {
        if let Some(otherwise) = statement.otherwise {
            let query = tx.sql(otherwise).bind(statement.rows.clone());
            tx.execute(query).await?;
            return Ok(());
        }
        return Err(Error::broken("an event has the number of another").into());
    }
    Ok(())
}
