//! What a user has said is redacted, in all rooms in which they are or were: all that is no state, of what came while this
//! server was there, the newest first. Where a user of this server still is, by redactions of their own, which other servers
//! get; elsewhere only here. An administrator may redact it themselves instead, and does so with what users of other servers
//! have said.

use std::{collections::HashSet, sync::Arc};

use rhizome_edge::MatrixError;
use rhizome_federation::local;
use rhizome_protocol::{Membership, Object, draft::Draft};
use rhizome_rooms::{redact_banned::redact_here, send::SendOptions};
use rhizome_storage::{MembershipRow, Pos, RoomNo, StoredEvent, Task};
use ruma::{OwnedRoomId, OwnedUserId, UserId};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::Step;
use crate::App;

/// So many events of a room are looked at together, …
const LOOKED_AT: usize = 5_000;
/// … and so many are redacted at most.
const TOGETHER: usize = 50;
/// Of so many that couldn't be redacted it is told why.
const TOLD: usize = 1_000;

/// What exactly is to be redacted, and how; all of it by its sender, unless more is said.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct RedactRequest {
    /// The administrator who wants it.
    pub by: Option<OwnedUserId>,
    /// In these rooms; none: in all.
    #[serde(default)]
    pub rooms: Vec<OwnedRoomId>,
    /// Why, for people to read.
    pub reason: Option<String>,
    /// Whether the administrator redacts it, not who has sent it.
    #[serde(default)]
    pub use_admin: bool,
    /// At most so many of each room.
    pub limit: Option<usize>,
    /// What was sent then or later, in milliseconds since 1970.
    pub after_ts: Option<i64>,
    /// What was sent then or before.
    pub before_ts: Option<i64>,
}

impl RedactRequest {
    fn of(task: &Task) -> Result<Self, MatrixError> {
        let Some(text) = &task.request else {
            return Ok(Self::default());
        };
        serde_json::from_str(text).map_err(|error| MatrixError::invalid_param(error.to_string()))
    }

    fn wants(&self, event: &StoredEvent) -> bool {
        let ts = event.pdu.origin_server_ts();
        event.redacted_by.is_none()
            && event.pdu.state_key().is_none()
            && event.pdu.kind() != "m.room.redaction"
            && self.after_ts.is_none_or(|after| ts >= after)
            && self.before_ts.is_none_or(|before| ts <= before)
    }
}

/// Looks at some events more.
pub(super) async fn step(app: &App, task: &Task) -> Result<Step, MatrixError> {
    let user_id = UserId::parse(task.what.as_str())
        .map_err(|error| MatrixError::invalid_param(error.to_string()))?;
    let request = RedactRequest::of(task)?;
    let Some(user) = app.store.known_user(&user_id).await? else {
        return Ok(Step::done(task));
    };
    let at = Place::of(&task.place);
    let rooms = app.store.known_rooms(&request.rooms).await?;
    let rooms: HashSet<RoomNo> = rooms.into_values().collect();
    let memberships = app.store.memberships_of(user).await?;
    let next = memberships.iter().filter(|row| {
        row.room.0 >= at.room && (request.rooms.is_empty() || rooms.contains(&row.room))
    });
    let Some(row) = next.min_by_key(|row| row.room) else {
        return Ok(Step::done(task));
    };
    // What came later was said by somebody whom nobody had asked to be silent.
    let last = task.upto.unwrap_or_else(|| app.store.log().head());
    let (upto, before) = if row.room.0 == at.room {
        (at.upto.unwrap_or(last), at.count)
    } else {
        (last, 0)
    };
    let bounds = (LOOKED_AT, TOGETHER);
    let said = app
        .store
        .said_by(row.room, &user_id, (Pos(0), upto), bounds);
    let (mut theirs, next) = said.await?;
    theirs.retain(|event| request.wants(event));
    let left = request
        .limit
        .map_or(usize::MAX, |limit| limit.saturating_sub(before));
    theirs.truncate(left);
    let redacting = Redacting {
        app,
        user_id: &user_id,
        request: &request,
    };
    let failed = redacting.redact(row, &theirs).await?;
    let count = before + theirs.len();
    let is_enough = request.limit.is_some_and(|limit| count >= limit);
    let place = match next.filter(|_| !is_enough) {
        Some(next) => Place {
            room: row.room.0,
            upto: Some(next),
            count,
        },
        None => Place {
            room: row.room.0 + 1,
            upto: None,
            count: 0,
        },
    };
    let done = theirs.len().saturating_sub(failed.len());
    let done = i64::try_from(done).unwrap_or(i64::MAX);
    Ok(Step {
        progress: task.progress.saturating_add(done),
        place: Some(place.text()),
        result: noted(task, failed),
    })
}

