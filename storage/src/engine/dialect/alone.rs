//! Connections of their own: one that only reads, all of it as of one moment, and one that tidies up.

use super::Dialect;

impl Dialect {
    /// The URL by which a database is opened that is only read, and must be there.
    pub(crate) fn read_only_url(self, url: &str) -> String {
        self.with_mode(url, "ro")
    }

    /// The URL by which a database is opened that must be there.
    pub(crate) fn existing_url(self, url: &str) -> String {
        self.with_mode(url, "rw")
    }

    /// The URL by which a database is opened that is made if it isn't there.
    pub(crate) fn written_url(self, url: &str) -> String {
        self.with_mode(url, "rwc")
    }

    fn with_mode(self, url: &str, mode: &str) -> String {
        match self {
            Self::Sqlite if !url.contains("mode=") => {
                let joint = if url.contains('?') { '&' } else { '?' };
                format!("{url}{joint}mode={mode}")
            }
            _ => url.to_owned(),
        }
    }

    /// What a connection is told that reads at leisure. Nobody waits for it, and it waits for nobody.
    pub(crate) fn setup_reading(self) -> &'static str {
        match self {
            Self::Sqlite => {
                "PRAGMA busy_timeout = 10000; PRAGMA query_only = ON; PRAGMA mmap_size = 268435456;"
            }
            Self::Postgres => {
                "SET lock_timeout = '10s'; SET idle_in_transaction_session_timeout = 0; \
                 SET statement_timeout = 0; SET client_min_messages = warning; SET jit = off;"
            }
        }
    }

    /// How a transaction begins in which everything is as of one moment.
    pub(crate) fn begin_reading(self) -> &'static str {
        match self {
            Self::Sqlite => "BEGIN",
            Self::Postgres => "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY",
        }
    }

    /// How many tables there are that say which migrations were applied: one, or none in an empty database.
    pub(crate) fn count_migration_tables(self) -> &'static str {
        match self {
            Self::Sqlite => {
                "SELECT COUNT(*) AS count FROM sqlite_schema WHERE name = '_sqlx_migrations'"
            }
            Self::Postgres => {
                "SELECT COUNT(*) AS count FROM pg_tables \
                 WHERE schemaname = current_schema() AND tablename = '_sqlx_migrations'"
            }
        }
    }

    /// What a connection is told that tidies up a database which others may use.
    pub(crate) fn setup_tidying(self) -> &'static str {
        match self {
            // Not for long: who waits for it could wait for nothing else.
            Self::Sqlite => "PRAGMA busy_timeout = 500;",
            Self::Postgres => {
                "SET lock_timeout = '60s'; SET statement_timeout = 0; \
                 SET client_min_messages = warning;"
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_only_read_is_not_made() {
        let sqlite = |url| Dialect::Sqlite.read_only_url(url);
        assert_eq!(sqlite("sqlite:/a/b.db"), "sqlite:/a/b.db?mode=ro");
        assert_eq!(sqlite("sqlite:b.db?x=1"), "sqlite:b.db?x=1&mode=ro");
        assert_eq!(sqlite("sqlite:b.db?mode=rwc"), "sqlite:b.db?mode=rwc");
        let url = "postgres://a@b/c";
        assert_eq!(Dialect::Postgres.read_only_url(url), url);
        assert_eq!(
            Dialect::Sqlite.existing_url("sqlite:b.db"),
            "sqlite:b.db?mode=rw"
        );
    }
}
