//! Who is where.

use std::collections::HashMap;
use std::sync::Arc;

use rhizome_protocol::Membership;
use ruma::{OwnedServerName, ServerName};

use crate::engine::sql::{Columns as _, ReadRow, rows};
use crate::{EventNo, Pos, Result, RoomNo, Store, UserNo};

/// A user's membership in a room, seen from the user.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MembershipRow {
    /// The room.
    pub room: RoomNo,
    /// What it is.
    pub membership: Membership,
    /// The member event; `None` for an invite to a room that we aren't in.
    pub event: Option<EventNo>,
    /// When the member event became current.
    pub pos: Pos,
    /// When it became this membership: a change of profile doesn't move it.
    pub since: Pos,
    /// Whether the user has forgotten the room.
    pub forgotten: bool,
}

/// A member, seen from the room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Member {
    /// Who.
    pub user: UserNo,
    /// What.
    pub membership: Membership,
    /// The member event.
    pub event: Option<EventNo>,
}

/// How many members a room has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct MemberCounts {
    /// Joined.
    pub joined: i64,
    /// Invited.
    pub invited: i64,
}

impl Store {
    /// The user's memberships in all rooms, cached while they don't change.
    pub async fn memberships_of(&self, user: UserNo) -> Result<Arc<[MembershipRow]>> {
        let cache = &self.core.caches.memberships;
        if let Some(rows) = cache.get(&user) {
            return Ok(rows);
        }
        let moment = cache.moment();
        let query = self
            .sql(
                "SELECT room, membership, event, pos, since, forgotten FROM membership \
                 WHERE user_no = $1 ORDER BY room",
            )
            .bind(user);
        let rows = self.rows(query).await?;
        let rows: Arc<[_]> = rows.iter().map(membership_row).collect::<Result<_>>()?;
        cache.insert_since(moment, user, rows.clone(), rows.len() + 1);
        Ok(rows)
    }

    /// The user's membership in one room.
    pub async fn membership(&self, user: UserNo, room: RoomNo) -> Result<Option<MembershipRow>> {
        if let Some(rows) = self.core.caches.memberships.get(&user) {
            let found = rows.binary_search_by_key(&room, |row| row.room);
            return Ok(found.ok().map(|index| rows[index]));
        }
        let query = self
            .sql(
                "SELECT room, membership, event, pos, since, forgotten FROM membership \
                 WHERE user_no = $1 AND room = $2",
            )
            .bind(user)
            .bind(room);
        self.row(query)
            .await?
            .as_ref()
            .map(membership_row)
            .transpose()
    }

    /// The room's members with this membership, or all, by user number.
    pub async fn members(
        &self,
        room: RoomNo,
        membership: Option<Membership>,
    ) -> Result<Vec<Member>> {
        let query = match membership {
            Some(membership) => self
                .sql(
                    "SELECT user_no, membership, event FROM membership \
                     WHERE room = $1 AND membership = $2 ORDER BY user_no",
                )
                .bind(room)
                .bind(membership),
            None => self
                .sql(
                    "SELECT user_no, membership, event FROM membership \
                     WHERE room = $1 ORDER BY user_no",
                )
                .bind(room),
        };
        self.rows(query).await?.iter().map(member).collect()
    }

    /// Who is joined to the room now and has been since a position or longer.
    pub async fn members_since(&self, room: RoomNo, pos: Pos) -> Result<Vec<UserNo>> {
        let query = self
            .sql(
                "SELECT user_no FROM membership WHERE room = $1 AND membership = $2 AND since <= $3",
            )
            .bind(room)
            .bind(Membership::Join)
            .bind(pos);
        let rows = self.rows(query).await?;
        rows.iter().map(|row| row.get("user_no")).collect()
    }

    /// Those of these rooms in which exactly two are joined.
    pub async fn rooms_of_two(&self, rooms: &[RoomNo]) -> Result<Vec<RoomNo>> {
        let query = self
            .sql(
                "SELECT room FROM room_server WHERE room IN NUMBERS($1) \
                 GROUP BY room HAVING SUM(joined) = 2",
            )
            .numbers(rooms.iter().copied());
        let rows = self.rows(query).await?;
        rows.iter().map(|row| row.get("room")).collect()
    }

