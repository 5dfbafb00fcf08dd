//! The rows of delayed events.

use std::collections::BTreeMap;

use ruma::{OwnedEventId, OwnedRoomId};

use super::{DelayedChange, DelayedStep, NewDelayed};
use crate::engine::sql::rows;
use crate::engine::sql::statement::Statements;
use crate::facts::last_of_each;
use crate::{Result, UserNo};

/// So many of a user's that are over are kept.
const KEPT: usize = 1_000;

rows! {
    struct New<'a> {
        digest: String,
        delay_id: &'a str,
        user_no: UserNo,
        txn: Option<String>,
        room_id: &'a OwnedRoomId,
        kind: &'a str,
        state_key: Option<&'a str>,
        content: &'a str,
        sticky_ms: Option<i64>,
        delay_ms: i64,
        scheduled_ms: i64,
        due_ms: i64,
        pos: i64,
    }
}

rows! {
    struct Restart {
        digest: String,
        now_ms: i64,
        due_ms: i64,
        pos: i64,
    }
}

rows! {
    struct End<'a> {
        digest: String,
        now_ms: i64,
        event_id: Option<&'a OwnedEventId>,
        error: Option<&'a str>,
        pos: i64,
    }
}

rows! {
    struct Full {
        user_no: UserNo,
        most: usize,
    }
}

/// Writes a group's changes.
pub(super) fn write(facts: &[(i64, &DelayedChange)], statements: &mut Statements) -> Result<()> {
    let mut new = Vec::new();
    let mut restarts = BTreeMap::new();
    let mut ends = BTreeMap::new();
    for (pos, change) in facts {
        if let Some(scheduled) = change.scheduled() {
            new.push(row(*pos, change, scheduled)?);
        } else if let Some(end) = end(*pos, change) {
            ends.insert(&change.id, end);
        } else if let DelayedStep::Restarted { now_ms, .. } = change.step {
            let restart = Restart {
                digest: change.id.digest(),
                now_ms,
                due_ms: change.due_ms().unwrap_or(now_ms),
                pos: *pos,
            };
            restarts.insert(&change.id, restart);
        }
    }
    statements.after(
        "INSERT INTO delayed_event (digest, delay_id, user_no, txn, room_id, kind, state_key, content, \
         sticky_ms, delay_ms, scheduled_ms, due_ms, pos) \
         SELECT digest, delay_id, user_no, txn, room_id, kind, state_key, content, \
         sticky_ms, delay_ms, scheduled_ms, due_ms, pos + $2 FROM ROWS($1) AS x",
        &new,
    )?;
    statements.after(
        "UPDATE delayed_event SET scheduled_ms = x.now_ms, due_ms = x.due_ms, pos = x.pos + $2 \
         FROM ROWS($1) AS x WHERE delayed_event.digest = x.digest",
        &restarts.into_values().collect::<Vec<_>>(),
    )?;
    // What is over isn't restarted: in this order it is right whatever the order was.
    statements.after(
        "UPDATE delayed_event SET due_ms = NULL, finalised_ms = x.now_ms, event_id = x.event_id, \
         error = x.error, pos = x.pos + $2 FROM ROWS($1) AS x WHERE delayed_event.digest = x.digest",
        &ends.into_values().collect::<Vec<_>>(),
    )?;
    let ended: Vec<_> = (facts.iter().copied())
        .filter(|(pos, change)| end(*pos, change).is_some())
        .collect();
    statements.after(
        "DELETE FROM delayed_event WHERE digest IN (SELECT n.digest FROM (\
         SELECT d.digest, x.most, \
         ROW_NUMBER() OVER (PARTITION BY d.user_no ORDER BY d.finalised_ms DESC, d.pos DESC) AS place \
         FROM ROWS($1) AS x JOIN delayed_event d \
         ON d.user_no = x.user_no AND d.finalised_ms IS NOT NULL) AS n WHERE n.place > n.most)",
        &last_of_each(&ended, |change| change.user, |_, change| Full {
            user_no: change.user,
            most: KEPT,
        }),
    )
}

/// The end of one, if the change is that.
fn end(pos: i64, change: &DelayedChange) -> Option<End<'_>> {
    let (now_ms, event_id, error) = match &change.step {
        DelayedStep::Cancelled { now_ms } => (*now_ms, None, None),
        DelayedStep::Failed { error, now_ms, .. } => (*now_ms, None, Some(error.as_str())),
        DelayedStep::Sent {
            event_id, now_ms, ..
        } => (*now_ms, Some(event_id), None),
        DelayedStep::Scheduled(_) | DelayedStep::Restarted { .. } => return None,
    };
    Some(End {
        digest: change.id.digest(),
        now_ms,
        event_id,
        error,
        pos,
    })
}

fn row<'a>(pos: i64, change: &'a DelayedChange, new: &'a NewDelayed) -> Result<New<'a>> {
    Ok(New {
        digest: change.id.digest(),
        delay_id: change.id.expose(),
        user_no: change.user,
        txn: new.txn_digest()?,
        room_id: &new.room_id,
        kind: &new.kind,
        state_key: new.state_key.as_deref(),
        content: &new.content,
        sticky_ms: new.sticky_ms,
        delay_ms: new.delay_ms,
        scheduled_ms: new.now_ms,
        due_ms: new.due_ms(),
        pos,
    })
}
