//! What connections of sliding sync have been told (MSC4186): kept so that another process, or this one after a restart,
//! goes on from there. Nobody is told of it.
//!
//! A connection stands at a version, with what it was told of each room by then. An answer that tells more makes a version
//! upon that, which holds what differs; when the client shows that version, it has got the answer, and the difference
//! becomes part of what the connection stands at: with the next step, since until then the version says as much.

pub(crate) mod purge;
mod read;

use std::collections::BTreeMap;

use ruma::OwnedDeviceId;
use serde::{Deserialize, Serialize};

use super::{Kind, last_of_each};
use crate::engine::sql::rows;
use crate::engine::sql::statement::Statements;
use crate::{Pos, Result, RoomNo, UserNo};

pub use read::SlidingConnection;

/// How many connections a device may have; beyond, those go that were used longest ago.
const MOST_OF_DEVICE: i64 = 16;

/// What a client was told of a room.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SlidingRoom {
    /// Up to where; `None`: up to the connection's last answer.
    pub upto: Option<Pos>,
    /// How many of the newest events it surely has.
    pub timeline: u32,
    /// Which of the connection's configurations says what state it has.
    pub config: u16,
    /// Whether it was told that this is a direct chat.
    pub direct: bool,
    /// Which profiles of its members it was told; `None`: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub profiles: Option<ToldProfiles>,
}

/// That a client was told the profiles of a room's members.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ToldProfiles {
    /// A number of what it asked for, which isn't 0.
    pub asked: i64,
    /// Up to which member it was told; `None`: all.
    pub upto: Option<UserNo>,
}

/// A step of a connection.
#[derive(Debug, Clone)]
pub struct SlidingStep {
    /// The connection.
    pub connection: i64,
    /// Whose.
    pub user: UserNo,
    /// Of which device.
    pub device: OwnedDeviceId,
    /// What the client calls it.
    pub conn_id: String,
    /// It takes the place of others with this name.
    pub is_new: bool,
    /// At which version it stands.
    pub version: i64,
    /// What became part of what it stands at: other versions go.
    pub confirmed: Option<Vec<(RoomNo, SlidingRoom)>>,
    /// A version upon that, with what differs.
    pub next: Option<(i64, Vec<(RoomNo, SlidingRoom)>)>,
    /// A version that nobody will ask for any more.
    pub gone: Option<i64>,
    /// The configurations.
    pub configs: String,
    /// Now.
    pub now_ms: i64,
}

rows! {
    struct Connection<'a> {
        no: i64,
        user_no: UserNo,
        device_id: &'a OwnedDeviceId,
        conn_id: &'a str,
        version: i64,
        configs: &'a str,
        seen_ms: i64,
        most: i64,
    }
}

rows! {
    struct Room {
        connection: i64,
        room: RoomNo,
        upto: Pos,
        timeline: i64,
        config: i64,
        direct: bool,
        profiles: i64,
        profiles_upto: i64,
    }
}

rows! {
    struct Version {
        connection: i64,
        version: i64,
        rooms: String,
    }
}

rows! {
    struct Of {
        connection: i64,
    }
}

/// Connections that others with their names replace, and those that a device has too many of.
macro_rules! replaced {
    ($delete:literal) => {
        concat!(
            $delete,
            " IN (SELECT c.no FROM ROWS($1) AS x JOIN sliding_connection c ON c.user_no = x.user_no \
             AND c.device_id = x.device_id AND c.conn_id = x.conn_id AND c.no <> x.no)"
        )
    };
}

macro_rules! too_many {
    ($delete:literal) => {
        concat!(
            $delete,
            " IN (SELECT n.no FROM (SELECT c.no, x.most, ROW_NUMBER() OVER (\
             PARTITION BY c.user_no, c.device_id ORDER BY c.seen_ms DESC, c.no DESC) AS place \
             FROM (SELECT DISTINCT user_no, device_id, most FROM ROWS($1) AS y) AS x \
             JOIN sliding_connection c ON c.user_no = x.user_no AND c.device_id = x.device_id) AS n \
             WHERE n.place > n.most)"
        )
    };
}

impl Kind for SlidingStep {
    type Basis = ();