    /// At most `limit` joined members of the room who are users of this server.
    pub async fn joined_of_server(
        &self,
        room: RoomNo,
        server: &ServerName,
        limit: usize,
    ) -> Result<Vec<UserNo>> {
        let Some(server) = self.known_server(server).await? else {
            return Ok(Vec::new());
        };
        let query = self
            .sql(
                "SELECT m.user_no FROM membership m JOIN user_name u ON u.no = m.user_no \
                 WHERE m.room = $1 AND m.membership = 1 AND u.server = $2 \
                 ORDER BY m.user_no LIMIT $3",
            )
            .bind(room)
            .bind(server)
            .bind(limit);
        let rows = self.rows(query).await?;
        rows.iter().map(|row| row.get("user_no")).collect()
    }

    /// The first `limit` joined members of the room with a number after `after` who are users of this server,
    /// and since when.
    pub async fn joined_here(
        &self,
        room: RoomNo,
        server: &ServerName,
        after: UserNo,
        limit: usize,
    ) -> Result<Vec<(UserNo, Pos)>> {
        let Some(server) = self.known_server(server).await? else {
            return Ok(Vec::new());
        };
        let query = self
            .sql(
                "SELECT m.user_no, m.since FROM membership m JOIN user_name u ON u.no = m.user_no \
                 WHERE m.room = $1 AND m.membership = 1 AND u.server = $2 AND m.user_no > $3 \
                 ORDER BY m.user_no LIMIT $4",
            )
            .bind(room)
            .bind(server)
            .bind(after)
            .bind(limit);
        let rows = self.rows(query).await?;
        rows.iter()
            .map(|row| Ok((row.get("user_no")?, row.get("since")?)))
            .collect()
    }

    /// Whether a user of this server has been joined since this position at the latest.
    pub async fn server_is_in_since(
        &self,
        room: RoomNo,
        server: &ServerName,
        upto: Pos,
    ) -> Result<bool> {
        let Some(server) = self.known_server(server).await? else {
            return Ok(false);
        };
        let query = self
            .sql(
                "SELECT m.user_no FROM membership m JOIN user_name u ON u.no = m.user_no \
                 WHERE m.room = $1 AND m.membership = 1 AND u.server = $2 AND m.since <= $3 LIMIT 1",
            )
            .bind(room)
            .bind(server)
            .bind(upto);
        Ok(self.row(query).await?.is_some())
    }

    /// How many members the room has now.
    pub async fn member_counts(&self, room: RoomNo) -> Result<MemberCounts> {
        let head = self.room_by_no(room).await?;
        Ok(
            head.map_or_else(MemberCounts::default, |head| MemberCounts {
                joined: head.joined,
                invited: head.invited,
            }),
        )
    }

    /// The first `count` members besides `except`, joined or invited, in the order in which they became that;
    /// if there are none, those who left or are banned.
    pub async fn heroes(&self, room: RoomNo, except: UserNo, count: usize) -> Result<Vec<Member>> {
        let present = [Membership::Join, Membership::Invite];
        let gone = [Membership::Leave, Membership::Ban];
        for [one, other] in [present, gone] {
            let query = self
                .sql(FIRST_MEMBERS)
                .bind(room)
                .bind(one)
                .bind(other)
                .bind(except)
                .bind(count);
            let rows = self.rows(query).await?;
            if !rows.is_empty() {
                return rows.iter().map(member).collect();
            }
        }
        Ok(Vec::new())
    }

    /// The same of many rooms at once: of each its [`Store::heroes`], if it has any.
    pub async fn heroes_of(
        &self,
        rooms: &[RoomNo],
        except: UserNo,
        count: usize,
    ) -> Result<HashMap<RoomNo, Vec<Member>>> {
        let present = [Membership::Join, Membership::Invite];
        let gone = [Membership::Leave, Membership::Ban];
        let mut heroes: HashMap<RoomNo, Vec<Member>> = HashMap::new();
        for [one, other] in [present, gone] {
            let left = rooms.iter().filter(|room| !heroes.contains_key(room));
            let left: Vec<_> = left.map(|room| RoomRow { room: *room }).collect();
            if left.is_empty() {
                break;
            }
            let query = self
                .sql(FIRST_MEMBERS_OF)
                .rows(&left)
                .bind(one)
                .bind(other)
                .bind(except)
                .bind(count);
            for row in self.rows(query).await? {
                let members = heroes.entry(row.get("room")?).or_default();
                members.push(member(&row)?);
            }
        }
        Ok(heroes)
    }

