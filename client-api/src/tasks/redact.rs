//! What a user of this server has said is redacted, in all rooms in which they are or were: all that is no state, of what
//! came while this server was there. Where they still are, by redactions of their own, which other servers get; elsewhere
//! only here.

use std::sync::Arc;

use rhizome_edge::MatrixError;
use rhizome_federation::local;
use rhizome_protocol::{Membership, Object, draft::Draft};
use rhizome_rooms::{redact_banned::redact_here, send::SendOptions};
use rhizome_storage::{MembershipRow, Pos, StoredEvent, Task};
use ruma::{OwnedUserId, UserId};

use super::Step;
use crate::App;

/// So many events of a room are looked at together, …
const LOOKED_AT: usize = 5_000;
/// … and so many are redacted at most.
const TOGETHER: usize = 50;

/// Looks at some events more.
pub(super) async fn step(app: &App, task: &Task) -> Result<Step, MatrixError> {
    let user_id = UserId::parse(task.what.as_str())
        .map_err(|error| MatrixError::invalid_param(error.to_string()))?;
    let done = Step {
        progress: task.progress,
        place: None,
    };
    let Some(user) = app.store.known_user(&user_id).await? else {
        return Ok(done);
    };
    let (room, after) = place(&task.place);
    let memberships = app.store.memberships_of(user).await?;
    let next = memberships.iter().filter(|row| row.room.0 >= room);
    let Some(row) = next.min_by_key(|row| row.room) else {
        return Ok(done);
    };
    let after = if row.room.0 == room { after } else { 0 };
    // What came later was said by somebody whom nobody had asked to be silent.
    let upto = task.upto.unwrap_or_else(|| app.store.log().head());
    let between = (Pos(after), upto);
    let said = app
        .store
        .said_by(row.room, &user_id, between, (LOOKED_AT, TOGETHER));
    let (mut theirs, next) = said.await?;
    theirs.retain(|event| {
        event.redacted_by.is_none()
            && event.pdu.state_key().is_none()
            && event.pdu.kind() != "m.room.redaction"
    });
    redact(app, &user_id, row, &theirs).await?;
    let place = match next {
        Some(next) => format!("{}:{}", row.room.0, next.0),
        None => format!("{}:0", row.room.0 + 1),
    };
    let count = i64::try_from(theirs.len()).unwrap_or(i64::MAX);
    Ok(Step {
        progress: task.progress.saturating_add(count),
        place: Some(place),
    })
}

/// The number of a room, and up to where in it everything is done.
fn place(text: &str) -> (i64, i64) {
    let parts = text.split_once(':');
    let parts = parts.and_then(|(room, after)| Some((room.parse().ok()?, after.parse().ok()?)));
    parts.unwrap_or((i64::MIN, 0))
}

async fn redact(
    app: &App,
    user_id: &OwnedUserId,
    row: &MembershipRow,
    events: &[Arc<StoredEvent>],
) -> Result<(), MatrixError> {
    let mut left = Vec::new();
    for event in events {
        if row.membership != Membership::Join || !by_themselves(app, user_id, event).await? {
            left.push(event.clone());
        }
    }
    let Some(member) = row.event else {
        return Ok(());
    };
    if let Some(because) = app.store.event_by_no(member).await? {
        redact_here(&app.store, &because, &left).await?;
    }
    Ok(())
}

/// Redacts an event in its sender's name; `false` if the room doesn't let them.
async fn by_themselves(
    app: &App,
    user_id: &OwnedUserId,
    event: &StoredEvent,
) -> Result<bool, MatrixError> {
    let draft = Draft {
        room_id: Some(event.pdu.room_id().to_owned()),
        sender: user_id.clone(),
        kind: "m.room.redaction".into(),
        state_key: None,
        content: Object::new(),
        redacts: Some(event.pdu.event_id().to_owned()),
    };
    match local::send(&app.federation, draft, SendOptions::default()).await {
        Ok(_) => Ok(true),
        Err(error) if error.status.is_client_error() => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_a_room_and_a_position() {
        assert_eq!(place("7:12"), (7, 12));
        for first in ["", "7", "7:", ":1", "x:y"] {
            assert_eq!(place(first), (i64::MIN, 0));
        }
    }
}
