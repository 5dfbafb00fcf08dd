//! Application services that aren't registered any more. One that comes back in time is told what it missed.

use super::{Pass, Purged};
use crate::Result;
use crate::accounts::services::REMEMBERED;
use crate::engine::clock::millis;

/// Those that were registered last before `$1`.
const GONE: &str = "DELETE FROM appservice WHERE seen_ms < $1";
/// What waited for them.
const THEIRS: &str = "DELETE FROM appservice_txn WHERE id IN (SELECT t.id FROM appservice_txn t \
    LEFT JOIN appservice s ON s.id = t.id WHERE s.id IS NULL)";

impl Pass<'_> {
    /// `false` if another process has the lease.
    pub(super) async fn services(&self, purged: &mut Purged) -> Result<bool> {
        let before = self.store.clock().now_ms() - millis(REMEMBERED);
        let query = self.store.sql(GONE).bind(before);
        let gone = self.store.execute(query).await?;
        let waited = self.store.execute(self.store.sql(THEIRS)).await?;
        self.goes_on(purged, gone + waited).await
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::super::tests::{NOW, each_at};
    use super::*;
    use crate::testing::count_rows;
    use crate::{Lease, NewServiceTransaction, Pos, ServiceStep};

    #[tokio::test]
    async fn a_service_that_is_gone_is_forgotten_with_what_waits_for_it() {
        each_at(1_800_000_000_000, |store| async move {
            let lease = Lease::take(&store, "services", Some(Duration::from_hours(9_999)));
            let lease = lease.await.unwrap().unwrap();
            let head = store.log().head();
            let begun = store.begin_services(&lease, &["gone", "there"], head);
            begun.await.unwrap().unwrap();
            for id in ["gone", "there"] {
                let next = NewServiceTransaction {
                    txn: store.clock().now_ms() + 1,
                    upto: head,
                    content: "{}",
                    taken: &[],
                };
                let step = ServiceStep {
                    id,
                    pos: head,
                    acknowledged: None,
                    next: Some(next),
                };
                assert!(store.step_service(&lease, step).await.unwrap());
            }
            let collect = async || {
                store.collect_snapshots(NOW).await.unwrap().unwrap();
            };
            store.clock().advance(REMEMBERED);
            let there = [("there", Pos(0))];
            assert!(store.services_stand_at(&lease, &there).await.unwrap());
            collect().await;
            assert_eq!(count_rows(&store, "appservice").await, 2);
            store.clock().advance(Duration::from_millis(1));
            collect().await;
            let left = store.service_states().await.unwrap();
            assert_eq!(left.len(), 1);
            assert_eq!(
                (left[0].id.as_str(), left[0].waiting.is_some()),
                ("there", true)
            );
            assert_eq!(count_rows(&store, "appservice_txn").await, 1);
        })
        .await;
    }
}
