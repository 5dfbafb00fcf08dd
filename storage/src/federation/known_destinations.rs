//! What is known of the servers that we send to, for operators to look at, and what they want done about them.

use ruma::{OwnedServerName, ServerName};

use super::destinations::state;
use crate::engine::sql::{Columns as _, ReadRow, rows};
use crate::{CommitError, DestinationState, Directive, Pos, Result, Store};

/// What is known of a server that we send to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownDestination {
    /// Which.
    pub server: OwnedServerName,
    /// How far it is, and whether it fails.
    pub state: DestinationState,
    /// Why it failed last; empty: it never did.
    pub failure: String,
}

rows! {
    struct FailureRow<'a> {
        server: &'a OwnedServerName,
        failure: &'a str,
    }
}

impl Store {
    /// What is known of servers that we send to, by name, those after `after` and at most `limit`. `failing`: of those
    /// alone that failed last.
    pub async fn known_destinations(
        &self,
        failing: bool,
        after: Option<&ServerName>,
        limit: usize,
    ) -> Result<Vec<KnownDestination>> {
        let query = self
            .sql(
                "SELECT server, sent_pos, failures, retry_at, newest_pos, come_pos, failing_since, reached_ms, \
                 failure FROM destination_state WHERE server > $1 AND failures >= $2 ORDER BY server LIMIT $3",
            )
            .bind(after.map_or("", ServerName::as_str))
            .bind(i64::from(failing))
            .bind(limit);
        self.rows(query).await?.iter().map(known).collect()
    }

    /// What is known of a server; `None` if it was never sent anything.
    pub async fn known_destination(&self, server: &ServerName) -> Result<Option<KnownDestination>> {
        let query = self
            .sql(
                "SELECT server, sent_pos, failures, retry_at, newest_pos, come_pos, failing_since, reached_ms, \
                 failure FROM destination_state WHERE server = $1",
            )
            .bind(server);
        self.row(query).await?.as_ref().map(known).transpose()
    }

    /// How many servers we have sent to, and how many of them failed last.
    pub async fn destination_counts(&self) -> Result<(usize, usize)> {
        let query = self.sql(
            "SELECT COUNT(*) AS n, COUNT(CASE WHEN failures > 0 THEN 1 END) AS failing FROM destination_state",
        );
        let Some(row) = self.row(query).await? else {
            return Ok((0, 0));
        };
        Ok((row.get("n")?, row.get("failing")?))
    }

    /// How many messages to devices wait for a server after `after`, counted up to `most`.
    pub async fn to_device_waiting(
        &self,
        server: &ServerName,
        after: Pos,
        most: usize,
    ) -> Result<usize> {
        let query = self
            .sql(
                "SELECT COUNT(*) AS n FROM (SELECT pos FROM to_device_out WHERE server = $1 AND pos > $2 \
                 LIMIT $3) AS waiting",
            )
            .bind(server)
            .bind(after)
            .bind(most);
        let row = self.row(query).await?;
        row.map_or(Ok(0), |row| row.get("n"))
    }

    /// In how many rooms both servers are.
    pub async fn rooms_shared(&self, ours: &ServerName, theirs: &ServerName) -> Result<usize> {
        let known = self.known_server(ours).await?;
        let Some((ours, theirs)) = known.zip(self.known_server(theirs).await?) else {
            return Ok(0);
        };
        let query = self
            .sql(
                "SELECT COUNT(*) AS n FROM room_server t JOIN room_server o ON o.room = t.room \
                 AND o.server = $1 AND o.joined > 0 WHERE t.server = $2 AND t.joined > 0",
            )
            .bind(ours)
            .bind(theirs);
        let row = self.row(query).await?;
        row.map_or(Ok(0), |row| row.get("n"))
    }

    /// Notes why servers failed last. Where they stand is noted before.
    pub async fn store_failures(&self, failures: &[(OwnedServerName, String)]) -> Result<()> {
        if failures.is_empty() {
            return Ok(());
        }
        let mut rows: Vec<_> = (failures.iter())
            .map(|(server, failure)| FailureRow { server, failure })
            .collect();
        // One order for all processes, so that they don't wait for each other crosswise.
        rows.sort_unstable_by_key(|row| row.server);
        let query = self
            .sql(
                "INSERT INTO destination_state (server, sent_pos, failures, retry_at, failure) \
                 SELECT server, 0, 0, 0, failure FROM ROWS($1) AS x WHERE true \
                 ON CONFLICT (server) DO UPDATE SET failure = excluded.failure",
            )
            .rows(&rows);
        self.execute(query).await?;
        Ok(())
    }

    /// A server is tried again at once, by whichever process sends.
    pub async fn retry_destination(&self, server: &ServerName) -> Result<(), CommitError> {
        self.direct(server, false).await.map(drop)
    }

