//! Rooms in the directory of another network, which an application service keeps. Nothing caches them, and nobody waits for
//! one.

use super::Kind;
use crate::engine::sql::statement::Statements;
use crate::engine::sql::{Columns as _, rows};
use crate::{Result, RoomNo, Store};

/// A room comes into the directory of a network, or goes.
#[derive(Debug, Clone)]
pub struct NetworkListing {
    /// The room.
    pub room: RoomNo,
    /// The network, as one of a service's: its instance id.
    pub instance: String,
    /// Whether it is listed from now on.
    pub listed: bool,
}

rows! {
    struct Row<'a> {
        instance: &'a str,
        room: RoomNo,
    }
}

impl Kind for NetworkListing {
    type Basis = ();

    fn write(facts: &[(i64, &Self)], (): &(), statements: &mut Statements) -> Result<()> {
        // What a group says last of a room counts.
        let last = super::last_of_each(
            facts,
            |fact: &Self| (fact.room, fact.instance.clone()),
            |_, fact| fact,
        );
        let rows = |listed: bool| -> Vec<Row<'_>> {
            let of = last.iter().filter(|fact| fact.listed == listed);
            of.map(|fact| Row {
                instance: &fact.instance,
                room: fact.room,
            })
            .collect()
        };
        statements.before(
            "DELETE FROM network_listing WHERE (instance, room) IN (SELECT instance, room FROM ROWS($1) AS x)",
            &rows(false),
        )?;
        statements.before(
            "INSERT INTO network_listing (instance, room) SELECT instance, room FROM ROWS($1) AS x \
             WHERE true ON CONFLICT (instance, room) DO NOTHING",
            &rows(true),
        )
    }
}

impl Store {
    /// Rooms in the directory of a network; `None`: of any, and those of this server's own. By number, after `after`.
    pub async fn rooms_of_network(
        &self,
        instance: Option<&str>,
        after: RoomNo,
        limit: usize,
    ) -> Result<Vec<RoomNo>> {
        let query = match instance {
            Some(instance) => self
                .sql(
                    "SELECT room AS no FROM network_listing WHERE room > $1 AND instance = $3 \
                     ORDER BY room LIMIT $2",
                )
                .bind(after)
                .bind(limit)
                .bind(instance),
            None => self
                .sql(
                    "SELECT no FROM room WHERE public = 1 AND no > $1 \
                     UNION SELECT room FROM network_listing WHERE room > $1 ORDER BY no LIMIT $2",
                )
                .bind(after)
                .bind(limit),
        };
        let rows = self.rows(query).await?;
        rows.iter().map(|row| row.get("no")).collect()
    }
}

#[cfg(test)]
mod tests {
    use rhizome_protocol::RoomRules;
    use ruma::RoomId;

    use super::*;
    use crate::testing::each_database;
    use crate::{Fact, Listing, NewRoom, RoomWrite, WriteSet};

    async fn room(store: &Store, id: &str) -> RoomNo {
        let room = store.next_room_no().await.unwrap();
        let write = RoomWrite {
            room,
            create: Some(NewRoom {
                room_id: RoomId::parse(id).unwrap(),
                rules: RoomRules::named("11").unwrap(),
            }),
            ..RoomWrite::default()
        };
        let set = WriteSet {
            rooms: vec![write],
            ..WriteSet::default()
        };
        store.commit(set).await.unwrap();
        room
    }

    #[tokio::test]
    async fn a_room_is_listed_where_it_was_put() {
        each_database(async |store| {
            let (a, b) = (room(&store, "!a:here").await, room(&store, "!b:here").await);
            let list = async |room, instance: &str, listed| {
                let instance = instance.to_owned();
                let listing = NetworkListing {
                    room,
                    instance,
                    listed,
                };
                store
                    .commit(WriteSet::from(vec![Fact::from(listing)]))
                    .await
                    .unwrap();
            };
            let of = async |instance: Option<&str>| {
                let rooms = store.rooms_of_network(instance, RoomNo(0), 10).await;
                rooms.unwrap()
            };
            list(a, "irc|one", true).await;
            list(a, "irc|one", true).await;
            list(a, "irc|two", true).await;
            list(b, "irc|two", true).await;
            assert_eq!(of(Some("irc|one")).await, [a]);
            assert_eq!(of(Some("irc|two")).await, [a, b]);
            assert_eq!(of(Some("irc")).await, []);
            assert_eq!(of(None).await, [a, b], "each once");
            assert_eq!(store.public_rooms(RoomNo(0), 10).await.unwrap(), []);
            list(a, "irc|one", false).await;
            list(a, "irc|two", false).await;
            let public = Listing {
                room: a,
                public: true,
            };
            store
                .commit(WriteSet::from(vec![Fact::from(public)]))
                .await
                .unwrap();
            assert_eq!(of(Some("irc|one")).await, []);
            assert_eq!(of(None).await, [a, b]);
            let after = store.rooms_of_network(None, a, 10).await.unwrap();
            assert_eq!(after, [b]);
        })
        .await;
    }
}
