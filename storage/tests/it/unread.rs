//! What users have not read, written down.

use rhizome_storage::{Lease, Pos, RoomNo, UnreadRow, UserNo, testing::each_database};

fn row(user: i64, upto: i64, rules: i64, tally: &str) -> UnreadRow {
    UnreadRow {
        room: RoomNo(7),
        user_no: UserNo(user),
        upto: Pos(upto),
        since: Pos(1),
        rules: Pos(rules),
        tally: tally.to_owned(),
    }
}

#[tokio::test]
async fn a_row_is_as_of_the_latest_position_that_anybody_wrote() {
    each_database(|store| async move {
        let found = async || {
            let asked = [
                (RoomNo(7), UserNo(1)),
                (RoomNo(7), UserNo(2)),
                (RoomNo(8), UserNo(1)),
            ];
            let mut rows = store.unread_rows(&asked).await.unwrap();
            rows.sort_by_key(|row| row.user_no);
            rows
        };
        let write = async |lease: Option<&Lease>, rows: &[UnreadRow]| {
            store.write_unread(lease, rows).await.unwrap()
        };
        assert!(write(None, &[row(1, 10, 5, "{}"), row(2, 10, 5, "\u{0}")]).await);
        assert_eq!(found().await, [row(1, 10, 5, "{}"), row(2, 10, 5, "\u{0}")]);
        // Who is behind takes nothing back; who knows of other rules is right.
        assert!(write(None, &[row(1, 9, 5, "old"), row(2, 9, 6, "new")]).await);
        assert_eq!(found().await, [row(1, 10, 5, "{}"), row(2, 9, 6, "new")]);
        // The reader whose turn is over writes nothing.
        let lease = Lease::take(&store, "unread", None).await.unwrap().unwrap();
        assert!(write(Some(&lease), &[row(1, 11, 5, "mine")]).await);
        Lease::take(&store, "unread", None).await.unwrap().unwrap();
        assert!(!write(Some(&lease), &[row(1, 12, 5, "lost")]).await);
        assert_eq!(found().await[0], row(1, 11, 5, "mine"));
    })
    .await;
}
