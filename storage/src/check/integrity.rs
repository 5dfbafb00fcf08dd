//! What the database says of itself.

use super::CheckProgress;
use super::ask::{self, Question};
use super::finding::{Fault, Findings, RESTORE};
use super::moment::Moment;
use crate::engine::sql::Columns as _;
use crate::{Dialect, Error, Result};

const DAMAGED: Fault = Fault {
    what: "the database file is damaged",
    means: "What stands in the damaged parts can't be read, or is read wrongly.",
    next: "Stop the server and keep a copy of the file as it is. Look whether the disk and the memory are sound. Then restore a \
           backup that passes this check, and run `rhizome database restored` (docs/durability.md). Without one, \
           `sqlite3 rhizome.db .recover` saves what can be read.",
};

/// How SQLite looks at itself: the statement, and what its column is called.
const QUICK: (&str, &str) = ("PRAGMA quick_check(10)", "quick_check");
const WHOLE: (&str, &str) = ("PRAGMA integrity_check(10)", "integrity_check");

static FOREIGN_KEYS: Question = Question {
    fault: Fault {
        what: "rows refer to what isn't there, which a foreign key forbids",
        means: "The rows can't be understood.",
        next: RESTORE,
    },
    sql: "SELECT \"table\" AS example, COUNT(*) OVER () AS total FROM pragma_foreign_key_check LIMIT $1",
};

static INVALID_INDEXES: Question = Question {
    fault: Fault {
        what: "indexes are invalid",
        means: "PostgreSQL doesn't use them, so what they are for is slow; what one should keep unique isn't kept so.",
        next: "Run `REINDEX INDEX name` for each in psql while the server is stopped.",
    },
    sql: "SELECT CAST(c.relname AS TEXT) AS example, COUNT(*) OVER () AS total FROM pg_index i \
          JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_namespace n ON n.oid = c.relnamespace \
          WHERE n.nspname = current_schema() AND NOT i.indisvalid ORDER BY c.relname LIMIT $1",
};

const AGE: &str = "SELECT CAST(age(datfrozenxid) AS BIGINT) AS age FROM pg_database \
    WHERE datname = current_database()";

/// At this age PostgreSQL takes no writes any more.
const WRAPS_AROUND: i64 = 2_000_000_000;

pub(super) async fn check(
    moment: &mut Moment,
    thorough: bool,
    progress: &CheckProgress,
) -> Result<Findings> {
    match moment.dialect() {
        Dialect::Sqlite => {
            progress.begin(2);
            let (statement, column) = if thorough { WHOLE } else { QUICK };
            let said = match moment.rows(moment.sql(statement)).await {
                Ok(rows) => rows
                    .iter()
                    .map(|row| row.get(column))
                    .collect::<Result<Vec<String>>>()?,
                // Where not even that can be read.
                Err(Error::Failed(why)) => vec![why],
                Err(busy) => return Err(busy),
            };
            let found = of_sqlite(said);
            progress.add(1);
            Ok(found.and(ask::one(moment, &FOREIGN_KEYS).await?))
        }
        Dialect::Postgres => {
            let mut found = ask::one(moment, &INVALID_INDEXES).await?;
            let age = moment.one(moment.sql(AGE), "age").await?;
            found.notes.push(of_age(age));
            Ok(found)
        }
    }
}

/// SQLite says `ok`, or what is wrong.
fn of_sqlite(said: Vec<String>) -> Findings {
    let mut damaged = DAMAGED.tally();
    for line in said.into_iter().filter(|line| line != "ok") {
        damaged.add(|| line);
    }
    Findings::of([damaged])
}

fn of_age(age: i64) -> String {
    let percent = age.saturating_mul(100) / WRAPS_AROUND;
    let told = format!(
        "its oldest transaction id is {age} transactions old, {percent}% of what is possible"
    );
    if percent < 50 {
        told
    } else {
        format!("{told}: see to it that autovacuum works, or run `rhizome database vacuum`")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_sqlite_says_is_understood() {
        assert_eq!(of_sqlite(vec!["ok".into()]), Findings::default());
        let found = of_sqlite(vec!["Tree 5 page 7: bad".into(), "row 1 missing".into()]);
        assert_eq!(found.wrong.len(), 1);
        assert_eq!(found.wrong[0].count, 2);
        assert_eq!(found.wrong[0].examples[0], "Tree 5 page 7: bad");
    }

    #[test]
    fn an_old_transaction_is_told_of() {
        assert!(of_age(200_000_000).ends_with("10% of what is possible"));
        assert!(of_age(1_500_000_000).contains("autovacuum"));
    }
}