    fn write(facts: &[(i64, &Self)], (): &(), statements: &mut Statements) -> Result<()> {
        let key = |step: &Self| step.connection;
        let new: Vec<_> = facts
            .iter()
            .filter(|(_, step)| step.is_new)
            .copied()
            .collect();
        let new = last_of_each(&new, key, |_, step| connection(step));
        statements.before(replaced!("DELETE FROM sliding_room WHERE connection"), &new)?;
        statements.before(
            replaced!("DELETE FROM sliding_version WHERE connection"),
            &new,
        )?;
        statements.before(replaced!("DELETE FROM sliding_connection WHERE no"), &new)?;
        statements.before(
            "INSERT INTO sliding_connection (no, user_no, device_id, conn_id, version, configs, seen_ms) \
             SELECT no, user_no, device_id, conn_id, version, configs, seen_ms FROM ROWS($1) AS x WHERE true \
             ON CONFLICT (no) DO UPDATE SET version = excluded.version, configs = excluded.configs, \
             seen_ms = excluded.seen_ms",
            &last_of_each(facts, key, |_, step| connection(step)),
        )?;
        let confirmed = facts.iter().filter(|(_, step)| step.confirmed.is_some());
        let confirmed: Vec<_> = confirmed.copied().collect();
        statements.before(
            "DELETE FROM sliding_version WHERE connection IN (SELECT connection FROM ROWS($1) AS x)",
            &last_of_each(&confirmed, key, |_, step| Of {
                connection: step.connection,
            }),
        )?;
        write_rooms(facts, statements)?;
        write_versions(facts, statements)?;
        statements.before(too_many!("DELETE FROM sliding_room WHERE connection"), &new)?;
        statements.before(
            too_many!("DELETE FROM sliding_version WHERE connection"),
            &new,
        )?;
        statements.before(too_many!("DELETE FROM sliding_connection WHERE no"), &new)
    }
}

fn connection(step: &SlidingStep) -> Connection<'_> {
    Connection {
        no: step.connection,
        user_no: step.user,
        device_id: &step.device,
        conn_id: &step.conn_id,
        version: step.version,
        configs: &step.configs,
        seen_ms: step.now_ms,
        most: MOST_OF_DEVICE,
    }
}

fn write_rooms(facts: &[(i64, &SlidingStep)], statements: &mut Statements) -> Result<()> {
    let mut rooms = BTreeMap::new();
    for (_, step) in facts {
        for (room, told) in step.confirmed.iter().flatten() {
            let row = Room {
                connection: step.connection,
                room: *room,
                upto: told.upto.unwrap_or(Pos(0)),
                timeline: told.timeline.into(),
                config: told.config.into(),
                direct: told.direct,
                profiles: told.profiles.map_or(0, |it| it.asked),
                profiles_upto: told.profiles.and_then(|it| it.upto).map_or(0, |it| it.0),
            };
            rooms.insert((step.connection, *room), row);
        }
    }
    statements.before(
        "INSERT INTO sliding_room \
         (connection, room, upto, timeline, config, direct, profiles, profiles_upto) \
         SELECT connection, room, upto, timeline, config, direct, profiles, profiles_upto \
         FROM ROWS($1) AS x WHERE true \
         ON CONFLICT (connection, room) DO UPDATE SET upto = excluded.upto, \
         timeline = excluded.timeline, config = excluded.config, direct = excluded.direct, \
         profiles = excluded.profiles, profiles_upto = excluded.profiles_upto",
        &rooms.into_values().collect::<Vec<_>>(),
    )
}

fn write_versions(facts: &[(i64, &SlidingStep)], statements: &mut Statements) -> Result<()> {
    let (mut next, mut gone) = (Vec::new(), Vec::new());
    for (_, step) in facts {
        let connection = step.connection;
        let row = |version, rooms| Version {
            connection,
            version,
            rooms,
        };
        if let Some((version, rooms)) = &step.next {
            next.push(row(*version, serde_json::to_string(rooms)?));
        }
        gone.extend(step.gone.map(|version| row(version, String::new())));
    }
    statements.before(
        "INSERT INTO sliding_version (connection, version, rooms) \
         SELECT connection, version, rooms FROM ROWS($1) AS x WHERE true \
         ON CONFLICT (connection, version) DO NOTHING",
        &next,
    )?;
    statements.before(
        "DELETE FROM sliding_version WHERE (connection, version) IN \
         (SELECT connection, version FROM ROWS($1) AS x)",
        &gone,
    )
}
