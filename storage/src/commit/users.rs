//! The users whose own rows a group changes: locked, and what those changes were decided on.

use std::collections::BTreeSet;

use super::decide::{DataKey, Known, expected};
use super::group::Trouble;
use super::{Job, accounts, receipts};
use crate::engine::db::{Columns as _, Tx, json_numbers, json_rows};
use crate::engine::dialect::escaped;
use crate::{Pos, UserNo};

/// Locks the rows of all users whose account, account data or receipts may change, by ascending number: of
/// two processes only one changes them at a time, also when there is nothing yet.
pub(super) async fn lock(tx: &mut Tx, jobs: &[Job]) -> Result<(), Trouble> {
    let facts = jobs.iter().flat_map(|job| &job.set.facts);
    let data = facts.filter_map(|fact| Some(expected(fact)?.0.0));
    let users: BTreeSet<i64> = (data.chain(accounts::users(jobs)))
        .chain(receipts::users(jobs))
        .map(|user| user.0)
        .collect();
    if users.is_empty() {
        return Ok(());
    }
    let lock = tx
        .sql(
            "SELECT no FROM user_name \
             WHERE no IN (SELECT CAST(value ->> 0 AS BIGINT) FROM EACH($1)) ORDER BY no FOR_UPDATE",
        )
        .bind(json_numbers(users));
    tx.rows(lock).await?;
    Ok(())
}

/// Where account data stands that must be what it was decided on.
pub(super) async fn look_up_data(
    tx: &mut Tx,
    jobs: &[Job],
    known: &mut Known,
) -> Result<(), Trouble> {
    let facts = jobs.iter().flat_map(|job| &job.set.facts);
    let wanted: BTreeSet<DataKey> = facts.filter_map(|fact| Some(expected(fact)?.0)).collect();
    if wanted.is_empty() {
        return Ok(());
    }
    let rows: Vec<_> = wanted
        .iter()
        .map(|(user, room, kind)| (*user, *room, escaped(kind)))
        .collect();
    let query = tx
        .sql(
            "SELECT d.user_no, d.room, d.kind, d.pos FROM EACH($1) JOIN account_data d \
             ON d.user_no = CAST(value ->> 0 AS BIGINT) AND d.room = CAST(value ->> 1 AS BIGINT) \
             AND d.kind = value ->> 2",
        )
        .bind(json_rows(&rows)?);
    for row in tx.rows(query).await? {
        let key = (UserNo(row.int(0)?), row.int(1)?, row.text(2)?);
        known.data.insert(key, Some(Pos(row.int(3)?)));
    }
    Ok(())
}
