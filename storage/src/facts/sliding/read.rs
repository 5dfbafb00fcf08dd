//! Reading back what a connection was told.

use std::collections::HashMap;

use ruma::DeviceId;

use super::{SlidingRoom, ToldProfiles};
use crate::engine::sql::{Columns as _, ReadRow};
use crate::{Pos, Result, RoomNo, Store, UserNo};

/// What the database knows of a connection.
#[derive(Debug)]
pub struct SlidingConnection {
    /// Its number.
    pub no: i64,
    /// At which version it stands.
    pub version: i64,
    /// The configurations.
    pub configs: String,
    /// When it was used, to within a day.
    pub seen_ms: i64,
    /// What it was told of each room.
    pub rooms: HashMap<RoomNo, SlidingRoom>,
    /// Versions upon that, with what differs.
    pub versions: Vec<(i64, Vec<(RoomNo, SlidingRoom)>)>,
}

impl Store {
    /// The connection of this name that a device has.
    pub async fn sliding_connection(
        &self,
        user: UserNo,
        device: &DeviceId,
        conn_id: &str,
    ) -> Result<Option<SlidingConnection>> {
        let query = self
            .sql(
                "SELECT no, version, configs, seen_ms FROM sliding_connection \
                 WHERE user_no = $1 AND device_id = $2 AND conn_id = $3 \
                 ORDER BY seen_ms DESC, no DESC LIMIT 1",
            )
            .bind(user)
            .bind(device)
            .bind(conn_id);
        let Some(row) = self.row(query).await? else {
            return Ok(None);
        };
        let no: i64 = row.get("no")?;
        let mut connection = SlidingConnection {
            no,
            version: row.get("version")?,
            configs: row.get("configs")?,
            seen_ms: row.get("seen_ms")?,
            rooms: HashMap::new(),
            versions: Vec::new(),
        };
        // Both in one question: a step that is written in between would tear them apart.
        let query = self
            .sql(
                "SELECT c.version AS version, 0 AS next, r.room, r.upto, r.timeline, r.config, r.direct, \
                 r.profiles, r.profiles_upto, NULL AS rooms FROM sliding_connection c JOIN sliding_room r ON r.connection = c.no \
                 WHERE c.no = $1 UNION ALL \
                 SELECT c.version, v.version, 0, 0, 0, 0, 0, 0, 0, v.rooms FROM sliding_connection c \
                 JOIN sliding_version v ON v.connection = c.no WHERE c.no = $1",
            )
            .bind(no);
        for row in self.rows(query).await? {
            connection.version = row.get("version")?;
            if let Some(rooms) = row.get::<Option<String>>("rooms")? {
                let rooms = serde_json::from_str(&rooms)?;
                connection.versions.push((row.get("next")?, rooms));
                continue;
            }
            let upto: Pos = row.get("upto")?;
            let told = SlidingRoom {
                upto: Some(upto).filter(|upto| upto.0 > 0),
                timeline: u32::try_from(row.get::<i64>("timeline")?).unwrap_or(0),
                config: u16::try_from(row.get::<i64>("config")?).unwrap_or(0),
                direct: row.get("direct")?,
                profiles: profiles(&row)?,
            };
            connection.rooms.insert(row.get("room")?, told);
        }
        Ok(Some(connection))
    }
}

fn profiles(row: &ReadRow) -> Result<Option<ToldProfiles>> {
    let (asked, upto): (i64, UserNo) = (row.get("profiles")?, row.get("profiles_upto")?);
    let upto = Some(upto).filter(|upto| upto.0 > 0);
    Ok((asked != 0).then_some(ToldProfiles { asked, upto }))
}
