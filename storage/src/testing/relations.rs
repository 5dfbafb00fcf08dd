//! What is written down of relations, for tests.

use super::run;
use crate::Store;
use crate::engine::sql::{Columns as _, ReadRow};

/// All that is written down of events that relate to others, in order.
pub async fn relation_rows(store: &Store) -> Vec<String> {
    let query = store.sql(
        "SELECT child, room, parent, rel_type, kind, sender, depth, ord, annotation, \
         COALESCE(edited_at, -1) AS edited_at, COALESCE(visibility, -1) AS visibility FROM relation ORDER BY child",
    );
    let rows = store.rows(query).await.expect("rows can be read");
    let tell = |row: &ReadRow| {
        let number = |name| row.get::<i64>(name).expect("it is a number");
        let text = |name| row.get::<Option<String>>(name).expect("it is a text");
        let numbers = [
            "child",
            "room",
            "sender",
            "depth",
            "ord",
            "edited_at",
            "visibility",
        ]
        .map(number);
        let texts = ["parent", "rel_type", "kind", "annotation"].map(text);
        format!("{numbers:?} {texts:?}")
    };
    rows.iter().map(tell).collect()
}

/// All threads that there are in rooms, and where their latest events are.
pub async fn thread_rows(store: &Store) -> Vec<(String, i64)> {
    let query =
        store.sql("SELECT root, latest FROM thread WHERE latest IS NOT NULL ORDER BY room, root");
    let rows = store.rows(query).await.expect("rows can be read");
    let tell = |row: &ReadRow| {
        let root = row.get("root").expect("it is a text");
        (root, row.get("latest").expect("it is a number"))
    };
    rows.iter().map(tell).collect()
}

/// As if all that is stored were from before relations were written down.
pub async fn forget_relations(store: &Store) {
    run(store, "DELETE FROM relation").await;
    run(store, "DELETE FROM thread").await;
    run(store, "DELETE FROM relation_fill").await;
    run(store, "INSERT INTO relation_fill VALUES (1, 0)").await;
}

/// As if all relations had been written by a binary that didn't know of their events' visibility.
pub async fn blank_relations(store: &Store) {
    run(store, "UPDATE relation SET visibility = NULL").await;
    run(store, "DELETE FROM thread").await;
}
