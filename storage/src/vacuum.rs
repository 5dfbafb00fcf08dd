//! Giving back what a database doesn't need any more.
//!
//! SQLite's `VACUUM` writes the whole file anew and keeps every writer waiting for as long, so it is done only by who has
//! the file to themselves. A connection that has opened a database with a write-ahead log keeps a shared lock on its
//! file until it is closed, whatever it does; so whether a server has the file open is seen by asking for an exclusive
//! one, which is refused at once and troubles nobody. While it is held, nobody else can open the database.

use std::path::{Path, PathBuf};

use crate::engine::alone::{Alone, May};
use crate::engine::sql::{Columns as _, Query, ReadRow};
use crate::{Dialect, Error, OpenError, Result};

/// How large a database is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DatabaseSize {
    /// How many bytes it takes.
    pub bytes: u64,
    /// How many of these nothing is in (of SQLite, where it is known).
    pub unused: u64,
    /// How many bytes its write-ahead log takes beside it (of SQLite).
    pub log: u64,
    /// Where it is (of SQLite).
    pub file: Option<PathBuf>,
}

/// A database that is tidied up.
#[derive(Debug)]
pub struct Vacuum {
    dialect: Dialect,
    url: String,
    connection: Alone,
}

const TABLES: &str = "SELECT CAST(quote_ident(tablename) AS TEXT) AS name FROM pg_tables \
    WHERE schemaname = current_schema() ORDER BY tablename";
const SIZE_OF_ALL: &str = "SELECT CAST(COALESCE(SUM(pg_total_relation_size(c.oid)), 0) AS BIGINT) AS bytes \
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
    WHERE n.nspname = current_schema() AND c.relkind = 'r'";
const SIZE_OF_ONE: &str =
    "SELECT CAST(COALESCE(pg_total_relation_size(to_regclass($1)), 0) AS BIGINT) AS bytes";

impl Vacuum {
    /// Opens a database to tidy it up. It must be there.
    pub async fn open(url: &str) -> Result<Self, OpenError> {
        let dialect = Dialect::of(url).ok_or(OpenError::Url)?;
        let url = dialect.existing_url(url);
        let mut connection = Alone::connect(&url, May::Write).await?;
        connection.run(dialect.setup_tidying()).await?;
        Ok(Self {
            dialect,
            url,
            connection,
        })
    }

    /// Which database it is.
    pub fn dialect(&self) -> Dialect {
        self.dialect
    }

    /// How large it is.
    pub async fn size(&mut self) -> Result<DatabaseSize> {
        match self.dialect {
            Dialect::Sqlite => self.size_of_file().await,
            Dialect::Postgres => Ok(DatabaseSize {
                bytes: self
                    .number(Query::new(self.dialect, SIZE_OF_ALL), "bytes")
                    .await?,
                unused: 0,
                log: 0,
                file: None,
            }),
        }
    }

    async fn size_of_file(&mut self) -> Result<DatabaseSize> {
        let ask = |text| Query::new(Dialect::Sqlite, text);
        let page = self.number(ask("PRAGMA page_size"), "page_size").await?;
        let pages = self.number(ask("PRAGMA page_count"), "page_count").await?;
        let free = ask("PRAGMA freelist_count");
        let free = self.number(free, "freelist_count").await?;
        let file = ask("SELECT file FROM pragma_database_list WHERE name = 'main'");
        let file: String = self.row(file).await?.get("file")?;
        // Not there where nothing was written since it was taken in.
        let log = std::fs::metadata(format!("{file}-wal")).map_or(0, |known| known.len());
        Ok(DatabaseSize {
            bytes: pages * page,
            unused: free * page,
            log,
            file: Some(file.into()),
        })
    }

    /// Takes what stands in SQLite's write-ahead log into the file, and empties the log; a server may run meanwhile.
    /// `false` if somebody reads what stands there, so that it stays for now.
    pub async fn take_in_log(&mut self) -> Result<bool> {
        if self.dialect != Dialect::Sqlite {
            return Ok(true);
        }
        // Most of it while others write, so that they wait only for the rest.
        let ask = |text| Query::new(Dialect::Sqlite, text);
        self.row(ask("PRAGMA wal_checkpoint(PASSIVE)")).await?;
        let row = self.row(ask("PRAGMA wal_checkpoint(TRUNCATE)")).await?;
        Ok(row.get::<i64>("busy")? == 0)
    }

    /// Has an SQLite database to itself from now on. `false` if a server, or another command, has it open.
    pub async fn claim(&mut self) -> Result<bool, OpenError> {
        // It must be the first that a connection does in the file.
        let fresh = Alone::connect(&self.url, May::Write).await?;
        let used = std::mem::replace(&mut self.connection, fresh);
        used.close().await;
        match &self.connection {
            Alone::Sqlite(sqlite) => Ok(sqlite.claim().await?),
            Alone::Postgres(_) => Ok(false),
        }
    }

