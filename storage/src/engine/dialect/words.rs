//! The words in which the databases differ, and what they stand for.

use super::{Dialect, Names, Sort};

impl Dialect {
    /// The text that this database understands. `names` are the columns of the bound rows, by argument.
    pub(crate) fn sql(self, text: &str, names: &[Names]) -> String {
        let mut out = String::with_capacity(text.len() + 256);
        let mut rest = text;
        // The words are rare and upper case, so look only where one may begin.
        while let Some(at) = rest.find(['$', 'F', 'N', 'O', 'R', 'T', 'U']) {
            out.push_str(&rest[..at]);
            rest = &rest[at..];
            if let Some((word, after)) = Word::split(rest) {
                self.write(&mut out, &word, names);
                rest = after;
            } else if let Some((number, after)) = argument(rest) {
                let first = self.first_of(number, names).to_string();
                out.extend(["$", &first]);
                rest = after;
            } else {
                out.push_str(&rest[..1]);
                rest = &rest[1..];
            }
        }
        out.push_str(rest);
        out
    }

    fn write(self, out: &mut String, word: &Word<'_>, names: &[Names]) {
        match (word, self) {
            (Word::ForUpdate, Self::Sqlite) => {}
            (Word::ForUpdate, Self::Postgres) => out.push_str("FOR UPDATE"),
            (Word::NowMs, Self::Sqlite) => {
                out.push_str("CAST(unixepoch('subsec') * 1000 AS INTEGER)");
            }
            (Word::NowMs, Self::Postgres) => {
                out.push_str("CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000 AS BIGINT)");
            }
            (Word::Unhex(what), Self::Sqlite) => out.extend(["unhex(", what, ")"]),
            (Word::Unhex(what), Self::Postgres) => {
                out.extend(["decode(", &self.sql(what, names), ", 'hex')"]);
            }
            (Word::Newest(what), _) => self.write_some(out, &self.sql(what, names), " DESC"),
            (Word::Oldest(what), _) => self.write_some(out, &self.sql(what, names), ""),
            (Word::Numbers(list) | Word::Texts(list), Self::Sqlite) => {
                out.extend(["(SELECT value FROM json_each(", list, "))"]);
            }
            (Word::Numbers(list), Self::Postgres) => self.write_any(out, list, Sort::Number, names),
            (Word::Texts(list), Self::Postgres) => self.write_any(out, list, Sort::Text, names),
            (Word::Rows(list), Self::Sqlite) => write_json_rows(out, list, names_of(list, names)),
            (Word::Rows(list), Self::Postgres) => self.write_unnested(out, list, names),
        }
    }

    /// Some events of each room, up or down from one end. `what`: after which, up to which, how many. (In each database the
    /// form that goes to an index once a room. PostgreSQL would run the list of SQLite's form for each event of the room.)
    fn write_some(self, out: &mut String, what: &str, direction: &str) {
        let mut parts = what.split(',').map(str::trim);
        let mut part = || parts.next().unwrap_or("NULL");
        let (after, upto, limit) = (part(), part(), part());
        let (before_list, after_list) = match self {
            Self::Sqlite => (
                "JOIN event e ON e.room = x.room AND e.ord IN (SELECT n.ord",
                ")",
            ),
            Self::Postgres => ("CROSS JOIN LATERAL (SELECT n.*", ") AS e"),
        };
        out.extend([
            before_list,
            " FROM event n WHERE n.room = x.room AND n.ord IS NOT NULL AND n.ord > ",
            after,
            " AND n.ord <= ",
            upto,
            " ORDER BY n.ord",
            direction,
            " LIMIT ",
            limit,
            after_list,
        ]);
    }

    /// `IN` a list, which PostgreSQL looks for in an index when it is an array, key by key. What isn't in one it
    /// would compare with all of it, row for row, where a table is hashed once.
    fn write_any(self, out: &mut String, list: &str, sort: Sort, names: &[Names]) {
        let array = self.array(list, 0, sort, names);
        if out.ends_with(IN) && !out.ends_with(" NOT IN ") {
            out.truncate(out.len() - IN.len());
            out.extend([" = ANY (", &array, "::", type_of(sort), ")"]);
        } else {
            out.extend(["(SELECT * FROM unnest(", &array, "))"]);
        }
    }

    fn write_unnested(self, out: &mut String, list: &str, names: &[Names]) {
        let columns = names_of(list, names);
        let arrays = columns.iter().enumerate();
        let arrays: Vec<_> = arrays
            .map(|(at, (_, sort))| self.array(list, at, *sort, names))
            .collect();
        let columns: Vec<_> = columns.iter().map(|(name, _)| *name).collect();
        out.extend(["(SELECT * FROM unnest(", &arrays.join(", ")]);
        out.extend([") AS each(", &columns.join(", "), "))"]);
    }

    /// The array for a column of what is bound as `list`. Asked for like something that isn't known when it is planned:
    /// otherwise PostgreSQL finds a plan for just this many cheaper than one for any number, and makes one each time.
    fn array(self, list: &str, column: usize, sort: Sort, names: &[Names]) -> String {
        let number = argument(list).map_or(1, |(number, _)| number);
        let at = self.first_of(number, names) + column;
        format!("(SELECT ${at}::{})", type_of(sort))
    }

    /// What the argument with this number is, or the first of what it is, to the database.
    fn first_of(self, number: usize, names: &[Names]) -> usize {
        match self {
            Self::Sqlite => number,
            Self::Postgres => {
                let before = names.iter().take(number.saturating_sub(1));
                let more = before.map(|columns| columns.len().saturating_sub(1));
                number + more.sum::<usize>()
            }
        }
    }
}

