//! Which tables there are in both databases, and what is taken over of them.

use std::collections::{BTreeMap, BTreeSet};

use super::TransferError;
use crate::Dialect;
use crate::engine::alone::Alone;
use crate::engine::sql::{Columns as _, Query};

/// What isn't taken over: each database has its own. Of the index of words SQLite couldn't even say what it was made of.
const OWN: [&str; 2] = ["_sqlx_migrations", "search"];
/// What SQLite keeps its index of words in.
const OF_SEARCH: [&str; 5] = [
    "search_config",
    "search_content",
    "search_data",
    "search_docsize",
    "search_idx",
];
/// What says how far the index of words goes: not yet anywhere, so that the server fills the new one.
const ABOUT_SEARCH: [&str; 2] = ["search_edit", "search_upto"];

/// A table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Table {
    pub(super) name: String,
    pub(super) columns: Vec<String>,
}

impl Table {
    /// Its name as statements have it.
    pub(super) fn quoted(&self) -> String {
        quoted(&self.name)
    }

    /// Its columns as statements have them.
    pub(super) fn columns(&self) -> String {
        let names: Vec<_> = self.columns.iter().map(|name| quoted(name)).collect();
        names.join(", ")
    }

    /// Whether its rows are taken over.
    pub(super) fn is_taken(&self) -> bool {
        !ABOUT_SEARCH.contains(&&*self.name)
    }
}

/// A name as both databases have it in statements.
pub(super) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// The tables of a schema, by name.
pub(super) async fn of(connection: &mut Alone, dialect: Dialect) -> sqlx::Result<Vec<Table>> {
    let text = match dialect {
        Dialect::Sqlite => {
            "SELECT t.name AS name, c.name AS field FROM sqlite_schema t JOIN pragma_table_info(t.name) c \
             WHERE t.type = 'table' AND t.name NOT LIKE 'sqlite%' ORDER BY t.name, c.cid"
        }
        Dialect::Postgres => {
            "SELECT CAST(t.table_name AS TEXT) AS name, CAST(c.column_name AS TEXT) AS field \
             FROM information_schema.tables t JOIN information_schema.columns c \
             ON c.table_schema = t.table_schema AND c.table_name = t.table_name \
             WHERE t.table_schema = current_schema() AND t.table_type = 'BASE TABLE' \
             ORDER BY t.table_name, c.ordinal_position"
        }
    };
    let mut tables: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for row in connection.rows(Query::new(dialect, text)).await? {
        let read = |name| -> sqlx::Result<String> {
            let read = row.get(name);
            read.map_err(|error: crate::Error| sqlx::Error::Decode(error.into()))
        };
        tables
            .entry(read("name")?)
            .or_default()
            .push(read("field")?);
    }
    let tables = tables.into_iter();
    let tables = tables.filter(|(name, _)| {
        let is_sqlites = dialect == Dialect::Sqlite && OF_SEARCH.contains(&&**name);
        !is_sqlites && !OWN.contains(&&**name)
    });
    Ok(tables
        .map(|(name, columns)| Table { name, columns })
        .collect())
}

/// Sees to it that both have the same tables with the same columns, in whatever order.
pub(super) fn compare(from: &[Table], to: &[Table]) -> Result<(), TransferError> {
    let set = |tables: &[Table]| -> BTreeSet<(String, String)> {
        let pairs = tables.iter().flat_map(|table| {
            let name = &table.name;
            table
                .columns
                .iter()
                .map(|column| (name.clone(), column.clone()))
        });
        pairs.collect()
    };
    let (from, to) = (set(from), set(to));
    match from.symmetric_difference(&to).next() {
        None => Ok(()),
        Some((table, column)) => Err(TransferError::Schema(format!("{table}.{column}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(name: &str, columns: &[&str]) -> Table {
        Table {
            name: name.to_owned(),
            columns: columns.iter().map(|&column| column.to_owned()).collect(),
        }
    }

    #[test]
    fn what_only_one_has_is_found() {
        let from = [table("a", &["x", "y"]), table("b", &["z"])];
        assert!(compare(&from, &[table("b", &["z"]), table("a", &["y", "x"])]).is_ok());
        for to in [
            vec![table("a", &["x", "y"])],
            vec![table("a", &["x"]), table("b", &["z"])],
            vec![table("a", &["x", "y"]), table("b", &["z", "w"])],
        ] {
            assert!(compare(&from, &to).is_err(), "{to:?}");
        }
    }

    #[test]
    fn names_are_quoted() {
        let odd = table("event", &["no", "a\"b"]);
        assert_eq!(odd.quoted(), "\"event\"");
        assert_eq!(odd.columns(), "\"no\", \"a\"\"b\"");
    }
}
