//! How PostgreSQL goes about what the commit queue asks it.

use sqlx::{AssertSqlSafe, Executor as _, Row as _};

use crate::Store;
use crate::engine::database::Database;
use crate::engine::postgres::Pools;
use crate::engine::sql::Columns as _;

/// Tables that have one row, or few.
const SMALL: [&str; 3] = ["_sqlx_migrations", "counter", "meta"];

const TABLES: &str = "\
    SELECT CAST(c.table_name AS TEXT) AS name, string_agg(quote_ident(c.column_name), ', ') AS columns, \
    string_agg(CASE WHEN c.column_name = 'member' THEN '0' ELSE CASE c.data_type WHEN 'bytea' THEN 'CAST(''x'' AS BYTEA)' WHEN 'text' THEN '''x'' || g' \
    WHEN 'bigint' THEN '1000000000 + g' WHEN 'tsvector' THEN 'CAST(''x'' AS TSVECTOR)' \
    ELSE 'NULL' END END, ', ') AS cells \
    FROM information_schema.columns c JOIN information_schema.tables t \
    ON t.table_schema = c.table_schema AND t.table_name = c.table_name AND t.table_type = 'BASE TABLE' \
    WHERE c.table_schema = current_schema() AND c.is_generated = 'NEVER' \
    GROUP BY c.table_name ORDER BY c.table_name";

/// Fills every table of a PostgreSQL and looks how it goes about all that the commit queue has asked so far: no table
/// and no index may be read from one end to the other. How many rows: `RHIZOME_PLAN_ROWS`.
pub async fn check_commit_plans(store: &Store) {
    let rows = std::env::var("RHIZOME_PLAN_ROWS").ok();
    let rows = rows.and_then(|rows| rows.parse().ok());
    fill(store, rows.unwrap_or(3_000)).await;
    let plans = plans(store).await;
    assert!(!plans.is_empty(), "the queue has asked something");
    check(&plans);
}

fn pools(store: &Store) -> &Pools {
    match &store.core.database {
        Database::Postgres(pools) => pools,
        Database::Sqlite(_) => panic!("only PostgreSQL plans like this"),
    }
}

fn check(plans: &[(String, String)]) {
    let mut whole = Vec::new();
    for (statement, plan) in plans {
        let lines: Vec<&str> = plan.lines().collect();
        for (at, line) in lines.iter().enumerate() {
            let is_table =
                line.contains("Seq Scan on ") && !SMALL.iter().any(|small| line.contains(small));
            let is_index = (line.contains("Index Scan using ")
                || line.contains("Index Only Scan using "))
                && !lines
                    .get(at + 1)
                    .is_some_and(|next| next.contains("Index Cond: "));
            if is_table || is_index {
                whole.push(format!("{}\nof {statement}\n{plan}", line.trim()));
            }
        }
    }
    assert!(whole.is_empty(), "read whole:\n{}", whole.join("\n\n"));
}

/// Puts so many rows of no sense into every table, and lets them be counted.
async fn fill(store: &Store, rows: u32) {
    let tables = store.rows(store.sql(TABLES)).await;
    let connection = pools(store).writers.acquire().await;
    let mut connection = connection.expect("a connection can be had");
    for table in tables.expect("tables are listed") {
        let cell = |name: &str| table.get::<String>(name).expect("it is a text");
        let (name, columns, cells) = (cell("name"), cell("columns"), cell("cells"));
        if SMALL.contains(&name.as_str()) {
            continue;
        }
        let fill = format!(
            "INSERT INTO {name} ({columns}) SELECT {cells} FROM generate_series(1, {rows}) AS s(g) \
             ON CONFLICT DO NOTHING; ANALYZE {name};"
        );
        let filled = connection.execute(sqlx::raw_sql(AssertSqlSafe(fill)));
        filled.await.expect("any table takes any rows");
    }
}

/// The statements that the commit queue has sent so far, with the plan for each.
async fn plans(store: &Store) -> Vec<(String, String)> {
    let connection = pools(store).committers.acquire().await;
    let mut connection = connection.expect("the queue leaves it");
    let prepared = "SELECT name, statement, CAST(cardinality(parameter_types) AS BIGINT) AS arguments \
        FROM pg_prepared_statements WHERE name LIKE 'sqlx%'";
    let prepared = connection.fetch_all(sqlx::raw_sql(prepared)).await;
    let mut plans = Vec::new();
    for row in prepared.expect("they are listed") {
        let arguments = usize::try_from(row.get::<i64, _>("arguments")).expect("there are few");
        let mut arguments = vec!["NULL"; arguments].join(", ");
        if !arguments.is_empty() {
            arguments = format!("({arguments})");
        }
        let name: String = row.get("name");
        let explain = format!("EXPLAIN EXECUTE {name}{arguments}");
        let lines = connection
            .fetch_all(sqlx::raw_sql(AssertSqlSafe(explain)))
            .await;
        let lines = lines.expect("it can be planned");
        let lines: Vec<String> = lines.iter().map(|line| line.get(0)).collect();
        plans.push((row.get("statement"), lines.join("\n")));
    }
    plans
}
