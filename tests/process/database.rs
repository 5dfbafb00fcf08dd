//! A database for processes, with a folder for their files; gone when it ends.

use std::path::Path;

use rhizome_storage::testing::TestDatabase;

pub(crate) struct Database {
    database: TestDatabase,
    folder: tempfile::TempDir,
}

impl Database {
    pub(crate) fn sqlite() -> Self {
        Self::of(TestDatabase::sqlite())
    }

    pub(crate) async fn postgres() -> Self {
        Self::of(TestDatabase::postgres().await)
    }

    fn of(database: TestDatabase) -> Self {
        Self {
            database,
            folder: tempfile::tempdir().expect("a temporary folder can be made"),
        }
    }

    pub(crate) fn url(&self) -> &str {
        self.database.url()
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }
}