    /// Writes an SQLite database anew, without what it doesn't need. Only after [`Vacuum::claim`].
    pub async fn compact(&mut self) -> Result<()> {
        let file = self.size_of_file().await?.file;
        let folder = file.as_deref().and_then(Path::parent);
        // The copy is made beside it: where temporary files go there may be less room, or only memory.
        if let Some(folder) = folder.and_then(Path::to_str) {
            let folder = folder.replace('\'', "''");
            let statement = format!("PRAGMA temp_store_directory = '{folder}'");
            if let Err(error) = self.connection.run(statement).await {
                tracing::debug!(%error, "the copy is made where temporary files go");
            }
        }
        for statement in [
            "PRAGMA temp_store = FILE",
            "VACUUM",
            "PRAGMA wal_checkpoint(TRUNCATE)",
        ] {
            self.connection.run(statement).await?;
        }
        Ok(())
    }

    /// The tables of a PostgreSQL database, as statements name them.
    pub async fn tables(&mut self) -> Result<Vec<String>> {
        let query = Query::new(self.dialect, TABLES);
        let rows = self.connection.rows(query).await?;
        rows.iter().map(|row| row.get("name")).collect()
    }

    /// Makes room in one of [`Vacuum::tables`] and counts anew what is in it, while others go on with it. Gives how many
    /// bytes it took before, and takes now.
    pub async fn tidy_table(&mut self, table: &str) -> Result<(u64, u64)> {
        let size = |dialect| Query::new(dialect, SIZE_OF_ONE).bind(table);
        let before = self.number(size(self.dialect), "bytes").await?;
        // PostgreSQL has quoted the name itself.
        let statement = format!("VACUUM (ANALYZE) {table}");
        self.connection.run(statement).await?;
        let after = self.number(size(self.dialect), "bytes").await?;
        Ok((before, after))
    }

    /// Ends it.
    pub async fn close(self) {
        self.connection.close().await;
    }

    async fn row(&mut self, query: Query) -> Result<ReadRow> {
        let row = self.connection.row(query).await?;
        row.ok_or_else(|| Error::broken("an answer has no row"))
    }

    async fn number(&mut self, query: Query, column: &str) -> Result<u64> {
        self.row(query).await?.get(column)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Store;
    use crate::testing::TestDatabase;

    async fn fill(store: &Store) {
        for number in 0..40_i64 {
            let query = store
                .sql("INSERT INTO url_preview (key, preview, expires) VALUES ($1, $2, 1)")
                .bind(number.to_string())
                .bind("x".repeat(20_000));
            store.execute(query).await.unwrap();
        }
    }

    /// Writes much and deletes it again.
    async fn make_room(store: &Store) {
        fill(store).await;
        let query = store.sql("DELETE FROM url_preview");
        store.execute(query).await.unwrap();
    }

    /// How many rows PostgreSQL believes that a table has: -1 until it has counted them.
    async fn believed(store: &Store) -> i64 {
        let query = store.sql(
            "SELECT CAST(reltuples AS BIGINT) AS rows FROM pg_class \
             WHERE oid = CAST('url_preview' AS regclass)",
        );
        let row = store.row(query).await.unwrap().unwrap();
        row.get("rows").unwrap()
    }

    #[tokio::test]
    async fn a_file_gets_smaller_once_nobody_has_it_open() {
        let database = TestDatabase::sqlite();
        let store = database.open().await;
        make_room(&store).await;
        let mut vacuum = Vacuum::open(database.url()).await.unwrap();
        assert!(vacuum.take_in_log().await.unwrap());
        let before = vacuum.size().await.unwrap();
        assert_eq!(before.log, 0);
        assert!(before.unused > 400_000, "{before:?}");
        assert!(!vacuum.claim().await.unwrap(), "the store has it open");
        // It goes on as if nobody had asked.
        make_room(&store).await;
        vacuum.close().await;
        store.close().await;

        let mut vacuum = Vacuum::open(database.url()).await.unwrap();
        assert!(vacuum.claim().await.unwrap());
        vacuum.compact().await.unwrap();
        let after = vacuum.size().await.unwrap();
        assert_eq!((after.unused, after.log), (0, 0));
        assert!(after.bytes < before.bytes, "{before:?} {after:?}");
        vacuum.close().await;
        database.open().await.close().await;
    }

    #[tokio::test]
    async fn tables_are_tidied_while_a_server_runs() {
        let database = TestDatabase::postgres().await;
        let store = database.open().await;
        fill(&store).await;
        let mut vacuum = Vacuum::open(database.url()).await.unwrap();
        assert!(vacuum.size().await.unwrap().bytes > 0);
        let tables = vacuum.tables().await.unwrap();
        assert!(tables.iter().any(|table| table == "event"));
        for table in &tables {
            let (before, after) = vacuum.tidy_table(table).await.unwrap();
            assert!(before > 0 && after > 0, "{table}");
        }
        assert_eq!(believed(&store).await, 40);
        vacuum.close().await;
        store.close().await;
        database.remove().await;
    }
}
