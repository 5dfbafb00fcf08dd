//! The rows of summaries.

use std::collections::{BTreeMap, BTreeSet};

use rhizome_protocol::Pdu;
use ruma::{OwnedEventId, OwnedRoomId, OwnedUserId, UserId};

use super::{KINDS, RoomSummary};
use crate::engine::db::Tx;
use crate::engine::sql::{Columns as _, ReadRow, rows};
use crate::{EventNo, KeyNo, Pos, Result, RoomNo, Store, UserNo};

rows! {
    struct SummaryRow<'a> {
        room: RoomNo,
        name: Option<&'a str>,
        topic: Option<&'a str>,
        avatar: Option<&'a str>,
        alias: Option<&'a str>,
        room_type: Option<&'a str>,
        federate: bool,
        encryption: Option<&'a str>,
        join_rule: Option<&'a str>,
        allowed: Option<String>,
        history_visibility: Option<&'a str>,
        guest_access: Option<&'a str>,
        replacement: Option<&'a str>,
        creator: Option<&'a str>,
    }
}

/// What is written of a room.
#[derive(Default)]
struct Written {
    summary: RoomSummary,
    /// Who has made it: lists of rooms are put in order by that, nothing else asks for it.
    creator: Option<OwnedUserId>,
}

const READ: &str = "\
    SELECT room, name, topic, avatar, alias, room_type, federate, encryption, join_rule, allowed, \
    history_visibility, guest_access, replacement FROM room_summary WHERE room IN NUMBERS($1)";

/// The entries of rooms' current states that summaries are made of.
const ENTRIES: &str = "\
    SELECT e.room, e.event_id, e.json, e.redacted_by, r.version FROM current_state c \
    JOIN event e ON e.no = c.event JOIN room r ON r.no = c.room \
    WHERE c.room IN NUMBERS($1) AND c.member = 0 AND c.state_key IN NUMBERS($2)";

macro_rules! insert {
    ($conflict:literal) => {
        concat!(
            "INSERT INTO room_summary (room, name, topic, avatar, alias, room_type, federate, \
             encryption, join_rule, allowed, history_visibility, guest_access, replacement, creator) \
             SELECT room, name, topic, avatar, alias, room_type, federate, encryption, join_rule, \
             allowed, history_visibility, guest_access, replacement, creator FROM ROWS($1) AS x WHERE true \
             ON CONFLICT (room) DO ",
            $conflict
        )
    };
}

const UPSERT: &str = insert!(
    "UPDATE SET name = excluded.name, topic = excluded.topic, avatar = excluded.avatar, \
     alias = excluded.alias, room_type = excluded.room_type, federate = excluded.federate, \
     encryption = excluded.encryption, join_rule = excluded.join_rule, allowed = excluded.allowed, \
     history_visibility = excluded.history_visibility, guest_access = excluded.guest_access, \
     replacement = excluded.replacement, creator = excluded.creator"
);

/// A commit that came in between has written what is so now; who made the room is so always.
const FILL: &str = insert!("UPDATE SET creator = excluded.creator");

/// Writes what the rooms' current states say within the transaction that has changed them. `keys`: the numbers of
/// [`KINDS`].
pub(crate) async fn write(tx: &mut Tx, rooms: &BTreeSet<RoomNo>, keys: &[KeyNo]) -> Result<()> {
    let query = tx
        .sql(ENTRIES)
        .numbers(rooms.iter().copied())
        .numbers(keys.iter().copied());
    let entries = tx.rows(query).await?;
    let written = written(rooms.iter().copied(), &entries)?;
    let query = tx.sql(UPSERT).rows(&rows_of(&written)?);
    tx.execute(query).await?;
    Ok(())
}

/// What these rooms' entries say.
fn written(
    rooms: impl Iterator<Item = RoomNo>,
    entries: &[ReadRow],
) -> Result<BTreeMap<RoomNo, Written>> {
    let mut all: BTreeMap<RoomNo, Written> = rooms.map(|room| (room, Written::default())).collect();
    for row in entries {
        let event_id: OwnedEventId = row.get("event_id")?;
        let pdu = Pdu::from_stored(row.get("version")?, event_id, row.get("json")?)
            .map_err(|error| crate::Error::broken(format!("a stored event is damaged: {error}")))?;
        let redacted: Option<EventNo> = row.get("redacted_by")?;
        let pdu = if redacted.is_some() {
            pdu.redacted()
        } else {
            pdu
        };
        let written = all.entry(row.get("room")?).or_default();
        written.summary.take(&pdu);
        if pdu.kind() == "m.room.create" {
            written.creator = Some(pdu.sender().to_owned());
        }
    }
    Ok(all)
}

