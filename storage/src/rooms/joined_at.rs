//! Who of this server was joined to rooms at a position of the log: what a reader that is behind goes by.

use std::collections::{HashMap, HashSet};

use rhizome_protocol::Membership;
use ruma::ServerName;

use crate::engine::sql::Columns as _;
use crate::{EventNo, Pos, Result, RoomNo, Store, UserNo};

impl Store {
    /// The users of a server who were joined to these rooms at a position, by room. Rooms in which none was aren't named.
    pub async fn joined_here_at(
        &self,
        rooms: &[RoomNo],
        server: &ServerName,
        at: Pos,
    ) -> Result<HashMap<RoomNo, Vec<UserNo>>> {
        let mut joined: HashMap<RoomNo, Vec<UserNo>> = HashMap::new();
        let Some(server) = self.known_server(server).await? else {
            return Ok(joined);
        };
        // Whose membership has been the same since then is that; of the others it is looked up what they were.
        let query = self
            .sql(
                "SELECT m.room, m.user_no, m.since FROM membership m \
                 JOIN user_name u ON u.no = m.user_no WHERE m.room IN NUMBERS($1) \
                 AND (m.membership = 1 OR m.since > $3) AND u.server = $2",
            )
            .numbers(rooms.iter().copied())
            .bind(server)
            .bind(at);
        let mut moved = HashSet::new();
        for row in self.rows(query).await? {
            let (room, user): (RoomNo, UserNo) = (row.get("room")?, row.get("user_no")?);
            if row.get::<Pos>("since")? > at {
                moved.insert((room, user));
            } else {
                joined.entry(room).or_default().push(user);
            }
        }
        for (room, user) in self.were_joined(moved, at).await? {
            joined.entry(room).or_default().push(user);
        }
        Ok(joined)
    }

    /// Those who were joined before their first change after a position.
    async fn were_joined(
        &self,
        mut moved: HashSet<(RoomNo, UserNo)>,
        at: Pos,
    ) -> Result<Vec<(RoomNo, UserNo)>> {
        if moved.is_empty() {
            return Ok(Vec::new());
        }
        let rooms: HashSet<RoomNo> = moved.iter().map(|(room, _)| *room).collect();
        let users: HashSet<UserNo> = moved.iter().map(|(_, user)| *user).collect();
        let query = self
            .sql(
                "SELECT room, member, old_event FROM state_change WHERE room IN NUMBERS($1) \
                 AND member IN NUMBERS($2) AND pos > $3 ORDER BY pos",
            )
            .numbers(rooms)
            .numbers(users)
            .bind(at);
        let mut before: HashMap<EventNo, Vec<(RoomNo, UserNo)>> = HashMap::new();
        for row in self.rows(query).await? {
            let who = (row.get("room")?, row.get("member")?);
            if !moved.remove(&who) {
                continue;
            }
            if let Some(event) = row.get::<Option<EventNo>>("old_event")? {
                before.entry(event).or_default().push(who);
            }
        }
        let events: Vec<EventNo> = before.keys().copied().collect();
        let events = self.events_by_no(&events).await?;
        let joined = events
            .iter()
            .filter(|event| event.pdu.membership() == Some(Membership::Join));
        Ok(joined
            .flat_map(|event| before.remove(&event.no).unwrap_or_default())
            .collect())
    }

    /// Whose devices or keys have changed last with `after < pos ≤ upto`, at most `limit`, in the order of these changes.
    pub async fn device_lists_changed(
        &self,
        after: Pos,
        upto: Pos,
        limit: usize,
    ) -> Result<Vec<(Pos, UserNo)>> {
        let query = self
            .sql(
                "SELECT pos, user_no FROM device_list WHERE pos > $1 AND pos <= $2 \
                 ORDER BY pos LIMIT $3",
            )
            .bind(after)
            .bind(upto)
            .bind(limit);
        let rows = self.rows(query).await?;
        let rows = rows.iter();
        rows.map(|row| Ok((row.get("pos")?, row.get("user_no")?)))
            .collect()
    }
}