fn type_of(sort: Sort) -> &'static str {
    match sort {
        Sort::Number => "bigint[]",
        Sort::Text => "text[]",
    }
}

/// Rows as SQLite reads them from JSON.
fn write_json_rows(out: &mut String, list: &str, names: Names) {
    out.push_str("(SELECT ");
    for (index, (name, sort)) in names.iter().enumerate() {
        let comma = if index == 0 { "" } else { ", " };
        let index = index.to_string();
        match sort {
            Sort::Number => {
                out.extend([comma, "CAST(value ->> ", &index, " AS BIGINT) AS ", name]);
            }
            Sort::Text => out.extend([comma, "value ->> ", &index, " AS ", name]),
        }
    }
    out.extend([" FROM json_each(", list, "))"]);
}

const IN: &str = " IN ";

/// A word, with what stands in its brackets.
enum Word<'a> {
    Rows(&'a str),
    Numbers(&'a str),
    Texts(&'a str),
    Unhex(&'a str),
    Newest(&'a str),
    Oldest(&'a str),
    ForUpdate,
    NowMs,
}

impl<'a> Word<'a> {
    /// The word that `text` begins with, and what comes after it.
    fn split(text: &'a str) -> Option<(Self, &'a str)> {
        if let Some(after) = text.strip_prefix("FOR_UPDATE") {
            return Some((Self::ForUpdate, after));
        }
        if let Some(after) = text.strip_prefix("NOW_MS") {
            return Some((Self::NowMs, after));
        }
        let (name, rest) = text.split_once('(')?;
        let word = match name {
            "ROWS" => Self::Rows,
            "NUMBERS" => Self::Numbers,
            "TEXTS" => Self::Texts,
            "UNHEX" => Self::Unhex,
            "NEWEST" => Self::Newest,
            "OLDEST" => Self::Oldest,
            _ => return None,
        };
        let (inside, after) = rest.split_once(')')?;
        Some((word(inside), after))
    }
}

/// The columns of the rows that are bound as `argument`, `$1` or its like.
fn names_of(argument: &str, names: &[Names]) -> Names {
    let number = self::argument(argument).map(|(number, _)| number);
    let found = number.and_then(|number| names.get(number.checked_sub(1)?));
    found.copied().unwrap_or_default()
}

/// The number of the argument that `text` begins with (`$1`), and what comes after it.
pub(crate) fn argument(text: &str) -> Option<(usize, &str)> {
    let rest = text.strip_prefix('$')?;
    let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
    let (number, after) = rest.split_at(digits);
    Some((number.parse().ok()?, after))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_replaced() {
        let text = "INSERT INTO t SELECT x.no, UNHEX(x.body), UNHEX($4) FROM ROWS($2) AS x \
                    WHERE x.no IN NUMBERS($1) AND UPPER(t) NOT IN TEXTS($3) AND b < $4 FOR_UPDATE";
        let names: &[Names] = &[&[], &[("no", Sort::Number), ("body", Sort::Text)], &[], &[]];
        assert_eq!(
            Dialect::Sqlite.sql(text, names),
            "INSERT INTO t SELECT x.no, unhex(x.body), unhex($4) FROM \
             (SELECT CAST(value ->> 0 AS BIGINT) AS no, value ->> 1 AS body FROM json_each($2)) AS x \
             WHERE x.no IN (SELECT value FROM json_each($1)) \
             AND UPPER(t) NOT IN (SELECT value FROM json_each($3)) AND b < $4 "
        );
        assert_eq!(
            Dialect::Postgres.sql(text, names),
            "INSERT INTO t SELECT x.no, decode(x.body, 'hex'), decode($5, 'hex') FROM \
             (SELECT * FROM unnest((SELECT $2::bigint[]), (SELECT $3::text[])) AS each(no, body)) AS x \
             WHERE x.no = ANY ((SELECT $1::bigint[])::bigint[]) \
             AND UPPER(t) NOT IN (SELECT * FROM unnest((SELECT $4::text[]))) AND b < $5 FOR UPDATE"
        );
    }

    #[test]
    fn some_events_of_each_room_are_looked_for_in_an_index() {
        let text = "SELECT e.no FROM ROWS($1) AS x NEWEST(x.since, $2, $3) ORDER BY e.ord";
        let names: &[Names] = &[&[("room", Sort::Number), ("since", Sort::Number)], &[], &[]];
        assert_eq!(
            Dialect::Postgres.sql(text, names),
            "SELECT e.no FROM (SELECT * FROM unnest((SELECT $1::bigint[]), (SELECT $2::bigint[])) AS each(room, since)) AS x \
             CROSS JOIN LATERAL (SELECT n.* FROM event n WHERE n.room = x.room AND n.ord IS NOT NULL \
             AND n.ord > x.since AND n.ord <= $3 ORDER BY n.ord DESC LIMIT $4) AS e ORDER BY e.ord"
        );
        let sqlite = Dialect::Sqlite.sql("FROM t AS x OLDEST(0, $2, $3)", names);
        assert_eq!(
            sqlite,
            "FROM t AS x JOIN event e ON e.room = x.room AND e.ord IN (SELECT n.ord FROM event n \
             WHERE n.room = x.room AND n.ord IS NOT NULL AND n.ord > 0 AND n.ord <= $2 \
             ORDER BY n.ord LIMIT $3)"
        );
    }
}
