//! Full-text search: FTS5 in SQLite, `tsvector` in PostgreSQL. What words are is none of their business: they are given
//! words that are ready, and asked for them, so that both find the same.

use super::Dialect;

/// The statements of an index of words.
pub(crate) struct SearchSql {
    /// Deletes documents: a list of their numbers.
    pub(crate) delete: &'static str,
    /// Puts documents in that aren't there: rows of `ord`, `scope`, `words`.
    pub(crate) put: &'static str,
    /// Finds documents: an expression, the number before which they are, how many, in no order those with the highest; with
    /// the event that each is of, `no` and `room`, if there is one that isn't redacted.
    pub(crate) find: &'static str,
    /// Whether it costs more to find what has one of the words of a scope besides than what hasn't.
    pub(crate) scopes_are_dear: bool,
}

const SQLITE: SearchSql = SearchSql {
    delete: "DELETE FROM search WHERE rowid IN NUMBERS($1)",
    put: "INSERT INTO search (rowid, scope, words) SELECT x.ord, x.scope, x.words FROM ROWS($1) AS x",
    find: "SELECT x.ord, e.no, e.room FROM (SELECT rowid AS ord FROM search \
           WHERE search MATCH $1 AND rowid < $2 ORDER BY rowid DESC LIMIT $3) AS x \
           LEFT JOIN event e ON e.ord = x.ord AND e.redacted_by IS NULL",
    scopes_are_dear: true,
};

const POSTGRES: SearchSql = SearchSql {
    delete: "DELETE FROM search WHERE ord IN NUMBERS($1)",
    put: "INSERT INTO search (ord, words) \
          SELECT x.ord, CAST(x.scope || ' ' || x.words AS TSVECTOR) FROM ROWS($1) AS x",
    find: "SELECT x.ord, e.no, e.room FROM (SELECT ord FROM search \
           WHERE words @@ CAST($1 AS TSQUERY) AND ord < $2 ORDER BY ord DESC LIMIT $3) AS x \
           LEFT JOIN event e ON e.ord = x.ord AND e.redacted_by IS NULL",
    scopes_are_dear: false,
};

/// Words that stand side by side.
pub(crate) struct Phrase<'a> {
    pub(crate) words: &'a [String],
    /// Whether the last may go on.
    pub(crate) open: bool,
}

/// What documents are looked for: those with one of the words of each scope, none of those of another, with all of the
/// wanted and none of the unwanted phrases.
pub(crate) struct Sought<'a> {
    pub(crate) scopes: Vec<Vec<String>>,
    pub(crate) outside: Vec<String>,
    pub(crate) wanted: Vec<Phrase<'a>>,
    pub(crate) unwanted: Vec<Phrase<'a>>,
}

impl Dialect {
    pub(crate) fn search(self) -> &'static SearchSql {
        match self {
            Self::Sqlite => &SQLITE,
            Self::Postgres => &POSTGRES,
        }
    }

    /// The scope of a document, for its column.
    pub(crate) fn search_scope(self, words: &[String]) -> String {
        match self {
            Self::Sqlite => words.join(" "),
            // Beside the words of the text, which never begin so.
            Self::Postgres => joined(words, " ", |word| format!("'!{word}'")),
        }
    }

    /// The words of a document, for its column.
    pub(crate) fn search_words(self, words: &[&str]) -> String {
        match self {
            Self::Sqlite => words.join(" "),
            Self::Postgres => {
                let placed: Vec<_> = (1..).zip(words).collect();
                joined(&placed, " ", |(at, word)| format!("'{word}':{at}"))
            }
        }
    }

    /// The expression that finds what is looked for.
    pub(crate) fn search_expression(self, sought: &Sought<'_>) -> String {
        match self {
            Self::Sqlite => fts5(sought),
            Self::Postgres => tsquery(sought),
        }
    }
}

fn joined<T>(all: &[T], between: &str, write: impl Fn(&T) -> String) -> String {
    all.iter().map(write).collect::<Vec<_>>().join(between)
}

fn fts5(sought: &Sought<'_>) -> String {
    let phrase = |phrase: &Phrase<'_>| {
        let star = if phrase.open { " *" } else { "" };
        format!("\"{}\"{star}", phrase.words.join(" "))
    };
    let scopes = joined(&sought.scopes, "", |scope| {
        let words = joined(scope, " OR ", |word| format!("\"{word}\""));
        format!("scope : ({words}) AND ")
    });
    let wanted = joined(&sought.wanted, " AND ", phrase);
    let not = |column: &str, any: &str| format!(" NOT ({column} : ({any}))");
    let mut found = format!("({scopes}words : ({wanted}))");
    if !sought.outside.is_empty() {
        let outside = joined(&sought.outside, " OR ", |word| format!("\"{word}\""));
        found.push_str(&not("scope", &outside));
    }
    if !sought.unwanted.is_empty() {
        let unwanted = joined(&sought.unwanted, " OR ", phrase);
        found.push_str(&not("words", &unwanted));
    }
    found
}

fn tsquery(sought: &Sought<'_>) -> String {
    let phrase = |phrase: &Phrase<'_>| {
        let star = if phrase.open { ":*" } else { "" };
        let words = joined(phrase.words, " <-> ", |word| format!("'{word}'"));
        format!("({words}{star})")
    };
    let scopes = joined(&sought.scopes, "", |scope| {
        let words = joined(scope, " | ", |word| format!("'!{word}'"));
        format!("({words}) & ")
    });
    let wanted = joined(&sought.wanted, " & ", phrase);
    let outside = joined(&sought.outside, "", |word| format!(" & !('!{word}')"));
    let unwanted = joined(&sought.unwanted, "", |one| format!(" & !{}", phrase(one)));
    format!("{scopes}{wanted}{outside}{unwanted}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ask_for_the_same() {
        let words = |text: &str| -> Vec<String> { text.split(' ').map(str::to_owned).collect() };
        let (one, two, three) = (words("a b"), words("c"), words("d"));
        let phrase = |words, open| Phrase { words, open };
        let mut sought = Sought {
            scopes: vec![words("r1 r2"), words("kb")],
            outside: words("kn kt"),
            wanted: vec![phrase(one.as_slice(), true), phrase(&two, false)],
            unwanted: vec![phrase(&three, false)],
        };
        assert_eq!(
            fts5(&sought),
            "(scope : (\"r1\" OR \"r2\") AND scope : (\"kb\") AND words : (\"a b\" * AND \"c\")) \
             NOT (scope : (\"kn\" OR \"kt\")) NOT (words : (\"d\"))"
        );
        assert_eq!(
            tsquery(&sought),
            "('!r1' | '!r2') & ('!kb') & ('a' <-> 'b':*) & ('c') & !('!kn') & !('!kt') & !('d')"
        );
        (sought.scopes, sought.outside, sought.unwanted) = (Vec::new(), Vec::new(), Vec::new());
        assert_eq!(fts5(&sought), "(words : (\"a b\" * AND \"c\"))");
        assert_eq!(tsquery(&sought), "('a' <-> 'b':*) & ('c')");
    }
}
