//! How far each destination of the outbound sender has got. What it must get is in `outbound.rs`.

use ruma::{OwnedEventId, OwnedRoomId, OwnedServerName, OwnedUserId, ServerName};

use crate::engine::sql::{Columns as _, Query, ReadRow, rows};
use crate::{DestinationState, Pos, Result, Store};

rows! {
    struct StateRow<'a> {
        server: &'a OwnedServerName,
        sent_pos: Pos,
        failures: i64,
        retry_at: i64,
        newest_pos: Pos,
        come_pos: Pos,
        failing_since: i64,
        reached_ms: i64,
    }
}

rows! {
    struct Named<'a> {
        server: &'a ServerName,
    }
}

/// What a destination hasn't got yet, as far as it is looked at.
#[derive(Debug, Clone, Copy)]
pub struct Behind<'a> {
    /// Which.
    pub destination: &'a ServerName,
    /// This server, of whose users it is told.
    pub ours: &'a ServerName,
    /// It has got everything up to here.
    pub after: Pos,
    /// What comes later isn't looked at.
    pub upto: Pos,
    /// The most that is looked at.
    pub limit: usize,
}

impl Behind<'_> {
    /// As `$1` to `$5`.
    pub(super) fn bind(self, query: Query) -> Query {
        let query = query.bind(self.destination).bind(self.ours);
        query.bind(self.after).bind(self.upto).bind(self.limit)
    }
}

/// A receipt of a user of ours, to be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutboundReceipt {
    /// Its position.
    pub pos: Pos,
    /// The room.
    pub room_id: OwnedRoomId,
    /// Who has read.
    pub user_id: OwnedUserId,
    /// Its type.
    pub kind: String,
    /// Up to which event.
    pub event_id: OwnedEventId,
    /// In which thread.
    pub thread: Option<String>,
    /// When, milliseconds since 1970.
    pub ts: i64,
}

impl Store {
    /// Where the sender stands with a destination; the default if it never sent to it.
    pub async fn destination_state(&self, server: &ServerName) -> Result<DestinationState> {
        let query = self
            .sql(
                "SELECT sent_pos, failures, retry_at, newest_pos, come_pos, failing_since, reached_ms \
                 FROM destination_state WHERE server = $1",
            )
            .bind(server);
        let row = self.row(query).await?;
        row.as_ref()
            .map_or_else(|| Ok(DestinationState::default()), state)
    }

    /// Notes where the sender stands with some destinations, in one transaction. None of the positions ever goes back.
    pub async fn store_destination_states(
        &self,
        states: &[(OwnedServerName, DestinationState)],
    ) -> Result<()> {
        if states.is_empty() {
            return Ok(());
        }
        let mut rows: Vec<_> = states
            .iter()
            .map(|(server, state)| StateRow {
                server,
                sent_pos: state.sent,
                failures: i64::from(state.failures),
                retry_at: state.retry_at,
                newest_pos: state.newest,
                come_pos: state.come,
                failing_since: state.failing_since,
                reached_ms: state.reached_ms,
            })
            .collect();
        // One order for all processes, so that they don't wait for each other crosswise.
        rows.sort_unstable_by_key(|row| row.server);
        let query = self
            .sql(
                "INSERT INTO destination_state \
                 (server, sent_pos, failures, retry_at, newest_pos, come_pos, failing_since, reached_ms) \
                 SELECT server, sent_pos, failures, retry_at, newest_pos, come_pos, failing_since, reached_ms \
                 FROM ROWS($1) AS x WHERE true \
                 ON CONFLICT (server) DO UPDATE SET sent_pos = CASE \
                 WHEN excluded.sent_pos > destination_state.sent_pos THEN excluded.sent_pos \
                 ELSE destination_state.sent_pos END, \
                 failures = excluded.failures, retry_at = excluded.retry_at, newest_pos = CASE \
                 WHEN excluded.newest_pos > destination_state.newest_pos THEN excluded.newest_pos \
                 ELSE destination_state.newest_pos END, come_pos = CASE \
                 WHEN excluded.come_pos > destination_state.come_pos THEN excluded.come_pos \
                 ELSE destination_state.come_pos END, \
                 failing_since = excluded.failing_since, reached_ms = excluded.reached_ms",
            )
            .rows(&rows);
        self.execute(query).await?;
        Ok(())
    }

