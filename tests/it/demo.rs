//! The demo is a test: it fails when the two servers differ.

use rhizome::server::Running;

#[tokio::test(flavor = "multi_thread")]
async fn the_demo_succeeds_on_sqlite() {
    Box::pin(rhizome_demo::run::<Running>(None)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_demo_succeeds_on_postgresql() {
    let url = std::env::var(rhizome_storage::testing::POSTGRES_VARIABLE)
        .expect("RHIZOME_TEST_POSTGRES names a PostgreSQL for the tests; scripts/test makes a throwaway one");
    Box::pin(rhizome_demo::run::<Running>(Some(url)))
        .await
        .unwrap();
}

#[tokio::test]
async fn the_demo_refuses_what_is_no_postgresql() {
    let error = Box::pin(rhizome_demo::run::<Running>(Some(
        "mysql://localhost/x".to_owned(),
    )))
    .await
    .unwrap_err();
    assert!(format!("{error:#}").contains("postgres://"), "{error:#}");
}
