//! What a database says of itself when it is damaged. What rows say of each other is in `tests/it/check.rs`.

use super::*;
use crate::engine::sql::Columns as _;
use crate::testing::TestDatabase;
use crate::{Dialect, Store};

async fn wrong(check: &mut Check, step: Step) -> Vec<Finding> {
    let progress = CheckProgress::default();
    check.step(step, &progress).await.unwrap().wrong
}

/// Where a table's topmost page begins in an SQLite file.
async fn root_of_events(store: &Store) -> usize {
    let query = store.sql("SELECT rootpage FROM sqlite_schema WHERE name = 'event'");
    let page: usize = store
        .row(query)
        .await
        .unwrap()
        .unwrap()
        .get("rootpage")
        .unwrap();
    let query = store.sql("SELECT page_size FROM pragma_page_size");
    let size: usize = store
        .row(query)
        .await
        .unwrap()
        .unwrap()
        .get("page_size")
        .unwrap();
    (page - 1) * size
}

#[tokio::test]
async fn a_damaged_file_is_found() {
    let database = TestDatabase::sqlite();
    let store = database.open().await;
    let at = root_of_events(&store).await;
    store.close().await;
    for thorough in [false, true] {
        let options = CheckOptions {
            thorough,
            ..CheckOptions::default()
        };
        let mut check = Check::open(database.url(), options.clone()).await.unwrap();
        assert_eq!(wrong(&mut check, Step::Integrity).await, []);
        check.close().await;
        let file = database.folder().unwrap().join("rhizome.db");
        let whole = std::fs::read(&file).unwrap();
        let mut bytes = whole.clone();
        // No page is of this kind.
        bytes[at] = 0xff;
        std::fs::write(&file, bytes).unwrap();
        let mut check = Check::open(database.url(), options).await.unwrap();
        let found = wrong(&mut check, Step::Integrity).await;
        check.close().await;
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].what.contains("damaged"), "{found:?}");
        assert!(!found[0].examples.is_empty());
        std::fs::write(&file, whole).unwrap();
    }
}

#[tokio::test]
async fn an_invalid_index_is_found() {
    let database = TestDatabase::postgres().await;
    let store = database.open().await;
    let mut check = Check::open(database.url(), CheckOptions::default())
        .await
        .unwrap();
    assert_eq!(wrong(&mut check, Step::Integrity).await, []);
    let spoil = store.sql(
        "UPDATE pg_index SET indisvalid = false WHERE indexrelid = CAST('event_ts' AS regclass)",
    );
    store.execute(spoil).await.unwrap();
    assert_eq!(
        wrong(&mut check, Step::Integrity).await,
        [],
        "of one moment"
    );
    check.renew().await.unwrap();
    let found = wrong(&mut check, Step::Integrity).await;
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].examples, ["event_ts"]);
    check.close().await;
    store.close().await;
    database.remove().await;
}

/// A step that fails says so, and the next one goes on.
#[tokio::test]
async fn after_a_step_that_fails_the_next_one_goes_on() {
    for database in TestDatabase::both().await {
        let store = database.open().await;
        store
            .execute(store.sql("DROP TABLE receipt"))
            .await
            .unwrap();
        let mut check = Check::open(database.url(), CheckOptions::default())
            .await
            .unwrap();
        let progress = CheckProgress::default();
        assert!(check.step(Step::Accounts, &progress).await.is_err());
        assert_eq!(wrong(&mut check, Step::Media).await, []);
        check.close().await;
        store.close().await;
        database.remove().await;
    }
}

/// What isn't there isn't made by looking for it.
#[tokio::test]
async fn what_is_not_there_is_not_made() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("none.db");
    let url = format!("sqlite:{}", file.display());
    assert_eq!(Dialect::of(&url), Some(Dialect::Sqlite));
    assert!(Check::open(&url, CheckOptions::default()).await.is_err());
    assert!(!file.exists());
}
