//! Rooms as an administrator looks through them: chosen, in an order, a page at a time; and who is in one.

use ruma::{OwnedRoomId, ServerName};

use crate::engine::db::literally;
use crate::engine::sql::{Columns as _, Query, ReadRow};
use crate::{Result, RoomNo, Store, UserNo};

/// So many rooms' summaries are written together.
const PIECE: usize = 500;

/// A room that this server is or was in, as an administrator sees it. What it is called and how it is joined, its summary says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoomOverview {
    /// The room's number.
    pub room: RoomNo,
    /// Its id.
    pub room_id: OwnedRoomId,
    /// Its version.
    pub version: String,
    /// Who has made it.
    pub creator: Option<String>,
    /// How many are joined.
    pub joined: i64,
    /// How many of them are users of this server.
    pub joined_here: i64,
    /// Whether it is in the public directory.
    pub public: bool,
    /// How many entries its current state has.
    pub state_events: i64,
}

/// Which rooms: all that is said holds of each.
#[derive(Debug, Clone, Default)]
pub struct RoomQuery {
    /// They have this in their names, or in their main alias before the colon; or it is the room's id.
    pub term: Option<String>,
    /// They are in the public directory, or aren't.
    pub public: Option<bool>,
    /// Nobody is joined, or somebody is.
    pub empty: Option<bool>,
}

/// By what rooms are put in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "as in RoomOverview and RoomSummary")]
pub enum RoomOrder {
    Name,
    Alias,
    Joined,
    JoinedHere,
    Version,
    Creator,
    Encryption,
    Federate,
    Public,
    JoinRule,
    GuestAccess,
    HistoryVisibility,
    StateEvents,
}

macro_rules! joined_here {
    ($server:literal) => {
        concat!(
            "COALESCE((SELECT h.joined FROM room_server h WHERE h.room = r.no AND h.server = ",
            $server,
            "), 0)"
        )
    };
}

macro_rules! state_events {
    () => {
        "(SELECT COUNT(*) FROM current_state c WHERE c.room = r.no)"
    };
}

macro_rules! tables {
    () => {
        "FROM room r LEFT JOIN room_summary s ON s.room = r.no "
    };
}

macro_rules! chosen {
    () => {
        "WHERE r.version IS NOT NULL \
         AND (CAST($1 AS TEXT) IS NULL OR LOWER(s.name) LIKE LOWER('%' || $1 || '%') ESCAPE '!' \
         OR LOWER(s.alias) LIKE LOWER('#%' || $1 || '%:%') ESCAPE '!' OR r.room_id = $4) \
         AND (CAST($2 AS BIGINT) IS NULL OR r.public = $2) \
         AND (CAST($3 AS BIGINT) IS NULL OR $3 = CASE WHEN r.joined = 0 THEN 1 ELSE 0 END) "
    };
}

macro_rules! columns {
    ($server:literal) => {
        concat!(
            "SELECT r.no AS no, r.room_id AS room_id, r.version AS version, s.creator AS creator, \
             r.joined AS joined, r.public AS public, ",
            joined_here!($server),
            " AS joined_here, ",
            state_events!(),
            " AS state_events "
        )
    };
}

/// The page is cut before what only it needs is counted.
macro_rules! page {
    ($key:expr, $direction:literal) => {
        concat!(
            columns!("$5"),
            "FROM (SELECT r.no AS no, ",
            $key,
            " AS k ",
            tables!(),
            chosen!(),
            "ORDER BY k",
            $direction,
            ", r.room_id LIMIT $6 OFFSET $7) AS p JOIN room r ON r.no = p.no \
             LEFT JOIN room_summary s ON s.room = r.no ORDER BY p.k",
            $direction,
            ", r.room_id"
        )
    };
}

macro_rules! both {
    ($key:expr) => {
        [page!($key, ""), page!($key, " DESC")]
    };
}

impl RoomOrder {
    /// The statement for a page, forwards and backwards.
    fn statements(self) -> [&'static str; 2] {
        match self {
            Self::Name => both!("COALESCE(LOWER(s.name), '')"),
            Self::Alias => both!("COALESCE(s.alias, '')"),
            Self::Joined => both!("r.joined"),
            Self::JoinedHere => both!(joined_here!("$5")),
            Self::Version => both!("r.version"),
            Self::Creator => both!("COALESCE(s.creator, '')"),
            Self::Encryption => both!("COALESCE(s.encryption, '')"),
            Self::Federate => both!("COALESCE(s.federate, 1)"),
            Self::Public => both!("r.public"),
            Self::JoinRule => both!("COALESCE(s.join_rule, '')"),
            Self::GuestAccess => both!("COALESCE(s.guest_access, '')"),
            Self::HistoryVisibility => both!("COALESCE(s.history_visibility, '')"),
            Self::StateEvents => both!(state_events!()),
        }
    }
}

const COUNT: &str = concat!("SELECT COUNT(*) AS n ", tables!(), chosen!());
const ONE: &str = concat!(
    columns!("$2"),
    tables!(),
    "WHERE r.no = $1 AND r.version IS NOT NULL"
);

