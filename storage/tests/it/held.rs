//! Requests that nobody looks at for a while.

use futures_util::poll;
use rhizome_storage::testing::{TestDatabase, soon};
use ruma::server_name;

/// Of several requests that are looked at one at a time, those that aren't keep no connection from the one that is.
#[tokio::test]
async fn who_is_not_looked_at_holds_no_connection() {
    for database in TestDatabase::both().await {
        let store = database.open().await;
        let name = server_name!("there");
        // More than there are connections.
        let mut reads: Vec<_> = (0..8).map(|_| Box::pin(store.inbox_size(name))).collect();
        for read in &mut reads {
            let _ = poll!(read);
        }
        let mut writes: Vec<_> = (0..8).map(|_| Box::pin(store.inbox_forget(0))).collect();
        for write in &mut writes {
            let _ = poll!(write);
        }
        let read = soon("a read has its turn", store.inbox_size(name)).await;
        assert_eq!(read.unwrap(), 0);
        let write = soon("a write has its turn", store.inbox_forget(0)).await;
        assert_eq!(write.unwrap(), 0);
        drop((reads, writes));
        store.close().await;
        database.remove().await;
    }
}
