//! Sends a plan's rows: those without positions, the counter, those with. SQLite, where nobody waits for the counter,
//! takes all but that in one go; PostgreSQL takes all of it as one statement, if it is what a message writes.

use crate::commit::rows::Plan;
use crate::engine::db::Tx;
use crate::engine::sql::Columns as _;
use crate::engine::sql::merged;
use crate::engine::sql::statement::Statement;
use crate::engine::trouble::Trouble;
use crate::{Error, Pos};

/// Gives the position before the group's first and the order after its last backfilled event.
pub(super) async fn write(tx: &mut Tx, plan: &Plan) -> Result<(Pos, i64), Trouble> {
    if tx.takes_many() {
        let (base, back) = take_counter(tx, plan).await?;
        at_once(tx, plan, base, back).await?;
        return Ok((base, back));
    }
    if plan.positions() > 0 && merged::can_be(plan.statements.all()) {
        return as_one(tx, plan).await;
    }
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
    let rows = Ok(statement.rows.clone());
    let mut query = tx.sql(statement.sql).list(rows, statement.names);
    if statement.sql.contains("$2") {
        query = query.bind(base);
    }
    if statement.sql.contains("$3") {
        query = query.bind(back);
    }
    let touched = tx.execute(query).await?;
    touches(tx, statement, touched).await
}

/// All statements and the counter as one statement.
async fn as_one(tx: &mut Tx, plan: &Plan) -> Result<(Pos, i64), Trouble> {
    let all: Vec<&Statement> = plan.statements.all().collect();
    let query = merged::merged(plan.positions(), plan.backfilled, &all);
    let row = tx.row(query).await?;
    let row = row.ok_or_else(|| Error::broken("the counter is gone"))?;
    let wrote = merged::read(&row, all.len())?;
    for (statement, touched) in all.into_iter().zip(wrote.touched) {
        touches(tx, statement, touched).await?;
    }
    Ok((Pos(wrote.base), wrote.back))
}

/// All statements at once.
async fn at_once(tx: &mut Tx, plan: &Plan, base: Pos, back: i64) -> Result<(), Trouble> {
    let all: Vec<&Statement> = plan.statements.all().collect();
    if all.is_empty() {
        return Ok(());
    }
    let many = (all.iter()).map(|statement| statement.bound([base.0, back]));
    let touched = tx.execute_many(many.collect::<sqlx::Result<_>>()?).await?;
    if touched.len() != all.len() {
        return Err(Error::broken("not every statement was run").into());
    }
    for (statement, touched) in all.into_iter().zip(touched) {
        touches(tx, statement, touched).await?;
    }
    Ok(())
}

/// Whether a statement touched as many rows as it must, and what is to be done if it didn't.
async fn touches(tx: &mut Tx, statement: &Statement, touched: u64) -> Result<(), Trouble> {
    if statement
        .expect
        .is_none_or(|expect| expect as u64 == touched)
    {
        return Ok(());
    }
    let Some(otherwise) = statement.otherwise else {
        return Err(Error::broken("an event has the number of another").into());
    };
    let rows = Ok(statement.rows.clone());
    let query = tx.sql(otherwise).list(rows, statement.names);
    tx.execute(query).await?;
    Ok(())
}