/// What couldn't be redacted, with what is known of that already.
fn noted(task: &Task, failed: Vec<(String, String)>) -> Option<String> {
    if failed.is_empty() {
        return None;
    }
    let known = task.result.as_deref().unwrap_or("{}");
    let mut known: Map<String, Value> = serde_json::from_str(known).unwrap_or_default();
    for (event, why) in failed {
        if known.len() < TOLD {
            known.insert(event, why.into());
        }
    }
    Some(Value::Object(known).to_string())
}

/// How far it is.
#[derive(Debug, PartialEq, Eq)]
struct Place {
    /// The number of a room; in those with lower ones everything is done.
    room: i64,
    /// What came after that in it is done, too.
    upto: Option<Pos>,
    /// How many events of it that were.
    count: usize,
}

impl Place {
    fn of(text: &str) -> Self {
        let parse = || {
            let mut parts = text.strip_prefix("at ")?.splitn(3, ' ');
            let (room, upto, count) = (parts.next()?, parts.next()?, parts.next()?);
            let upto = match upto {
                "-" => None,
                upto => Some(Pos(upto.parse().ok()?)),
            };
            Some(Self {
                room: room.parse().ok()?,
                upto,
                count: count.parse().ok()?,
            })
        };
        // From the beginning once more: what is redacted already is passed over.
        parse().unwrap_or(Self {
            room: i64::MIN,
            upto: None,
            count: 0,
        })
    }

    fn text(&self) -> String {
        let upto = self
            .upto
            .map_or_else(|| "-".to_owned(), |upto| upto.0.to_string());
        format!("at {} {upto} {}", self.room, self.count)
    }
}

/// Whose events are redacted, and how.
struct Redacting<'a> {
    app: &'a App,
    user_id: &'a OwnedUserId,
    request: &'a RedactRequest,
}

impl Redacting<'_> {
    /// Redacts some events of a room; gives those that couldn't be, each with the reason.
    async fn redact(
        &self,
        row: &MembershipRow,
        events: &[Arc<StoredEvent>],
    ) -> Result<Vec<(String, String)>, MatrixError> {
        let mut failed = Vec::new();
        if let Some(by) = self.administrator() {
            for event in events {
                if let Err(why) = self.send(by, event).await? {
                    failed.push((event.pdu.event_id().to_string(), why));
                }
            }
            return Ok(failed);
        }
        let mut left = Vec::new();
        for event in events {
            if row.membership != Membership::Join || self.send(self.user_id, event).await?.is_err()
            {
                left.push(event.clone());
            }
        }
        let Some(member) = row.event else {
            return Ok(failed);
        };
        if let Some(because) = self.app.store.event_by_no(member).await? {
            redact_here(&self.app.store, &because, &left).await?;
        }
        Ok(failed)
    }

    /// Who redacts it, if not who has sent it.
    fn administrator(&self) -> Option<&OwnedUserId> {
        let is_ours = self.user_id.server_name() == self.app.config.server_name;
        let by = self.request.by.as_ref();
        by.filter(|_| self.request.use_admin || !is_ours)
    }

    /// Redacts an event in somebody's name; what the room has against that, if it has something.
    async fn send(
        &self,
        by: &UserId,
        event: &StoredEvent,
    ) -> Result<Result<(), String>, MatrixError> {
        let mut content = Object::new();
        if let Some(reason) = &self.request.reason {
            content.insert("reason".into(), reason.as_str().into());
        }
        let draft = Draft {
            room_id: Some(event.pdu.room_id().to_owned()),
            sender: by.to_owned(),
            kind: "m.room.redaction".into(),
            state_key: None,
            content,
            redacts: Some(event.pdu.event_id().to_owned()),
        };
        match local::send(&self.app.federation, draft, SendOptions::default()).await {
            Ok(_) => Ok(Ok(())),
            Err(error) if error.status.is_client_error() => Ok(Err(error.message)),
            Err(error) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_a_room_a_position_and_a_count() {
        for place in [
            Place {
                room: 7,
                upto: Some(Pos(12)),
                count: 3,
            },
            Place {
                room: 8,
                upto: None,
                count: 0,
            },
        ] {
            assert_eq!(Place::of(&place.text()), place);
        }
        for first in ["", "-", "7:12", "at 7", "at 7 x 1", "at x - 0"] {
            assert_eq!(Place::of(first).room, i64::MIN, "{first}");
        }
    }
}