    /// Those of some servers that are in no room, and to which nobody has written yet.
    pub async fn new_servers<'a>(
        &self,
        servers: impl IntoIterator<Item = &'a ServerName>,
    ) -> Result<Vec<OwnedServerName>> {
        let servers: Vec<_> = servers.into_iter().map(|server| Named { server }).collect();
        if servers.is_empty() {
            return Ok(Vec::new());
        }
        let query = self
            .sql(
                "SELECT x.server FROM ROWS($1) AS x WHERE NOT EXISTS (\
                 SELECT 1 FROM server_name n JOIN room_server r ON r.server = n.no AND r.joined > 0 \
                 WHERE n.name = x.server) \
                 AND NOT EXISTS (SELECT 1 FROM destination_state s WHERE s.server = x.server) \
                 AND NOT EXISTS (SELECT 1 FROM to_device_out o WHERE o.server = x.server)",
            )
            .rows(&servers);
        let rows = self.rows(query).await?;
        rows.iter().map(|row| row.get("server")).collect()
    }

    /// Whether a server is in a room.
    pub async fn is_in_a_room(&self, server: &ServerName) -> Result<bool> {
        let Some(server) = self.known_server(server).await? else {
            return Ok(false);
        };
        let query = self
            .sql("SELECT 1 AS one FROM room_server WHERE server = $1 AND joined > 0 LIMIT 1")
            .bind(server);
        Ok(self.row(query).await?.is_some())
    }

    /// The destinations that aren't up to date: those that must get an event after what they have got.
    pub async fn destinations_behind(&self) -> Result<Vec<OwnedServerName>> {
        let query = self.sql(
            "SELECT n.name FROM (SELECT m.server, MAX(l.last_pos) AS last_pos FROM outbound_last l \
             JOIN set_member m ON m.set_no = l.set_no GROUP BY m.server) d \
             JOIN server_name n ON n.no = d.server \
             LEFT JOIN destination_state s ON s.server = n.name \
             WHERE s.sent_pos IS NULL OR s.sent_pos < d.last_pos",
        );
        self.rows(query)
            .await?
            .iter()
            .map(|row| row.get("name"))
            .collect()
    }

    /// The destinations that share a room with a public receipt, of a user of `ours`, that they
    /// haven't got.
    pub async fn destinations_behind_in_receipts(
        &self,
        ours: &ServerName,
    ) -> Result<Vec<OwnedServerName>> {
        let query = self
            .sql(
                "SELECT n.name FROM (SELECT m.server, MAX(r.pos) AS pos FROM receipt r \
                 JOIN user_name u ON u.no = r.user_no \
                 JOIN server_name o ON o.no = u.server AND o.name = $1 \
                 JOIN room_server m ON m.room = r.room AND m.joined > 0 \
                 WHERE r.kind IN ('m.read', 'org.rhizome.delivered') GROUP BY m.server) d \
                 JOIN server_name n ON n.no = d.server AND n.name <> $1 \
                 LEFT JOIN destination_state s ON s.server = n.name \
                 WHERE s.sent_pos IS NULL OR s.sent_pos < d.pos",
            )
            .bind(ours);
        self.rows(query)
            .await?
            .iter()
            .map(|row| row.get("name"))
            .collect()
    }

    /// Public receipts of users of ours in rooms that the destination is in, ascending.
    pub async fn receipts_to(&self, behind: Behind<'_>) -> Result<Vec<OutboundReceipt>> {
        let query = self.sql(
            "SELECT r.pos, o.room_id, u.user_id, r.kind, r.event_id, r.thread, r.ts FROM receipt r \
                 JOIN room_server m ON m.room = r.room AND m.joined > 0 \
                 JOIN server_name d ON d.no = m.server AND d.name = $1 \
                 JOIN user_name u ON u.no = r.user_no \
                 JOIN server_name s ON s.no = u.server AND s.name = $2 \
                 JOIN room o ON o.no = r.room \
                 WHERE r.pos > $3 AND r.pos <= $4 AND (r.kind = 'm.read' OR r.kind = 'org.rhizome.delivered' AND \
                 (SELECT SUM(joined) FROM room_server c WHERE c.room = r.room) = 2) ORDER BY r.pos LIMIT $5",
        );
        let mut receipts = Vec::new();
        for row in self.rows(behind.bind(query)).await? {
            receipts.push(OutboundReceipt {
                pos: row.get("pos")?,
                room_id: row.get("room_id")?,
                user_id: row.get("user_id")?,
                kind: row.get("kind")?,
                event_id: row.get("event_id")?,
                thread: row
                    .get::<Option<String>>("thread")?
                    .filter(|thread| !thread.is_empty()),
                ts: row.get("ts")?,
            });
        }
        Ok(receipts)
    }
}