impl Store {
    /// A page of the rooms that this server is or was in, in this order: `limit` of them after so many; and how many there are in
    /// all.
    pub async fn room_page(
        &self,
        here: &ServerName,
        which: &RoomQuery,
        (order, backwards): (RoomOrder, bool),
        (from, limit): (usize, usize),
    ) -> Result<(Vec<RoomOverview>, usize)> {
        self.fill_all_summaries().await?;
        let server = self.known_server(here).await?;
        let bind = |query: Query| {
            query
                .bind(which.term.as_deref().map(literally))
                .bind(which.public)
                .bind(which.empty)
                .bind(which.term.as_deref())
        };
        let count = self.row(bind(self.sql(COUNT))).await?;
        let total = count.map_or(Ok(0), |row| row.get("n"))?;
        let [forwards, back] = order.statements();
        let query = self.sql(if backwards { back } else { forwards });
        let rows = self
            .rows(bind(query).bind(server).bind(limit).bind(from))
            .await?;
        let rooms = rows.iter().map(read).collect::<Result<_>>()?;
        Ok((rooms, total))
    }

    /// A room that this server is or was in.
    pub async fn room_overview(
        &self,
        here: &ServerName,
        room: RoomNo,
    ) -> Result<Option<RoomOverview>> {
        self.fill_summaries(&[room]).await?;
        let server = self.known_server(here).await?;
        let row = self.row(self.sql(ONE).bind(room).bind(server)).await?;
        row.as_ref().map(read).transpose()
    }

    /// Writes the summaries that rooms of before don't have.
    pub(crate) async fn fill_all_summaries(&self) -> Result<()> {
        let mut after = RoomNo(0);
        loop {
            let query = self
                .sql(
                    "SELECT r.no FROM room r LEFT JOIN room_summary s ON s.room = r.no \
                     WHERE r.no > $1 AND r.version IS NOT NULL AND r.snapshot IS NOT NULL AND s.creator IS NULL \
                     ORDER BY r.no LIMIT $2",
                )
                .bind(after)
                .bind(PIECE);
            let rows = self.rows(query).await?;
            let rooms: Vec<RoomNo> = rows
                .iter()
                .map(|row| row.get("no"))
                .collect::<Result<_>>()?;
            self.fill_summaries(&rooms).await?;
            match rooms.last() {
                Some(last) if rooms.len() == PIECE => after = *last,
                _ => return Ok(()),
            }
        }
    }

    /// So many of those who are joined to a room, after so many.
    pub async fn joined_page(
        &self,
        room: RoomNo,
        (from, limit): (usize, usize),
    ) -> Result<Vec<UserNo>> {
        let query = self
            .sql(
                "SELECT user_no FROM membership WHERE room = $1 AND membership = 1 \
                 ORDER BY user_no LIMIT $2 OFFSET $3",
            )
            .bind(room)
            .bind(limit)
            .bind(from);
        let rows = self.rows(query).await?;
        rows.iter().map(|row| row.get("user_no")).collect()
    }

    /// The first users of this server after one who are joined to a room, invited, or knock.
    pub async fn present_here(
        &self,
        room: RoomNo,
        here: &ServerName,
        after: UserNo,
        limit: usize,
    ) -> Result<Vec<UserNo>> {
        let Some(server) = self.known_server(here).await? else {
            return Ok(Vec::new());
        };
        let query = self
            .sql(
                "SELECT m.user_no FROM membership m JOIN user_name u ON u.no = m.user_no \
                 WHERE m.room = $1 AND m.membership IN (1, 2, 5) AND u.server = $2 AND m.user_no > $3 \
                 ORDER BY m.user_no LIMIT $4",
            )
            .bind(room)
            .bind(server)
            .bind(after)
            .bind(limit);
        let rows = self.rows(query).await?;
        rows.iter().map(|row| row.get("user_no")).collect()
    }

    /// How many devices those have who are joined to a room and are users of this server.
    pub async fn devices_in(&self, room: RoomNo) -> Result<usize> {
        let query = self
            .sql(
                "SELECT COUNT(*) AS n FROM membership m JOIN device d ON d.user_no = m.user_no \
                 WHERE m.room = $1 AND m.membership = 1",
            )
            .bind(room);
        let row = self.row(query).await?;
        row.map_or(Ok(0), |row| row.get("n"))
    }

    /// Whether every user of this server who was in a room has forgotten it.
    pub async fn is_forgotten_here(&self, room: RoomNo) -> Result<bool> {
        let query = self
            .sql(
                "SELECT m.user_no FROM membership m JOIN account a ON a.user_no = m.user_no \
                 WHERE m.room = $1 AND m.forgotten = 0 LIMIT 1",
            )
            .bind(room);
        Ok(self.row(query).await?.is_none())
    }
}

fn read(row: &ReadRow) -> Result<RoomOverview> {
    Ok(RoomOverview {
        room: row.get("no")?,
        room_id: row.get("room_id")?,
        version: row.get("version")?,
        creator: row.get("creator")?,
        joined: row.get("joined")?,
        joined_here: row.get("joined_here")?,
        public: row.get("public")?,
        state_events: row.get("state_events")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each order's statement is one of its own, each way.
    #[test]
    fn orders_differ() {
        let mut seen = std::collections::BTreeSet::new();
        for order in [
            RoomOrder::Name,
            RoomOrder::Alias,
            RoomOrder::Joined,
            RoomOrder::JoinedHere,
            RoomOrder::Version,
            RoomOrder::Creator,
            RoomOrder::Encryption,
            RoomOrder::Federate,
            RoomOrder::Public,
            RoomOrder::JoinRule,
            RoomOrder::GuestAccess,
            RoomOrder::HistoryVisibility,
            RoomOrder::StateEvents,
        ] {
            for statement in order.statements() {
                assert!(seen.insert(statement), "{order:?}: {statement}");
            }
        }
    }
}
