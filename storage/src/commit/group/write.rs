//! Sends a plan's rows: those without positions, the counter, those with.

use crate::commit::rows::Plan;
use crate::engine::db::Tx;
use crate::engine::sql::Columns as _;
use crate::engine::sql::statement::Statement;
use crate::engine::trouble::Trouble;
use crate::{Error, Pos};

/// Gives the position before the group's first and the order after its last backfilled event.
pub(super) async fn write(tx: &mut Tx, plan: &Plan) -> Result<(Pos, i64), Trouble> {
    for statement in &plan.statements.before {
        run(tx, statement, Pos(0), 0).await?;
    }
    let (base, back) = take_counter(tx, plan).await?;
    for statement in &plan.statements.after {
        run(tx, statement, base, back).await?;
    }
    Ok((base, back))
}

/// From here to COMMIT no other process gets positions, so commit order is position order.
async fn take_counter(tx: &mut Tx, plan: &Plan) -> Result<(Pos, i64), Trouble> {
    let positions = plan.positions();
    if positions == 0 && plan.backfilled == 0 {
        return Ok((Pos(0), 0));
    }
    let query = tx
        .sql("UPDATE counter SET pos = pos + $1, back = back - $2 WHERE id = 1 RETURNING pos, back")
        .bind(positions)
        .bind(plan.backfilled);
    let row = tx.row(query).await?;
    let row = row.ok_or_else(|| Error::broken("the counter is gone"))?;
    let (pos, back): (i64, i64) = (row.get("pos")?, row.get("back")?);
    Ok((Pos(pos - positions), back + plan.backfilled))
}

async fn run(tx: &mut Tx, statement: &Statement, base: Pos, back: i64) -> Result<(), Trouble> {
    let with_rows = |tx: &Tx, sql| {
        tx.sql(sql)
            .list(Ok(statement.rows.clone()), statement.names)
    };
    let mut query = with_rows(tx, statement.sql);
    if statement.sql.contains("$2") {
        query = query.bind(base);
    }
    if statement.sql.contains("$3") {
        query = query.bind(back);
    }
    let touched = tx.execute(query).await?;
    if statement
        .expect
        .is_none_or(|expect| expect as u64 == touched)
    {
        return Ok(());
    }
    let Some(otherwise) = statement.otherwise else {
        return Err(Error::broken("an event has the number of another").into());
    };
    tx.execute(with_rows(tx, otherwise)).await?;
    Ok(())
}