/// From a row with the columns of one.
pub(super) fn state(row: &ReadRow) -> Result<DestinationState> {
    Ok(DestinationState {
        sent: row.get("sent_pos")?,
        failures: u32::try_from(row.get::<i64>("failures")?).unwrap_or(u32::MAX),
        retry_at: row.get("retry_at")?,
        newest: row.get("newest_pos")?,
        come: row.get("come_pos")?,
        failing_since: row.get("failing_since")?,
        reached_ms: row.get("reached_ms")?,
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use ruma::server_name;

    use super::*;
    use crate::testing::{TestDatabase, each_database};
    use crate::{Clock, Fact, Options, ToDeviceOut};

    #[tokio::test]
    async fn states_are_kept_and_never_go_back() {
        each_database(async |store: Store| {
            let (a, b) = (server_name!("a.example"), server_name!("b.example"));
            assert_eq!(
                store.destination_state(a).await.unwrap(),
                DestinationState::default()
            );
            let state = |sent, failures, retry_at| DestinationState {
                sent: Pos(sent),
                failures,
                retry_at,
                newest: Pos(sent + 9),
                come: Pos(sent + 4),
                failing_since: retry_at - i64::from(failures),
                reached_ms: retry_at + 1,
            };
            store
                .store_destination_states(&[
                    (b.to_owned(), state(7, 0, 0)),
                    (a.to_owned(), state(5, 2, 99)),
                ])
                .await
                .unwrap();
            assert_eq!(store.destination_state(a).await.unwrap(), state(5, 2, 99));
            store
                .store_destination_states(&[(a.to_owned(), state(3, 0, 0))])
                .await
                .unwrap();
            // No position is less than it was.
            assert_eq!(store.destination_state(a).await.unwrap(), state(5, 0, 0));
            assert_eq!(store.destination_state(b).await.unwrap(), state(7, 0, 0));
            store.store_destination_states(&[]).await.unwrap();
            assert!(store.destinations_behind().await.unwrap().is_empty());
            assert!(
                store
                    .destinations_behind_in_receipts(a)
                    .await
                    .unwrap()
                    .is_empty()
            );
            assert!(
                store
                    .receipts_to(Behind {
                        destination: a,
                        ours: b,
                        after: Pos(0),
                        upto: Pos(9),
                        limit: 9,
                    })
                    .await
                    .unwrap()
                    .is_empty()
            );
        })
        .await;
    }

    #[tokio::test]
    async fn who_was_never_reached_or_is_up_to_date_is_forgotten() {
        for database in TestDatabase::both().await {
            let clock = Clock::manual(1_800_000_000_000);
            let options = Options {
                clock: clock.clone(),
                ..database.options()
            };
            let store = Store::open(options).await.unwrap();
            let names = [server_name!("made.up"), server_name!("reached")];
            let new = async || store.new_servers(names).await.unwrap();
            assert_eq!(new().await, names);
            let message = |server: &ServerName| {
                Fact::from(ToDeviceOut {
                    server: server.to_owned(),
                    edu: "{}".into(),
                    queued_ms: store.clock().now_ms(),
                })
            };
            let facts: Vec<_> = names.into_iter().map(message).collect();
            let head = store.commit(facts.into()).await.unwrap().last;
            assert_eq!(new().await, [] as [&ServerName; 0]);
            let state = |sent, failures, retry_at| DestinationState {
                sent,
                failures,
                retry_at,
                ..DestinationState::default()
            };
            let states = [
                (names[0].to_owned(), state(Pos(0), 3, clock.now_ms())),
                (names[1].to_owned(), state(head, 0, 0)),
            ];
            store.store_destination_states(&states).await.unwrap();
            let purge = async || store.purge_to_device(Duration::ZERO).await.unwrap();
            assert_eq!(purge().await, 0, "something waits for both");
            let arrived = [(names[1].to_owned(), head)];
            store.forget_to_device_out(&arrived).await.unwrap();
            assert_eq!(purge().await, 1, "nothing is left to be told there");
            assert_eq!(new().await, [names[1]]);
            clock.advance(Duration::from_hours(48));
            assert_eq!(purge().await, 0, "it may come up yet");
            clock.advance(Duration::from_hours(48));
            assert_eq!(purge().await, 2, "the message and the row");
            assert_eq!(new().await, names);
            store.close().await;
            database.remove().await;
        }
    }
}
