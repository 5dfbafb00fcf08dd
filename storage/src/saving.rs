//! A copy of an SQLite database in which a server goes on writing.

use std::path::{Path, PathBuf};
use std::str::FromStr as _;
use std::sync::Arc;

use sqlx::sqlite::SqliteConnectOptions;

use crate::check::CheckProgress;
use crate::engine::sqlite::SqliteAlone;
use crate::{Dialect, OpenError};

/// The file that a database is, of SQLite.
pub fn database_file(url: &str) -> Option<PathBuf> {
    if Dialect::of(url)? != Dialect::Sqlite {
        return None;
    }
    let named = SqliteConnectOptions::from_str(url).ok()?;
    Some(named.get_filename().to_owned())
}

/// Copies an SQLite database into a file that isn't there yet, as of one moment. A server may run on it, and waits for
/// nothing. The copy is a file by itself; it isn't synced. `progress`: in pages.
///
/// # Errors
/// The database isn't there or can't be read, the file is there, or there is no room for it.
pub async fn copy_database(
    url: &str,
    into: &Path,
    progress: &Arc<CheckProgress>,
) -> Result<(), OpenError> {
    let file = database_file(url).ok_or(OpenError::Url)?;
    let from = SqliteAlone::open(&file, true).await?;
    let progress = progress.clone();
    let mut before = 0;
    let told = move |done: u64, total: u64| {
        if before == 0 {
            progress.begin(total);
        }
        progress.add(usize::try_from(done.saturating_sub(before)).unwrap_or(0));
        before = done;
    };
    let copied = async {
        from.run(Dialect::Sqlite.setup_reading().to_owned()).await?;
        from.copy(into.to_owned(), told).await
    };
    let copied = copied.await;
    from.close().await;
    Ok(copied?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::TestDatabase;
    use crate::{Check, CheckOptions, DeviceList, Fact, Step, Store, WriteSet};

    async fn write(store: &Store) {
        let user = store.user_no(ruma::user_id!("@a:here")).await.unwrap();
        let list = Fact::DeviceList(DeviceList { user, device: None });
        store.commit(WriteSet::from(vec![list])).await.unwrap();
    }

    #[test]
    fn only_sqlite_is_a_file() {
        let file = database_file("sqlite:/a/b.db?mode=rwc").unwrap();
        assert_eq!(file, Path::new("/a/b.db"));
        assert_eq!(database_file("postgres://a@b/c"), None);
        assert_eq!(database_file("/a/b.db"), None);
    }

    #[tokio::test]
    async fn a_copy_knows_where_it_stands_and_is_whole() {
        let database = TestDatabase::sqlite();
        let store = database.open().await;
        store.claim_setting("server_name", "here").await.unwrap();
        write(&store).await;
        let (then, epoch) = (store.log().head(), store.epoch());
        let folder = tempfile::tempdir().unwrap();
        let into = folder.path().join("copy.db");
        let progress = Arc::default();
        copy_database(database.url(), &into, &progress)
            .await
            .unwrap();
        let (done, total) = progress.so_far();
        assert!(total > 0 && done == total, "{done} of {total}");
        write(&store).await;
        assert!(store.log().head() > then);

        let url = format!("sqlite:{}", into.display());
        let mut check = Check::open(&url, CheckOptions::default()).await.unwrap();
        let facts = check.facts().await.unwrap().unwrap();
        assert_eq!(facts.position, then);
        assert_eq!(facts.epoch.as_deref(), Some(&*epoch));
        assert_eq!(facts.server.as_deref(), Some("here"));
        for step in [Step::Integrity, Step::Schema, Step::Log] {
            let found = check.step(step, &progress).await.unwrap();
            assert!(found.wrong.is_empty(), "{step:?}: {found:?}");
        }
        check.close().await;
        // It is never written over.
        let again = copy_database(database.url(), &into, &progress).await;
        assert!(again.is_err());
        store.close().await;
    }

    #[tokio::test]
    async fn an_empty_database_says_nothing_of_itself() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("empty.db");
        std::fs::write(&file, "").unwrap();
        let url = format!("sqlite:{}", file.display());
        let mut check = Check::open(&url, CheckOptions::default()).await.unwrap();
        assert_eq!(check.facts().await.unwrap(), None);
        check.close().await;
    }
}