fn rows_of(all: &BTreeMap<RoomNo, Written>) -> Result<Vec<SummaryRow<'_>>> {
    let mut rows = Vec::with_capacity(all.len());
    for (room, Written { summary, creator }) in all {
        let allowed = match summary.allowed.as_slice() {
            [] => None,
            rooms => Some(serde_json::to_string(rooms)?),
        };
        rows.push(SummaryRow {
            room: *room,
            name: summary.name.as_deref(),
            topic: summary.topic.as_deref(),
            avatar: summary.avatar.as_deref(),
            alias: summary.alias.as_deref(),
            room_type: summary.room_type.as_deref(),
            federate: summary.federate,
            encryption: summary.encryption.as_deref(),
            join_rule: summary.join_rule.as_deref(),
            allowed,
            history_visibility: summary.history_visibility.as_deref(),
            guest_access: summary.guest_access.as_deref(),
            replacement: summary.replacement.as_deref(),
            creator: creator.as_deref().map(UserId::as_str),
        });
    }
    Ok(rows)
}

fn summary_of(row: &ReadRow) -> Result<RoomSummary> {
    let allowed: Option<String> = row.get("allowed")?;
    let allowed: Option<Vec<OwnedRoomId>> = allowed
        .map(|text| serde_json::from_str(&text))
        .transpose()?;
    Ok(RoomSummary {
        name: row.get("name")?,
        topic: row.get("topic")?,
        avatar: row.get("avatar")?,
        alias: row.get("alias")?,
        room_type: row.get("room_type")?,
        federate: row.get("federate")?,
        encryption: row.get("encryption")?,
        join_rule: row.get("join_rule")?,
        allowed: allowed.unwrap_or_default(),
        history_visibility: row.get("history_visibility")?,
        guest_access: row.get("guest_access")?,
        replacement: row.get("replacement")?,
    })
}

impl Store {
    /// The numbers of [`KINDS`] as entries of states.
    pub(crate) async fn summary_keys(&self) -> Result<&[KeyNo]> {
        let known = &self.core.caches.summary_keys;
        let keys =
            known.get_or_try_init(|| async { self.key_nos(&KINDS.map(|kind| (kind, ""))).await });
        Ok(keys.await?)
    }

    /// What the database has of these rooms, written now where it is from before there were summaries.
    pub(crate) async fn stored_summaries(
        &self,
        rooms: &[RoomNo],
    ) -> Result<BTreeMap<RoomNo, RoomSummary>> {
        let mut found = self.summary_rows(rooms).await?;
        let left = rooms.iter().filter(|room| !found.contains_key(room));
        let left: Vec<RoomNo> = left.copied().collect();
        if !left.is_empty() {
            found.extend(self.fill_summaries(&left).await?);
        }
        Ok(found)
    }

    pub(crate) async fn summary_rows(
        &self,
        rooms: &[RoomNo],
    ) -> Result<BTreeMap<RoomNo, RoomSummary>> {
        let query = self.sql(READ).numbers(rooms.iter().copied());
        let rows = self.rows(query).await?;
        let found = rows
            .iter()
            .map(|row| Ok((row.get("room")?, summary_of(row)?)));
        found.collect()
    }

    /// Writes what these rooms' states say of them.
    pub(in crate::rooms) async fn fill_summaries(
        &self,
        rooms: &[RoomNo],
    ) -> Result<BTreeMap<RoomNo, RoomSummary>> {
        let query = self
            .sql("SELECT no FROM room WHERE no IN NUMBERS($1) AND version IS NOT NULL")
            .numbers(rooms.iter().copied());
        let known = self.rows(query).await?;
        let known: BTreeSet<RoomNo> = known
            .iter()
            .map(|row| row.get("no"))
            .collect::<Result<_>>()?;
        if known.is_empty() {
            return Ok(BTreeMap::new());
        }
        let query = self
            .sql(ENTRIES)
            .numbers(known.iter().copied())
            .numbers(self.summary_keys().await?.iter().copied());
        let written = written(known.into_iter(), &self.rows(query).await?)?;
        let query = self.sql(FILL).rows(&rows_of(&written)?);
        if let Err(error) = self.execute(query).await {
            // They are known all the same; who asks next tries again.
            tracing::warn!(%error, "summaries of rooms can't be written");
        }
        let summaries = written.into_iter();
        Ok(summaries.map(|(room, one)| (room, one.summary)).collect())
    }
}

pub(super) async fn by_activity(store: &Store, user: UserNo) -> Result<Vec<(RoomNo, Pos, Pos)>> {
    let query = store
        .sql(
            "SELECT m.room, CASE WHEN m.membership = 1 THEN r.last_pos ELSE m.pos END AS latest, \
             CASE WHEN m.membership = 1 THEN r.bump ELSE m.pos END AS bump \
             FROM membership m JOIN room r ON r.no = m.room \
             WHERE m.user_no = $1 AND m.forgotten = 0 ORDER BY bump DESC, m.room",
        )
        .bind(user);
    let rows = store.rows(query).await?;
    let rooms = rows
        .iter()
        .map(|row| Ok((row.get("room")?, row.get("latest")?, row.get("bump")?)));
    rooms.collect()
}
