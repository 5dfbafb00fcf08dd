//! A database for processes, with a folder for their files; gone when it ends.

use std::path::Path;

use rhizome_storage::testing::TestDatabase;

pub(crate) struct Database {
    url: String,
    /// What it lies in, unless that is the folder.
    _lies_in: Option<TestDatabase>,
    folder: tempfile::TempDir,
}

impl Database {
    pub(crate) fn sqlite() -> Self {
        Self::of(TestDatabase::sqlite())
    }

    pub(crate) async fn postgres() -> Self {
        Self::of(TestDatabase::postgres().await)
    }

    /// SQLite, where it lies unless it is configured, with nothing there yet.
    pub(crate) fn unmade() -> Self {
        let folder = folder();
        Self {
            url: format!("sqlite:{}", folder.path().join("rhizome.db").display()),
            _lies_in: None,
            folder,
        }
    }

    /// The same folder, with a PostgreSQL that nothing was ever written to.
    pub(crate) async fn moved_to_postgres(self) -> Self {
        let database = TestDatabase::postgres().await;
        Self {
            url: database.url().to_owned(),
            _lies_in: Some(database),
            folder: self.folder,
        }
    }

    fn of(database: TestDatabase) -> Self {
        Self {
            url: database.url().to_owned(),
            _lies_in: Some(database),
            folder: folder(),
        }
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }
}

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().expect("a temporary folder can be made")
}