    /// What waits for a server up to now is let go: events, messages to devices and what else it would have been told.
    pub async fn forget_destination(&self, server: &ServerName) -> Result<(), CommitError> {
        let upto = self.direct(server, true).await?;
        // Nobody sends these any more; if this doesn't come to pass, they go by their age.
        self.forget_to_device_out(&[(server.to_owned(), upto)])
            .await?;
        Ok(())
    }

    /// Gives the position of the directive.
    async fn direct(&self, server: &ServerName, forgets: bool) -> Result<Pos, CommitError> {
        let directive = Directive {
            server: server.to_owned(),
            forgets,
        };
        let committed = self.commit(vec![directive.into()].into()).await?;
        Ok(committed.last)
    }
}

pub(super) fn known(row: &ReadRow) -> Result<KnownDestination> {
    Ok(KnownDestination {
        server: row.get("server")?,
        state: state(row)?,
        failure: row.get("failure")?,
    })
}

#[cfg(test)]
mod tests {
    use ruma::server_name;

    use super::*;
    use crate::testing::each_database;
    use crate::{Fact, ToDeviceOut};

    fn failing(sent: i64) -> DestinationState {
        DestinationState {
            sent: Pos(sent),
            failures: 3,
            retry_at: 9_000,
            newest: Pos(0),
            come: Pos(0),
            failing_since: 5_000,
            reached_ms: 4_000,
        }
    }

    async fn queue(store: &Store, server: &ServerName) -> Pos {
        let message = ToDeviceOut {
            server: server.to_owned(),
            edu: "{}".into(),
            queued_ms: store.clock().now_ms(),
        };
        let committed = store.commit(vec![Fact::from(message)].into()).await;
        committed.unwrap().last
    }

    #[tokio::test]
    async fn what_is_known_of_servers_is_told_page_by_page() {
        each_database(async |store: Store| {
            let names = ["a.example", "b.example", "c.example"];
            let [a, b, c] = names.map(|name| OwnedServerName::try_from(name).unwrap());
            let well = DestinationState {
                reached_ms: 7_000,
                ..DestinationState::default()
            };
            let states = [
                (a.clone(), failing(1)),
                (b.clone(), well),
                (c.clone(), failing(2)),
            ];
            store.store_destination_states(&states).await.unwrap();
            let why = "can't reach server: \u{0} no route".to_owned();
            store
                .store_failures(&[(c.clone(), why.clone()), (a.clone(), String::new())])
                .await
                .unwrap();
            let page = async |failing, after: Option<&ServerName>, limit| {
                let page = store
                    .known_destinations(failing, after, limit)
                    .await
                    .unwrap();
                page.into_iter().map(|one| one.server).collect::<Vec<_>>()
            };
            assert_eq!(page(true, None, 9).await, [a.clone(), c.clone()]);
            assert_eq!(page(false, None, 2).await, [a.clone(), b.clone()]);
            assert_eq!(page(false, Some(&*b), 2).await, std::slice::from_ref(&c));
            let known = store.known_destination(&c).await.unwrap().unwrap();
            assert_eq!(known.state, failing(2));
            assert_eq!(known.failure, why);
            assert_eq!(store.destination_counts().await.unwrap(), (3, 2));
            assert!(
                store
                    .known_destination(server_name!("d.example"))
                    .await
                    .unwrap()
                    .is_none()
            );
        })
        .await;
    }

    #[tokio::test]
    async fn a_server_is_tried_again_or_what_waits_for_it_is_let_go() {
        each_database(async |store: Store| {
            let (a, b) = (server_name!("a.example"), server_name!("b.example"));
            for server in [a, b] {
                queue(&store, server).await;
            }
            let states = [(a.to_owned(), failing(0)), (b.to_owned(), failing(0))];
            store.store_destination_states(&states).await.unwrap();
            store.retry_destination(a).await.unwrap();
            let state = async |server| store.destination_state(server).await.unwrap();
            assert_eq!(state(a).await.retry_at, 0);
            assert_eq!(state(a).await.sent, Pos(0));
            assert_eq!(state(b).await, failing(0));
            let waiting = async |server| store.to_device_waiting(server, Pos(0), 9).await.unwrap();
            assert_eq!((waiting(a).await, waiting(b).await), (1, 1));

            store.forget_destination(b).await.unwrap();
            assert_eq!((waiting(a).await, waiting(b).await), (1, 0));
            assert_eq!(state(b).await.sent, store.log().head());
            assert_eq!(state(b).await.retry_at, 9_000, "it is left alone as before");
            // What comes later waits again; and a server of which nothing is known yet can be meant.
            assert!(queue(&store, b).await > state(b).await.sent);
            assert_eq!(waiting(b).await, 1);
            let c = server_name!("c.example");
            queue(&store, c).await;
            store.forget_destination(c).await.unwrap();
            assert_eq!(waiting(c).await, 0);
            assert_eq!(state(c).await.sent, store.log().head());
        })
        .await;
    }
}
