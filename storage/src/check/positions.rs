//! Positions: none is given twice.
//!
//! Holes say nothing: a fact that moves on leaves its position, and what was only told goes after a while.

use std::fmt::Write as _;
use std::sync::LazyLock;

use super::CheckProgress;
use super::finding::{EXAMPLES, Fault, Findings, RESTORE, Tally};
use super::moment::Moment;
use crate::Result;
use crate::engine::sql::Columns as _;
use crate::facts::TABLES;

/// Positions that are looked at together.
const WINDOW: i64 = 10_000;
/// So many of the newest are looked at, if not all.
const NEWEST: i64 = 100_000;

const BEYOND: Fault = Fault {
    what: "positions are in use that the counter hasn't given out yet",
    means: "They would be given a second time: clients would miss what stands there, and what is written there would be lost.",
    next: "Don't start the server. Restore a whole backup: this database was put together of parts from different times. Then \
           run `rhizome database restored` (docs/durability.md).",
};

const TWICE: Fault = Fault {
    what: "positions were given twice",
    means: "Clients get only one of the two things that stand there.",
    next: RESTORE,
};

/// What has a position, beside the facts: table, column, and whether an index finds the highest.
const PLACES: &[(&str, &str, bool)] = &[
    ("event", "ord", true),
    ("state_change", "pos", true),
    ("restored", "pos", true),
    ("outbound", "pos", true),
    ("device_change", "pos", true),
    ("outbound_last", "last_pos", true),
    ("room", "last_pos", true),
    ("reader", "pos", true),
    ("destination_state", "sent_pos", true),
    ("destination_state", "newest_pos", true),
    ("destination_state", "come_pos", true),
    ("current_state", "pos", false),
    ("membership", "pos", false),
    ("membership", "since", false),
];

/// The highest position of each table: what it is called, whether it is found by an index, the statement.
static HIGHEST: LazyLock<Vec<(String, bool, String)>> = LazyLock::new(|| {
    let facts = TABLES.iter().map(|table| (*table, "pos", true));
    let all = PLACES.iter().copied().chain(facts);
    all.map(|(table, column, quick)| {
        let name = format!("{table}.{column}");
        let sql = format!("SELECT CAST(COALESCE(MAX({column}), 0) AS BIGINT) AS highest FROM {table} WHERE {column} IS NOT NULL");
        (name, quick, sql)
    })
    .collect()
});

/// Positions at which two things of the log stand, of those after `$2` up to `$3`.
static DOUBLES: LazyLock<String> = LazyLock::new(|| {
    let mut sql = String::from(
        "SELECT CAST(pos AS TEXT) AS example FROM (\
         SELECT ord AS pos FROM event WHERE ord IS NOT NULL AND ord > $2 AND ord <= $3 \
         UNION ALL SELECT pos FROM state_change WHERE pos > $2 AND pos <= $3 \
         UNION ALL SELECT pos FROM restored WHERE pos > $2 AND pos <= $3",
    );
    for table in TABLES {
        // Writing to a string can't fail.
        let _ = write!(
            sql,
            " UNION ALL SELECT pos FROM {table} WHERE pos > $2 AND pos <= $3"
        );
    }
    sql.push_str(") AS entries GROUP BY pos HAVING COUNT(*) > 1 ORDER BY pos LIMIT $1");
    sql
});

const COUNTER: &str = "SELECT pos, back FROM counter WHERE id = 1";
const LOWEST: &str =
    "SELECT CAST(COALESCE(MIN(ord), 0) AS BIGINT) AS lowest FROM event WHERE ord IS NOT NULL";

pub(super) async fn check(
    moment: &mut Moment,
    thorough: bool,
    progress: &CheckProgress,
) -> Result<Findings> {
    let mut beyond = BEYOND.tally();
    let Some(row) = moment.row(moment.sql(COUNTER)).await? else {
        beyond.add(|| "the counter is gone".to_owned());
        return Ok(Findings::of([beyond]));
    };
    let (head, back): (i64, i64) = (row.get("pos")?, row.get("back")?);
    for (name, quick, sql) in HIGHEST.iter() {
        if *quick || thorough {
            let highest = moment.one(moment.sql(sql), "highest").await?;
            judge(name, highest, head, &mut beyond);
        }
    }
    let lowest: i64 = moment.one(moment.sql(LOWEST), "lowest").await?;
    if lowest < back {
        beyond.add(|| format!("event.ord goes down to {lowest}, the counter to {back}"));
    }
    let mut twice = TWICE.tally();
    let mut after = if thorough {
        0
    } else {
        head.saturating_sub(NEWEST).max(0)
    };
    let windows = head.saturating_sub(after) / WINDOW + 1;
    progress.begin(windows.unsigned_abs());
    while after < head {
        let upto = after.saturating_add(WINDOW).min(head);
        let query = moment.sql(&DOUBLES).bind(EXAMPLES).bind(after).bind(upto);
        for row in moment.rows(query).await? {
            let at: String = row.get("example")?;
            twice.add(|| at);
        }
        after = upto;
        progress.add(1);
    }
    Ok(Findings::of([beyond, twice]))
}

fn judge(name: &str, highest: i64, head: i64, beyond: &mut Tally) {
    if highest > head {
        beyond.add(|| format!("{name} goes up to {highest}, the counter to {head}"));
    }
}
