//! What other servers have sent us and what became of it, for the operator to see: a row for each server, to which each
//! process adds now and then what it has counted.

use ruma::{OwnedServerName, ServerName};

use crate::engine::sql::{Columns as _, ReadRow, rows};
use crate::{Result, Store};

/// The most servers of which there is a row. More aren't counted until some have gone: names are strangers' to choose.
const MAX_SERVERS: usize = 10_000;
/// How many are added by one statement.
const PIECE: usize = 500;

/// From the counts, which are columns: the struct, the row and the statements.
macro_rules! counts {
    ($($(#[$about:meta])* $count:ident)*) => {
        /// How much of what a server has sent, and what became of it.
        #[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
        pub struct InboundCounts {
            $($(#[$about])* pub $count: u64),*
        }

        impl std::ops::AddAssign for InboundCounts {
            fn add_assign(&mut self, more: Self) {
                $(self.$count = self.$count.saturating_add(more.$count);)*
            }
        }

        impl InboundCounts {
            fn read(row: &ReadRow) -> Result<Self> {
                Ok(Self { $($count: row.get(stringify!($count))?),* })
            }
        }

        rows! {
            struct SeenRow<'a> {
                server: &'a ServerName,
                seen_ms: i64,
                until_ms: i64,
                reasons: String,
                $($count: u64),*
            }
        }

        impl<'a> SeenRow<'a> {
            fn of(seen: &'a InboundSeen) -> Self {
                let counts = &seen.counts;
                Self {
                    server: &seen.server,
                    seen_ms: seen.last_seen_ms,
                    until_ms: seen.quarantined_until_ms,
                    reasons: reasons_text(&seen.reasons),
                    $($count: counts.$count),*
                }
            }
        }

        /// `$1`: rows of servers; `$2`: how many servers there may be before one is added. What isn't known comes to what is.
        const ADD: &str = concat!(
            "INSERT INTO inbound_seen (server, since_ms, last_seen_ms, quarantined_until_ms, reasons",
            $(", ", stringify!($count),)*
            ") SELECT x.server, x.seen_ms, x.seen_ms, x.until_ms, x.reasons",
            $(", x.", stringify!($count),)*
            " FROM ROWS($1) AS x WHERE (SELECT COUNT(*) FROM inbound_seen) < $2 \
             OR EXISTS (SELECT 1 FROM inbound_seen s WHERE s.server = x.server) \
             ON CONFLICT (server) DO UPDATE SET last_seen_ms = CASE \
             WHEN excluded.last_seen_ms > inbound_seen.last_seen_ms THEN excluded.last_seen_ms \
             ELSE inbound_seen.last_seen_ms END, quarantined_until_ms = CASE \
             WHEN excluded.quarantined_until_ms > inbound_seen.quarantined_until_ms THEN excluded.quarantined_until_ms \
             ELSE inbound_seen.quarantined_until_ms END, reasons = CASE \
             WHEN excluded.reasons <> '[]' THEN excluded.reasons ELSE inbound_seen.reasons END",
            $(", ", stringify!($count), " = inbound_seen.", stringify!($count), " + excluded.", stringify!($count),)*
        );

        /// Of the server `$1`.
        const OF: &str = concat!(
            "SELECT server, since_ms, last_seen_ms, quarantined_until_ms, reasons",
            $(", ", stringify!($count),)*
            " FROM inbound_seen WHERE server = $1",
        );

        /// Of `$1` servers.
        const MOST: &str = concat!(
            "SELECT server, since_ms, last_seen_ms, quarantined_until_ms, reasons",
            $(", ", stringify!($count),)*
            " FROM inbound_seen ORDER BY work_us DESC, server LIMIT $1",
        );
    };
}

counts! {
    /// Signed requests of any kind.
    requests
    /// Of those, how many were told to come later.
    limited
    /// Of their bodies.
    bytes
    /// For how long this server worked for them, in microseconds.
    work_us
    /// Transactions.
    transactions
    /// Events that are part of their rooms.
    accepted
    /// Events that were known.
    known
    /// Events that wait for what they need.
    waiting
    /// Events that their rooms' present doesn't allow.
    soft_failed
    /// Events that aren't allowed.
    rejected
    /// Events that weren't taken.
    refused
    /// Of those, how many of the server's own couldn't be verified, by its own fault.
    unverified
    /// Pairs of events of its users that say two things in one place.
    equivocations
    /// How often it was put into quarantine.
    quarantines
    /// Who types.
    typing
    /// Who is there.
    presence
    /// Receipts.
    receipts
    /// Messages to devices.
    to_device
    /// Changes of devices and of keys.
    devices
    /// EDUs that aren't understood.
    other_edus
}

/// What was refused, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InboundReason {
    /// When, milliseconds since 1970.
    pub at_ms: i64,
    /// A sentence.
    pub why: String,
}

/// What a server has sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InboundSeen {
    /// Which.
    pub server: OwnedServerName,
    /// Since when the counts count, milliseconds since 1970: a server is counted from the first time that it is added.
    pub since_ms: i64,
    /// When it was there last, milliseconds since 1970.
    pub last_seen_ms: i64,
    /// Until when nothing is heard of its users, milliseconds since 1970; 0: it never was so.
    pub quarantined_until_ms: i64,
    /// What was refused last and why, the newest last; of the process that has refused something last.
    pub reasons: Vec<InboundReason>,
    /// How much of what.
    pub counts: InboundCounts,
}

impl InboundSeen {
    /// A server that was there at this moment, and has sent nothing.
    pub fn at(server: OwnedServerName, at_ms: i64) -> Self {
        Self {
            server,
            since_ms: at_ms,
            last_seen_ms: at_ms,
            quarantined_until_ms: 0,
            reasons: Vec::new(),
            counts: InboundCounts::default(),
        }
    }
}

fn reasons_text(reasons: &[InboundReason]) -> String {
    let reasons = reasons.iter().map(|one| (one.at_ms, one.why.as_str()));
    let reasons: Vec<(i64, &str)> = reasons.collect();
    serde_json::to_string(&reasons).unwrap_or_else(|_| "[]".to_owned())
}

fn seen_of(row: &ReadRow) -> Result<InboundSeen> {
    let reasons: String = row.get("reasons")?;
    let reasons: Vec<(i64, String)> = serde_json::from_str(&reasons).unwrap_or_default();
    let reasons = reasons.into_iter();
    Ok(InboundSeen {
        server: row.get("server")?,
        since_ms: row.get("since_ms")?,
        last_seen_ms: row.get("last_seen_ms")?,
        quarantined_until_ms: row.get("quarantined_until_ms")?,
        reasons: reasons
            .map(|(at_ms, why)| InboundReason { at_ms, why })
            .collect(),
        counts: InboundCounts::read(row)?,
    })
}

impl Store {
    /// Adds what was counted since the last time, and notes what else is newer.
    pub async fn add_inbound(&self, seen: &[InboundSeen]) -> Result<()> {
        self.add_inbound_among(seen, MAX_SERVERS).await
    }

    async fn add_inbound_among(&self, seen: &[InboundSeen], most: usize) -> Result<()> {
        let mut rows: Vec<SeenRow<'_>> = seen.iter().map(SeenRow::of).collect();
        // One order for all processes, so that they don't wait for each other crosswise.
        rows.sort_unstable_by_key(|row| row.server);
        for piece in rows.chunks(PIECE) {
            let query = self.sql(ADD).rows(piece).bind(most);
            self.execute(query).await?;
        }
        Ok(())
    }

    /// What a server has sent lately.
    pub async fn inbound_of(&self, server: &ServerName) -> Result<Option<InboundSeen>> {
        let query = self.sql(OF).bind(server);
        self.row(query).await?.as_ref().map(seen_of).transpose()
    }

    /// The servers that have made most work, the most first.
    pub async fn inbound_most(&self, limit: usize) -> Result<Vec<InboundSeen>> {
        let query = self.sql(MOST).bind(limit);
        self.rows(query).await?.iter().map(seen_of).collect()
    }
}

#[cfg(test)]
mod tests {
    use ruma::server_name;

    use super::*;
    use crate::testing::{count_rows, each_database};

    fn seen(server: &ServerName, at_ms: i64, accepted: u64) -> InboundSeen {
        InboundSeen {
            counts: InboundCounts {
                requests: 1,
                accepted,
                work_us: accepted * 10,
                ..InboundCounts::default()
            },
            ..InboundSeen::at(server.to_owned(), at_ms)
        }
    }

    /// Two processes count, and neither takes anything from the other.
    #[tokio::test]
    async fn what_several_have_counted_is_added_up() {
        each_database(async |store: Store| {
            let (a, b) = (server_name!("a.example"), server_name!("b.example:8448"));
            assert_eq!(store.inbound_of(a).await.unwrap(), None);
            store.add_inbound(&[]).await.unwrap();
            let why = |at_ms, why: &str| InboundReason {
                at_ms,
                why: why.to_owned(),
            };
            let mut first = seen(a, 50, 3);
            first.quarantined_until_ms = 900;
            first.reasons = vec![why(40, "hostile \u{0} ' \" é"), why(50, "late")];
            let both = [seen(b, 60, 9), first.clone()];
            store.add_inbound(&both).await.unwrap();
            let kept = store.inbound_of(a).await.unwrap().unwrap();
            assert_eq!(kept, first);
            // The other process was behind, and knows of no quarantine.
            store.add_inbound(&[seen(a, 45, 4)]).await.unwrap();
            let kept = store.inbound_of(a).await.unwrap().unwrap();
            assert_eq!((kept.counts.requests, kept.counts.accepted), (2, 7));
            assert_eq!((kept.since_ms, kept.last_seen_ms), (50, 50));
            assert_eq!(kept.quarantined_until_ms, 900);
            assert_eq!(kept.reasons, first.reasons);

            let most = store.inbound_most(9).await.unwrap();
            let names: Vec<&str> = most.iter().map(|one| one.server.as_str()).collect();
            assert_eq!(names, ["b.example:8448", "a.example"]);
            assert_eq!(store.inbound_most(1).await.unwrap(), most[..1]);
        })
        .await;
    }

    /// However many names strangers have.
    #[tokio::test]
    async fn there_are_so_many_servers_and_no_more() {
        each_database(async |store: Store| {
            let name = |n: usize| OwnedServerName::try_from(format!("s{n}.example")).unwrap();
            let add = async |names: std::ops::Range<usize>, at_ms| {
                let seen: Vec<_> = names.map(|n| seen(&name(n), at_ms, 1)).collect();
                store.add_inbound_among(&seen, 3).await.unwrap();
            };
            add(0..3, 1).await;
            add(2..6, 2).await;
            assert_eq!(count_rows(&store, "inbound_seen").await, 3);
            let known = store.inbound_of(&name(2)).await.unwrap().unwrap();
            assert_eq!((known.counts.accepted, known.last_seen_ms), (2, 2));
            assert_eq!(store.inbound_of(&name(3)).await.unwrap(), None);
        })
        .await;
    }
}