    /// The servers with joined members.
    pub async fn joined_servers(&self, room: RoomNo) -> Result<Arc<[OwnedServerName]>> {
        let cache = &self.core.caches.joined_servers;
        if let Some(servers) = cache.get(&room) {
            return Ok(servers);
        }
        let moment = cache.moment();
        let query = self
            .sql(
                "SELECT s.name FROM room_server r JOIN server_name s ON s.no = r.server \
                 WHERE r.room = $1 AND r.joined > 0 ORDER BY s.no",
            )
            .bind(room);
        let rows = self.rows(query).await?;
        let servers: Arc<[_]> = rows
            .iter()
            .map(|row| row.get("name"))
            .collect::<Result<_>>()?;
        cache.insert_since(moment, room, servers.clone(), servers.len() + 1);
        Ok(servers)
    }

    /// The rooms in which the server has a joined member.
    pub async fn rooms_of_server(&self, server: &ServerName) -> Result<Vec<RoomNo>> {
        let Some(server) = self.known_server(server).await? else {
            return Ok(Vec::new());
        };
        let query = self
            .sql("SELECT room FROM room_server WHERE server = $1 AND joined > 0 ORDER BY room")
            .bind(server);
        let rows = self.rows(query).await?;
        rows.iter().map(|row| row.get("room")).collect()
    }

    /// Those of some users who share a room (both joined) with `user`.
    pub async fn sharing_rooms(&self, user: UserNo, among: &[UserNo]) -> Result<Vec<UserNo>> {
        let query = self
            .sql(
                "SELECT DISTINCT b.user_no FROM membership b \
                 JOIN membership a ON a.room = b.room AND a.user_no = $1 AND a.membership = 1 \
                 WHERE b.user_no IN NUMBERS($2) AND b.membership = 1",
            )
            .bind(user)
            .numbers(among.iter().copied());
        let rows = self.rows(query).await?;
        rows.iter().map(|row| row.get("user_no")).collect()
    }
}

/// Members of two kinds, in the order of their coming; each kind by the index. Those who were there when we
/// came into the room have come at the same time: then in the order in which their events were numbered, each
/// after what it rests on.
const FIRST_MEMBERS: &str = "\
    SELECT user_no, membership, event FROM (\
    SELECT * FROM (SELECT user_no, membership, event, since FROM membership \
    WHERE room = $1 AND membership = $2 AND user_no <> $4 \
    ORDER BY since, event LIMIT $5) AS one \
    UNION ALL \
    SELECT * FROM (SELECT user_no, membership, event, since FROM membership \
    WHERE room = $1 AND membership = $3 AND user_no <> $4 \
    ORDER BY since, event LIMIT $5) AS other) AS members \
    ORDER BY since, event, user_no LIMIT $5";

/// The same of the rooms in `$1`.
const FIRST_MEMBERS_OF: &str = "\
    SELECT m.room, m.user_no, m.membership, m.event FROM ROWS($1) AS x \
    JOIN membership m ON m.room = x.room AND m.user_no <> $4 AND m.user_no IN (\
    SELECT user_no FROM (\
    SELECT * FROM (SELECT user_no, event, since FROM membership \
    WHERE room = x.room AND membership = $2 AND user_no <> $4 \
    ORDER BY since, event LIMIT $5) AS one \
    UNION ALL \
    SELECT * FROM (SELECT user_no, event, since FROM membership \
    WHERE room = x.room AND membership = $3 AND user_no <> $4 \
    ORDER BY since, event LIMIT $5) AS other) AS members \
    ORDER BY since, event, user_no LIMIT $5) \
    ORDER BY m.room, m.since, m.event, m.user_no";

rows! {
    struct RoomRow {
        room: RoomNo,
    }
}

fn membership_row(row: &ReadRow) -> Result<MembershipRow> {
    Ok(MembershipRow {
        room: row.get("room")?,
        membership: row.get("membership")?,
        event: row.get("event")?,
        pos: row.get("pos")?,
        since: row.get("since")?,
        forgotten: row.get("forgotten")?,
    })
}

pub(super) fn member(row: &ReadRow) -> Result<Member> {
    Ok(Member {
        user: row.get("user_no")?,
        membership: row.get("membership")?,
        event: row.get("event")?,
    })
}
