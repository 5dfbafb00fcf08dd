//! Servers that we send to, as an administrator looks through them: chosen, in an order, a page at a time.

use ruma::{OwnedRoomId, ServerName};

use super::known_destinations::{KnownDestination, known};
use crate::engine::db::literally;
use crate::engine::sql::Columns as _;
use crate::{Pos, Result, Store};

/// By what they are put in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DestinationOrder {
    /// Their names.
    Server,
    /// When they are tried again.
    RetryAt,
    /// How often in a row they failed.
    Failures,
    /// Since when they fail.
    FailingSince,
    /// How far they are.
    Sent,
}

macro_rules! page {
    ($key:literal, $direction:literal) => {
        concat!(
            "SELECT server, sent_pos, failures, retry_at, newest_pos, come_pos, failing_since, reached_ms, \
             failure FROM destination_state \
             WHERE CAST($1 AS TEXT) IS NULL OR server LIKE '%' || $1 || '%' ESCAPE '!' ORDER BY ",
            $key,
            $direction,
            ", server LIMIT $2 OFFSET $3"
        )
    };
}

macro_rules! both {
    ($key:literal) => {
        [page!($key, ""), page!($key, " DESC")]
    };
}

impl DestinationOrder {
    /// The statement for a page, forwards and backwards. What is from before a failure that is over doesn't count.
    fn statements(self) -> [&'static str; 2] {
        match self {
            Self::Server => both!("server"),
            Self::RetryAt => both!("CASE WHEN failures > 0 THEN retry_at ELSE 0 END"),
            Self::Failures => both!("failures"),
            Self::FailingSince => both!("CASE WHEN failures > 0 THEN failing_since ELSE 0 END"),
            Self::Sent => both!("sent_pos"),
        }
    }
}

impl Store {
    /// A page of the servers that we send to, those with `has` in their names: `limit` of them after so many; and how many
    /// there are in all.
    pub async fn destination_page(
        &self,
        has: Option<&str>,
        (order, backwards): (DestinationOrder, bool),
        (from, limit): (usize, usize),
    ) -> Result<(Vec<KnownDestination>, usize)> {
        let has = has.map(literally);
        let count = self
            .sql(
                "SELECT COUNT(*) AS n FROM destination_state \
                 WHERE CAST($1 AS TEXT) IS NULL OR server LIKE '%' || $1 || '%' ESCAPE '!'",
            )
            .bind(has.as_deref());
        let count = self.row(count).await?;
        let total = count.map_or(Ok(0), |row| row.get("n"))?;
        let [forwards, back] = order.statements();
        let query = self
            .sql(if backwards { back } else { forwards })
            .bind(has.as_deref())
            .bind(limit)
            .bind(from);
        let rows = self.rows(query).await?;
        let servers = rows.iter().map(known).collect::<Result<_>>()?;
        Ok((servers, total))
    }

    /// A page of the rooms in which both servers are, by their ids, each with the position of the last that happened there.
    /// How many there are in all, [`Store::rooms_shared`] says.
    pub async fn rooms_shared_page(
        &self,
        (ours, theirs): (&ServerName, &ServerName),
        backwards: bool,
        (from, limit): (usize, usize),
    ) -> Result<Vec<(OwnedRoomId, Pos)>> {
        let known = self.known_server(ours).await?;
        let Some((ours, theirs)) = known.zip(self.known_server(theirs).await?) else {
            return Ok(Vec::new());
        };
        macro_rules! rooms {
            ($direction:literal) => {
                concat!(
                    "SELECT r.room_id, r.last_pos FROM room_server t JOIN room_server o ON o.room = t.room \
                     AND o.server = $1 AND o.joined > 0 JOIN room r ON r.no = t.room \
                     WHERE t.server = $2 AND t.joined > 0 ORDER BY r.room_id ",
                    $direction,
                    " LIMIT $3 OFFSET $4"
                )
            };
        }
        let query = self
            .sql(if backwards {
                rooms!("DESC")
            } else {
                rooms!("ASC")
            })
            .bind(ours)
            .bind(theirs)
            .bind(limit)
            .bind(from);
        let rows = self.rows(query).await?;
        rows.iter()
            .map(|row| Ok((row.get("room_id")?, row.get("last_pos")?)))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use ruma::OwnedServerName;

    use super::*;
    use crate::DestinationState;
    use crate::testing::each_database;

    #[tokio::test]
    async fn servers_are_chosen_and_put_in_order() {
        each_database(async |store: Store| {
            let stand = |sent, failures, since| DestinationState {
                sent: Pos(sent),
                failures,
                failing_since: since,
                retry_at: since + 10,
                ..DestinationState::default()
            };
            let states = [
                ("a.example", stand(3, 0, 900)),
                ("b.example", stand(1, 4, 500)),
                ("c_c.test", stand(2, 1, 700)),
            ];
            let states = states.map(|(name, state)| {
                let name = OwnedServerName::try_from(name.replace('_', "-")).unwrap();
                (name, state)
            });
            store.store_destination_states(&states).await.unwrap();
            let found = async |has: Option<&str>, order, page| {
                let page = store.destination_page(has, order, page).await.unwrap();
                let names = page.0.iter().map(|one| one.server.as_str()[..1].to_owned());
                (names.collect::<String>(), page.1)
            };
            for (order, expected) in [
                (DestinationOrder::Server, "abc"),
                // Whose failure is over doesn't fail.
                (DestinationOrder::RetryAt, "abc"),
                (DestinationOrder::FailingSince, "abc"),
                (DestinationOrder::Failures, "acb"),
                (DestinationOrder::Sent, "bca"),
            ] {
                let forwards = found(None, (order, false), (0, 9)).await;
                assert_eq!(forwards, (expected.to_owned(), 3), "{order:?}");
                let backwards = found(None, (order, true), (0, 9)).await.0;
                let expected: String = expected.chars().rev().collect();
                assert_eq!(backwards, expected, "{order:?}");
            }
            let by_name = (DestinationOrder::Server, false);
            assert_eq!(found(None, by_name, (1, 1)).await, ("b".into(), 3));
            assert_eq!(
                found(Some("example"), by_name, (0, 9)).await,
                ("ab".into(), 2)
            );
            assert_eq!(found(Some("_"), by_name, (0, 9)).await, (String::new(), 0));
        })
        .await;
    }
}
